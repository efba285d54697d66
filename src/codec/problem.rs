//! Problem documents: `application/problem+json` (RFC 9457). All refusals are rendered here.

use serde_json::{Value, json};

/// The media type of a problem document (RFC 9457 section 6.1).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The `type` of a problem that the status code describes (RFC 9457 section 4.2.1). It is the default of a document
/// without `type`.
pub const ABOUT_BLANK: &str = "about:blank";

/// A problem document in JSON. `kind` is its `type`, and `title` the phrase of the status code `status`. `members` is
/// an object of extension members (RFC 9457 section 3.2); any other value adds none.
pub fn document(kind: Option<&str>, status: u16, title: &str, detail: &str, members: Value) -> Vec<u8> {
    let mut document = json!({ "title": title, "status": status, "detail": detail });
    if let Some(document) = document.as_object_mut() {
        document.extend(kind.map(|kind| ("type".to_owned(), kind.into())));
        if let Value::Object(members) = members {
            document.extend(members);
        }
    }
    super::json::text(&document)
}

/// A complete HTTP/1.1 response with a problem document and `Connection: close`. `headers` are complete lines;
/// `unix_ms` is the time of the response in milliseconds since the Unix epoch.
pub fn response(status: u16, title: &str, headers: &str, body: &[u8], unix_ms: i64) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} {title}\r\nDate: {}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\n{headers}Connection: close\r\n\r\n",
        super::http::date(unix_ms),
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_a_problem() {
        let body = document(Some(ABOUT_BLANK), 410, "Gone", "too old", json!({ "cause": "expired" }));
        let json = r#"{"cause":"expired","detail":"too old","status":410,"title":"Gone","type":"about:blank"}"#;
        assert_eq!(String::from_utf8(body.clone()).unwrap(), json);
        assert_eq!(
            document(None, 404, "Not Found", "none", Value::Null),
            br#"{"detail":"none","status":404,"title":"Not Found"}"#
        );
        let answer = String::from_utf8(response(410, "Gone", "Vary: Origin\r\n", &body, 0)).unwrap();
        assert_eq!(
            answer,
            format!(
                "HTTP/1.1 410 Gone\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: application/problem+json\r\n\
                 Content-Length: {}\r\nCache-Control: no-store\r\nVary: Origin\r\nConnection: close\r\n\r\n{json}",
                json.len()
            )
        );
    }
}
