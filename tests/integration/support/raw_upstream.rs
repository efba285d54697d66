//! An upstream with scripted responses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

pub struct RawUpstream {
    pub address: SocketAddr,
}

impl RawUpstream {
    /// Reads one request head per connection, calls `serve`, and closes.
    pub fn start(serve: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = Arc::new(serve);
        // Ends with the test process.
        thread::spawn(move || {
            for mut socket in listener.incoming().flatten() {
                let serve = serve.clone();
                thread::spawn(move || {
                    if let Some(head) = read_head(&mut socket) {
                        serve(&head, &mut socket);
                    }
                });
            }
        });
        Self { address }
    }

    /// Responds to a request for `/0` with the first of these, and so on.
    pub fn saying(answers: Vec<&'static [u8]>) -> Self {
        Self::start(move |head, socket| {
            let path = head.split(' ').nth(1).unwrap();
            let number: usize = path.trim_start_matches('/').parse().unwrap();
            let _ = socket.write_all(answers[number]);
        })
    }

    /// The key of the `upstream` section that selects this upstream.
    pub fn key(&self) -> String {
        format!("address: \"{}\"", self.address)
    }
}

fn read_head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if socket.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).trim_end().to_owned())
}
