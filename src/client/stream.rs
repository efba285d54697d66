//! One stream: sends the request, reads the response head, and then item by item.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use super::body::Body;
use super::connection::Connection;
use super::records::Parser;
use super::websocket::{self, Socket};
use super::{Failure, Head, Item, Target};
use crate::codec::Transport;
use crate::codec::transport::reading::Reader;

/// The largest response head, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The most header fields of a response.
const HEADERS_MAX: usize = 128;
/// The longest part of a refusal's body that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// A media type of any service, which does not indicate a stream.
const GENERIC_TYPE: &str = "application/json";
/// The read size, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// The requested transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Only(Transport),
    /// The one that the server selects, or else WebSocket if the server requires it.
    Auto,
}

/// The request.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    pub target: &'a Target,
    pub choice: Choice,
    pub headers: Vec<(String, String)>,
    pub parameters: Vec<(&'static str, String)>,
}

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    pub head: Head,
    wire: Wire,
    ready: VecDeque<Item>,
}

#[derive(Debug)]
enum Wire {
    Http { connection: Connection, body: Body, parser: Parser, end: Option<End> },
    WebSocket(Box<Socket>),
}

/// The result of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Item(Item),
    /// Nothing within the timeout.
    Nothing,
    End(End),
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By the transport's own means.
    Said(String),
    /// The connection was closed, which is the only end of a body without framing.
    Closed,
    /// Before its end.
    Cut(String),
}

impl std::fmt::Display for End {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Said(how) => write!(formatter, "ended: {how}"),
            Self::Closed => write!(formatter, "closed"),
            Self::Cut(why) => write!(formatter, "cut: {why}"),
        }
    }
}

impl Stream {
    /// Opens a stream. `patience` is the time limit for connecting and for the response head, each.
    ///
    /// # Errors
    ///
    /// Why there is no stream.
    pub fn open(asked: &Asked<'_>, patience: Duration) -> Result<Self, Failure> {
        let transports = transports(asked);
        match Self::ask(asked, &transports, patience) {
            // 426: the path offers only WebSocket.
            Err(Failure::Refused(head, _)) if asked.choice == Choice::Auto && head.status == 426 => {
                Self::upgrade(asked, patience)
            }
            answered => answered,
        }
    }

    fn upgrade(asked: &Asked<'_>, patience: Duration) -> Result<Self, Failure> {
        let connection = Connection::open(asked.target, patience)?;
        let path = asked.target.path_with(&asked.parameters);
        let (head, socket) = websocket::open(connection, &asked.target.authority, &path, &asked.headers)?;
        Ok(Self { head, wire: Wire::WebSocket(Box::new(socket)), ready: VecDeque::new() })
    }

    fn ask(asked: &Asked<'_>, transports: &[Transport], patience: Duration) -> Result<Self, Failure> {
        let types: Vec<&str> = transports.iter().filter_map(|transport| transport.media_type()).collect();
        if types.is_empty() {
            return Self::upgrade(asked, patience);
        }
        let connection = Connection::open(asked.target, patience)?;
        let (path, accept) = (asked.target.path_with(&asked.parameters), types.join(", "));
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n", asked.target.authority);
        asked.headers.iter().for_each(|(name, value)| request.extend([name, ": ", value, "\r\n"]));
        request.push_str("\r\n");
        answer(connection, request.as_bytes(), patience)
    }

    /// The next item within `patience`.
    pub fn next(&mut self, patience: Duration) -> Step {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Step::Item(item);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Step::Nothing;
            }
            let (wire, ready) = (&mut self.wire, &mut self.ready);
            match wire {
                Wire::WebSocket(socket) => match socket.get_ref().set_patience(left) {
                    Ok(()) => return websocket::next(socket),
                    Err(error) => return Step::End(End::Cut(error.to_string())),
                },
                Wire::Http { connection, body, parser, end } => {
                    if let Some(end) = end {
                        return Step::End(end.clone());
                    }
                    *end = read(connection, left, |bytes| take(bytes, body, parser, ready));
                }
            }
        }
    }

    /// Whether it is a WebSocket.
    pub fn is_websocket(&self) -> bool {
        matches!(self.wire, Wire::WebSocket(_))
    }
}

/// The requested transports.
fn transports(asked: &Asked<'_>) -> Vec<Transport> {
    match asked.choice {
        _ if asked.target.websocket => Transport::ALL.into_iter().filter(|transport| transport.is_upgrade()).collect(),
        Choice::Only(transport) => vec![transport],
        Choice::Auto => Transport::by_preference().collect(),
    }
}

/// Reads once. Returns how the stream ended, if it did; a timeout is not an end.
fn read(
    connection: &mut Connection,
    patience: Duration,
    take: impl FnOnce(&[u8]) -> Result<Option<End>, &'static str>,
) -> Option<End> {
    let mut bytes = [0; READ_BYTES];
    match connection.set_patience(patience).and_then(|()| connection.read(&mut bytes)) {
        Ok(count) => take(&bytes[..count]).unwrap_or_else(|why| Some(End::Cut(why.to_owned()))),
        Err(error) if is_early(&error) => None,
        Err(error) => Some(End::Cut(error.to_string())),
    }
}

/// Consumes bytes of the body; an empty slice means that the connection was closed.
fn take(
    bytes: &[u8],
    body: &mut Body,
    parser: &mut Parser,
    ready: &mut VecDeque<Item>,
) -> Result<Option<End>, &'static str> {
    let mut content = Vec::new();
    body.feed(bytes, &mut content)?;
    parser.feed(&content, |item| ready.push_back(item))?;
    Ok(match body {
        _ if body.is_whole() => Some(End::Said("the body is whole".to_owned())),
        Body::UntilClose if bytes.is_empty() => Some(End::Closed),
        _ if bytes.is_empty() => Some(End::Cut("the connection was closed within the body".to_owned())),
        _ => None,
    })
}

/// Sends the request, and reads the response head.
fn answer(mut connection: Connection, request: &[u8], patience: Duration) -> Result<Stream, Failure> {
    connection.write_all(request).map_err(|error| Failure::Broken(error.to_string()))?;
    let deadline = Instant::now() + patience;
    let mut bytes = Vec::new();
    let (length, head) = loop {
        if let Some(found) = head(&bytes)? {
            break found;
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(Failure::Broken("its head is too long".to_owned()));
        }
        read_more(&mut connection, deadline, &mut bytes)?;
    };
    let rest = bytes.split_off(length);
    let (Some(reader), 200) = (reader(&head), head.status) else {
        return Err(refused(head, connection, &rest, deadline));
    };
    let (mut body, mut parser, mut ready) = (Body::of(&head), Parser::new(reader), VecDeque::new());
    let mut end = None;
    if !rest.is_empty() {
        let taken = take(&rest, &mut body, &mut parser, &mut ready);
        end = taken.map_err(|why| Failure::Broken(why.to_owned()))?;
    }
    Ok(Stream { head, wire: Wire::Http { connection, body, parser, end }, ready })
}

/// Reads until the deadline; the end of the connection is a failure.
fn read_more(connection: &mut Connection, deadline: Instant, bytes: &mut Vec<u8>) -> Result<(), Failure> {
    let broken = |error: std::io::Error| Failure::Broken(error.to_string());
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Failure::Unanswered);
    }
    connection.set_patience(left).map_err(broken)?;
    let mut read = [0; READ_BYTES];
    match connection.read(&mut read) {
        Ok(0) => Err(Failure::Broken("the connection was closed without an answer".to_owned())),
        Ok(count) => {
            bytes.extend_from_slice(&read[..count]);
            Ok(())
        }
        Err(error) if is_early(&error) => Err(Failure::Unanswered),
        Err(error) => Err(broken(error)),
    }
}

fn refused(head: Head, mut connection: Connection, rest: &[u8], deadline: Instant) -> Failure {
    let (mut body, mut content) = (Body::of(&head), Vec::new());
    let mut bytes = rest.to_vec();
    // As much of the body as is available; the status is what matters.
    while body.feed(&bytes, &mut content).is_ok() && !body.is_whole() && content.len() < REFUSAL_BYTES_MAX {
        bytes.clear();
        if head.status == 204 || read_more(&mut connection, deadline, &mut bytes).is_err() {
            break;
        }
    }
    Failure::Refused(head, String::from_utf8_lossy(&content).into_owned())
}

fn head(bytes: &[u8]) -> Result<Option<(usize, Head)>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let length = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Failure::Broken(error.to_string())),
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = answer.headers.iter().map(|header| (header.name.to_owned(), text(header.value)));
    let (minor, status) = (answer.version.unwrap_or(1), answer.code.unwrap_or(0));
    Ok(Some((length, Head { minor, status, headers: headers.collect() })))
}

/// How a stream of this content type is parsed; `None` if it is not a stream.
fn reader(head: &Head) -> Option<Box<dyn Reader>> {
    let content_type = head.header("content-type")?;
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let is_generic = media_type.eq_ignore_ascii_case(GENERIC_TYPE);
    Transport::of_media_type(media_type).filter(|_| !is_generic)?.row().reader()
}

fn is_early(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
