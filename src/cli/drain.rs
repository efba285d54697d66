//! `sidestream drain`: asks the process that runs on this host to drain, and waits.
//!
//! One request over plain HTTP/1.1 to its admin listener, written by hand: a client library would be the larger half of
//! it. While the answer is awaited, the process is probed: one that answers nothing is given up soon, since a preStop hook
//! that waits for it would only delay its restart. It starts and stops nothing itself.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::output::{note, print};
use crate::config::{self, ADMIN_LISTEN};

/// How long connecting may take: it is the same host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the process is probed while it drains.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How long the answer to a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Probes in a row without an answer after which the process is given up.
const PROBES_LOST_MAX: u32 = 2;
/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How much is read at once, in bytes.
const READ_BYTES: usize = 4 * 1024;

/// Why nothing was drained.
#[derive(Debug, thiserror::Error)]
enum Undrained {
    #[error("no sidestream answers there: {0}")]
    Unreachable(io::Error),
    #[error("still draining after {0:?}; the drain continues")]
    Timeout(Duration),
    #[error("the process accepts connections and answers nothing, not even `/livez`: it is stopped or hangs")]
    Unresponsive,
    #[error("the connection broke before it had drained: {0}")]
    Broken(io::Error),
    #[error("refused: {0}")]
    Refused(String),
    #[error("the server at this address is not sidestream")]
    Foreign,
}

/// Drains the process whose admin listener is `admin`, or else where this configuration says, or else where it is by
/// default. Says on standard output how many streams were ended, or on standard error what was tried and why not.
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

/// Where a configuration has the admin listener. A file that is broken by now is not what the process runs with, whose
/// listener may still be where it is by default.
fn configured(path: &Path) -> io::Result<(SocketAddr, String)> {
    match config::admin_listen(path) {
        Ok(listen) => Ok((listen, path.display().to_string())),
        Err(error) => {
            note(error)?;
            Ok((ADMIN_LISTEN, format!("the default, since {} says nothing valid", path.display())))
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
    let mut connection = connect(address, timeout.min(CONNECT_TIMEOUT)).map_err(Undrained::Unreachable)?;
    send(&mut connection, "POST /-/drain", address).map_err(Undrained::Broken)?;
    let (mut answer, mut lost) = (Vec::new(), 0);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Undrained::Timeout(timeout));
        }
        match read(&mut connection, left.min(PROBE_INTERVAL), &mut answer).map_err(Undrained::Broken)? {
            Came::Bytes if answer.len() <= ANSWER_BYTES_MAX => {}
            Came::End if answer.is_empty() => return Err(Undrained::Broken(ErrorKind::UnexpectedEof.into())),
            Came::Bytes | Came::End => return understand(&answer),
            Came::Nothing => {
                let left = deadline.saturating_duration_since(Instant::now());
                let answers = left.is_zero() || is_alive(address, left.min(PROBE_TIMEOUT));
                lost = if answers { 0 } else { lost + 1 };
                if lost >= PROBES_LOST_MAX {
                    return Err(Undrained::Unresponsive);
                }
            }
        }
    }
}

/// Whether the process answers anything at all.
fn is_alive(address: SocketAddr, patience: Duration) -> bool {
    let mut answer = Vec::new();
    let probe = connect(address, patience).and_then(|mut connection| {
        send(&mut connection, "GET /livez", address)?;
        read(&mut connection, patience, &mut answer)
    });
    probe.is_ok() && !answer.is_empty()
}

fn connect(address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address, patience)
}

fn send(connection: &mut TcpStream, line: &str, address: SocketAddr) -> io::Result<()> {
    let request = format!("{line} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())
}

/// What a read came to.
enum Came {
    Bytes,
    /// Nothing within the time allowed.
    Nothing,
    End,
}

fn read(connection: &mut TcpStream, patience: Duration, answer: &mut Vec<u8>) -> io::Result<Came> {
    connection.set_read_timeout(Some(patience))?;
    let mut bytes = [0; READ_BYTES];
    match connection.read(&mut bytes) {
        Ok(0) => Ok(Came::End),
        Ok(count) => {
            answer.extend_from_slice(&bytes[..count]);
            Ok(Came::Bytes)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(Came::Nothing),
        Err(error) => Err(error),
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
