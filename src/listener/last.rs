//! Whether a request is the last one of its connection.

use http::Version;
use http::header::CONNECTION;
use pingora::http::RequestHeader;

/// Whether the request closes the connection after its response (RFC 9112 section 9.3).
pub fn is_last(request: &RequestHeader) -> bool {
    let says = |option: &[u8]| {
        let mut lines = request.headers.get_all(CONNECTION).iter();
        lines.any(|line| line.as_bytes().split(|&b| b == b',').any(|it| it.trim_ascii().eq_ignore_ascii_case(option)))
    };
    says(b"close") || (request.version == Version::HTTP_10 && !says(b"keep-alive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_request_of_a_connection() {
        let last = |version, lines: &[&'static str]| {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request.set_version(version);
            for line in lines {
                request.append_header(CONNECTION, *line).unwrap();
            }
            is_last(&request)
        };
        assert!(last(Version::HTTP_11, &["close"]) && last(Version::HTTP_11, &["keep-alive", "foo, Close"]));
        assert!(last(Version::HTTP_10, &[]) && !last(Version::HTTP_10, &["Keep-Alive"]));
        assert!(!last(Version::HTTP_11, &[]) && !last(Version::HTTP_11, &["foo"]));
    }
}
