//! `sidestream drain`: requests a drain from the process on this host, and waits for its end.
//!
//! It sends one request to the admin listener. While it waits for the response, it probes the process: a process that
//! does not respond to probes is abandoned soon, because a preStop hook that waited for it would only delay its
//! restart. This command starts and stops nothing itself.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

use super::neighbour::{self, CONNECT_TIMEOUT};
use super::output::{note, print};
use crate::http_client::{HttpClient, RequestError, Response};

/// The interval of probes during a drain.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The timeout of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Consecutive probes without a response after which the process counts as hung.
const PROBES_LOST_MAX: u32 = 2;
/// Why the drain did not complete.
#[derive(Debug, thiserror::Error)]
enum Undrained {
    #[error("no sidestream answers there: {0}")]
    Unreachable(String),
    #[error("still draining after {0:?}; the drain continues")]
    Timeout(Duration),
    #[error("the process accepts connections and answers nothing, not even `/livez`: it is stopped or hangs")]
    Unresponsive,
    #[error("the connection broke before it had drained: {0}")]
    Broken(String),
    #[error("refused: {0}")]
    Refused(String),
    #[error("the server at this address is not sidestream")]
    Foreign,
}

/// Drains the process whose admin listener is `admin`, or is at the configured or the default address. Prints the
/// number of ended streams to standard output, or the failure to standard error.
///
/// # Errors
///
/// The output cannot be written.
pub fn drain(config: Option<&Path>, admin: Option<SocketAddr>, timeout: Duration) -> io::Result<ExitCode> {
    let (address, origin) = neighbour::address(config, admin)?;
    match ask(address, timeout) {
        Ok(answer) => {
            let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
            let (streams, left, elapsed) = (number("streams"), number("left"), number("elapsed_ms"));
            print(format_args!("drained: {streams} streams in {elapsed} ms at {address}, of which {left} were cut"))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            note(format_args!("cannot drain {address} ({origin}): {error}"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn ask(address: SocketAddr, timeout: Duration) -> Result<Value, Undrained> {
    let unready = |error: &dyn std::fmt::Display| Undrained::Unreachable(error.to_string());
    let client = HttpClient::new(timeout.min(CONNECT_TIMEOUT)).map_err(|error| unready(&error))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| unready(&error))?;
    runtime.block_on(async {
        tokio::select! {
            answer = neighbour::request(&client, Method::POST, address, "/-/drain", Bytes::new(), timeout) => match answer {
                Ok(response) => understand(&response),
                Err(RequestError::Timeout(_)) => Err(Undrained::Timeout(timeout)),
                Err(RequestError::Connect(why)) => Err(Undrained::Unreachable(why)),
                Err(error @ RequestError::Broken(_)) => Err(Undrained::Broken(error.to_string())),
                Err(RequestError::TooLong(_)) => Err(Undrained::Foreign),
            },
            () = hangs(&client, address) => Err(Undrained::Unresponsive),
        }
    })
}

/// Completes when the process no longer responds to probes.
async fn hangs(client: &HttpClient, address: SocketAddr) {
    let mut lost = 0;
    while lost < PROBES_LOST_MAX {
        tokio::time::sleep(PROBE_INTERVAL).await;
        let answers =
            neighbour::request(client, Method::GET, address, "/livez", Bytes::new(), PROBE_TIMEOUT).await.is_ok();
        lost = if answers { 0 } else { lost + 1 };
    }
}

fn understand(response: &Response) -> Result<Value, Undrained> {
    let body: Option<Value> = serde_json::from_slice(&response.body).ok();
    match (response.status, body) {
        (StatusCode::OK, Some(body)) if body.get("streams").is_some() => Ok(body),
        (status, Some(body)) if status.as_u16() >= 400 => {
            let detail = body.get("detail").and_then(Value::as_str).unwrap_or("no reason is given");
            Err(Undrained::Refused(format!("{}, {detail}", status.as_u16())))
        }
        _ => Err(Undrained::Foreign),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_distinguished() {
        let answer = |status: StatusCode, body: &'static str| {
            understand(&Response { status, headers: http::HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) })
        };
        let drained = answer(StatusCode::OK, r#"{"streams":3,"left":0,"elapsed_ms":7}"#).unwrap();
        assert_eq!(drained["streams"], 3);
        let refused = answer(StatusCode::FORBIDDEN, r#"{"detail":"not from there"}"#).unwrap_err();
        assert_eq!(refused.to_string(), "refused: 403, not from there");
        for (status, foreign) in [(StatusCode::OK, "<html>"), (StatusCode::OK, "{}"), (StatusCode::NOT_FOUND, "")] {
            assert!(matches!(answer(status, foreign), Err(Undrained::Foreign)), "{foreign}");
        }
    }
}
