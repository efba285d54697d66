//! `sidestream drain`: asks the process that runs on this host to drain, and waits.
//!
//! One request over plain HTTP/1.1 to its admin listener, written by hand: a client library would be the larger half of
//! it. It starts and stops nothing itself.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::say;
use crate::config::{self, ADMIN_LISTEN};

/// How long connecting may take: it is the same host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Why nothing was drained.
#[derive(Debug, thiserror::Error)]
enum Undrained {
    #[error("no sidestream answers there: {0}")]
    Unreachable(io::Error),
    #[error("still draining after {0:?}; it goes on by itself")]
    Timeout(Duration),
    #[error("the connection broke before it had drained: {0}")]
    Broken(io::Error),
    #[error("refused: {0}")]
    Refused(String),
    #[error("what answers there is no sidestream")]
    Foreign,
}

/// Drains the process whose admin listener is `admin`, or else where this configuration says, or else where it is by
/// default. Says on standard output how many streams were ended, or on standard error what was tried and why not.
pub fn drain(config: Option<&Path>, admin: Option<SocketAddr>, timeout: Duration) -> ExitCode {
    let (address, origin) = match (admin, config) {
        (Some(admin), _) => (admin, "--admin".to_owned()),
        (None, Some(path)) => configured(path),
        (None, None) => (ADMIN_LISTEN, "the default; --admin ADDR or --config FILE says otherwise".to_owned()),
    };
    let address = from_here(address);
    match ask(address, timeout) {
        Ok(answer) => {
            let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
            let (streams, left, elapsed) = (number("streams"), number("left"), number("elapsed_ms"));
            say(io::stdout(), format_args!("drained: {streams} streams in {elapsed} ms, of which {left} were cut"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(io::stderr(), format_args!("cannot drain {address} ({origin}): {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Where a configuration has the admin listener. A file that is broken by now is not what the process runs with, whose
/// listener may still be where it is by default.
fn configured(path: &Path) -> (SocketAddr, String) {
    match config::read(path).snapshot {
        Ok(snapshot) => (snapshot.admin, path.display().to_string()),
        Err(error) => {
            say(io::stderr(), error);
            (ADMIN_LISTEN, format!("the default, since {} says nothing valid", path.display()))
        }
    }
}

/// The address under which a listener of this host is reached from it.
fn from_here(mut listener: SocketAddr) -> SocketAddr {
    if listener.ip().is_unspecified() {
        let loopback =
            if listener.is_ipv4() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { IpAddr::from(Ipv6Addr::LOCALHOST) };
        listener.set_ip(loopback);
    }
    listener
}

fn ask(address: SocketAddr, timeout: Duration) -> Result<Value, Undrained> {
    let deadline = Instant::now() + timeout;
    let mut connection =
        TcpStream::connect_timeout(&address, timeout.min(CONNECT_TIMEOUT)).map_err(Undrained::Unreachable)?;
    let request =
        format!("POST /-/drain HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).map_err(Undrained::Broken)?;
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    // The answer comes at once when it comes.
    connection.set_read_timeout(Some(left)).map_err(Undrained::Broken)?;
    let mut answer = Vec::new();
    match connection.take(ANSWER_BYTES_MAX).read_to_end(&mut answer) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(Undrained::Timeout(timeout))
        }
        Err(error) => Err(Undrained::Broken(error)),
        Ok(0) => Err(Undrained::Broken(ErrorKind::UnexpectedEof.into())),
        Ok(_) => understand(&answer),
    }
}

fn understand(answer: &[u8]) -> Result<Value, Undrained> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = head.parse(answer) else { return Err(Undrained::Foreign) };
    let body: Option<Value> = serde_json::from_slice(&answer[length..]).ok();
    match (head.code, body) {
        (Some(200), Some(body)) if body.get("streams").is_some() => Ok(body),
        (Some(status @ 400..), Some(body)) => {
            let detail = body.get("detail").and_then(Value::as_str).unwrap_or("no reason is given");
            Err(Undrained::Refused(format!("{status}, {detail}")))
        }
        _ => Err(Undrained::Foreign),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_reached_over_loopback_unless_it_has_an_address_of_its_own() {
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
    fn answers_are_told_apart() {
        let drained = understand(b"HTTP/1.1 200 OK\r\n\r\n{\"streams\":3,\"left\":0,\"elapsed_ms\":7}").unwrap();
        assert_eq!(drained["streams"], 3);
        let refused = understand(b"HTTP/1.1 403 Forbidden\r\n\r\n{\"detail\":\"not from there\"}").unwrap_err();
        assert_eq!(refused.to_string(), "refused: 403, not from there");
        for foreign in ["HTTP/1.1 200 OK\r\n\r\n<html>", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\n\r\n{}", "HTTP/1.1 404"] {
            assert!(matches!(understand(foreign.as_bytes()), Err(Undrained::Foreign)), "{foreign}");
        }
    }
}
