//! A faulty network: forwards connections to an address, and cuts them after a number of bytes, possibly in the middle
//! of a record.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

pub struct Cutter {
    pub address: SocketAddr,
    cuts: Arc<AtomicUsize>,
}

impl Cutter {
    /// Cuts the n-th connection after `allowances[n]` bytes from the server; later connections are not cut.
    pub fn start(target: SocketAddr, allowances: &[usize]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let allowances = allowances.to_vec();
        let cuts = Arc::new(AtomicUsize::new(0));
        let counter = cuts.clone();
        // Ends with the test process.
        thread::spawn(move || {
            for (n, client) in listener.incoming().enumerate() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(target)) else { continue };
                forward(&client, &server, allowances.get(n).copied(), counter.clone());
            }
        });
        Self { address, cuts }
    }

    /// The number of cut connections.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

fn forward(client: &TcpStream, server: &TcpStream, allowance: Option<usize>, cuts: Arc<AtomicUsize>) {
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let mut left = allowance.unwrap_or(usize::MAX);
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from_server.read(&mut bytes) {
            if to_client.write_all(&bytes[..count.min(left)]).is_err() {
                break;
            }
            if count >= left {
                cuts.fetch_add(1, Ordering::SeqCst);
                break;
            }
            left -= count;
        }
        let _ = to_client.shutdown(Shutdown::Both);
        let _ = from_server.shutdown(Shutdown::Both);
    });
}
