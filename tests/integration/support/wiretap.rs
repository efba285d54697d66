//! A proxy between Kafka's clients and a broker, which records the kinds of requests on each connection.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// API keys of the Kafka protocol.
pub const FETCH: i16 = 1;
pub const LIST_OFFSETS: i16 = 2;

pub struct Wiretap {
    pub address: SocketAddr,
    connections: Connections,
}

/// The API keys on each connection.
type Connections = Arc<Mutex<Vec<BTreeSet<i16>>>>;

impl Wiretap {
    /// A proxy whose broker is not known yet.
    pub fn listen() -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (Self { address, connections: Connections::default() }, listener)
    }

    /// Starts forwarding to the broker.
    pub fn forward(&self, listener: TcpListener, broker: SocketAddr) {
        let connections = self.connections.clone();
        // Ends with the test process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(broker) else { continue };
                let n = {
                    let mut all = connections.lock().unwrap();
                    all.push(BTreeSet::new());
                    all.len() - 1
                };
                let note = connections.clone();
                let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
                thread::spawn(move || {
                    while let Some(api) = pass_request(&client, &server) {
                        note.lock().unwrap()[n].insert(api);
                    }
                    let _ = server.shutdown(Shutdown::Both);
                });
            }
        });
    }

    /// The API keys on each connection so far.
    pub fn connections(&self) -> Vec<BTreeSet<i16>> {
        self.connections.lock().unwrap().clone()
    }
}

/// Forwards one request, which begins with its length and its API key (Kafka protocol guide, "Protocol primitive
/// types").
fn pass_request(mut client: &TcpStream, mut server: &TcpStream) -> Option<i16> {
    let mut length = [0; 4];
    client.read_exact(&mut length).ok()?;
    let mut request = vec![0; u32::from_be_bytes(length) as usize];
    client.read_exact(&mut request).ok()?;
    server.write_all(&[&length[..], &request].concat()).ok()?;
    Some(i16::from_be_bytes([request[0], request[1]]))
}
