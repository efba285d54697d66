//! Certificates that OpenSSL makes here, and a client of OpenSSL.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};
use openssl::symm::Cipher;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Name};

use super::*;

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// A certificate of `key` for these DNS names; the first one is also the common name.
fn certificate(key: &PKey<Private>, names: &[&str]) -> Vec<u8> {
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_nid(Nid::COMMONNAME, names[0]).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    let mut alternative = SubjectAlternativeName::new();
    for name in names {
        alternative.dns(name);
    }
    let alternative = alternative.build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(alternative).unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    builder.build().to_pem().unwrap()
}

fn identity(names: &[&str]) -> Identity {
    let key = key();
    Identity::from_pem(&certificate(&key, names), &key.private_key_to_pem_pkcs8().unwrap()).unwrap()
}

/// A connection of a client that asks for this name, with both sides after the handshake.
fn connect(server: &ServerTls, name: &str) -> (TlsSocket, SslStream<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut served = server.begin(listener.accept().unwrap().0).unwrap();
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    let connector = connector.build();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| connector.connect(name, socket).unwrap());
        served.accept().unwrap();
        (served, client.join().unwrap())
    })
}

#[test]
fn the_server_name_selects_a_certificate() {
    let server = ServerTls::new(&[
        identity(&["first.example", "*.wild.example"]),
        identity(&["second.example", "Other.Example"]),
        identity(&["own.wild.example", "*.deep.wild.example"]),
    ])
    .unwrap();
    for (asked, selected) in [
        ("first.example", "first.example"),
        ("second.example", "second.example"),
        ("OTHER.example", "second.example"),
        ("a.wild.example", "first.example"),
        ("own.wild.example", "own.wild.example"),
        ("a.deep.wild.example", "own.wild.example"),
        ("wild.example", "first.example"),
        ("unknown.example", "first.example"),
    ] {
        let (_, client) = connect(&server, asked);
        let certificate = client.ssl().peer_certificate().unwrap();
        let name = certificate.subject_name().entries_by_nid(Nid::COMMONNAME).next().unwrap();
        assert_eq!(name.data().to_string().unwrap(), selected, "{asked}");
    }
}

#[test]
fn servers_with_the_same_certificates_are_equal() {
    let (one, other) = (identity(&["a.example"]), identity(&["a.example"]));
    let server = |identities: &[Identity]| ServerTls::new(identities).unwrap();
    assert!(server(std::slice::from_ref(&one)) == server(std::slice::from_ref(&one)));
    assert!(server(std::slice::from_ref(&one)) != server(std::slice::from_ref(&other)));
    assert!(server(&[one.clone(), other.clone()]) != server(&[other, one]));
}

#[test]
fn pairs_that_cannot_be_used_are_named() {
    let (one, other) = (key(), key());
    let pem = certificate(&one, &["a.example"]);
    let private = |key: &PKey<Private>| key.private_key_to_pem_pkcs8().unwrap();
    let rejected = |pem: &[u8], key: &[u8]| Identity::from_pem(pem, key).err().unwrap();
    assert_eq!(rejected(b"", &private(&one)), IdentityError::NoCertificate);
    assert_eq!(rejected(&private(&one), &private(&one)), IdentityError::NoCertificate);
    assert_eq!(rejected(&pem, b"nothing"), IdentityError::NoKey);
    let locked = one.private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"secret").unwrap();
    assert_eq!(rejected(&pem, &locked), IdentityError::NoKey);
    assert_eq!(rejected(&pem, &private(&other)), IdentityError::OtherKey);
    let short = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
    let short = Identity::from_pem(&certificate(&short, &["a.example"]), &private(&short)).unwrap();
    let (at, error) = ServerTls::new(&[identity(&["b.example"]), short]).err().unwrap();
    assert_eq!((at, error), (1, IdentityError::Rejected("ee key too small".into())));
}

/// A queue may drop what it offered before. What OpenSSL has encrypted must be sent all the same, and nothing twice.
#[test]
fn a_write_that_was_accepted_is_final() {
    let server = ServerTls::new(&[identity(&["a.example"])]).unwrap();
    let (mut served, mut client) = connect(&server, "a.example");
    served.socket().set_nonblocking(true).unwrap();
    let mut accepted = Vec::new();
    for n in 0.. {
        let offered = vec![b'a' + (n % 26) as u8; 20_000 + n];
        match served.write_slices([&offered[..9_000], &offered[9_000..]].into_iter()) {
            Ok(bytes) => accepted.extend_from_slice(&offered[..bytes]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    assert!(!served.is_sent());
    let expected = accepted.len();
    let reader = std::thread::spawn(move || {
        let mut received = vec![0; expected];
        client.read_exact(&mut received).unwrap();
        (received, client)
    });
    while served.flush().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
        std::thread::yield_now();
    }
    let (received, mut client) = reader.join().unwrap();
    assert!(received == accepted);
    served.end();
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "an alert ends the stream");
}
