//! Shared by unit tests and fuzz targets: events, streams, selectors and routes.
#![allow(clippy::unwrap_used)] // A test panics to fail.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::access::{Authority, Binding, Criterion, Principal, Rule, Selector, Source, Wanted};
use crate::admission::{Admitted, NoSlot, Slots};
use crate::codec::http::Handshake;
use crate::event::{Entry, Epoch, Event, EventId, Frames, GapCause, GapRange, Topic};
use crate::hub::entry::place;
use crate::hub::{Asker, Log, Lookup, OffsetsAt, Page, Place, ReplayLimits, TopicDescription};
use crate::route::{
    Admission, DataForm, EventField, HeartbeatForm, Offer, OnGap, OtherMethods, Overflow, QueueLimits, Stream,
    StreamRoute, TokenSources, Transport, WebSocketFrames, WebSocketLimits,
};
use crate::session::{Request, Socket};

pub(crate) fn selector(keys: &[(&str, &str)]) -> Selector {
    let value = |(key, value): (Arc<str>, Box<str>)| Criterion { key, wanted: Wanted::Value(value) };
    Selector(pairs(keys).into_iter().map(value).collect())
}

/// A binding of one source.
pub(crate) fn binding(key: &str, source: Source) -> Binding {
    Binding { key: key.into(), sources: [source].into(), rule: Rule::Any }
}

/// The principal of a token for `sub`; `expires_at` in milliseconds since the Unix epoch.
pub(crate) fn principal(sub: &str, expires_at: Option<i64>) -> Principal {
    Principal { expires_at, ..holder(&json!({ "sub": sub })) }
}

/// The bearer of a token with these claims: an object.
pub(crate) fn holder(claims: &Value) -> Principal {
    let claims = claims.as_object().cloned().unwrap_or_default();
    Principal { claims: Arc::new(claims.into()), expires_at: None, authority: Authority(1), standing: None }
}

/// A limit of slots for all routes together.
#[derive(Debug, Default)]
pub(crate) struct FewSlots(pub(crate) Arc<()>, pub(crate) usize);

impl Slots for FewSlots {
    fn subscribe(&self, _: &StreamRoute, _: Option<&Principal>, _: Instant) -> Result<Admitted, NoSlot> {
        if Arc::strong_count(&self.0) > self.1 {
            return Err(NoSlot::Route);
        }
        Ok(Admitted { slot: Box::new(self.0.clone()), meters: Vec::new() })
    }

    fn take_for(&self, route: &StreamRoute, holder: &Principal, now: Instant) -> Result<Admitted, NoSlot> {
        self.subscribe(route, Some(holder), now)
    }
}

pub(crate) fn stream(id: u16, topics: &[&str]) -> Arc<Stream> {
    let topics = topics.iter().map(|topic| (*topic).into()).collect();
    Arc::new(Stream { id, name: format!("stream-{id}").into(), topics, keys: Box::new([]), state: None })
}

/// A request without options, over HTTP/1.0, for the whole stream of a route.
pub(crate) fn request(route: Arc<StreamRoute>, transport: Transport) -> Request {
    Request {
        route,
        transport,
        content_type: "text/plain",
        http11: false,
        persists: true,
        selector: Selector::default(),
        rule: None,
        subscribe: true,
        from_state: false,
        resume: None,
        heartbeat_form: HeartbeatForm::Silent,
        batch: None,
        probe: None,
        principal: None,
        pace: None,
        headers: None,
        routes: Arc::default(),
        socket: None,
    }
}

/// The state of an opening WebSocket that may take eight slots.
pub(crate) fn socket() -> Box<Socket> {
    Box::new(Socket {
        handshake: Some(Handshake { accept: "key".into(), subprotocol: None }),
        site: None,
        slots: Arc::new(FewSlots(Arc::default(), 8)),
        authenticator: None,
        unauthenticated: None,
        slot: None,
    })
}

/// A public SSE route of a stream of topic `orders`.
#[cfg_attr(not(fuzzing), allow(unreachable_pub))] // The fuzz targets' as well.
pub fn route(pattern: &str) -> StreamRoute {
    StreamRoute {
        pattern: pattern.into(),
        stream: stream(1, &["orders"]),
        offer: Offer::Only(Transport::Sse),
        admission: Admission::Public,
        token_from: TokenSources::default(),
        bindings: [].into(),
        rule: None,
        other_methods: OtherMethods::Refuse,
        data: DataForm::Envelope,
        fields: None,
        event_field: EventField::None,
        frames: WebSocketFrames::Text,
        heartbeat: Duration::from_secs(15),
        heartbeat_form: HeartbeatForm::Silent,
        retry: Duration::from_secs(2),
        on_gap: OnGap::Gone,
        refresh: None,
        queue: QueueLimits { events: 16, bytes: 1 << 16, overflow: Overflow::DropOldest },
        websocket: WebSocketLimits {
            message_bytes: 1000,
            commands_per_second: 5,
            frames_per_second: 100,
            subscriptions: 2,
            pong_timeout: Duration::from_secs(10),
            authenticate_timeout: Duration::from_secs(10),
        },
        stall_timeout: Duration::from_secs(300),
        batch: None,
        max_streams: None,
        quotas: [].into(),
        allowed_origins: [].into(),
        cors: None,
        subprotocols: [].into(),
        subscribe: [].into(),
    }
}

/// When events were received: long after their topic was read first.
const RECEIVED_MS: i64 = 1 << 40;

/// An event with data `{"n":<offset>}` whose time equals its offset.
pub(crate) fn event(topic: &str, partition: i32, offset: i64, keys: &[(&str, &str)]) -> Arc<Event> {
    let id = EventId { topic: topic.into(), partition, offset };
    let members: String = keys.iter().map(|(key, value)| format!(r#""{key}":"{value}","#)).collect();
    let data = format!(r#"{{"n":{offset}}}"#);
    let envelope = format!(r#"{{"id":"{id}","ts":{offset},"type":"test",{members}"data":{data}}}"#);
    let payload = envelope.len() - 1 - data.len()..envelope.len() - 1;
    Arc::new(Event {
        next: offset + 1,
        id,
        ts: offset,
        kind: "test".into(),
        keys: pairs(keys),
        envelope: envelope.into(),
        payload,
        is_base64: false,
        is_gap_without_key: false,
        received: Instant::now(),
        received_ms: RECEIVED_MS,
        trace: None,
        frames: Frames::default(),
    })
}

fn pairs(keys: &[(&str, &str)]) -> Box<[(Arc<str>, Box<str>)]> {
    let mut pairs: Vec<_> = keys.iter().map(|(key, value)| (Arc::from(*key), Box::from(*value))).collect();
    pairs.sort();
    pairs.into()
}

/// A log in memory: entries by partition, in small chunks. The first request for a chunk is pending, the second one
/// returns it.
#[derive(Debug)]
pub(crate) struct FakeLog {
    pub(crate) entries: Vec<Entry>,
    pub(crate) page_entries: usize,
    pub(crate) limits: ReplayLimits,
    /// The first available offset of every partition.
    pub(crate) low: i64,
    /// The end of every partition.
    pub(crate) high: i64,
    /// The epoch of every topic, and its number of partitions.
    pub(crate) epoch: Epoch,
    pub(crate) partitions: i32,
    pub(crate) asked: Mutex<HashSet<String>>,
    /// The chunks that were returned.
    pub(crate) found: Mutex<Vec<Arc<Page>>>,
}

impl FakeLog {
    pub(crate) fn new(entries: Vec<Entry>, page_entries: usize) -> Self {
        let limits = ReplayLimits { events: 1000, bytes: 1 << 20, time: Duration::from_secs(10) };
        let (asked, found) = Default::default();
        Self { entries, page_entries, limits, low: 0, high: i64::MAX, epoch: 0, partitions: 3, asked, found }
    }

    pub(crate) fn read(&self, wanted: &Place) -> Page {
        let is_of = |entry: &&Entry| {
            let (topic, partition, last) = place(entry);
            let is_there = (wanted.offset.max(self.low)..wanted.until).contains(&last);
            *topic == wanted.topic && partition == wanted.partition && is_there
        };
        let mut entries: Vec<Entry> = self.entries.iter().filter(is_of).take(self.page_entries).cloned().collect();
        let is_full = entries.len() == self.page_entries;
        let end = if is_full { entries.last().map_or(wanted.until, |e| place(e).2 + 1) } else { wanted.until };
        let first_ms = entries.first().map(|entry| place(entry).2);
        if wanted.offset < self.low {
            let to = self.low.min(wanted.until) - 1;
            let range = GapRange { topic: wanted.topic.clone(), partition: wanted.partition, from: wanted.offset, to };
            entries.insert(0, Entry::Gap { cause: GapCause::Retention, range });
        }
        if wanted.offset >= self.high {
            let (topic, partition) = (wanted.topic.clone(), wanted.partition);
            let range = GapRange { topic, partition, from: self.high, to: wanted.until - 1 };
            entries.insert(0, Entry::Gap { cause: GapCause::Truncated, range });
        }
        Page {
            topic: wanted.topic.clone(),
            partition: wanted.partition,
            epoch: wanted.epoch,
            offsets: wanted.offset..end,
            entries: entries.into(),
            first_ms,
            bytes: 1,
        }
    }

    /// False for the first request.
    fn is_known(&self, what: String) -> bool {
        !self.asked.lock().unwrap().insert(what)
    }
}

impl Log for FakeLog {
    fn page(&self, wanted: &Place, _: Asker) -> Lookup<Arc<Page>> {
        if !self.is_known(format!("{wanted:?}")) {
            return Lookup::Asked;
        }
        let page = Arc::new(self.read(wanted));
        self.found.lock().unwrap().push(page.clone());
        Lookup::Found(page)
    }

    /// The time of an event equals its offset.
    fn offsets_at(&self, topic: &Topic, ms: i64, _: Asker) -> Lookup<OffsetsAt> {
        if !self.is_known(format!("{topic} at {ms}")) {
            return Lookup::Asked;
        }
        let offsets = (0..self.partitions).map(|partition| {
            let mut places = self.entries.iter().map(place);
            let found = places.find(|(t, p, last)| (*t, *p) == (topic, partition) && *last >= ms);
            found.map_or(i64::MAX, |(_, _, last)| last)
        });
        Lookup::Found(OffsetsAt { epoch: self.epoch, offsets: offsets.collect() })
    }

    fn description(&self, topic: &Topic, since_ms: i64, _: Asker) -> Lookup<TopicDescription> {
        if !self.is_known(format!("{topic} since {since_ms}")) {
            return Lookup::Asked;
        }
        Lookup::Found(TopicDescription { epoch: self.epoch, partitions: usize::try_from(self.partitions).unwrap() })
    }

    fn limits(&self) -> ReplayLimits {
        self.limits
    }
}
