//! Two WebSocket clients: one that conforms to RFC 6455 (tungstenite), and one that sends arbitrary bytes.

use std::collections::VecDeque;
use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::http::Request;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message};

use super::http::{Call, Connection, Head};
use super::{DEADLINE, Patience};

/// A client that conforms to the protocol.
pub struct WebSocket {
    socket: tungstenite::WebSocket<TcpStream>,
    /// Events that arrived before an expected response.
    events: VecDeque<Value>,
    commands: usize,
    /// The resume position: the last event's `cursor`, or else its `id`.
    pub cursor: Option<String>,
}

impl Call {
    /// Opens a WebSocket, which must succeed.
    #[track_caller]
    pub fn websocket(&self) -> WebSocket {
        self.clone().upgrade().upgraded()
    }

    fn upgraded(&self) -> WebSocket {
        let mut request = Request::builder().method("GET").uri(format!("ws://shop.example{}", self.target()));
        for (name, value) in self.headers() {
            request = request.header(name, value);
        }
        let stream = TcpStream::connect_timeout(&self.address, DEADLINE).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = tungstenite::client::client(request.body(()).unwrap(), stream).expect("a handshake");
        WebSocket { socket, events: VecDeque::new(), commands: 0, cursor: None }
    }

    /// Opens a WebSocket whose frames the test writes itself.
    pub fn raw_websocket(&self) -> RawWebSocket {
        let mut connection = Connection::open(self.address);
        connection.write(&self.clone().upgrade().bytes());
        let head = connection.head();
        assert_eq!(head.status, 101, "{head:?}");
        RawWebSocket { connection, head }
    }
}

impl WebSocket {
    /// The next text message, or the code of a close frame.
    pub fn message(&mut self) -> Result<Value, u16> {
        let patience = Patience::start();
        loop {
            patience.check("a message");
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).expect("a JSON message")),
                Ok(Message::Close(frame)) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                Ok(Message::Binary(_)) => panic!("a binary message"),
                Ok(_) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Err(1006),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next event message.
    #[track_caller]
    pub fn event(&mut self) -> Value {
        let event = self.events.pop_front().unwrap_or_else(|| {
            loop {
                let message = self.message().expect("an event before the close");
                if message["type"] == "event" {
                    break message;
                }
            }
        });
        self.remember(&event);
        event
    }

    /// The ids of the next `count` events.
    #[track_caller]
    pub fn ids(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.event()["id"].as_str().expect("an event id").to_owned()).collect()
    }

    /// Sends a command in its envelope, and returns the response.
    #[track_caller]
    pub fn ask(&mut self, command: Value) -> Value {
        self.commands += 1;
        let id = format!("msg-{}", self.commands);
        self.send(&json!({"id": id, "type": "command", "data": command}).to_string());
        let response = self.response();
        assert_eq!(response["inReplyTo"], id, "{response}");
        response
    }

    /// The next response; events before it are kept.
    #[track_caller]
    pub fn response(&mut self) -> Value {
        loop {
            let message = self.message().expect("a response before the close");
            match message["type"].as_str() {
                Some("response") => return message,
                Some("event") => self.events.push_back(message),
                _ => {}
            }
        }
    }

    /// Whether no event has arrived before the last response.
    pub fn is_without_events(&self) -> bool {
        self.events.is_empty()
    }

    pub fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text.to_owned())).unwrap();
    }

    /// The next message of any kind from the server.
    pub fn any(&mut self) -> Message {
        self.socket.read().unwrap()
    }

    /// Closes with this code, and returns the code of the response.
    pub fn close(&mut self, code: u16) -> u16 {
        self.socket.close(Some(CloseFrame { code: CloseCode::from(code), reason: "bye".into() })).unwrap();
        self.closed()
    }

    /// Waits for the close frame, and returns its code.
    pub fn closed(&mut self) -> u16 {
        let patience = Patience::start();
        loop {
            patience.check("the close");
            if let Err(code) = self.message() {
                return code;
            }
        }
    }

    fn remember(&mut self, event: &Value) {
        if let Some(cursor) = event["cursor"].as_str().or_else(|| event["id"].as_str()) {
            self.cursor = Some(cursor.to_owned());
        }
    }
}

/// The opcodes of RFC 6455 section 5.2.
pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The bits of the first byte in addition to the opcode.
pub const FIN: u8 = 0x80;
pub const RSV1: u8 = 0x40;

/// A client that sends frames written by the test.
pub struct RawWebSocket {
    pub connection: Connection,
    pub head: Head,
}

/// A frame from the server.
#[derive(Debug)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl RawWebSocket {
    /// Sends a masked frame with this first byte.
    pub fn send(&mut self, first: u8, payload: &[u8]) {
        self.connection.try_write(&masked(first, payload));
    }

    /// The next frame; `None` at the end of the connection.
    pub fn frame(&mut self) -> Option<Frame> {
        let head = self.connection.exactly(2)?;
        assert_eq!(head[0] & 0x70, 0, "reserved bits from the server");
        assert_eq!(head[1] & 0x80, 0, "a masked frame from the server");
        let length = match head[1] & 0x7f {
            126 => usize::from(u16::from_be_bytes(self.connection.exactly(2)?.try_into().unwrap())),
            127 => usize::try_from(u64::from_be_bytes(self.connection.exactly(8)?.try_into().unwrap())).unwrap(),
            short => usize::from(short),
        };
        Some(Frame { opcode: head[0] & 0x0f, payload: self.connection.exactly(length)? })
    }

    /// The next frame with this opcode.
    pub fn frame_of(&mut self, opcode: u8) -> Frame {
        let patience = Patience::start();
        loop {
            patience.check("a frame");
            let frame = self.frame().expect("a frame before the end");
            if frame.opcode == opcode {
                return frame;
            }
        }
    }

    /// The next text message as JSON; the server does not fragment.
    pub fn json(&mut self) -> Value {
        serde_json::from_slice(&self.frame_of(TEXT).payload).unwrap()
    }

    /// Waits for the close frame and the end of the connection, and returns the code.
    #[track_caller]
    pub fn closed(&mut self) -> u16 {
        let frame = self.frame_of(CLOSE);
        assert!(frame.payload.len() <= 125, "a control frame holds at most 125 bytes");
        assert!(std::str::from_utf8(&frame.payload[2..]).is_ok(), "the reason is UTF-8");
        let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
        assert!(self.frame().is_none(), "nothing follows a close frame");
        code
    }
}

/// A masked frame, as clients must send it.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}
