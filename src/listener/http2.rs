//! HTTP/2 on a connection: accepts its requests, and passes each to the application.
//!
//! A client begins with the preface of HTTP/2, after ALPN or by prior knowledge. The connection stays here until its last
//! request has ended, including streams whose responses a writer writes. WebSocket over HTTP/2 (RFC 8441) is not
//! supported: clients use HTTP/1.1 for it.

mod frames;
mod head;
mod requests;
mod unread;

use std::future::poll_fn;
use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use http::StatusCode;
use pingora::apps::HttpServerApp;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::fast_timeout::fast_timeout;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, handshake};
use tokio::sync::Notify;
use tokio::time::timeout;

pub(super) use self::frames::Frames;
use self::requests::{Open, Requests};
pub use self::unread::Unread;
use super::connection::Connection;
use super::head::HEAD_BYTES_MAX;
use super::{LINGER, RETRY_AFTER, Server};
use crate::problem::Problem;
use crate::response_stream::{HTTP2_SEND_BUFFER_BYTES, Lease};

/// Requests in progress on a connection, streams included.
const REQUESTS_MAX: u32 = 100;
/// Requests that a client has reset before they were accepted. One more ends the connection.
const PENDING_RESETS_MAX: usize = 20;
/// Requests of a connection that were reset for errors of its client. One more ends the connection.
const ERROR_RESETS_MAX: usize = 128;
/// DATA frames of a connection with less than [`SMALL_FRAME_BYTES`] that the service has not accepted yet: their memory
/// exceeds that of their bytes, which flow control limits. One more ends the connection.
const SMALL_FRAMES_MAX: usize = 1024;
/// What `h2` takes for the memory of a DATA frame.
const SMALL_FRAME_BYTES: usize = 256;
/// Requests of a connection that were rejected for their heads. One more ends the connection.
const REJECTED_MAX: usize = 32;

/// The kind of the error for a client that sends too many frames: `h2` passes on the kind alone.
pub(super) const FLOOD: ErrorKind = ErrorKind::QuotaExceeded;

type Http2 = h2::server::Connection<Stream, Bytes>;

fn options() -> H2Options {
    let mut options = H2Options::default();
    options
        .max_concurrent_streams(REQUESTS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buffer_size(HTTP2_SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .data_frame_budget(SMALL_FRAMES_MAX * SMALL_FRAME_BYTES);
    options
}

impl<A: HttpServerApp + Send + Sync + 'static> Server<A> {
    /// Serves the requests of a connection whose preface is still to be read, until it ends or is idle for too long. A
    /// connection that ends asks its client to send no more requests (GOAWAY); those in progress are completed.
    pub(super) async fn serve_http2(&self, mut connection: Box<Connection>) {
        let (digest, place) = connection.begin_http2(self.limits.peer_timeout);
        let (digest, requests) = (Arc::new(digest), Requests::new(place));
        // The client connected during a drain.
        let is_late = self.draining.is_set();
        let begun = fast_timeout(self.limits.header_timeout, handshake(connection, Some(options()))).await;
        let Ok(Ok(mut http2)) = begun else { return self.count_bad("http2-preface") };
        let (mut is_ending, mut rejected) = (false, 0);
        while rejected <= REJECTED_MAX {
            let idle = if is_ending { LINGER } else { self.limits.idle_timeout };
            let accepted = tokio::select! {
                accepted = HttpSession::from_h2_conn(&mut http2, digest.clone()) => accepted,
                () = self.ends(&requests, is_late), if !is_ending => {
                    is_ending = true;
                    http2.graceful_shutdown();
                    continue;
                }
                () = requests.idle(idle) => {
                    if is_ending {
                        return;
                    }
                    is_ending = true;
                    http2.graceful_shutdown();
                    continue;
                }
            };
            match accepted {
                Ok(Some(H2Accept::Session(session))) => rejected += usize::from(!self.begin(session, &requests)),
                Ok(Some(H2Accept::Rejected)) => rejected += 1,
                Ok(None) => return,
                Err(error) => return self.count_end(&error),
            }
        }
        self.count_bad("http2-rejected");
        end(http2).await;
    }

    /// Waits until the client is to use another connection. One that was opened during a drain gets its first responses
    /// before that: not every client sends a request again that a GOAWAY has overtaken.
    async fn ends(&self, requests: &Requests, is_late: bool) {
        let mut shutdown = self.shutdown.clone();
        let drained = async {
            self.draining.wait().await;
            if is_late {
                requests.answered().await;
            }
        };
        tokio::select! {
            () = drained => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }

    /// Passes a request to the application. False if its head is rejected.
    fn begin(&self, mut session: HttpSession, requests: &Arc<Requests>) -> bool {
        // The task of a request that its client has reset may still run.
        let Some(open) = requests.begin(REQUESTS_MAX as usize) else {
            session.shutdown_with_reason(Reason::REFUSED_STREAM);
            return true;
        };
        if let Err(bad) = head::prepare(session.req_header_mut()) {
            tracing::debug!(reason = bad.as_str(), "refused a request head");
            self.count_bad(bad.as_str());
            tokio::spawn(refuse(session, bad.problem(), open));
            return false;
        }
        let permit = self.permit();
        let evicted = Arc::new(Notify::new());
        let unread = Unread::new(self.stalled.place(evicted.clone()));
        let (app, shutdown, metrics) = (self.app.clone(), self.shutdown.clone(), self.metrics.clone());
        tokio::spawn(async move {
            let Some(permit) = permit.await else {
                metrics.bad_requests.with_label_values(&["connection-limit"]).inc();
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the limit of connections is reached");
                return refuse(session, problem.retry_after(RETRY_AFTER), open).await;
            };
            extend(session.req_header_mut(), open, unread.clone());
            tokio::select! {
                biased;
                () = evicted.notified() => metrics.connections_evicted.inc(),
                never = unread.watch() => match never {},
                _ = app.process_new_http(ServerSession::new_http2(session), &shutdown) => {}
            }
            drop(permit);
        });
        true
    }

    /// Counts the end of a connection by an error of HTTP/2. A client that disconnects is not one.
    fn count_end(&self, error: &pingora::Error) {
        let cause = error.cause.as_deref().and_then(|cause| cause.downcast_ref::<h2::Error>());
        let Some(error) = cause else { return };
        let is_flood = error.get_io().is_some_and(|error| error.kind() == FLOOD);
        if is_flood || error.reason() == Some(Reason::ENHANCE_YOUR_CALM) && error.is_library() {
            self.count_bad("http2-flood");
        } else if error.is_library() {
            self.count_bad("http2-protocol");
        }
    }

    fn count_bad(&self, reason: &'static str) {
        self.metrics.bad_requests.with_label_values(&[reason]).inc();
    }
}

/// Ends a connection whose client exceeds a limit, with the reason.
async fn end(mut http2: Http2) {
    http2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    // A client that does not read the reason loses it.
    let _ = timeout(LINGER, poll_fn(|cx| http2.poll_closed(cx))).await;
}

/// Adds extensions: the request is in progress until its head is dropped, or what takes over its response.
fn extend(request: &mut RequestHeader, open: Open, unread: Unread) {
    let empty = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut parts = http::request::Parts::from(std::mem::replace(request, empty));
    parts.extensions.insert(Lease::new(open));
    parts.extensions.insert(unread);
    *request = parts.into();
}

async fn refuse(mut session: HttpSession, problem: Problem, _open: Open) {
    let (parts, body) = problem.into_response().into_parts();
    session.write_timeout = Some(LINGER);
    if session.write_response_header(Box::new(ResponseHeader::from(parts)), false).is_ok() {
        // A client that is gone needs no response.
        let _ = session.write_body(Bytes::from(body), true).await;
    }
}
