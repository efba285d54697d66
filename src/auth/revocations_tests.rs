use serde_json::json;

use super::*;

const HOUR: i64 = 3_600_000;

fn revocations() -> Arc<Revocations> {
    Arc::new(Revocations::new(Duration::from_secs(3600)))
}

fn is_revoked(revocations: &Arc<Revocations>, claims: &Value) -> bool {
    Revocable::new(revocations, claims.as_object().unwrap()).is_revoked()
}

#[test]
fn a_revocation_names_a_subject_a_session_or_a_token() {
    let now = unix_ms();
    let token = json!({"iss": "i", "sub": "u1", "sid": "s1", "jti": "t1", "iat": now / 1000 - 60});
    for (record, concerns) in [
        (json!({"sub": "u1"}), true),
        (json!({"sid": "s1"}), true),
        (json!({"jti": "t1"}), true),
        (json!({"iss": "i", "sub": "u1"}), true),
        (json!({"iss": "other", "sub": "u1"}), false),
        (json!({"sub": "u2"}), false),
        (json!({"sid": "u1"}), false),
        (json!({"jti": "other", "sub": "u1"}), false),
        (json!({"sid": "other", "sub": "u1"}), false),
        (json!({"sub": "u1", "iat": now / 1000 - 61}), false),
        (json!({"sub": "u1", "iat": now / 1000 - 60}), true),
        (json!({"jti": "t1", "iat": 1}), true),
        (json!({"sub": "u1", "exp": now / 1000 - 1}), false),
        (json!({"sub": "u1", "exp": now / 1000 + 60, "other": [1]}), true),
    ] {
        let revocations = revocations();
        revocations.add(record.to_string().as_bytes(), now).unwrap();
        assert_eq!(is_revoked(&revocations, &token), concerns, "{record}");
    }
}

#[test]
fn a_number_identifies_like_its_text() {
    for (record, claims, concerns) in [
        (json!({"sub": 7}), json!({"sub": 7}), true),
        (json!({"sub": "7"}), json!({"sub": 7}), true),
        (json!({"sid": 7}), json!({"sid": "7"}), true),
        (json!({"jti": 7, "iss": "i"}), json!({"jti": 7, "iss": "i"}), true),
        (json!({"sub": 8}), json!({"sub": 7}), false),
    ] {
        let revocations = revocations();
        revocations.add(record.to_string().as_bytes(), unix_ms()).unwrap();
        assert_eq!(is_revoked(&revocations, &claims), concerns, "{record} {claims}");
    }
}

#[test]
fn who_logs_in_again_is_accepted() {
    let (revocations, now) = (revocations(), unix_ms());
    revocations.add(br#"{"sub":"u1"}"#, now - 5000).unwrap();
    let issued = |at: i64| json!({"sub": "u1", "iat": at / 1000});
    assert!(is_revoked(&revocations, &issued(now - 10_000)));
    assert!(!is_revoked(&revocations, &issued(now)));
    assert!(is_revoked(&revocations, &json!({"sub": "u1"})), "nothing says when it was issued");
    // An older one that comes later changes nothing.
    revocations.add(br#"{"sub":"u1"}"#, now - 60_000).unwrap();
    assert!(is_revoked(&revocations, &issued(now - 10_000)));
}

#[test]
fn other_records_are_none() {
    let revocations = revocations();
    for (record, why) in [
        (&b"null"[..], BadRevocation::Malformed),
        (b"[]", BadRevocation::Malformed),
        (b"{", BadRevocation::Malformed),
        (br#"{"sub":"u1","iat":"now"}"#, BadRevocation::Malformed),
        (b"{}", BadRevocation::NamesNothing),
        (br#"{"sub":""}"#, BadRevocation::NamesNothing),
        (br#"{"sub":null}"#, BadRevocation::NamesNothing),
        (br#"{"sub":["u1"]}"#, BadRevocation::NamesNothing),
        (br#"{"sub":1.5}"#, BadRevocation::NamesNothing),
        (br#"{"jti":{},"sub":"u1"}"#, BadRevocation::NamesNothing),
    ] {
        assert_eq!(revocations.add(record, unix_ms()), Err(why), "{}", String::from_utf8_lossy(record));
    }
    assert!(revocations.is_empty());
}

#[test]
fn they_are_bounded_in_number_and_time() {
    let revocations = revocations();
    let add = |name: &str, made_at: i64, now: i64| {
        revocations.add_at(json!({"sub": name}).to_string().as_bytes(), made_at, now, 3).unwrap()
    };
    for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(add(name, n as i64, 10), Revoked::Added);
    }
    assert_eq!(add("b", 5, 10), Revoked::Added, "the same again");
    assert_eq!(add("d", 10, 10), Revoked::AddedForOther);
    assert_eq!(revocations.len(), 3);
    assert!(
        !revocations.known.read().unwrap().by_id.contains_key(&revocations.id("sub", None, "a")),
        "it expires first"
    );
    assert_eq!(add("e", 0, HOUR), Revoked::Expired);
    assert_eq!(add("e", HOUR, HOUR + 8), Revoked::Added);
    assert_eq!(revocations.len(), 2, "all but one have expired");
    assert_eq!(revocations.known.read().unwrap().by_expiry.len(), 2);
}
