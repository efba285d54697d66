//! The floor: the least that a fan-out has to do. One thread sends prepared bytes to sockets: no Kafka, no matching, no
//! encoding, no limits. It runs as a separate process, so that its CPU time can be measured.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::Fallible;
use crate::clients::MARK;

/// The read size of the feed; a pipe holds no more.
const FEED_BYTES: usize = 1 << 16;

/// Every byte of the feed is an event for all streams. Up to `at_once` pending events are sent in one write.
pub fn broadcast(streams: usize, bytes: usize, at_once: usize) -> Fallible<()> {
    let mut sockets = accept(streams)?;
    let batch = event(bytes).repeat(at_once);
    let mut feed = vec![0; at_once];
    loop {
        let events = std::io::stdin().read(&mut feed)?;
        if events == 0 {
            return Ok(());
        }
        for socket in &mut sockets {
            socket.write_all(&batch[..events * bytes])?;
        }
    }
}

/// Every four bytes of the feed are the number of the event's stream.
pub fn keyed(streams: usize, bytes: usize) -> Fallible<()> {
    let mut sockets = accept(streams)?;
    let event = event(bytes);
    let (mut feed, mut filled) = (vec![0; FEED_BYTES], 0);
    loop {
        let length = std::io::stdin().read(&mut feed[filled..])?;
        if length == 0 {
            return Ok(());
        }
        filled += length;
        let whole = filled / 4 * 4;
        for number in feed[..whole].chunks_exact(4) {
            let number = u32::from_le_bytes([number[0], number[1], number[2], number[3]]);
            sockets[number as usize].write_all(&event)?;
        }
        feed.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

fn event(bytes: usize) -> Vec<u8> {
    let mut event = vec![b'x'; bytes];
    event[0] = MARK;
    event
}

/// Streams are numbered in the order of accepting.
fn accept(streams: usize) -> Fallible<Vec<TcpStream>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    write_line(&format!("listen={}", listener.local_addr()?))?;
    let mut sockets = Vec::with_capacity(streams);
    for socket in listener.incoming().take(streams) {
        let mut socket = socket?;
        socket.set_nodelay(true)?;
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        sockets.push(socket);
    }
    Ok(sockets)
}

fn write_line(line: &str) -> Fallible<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}
