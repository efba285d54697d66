//! Signatures of tokens (RFC 7518 section 3, RFC 8037) by OpenSSL, which is linked for TLS anyway. jsonwebtoken calls
//! this for every token.
//!
//! sidestream verifies the tokens of issuers, whose private keys it never has. It signs with secrets alone: tickets, and
//! the tokens of the demo.

use std::ops::RangeInclusive;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private, Public};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{self, RsaPssSaltlen};

/// The length of the modulus of an RSA key. The lower bound is that of RFC 7518 section 3.3; the upper bound limits the
/// time that a verification takes.
const RSA_MODULUS_BITS: RangeInclusive<i32> = 2048..=8192;
/// The longest exponent of an RSA public key, for the same reason.
const RSA_EXPONENT_BITS_MAX: i32 = 64;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // For JWKs of private keys, and thumbprints.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes jsonwebtoken use OpenSSL, in the whole process. Further calls do nothing.
pub(super) fn install() {
    let _is_first = PROVIDER.install_default();
}

/// An HMAC secret.
struct Secret {
    algorithm: Algorithm,
    digest: MessageDigest,
    key: PKey<Private>,
}

/// A public key.
struct PublicKey {
    algorithm: Algorithm,
    /// `None` if the algorithm itself defines it.
    digest: Option<MessageDigest>,
    key: PKey<Public>,
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    if (algorithm.family(), key.family()) != (AlgorithmFamily::Hmac, AlgorithmFamily::Hmac) {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(Secret::new(*algorithm, key.as_bytes())?))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if algorithm.family() != key.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let digest = digest(*algorithm)?;
    let public = |key: PKey<Public>| PublicKey { algorithm: *algorithm, digest, key };
    Ok(match algorithm.family() {
        AlgorithmFamily::Hmac => Box::new(Secret::new(*algorithm, key.try_get_as_bytes()?)?),
        AlgorithmFamily::Rsa => Box::new(public(rsa_key(key.kind())?)),
        AlgorithmFamily::Ec => Box::new(public(ec_key(*algorithm, key.try_get_as_bytes()?)?)),
        AlgorithmFamily::Ed => Box::new(public(ed_key(key.try_get_as_bytes()?)?)),
    })
}

fn digest(algorithm: Algorithm) -> Result<Option<MessageDigest>, Error> {
    Ok(match algorithm {
        Algorithm::HS256 | Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => Some(MessageDigest::sha256()),
        Algorithm::HS384 | Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => Some(MessageDigest::sha384()),
        Algorithm::HS512 | Algorithm::RS512 | Algorithm::PS512 => Some(MessageDigest::sha512()),
        Algorithm::EdDSA => None,
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    })
}

/// The curve of an ECDSA algorithm, and the bytes of one of its coordinates (RFC 7518 section 3.4).
fn curve(algorithm: Algorithm) -> Option<(Nid, usize)> {
    match algorithm {
        Algorithm::ES256 => Some((Nid::X9_62_PRIME256V1, 32)),
        Algorithm::ES384 => Some((Nid::SECP384R1, 48)),
        _ => None,
    }
}

fn rsa_key(kind: &DecodingKeyKind) -> Result<PKey<Public>, Error> {
    let malformed = |_: ErrorStack| Error::from(ErrorKind::InvalidRsaKey("it is malformed".into()));
    let key = match kind {
        DecodingKeyKind::SecretOrDer(der) => Rsa::public_key_from_der_pkcs1(der),
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            BigNum::from_slice(n).and_then(|n| Rsa::from_public_components(n, BigNum::from_slice(e)?))
        }
    };
    let key = key.map_err(malformed)?;
    if !RSA_MODULUS_BITS.contains(&key.n().num_bits()) || key.e().num_bits() > RSA_EXPONENT_BITS_MAX {
        return Err(ErrorKind::InvalidRsaKey("its length is not supported".into()).into());
    }
    PKey::from_rsa(key).map_err(malformed)
}

/// From an uncompressed point (SEC 1 section 2.3.3).
fn ec_key(algorithm: Algorithm, point: &[u8]) -> Result<PKey<Public>, Error> {
    let invalid = || Error::from(ErrorKind::InvalidEcdsaKey);
    let (nid, bytes) = curve(algorithm).ok_or_else(invalid)?;
    if point.len() != 1 + 2 * bytes {
        return Err(invalid());
    }
    let key = || {
        let (group, mut context) = (EcGroup::from_curve_name(nid)?, BigNumContext::new()?);
        let point = EcPoint::from_bytes(&group, point, &mut context)?;
        let key = EcKey::from_public_key(&group, &point)?;
        key.check_key()?;
        PKey::from_ec_key(key)
    };
    key().map_err(|_: ErrorStack| invalid())
}

fn ed_key(bytes: &[u8]) -> Result<PKey<Public>, Error> {
    PKey::public_key_from_raw_bytes(bytes, Id::ED25519).map_err(|_| ErrorKind::InvalidEddsaKey.into())
}

impl Secret {
    fn new(algorithm: Algorithm, secret: &[u8]) -> Result<Self, Error> {
        let invalid = || Error::from(ErrorKind::InvalidKeyFormat);
        let key = PKey::hmac(secret).map_err(|_| invalid())?;
        Ok(Self { algorithm, digest: digest(algorithm)?.ok_or_else(invalid)?, key })
    }

    fn code(&self, message: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        sign::Signer::new(self.digest, &self.key)?.sign_oneshot_to_vec(message)
    }
}

impl Signer<Vec<u8>> for Secret {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        self.code(message).map_err(signature::Error::from_source)
    }
}

impl JwtSigner for Secret {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Secret {
    fn verify(&self, message: &[u8], code: &Vec<u8>) -> Result<(), signature::Error> {
        let expected = self.code(message).map_err(signature::Error::from_source)?;
        accept(expected.len() == code.len() && memcmp::eq(&expected, code))
    }
}

impl JwtVerifier for Secret {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl PublicKey {
    fn is_valid(&self, message: &[u8], signature: &[u8]) -> Result<bool, ErrorStack> {
        let mut verifier = match self.digest {
            Some(digest) => sign::Verifier::new(digest, &self.key)?,
            None => sign::Verifier::new_without_digest(&self.key)?,
        };
        match self.algorithm {
            Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 => {
                verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
                verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
            }
            Algorithm::ES256 | Algorithm::ES384 => {
                let Some(signature) = ecdsa_der(self.algorithm, signature)? else { return Ok(false) };
                return verifier.verify_oneshot(&signature, message);
            }
            _ => {}
        }
        verifier.verify_oneshot(signature, message)
    }
}

/// An ECDSA signature in OpenSSL's form. `None` if its length is not that of its algorithm.
fn ecdsa_der(algorithm: Algorithm, signature: &[u8]) -> Result<Option<Vec<u8>>, ErrorStack> {
    let Some((_, bytes)) = curve(algorithm).filter(|(_, bytes)| signature.len() == 2 * bytes) else { return Ok(None) };
    let (r, s) = signature.split_at(bytes);
    let signature = EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
    signature.to_der().map(Some)
}

impl Verifier<Vec<u8>> for PublicKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        accept(self.is_valid(message, signature).map_err(signature::Error::from_source)?)
    }
}

impl JwtVerifier for PublicKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn accept(is_valid: bool) -> Result<(), signature::Error> {
    if is_valid { Ok(()) } else { Err(signature::Error::new()) }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const MESSAGE: &[u8] = b"header.claims";

    fn is_valid(signature: &[u8], key: &DecodingKey, algorithm: Algorithm) -> Result<bool, ErrorKind> {
        install();
        let signature = URL_SAFE_NO_PAD.encode(signature);
        jsonwebtoken::crypto::verify(&signature, MESSAGE, key, algorithm).map_err(Error::into_kind)
    }

    fn rsa(bits: u32) -> (PKey<Private>, DecodingKey) {
        let key = Rsa::generate(bits).unwrap();
        let public = DecodingKey::from_rsa_raw_components(&key.n().to_vec(), &key.e().to_vec());
        (PKey::from_rsa(key).unwrap(), public)
    }

    #[test]
    fn rsa_keys_have_a_least_and_a_greatest_length() {
        let (private, public) = rsa(2048);
        let signature =
            sign::Signer::new(MessageDigest::sha256(), &private).unwrap().sign_oneshot_to_vec(MESSAGE).unwrap();
        assert_eq!(is_valid(&signature, &public, Algorithm::RS256), Ok(true));
        assert_eq!(is_valid(&signature, &public, Algorithm::RS384), Ok(false));
        assert_eq!(is_valid(&signature, &public, Algorithm::PS256), Ok(false));
        assert_eq!(is_valid(&signature[1..], &public, Algorithm::RS256), Ok(false));
        assert!(is_valid(b"", &rsa(1024).1, Algorithm::RS256).is_err());
        let long = DecodingKey::from_rsa_raw_components(&[0xff; 1025], &[1, 0, 1]);
        assert!(is_valid(b"", &long, Algorithm::RS256).is_err());
        let slow = DecodingKey::from_rsa_raw_components(&[0xff; 256], &[0xff; 9]);
        assert!(is_valid(b"", &slow, Algorithm::RS256).is_err());
    }

    #[test]
    fn ecdsa_signatures_have_the_length_of_their_curve_and_points_are_on_it() {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let private = EcKey::generate(&group).unwrap();
        let mut context = BigNumContext::new().unwrap();
        let form = openssl::ec::PointConversionForm::UNCOMPRESSED;
        let point = private.public_key().to_bytes(&group, form, &mut context).unwrap();
        let digest = openssl::hash::hash(MessageDigest::sha256(), MESSAGE).unwrap();
        let signature = EcdsaSig::sign(&digest, &private).unwrap();
        let [r, s] = [signature.r(), signature.s()].map(|number| number.to_vec_padded(32).unwrap());
        let key = DecodingKey::from_ec_der(&point);
        let check = |signature: &[u8]| is_valid(signature, &key, Algorithm::ES256);
        assert_eq!(check(&[&r[..], &s].concat()), Ok(true));
        assert_eq!(check(&[&s[..], &r].concat()), Ok(false));
        assert_eq!(check(&[&[0][..], &r, &s].concat()), Ok(false));
        assert_eq!(check(&[0; 64]), Ok(false), "CVE-2022-21449");
        assert_eq!(check(b""), Ok(false));
        assert_eq!(check(&signature.to_der().unwrap()), Ok(false), "another form");
        let mut elsewhere = point;
        elsewhere[64] ^= 1;
        for point in [&elsewhere[..], &elsewhere[..64], &[0], b""] {
            assert!(is_valid(b"", &DecodingKey::from_ec_der(point), Algorithm::ES256).is_err());
        }
    }

    #[test]
    fn no_private_key_signs() {
        install();
        let key = EncodingKey::from_secret(&[1; 32]);
        assert!(jsonwebtoken::crypto::sign(MESSAGE, &key, Algorithm::HS256).is_ok());
        assert!(jsonwebtoken::crypto::sign(MESSAGE, &key, Algorithm::ES256).is_err());
    }
}
