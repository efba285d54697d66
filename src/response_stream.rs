//! The response of one HTTP/2 stream, as a writer writes it. The connection belongs to the listener: a task of the runtime
//! reads and writes its socket.
//!
//! Flow control is the client's. An exhausted window is a full socket: a write is not accepted, and the wire is woken once
//! the client has made room.

use std::any::Any;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderName;
use pingora::http::ResponseHeader;
use pingora::protocols::http::v2::server::HttpSession;

/// Bytes of a response that wait in a connection until its client makes room: the counterpart of unsent bytes in the
/// kernel.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// The fields of a response head, at most.
const FIELDS_MAX: usize = 64;

/// What a request holds while it is in progress. It is an extension of its head.
#[derive(Clone)]
pub struct Lease {
    _held: Arc<dyn Any + Send + Sync>,
}

impl Lease {
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self { _held: Arc::new(held) }
    }
}

/// The response of one stream of an HTTP/2 connection.
pub struct ResponseStream {
    state: State,
    waker: Waker,
    /// Whether the last write found no room.
    is_blocked: bool,
    /// The bytes of the body that were accepted.
    written: u64,
    _lease: Option<Lease>,
}

enum State {
    /// The head is not written yet.
    Head(Box<HttpSession>),
    Body(SendStream<Bytes>),
    Ended,
}

impl ResponseStream {
    pub fn new(session: HttpSession) -> Self {
        let lease = session.req_header().extensions.get::<Lease>().cloned();
        let state = State::Head(Box::new(session));
        Self { state, waker: Waker::noop().clone(), is_blocked: false, written: 0, _lease: lease }
    }

    /// Wakes this waker when the stream can be written again, or is gone.
    pub fn set_waker(&mut self, waker: Waker) {
        self.waker = waker;
    }

    /// Whether the client has made no room for what was written last, and how many bytes were accepted so far.
    pub fn progress(&self) -> (bool, u64) {
        (self.is_blocked, self.written)
    }

    /// A client sends nothing on such a stream. 0: the client has cancelled it, or the response has ended.
    ///
    /// # Errors
    ///
    /// `WouldBlock`, or the client is gone.
    pub fn read(&mut self) -> io::Result<usize> {
        let mut context = Context::from_waker(&self.waker);
        match &mut self.state {
            State::Head(_) => Err(ErrorKind::WouldBlock.into()),
            State::Body(body) => match body.poll_reset(&mut context) {
                Poll::Pending => Err(ErrorKind::WouldBlock.into()),
                Poll::Ready(Ok(Reason::CANCEL | Reason::NO_ERROR)) => Ok(0),
                Poll::Ready(_) => Err(ErrorKind::ConnectionReset.into()),
            },
            State::Ended => Ok(0),
        }
    }

    /// Accepts bytes of a response of HTTP/1.1: the first ones are a whole head. All bytes of one call are sent as one
    /// part of the body: clients may end connections with many small or empty parts. Returns how many were accepted.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: the client has made no room. Others: the client is gone, or the head is not whole.
    pub fn write<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]> + Clone) -> io::Result<usize> {
        let total = slices.clone().map(<[u8]>::len).sum();
        if let State::Head(_) = self.state {
            let head = self.write_head(&first(slices.clone(), total))?;
            return match self.write_body(slices, head, total) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                body => Ok(head + body.unwrap_or(0)),
            };
        }
        self.write_body(slices, 0, total)
    }

    /// Writes the head at the beginning of these bytes. Returns its length.
    fn write_head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let State::Head(session) = &mut self.state else { return Ok(0) };
        let (length, head) = parse_head(bytes)?;
        // It removes the fields of the connection.
        session.write_response_header(Box::new(head), false).map_err(|_| ErrorKind::ConnectionReset)?;
        self.state = State::Body(session.take_response_body_writer().ok_or(ErrorKind::BrokenPipe)?);
        // The next read asks to be woken when the client resets the stream.
        self.waker.wake_by_ref();
        Ok(length)
    }

    /// Writes what follows the first `from` bytes, as much as the client has room for.
    fn write_body<'a>(
        &mut self,
        slices: impl Iterator<Item = &'a [u8]>,
        from: usize,
        total: usize,
    ) -> io::Result<usize> {
        if from == total {
            return Ok(0);
        }
        let room = self.room(total - from)?;
        let mut bytes = first(slices, from + room);
        bytes.drain(..from);
        let State::Body(body) = &mut self.state else { return Err(ErrorKind::BrokenPipe.into()) };
        body.send_data(bytes.into(), false).map_err(|_| ErrorKind::ConnectionReset)?;
        self.is_blocked = from + room < total;
        self.written += room as u64;
        Ok(room)
    }

    /// For how many of these bytes the client has room: at least one. Otherwise the waker is woken later.
    fn room(&mut self, wanted: usize) -> io::Result<usize> {
        let State::Body(body) = &mut self.state else { return Err(ErrorKind::BrokenPipe.into()) };
        body.reserve_capacity(wanted);
        if body.capacity() > 0 {
            return Ok(body.capacity().min(wanted));
        }
        self.is_blocked = true;
        match body.poll_capacity(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(_))) if body.capacity() > 0 => return Ok(body.capacity().min(wanted)),
            // The capacity changed and is gone again: ask once more in another turn.
            Poll::Ready(Some(Ok(_))) => self.waker.wake_by_ref(),
            Poll::Ready(None | Some(Err(_))) => return Err(ErrorKind::ConnectionReset.into()),
        }
        Err(ErrorKind::WouldBlock.into())
    }

    /// Ends the response, after everything that was written. A response without a head is reset.
    pub fn end(&mut self) {
        if let State::Body(mut body) = std::mem::replace(&mut self.state, State::Ended) {
            // A client that is gone needs no end.
            let _ = body.send_data(Bytes::new(), true);
        }
        self.waker.wake_by_ref();
    }
}

impl fmt::Debug for ResponseStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseStream")
    }
}

/// The first `length` bytes of these slices.
fn first<'a>(slices: impl Iterator<Item = &'a [u8]>, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    for slice in slices {
        let rest = length - bytes.len();
        bytes.extend_from_slice(&slice[..slice.len().min(rest)]);
    }
    bytes
}

/// The head at the beginning of these bytes, and its length.
fn parse_head(bytes: &[u8]) -> io::Result<(usize, ResponseHeader)> {
    let invalid = || io::Error::from(ErrorKind::InvalidData);
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = parsed.parse(bytes).map_err(|_| invalid())? else { return Err(invalid()) };
    let status = parsed.code.unwrap_or_default();
    let mut head = ResponseHeader::build(status, Some(parsed.headers.len())).map_err(|_| invalid())?;
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| invalid())?;
        head.append_header(name, field.value).map_err(|_| invalid())?;
    }
    Ok((length, head))
}
