use super::*;
use crate::decode::registered::{InvalidBody, MessageIndexes};

const WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Empty;

impl WriterSchema for Empty {
    fn json(&self, _: &MessageIndexes, _: &[u8]) -> Result<String, InvalidBody> {
        Ok("{}".into())
    }
}

fn key(id: u32) -> Key {
    (SchemaId::Number(id), SchemaFormat::Avro)
}

fn schema() -> Result<Arc<dyn WriterSchema>, String> {
    Ok(Arc::new(Empty))
}

/// `known`, `awaited` or the reason, and whether the schema has to be requested.
fn find(cache: &mut Cache, id: u32, now: Instant) -> (String, bool) {
    let (lookup, is_to_request) = cache.find(key(id), now);
    let lookup = match lookup {
        Lookup::Known(_) => "known".into(),
        Lookup::Awaited => "awaited".into(),
        Lookup::Unavailable(reason) => reason.to_string(),
    };
    (lookup, is_to_request)
}

#[test]
fn a_missing_schema_is_requested_once_and_kept() {
    let (mut cache, now) = (Cache::new(WAIT), Instant::now());
    assert_eq!(find(&mut cache, 1, now), ("awaited".into(), true));
    assert_eq!(find(&mut cache, 1, now), ("awaited".into(), false));
    assert!(!cache.obtained(key(1), schema(), 100, now));
    assert_eq!(find(&mut cache, 1, now + 1000 * WAIT), ("known".into(), false));
    assert_eq!((cache.len(), cache.bytes), (1, 100));
    // Another format is another schema.
    assert!(matches!(cache.find((SchemaId::Number(1), SchemaFormat::Protobuf), now), (Lookup::Awaited, true)));
}

#[test]
fn records_wait_for_a_limited_time_and_once() {
    let (mut cache, now) = (Cache::new(WAIT), Instant::now());
    let at = |seconds| now + Duration::from_secs(seconds);
    find(&mut cache, 1, now);
    let failed = cache.failed(key(1), "refused", false, at(1));
    assert_eq!(failed, Failed { again_in: Some(PAUSE), is_first: true });
    assert_eq!(find(&mut cache, 1, at(9)), ("awaited".into(), false));
    assert_eq!(find(&mut cache, 1, at(10)), ("refused".into(), false), "a request is under way");
    assert_eq!(cache.failed(key(1), "refused", false, at(11)), Failed { again_in: None, is_first: false });
    assert_eq!(find(&mut cache, 1, at(20)), ("refused".into(), false));
    assert_eq!(find(&mut cache, 1, at(21)), ("refused".into(), true));
    assert_eq!(find(&mut cache, 1, at(22)), ("refused".into(), false));
    // The registry has been down for longer than records wait.
    let reason = "the registry has not provided it within 10s";
    assert_eq!(find(&mut cache, 2, at(23)), (reason.into(), true));
    assert!(cache.obtained(key(1), schema(), 1, at(24)));
    assert_eq!(find(&mut cache, 1, at(24)), ("known".into(), false));
    assert_eq!(find(&mut cache, 3, at(24)), ("awaited".into(), true));
}

#[test]
fn an_unknown_id_is_requested_again_for_a_short_time() {
    let (mut cache, now) = (Cache::new(WAIT), Instant::now());
    find(&mut cache, 1, now);
    let failed = cache.failed(key(1), "unknown", true, now);
    assert_eq!(failed, Failed { again_in: Some(PAUSE), is_first: false });
    assert_eq!(find(&mut cache, 1, now + UNKNOWN_WAIT - PAUSE), ("awaited".into(), false));
    assert_eq!(cache.failed(key(1), "unknown", true, now + UNKNOWN_WAIT - PAUSE).again_in, None);
    assert_eq!(find(&mut cache, 1, now + UNKNOWN_WAIT), ("unknown".into(), false));
}

#[test]
fn an_unusable_schema_is_not_requested_again() {
    let (mut cache, now) = (Cache::new(WAIT), Instant::now());
    find(&mut cache, 1, now);
    cache.obtained(key(1), Err("it is not a schema".into()), 5, now);
    assert_eq!(find(&mut cache, 1, now + 1000 * WAIT), ("it is not a schema".into(), false));
    assert_eq!((cache.len(), cache.bytes), (0, 0));
}

#[test]
fn the_cache_is_limited() {
    let (mut cache, now) = (Cache::new(WAIT), Instant::now());
    for id in 0..SCHEMAS_MAX as u32 {
        find(&mut cache, id, now);
    }
    let full = "too many other schemas are being requested";
    assert_eq!(find(&mut cache, 5000, now), (full.into(), false));
    cache.obtained(key(7), schema(), 1, now);
    cache.obtained(key(8), schema(), 1, now + PAUSE);
    assert_eq!(find(&mut cache, 5000, now), ("awaited".into(), true));
    assert_eq!((cache.entries.len(), cache.len(), cache.bytes), (SCHEMAS_MAX, 1, 1));
    cache.obtained(key(9), schema(), SCHEMA_TEXTS_BYTES_MAX, now + 2 * PAUSE);
    assert_eq!((cache.len(), cache.bytes), (1, SCHEMA_TEXTS_BYTES_MAX));
}

#[test]
fn other_settings_keep_schemas_as_long_as_ids_mean_the_same() {
    let (mut cache, now) = (Cache::new(WAIT), Instant::now());
    find(&mut cache, 1, now);
    cache.obtained(key(1), schema(), 100, now);
    find(&mut cache, 2, now);
    cache.failed(key(2), "the response has status 401", false, now + WAIT);
    find(&mut cache, 3, now);
    cache.reconfigure(2 * WAIT, true);
    assert_eq!(find(&mut cache, 1, now), ("known".into(), false));
    assert_eq!(find(&mut cache, 2, now), ("awaited".into(), true));
    assert_eq!(find(&mut cache, 3, now), ("awaited".into(), false));
    cache.reconfigure(2 * WAIT, false);
    assert_eq!((cache.len(), cache.bytes), (0, 0));
    assert_eq!(find(&mut cache, 1, now), ("awaited".into(), true));
}
