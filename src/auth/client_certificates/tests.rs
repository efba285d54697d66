use serde_json::json;

use super::*;

const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const SUBJECT: HeaderName = HeaderName::from_static("ssl-client-subject-dn");
const VERIFIED: HeaderName = HeaderName::from_static("ssl-client-verify");

fn trusting(form: CertificateForm) -> ClientCertificates {
    ClientCertificates { trust: [Network::parse("10.0.0.0/24").unwrap()].into(), form }
}

fn by_subject() -> ClientCertificates {
    trusting(CertificateForm::Subject { field: SUBJECT, verified: VERIFIED })
}

/// The claims; `null` without a certificate, `false` if it is refused.
fn said(certificates: &ClientCertificates, peer: &str, fields: &[(HeaderName, &'static str)]) -> Value {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, HeaderValue::from_static(value));
    }
    match certificates.claims(&headers, peer.parse().ok()) {
        None => Value::Null,
        Some(Ok(claims)) => claims.into(),
        Some(Err(_)) => json!(false),
    }
}

#[test]
fn a_certificate_counts_only_from_a_trusted_peer() {
    let certificates = trusting(CertificateForm::Xfcc(XFCC));
    let fields = [(XFCC, "Hash=ab;Subject=\"CN=a,O=b\";URI=u;DNS=d")];
    let expected = json!({
        "sub": "CN=a,O=b", "subject": {"CN": "a", "O": "b"}, "uri": ["u"], "dns": ["d"], "hash": "ab"
    });
    assert_eq!(said(&certificates, "10.0.0.9", &fields), expected);
    assert_eq!(said(&certificates, "::ffff:10.0.0.9", &fields), expected);
    for other in ["10.0.1.9", "::1", "none"] {
        assert_eq!(said(&certificates, other, &fields), Value::Null, "{other}");
    }
    assert_eq!(said(&certificates, "10.0.0.9", &[]), Value::Null);
    let twice = [fields[0].clone(), fields[0].clone()];
    assert_eq!(said(&certificates, "10.0.0.9", &twice), json!(false));
}

#[test]
fn a_certificate_without_a_subject_has_the_name_of_its_only_uri() {
    let sub = |line| said(&trusting(CertificateForm::Xfcc(XFCC)), "10.0.0.9", &[(XFCC, line)])["sub"].clone();
    assert_eq!(sub("Hash=ab;Subject=\"\";URI=spiffe://x/a;DNS=d"), json!("spiffe://x/a"));
    assert_eq!(sub("Hash=ab;DNS=d"), json!("d"));
    assert_eq!(sub("Hash=ab;URI=a;URI=b"), Value::Null);
    assert_eq!(sub("Hash=ab"), Value::Null);
}

#[test]
fn a_subject_counts_only_if_the_proxy_verified_it() {
    let verified = |value| said(&by_subject(), "10.0.0.9", &[(SUBJECT, "CN=a"), (VERIFIED, value)]);
    let accepted = json!({"sub": "CN=a", "subject": {"CN": "a"}, "uri": [], "dns": []});
    assert_eq!((verified("SUCCESS"), verified("0")), (accepted.clone(), accepted));
    for value in ["FAILED:unable to verify the first certificate", "", "18", "success", "SUCCESS, SUCCESS"] {
        assert_eq!(verified(value), json!(false), "{value}");
    }
    assert_eq!(verified("NONE"), Value::Null);
    assert_eq!(said(&by_subject(), "10.0.0.9", &[(SUBJECT, "CN=a")]), json!(false));
    assert_eq!(said(&by_subject(), "10.0.0.9", &[(SUBJECT, ""), (VERIFIED, "SUCCESS")]), Value::Null);
    let twice = [(SUBJECT, "CN=a"), (VERIFIED, "SUCCESS"), (VERIFIED, "FAILED")];
    assert_eq!(said(&by_subject(), "10.0.0.9", &twice), json!(false));
}

#[test]
fn other_proxies_are_another_authority() {
    let other = ClientCertificates { trust: [Network::parse("10.0.0.0/25").unwrap()].into(), ..by_subject() };
    assert_ne!(by_subject().authority(), other.authority());
    assert_eq!(by_subject().authority(), by_subject().authority());
}
