//! The REST service behind the sidecar, whose behavior depends on the path.
//!
//! | path | behavior |
//! |---|---|
//! | `/echo...`, anything else | responds with the request as JSON |
//! | `/hang` | never responds |
//! | `/hold` | responds once [`Upstream::release`] was called |
//! | `/close` | closes without a response |
//! | `/flaky` | closes without a response the first time, then echoes |
//! | `/partial` | closes in the middle of its body |
//! | `/sse`, `/ndjson` | sends one record, and a second one after the release |
//! | `/halves` | sends the first half of its body, and the second half after the release |
//! | `/tunnel` | 101, then echoes bytes |
//! | `/resume.html` | a page with three clients, see `tests/clients` |
//! | `/sly` | responds with 101 to any request |

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::{Value, json};

use super::DEADLINE;

pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    released: Mutex<bool>,
    release: Condvar,
}

/// What has reached the upstream.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// For example `GET /echo`.
    pub requests: Vec<String>,
    pub connections: usize,
    /// Bytes of request bodies, counted as they arrive.
    pub body_bytes: usize,
}

impl Upstream {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let for_connections = shared.clone();
        // Ends with the test process.
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = for_connections.clone();
                shared.seen.lock().unwrap().connections += 1;
                thread::spawn(move || serve(socket, &shared));
            }
        });
        Self { address, shared }
    }

    pub fn seen(&self) -> Seen {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The number of these requests, for example `GET /echo`.
    pub fn count(&self, request: &str) -> usize {
        self.seen().requests.iter().filter(|seen| *seen == request).count()
    }

    /// Releases the waiting responses.
    pub fn release(&self) {
        *self.shared.released.lock().unwrap() = true;
        self.shared.release.notify_all();
    }
}

impl Shared {
    fn await_release(&self) {
        let released = self.released.lock().unwrap();
        let _ = self.release.wait_timeout_while(released, DEADLINE * 3, |released| !*released).unwrap();
    }
}

struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn echo(&self) -> Value {
        json!({
            "method": self.method,
            "target": self.target,
            "headers": self.headers,
            "bytes": self.body.len(),
            "body": String::from_utf8_lossy(&self.body[..self.body.len().min(1024)]),
        })
    }
}

fn serve(mut socket: TcpStream, shared: &Shared) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut socket, &mut buffer, shared) {
        if answer(&mut socket, &request, shared).is_none() {
            return;
        }
    }
}

/// Responds; `None` if the connection has ended.
fn answer(socket: &mut TcpStream, request: &Request, shared: &Shared) -> Option<()> {
    let seen_before = {
        let mut seen = shared.seen.lock().unwrap();
        let line = format!("{} {}", request.method, request.target);
        let before = seen.requests.iter().filter(|other| **other == line).count();
        seen.requests.push(line);
        before
    };
    let path = request.target.split('?').next().unwrap_or_default();
    match path {
        "/hang" => {
            let _ = socket.read(&mut [0]);
            None
        }
        "/hold" => {
            shared.await_release();
            echo(socket, request)
        }
        "/close" => None,
        "/flaky" if seen_before == 0 => None,
        "/partial" => {
            write(socket, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.")?;
            None
        }
        "/sse" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            in_two_chunks(socket, head, "data: first\n\n", "data: second\n\n", shared)
        }
        "/ndjson" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
            in_two_chunks(socket, head, "{\"n\":1}\n", "{\"n\":2}\n", shared)
        }
        "/halves" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
            in_two_chunks(socket, head, "first half,", "second half", shared)
        }
        "/tunnel" => {
            let upgrade = request.header("upgrade")?;
            write(
                socket,
                format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n")
                    .as_bytes(),
            )?;
            std::io::copy(&mut socket.try_clone().ok()?, socket).ok()?;
            None
        }
        "/resume.html" => {
            let page = include_str!("../../clients/resume.html");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n", page.len());
            write(socket, format!("{head}{page}").as_bytes())
        }
        "/sly" => {
            write(
                socket,
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nsmuggled",
            )?;
            let _ = socket.read(&mut [0]);
            None
        }
        _ => echo(socket, request),
    }
}

fn echo(socket: &mut TcpStream, request: &Request) -> Option<()> {
    let body = request.echo().to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Upstream: yes\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let body = if request.method == "HEAD" { "" } else { &body };
    write(socket, format!("{head}{body}").as_bytes())
}

fn in_two_chunks(socket: &mut TcpStream, head: &str, first: &str, second: &str, shared: &Shared) -> Option<()> {
    write(socket, format!("{head}{:x}\r\n{first}\r\n", first.len()).as_bytes())?;
    shared.await_release();
    write(socket, format!("{:x}\r\n{second}\r\n0\r\n\r\n", second.len()).as_bytes())
}

fn write(socket: &mut TcpStream, bytes: &[u8]) -> Option<()> {
    socket.write_all(bytes).ok()
}

fn read_request(socket: &mut TcpStream, buffer: &mut Vec<u8>, shared: &Shared) -> Option<Request> {
    let head = take_until(socket, buffer, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut request = Request { method, target, headers, body: Vec::new() };
    request.body = read_body(socket, buffer, &request, shared)?;
    Some(request)
}

fn read_body(socket: &mut TcpStream, buffer: &mut Vec<u8>, request: &Request, shared: &Shared) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = request.header("content-length") {
        take_exactly(socket, buffer, length.parse().ok()?, &mut body, shared)?;
    } else if request.header("transfer-encoding").is_some() {
        loop {
            let line = take_until(socket, buffer, b"\r\n")?;
            let size = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok()?;
            take_exactly(socket, buffer, size, &mut body, shared)?;
            take_until(socket, buffer, b"\r\n")?;
            if size == 0 {
                break;
            }
        }
    }
    Some(body)
}

fn take_exactly(
    socket: &mut TcpStream,
    buffer: &mut Vec<u8>,
    mut left: usize,
    into: &mut Vec<u8>,
    shared: &Shared,
) -> Option<()> {
    while left > 0 {
        if buffer.is_empty() {
            fill(socket, buffer)?;
        }
        let count = buffer.len().min(left);
        into.extend(buffer.drain(..count));
        shared.seen.lock().unwrap().body_bytes += count;
        left -= count;
    }
    Some(())
}

fn take_until(socket: &mut TcpStream, buffer: &mut Vec<u8>, end: &[u8]) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = buffer.windows(end.len()).position(|window| window == end) {
            return Some(buffer.drain(..at + end.len()).collect());
        }
        fill(socket, buffer)?;
    }
}

fn fill(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut bytes = [0; 64 * 1024];
    match socket.read(&mut bytes) {
        Ok(count @ 1..) => {
            buffer.extend_from_slice(&bytes[..count]);
            Some(())
        }
        _ => None,
    }
}
