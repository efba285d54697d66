//! Who may see and do what is for this host only. A person's browser counts as it, through `kubectl port-forward` too;
//! other sites' pages in that browser do not.

use std::net::IpAddr;

use http::Method;
use http::header::{HOST, HeaderMap, ORIGIN};
use http::uri::Authority;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::socket::SocketAddr;

/// Whether what is for this host only is for whoever asks.
pub(super) fn is_for(session: &ServerSession) -> bool {
    let ip = |address: Option<&SocketAddr>| Some(address?.as_inet()?.ip());
    let header = session.req_header();
    is_neighbour(ip(session.client_addr()), ip(session.server_addr())) && is_own(&header.method, &header.headers)
}

/// Whether the peer is on this host: it comes from loopback, or from the very address that it connected to.
fn is_neighbour(peer: Option<IpAddr>, local: Option<IpAddr>) -> bool {
    let (peer, local) = (peer.map(|ip| ip.to_canonical()), local.map(|ip| ip.to_canonical()));
    peer.is_some_and(|peer| peer.is_loopback() || Some(peer) == local)
}

/// Whether no other site's page asks. Such a page says its `Origin` where it sends something; where it made its own
/// name an address of ours (DNS rebinding), that name is the `Host`. Browsers leave the `Origin` out of a GET only, so
/// that who acts without one is none, and may call this host what they like.
fn is_own(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(HOST.as_str()).unwrap_or_default();
    let is_numbered = host.parse::<Authority>().is_ok_and(|authority| {
        let name = authority.host().trim_matches(['[', ']']);
        name == "localhost" || name.parse::<IpAddr>().is_ok()
    });
    let origin = text(ORIGIN.as_str());
    let is_no_browser = host.is_empty() || (origin.is_none() && method == Method::POST);
    let is_origin_ours = origin.is_none_or(|origin| origin.split_once("://").is_some_and(|(_, it)| it == host));
    let is_site_ours = text("sec-fetch-site").is_none_or(|site| ["same-origin", "none"].contains(&site));
    (is_numbered || is_no_browser) && is_origin_ours && is_site_ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_on_the_same_host() {
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for (peer, local) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.9", "10.0.0.1"),
            ("::1", "::1"),
            ("::ffff:127.0.0.1", "::1"),
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("fd00::1", "fd00::1"),
        ] {
            assert!(is_neighbour(ip(peer), ip(local)), "{peer} at {local}");
        }
        for (peer, local) in [("10.0.0.2", "10.0.0.1"), ("fd00::2", "fd00::1"), ("::ffff:10.0.0.2", "10.0.0.1")] {
            assert!(!is_neighbour(ip(peer), ip(local)), "{peer} at {local}");
        }
        assert!(!is_neighbour(None, None) && !is_neighbour(None, ip("127.0.0.1")));
    }

    #[test]
    fn other_sites_pages_are_not_this_host() {
        let headers = |pairs: &[(&'static str, &str)]| {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
        };
        for good in [
            &[][..],
            &[("host", "localhost:9090")],
            &[("host", "10.0.0.1:9090")],
            &[("host", "[::1]:9090"), ("origin", "http://[::1]:9090"), ("sec-fetch-site", "same-origin")],
        ] {
            assert!(is_own(&Method::GET, &headers(good)), "{good:?}");
        }
        for bad in [
            &[("host", "evil.example:9090")][..],
            &[("host", "localhost.evil.example")],
            &[("host", "localhost:9090"), ("origin", "https://evil.example")],
            &[("host", "localhost:9090"), ("origin", "http://localhost:3000")],
            &[("host", "localhost:9090"), ("origin", "null")],
            &[("host", "localhost:9090"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(!is_own(&Method::GET, &headers(bad)), "{bad:?}");
        }
        let named = [("host", "my-pod:9090"), ("origin", "http://my-pod:9090")];
        assert!(is_own(&Method::POST, &headers(&named[..1])) && !is_own(&Method::POST, &headers(&named)));
    }
}
