use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::*;
use crate::auth::{BadKey, JWKS_KEYS_MAX, KeyFile, TokenKey, sign_hs256};

#[path = "../../tests/jose.rs"]
mod jose;

use jose::Key;

const SECRET: &[u8] = b"a secret of at least 32 bytes, for tests";
const NOW_S: i64 = 1_800_000_000;
const NOW: i64 = NOW_S * 1000;

fn issuer(key: &[u8], algorithms: &[Algorithm]) -> Issuer {
    let key_file = KeyFile::Single(TokenKey(key.into()));
    Issuer { name: None, audience: None, key_file, algorithms: algorithms.into() }
}

/// An issuer with these keys and their `kid`s.
fn set(keys: &[(&str, &Key)], algorithms: &[Algorithm]) -> Issuer {
    let keys: Vec<Value> = keys.iter().map(|(id, key)| jwk(id, key)).collect();
    let text = json!({ "keys": keys }).to_string();
    Issuer { key_file: KeyFile::Set(TokenKey(text.into())), ..issuer(b"", algorithms) }
}

fn jwk(id: &str, key: &Key) -> Value {
    let mut jwk = jose::jwk(key);
    if !id.is_empty() {
        jwk["kid"] = json!(id);
    }
    jwk
}

fn verifier(issuers: Vec<Issuer>) -> Verifier {
    let trusted = issuers.into_iter().map(|issuer| TrustedIssuer::new(issuer).unwrap_or_else(|e| panic!("{e}")));
    Verifier::new(trusted.collect(), None, Duration::from_secs(5))
}

fn hs256() -> Verifier {
    verifier(vec![issuer(SECRET, &[Algorithm::HS256])])
}

fn rsa() -> Key {
    jose::private(include_bytes!("test_keys/rsa-private.pem"))
}

fn ec() -> Key {
    jose::private(include_bytes!("test_keys/ec-private.pem"))
}

fn ed() -> Key {
    jose::private(include_bytes!("test_keys/ed-private.pem"))
}

/// A token with this `kid`, or none.
fn token(key: &Key, algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
    let mut header = json!({ "typ": "JWT", "alg": algorithm });
    if let Some(kid) = kid {
        header["kid"] = json!(kid);
    }
    jose::token(&header, claims, key)
}

fn claims(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn signed(value: Value) -> String {
    sign_hs256(&claims(value), SECRET).unwrap()
}

fn refused(verifier: &Verifier, token: &str) -> TokenError {
    verifier.verify(token, NOW).unwrap_err()
}

#[test]
fn a_good_token_gives_its_claims_and_its_end() {
    let token = signed(json!({"sub": "u123", "exp": NOW_S + 60, "nbf": NOW_S}));
    let principal = hs256().verify(&token, NOW).unwrap();
    assert_eq!(principal.claims["sub"], "u123");
    assert_eq!(principal.expires_at, Some(NOW + 60_000));
    assert_eq!(hs256().verify(&signed(json!({"sub": "u"})), NOW).unwrap().expires_at, None);
}

#[test]
fn times_are_checked_with_the_leeway() {
    let cases = [
        (json!({"exp": NOW_S - 4}), None),
        (json!({"exp": NOW_S - 5}), Some(TokenError::Expired)),
        (json!({"exp": NOW_S as f64 - 4.5}), None),
        (json!({"exp": 0}), Some(TokenError::Expired)),
        (json!({"exp": -1}), Some(TokenError::Expired)),
        (json!({"exp": 1e300}), None),
        (json!({"exp": "1900000000"}), Some(TokenError::Malformed)),
        (json!({"exp": null}), Some(TokenError::Malformed)),
        (json!({"nbf": NOW_S + 5}), None),
        (json!({"nbf": NOW_S + 6}), Some(TokenError::NotYetValid)),
        (json!({"nbf": true}), Some(TokenError::Malformed)),
    ];
    for (value, expected) in cases {
        assert_eq!(hs256().verify(&signed(value.clone()), NOW).err(), expected, "{value}");
    }
}

#[test]
fn issuer_and_audience_are_checked_where_configured() {
    let (name, audience) = (Some("me".into()), Some("app".into()));
    let verifier = verifier(vec![Issuer { name, audience, ..issuer(SECRET, &[Algorithm::HS256]) }]);
    let cases = [
        (json!({"iss": "me", "aud": "app"}), None),
        (json!({"iss": "me", "aud": ["other", "app"]}), None),
        (json!({"iss": "me", "aud": "other"}), Some(TokenError::Audience)),
        (json!({"iss": "me", "aud": []}), Some(TokenError::Audience)),
        (json!({"iss": "me"}), Some(TokenError::Audience)),
        (json!({"iss": "you", "aud": "app"}), Some(TokenError::Issuer)),
        (json!({"aud": "app"}), Some(TokenError::Issuer)),
    ];
    for (value, expected) in cases {
        assert_eq!(verifier.verify(&signed(value.clone()), NOW).err(), expected, "{value}");
    }
    assert!(hs256().verify(&signed(json!({"iss": "you", "aud": "other"})), NOW).is_ok());
}

#[test]
fn algorithm_none_is_refused_in_every_spelling() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": name, "typ": "JWT"}).to_string());
        let body = URL_SAFE_NO_PAD.encode(json!({"sub": "u123"}).to_string());
        for token in [format!("{header}.{body}."), format!("{header}.{body}.AAAA")] {
            assert_eq!(refused(&hs256(), &token), TokenError::Algorithm, "{name}");
        }
    }
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    let public = include_bytes!("test_keys/ec-public.pem");
    let verifier = verifier(vec![issuer(public, &[Algorithm::ES256])]);
    let forged = sign_hs256(&claims(json!({"sub": "u123"})), public).unwrap();
    assert_eq!(refused(&verifier, &forged), TokenError::Algorithm);
}

#[test]
fn an_algorithm_outside_the_allow_list_is_refused() {
    let token = token(&jose::secret(SECRET), Algorithm::HS512, None, &json!({"sub": "u"}));
    assert_eq!(refused(&hs256(), &token), TokenError::Algorithm);
}

#[test]
fn a_token_that_was_changed_is_refused() {
    let token = signed(json!({"sub": "u123"}));
    let other = signed(json!({"sub": "u456"}));
    let (message, _) = token.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    assert_eq!(refused(&hs256(), &format!("{message}.{signature}")), TokenError::Signature);
    assert_eq!(refused(&hs256(), &format!("{message}.")), TokenError::Signature);
    let elsewhere = sign_hs256(&claims(json!({"sub": "u123"})), b"another secret").unwrap();
    assert_eq!(refused(&hs256(), &elsewhere), TokenError::Signature);
}

#[test]
fn invalid_tokens_are_malformed_and_long_tokens_are_not_parsed() {
    for garbage in ["", ".", "..", "...", "a.b.c", "\u{fffd}", "eyJhbGciOiJIUzI1NiJ9", "eyJhbGciOiJIUzI1NiJ9.e30"] {
        assert_eq!(refused(&hs256(), garbage), TokenError::Malformed, "{garbage}");
    }
    assert_eq!(refused(&hs256(), &"a".repeat(TOKEN_BYTES_MAX + 1)), TokenError::TooLong);
    assert_eq!(refused(&hs256(), &signed(json!({"x": "a".repeat(TOKEN_BYTES_MAX)}))), TokenError::TooLong);
}

#[test]
fn a_critical_extension_is_refused() {
    let header = json!({ "alg": "HS256", "crit": ["b64"] });
    let token = jose::token(&header, &json!({"sub": "u"}), &jose::secret(SECRET));
    assert_eq!(refused(&hs256(), &token), TokenError::Critical);
}

#[test]
fn public_keys_of_every_family_verify() {
    let (rsa, ec, ed) = (rsa(), ec(), ed());
    let rsa_public = &include_bytes!("test_keys/rsa-public.pem")[..];
    let cases = [
        (Algorithm::RS256, &rsa, rsa_public),
        (Algorithm::PS256, &rsa, rsa_public),
        (Algorithm::ES256, &ec, &include_bytes!("test_keys/ec-public.pem")[..]),
        (Algorithm::EdDSA, &ed, &include_bytes!("test_keys/ed-public.pem")[..]),
    ];
    for (algorithm, private, public) in cases {
        let token = token(private, algorithm, None, &json!({"sub": "u"}));
        let verifier = verifier(vec![issuer(public, &[algorithm])]);
        assert!(verifier.verify(&token, NOW).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn a_key_that_does_not_fit_is_refused_at_once() {
    use Algorithm::{ES256, ES384, EdDSA, HS256, RS256};
    let ec = &include_bytes!("test_keys/ec-public.pem")[..];
    let cases = [
        (issuer(SECRET, &[]), BadKey::NoAlgorithm),
        (issuer(SECRET, &[HS256, RS256]), BadKey::MixedFamilies),
        (issuer(b"", &[HS256]), BadKey::EmptySecret),
        (issuer(SECRET, &[RS256]), BadKey::WrongKey),
        (issuer(ec, &[RS256]), BadKey::WrongKey),
        (issuer(ec, &[EdDSA]), BadKey::WrongKey),
        (issuer(ec, &[ES256, ES384]), BadKey::WrongKey),
        (issuer(include_bytes!("test_keys/ec-private.pem"), &[ES256]), BadKey::WrongKey),
    ];
    for (issuer, expected) in cases {
        let algorithms = format!("{:?}", issuer.algorithms);
        assert_eq!(TrustedIssuer::new(issuer).err(), Some(expected), "{algorithms}");
    }
}

#[test]
fn debug_output_shows_no_key() {
    let text = format!("{:?}", hs256());
    assert!(text.contains("redacted") && !text.contains(&format!("{}", SECRET[0])), "{text}");
}

#[test]
fn the_key_of_a_set_is_found_by_its_id() {
    use Algorithm::{ES256, EdDSA, PS256, RS256};
    let (rsa, ec, ed) = (rsa(), ec(), ed());
    let keys = [("r", &rsa), ("e", &ec), ("d", &ed)];
    let verifier = verifier(vec![set(&keys, &[RS256, ES256, EdDSA])]);
    let claims = json!({"sub": "u"});
    let good = [(&rsa, RS256, "r"), (&ec, ES256, "e"), (&ed, EdDSA, "d")];
    for (key, algorithm, id) in good {
        for kid in [Some(id), None] {
            let token = token(key, algorithm, kid, &claims);
            assert_eq!(verifier.verify(&token, NOW).err(), None, "{algorithm:?} {kid:?}");
        }
    }
    let bad = [
        (token(&rsa, RS256, Some("gone"), &claims), TokenError::Key),
        (token(&rsa, RS256, Some("e"), &claims), TokenError::Key),
        (token(&rsa, PS256, Some("r"), &claims), TokenError::Algorithm),
    ];
    for (token, expected) in bad {
        assert_eq!(refused(&verifier, &token), expected);
    }
}

#[test]
fn a_kid_is_required_if_several_keys_match() {
    use Algorithm::HS256;
    let [one, two] = [b"the first of two secrets, 32 bytes.", b"the other of two secrets, 32 bytes."];
    let [one, two] = [one, two].map(|secret| jose::secret(secret));
    let claims = json!({"sub": "u"});
    let verifier = verifier(vec![set(&[("1", &one), ("2", &two)], &[HS256])]);
    assert!(verifier.verify(&token(&two, HS256, Some("2"), &claims), NOW).is_ok());
    assert_eq!(refused(&verifier, &token(&two, HS256, Some("1"), &claims)), TokenError::Signature);
    assert_eq!(refused(&verifier, &token(&two, HS256, None, &claims)), TokenError::Key);
}

#[test]
fn only_keys_of_a_set_that_support_an_allowed_algorithm_are_used() {
    use Algorithm::{ES256, RS256, RS512};
    let (rsa, ec) = (rsa(), ec());
    let with = |name: &str, value: Value| {
        let mut jwk = jwk("r", &rsa);
        jwk[name] = value;
        let text = json!({ "keys": [{"kty": "XYZ"}, 5, jwk] }).to_string();
        let issuer = Issuer { key_file: KeyFile::Set(TokenKey(text.into())), ..issuer(b"", &[RS256]) };
        TrustedIssuer::new(issuer).err()
    };
    assert_eq!(with("x", json!(1)), None);
    assert_eq!(with("use", json!("sig")), None);
    assert_eq!(with("use", json!("enc")), Some(BadKey::NoUsableKey));
    assert_eq!(with("key_ops", json!(["encrypt"])), Some(BadKey::NoUsableKey));
    assert_eq!(with("alg", json!("RS256")), None);
    assert_eq!(with("alg", json!("RS512")), Some(BadKey::NoUsableKey));
    assert_eq!(TrustedIssuer::new(set(&[("e", &ec)], &[RS512])).err(), Some(BadKey::NoUsableKey));
    assert_eq!(TrustedIssuer::new(set(&[], &[])).err(), Some(BadKey::NoAlgorithm));
    let many: Vec<_> = (0..=JWKS_KEYS_MAX).map(|_| ("", &ec)).collect();
    assert_eq!(TrustedIssuer::new(set(&many, &[ES256])).err(), Some(BadKey::TooManyKeys));
    let no_set = Issuer { key_file: KeyFile::Set(TokenKey(b"[]".into())), ..issuer(b"", &[RS256]) };
    assert_eq!(TrustedIssuer::new(no_set).err(), Some(BadKey::NoSet));
}

#[test]
fn each_issuer_has_its_own_keys() {
    use Algorithm::{ES256, HS256};
    let (ec, secret) = (ec(), jose::secret(SECRET));
    let name = |name: &str| Some(name.to_owned());
    let verifier = verifier(vec![
        Issuer { name: name("one"), ..issuer(SECRET, &[HS256]) },
        Issuer { name: name("two"), audience: name("app"), ..set(&[("e", &ec)], &[ES256]) },
    ]);
    let cases = [
        (token(&secret, HS256, None, &json!({"iss": "one"})), None),
        (token(&ec, ES256, Some("e"), &json!({"iss": "two", "aud": "app"})), None),
        (token(&ec, ES256, Some("e"), &json!({"iss": "two"})), Some(TokenError::Audience)),
        (token(&secret, HS256, None, &json!({"iss": "two", "aud": "app"})), Some(TokenError::Algorithm)),
        (token(&ec, ES256, Some("e"), &json!({"iss": "one"})), Some(TokenError::Algorithm)),
        (token(&secret, HS256, None, &json!({"iss": "three"})), Some(TokenError::Issuer)),
        (token(&secret, HS256, None, &json!({"sub": "u"})), Some(TokenError::Issuer)),
        (token(&secret, HS256, None, &json!({"iss": ["one"]})), Some(TokenError::Issuer)),
        ("a.b.c".into(), Some(TokenError::Malformed)),
    ];
    for (token, expected) in cases {
        assert_eq!(verifier.verify(&token, NOW).err(), expected, "{token}");
    }
}

/// As in a reload: whether a previously accepted token would still be accepted, as far as its key is concerned.
#[test]
fn an_authority_depends_on_key_algorithm_issuer_and_audience() {
    let (one, two) = (jose::secret(SECRET), jose::secret(b"another secret of at least 32 bytes, for tests"));
    let (hs256, hs384) = (Algorithm::HS256, Algorithm::HS384);
    let before = set(&[("a", &one)], &[hs256]);
    let token = token(&one, hs256, Some("a"), &json!({}));
    let authority = verifier(vec![before.clone()]).verify(&token, NOW).unwrap().authority;
    let trusts = |issuers: Vec<Issuer>| verifier(issuers).authorities().any(|known| known == authority);
    assert!(trusts(vec![before.clone()]));
    assert!(trusts(vec![set(&[("b", &two), ("a", &one)], &[hs384, hs256])]), "a key and an algorithm more");
    assert!(trusts(vec![issuer(SECRET, &[hs256])]), "the same secret, from another kind of file");
    assert!(!trusts(vec![set(&[("a", &two)], &[hs256])]), "another key of the same name");
    assert!(!trusts(vec![set(&[("a", &one)], &[hs384])]), "the algorithm is not allowed any more");
    assert!(!trusts(vec![Issuer { audience: Some("app".into()), ..before.clone() }]));
    assert!(!trusts(vec![Issuer { name: Some("x".into()), ..before }]));
}
