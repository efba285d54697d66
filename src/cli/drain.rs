//! `sidestream drain`: requests a drain from the process on this host, and waits for its end.
//!
//! It sends one request to the admin listener. While it waits for the response, it probes the process: a process that
//! does not respond to probes is abandoned soon, because a preStop hook that waited for it would only delay its
//! restart. This command starts and stops nothing itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use serde_json::Value;

use super::output::{note, print};
use crate::config::{self, ADMIN_LISTEN};
use crate::http_client::{HttpClient, RequestError, RequestLimits, Response};

/// The connect timeout: the process is on the same host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval of probes during a drain.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The timeout of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Consecutive probes without a response after which the process counts as hung.
const PROBES_LOST_MAX: u32 = 2;
/// The largest response, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
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
    let (address, origin) = match (admin, config) {
        (Some(admin), _) => (admin, "--admin".to_owned()),
        (None, Some(path)) => configured(path)?,
        (None, None) => (ADMIN_LISTEN, "the default; --admin ADDR or --config FILE says otherwise".to_owned()),
    };
    let address = from_here(address);
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

/// The address of the admin listener in a configuration. If the file is invalid, the process runs with an older one,
/// and its listener may be at the default address.
fn configured(path: &Path) -> io::Result<(SocketAddr, String)> {
    match config::admin_listen(path) {
        Ok(listen) => Ok((listen, path.display().to_string())),
        Err(error) => {
            note(error)?;
            Ok((ADMIN_LISTEN, format!("the default, since {} says nothing valid", path.display())))
        }
    }
}

/// The address at which this host reaches one of its own listeners.
fn from_here(mut listener: SocketAddr) -> SocketAddr {
    if listener.ip().is_unspecified() {
        let loopback =
            if listener.is_ipv4() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { IpAddr::from(Ipv6Addr::LOCALHOST) };
        listener.set_ip(loopback);
    }
    listener
}

fn ask(address: SocketAddr, timeout: Duration) -> Result<Value, Undrained> {
    let unready = |error: &dyn std::fmt::Display| Undrained::Unreachable(error.to_string());
    let client = HttpClient::new(timeout.min(CONNECT_TIMEOUT)).map_err(|error| unready(&error))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| unready(&error))?;
    runtime.block_on(async {
        tokio::select! {
            answer = request(&client, Method::POST, address, "/-/drain", timeout) => match answer {
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

async fn request(
    client: &HttpClient,
    method: Method,
    address: SocketAddr,
    path: &'static str,
    time: Duration,
) -> Result<Response, RequestError> {
    let uri = Uri::builder().scheme("http").authority(address.to_string()).path_and_query(path).build();
    let request = uri.and_then(|uri| Request::builder().method(method).uri(uri).body(Bytes::new()));
    let request = request.map_err(|error| RequestError::Broken(error.to_string()))?;
    client.send(request, RequestLimits { time, body: ANSWER_BYTES_MAX }).await
}

/// Completes when the process no longer responds to probes.
async fn hangs(client: &HttpClient, address: SocketAddr) {
    let mut lost = 0;
    while lost < PROBES_LOST_MAX {
        tokio::time::sleep(PROBE_INTERVAL).await;
        let answers = request(client, Method::GET, address, "/livez", PROBE_TIMEOUT).await.is_ok();
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
    fn a_listener_is_reached_over_loopback_unless_it_has_a_specific_address() {
        for (listener, address) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.1.2.3:9", "10.1.2.3:9"),
        ] {
            assert_eq!(from_here(listener.parse().unwrap()), address.parse().unwrap());
        }
    }

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
