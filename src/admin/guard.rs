//! Access control for the functions that are limited to this host: local processes, and a user's browser or tool
//! through `kubectl port-forward`. Pages of other sites in that browser are excluded, and so are requests that a
//! service mesh forwards.
//!
//! The addresses show that a connection was made within this network namespace. A mesh's proxy makes such connections
//! as well, on behalf of others: from 127.0.0.6 (Istio), from the pod's own address (Linkerd), or from 127.0.0.1
//! (before Istio 1.10). The first two are not the loopback address; the last is detected by the `Host` and by the
//! fields that proxies add. A mesh that forwards bytes instead of requests from 127.0.0.1 cannot be distinguished from
//! this host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{FORWARDED, HOST, HeaderMap, HeaderName, ORIGIN, VIA};
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::socket::SocketAddr;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The prefixes of the fields that proxies add.
const PROXIES: [&str; 5] = ["x-forwarded", "x-envoy-", "x-real-ip", "x-b3-", "l5d-"];

/// Whether the client may use the functions that are limited to this host.
pub(super) fn is_for(session: &ServerSession) -> bool {
    let ip = |address: Option<&SocketAddr>| Some(address?.as_inet()?.ip());
    let header = session.req_header();
    is_neighbour(ip(session.client_addr()), ip(session.server_addr())) && is_own(&header.headers)
}

/// Whether both ends of the connection are this host's loopback address: not another address of 127.0.0.0/8, and not
/// one that the pod shares with a mesh's proxy.
fn is_neighbour(peer: Option<IpAddr>, local: Option<IpAddr>) -> bool {
    let (peer, local) = (peer.map(|ip| ip.to_canonical()), local.map(|ip| ip.to_canonical()));
    peer == local && peer.is_some_and(|peer| is_loopback(&peer))
}

fn is_loopback(ip: &IpAddr) -> bool {
    [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)].contains(ip)
}

/// Whether the request comes neither from a page of another site nor from a proxy. Such a page sends its `Origin` with
/// requests that have effects. With DNS rebinding, its own name is the `Host`. A repeated field is rejected.
fn is_own(headers: &HeaderMap) -> bool {
    let [Ok(host), Ok(origin), Ok(site)] = [HOST, ORIGIN, SEC_FETCH_SITE].map(|name| single(headers, &name)) else {
        return false;
    };
    let is_own_host = host.is_none_or(|host| host.is_empty() || names_loopback(host));
    let is_own_origin = origin.is_none_or(|origin| origin.split_once("://").is_some_and(|(_, it)| Some(it) == host));
    let is_own_site = site.is_none_or(|site| ["same-origin", "none"].contains(&site));
    is_own_host && is_own_origin && is_own_site && !is_passed_on(headers)
}

/// The value of a field that may occur once; an error if it is repeated or not text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(only), None) => only.to_str().map(Some).map_err(drop),
        _ => Err(()),
    }
}

/// `localhost` or a loopback address, with or without a port.
fn names_loopback(host: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let (name, port) = match host.strip_prefix('[') {
        Some(literal) => match literal.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, rest)) => match rest.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None => return false,
            },
            None => return false,
        },
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let is_ours = name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip| is_loopback(&ip));
    is_ours && port.is_none_or(is_port)
}

/// Whether a proxy forwards the request.
fn is_passed_on(headers: &HeaderMap) -> bool {
    let is_proxys = |name: &HeaderName| {
        [FORWARDED, VIA].contains(name)
            || PROXIES.iter().any(|prefix| name.as_str().replace('_', "-").starts_with(prefix))
    };
    headers.keys().any(is_proxys)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_same_host_is_recognized() {
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for (peer, local) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::ffff:127.0.0.1", "::ffff:127.0.0.1")] {
            assert!(is_neighbour(ip(peer), ip(local)), "{peer} at {local}");
        }
        for (peer, local) in [
            ("127.0.0.6", "127.0.0.1"),
            ("127.0.0.6", "127.0.0.6"),
            ("127.0.0.1", "10.0.0.1"),
            ("127.0.0.6", "10.0.0.1"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.2", "10.0.0.1"),
            ("fd00::1", "fd00::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
        ] {
            assert!(!is_neighbour(ip(peer), ip(local)), "{peer} at {local}");
        }
        assert!(!is_neighbour(None, None) && !is_neighbour(None, ip("127.0.0.1")));
    }

    #[test]
    fn requests_of_other_sites_and_proxies_are_rejected() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            headers
        };
        for good in [
            &[][..],
            &[("host", "")],
            &[("host", "localhost:9090")],
            &[("host", "LocalHost")],
            &[("host", "127.0.0.1:9090")],
            &[("host", "[::1]:9090"), ("origin", "http://[::1]:9090"), ("sec-fetch-site", "same-origin")],
        ] {
            assert!(is_own(&headers(good)), "{good:?}");
        }
        for bad in [
            &[("host", "evil.example:9090")][..],
            &[("host", "my-pod:9090")],
            &[("host", "10.0.0.1:9090")],
            &[("host", "127.0.0.6")],
            &[("host", "localhost.evil.example")],
            &[("host", "[::1]x")],
            &[("host", "[::1]:x")],
            &[("host", "[::1")],
            &[("host", "::1")],
            &[("host", "localhost:9090:1")],
            &[("host", "localhost"), ("host", "localhost")],
            &[("host", "localhost:9090"), ("origin", "https://evil.example")],
            &[("host", "localhost:9090"), ("origin", "http://localhost:3000")],
            &[("host", "localhost:9090"), ("origin", "null")],
            &[("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://evil.example")],
            &[("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://localhost")],
            &[("host", "localhost:9090"), ("sec-fetch-site", "cross-site")],
            &[("host", "localhost"), ("x-forwarded-for", "10.0.0.2")],
            &[("host", "localhost"), ("x_forwarded_for", "10.0.0.2")],
            &[("host", "localhost"), ("x-envoy-decorator-operation", "x")],
            &[("host", "localhost"), ("forwarded", "for=10.0.0.2")],
            &[("host", "localhost"), ("via", "1.1 front")],
        ] {
            assert!(!is_own(&headers(bad)), "{bad:?}");
        }
    }
}
