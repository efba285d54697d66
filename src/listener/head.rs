//! The head of a request: finds its end, and rejects heads that recipients could interpret differently (RFC 9112
//! sections 2 to 6).
//!
//! It examines bytes only and does not depend on Pingora, because a fuzz target compiles it alone. It is stricter than
//! Pingora's parser, and never repairs an ambiguous head.

use std::net::Ipv6Addr;

use bytes::BytesMut;
use http::StatusCode;

use super::framing::{Chunks, Framing};
use crate::problem::Problem;

/// The longest head, in bytes.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The most header fields of a head.
pub const HEADER_FIELDS_MAX: usize = 100;
/// The longest request target, in bytes.
pub const TARGET_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a target that `http::Uri` rejects in a path or a query. It accepts a backquote in a query, where encoding
/// it is harmless.
const UNREADABLE: &[u8] = b"\"<>`";

/// Why a head is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    #[error("the request is not HTTP/1.1 syntax")]
    Syntax,
    #[error("lines of a request head end with CR LF")]
    BareNewline,
    #[error("the request target is not an HTTP request target")]
    Target,
    #[error("the request target is longer than {TARGET_BYTES_MAX} bytes")]
    TargetTooLong,
    #[error("this server does not speak this version of HTTP")]
    Version,
    #[error("CONNECT is not offered")]
    Connect,
    #[error("exactly one valid Host is required")]
    Host,
    #[error("Content-Length must be given once, in digits")]
    ContentLength,
    #[error("a transfer coding other than a single `chunked`, or one beside Content-Length, is not accepted")]
    TransferEncoding,
    #[error("the request head is longer than {HEAD_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the request head has more than {HEADER_FIELDS_MAX} fields")]
    TooManyFields,
    #[error("the request head took too long")]
    Timeout,
}

impl BadHead {
    /// The label value in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::BareNewline => "bare-newline",
            Self::Target => "target",
            Self::TargetTooLong => "target-too-long",
            Self::Version => "version",
            Self::Connect => "connect",
            Self::Host => "host",
            Self::ContentLength => "content-length",
            Self::TransferEncoding => "transfer-encoding",
            Self::TooLarge => "head-too-large",
            Self::TooManyFields => "too-many-fields",
            Self::Timeout => "head-timeout",
        }
    }

    pub fn problem(self) -> Problem {
        Problem::new(self.status(), self.to_string())
    }

    fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Connect => StatusCode::NOT_IMPLEMENTED,
            Self::TooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// The position after the head's empty line, if `bytes` contains it. The caller has searched the bytes before `from`.
pub(super) fn end(bytes: &[u8], from: usize) -> Option<usize> {
    // The empty line may begin up to three bytes before `from`.
    let from = from.saturating_sub(3).min(bytes.len());
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|at| {
        let next = from + at + 1;
        match &bytes[next..] {
            [b'\n', ..] => Some(next + 1),
            [b'\r', b'\n', ..] => Some(next + 2),
            _ => None,
        }
    })
}

/// Makes the head readable for Pingora, whose parser rejects some bytes of a target that HTTP forbids but clients send
/// and servers accept. Only those bytes are percent-encoded, which preserves the meaning (RFC 3986 section 2.1).
pub(super) fn readable(head: BytesMut) -> BytesMut {
    let line = memchr::memchr(b'\r', &head).unwrap_or(head.len());
    let is_readable = |byte: &u8| !UNREADABLE.contains(byte);
    if head[..line].iter().all(is_readable) {
        return head;
    }
    let mut readable = BytesMut::with_capacity(head.len() + 64);
    for byte in &head[..line] {
        match is_readable(byte) {
            true => readable.extend_from_slice(&[*byte]),
            false => readable.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    readable.extend_from_slice(&head[line..]);
    readable
}

/// Checks a complete head and returns the framing of its body.
pub(super) fn check(head: &[u8]) -> Result<Framing, BadHead> {
    if memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r') {
        return Err(BadHead::BareNewline);
    }
    let mut fields = [httparse::EMPTY_HEADER; HEADER_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(BadHead::Syntax),
        Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooManyFields),
        Err(httparse::Error::Version) if has_other_version(head) => return Err(BadHead::Version),
        Err(_) => return Err(bad_line(head)),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(BadHead::Syntax);
    };
    let fields = Fields(request.headers);
    if method == "CONNECT" {
        return Err(BadHead::Connect);
    }
    check_host(check_target(method, target)?, fields, version)?;
    framing(fields, version)
}

/// The fields of a head.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn all(self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The value of a field that may occur at most once.
    fn single(self, name: &'static str) -> Result<Option<&'a [u8]>, ()> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(()),
        }
    }
}

/// Whether the request line is well-formed except for an unsupported HTTP version.
fn has_other_version(head: &[u8]) -> bool {
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|&b| b == b' ');
    matches!((parts.nth(2), parts.next()), (Some(version), None) if version.starts_with(b"HTTP/"))
}

/// Distinguishes an invalid target from other syntax errors.
fn bad_line(head: &[u8]) -> BadHead {
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    let blanks = line.iter().filter(|&&b| b == b' ').count();
    let strange = line.iter().any(|&b| !(b' '..0x7f).contains(&b));
    if blanks > 2 || strange { BadHead::Target } else { BadHead::Syntax }
}

/// Checks the target (RFC 9112 section 3.2) and returns its authority, if it has one.
pub(super) fn check_target<'a>(method: &str, target: &'a str) -> Result<Option<&'a str>, BadHead> {
    if target.len() > TARGET_BYTES_MAX {
        return Err(BadHead::TargetTooLong);
    }
    if target.bytes().any(|b| !(b'!'..=b'~').contains(&b) || b == b'#') {
        return Err(BadHead::Target);
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok(None);
    }
    let absolute = ["http://", "https://"].iter().find_map(|scheme| {
        let start = target.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then(|| &target[scheme.len()..])
    });
    let rest = absolute.ok_or(BadHead::Target)?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.is_empty() { Err(BadHead::Target) } else { Ok(Some(authority)) }
}

/// RFC 9112 section 3.2: HTTP/1.1 requires one `Host`, which must equal the authority of an absolute target.
fn check_host(authority: Option<&str>, fields: Fields<'_>, version: u8) -> Result<(), BadHead> {
    let host = fields.single("host").map_err(|()| BadHead::Host)?;
    let Some(host) = host else {
        return if version == 0 { Ok(()) } else { Err(BadHead::Host) };
    };
    let agrees = authority.is_none_or(|authority| authority.as_bytes() == host);
    if is_host(host) && agrees { Ok(()) } else { Err(BadHead::Host) }
}

/// `host [":" port]` (RFC 3986 section 3.2.2, without user information), or empty.
pub(super) fn is_host(text: &[u8]) -> bool {
    let is_name = |name: &[u8]| name.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(b));
    let is_port = |port: &[u8]| {
        port.is_empty() || (port.iter().all(u8::is_ascii_digit) && parse_length(port).is_some_and(|port| port < 65_536))
    };
    let is_rest = |rest: &[u8]| rest.is_empty() || rest.strip_prefix(b":").is_some_and(is_port);
    if let Some(literal) = text.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', literal) else { return false };
        let address = std::str::from_utf8(&literal[..end]).ok();
        return address.is_some_and(|it| it.parse::<Ipv6Addr>().is_ok()) && is_rest(&literal[end + 1..]);
    }
    let end = memchr::memchr(b':', text).unwrap_or(text.len());
    is_name(&text[..end]) && is_rest(&text[end..])
}

/// RFC 9112 section 6: the length of the body.
fn framing(fields: Fields<'_>, version: u8) -> Result<Framing, BadHead> {
    let coding = fields.single("transfer-encoding").map_err(|()| BadHead::TransferEncoding)?;
    let length = fields.single("content-length").map_err(|()| BadHead::ContentLength)?;
    let length = length.map(|text| parse_length(text).ok_or(BadHead::ContentLength)).transpose()?;
    match (coding, length) {
        (Some(coding), None) if version == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked(Chunks::default()))
        }
        (Some(_), _) => Err(BadHead::TransferEncoding),
        (None, None | Some(0)) if version == 1 && asks_for_websocket(fields) => Ok(Framing::Tunnel),
        (None, length) => Ok(Framing::Length(length.unwrap_or(0))),
    }
}

/// WebSocket is the only upgrade that is forwarded.
fn asks_for_websocket(fields: Fields<'_>) -> bool {
    let mut protocols = fields.all("upgrade").flat_map(|value| value.split(|&b| b == b','));
    protocols.any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

pub(super) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use pingora::http::RequestHeader;

    use super::*;

    fn checked(lines: &str) -> Result<Framing, BadHead> {
        let head = format!("{}\r\n\r\n", lines.replace('\n', "\r\n"));
        assert_eq!(end(head.as_bytes(), 0), Some(head.len()));
        check(head.as_bytes())
    }

    #[test]
    fn ordinary_heads_pass() {
        assert_eq!(checked("GET /a?b=c HTTP/1.1\nHost: example:80"), Ok(Framing::Length(0)));
        assert_eq!(checked("GET / HTTP/1.0"), Ok(Framing::Length(0)));
        assert_eq!(checked("GET / HTTP/1.1\nHost:"), Ok(Framing::Length(0)));
        assert_eq!(checked("OPTIONS * HTTP/1.1\nHost: [::1]:8080"), Ok(Framing::Length(0)));
        assert_eq!(checked("GET HTTP://h:1/x HTTP/1.1\nHost: h:1"), Ok(Framing::Length(0)));
        assert_eq!(checked("POST / HTTP/1.1\nHost: h\ncontent-length: 42"), Ok(Framing::Length(42)));
        assert_eq!(
            checked("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: Chunked"),
            Ok(Framing::Chunked(Chunks::default()))
        );
        assert_eq!(checked("GET / HTTP/1.1\nHost: h\nUpgrade: websocket"), Ok(Framing::Tunnel));
        assert_eq!(checked("GET / HTTP/1.1\nHost: h\nUpgrade: h2c, WebSocket"), Ok(Framing::Tunnel));
        assert_eq!(checked("GET / HTTP/1.1\nHost: h\nUpgrade: h2c"), Ok(Framing::Length(0)));
        for host in ["a:", "a.b_c", "[::1]", "[::1]:", "%41"] {
            assert_eq!(checked(&format!("GET / HTTP/1.1\nHost: {host}")), Ok(Framing::Length(0)), "{host}");
        }
        let with_length = |n| checked(&format!("GET / HTTP/1.1\nHost: h\nUpgrade: websocket\nContent-Length: {n}"));
        assert_eq!(with_length(0), Ok(Framing::Tunnel));
        assert_eq!(with_length(3), Ok(Framing::Length(3)));
    }

    #[test]
    fn ambiguous_heads_are_rejected() {
        for (lines, reason) in [
            ("GET / HTTP/1.1", BadHead::Host),
            ("GET / HTTP/1.1\nHost: a\nHost: a", BadHead::Host),
            ("GET / HTTP/1.1\nHost: a@b", BadHead::Host),
            ("GET / HTTP/1.1\nHost: a, b", BadHead::Host),
            ("GET / HTTP/1.1\nHost: [::1]x", BadHead::Host),
            ("GET / HTTP/1.1\nHost: [::1]:x", BadHead::Host),
            ("GET / HTTP/1.1\nHost: [::1", BadHead::Host),
            ("GET / HTTP/1.1\nHost: [x]", BadHead::Host),
            ("GET / HTTP/1.1\nHost: ::1", BadHead::Host),
            ("GET / HTTP/1.1\nHost: a:b", BadHead::Host),
            ("GET / HTTP/1.1\nHost: a:65536", BadHead::Host),
            ("GET http://b/ HTTP/1.1\nHost: a", BadHead::Host),
            ("POST / HTTP/1.1\nHost: a\nContent-Length: 5\nContent-Length: 5", BadHead::ContentLength),
            ("POST / HTTP/1.1\nHost: a\nContent-Length: 5, 5", BadHead::ContentLength),
            ("POST / HTTP/1.1\nHost: a\nContent-Length: +5", BadHead::ContentLength),
            ("POST / HTTP/1.1\nHost: a\nContent-Length: 18446744073709551616", BadHead::ContentLength),
            ("POST / HTTP/1.1\nHost: a\nContent-Length: 5\nTransfer-Encoding: chunked", BadHead::TransferEncoding),
            ("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: gzip, chunked", BadHead::TransferEncoding),
            ("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: identity", BadHead::TransferEncoding),
            ("POST / HTTP/1.0\nHost: a\nTransfer-Encoding: chunked", BadHead::TransferEncoding),
            ("GET /a b HTTP/1.1\nHost: a", BadHead::Target),
            ("GET /a\0b HTTP/1.1\nHost: a", BadHead::Target),
            ("GET /a#b HTTP/1.1\nHost: a", BadHead::Target),
            ("GET /é HTTP/1.1\nHost: a", BadHead::Target),
            ("GET a HTTP/1.1\nHost: a", BadHead::Target),
            ("GET * HTTP/1.1\nHost: a", BadHead::Target),
            ("GET ftp://a/ HTTP/1.1\nHost: a", BadHead::Target),
            ("GET / HTTP/2.0\nHost: a", BadHead::Version),
            ("CONNECT a:1 HTTP/1.1\nHost: a:1", BadHead::Connect),
            ("GET / HTTP/1.1\nHost: a\nX : y", BadHead::Syntax),
            ("GET / HTTP/1.1\nHost: a\n folded", BadHead::Syntax),
            ("GET / HTTP/1.1\nHost: a\nX: a\0b", BadHead::Syntax),
            ("GET", BadHead::Syntax),
        ] {
            assert_eq!(checked(lines), Err(reason), "{}", lines.escape_debug());
        }
    }

    #[test]
    fn forbidden_bytes_of_a_target_are_encoded() {
        let made = |head: &str| String::from_utf8(readable(BytesMut::from(head)).to_vec()).unwrap();
        let plain = "GET /a?b={}|^ HTTP/1.1\r\nX: \"<>`\r\n\r\n";
        assert_eq!(made(plain), plain);
        let strange = "GET /<a>?b=\"`%22 HTTP/1.1\r\nX: \"\r\n\r\n";
        assert_eq!(made(strange), "GET /%3Ca%3E?b=%22%60%22 HTTP/1.1\r\nX: \"\r\n\r\n");
    }

    /// Pingora would otherwise answer such requests itself.
    #[test]
    fn pingora_parses_every_accepted_target() {
        for byte in 0u8..=255 {
            for target in [[b"/a", &[byte][..], b"b"].concat(), [b"/a?b=", &[byte][..], b"c"].concat()] {
                let head = [b"GET ", &*target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
                if check(&head).is_err() {
                    continue;
                }
                let made = readable(BytesMut::from(&*head));
                let target = made.as_ref().split(|&b| b == b' ').nth(1).unwrap();
                assert!(RequestHeader::build("GET", target, None).is_ok(), "{}", target.escape_ascii());
            }
        }
    }

    #[test]
    fn line_ends_are_cr_lf() {
        assert_eq!(check(b"GET / HTTP/1.1\nHost: a\n\n"), Err(BadHead::BareNewline));
        assert_eq!(check(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"), Err(BadHead::Syntax));
    }

    #[test]
    fn fields_and_targets_are_bounded() {
        let many = "\nX: y".repeat(HEADER_FIELDS_MAX);
        assert_eq!(checked(&format!("GET / HTTP/1.1\nHost: a{many}")), Err(BadHead::TooManyFields));
        let long = "a".repeat(TARGET_BYTES_MAX);
        assert_eq!(checked(&format!("GET /{long} HTTP/1.1\nHost: a")), Err(BadHead::TargetTooLong));
    }

    #[test]
    fn the_end_is_found_across_any_read_boundary() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for seen in 0..head.len() {
            assert_eq!(end(&head[..seen], 0), None);
            assert_eq!(end(head, seen), Some(head.len()), "seen {seen}");
        }
    }
}
