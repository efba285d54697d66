//! A client of HTTP/2 that sends and receives single frames (RFC 9113 section 4.1).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::support::DEADLINE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// The default window of a stream, in bytes.
pub const WINDOW: u32 = 65_535;

/// A received frame.
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub struct Http2 {
    pub socket: TcpStream,
}

impl Http2 {
    /// Begins a connection with this initial window of streams.
    pub fn connect(address: SocketAddr, window: u32) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut client = Self { socket };
        client.socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        client.set_window(window);
        client
    }

    /// Changes the windows of all streams.
    pub fn set_window(&mut self, window: u32) {
        // SETTINGS_INITIAL_WINDOW_SIZE
        self.send(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat());
    }

    /// False once the connection is closed.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.socket.write_all(&frame(kind, flags, stream, payload)).is_ok()
    }

    /// A GET of this path.
    pub fn get(&mut self, stream: u32, path: &str) -> bool {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &head(path, "shop.example"))
    }

    /// The next frame; `None` at the end of the connection.
    pub fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).ok()?;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap()];
        self.socket.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads until a frame of this kind, and returns it.
    #[track_caller]
    pub fn until(&mut self, kind: u8) -> Frame {
        std::iter::from_fn(|| self.frame()).find(|frame| frame.kind == kind).expect("a frame of this kind")
    }

    /// Reads until the server ends the connection. Returns the code of its last GOAWAY.
    pub fn ended(mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.frame() {
            if frame.kind == GOAWAY {
                code = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
            }
        }
        code
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header block of a GET: indexed fields of the static table, and literals without a table (RFC 7541 section 6).
pub fn head(path: &str, authority: &str) -> Vec<u8> {
    let literal = |name: u8, value: &str| [&[name, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    // GET, http, :path, :authority
    [vec![0x82, 0x86], literal(4, path), literal(1, authority)].concat()
}
