//! What unit tests share: events, streams, selectors and routes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::access::Selector;
use crate::event::{Event, EventId, Frames};
use crate::route::{
    Admission, DataForm, EventField, HeartbeatForm, Offer, OnGap, OtherMethods, Overflow, QueueLimits, Stream,
    StreamRoute, Transport, WebSocketLimits,
};

pub(crate) fn selector(keys: &[(&str, &str)]) -> Selector {
    Selector(pairs(keys))
}

pub(crate) fn stream(id: u16, topics: &[&str]) -> Arc<Stream> {
    let topics = topics.iter().map(|topic| (*topic).into()).collect();
    Arc::new(Stream { id, name: format!("stream-{id}").into(), topics, keys: Box::new([]) })
}

/// A public SSE route of a stream of topic `orders`.
pub(crate) fn route(pattern: &str) -> StreamRoute {
    StreamRoute {
        pattern: pattern.into(),
        stream: stream(1, &["orders"]),
        offer: Offer::Only(Transport::Sse),
        admission: Admission::Public,
        bindings: [].into(),
        other_methods: OtherMethods::Refuse,
        data: DataForm::Envelope,
        event_field: EventField::None,
        heartbeat: Duration::from_secs(15),
        heartbeat_form: HeartbeatForm::Silent,
        retry: Duration::from_secs(2),
        on_gap: OnGap::Gone,
        refresh: None,
        queue: QueueLimits { events: 16, bytes: 1 << 16, overflow: Overflow::DropOldest },
        websocket: WebSocketLimits {
            message_bytes: 1000,
            commands_per_second: 5,
            subscriptions: 2,
            pong_timeout: Duration::from_secs(10),
        },
        max_streams: None,
        allowed_origins: [].into(),
        subprotocols: [].into(),
    }
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
