//! Events, streams and selectors for the tests of the core.

use std::sync::Arc;
use std::time::Instant;

use crate::access::Selector;
use crate::event::{Event, EventId, Frames};
use crate::route::Stream;

pub(crate) fn selector(keys: &[(&str, &str)]) -> Selector {
    Selector(pairs(keys))
}

pub(crate) fn stream(id: u16, topics: &[&str]) -> Arc<Stream> {
    let topics = topics.iter().map(|topic| (*topic).into()).collect();
    Arc::new(Stream { id, name: format!("stream-{id}").into(), topics, keys: Box::new([]) })
}

/// An event with data `{"n":<offset>}` whose time is its offset.
pub(crate) fn event(topic: &str, partition: i32, offset: i64, keys: &[(&str, &str)]) -> Arc<Event> {
    let id = EventId { topic: topic.into(), partition, offset };
    let members: String = keys.iter().map(|(key, value)| format!(r#""{key}":"{value}","#)).collect();
    let data = format!(r#"{{"n":{offset}}}"#);
    let envelope = format!(r#"{{"id":"{id}","ts":{offset},"type":"test",{members}"data":{data}}}"#);
    let payload = envelope.len() - 1 - data.len()..envelope.len() - 1;
    Arc::new(Event {
        id,
        ts: offset,
        kind: "test".into(),
        keys: pairs(keys),
        envelope: envelope.into(),
        payload,
        received: Instant::now(),
        frames: Frames::default(),
    })
}

fn pairs(keys: &[(&str, &str)]) -> Box<[(Arc<str>, Box<str>)]> {
    let mut pairs: Vec<_> = keys.iter().map(|(key, value)| (Arc::from(*key), Box::from(*value))).collect();
    pairs.sort();
    pairs.into()
}
