use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread::spawn;

use http::HeaderValue;

use super::*;

/// A JWKS with a public key of P-256 (RFC 7515 appendix A.3) with this `kid`.
fn keys(kid: &str) -> String {
    format!(
        r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"{kid}","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}}]}}"#
    )
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// An issuer that sends each of these responses once.
fn issuer(answers: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || {
        for answer in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let _ = socket.read(&mut [0; 4096]).unwrap();
            // A client that has read enough closes the connection.
            let _ = socket.write_all(&answer);
        }
    });
    address
}

fn remote(location: KeyLocation) -> RemoteKeys {
    RemoteKeys::new(KeySource { location, keep: Duration::from_secs(60), roots: None }, vec![Algorithm::ES256])
}

fn at(address: SocketAddr) -> RemoteKeys {
    remote(KeyLocation::Jwks(format!("http://{address}/keys").parse().unwrap()))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn fetch(answer: Vec<u8>) -> Result<usize, String> {
    block_on(at(issuer(vec![answer])).fetch()).map_err(|error| error.to_string())
}

#[test]
fn an_issuer_with_invalid_responses_yields_no_keys() {
    assert_eq!(fetch(ok(&keys("a"))), Ok(1));
    let refused = |answer: Vec<u8>, why: &str| {
        let error = fetch(answer).unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    refused(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_vec(), "503");
    refused(b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n".to_vec(), "302");
    let short = format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{}", keys("a"));
    refused(short.into_bytes(), "the connection broke");
    let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{}", keys("a"));
    refused(cut.into_bytes(), "JWKS");
    refused(ok(&" ".repeat(10 << 20)), "more than 262144 bytes");
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(10 << 20));
    refused(endless.into_bytes(), "more than 262144 bytes");
    refused(ok("{\"keys\":[]}"), "none of the keys");
    refused(ok("<html>"), "JWKS");
}

#[test]
fn metadata_must_be_of_the_issuer() {
    let discover = |metadata: &dyn Fn(SocketAddr) -> String| {
        let keys = issuer(vec![ok(&keys("a"))]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let body = ok(&metadata(keys).replace("OWN", &format!("http://{own}")));
        spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let _ = socket.read(&mut [0; 4096]).unwrap();
            socket.write_all(&body).unwrap();
        });
        block_on(remote(KeyLocation::Discovery(format!("http://{own}"))).fetch()).map_err(|error| error.to_string())
    };
    assert_eq!(discover(&|keys| format!(r#"{{"issuer":"OWN","jwks_uri":"http://{keys}/k"}}"#)), Ok(1));
    let other = discover(&|keys| format!(r#"{{"issuer":"http://evil.example","jwks_uri":"http://{keys}/k"}}"#));
    assert!(other.unwrap_err().contains("another issuer"));
    let file = discover(&|_| r#"{"issuer":"OWN","jwks_uri":"file:///etc/passwd"}"#.to_owned());
    assert!(file.unwrap_err().contains("jwks_uri"));
}

#[test]
fn keys_stay_valid_for_a_limited_time_while_the_issuer_fails() {
    block_on(async {
        let known = at(issuer(vec![ok(&keys("a"))]));
        assert!(known.current().is_none());
        let client = known.client().unwrap();
        known.finish(known.request(&client).await.ok());
        let failed = known.request(&client).await;
        assert!(failed.is_err());
        known.finish(failed.ok());
        assert!(known.current().unwrap().keys.find(Some("a"), Algorithm::ES256).is_some());
        let old = RemoteKeys::new(KeySource { keep: Duration::ZERO, ..known.source.clone() }, vec![Algorithm::ES256]);
        old.inherit(&known);
        assert!(old.known.load().is_some() && old.current().is_none());
    });
}

#[test]
fn unknown_keys_cause_one_request_at_a_time() {
    let known = at(issuer(Vec::new()));
    assert!(known.ask() && known.ask());
    known.finish(None);
    assert!(!known.ask(), "within the cooldown");
    assert!(block_on(known.settled(Duration::from_secs(20))));
}

#[test]
fn max_age_is_respected_within_bounds() {
    for (value, seconds) in [
        (None, 600),
        (Some("public, max-age=900"), 900),
        (Some("max-age=0"), 60),
        (Some("max-age=99999999999"), 3600),
        (Some("max-age=-1"), 600),
        (Some("no-store"), 60),
    ] {
        let mut headers = HeaderMap::new();
        headers.extend(value.map(|value| (CACHE_CONTROL, HeaderValue::from_static(value))));
        assert_eq!(refresh(&headers), Duration::from_secs(seconds), "{value:?}");
    }
}

#[test]
fn nothing_waits_for_keys_that_nothing_can_request() {
    let keys = at("127.0.0.1:1".parse().unwrap());
    assert!(keys.ask(), "a request is about to begin");
    let keys = at("127.0.0.1:1".parse().unwrap());
    keys.is_given_up.store(true, Ordering::Relaxed);
    assert!(!keys.ask());
    assert!(block_on(keys.settled(Duration::ZERO)));
}
