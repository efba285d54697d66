//! A client of streams for `tap` and `doctor`: one connection, blocking, with a timeout for every wait.
//!
//! It reports items, and how a stream ended; its users decide about reconnecting. HTTP/1.1 only, without redirects.

mod body;
mod connection;
mod records;
mod stream;
mod target;
mod websocket;

use std::fmt;

pub use records::{Item, Kind};
pub use stream::{Asked, Choice, End, Step, Stream};
pub use target::Target;

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// HTTP/1.x.
    pub minor: u8,
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header; several values are joined by commas (RFC 9110 section 5.3).
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
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
    /// The server does not speak HTTP/1, or closed the connection.
    Broken(String),
    /// A response that is not a stream, with the beginning of its body.
    Refused(Head, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(formatter, "cannot connect: {why}"),
            Self::Unanswered => write!(formatter, "no answer came in time"),
            Self::Broken(why) => write!(formatter, "no answer of HTTP/1: {why}"),
            Self::Refused(head, body) => match detail(body) {
                Some(detail) => write!(formatter, "refused with {}: {detail}", head.status),
                None if is_no_stream(head) => {
                    let form = head.header("content-type").map(|form| format!(" ({form})")).unwrap_or_default();
                    write!(
                        formatter,
                        "no stream: the answer is {}{form}; the path is that of no stream route, or \
                                       another hop answers in its place",
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
