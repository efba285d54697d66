//! A TCP proxy with a fixed address: forwards connections to a target that may change, and cuts all of them on request.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

pub struct Relay {
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    target: SocketAddr,
    open: Vec<TcpStream>,
}

impl Relay {
    /// If nothing listens at the target, the connection is closed at once.
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared { target, open: Vec::new() }));
        let for_connections = shared.clone();
        // Ends with the test process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut shared = for_connections.lock().unwrap();
                let Ok(server) = TcpStream::connect(shared.target) else { continue };
                shared.open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                copy(&client, &server);
                copy(&server, &client);
            }
        });
        Self { address, shared }
    }

    /// Sets the target of new connections.
    pub fn point_at(&self, target: SocketAddr) {
        self.shared.lock().unwrap().target = target;
    }

    /// Cuts every connection, possibly within a record.
    pub fn cut(&self) {
        for socket in self.shared.lock().unwrap().open.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Copies until either side ends, and then ends both.
fn copy(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
