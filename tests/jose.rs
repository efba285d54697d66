//! Tokens and JWKs as an identity provider creates them, by OpenSSL: for unit tests, integration tests and benchmarks.

#![allow(dead_code, reason = "each program uses some of it")]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer};
use serde_json::{Value, json};

/// A private key, or an HMAC secret.
pub(crate) type Key = PKey<Private>;

pub(crate) fn secret(bytes: &[u8]) -> Key {
    PKey::hmac(bytes).unwrap()
}

pub(crate) fn private(pem: &[u8]) -> Key {
    PKey::private_key_from_pem(pem).unwrap()
}

/// A token with this header, whose `alg` decides how it is signed.
pub(crate) fn token(header: &Value, claims: &Value, key: &Key) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = signature(header["alg"].as_str().unwrap(), key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn signature(algorithm: &str, key: &Key, message: &[u8]) -> Vec<u8> {
    let digest = match &algorithm[algorithm.len() - 3..] {
        "256" => MessageDigest::sha256(),
        "384" => MessageDigest::sha384(),
        "512" => MessageDigest::sha512(),
        _ => return Signer::new_without_digest(key).unwrap().sign_oneshot_to_vec(message).unwrap(),
    };
    let mut signer = Signer::new(digest, key).unwrap();
    if algorithm.starts_with("PS") {
        signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
        signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).unwrap();
    }
    let signature = signer.sign_oneshot_to_vec(message).unwrap();
    if !algorithm.starts_with("ES") {
        return signature;
    }
    let signature = EcdsaSig::from_der(&signature).unwrap();
    let bytes = if algorithm == "ES256" { 32 } else { 48 };
    [signature.r(), signature.s()].map(|number| number.to_vec_padded(bytes).unwrap()).concat()
}

/// The public part of an RSA, P-256, P-384 or Ed25519 key, or a secret (RFC 7517, RFC 8037).
pub(crate) fn jwk(key: &Key) -> Value {
    let text = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
    match key.id() {
        Id::RSA => {
            let key = key.rsa().unwrap();
            json!({ "kty": "RSA", "n": text(key.n().to_vec()), "e": text(key.e().to_vec()) })
        }
        Id::EC => {
            let key = key.ec_key().unwrap();
            let is_p256 = key.group().curve_name() == Some(Nid::X9_62_PRIME256V1);
            let (curve, bytes) = if is_p256 { ("P-256", 32) } else { ("P-384", 48) };
            let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
            let mut context = BigNumContext::new().unwrap();
            key.public_key().affine_coordinates(key.group(), &mut x, &mut y, &mut context).unwrap();
            let [x, y] = [x, y].map(|number| text(number.to_vec_padded(bytes).unwrap()));
            json!({ "kty": "EC", "crv": curve, "x": x, "y": y })
        }
        Id::HMAC => json!({ "kty": "oct", "k": text(key.raw_private_key().unwrap()) }),
        _ => json!({ "kty": "OKP", "crv": "Ed25519", "x": text(key.raw_public_key().unwrap()) }),
    }
}
