//! A client that does not read.

use socket2::{Domain, Socket, Type};

use super::DEADLINE;
use super::fixture::Fixture;
use super::http::{Body, Call, Connection, Head};

/// Opens a stream on a socket with a small receive buffer, and reads only the head.
pub fn deaf(fixture: &Fixture, call: Call) -> (Head, Body) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect_timeout(&fixture.sidecar.listen.into(), DEADLINE).unwrap();
    let (head, body) = call.try_open_on(Connection::on(socket.into())).unwrap();
    assert_eq!(head.status, 200);
    (head, body)
}
