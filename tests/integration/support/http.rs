//! A plain HTTP/1 client that exposes the wire: heads unchanged, bodies as they arrive.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use super::DEADLINE;

/// A request to be sent.
#[derive(Clone)]
pub struct Call {
    pub address: SocketAddr,
    method: String,
    target: String,
    version: &'static str,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Call {
    pub fn new(address: SocketAddr, method: &str, target: &str) -> Self {
        let headers = vec![("Host".into(), "shop.example".into())];
        Self { address, method: method.into(), target: target.into(), version: "HTTP/1.1", headers, body: None }
    }

    /// A request to the admin port, like a tool on the same host.
    pub fn of_admin(address: SocketAddr, method: &str, target: &str) -> Self {
        let headers = vec![("Host".into(), address.to_string())];
        Self { headers, ..Self::new(address, method, target) }
    }

    pub fn header(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.headers.push((name.into(), value.to_string()));
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    pub fn http10(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The headers of a WebSocket handshake (RFC 6455 section 4.1, with its example key).
    pub fn upgrade(self) -> Self {
        self.header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    }

    pub fn target(&self) -> &str {
        &self.target
    }

    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The bytes of the request.
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} {}\r\n", self.method, self.target, self.version);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        [text.as_bytes(), self.body.as_deref().unwrap_or_default()].concat()
    }

    /// Sends it on a new connection, and reads the complete response.
    pub fn send(&self) -> Answer {
        let mut connection = Connection::open(self.address);
        connection.write(&self.bytes());
        connection.answer_to(&self.method)
    }

    /// Sends it, and reads the response head; the body is read later.
    #[track_caller]
    pub fn open(&self) -> (Head, Body) {
        self.try_open().expect("an answer, not the end of the connection")
    }

    /// Like `open`; `None` if the connection ended within the head.
    pub fn try_open(&self) -> Option<(Head, Body)> {
        self.try_open_on(Connection::open(self.address))
    }

    /// The same on an existing connection.
    pub fn try_open_on(&self, mut connection: Connection) -> Option<(Head, Body)> {
        connection.write(&self.bytes());
        let head = connection.try_head()?;
        let framing = Framing::of(&self.method, &head);
        Some((head, Body { connection, framing }))
    }
}

/// A connection with its read buffer.
pub struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect_timeout(&address, DEADLINE).unwrap())
    }

    pub fn on(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, buffer: Vec::new() }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Writes as much as the other side accepts; it may have disconnected on purpose.
    pub fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    pub fn half_close(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads one response with its body.
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.head();
        let mut framing = Framing::of(method, &head);
        let mut body = Vec::new();
        while let Some(bytes) = framing.next(self).expect("a whole body") {
            body.extend(bytes);
        }
        Answer { head, body }
    }

    /// Reads the head of a response; 1xx responses are skipped, except 101.
    pub fn head(&mut self) -> Head {
        loop {
            let head = self.try_head().expect("an answer, not the end of the connection");
            if !(100..200).contains(&head.status) || head.status == 101 {
                return head;
            }
        }
    }

    /// A head; `None` if the connection ended first.
    pub fn try_head(&mut self) -> Option<Head> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Some(Head::parse(&head));
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Whether the other side closed the connection without another byte.
    pub fn ended(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill()
    }

    /// Reads exactly this many bytes; `None` if the connection ended first.
    pub fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.fill() {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.drain(..end + 2).take(end).collect();
                return Some(line);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    fn take(&mut self, limit: usize) -> Vec<u8> {
        let count = self.buffer.len().min(limit);
        self.buffer.drain(..count).collect()
    }

    /// Reads some bytes; false at the end of the connection, for any reason.
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match self.socket.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing within {DEADLINE:?}; read so far: {:?}", String::from_utf8_lossy(&self.buffer))
            }
            Err(_) => false,
        }
    }
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct Head {
    pub version: String,
    pub status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let mut lines = text.split("\r\n");
        let mut first = lines.next().unwrap().split(' ');
        let version = first.next().unwrap().to_owned();
        let status = first.next().and_then(|status| status.parse().ok()).expect("a status line");
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self { version, status, headers }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase();
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a header, in order.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let name = name.to_ascii_lowercase();
        self.headers.iter().filter(|(n, _)| *n == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// A complete response.
#[derive(Debug)]
pub struct Answer {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.text()))
    }

    /// The reasons in the response of `/readyz`.
    #[track_caller]
    pub fn reasons(&self) -> Vec<String> {
        assert_eq!(self.status(), 503, "{}", self.text());
        serde_json::from_value(self.json()["reasons"].clone()).unwrap()
    }

    /// Asserts an RFC 9457 problem of this status, and returns it.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string(), "{problem}");
        problem
    }
}

/// A body that is read as it arrives.
pub struct Body {
    pub connection: Connection,
    framing: Framing,
}

/// The connection ended before the body did.
#[derive(Debug)]
pub struct Cut;

impl Body {
    /// Some bytes of the body as soon as there are any; `None` at its proper end.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        self.framing.next(&mut self.connection)
    }
}

enum Framing {
    Empty,
    Length(usize),
    /// Bytes left of the current chunk.
    Chunked(usize),
    UntilClose,
}

impl Framing {
    fn of(method: &str, head: &Head) -> Self {
        if method == "HEAD" || head.status < 200 || head.status == 204 || head.status == 304 {
            Self::Empty
        } else if head.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            Self::Chunked(0)
        } else if let Some(length) = head.header("content-length") {
            Self::Length(length.parse().unwrap())
        } else {
            Self::UntilClose
        }
    }

    fn next(&mut self, from: &mut Connection) -> Result<Option<Vec<u8>>, Cut> {
        match self {
            Self::Empty | Self::Length(0) => Ok(None),
            Self::UntilClose => {
                if from.buffer.is_empty() && !from.fill() {
                    return Ok(None);
                }
                Ok(Some(from.take(usize::MAX)))
            }
            Self::Length(left) => {
                let bytes = Self::some(from, *left)?;
                *left -= bytes.len();
                Ok(Some(bytes))
            }
            Self::Chunked(left) => {
                if *left == 0 {
                    *left = chunk_size(&from.line().ok_or(Cut)?);
                    if *left == 0 {
                        assert_eq!(from.line().ok_or(Cut)?, b"", "no trailers are expected");
                        *self = Self::Empty;
                        return Ok(None);
                    }
                }
                let bytes = Self::some(from, *left)?;
                *left -= bytes.len();
                if *left == 0 {
                    assert_eq!(from.line().ok_or(Cut)?, b"", "a chunk ends with CRLF");
                }
                Ok(Some(bytes))
            }
        }
    }

    fn some(from: &mut Connection, limit: usize) -> Result<Vec<u8>, Cut> {
        if from.buffer.is_empty() && !from.fill() {
            return Err(Cut);
        }
        Ok(from.take(limit))
    }
}

fn chunk_size(line: &[u8]) -> usize {
    let text = std::str::from_utf8(line).unwrap();
    usize::from_str_radix(text, 16).unwrap_or_else(|_| panic!("no chunk size: {text:?}"))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
