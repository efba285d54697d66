use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::*;
use crate::auth::{TokenKey, sign_hs256};

const SECRET: &[u8] = b"a secret of at least 32 bytes, for tests";
const NOW_S: i64 = 1_800_000_000;
const NOW: i64 = NOW_S * 1000;

fn tokens(key: &[u8], algorithms: &[Algorithm]) -> Tokens {
    Tokens {
        key: TokenKey(key.into()),
        algorithms: algorithms.into(),
        issuer: None,
        audience: None,
        cookie: None,
        leeway: Duration::from_secs(5),
    }
}

fn hs256() -> Verifier {
    Verifier::new(tokens(SECRET, &[Algorithm::HS256])).unwrap()
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
    let mut tokens = tokens(SECRET, &[Algorithm::HS256]);
    tokens.issuer = Some("me".into());
    tokens.audience = Some("app".into());
    let verifier = Verifier::new(tokens).unwrap();
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
    let verifier = Verifier::new(tokens(public, &[Algorithm::ES256])).unwrap();
    let forged = sign_hs256(&claims(json!({"sub": "u123"})), public).unwrap();
    assert_eq!(refused(&verifier, &forged), TokenError::Algorithm);
}

#[test]
fn an_algorithm_outside_the_allow_list_is_refused() {
    let key = EncodingKey::from_secret(SECRET);
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &json!({"sub": "u"}), &key).unwrap();
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
fn garbage_is_malformed_and_huge_tokens_are_not_looked_at() {
    for garbage in ["", ".", "..", "...", "a.b.c", "\u{fffd}", "eyJhbGciOiJIUzI1NiJ9", "eyJhbGciOiJIUzI1NiJ9.e30"] {
        assert_eq!(refused(&hs256(), garbage), TokenError::Malformed, "{garbage}");
    }
    assert_eq!(refused(&hs256(), &"a".repeat(TOKEN_BYTES_MAX + 1)), TokenError::TooLong);
    assert_eq!(refused(&hs256(), &signed(json!({"x": "a".repeat(TOKEN_BYTES_MAX)}))), TokenError::TooLong);
}

#[test]
fn a_critical_extension_is_refused() {
    let header = Header { crit: Some(vec!["b64".into()]), ..Header::new(Algorithm::HS256) };
    let token = jsonwebtoken::encode(&header, &json!({"sub": "u"}), &EncodingKey::from_secret(SECRET)).unwrap();
    assert_eq!(refused(&hs256(), &token), TokenError::Critical);
}

#[test]
fn public_keys_of_every_family_verify() {
    let rsa = EncodingKey::from_rsa_pem(include_bytes!("test_keys/rsa-private.pem")).unwrap();
    let ec = EncodingKey::from_ec_pem(include_bytes!("test_keys/ec-private.pem")).unwrap();
    let ed = EncodingKey::from_ed_pem(include_bytes!("test_keys/ed-private.pem")).unwrap();
    let rsa_public = &include_bytes!("test_keys/rsa-public.pem")[..];
    let cases = [
        (Algorithm::RS256, &rsa, rsa_public),
        (Algorithm::PS256, &rsa, rsa_public),
        (Algorithm::ES256, &ec, &include_bytes!("test_keys/ec-public.pem")[..]),
        (Algorithm::EdDSA, &ed, &include_bytes!("test_keys/ed-public.pem")[..]),
    ];
    for (algorithm, private, public) in cases {
        let token = jsonwebtoken::encode(&Header::new(algorithm), &json!({"sub": "u"}), private).unwrap();
        let verifier = Verifier::new(tokens(public, &[algorithm])).unwrap();
        assert!(verifier.verify(&token, NOW).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn a_key_that_does_not_fit_is_refused_at_once() {
    use Algorithm::{ES256, ES384, EdDSA, HS256, RS256};
    let ec = &include_bytes!("test_keys/ec-public.pem")[..];
    let cases = [
        (tokens(SECRET, &[]), BadKey::NoAlgorithm),
        (tokens(SECRET, &[HS256, RS256]), BadKey::MixedFamilies),
        (tokens(b"", &[HS256]), BadKey::EmptySecret),
        (tokens(SECRET, &[RS256]), BadKey::WrongKey),
        (tokens(ec, &[RS256]), BadKey::WrongKey),
        (tokens(ec, &[EdDSA]), BadKey::WrongKey),
        (tokens(ec, &[ES256, ES384]), BadKey::WrongKey),
        (tokens(include_bytes!("test_keys/ec-private.pem"), &[ES256]), BadKey::WrongKey),
    ];
    for (tokens, expected) in cases {
        let algorithms = format!("{:?}", tokens.algorithms);
        assert_eq!(Verifier::new(tokens).err(), Some(expected), "{algorithms}");
    }
}

#[test]
fn debug_output_shows_no_key() {
    let text = format!("{:?}", hs256());
    assert!(text.contains("redacted") && !text.contains(&format!("{}", SECRET[0])), "{text}");
}
