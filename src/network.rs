//! Networks of IP addresses, as a configuration lists them.

use std::net::IpAddr;

/// An address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, or a single address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(bits), |prefix| prefix.parse().ok())?;
        (prefix <= bits).then_some(Self { address, prefix })
    }

    /// An IPv4 address in an IPv6 socket (RFC 4291 section 2.5.5.2) counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (network, address, width) = match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => (u32::from(network).into(), u32::from(address).into(), 32),
            (IpAddr::V6(network), IpAddr::V6(address)) => (u128::from(network), u128::from(address), 128),
            _ => return false,
        };
        let ignored = width - u32::from(self.prefix).min(width);
        // A shift by the full width is `None`: prefix 0 contains every address.
        network.checked_shr(ignored).unwrap_or(0) == address.checked_shr(ignored).unwrap_or(0)
    }

    /// Whether it is larger than the largest network of private addresses: `10.0.0.0/8` (RFC 1918), `fc00::/7`
    /// (RFC 4193).
    pub fn is_public(&self) -> bool {
        self.prefix < if self.address.is_ipv4() { 8 } else { 7 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap()
    }

    #[test]
    fn a_network_contains_the_addresses_with_its_prefix() {
        let is_in = |text: &str, address: &str| network(text).contains(address.parse().unwrap());
        assert!(is_in("10.1.0.0/16", "10.1.255.255"));
        assert!(!is_in("10.1.0.0/16", "10.2.0.0"));
        assert!(is_in("10.1.0.0/16", "::ffff:10.1.0.9"));
        assert!(is_in("0.0.0.0/0", "203.0.113.9"));
        assert!(is_in("192.0.2.1", "192.0.2.1"));
        assert!(!is_in("192.0.2.1/32", "192.0.2.2"));
        assert!(is_in("2001:db8::/32", "2001:db8:1::1"));
        assert!(is_in("::/0", "::1"));
        assert!(!is_in("::/0", "10.0.0.1"));
    }

    #[test]
    fn what_is_no_network() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "all"] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_network_that_only_the_internet_fills_is_public() {
        for (text, is_public) in [("0.0.0.0/0", true), ("128.0.0.0/1", true), ("::/0", true), ("2000::/3", true)] {
            assert_eq!(network(text).is_public(), is_public, "{text}");
        }
        assert!(!network("10.0.0.0/8").is_public() && !network("fc00::/7").is_public());
    }
}
