//! Classifies failed exchanges: which side failed, the status of the response, and the label in metrics.

use std::io;

use http::StatusCode;
use pingora::{Error, ErrorSource, ErrorType};

use super::resolver::RESOLVE_ERROR;
use crate::problem::Problem;

/// A failed exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub fault: Fault,
    /// The label value in metrics.
    pub kind: &'static str,
    pub status: StatusCode,
    detail: &'static str,
}

/// The side that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Client,
    Upstream,
    Internal,
}

impl Failure {
    /// Classifies Pingora's error. `None` if the client disconnected, so that no response is needed.
    pub(super) fn of(error: &Error) -> Option<Self> {
        match error.esource() {
            ErrorSource::Upstream => Some(of_upstream(error)),
            ErrorSource::Downstream => of_client(error),
            ErrorSource::Internal | ErrorSource::Unset => Some(INTERNAL),
        }
    }

    pub(super) fn problem(self) -> Problem {
        Problem::new(self.status, self.detail)
    }
}

const INTERNAL: Failure = Failure {
    fault: Fault::Internal,
    kind: "internal",
    status: StatusCode::INTERNAL_SERVER_ERROR,
    detail: "the request could not be served",
};

fn of_upstream(error: &Error) -> Failure {
    let failed = |kind, status, detail| Failure { fault: Fault::Upstream, kind, status, detail };
    let bad_gateway = |kind, detail| failed(kind, StatusCode::BAD_GATEWAY, detail);
    let timeout = |kind, detail| failed(kind, StatusCode::GATEWAY_TIMEOUT, detail);
    if is_exhausted(error) {
        let detail = "no connection to the upstream can be opened now";
        return failed("capacity", StatusCode::SERVICE_UNAVAILABLE, detail);
    }
    match error.etype() {
        ErrorType::ConnectTimedout => timeout("connect-timeout", "the upstream did not accept a connection in time"),
        ErrorType::ReadTimedout => timeout("read-timeout", "the upstream did not answer in time"),
        ErrorType::WriteTimedout => timeout("write-timeout", "the upstream did not take the request in time"),
        ErrorType::ConnectRefused | ErrorType::ConnectNoRoute | ErrorType::ConnectError | ErrorType::SocketError => {
            bad_gateway("connect", "the upstream cannot be reached")
        }
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => {
            bad_gateway("closed", "the upstream closed the connection before its answer was complete")
        }
        kind if *kind == RESOLVE_ERROR => bad_gateway("resolve", "the upstream's name cannot be resolved"),
        _ => bad_gateway("protocol", "the upstream's answer is not valid HTTP/1.1"),
    }
}

fn of_client(error: &Error) -> Option<Failure> {
    let failed = |kind, status, detail| Some(Failure { fault: Fault::Client, kind, status, detail });
    match error.etype() {
        ErrorType::ReadError if io_cause(error).is_some_and(|cause| cause.kind() == io::ErrorKind::InvalidData) => {
            failed("body", StatusCode::BAD_REQUEST, "the request's chunked body is malformed")
        }
        ErrorType::ReadTimedout => {
            failed("body-timeout", StatusCode::REQUEST_TIMEOUT, "the request's body did not arrive in time")
        }
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::WriteTimedout | ErrorType::ConnectionClosed => None,
        _ => failed("request", StatusCode::BAD_REQUEST, "the request is malformed"),
    }
}

/// The log text of an error: its type and the error of the operating system. Pingora's own text quotes heads and
/// bodies.
pub(super) fn cause(error: &Error) -> String {
    let kind = error.etype().as_str();
    let Some(cause) = io_cause(error) else { return kind.to_owned() };
    // The text of other I/O errors may contain anything.
    match cause.raw_os_error() {
        Some(code) => format!("{kind}: {}", io::Error::from_raw_os_error(code)),
        None => format!("{kind}: {}", cause.kind()),
    }
}

/// Whether this process or its host has no descriptors, ports or buffers left.
fn is_exhausted(error: &Error) -> bool {
    let code = io_cause(error).and_then(io::Error::raw_os_error);
    matches!(code, Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS))
}

fn io_cause(error: &Error) -> Option<&io::Error> {
    error.root_cause().downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(error: Box<Error>) -> Option<(u16, &'static str)> {
        Failure::of(&error).map(|failure| (failure.status.as_u16(), failure.kind))
    }

    #[test]
    fn failures_are_classified() {
        let upstream = |etype| status(Error::new(etype).into_up());
        assert_eq!(upstream(ErrorType::ConnectRefused), Some((502, "connect")));
        assert_eq!(upstream(ErrorType::ConnectTimedout), Some((504, "connect-timeout")));
        assert_eq!(upstream(ErrorType::ReadTimedout), Some((504, "read-timeout")));
        assert_eq!(upstream(ErrorType::ConnectionClosed), Some((502, "closed")));
        assert_eq!(upstream(ErrorType::InvalidHTTPHeader), Some((502, "protocol")));
        assert_eq!(upstream(RESOLVE_ERROR), Some((502, "resolve")));
        let exhausted = io::Error::from_raw_os_error(libc::EMFILE);
        let error = Error::because(ErrorType::SocketError, "socket()", exhausted).into_up();
        assert_eq!(status(error), Some((503, "capacity")));
        let client = |etype| status(Error::new(etype).into_down());
        assert_eq!(client(ErrorType::ConnectionClosed), None);
        assert_eq!(client(ErrorType::ReadTimedout), Some((408, "body-timeout")));
        assert_eq!(client(ErrorType::InvalidHTTPHeader), Some((400, "request")));
        let chunk = io::Error::new(io::ErrorKind::InvalidData, "chunk");
        assert_eq!(status(Error::because(ErrorType::ReadError, "body", chunk).into_down()), Some((400, "body")));
        assert_eq!(status(Error::new(ErrorType::InternalError)), Some((500, "internal")));
    }

    #[test]
    fn causes_quote_no_input() {
        let quoting = io::Error::other("Set-Cookie: session=secret");
        let errors = [
            Error::explain(ErrorType::InvalidHTTPHeader, "buf: Set-Cookie: session=secret"),
            Error::because(ErrorType::ReadError, "read `secret`", quoting),
            Error::because(ErrorType::ConnectError, "secret", io::Error::from_raw_os_error(libc::ECONNREFUSED)),
        ];
        let causes = errors.map(|error| cause(&error));
        assert!(causes.iter().all(|cause| !cause.contains("secret")), "{causes:?}");
        assert_eq!(causes[0], "InvalidHTTPHeader");
        assert!(causes[2].starts_with("ConnectError: Connection refused"), "{}", causes[2]);
    }
}
