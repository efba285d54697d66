//! Any bytes as a record of any kind of topic: it is rejected, or becomes an event whose envelope is one line of JSON
//! with the record's id, and that every transport can send.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use sidestream::codec::Form;
use sidestream::decode::mapping::{Mapping, Origin, Origins};
use sidestream::decode::{Decoder, Format, Header, Preset, Record, Shape, ShownHeaders, Undecodable};
use sidestream::event::FrameKey;

static SHAPES: LazyLock<[Shape; 5]> = LazyLock::new(|| {
    let shape = |format, headers| Shape { format, headers, ..Shape::new(["orderId".into(), "userId".into()]) };
    let order = Origins([Origin::InKey(["id".into()].into()), Origin::Key].into());
    let keys = [("orderId".into(), order), ("userId".into(), Origin::Header("user".into()).into())];
    let ts = Origin::Pointer(["meta".into(), "time".into()].into());
    let mapping = Mapping::new(Origin::field("eventType").into(), ts.into(), keys);
    let changes = Preset::Debezium.mapping(["orderId".into(), "userId".into()]);
    let mapped = shape(Format::Json, ShownHeaders::Named(["user".into()].into()));
    [
        shape(Format::Json, ShownHeaders::All),
        Shape { mapping: Some(Arc::new(mapping)), ..mapped.clone() },
        Shape { mapping: Some(Arc::new(changes)), ..mapped },
        shape(Format::Text, ShownHeaders::All),
        shape(Format::Binary, ShownHeaders::Named([].into())),
    ]
});

fuzz_target!(|input: (u8, Option<&[u8]>, Vec<Header<'_>>, Option<i64>, &[u8])| {
    let (kind, key, headers, timestamp, value) = input;
    let shape = &SHAPES[usize::from(kind) % SHAPES.len()];
    // One in eight is a tombstone.
    let value = (kind & 0xe0 != 0).then_some(value);
    let record = Record {
        partition: 3,
        offset: 42,
        timestamp,
        key,
        headers: &headers,
        value,
        received: Instant::now(),
        received_ms: 2000,
        trace: None,
    };
    let event = match Decoder::new("orders".into(), shape).decode(&record) {
        Ok(event) => event,
        Err(error) => return assert!(!matches!(error, Undecodable::Panicked)),
    };
    assert!(!event.envelope.contains(&b'\n') && !event.envelope.contains(&b'\r'));
    // As raw text: a number may exceed all types, and nesting may exceed the limits of other readers.
    let is_json = |text| serde_json::from_slice::<&RawValue>(text).is_ok();
    assert!(is_json(&event.envelope) && is_json(event.data()));
    assert!(event.envelope.starts_with(b"{\"id\":\"orders:3:42\",\"ts\":"));
    assert!(event.envelope[..event.payload.start].ends_with(b"\"data\":"));
    assert!(event.keys.is_sorted() && event.keys.len() <= shape.keys.len());
    for form in 0..=u8::MAX {
        assert!(!Form::of(FrameKey::new(1, form)).event(&event, b"cursor").is_empty());
    }
});
