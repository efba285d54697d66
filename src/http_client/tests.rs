use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread::{JoinHandle, spawn};

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509Builder, X509Name};

use super::*;

const LIMITS: RequestLimits = RequestLimits { time: Duration::from_secs(30), body: 1024 };

/// Responds to one request, and returns the request's head.
fn server(answer: Vec<u8>) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        // A client that has read enough closes the connection.
        let _ = socket.write_all(&answer);
        String::from_utf8(head).unwrap()
    });
    (address, served)
}

fn send(client: &HttpClient, uri: &str, limits: RequestLimits) -> Result<Response, RequestError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let request = Request::get(uri).body(Bytes::new()).unwrap();
    runtime.block_on(client.send(request, limits))
}

fn get(answer: impl Into<Vec<u8>>, limits: RequestLimits) -> Result<Response, RequestError> {
    let (address, _) = server(answer.into());
    let client = HttpClient::new(LIMITS.time).unwrap();
    send(&client, &format!("http://{address}/keys"), limits)
}

#[test]
fn a_body_is_read_up_to_its_limit_however_it_is_framed() {
    let response = get("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", LIMITS).unwrap();
    assert_eq!((response.status, &*response.body), (StatusCode::OK, &b"ok"[..]));
    let long = "x".repeat(2000);
    for framing in ["content-length: 2000\r\n\r\n", "\r\n", "transfer-encoding: chunked\r\n\r\n7d0\r\n"] {
        let refused = get(format!("HTTP/1.1 200 OK\r\n{framing}{long}"), LIMITS).unwrap_err();
        assert!(matches!(refused, RequestError::TooLong(1024)), "{framing}: {refused}");
    }
}

#[test]
fn a_response_that_is_cut_is_no_response() {
    for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "HTTP/1.1 20", "SSH-2.0-x\r\n", ""] {
        let refused = get(answer, LIMITS).unwrap_err();
        assert!(matches!(refused, RequestError::Broken(_)), "{answer}: {refused}");
    }
}

#[test]
fn redirects_are_not_followed() {
    let response = get("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", LIMITS);
    assert_eq!(response.unwrap().status, StatusCode::FOUND);
}

#[test]
fn silence_ends_with_the_time_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = HttpClient::new(LIMITS.time).unwrap();
    let limits = RequestLimits { time: Duration::from_millis(20), ..LIMITS };
    let refused = send(&client, &format!("http://{}/", listener.local_addr().unwrap()), limits).unwrap_err();
    assert!(matches!(refused, RequestError::Timeout(_)), "{refused}");
}

fn behind(proxy: &str, no: &str) -> HttpClient {
    let matcher = Matcher::builder().all(proxy.to_owned()).no(no.to_owned()).build();
    HttpClient::over(Connector::new(LIMITS.time, matcher, None).unwrap())
}

#[test]
fn a_proxy_gets_the_whole_url_and_the_credentials() {
    let (proxy, served) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec());
    let client = behind(&format!("http://me:pass@{proxy}"), "");
    assert_eq!(send(&client, "http://issuer.invalid/keys", LIMITS).unwrap().status, StatusCode::OK);
    let head = served.join().unwrap().to_lowercase();
    assert!(head.starts_with("get http://issuer.invalid/keys http/1.1\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: basic bwu6cgfzcw==\r\n"), "{head}");
}

#[test]
fn tls_goes_through_a_tunnel() {
    let (proxy, served) = server(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_vec());
    let refused = send(&behind(&format!("http://{proxy}"), ""), "https://issuer.invalid/keys", LIMITS).unwrap_err();
    assert!(matches!(refused, RequestError::Connect(_)), "{refused}");
    assert!(served.join().unwrap().starts_with("CONNECT issuer.invalid:443 HTTP/1.1\r\n"));
}

#[test]
fn loopback_has_no_proxy() {
    let (address, served) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec());
    let client = behind("http://proxy.invalid:1", "");
    assert_eq!(send(&client, &format!("http://{address}/"), LIMITS).unwrap().status, StatusCode::OK);
    assert!(served.join().unwrap().starts_with("GET / HTTP/1.1\r\n"));
}

/// A certificate authority of a test's own.
struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

fn certificate(name: &str, key: &PKey<Private>, extend: impl Fn(&mut X509Builder), by: Option<&Authority>) -> X509 {
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(by.map_or(&*subject, |by| by.certificate.subject_name())).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    extend(&mut builder);
    builder.sign(by.map_or(key, |by| &by.key), MessageDigest::null()).unwrap();
    builder.build()
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = PKey::generate_ed25519().unwrap();
        let constraints = |builder: &mut X509Builder| {
            builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        };
        Self { certificate: certificate(name, &key, constraints, None), key }
    }

    fn roots(&self) -> TlsRoots {
        TlsRoots::from_pem(&self.certificate.to_pem().unwrap()).unwrap()
    }

    /// Responds to requests over TLS with a certificate for this address.
    fn serve(&self, address: &str) -> SocketAddr {
        let key = PKey::generate_ed25519().unwrap();
        let names = |builder: &mut X509Builder| {
            let names = SubjectAlternativeName::new().ip(address).build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(names).unwrap();
        };
        let certificate = certificate("server", &key, names, Some(self));
        let mut acceptor = SslAcceptor::mozilla_modern_v5(SslMethod::tls()).unwrap();
        acceptor.set_private_key(&key).unwrap();
        acceptor.set_certificate(&certificate).unwrap();
        let acceptor = acceptor.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bound = listener.local_addr().unwrap();
        spawn(move || {
            for socket in listener.incoming().flatten() {
                // A client that trusts another authority ends the handshake.
                let Ok(mut socket) = acceptor.accept(socket) else { continue };
                let _ = socket.read(&mut [0; 4096]);
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
            }
        });
        bound
    }
}

#[test]
fn a_server_needs_a_certificate_of_a_trusted_authority_for_its_own_name() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let client = |roots: Option<&TlsRoots>| HttpClient::trusting(LIMITS.time, roots).unwrap();
    let url = |address: SocketAddr| format!("https://{address}/keys");
    let served = own.serve("127.0.0.1");
    assert_eq!(&*send(&client(Some(&own.roots())), &url(served), LIMITS).unwrap().body, b"ok");
    assert_eq!(
        &*send(&HttpClient::direct(LIMITS.time, Some(&own.roots())).unwrap(), &url(served), LIMITS).unwrap().body,
        b"ok"
    );
    let elsewhere = own.serve("127.0.0.2");
    for (client, address) in
        [(client(Some(&other.roots())), served), (client(None), served), (client(Some(&own.roots())), elsewhere)]
    {
        let refused = send(&client, &url(address), LIMITS).unwrap_err();
        assert!(matches!(&refused, RequestError::Connect(why) if why.contains("certificate")), "{refused}");
    }
    let both = [own.certificate.to_pem().unwrap(), other.certificate.to_pem().unwrap()].concat();
    assert!(send(&client(TlsRoots::from_pem(&both).as_ref()), &url(served), LIMITS).is_ok());
    for bad in [&b""[..], b"no PEM", &own.key.private_key_to_pem_pkcs8().unwrap()] {
        assert_eq!(TlsRoots::from_pem(bad), None);
    }
}
