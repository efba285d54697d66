//! Addresses that lead back to sidestream itself, judged by their text without a resolver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whether two listeners cannot be bound at the same time. Port 0 selects a free port.
pub(super) fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let is_of_all = |ip: IpAddr, other: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || other.is_ipv4());
    one.port() == other.port() && one.port() != 0 && (a == b || is_of_all(a, b) || is_of_all(b, a))
}

/// Whether a connection to this `host:port` reaches the listener.
pub(super) fn leads_to(target: &str, listener: SocketAddr) -> bool {
    let Some((host, port)) = target.rsplit_once(':') else { return false };
    let is_port = port.parse() == Ok(listener.port()) && listener.port() != 0;
    is_port && addresses(host.trim_matches(['[', ']'])).into_iter().any(|ip| reaches(ip, listener.ip().to_canonical()))
}

/// The addresses of a host name that are the same everywhere.
fn addresses(host: &str) -> Vec<IpAddr> {
    const LOCAL: [&str; 4] = ["localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"];
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(ip) => vec![ip.to_canonical()],
        Err(_) if LOCAL.contains(&&*name) || name.ends_with(".localhost") => {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        Err(_) => Vec::new(),
    }
}

/// A connection to the unspecified address reaches this host. A listener on it accepts every address of its family, and
/// the IPv6 one accepts both families.
fn reaches(ip: IpAddr, listener: IpAddr) -> bool {
    let is_here = ip.is_loopback() || ip.is_unspecified();
    let is_family = listener.is_ipv6() || ip.is_ipv4();
    ip == listener
        || (is_here && is_family && listener.is_unspecified())
        || (ip.is_unspecified() && listener.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_that_cannot_be_bound_together() {
        let clash = |one: &str, other: &str| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(clash(one, other), clash(other, one));
            clash(one, other)
        };
        for (one, other) in [
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "0.0.0.0:1"),
            ("[::]:1", "10.0.0.1:1"),
            ("[::1]:1", "[::]:1"),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1"),
        ] {
            assert!(clash(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("0.0.0.0:1", "0.0.0.0:2"),
            ("127.0.0.1:1", "127.0.0.2:1"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("0.0.0.0:1", "[::1]:1"),
        ] {
            assert!(!clash(one, other), "{one} {other}");
        }
    }

    #[test]
    fn targets_that_are_the_listener() {
        let leads = |target: &str, listener: &str| leads_to(target, listener.parse().unwrap());
        for (target, listener) in [
            ("127.0.0.1:8080", "0.0.0.0:8080"),
            ("127.0.0.9:8080", "0.0.0.0:8080"),
            ("localhost:8080", "0.0.0.0:8080"),
            ("LOCALHOST.:8080", "127.0.0.1:8080"),
            ("localhost:8080", "[::1]:8080"),
            ("[::1]:8080", "[::]:8080"),
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("0.0.0.0:8080", "0.0.0.0:8080"),
            ("127.0.0.1:8080", "[::]:8080"),
            ("10.0.0.1:8080", "10.0.0.1:8080"),
        ] {
            assert!(leads(target, listener), "{target} {listener}");
        }
        for (target, listener) in [
            ("127.0.0.1:3000", "0.0.0.0:8080"),
            ("app:8080", "0.0.0.0:8080"),
            ("10.0.0.1:8080", "0.0.0.0:8080"),
            ("127.0.0.1:8080", "10.0.0.1:8080"),
            ("[::1]:8080", "0.0.0.0:8080"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ] {
            assert!(!leads(target, listener), "{target} {listener}");
        }
    }
}
