//! A stream from the client's side: a blocking socket, and the complete frames received on it.
//!
//! Incomplete data of a broken connection is discarded. Data that sidestream must never send causes a panic.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Deserialize;
use socket2::{Domain, SockRef, Socket, Type};
use tungstenite::protocol::Role;
use tungstenite::{Error, Message, WebSocket};

use crate::history::{By, Proto, Range, Text};
use crate::support::http::Call;
use crate::support::sse;

const CONNECT: Duration = Duration::from_secs(1);
/// The timeout of a response head: a client that is ahead waits up to 10 seconds, and machines are busy.
const ANSWER: Duration = Duration::from_secs(20);
/// The timeout of a read, so that a client can react to faults.
const LOOK_UP: Duration = Duration::from_millis(50);
/// Small, so that the server notices a client that does not read.
const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;
const HEADERS_MAX: usize = 32;

/// The result of a stream request.
pub enum Opened {
    Granted(u16, Stream),
    Refused(u16, Problem),
    /// No replica accepted the connection, or it closed before responding.
    Nobody,
}

/// The gap in a refusal.
#[derive(Debug, Default, Deserialize)]
pub struct Problem {
    #[serde(default)]
    pub cause: Option<Text>,
    #[serde(default)]
    pub ranges: Vec<Range>,
}

/// The result of a read.
pub enum Next {
    Frame(Frame),
    /// Nothing within the timeout.
    Quiet,
    Ended(By),
}

#[derive(Debug)]
pub struct Frame {
    pub content: Content,
    /// The client's position after the frame, if the frame contains it.
    pub cursor: Option<Text>,
}

#[derive(Debug)]
pub enum Content {
    Event { id: Text, uid: Text },
    Gap { reason: Text, ranges: Vec<Range> },
    Nothing,
}

pub enum Stream {
    Body(Body),
    WebSocket(Box<WebSocket<TcpStream>>),
}

/// An SSE or NDJSON stream.
pub struct Body {
    socket: TcpStream,
    proto: Proto,
    /// Chunked data.
    raw: Vec<u8>,
    /// The decoded text.
    text: Vec<u8>,
    ended: bool,
}

/// Sends the request, and reads the response head.
pub fn open(proto: Proto, call: &Call) -> Opened {
    let call = if proto == Proto::Ws { call.clone().upgrade() } else { call.clone() };
    let answer = connect(call.address).and_then(|mut socket| {
        socket.write_all(&call.bytes())?;
        let mut read = Vec::new();
        let (status, length) = head(&mut socket, &mut read)?;
        Ok((socket, read, status, length))
    });
    let Ok((socket, read, status, length)) = answer else { return Opened::Nobody };
    match (proto, status) {
        (Proto::Ws, 101) => {
            let socket = WebSocket::from_partially_read(socket, read, Role::Client, None);
            Opened::Granted(status, Stream::WebSocket(Box::new(socket)))
        }
        (Proto::Sse | Proto::Ndjson, 200) => {
            let (text, ended) = (Vec::new(), false);
            let mut body = Body { socket, proto, raw: read, text, ended };
            body.unpack();
            Opened::Granted(status, Stream::Body(body))
        }
        _ => problem(socket, read, length).map_or(Opened::Nobody, |problem| Opened::Refused(status, problem)),
    }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.connect_timeout(&address.into(), CONNECT)?;
    socket.set_read_timeout(Some(LOOK_UP))?;
    socket.set_write_timeout(Some(ANSWER))?;
    let socket = TcpStream::from(socket);
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Returns the status, and the length of the body if it is stated; bytes after the head stay in `read`.
fn head(socket: &mut TcpStream, read: &mut Vec<u8>) -> std::io::Result<(u16, usize)> {
    let deadline = Instant::now() + ANSWER;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut answer = httparse::Response::new(&mut headers);
        if let httparse::Status::Complete(end) = answer.parse(read).expect("an HTTP answer") {
            let status = answer.code.unwrap_or_default();
            let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
            let length = length.map_or(0, |header| String::from_utf8_lossy(header.value).parse().expect("a length"));
            read.drain(..end);
            return Ok((status, length));
        }
        more(socket, read, deadline)?;
    }
}

fn problem(mut socket: TcpStream, mut read: Vec<u8>, length: usize) -> std::io::Result<Problem> {
    let deadline = Instant::now() + ANSWER;
    while read.len() < length {
        more(&mut socket, &mut read, deadline)?;
    }
    Ok(serde_json::from_slice(&read[..length]).unwrap_or_default())
}

fn more(socket: &mut TcpStream, read: &mut Vec<u8>, deadline: Instant) -> std::io::Result<()> {
    loop {
        match receive(socket, read) {
            Received::Some => return Ok(()),
            Received::Nothing if Instant::now() < deadline => {}
            Received::Nothing => return Err(ErrorKind::TimedOut.into()),
            Received::End => return Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

enum Received {
    Some,
    Nothing,
    /// The end of the connection, for any reason.
    End,
}

fn receive(socket: &mut TcpStream, into: &mut Vec<u8>) -> Received {
    let mut bytes = [0; 16 * 1024];
    match socket.read(&mut bytes) {
        Ok(0) => Received::End,
        Ok(count) => {
            into.extend_from_slice(&bytes[..count]);
            Received::Some
        }
        Err(error) if is_quiet(&error) => Received::Nothing,
        Err(_) => Received::End,
    }
}

fn is_quiet(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

impl Stream {
    pub fn next(&mut self) -> Next {
        match self {
            Self::Body(body) => body.next(),
            Self::WebSocket(socket) => next_message(socket),
        }
    }

    /// Closes the stream properly.
    pub fn close(self) {
        if let Self::WebSocket(mut socket) = self {
            let _ = socket.close(None);
        }
    }

    /// Resets the connection.
    pub fn reset(self) {
        let socket = match &self {
            Self::Body(body) => &body.socket,
            Self::WebSocket(socket) => socket.get_ref(),
        };
        SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl Body {
    fn next(&mut self) -> Next {
        loop {
            if let Some(frame) = self.frame() {
                return Next::Frame(frame);
            }
            if self.ended {
                assert!(self.text.is_empty(), "ended in {:?}", String::from_utf8_lossy(&self.text));
                return Next::Ended(By::Server);
            }
            match receive(&mut self.socket, &mut self.raw) {
                Received::Some => self.unpack(),
                Received::Nothing => return Next::Quiet,
                Received::End => return Next::Ended(By::Reset),
            }
        }
    }

    /// Decodes the complete chunks.
    fn unpack(&mut self) {
        while let httparse::Status::Complete((start, size)) =
            httparse::parse_chunk_size(&self.raw).expect("a chunk's size")
        {
            let size = usize::try_from(size).unwrap();
            let end = start + size + b"\r\n".len();
            if self.raw.len() < end {
                return;
            }
            self.text.extend_from_slice(&self.raw[start..start + size]);
            self.raw.drain(..end);
            if size == 0 {
                self.ended = true;
                return;
            }
        }
    }

    fn frame(&mut self) -> Option<Frame> {
        let end: &[u8] = if self.proto == Proto::Sse { b"\n\n" } else { b"\n" };
        let at = self.text.windows(end.len()).position(|bytes| bytes == end)?;
        let text: Vec<u8> = self.text.drain(..at + end.len()).take(at).collect();
        let text = String::from_utf8(text).expect("UTF-8");
        Some(if self.proto == Proto::Sse { of_record(&text) } else { of_line(&text) })
    }
}

fn of_record(text: &str) -> Frame {
    let record = sse::Record::parse(text);
    let content = record.data.map_or(Content::Nothing, |data| envelope(&data).content());
    Frame { content, cursor: record.id.map(Text::from) }
}

fn of_line(text: &str) -> Frame {
    if text.is_empty() {
        return Frame { content: Content::Nothing, cursor: None };
    }
    let envelope = envelope(text);
    let cursor = envelope.cursor.clone().or_else(|| envelope.id.clone());
    Frame { content: envelope.content(), cursor }
}

fn next_message(socket: &mut WebSocket<TcpStream>) -> Next {
    match socket.read() {
        Ok(Message::Text(text)) => Next::Frame(of_message(&text)),
        Ok(Message::Close(_)) | Err(Error::ConnectionClosed) => Next::Ended(By::Server),
        Ok(_) => Next::Quiet,
        Err(Error::Io(error)) if is_quiet(&error) => Next::Quiet,
        Err(Error::Io(_) | Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
            Next::Ended(By::Reset)
        }
        Err(error) => panic!("{error}"),
    }
}

fn of_message(text: &str) -> Frame {
    let message: EventMessage = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    let of_data = message.data.cursor.clone().or_else(|| message.data.id.clone());
    Frame { cursor: message.cursor.or(of_data), content: message.data.content() }
}

#[derive(Deserialize)]
struct EventMessage {
    cursor: Option<Text>,
    data: Envelope,
}

/// Events, gaps and heartbeats.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: Text,
    id: Option<Text>,
    cursor: Option<Text>,
    data: Option<Payload>,
    cause: Option<Text>,
    #[serde(default)]
    ranges: Vec<Range>,
}

#[derive(Deserialize)]
struct Payload {
    uid: Text,
}

fn envelope(text: &str) -> Envelope {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

impl Envelope {
    fn content(self) -> Content {
        match (&*self.kind, self.id, self.data, self.cause) {
            ("gap", _, _, Some(reason)) => Content::Gap { reason, ranges: self.ranges },
            ("heartbeat" | "auth", ..) => Content::Nothing,
            (_, Some(id), Some(Payload { uid }), _) => Content::Event { id, uid },
            (kind, ..) => panic!("neither an event nor a gap: {kind}"),
        }
    }
}
