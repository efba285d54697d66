//! Requests to the admin listener of the process on this host: for `drain` and `explain`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Uri};

use super::output::note;
use crate::config::{self, ADMIN_LISTEN};
use crate::http_client::{HttpClient, RequestError, RequestLimits, Response};

/// The connect timeout: the process is on the same host.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest response, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The address of the admin listener and where it comes from: the argument, a configuration, or the default.
///
/// # Errors
///
/// A diagnostic cannot be written.
pub(super) fn address(config: Option<&Path>, admin: Option<SocketAddr>) -> io::Result<(SocketAddr, String)> {
    let (address, origin) = match (admin, config) {
        (Some(admin), _) => (admin, "--admin".to_owned()),
        (None, Some(path)) => configured(path)?,
        (None, None) => (ADMIN_LISTEN, "the default; --admin ADDR or --config FILE says otherwise".to_owned()),
    };
    Ok((from_here(address), origin))
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

/// Sends a request, and waits for the response.
pub(super) async fn request(
    client: &HttpClient,
    method: Method,
    address: SocketAddr,
    path: &'static str,
    body: Bytes,
    time: Duration,
) -> Result<Response, RequestError> {
    let uri = Uri::builder().scheme("http").authority(address.to_string()).path_and_query(path).build();
    let request = uri.and_then(|uri| Request::builder().method(method).uri(uri).body(body));
    let request = request.map_err(|error| RequestError::Broken(error.to_string()))?;
    client.send(request, RequestLimits { time, body: ANSWER_BYTES_MAX }).await
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
}
