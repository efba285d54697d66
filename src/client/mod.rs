//! A client of streams for `tap` and `doctor`: one connection, blocking, with a timeout for every wait.
//!
//! It reports items, and how a stream ended; its users decide about reconnecting. [`crate::http_client`] connects and
//! reads responses.

mod body;
mod records;
mod stream;
mod target;
mod websocket;

use std::fmt;

use http::{HeaderMap, Version, response};

use crate::http_client::RequestError;

pub use records::{Item, Kind};
pub use stream::{Asked, Choice, End, Step, Stream};
pub use target::Target;

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// HTTP/1.x.
    pub minor: u8,
    pub status: u16,
    pub headers: Box<HeaderMap>,
}

impl Head {
    fn of(head: &response::Parts) -> Self {
        let minor = u8::from(head.version != Version::HTTP_10);
        Self { minor, status: head.status.as_u16(), headers: Box::new(head.headers.clone()) }
    }

    /// The value of a header; several values are joined by commas (RFC 9110 section 5.3).
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.headers.get_all(name).iter();
        let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// Whether a list-based header contains this member.
    pub fn names(&self, header: &str, member: &str) -> bool {
        let value = self.header(header).unwrap_or_default();
        value.split(',').any(|one| one.trim().eq_ignore_ascii_case(member))
    }
}

/// Why there is no stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection, or no trusted one.
    Unreachable(String),
    /// No complete response head within the time limit.
    Unanswered,
    /// The response is not valid HTTP/1, or the connection was closed.
    Broken(String),
    /// A response that is not a stream, with the beginning of its body.
    Refused(Head, String),
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Connect(why) => Self::Unreachable(why),
            RequestError::Timeout(_) => Self::Unanswered,
            RequestError::Broken(why) => Self::Broken(why),
            RequestError::TooLong(_) => Self::Broken(error.to_string()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(formatter, "cannot connect: {why}"),
            Self::Unanswered => write!(formatter, "no response within the time limit"),
            Self::Broken(why) => write!(formatter, "invalid response: {why}"),
            Self::Refused(head, body) => match detail(body) {
                Some(detail) => write!(formatter, "refused with {}: {detail}", head.status),
                None if is_no_stream(head) => {
                    let form = head.header("content-type").map(|form| format!(" ({form})")).unwrap_or_default();
                    write!(
                        formatter,
                        "not a stream: the response is {}{form}; the path is not that of a stream route, or another hop \
                         responds in its place",
                        head.status
                    )
                }
                None => write!(formatter, "refused with {}", head.status),
            },
        }
    }
}

/// A response of another server: sidestream would send a problem document.
fn is_no_stream(head: &Head) -> bool {
    matches!(head.status, 200..=399 | 404 | 405)
}

/// The `detail` of a problem document (RFC 9457).
fn detail(body: &str) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(problem.get("detail")?.as_str()?.to_owned())
}
