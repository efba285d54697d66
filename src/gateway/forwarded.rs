//! The header fields that state where a request came from. `X-Forwarded-For`, `-Proto` and `-Host` are extended if the
//! client is a trusted proxy, and replaced if it is not. All other such fields are forwarded from trusted clients only.
//! The standard `Forwarded` header (RFC 7239) is not written.

use std::net::{IpAddr, SocketAddr};

use http::header::HOST;
use http::{HeaderMap, HeaderValue};
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use crate::auth::ClientCertificates;
use crate::config::snapshot::ForwardedTrust;

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const HOST_NAME: &str = "x-forwarded-host";

/// Fields by which proxies state the client's identity or the original request, in addition to those with one of
/// [`CLAIM_PREFIXES`]. Lower case, with hyphens.
const CLAIMS: [&str; 26] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "cluster-client-ip",
    "do-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "front-end-https",
    "proxy",
    "proxy-client-ip",
    "remote-addr",
    "remote-user",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-host-override",
    "x-url-scheme",
];
const CLAIM_PREFIXES: [&str; 11] = [
    "ssl-client-",
    "x-amzn-mtls-",
    "x-appengine-user-",
    "x-envoy-external-",
    "x-envoy-original-",
    "x-forwarded",
    "x-original-",
    "x-real-",
    "x-remote-",
    "x-rewrite-",
    "x-ssl-client-",
];

/// Sets the fields of a request from `client`, whose connection is encrypted or not.
pub(super) fn forward(
    request: &mut RequestHeader,
    client: Option<IpAddr>,
    is_encrypted: bool,
    trust: &ForwardedTrust,
) -> pingora::Result<()> {
    if !client.is_some_and(|client| is_trusted(trust, client)) {
        remove_claims(request);
    }
    if let Some(client) = client {
        let chain = chain(request, client.to_canonical());
        request.insert_header(FOR, chain)?;
    }
    if !request.headers.contains_key(PROTO) {
        request.insert_header(PROTO, if is_encrypted { "https" } else { "http" })?;
    }
    if let Some(host) = request.headers.get(HOST).cloned().filter(|_| !request.headers.contains_key(HOST_NAME)) {
        request.insert_header(HOST_NAME, host)?;
    }
    Ok(())
}

/// Whether the client's connection is encrypted.
pub(super) fn is_encrypted(session: &Session) -> bool {
    session.digest().is_some_and(|digest| digest.ssl_digest.is_some())
}

/// The address of the client: the last one of `X-Forwarded-For` that no trusted proxy has, or the peer's own.
pub(super) fn client(headers: &HeaderMap, peer: IpAddr, trust: &ForwardedTrust) -> IpAddr {
    let mut lines: Vec<_> = headers.get_all(FOR).iter().map(HeaderValue::as_bytes).collect();
    lines.reverse();
    let mut hops = lines.iter().flat_map(|line| line.rsplit(|byte| *byte == b',')).map(hop_address);
    let mut client = peer.to_canonical();
    while is_trusted(trust, client)
        && let Some(Some(hop)) = hops.next()
    {
        client = hop;
    }
    client
}

/// The address of one hop, which some proxies write with the port or, for IPv6, in brackets.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(with_port).or_else(in_brackets)
}

/// Removes the fields that describe client certificates, unless the client is a proxy that is trusted to set them. It
/// sets them as they are named: other spellings that applications may confuse with them are the client's own.
pub(super) fn remove_certificates(
    request: &mut RequestHeader,
    client: Option<IpAddr>,
    certificates: &ClientCertificates,
) {
    let is_trusted = client.is_some_and(|client| certificates.is_trusted(client));
    let is_set = |name: &str| is_trusted && certificates.fields().any(|field| field.as_str() == name);
    let fields: Vec<_> = certificates.fields().map(|field| hyphenated(field.as_str())).collect();
    remove(request, |name| fields.contains(&hyphenated(name)) && !is_set(name));
}

fn is_trusted(trust: &ForwardedTrust, client: IpAddr) -> bool {
    match trust {
        ForwardedTrust::Nobody => false,
        ForwardedTrust::Everybody => true,
        ForwardedTrust::Networks(networks) => networks.iter().any(|network| network.contains(client)),
    }
}

/// Removes every field by which an untrusted client could forge the origin of a request.
fn remove_claims(request: &mut RequestHeader) {
    remove(request, is_claim);
}

fn remove(request: &mut RequestHeader, is_removed: impl Fn(&str) -> bool) {
    let names: Vec<_> = request.headers.keys().filter(|name| is_removed(name.as_str())).cloned().collect();
    for name in &names {
        request.remove_header(name);
    }
}

/// Servers that pass fields on as variables (CGI, WSGI, Rack) treat an underscore as a hyphen.
fn hyphenated(name: &str) -> String {
    name.replace('_', "-")
}

/// Whether a field of this name is such a claim.
fn is_claim(name: &str) -> bool {
    let name = hyphenated(name);
    CLAIMS.contains(&&*name) || CLAIM_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The addresses so far, followed by the client's own.
fn chain(request: &RequestHeader, client: IpAddr) -> HeaderValue {
    let mut chain = Vec::new();
    for value in request.headers.get_all(FOR) {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(client.to_string().as_bytes());
    // Valid header values joined by commas and spaces are a valid header value, so that the fallback is not reached.
    HeaderValue::from_bytes(&chain).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    fn forwarded(trust: &ForwardedTrust, client: &str, headers: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.insert_header(HOST, "api.example").unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        forward(&mut request, Some(client.parse().unwrap()), false, trust).unwrap();
        let all =
            |name| request.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join("|");
        [FOR, PROTO, HOST_NAME, "x-forwarded-port", "forwarded"].map(all).to_vec()
    }

    const CLAIMS: [(&str, &str); 6] = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-port", "443"),
        ("forwarded", "for=1.1.1.1"),
    ];

    #[test]
    fn fields_of_untrusted_clients_are_replaced() {
        assert_eq!(
            forwarded(&ForwardedTrust::Nobody, "10.0.0.9", &CLAIMS),
            ["10.0.0.9", "http", "api.example", "", ""]
        );
    }

    #[test]
    fn trusted_proxies_are_extended() {
        let networks = ForwardedTrust::Networks([Network::parse("10.0.0.0/8").unwrap()].into());
        for trust in [ForwardedTrust::Everybody, networks] {
            assert_eq!(
                forwarded(&trust, "::ffff:10.0.0.9", &CLAIMS),
                ["1.1.1.1, 2.2.2.2, 10.0.0.9", "https", "shop.example", "443", "for=1.1.1.1"]
            );
            assert_eq!(forwarded(&trust, "10.0.0.9", &[]), ["10.0.0.9", "http", "api.example", "", ""]);
        }
    }

    #[test]
    fn an_encrypted_connection_is_https() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        forward(&mut request, Some("10.0.0.9".parse().unwrap()), true, &ForwardedTrust::Nobody).unwrap();
        assert_eq!(request.headers[PROTO], "https");
    }

    #[test]
    fn the_client_is_the_last_address_that_no_trusted_proxy_has() {
        let networks = ForwardedTrust::Networks([Network::parse("10.0.0.0/8").unwrap()].into());
        let cases: [(&ForwardedTrust, &str, &[&str], &str); 11] = [
            (&networks, "203.0.113.9", &["1.1.1.1"], "203.0.113.9"),
            (&networks, "::ffff:10.0.0.9", &["1.1.1.1, 2.2.2.2"], "2.2.2.2"),
            (&networks, "10.0.0.9", &["1.1.1.1", "2.2.2.2,10.0.0.8"], "2.2.2.2"),
            (&networks, "10.0.0.9", &[], "10.0.0.9"),
            (&networks, "10.0.0.9", &["1.1.1.1, unknown"], "10.0.0.9"),
            (&networks, "10.0.0.9", &["2001:db8::1"], "2001:db8::1"),
            (&networks, "10.0.0.9", &["1.1.1.1, 2.2.2.2:4711"], "2.2.2.2"),
            (&networks, "10.0.0.9", &["[2001:db8::1]:4711, 10.0.0.8:80"], "2001:db8::1"),
            (&networks, "10.0.0.9", &["\u{e9}, [2001:db8::1]"], "2001:db8::1"),
            (&ForwardedTrust::Everybody, "10.0.0.9", &["1.1.1.1, 2.2.2.2"], "1.1.1.1"),
            (&ForwardedTrust::Nobody, "10.0.0.9", &["1.1.1.1"], "10.0.0.9"),
        ];
        for (trust, peer, lines, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FOR, HeaderValue::from_str(line).unwrap());
            }
            assert_eq!(client(&headers, peer.parse().unwrap(), trust).to_string(), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn claims_by_any_name() {
        for name in [
            "forwarded",
            "x-forwarded",
            "x_forwarded_for",
            "x-forwarded_proto",
            "x-forwarded-client-cert",
            "ssl_client_subject_dn",
            "x-amzn-mtls-clientcert-leaf",
            "client-cert",
            "x-real-ip",
            "x_real_ip",
            "true-client-ip",
            "cf_connecting_ip",
            "x-original-url",
            "x-rewrite-url",
            "x-original-forwarded-for",
            "proxy",
        ] {
            assert!(is_claim(name), "{name}");
        }
        for name in ["x-real", "x-request-id", "x-custom", "origin", "via", "x-forward", "authorization", "host"] {
            assert!(!is_claim(name), "{name}");
        }
    }
}
