use super::*;
use crate::auth::service::Key;

const NAMES: [HeaderName; 3] = [AUTHORIZATION, COOKIE, HeaderName::from_static("x-api-key")];

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn question(lines: &[(&'static str, &str)], target: &str) -> Question {
    super::question(&headers(lines), &NAMES, true, &Method::GET, target).ok().unwrap()
}

#[test]
fn whatever_is_sent_is_part_of_the_key() {
    let base = [("cookie", "s=1"), ("host", "a.example"), ("x-forwarded-for", "10.0.0.1")];
    let key = |lines: &[(&'static str, &str)], target: &str| question(lines, target).key();
    let same = [("accept", "text/html"), ("cookie", "s=1"), ("x-forwarded-for", "10.0.0.1"), ("host", "a.example")];
    assert_eq!(key(&base, "/x"), key(&same, "/x"), "the order of other fields does not count");
    let others: [&[(&'static str, &str)]; 9] = [
        &[("cookie", "s=2"), base[1], base[2]],
        &[("cookie", "s=1"), ("host", "b.example"), base[2]],
        &[("cookie", "s=1"), base[1], ("x-forwarded-for", "10.0.0.2")],
        &[("cookie", "s=1"), ("cookie", "s=2"), base[1], base[2]],
        &[("cookie", "s=2"), ("cookie", "s=1"), base[1], base[2]],
        &[("cookie", "s=1; s=2"), base[1], base[2]],
        &[("authorization", "s=1"), base[1], base[2]],
        &[("cookie", "s=1"), ("x-api-key", ""), base[1], base[2]],
        &[("cookie", "s="), ("x-api-key", "1"), base[1], base[2]],
    ];
    let mut keys: Vec<Key> = others.iter().map(|lines| key(lines, "/x")).collect();
    keys.extend([key(&base, "/x"), key(&base, "/y"), key(&base, "/x?since=1")]);
    keys.push(super::question(&headers(&base), &NAMES, true, &Method::HEAD, "/x").ok().unwrap().key());
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

#[test]
fn only_named_fields_are_sent() {
    let sent = question(&[("cookie", "a=1"), ("x-secret", "y"), ("connection", "close")], "/x?y=z");
    assert!(!sent.headers().contains_key("x-secret") && !sent.headers().contains_key("connection"));
    assert_eq!(sent.headers()["x-forwarded-uri"], "/x?y=z");
    assert_eq!(sent.headers()["x-forwarded-method"], "GET");
    let long = "a".repeat(QUESTION_BYTES_MAX);
    assert!(super::question(&headers(&[("cookie", &long)]), &NAMES, true, &Method::GET, "/").is_err());
}

#[test]
fn a_browser_adds_cookies_and_remembered_credentials() {
    for (lines, is_ambient) in [
        (&[("cookie", "s=1")][..], true),
        (&[("authorization", "Basic eDp5"), ("cookie", "s=1")], true),
        (&[("authorization", "Basic eDp5")], true),
        (&[("authorization", "bearer x")], false),
        (&[("authorization", "Bearer x"), ("cookie", "s=1")], false),
        (&[("authorization", "Bearer x"), ("authorization", "Basic eDp5")], true),
        (&[("x-api-key", "1")], false),
    ] {
        assert_eq!(question(lines, "/").is_ambient(), is_ambient, "{lines:?}");
    }
}

#[test]
fn fields_of_the_connection_are_not_forwarded() {
    for (name, is_good) in
        [("cookie", true), ("x-api-key", true), ("host", false), ("upgrade", false), ("x-forwarded-for", false)]
    {
        assert_eq!(is_forwardable(&HeaderName::from_static(name)), is_good, "{name}");
    }
}
