//! The cost of single operations: decoding a record, encoding an event, writing it, appending it to the window,
//! matching it with the index, routing, deciding by a rule, and verifying a token. `cargo bench --bench pieces`; `end_to_end` measures the whole and includes
//! these figures.

#![allow(clippy::unwrap_used, reason = "a benchmark ends where its input is wrong")]

use std::hint::black_box;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use sidestream::access::{Claims, Selector};
use sidestream::auth::{Algorithm, Issuer, KeyFile, TokenKey, TrustedIssuer, Verifier};
use sidestream::codec::{Form, Parts, TransferCoding};
use sidestream::decode::{Decoder, Record, Shape};
use sidestream::event::{Assigned, Entry, Event, Topic};
use sidestream::hub::{Hub, Index, Subscriber, WindowLimits};
use sidestream::route::{
    Admission, DataForm, EventField, HeartbeatForm, Offer, OnGap, OtherMethods, Overflow, QueueLimits, RouteTable,
    Stream, StreamRoute, Transport, WebSocketFrames, WebSocketLimits,
};
use sidestream::rule::{Compared, Expression, Input, Root, Rule};

#[path = "../tests/jose.rs"]
mod jose;

const CURSOR: &[u8] = b"v1.AAAAAQ.0123456789";
const USERS: usize = 10_000;
const ROUTES: usize = 1_000;

fn topic() -> Topic {
    "orders".into()
}

fn stream() -> Arc<Stream> {
    Arc::new(Stream { id: 1, name: topic(), topics: [topic()].into(), keys: ["user".into()].into(), state: None })
}

fn value(user: usize) -> String {
    format!(r#"{{"type":"bench","user":"user-{user:05}","data":"{}"}}"#, "x".repeat(200))
}

fn decode(decoder: &mut Decoder, offset: i64, value: &str) -> Event {
    let (now, received_ms) = (Instant::now(), 1_790_000_000_000);
    let value = Some(value.as_bytes());
    let record = Record {
        partition: 0,
        offset,
        timestamp: Some(received_ms),
        key: None,
        headers: &[],
        value,
        received: now,
        received_ms,
        trace: None,
    };
    decoder.decode(&record).unwrap()
}

fn decoder() -> Decoder {
    Decoder::new(topic(), &Shape::new(["user".into()]))
}

fn decoding(criterion: &mut Criterion) {
    let (mut decoder, value) = (decoder(), value(1));
    criterion.bench_function("decode_envelope", |bencher| {
        bencher.iter(|| decode(&mut decoder, 1, black_box(&value)));
    });
}

fn encoding(criterion: &mut Criterion) {
    let event = decode(&mut decoder(), 1, &value(1));
    for transport in Transport::ALL {
        let (data, frames, event_field) = (DataForm::Envelope, WebSocketFrames::Text, EventField::None);
        let form = Form { transport, data, event_field, frames }.relevant();
        criterion.bench_function(&format!("encode_{}", transport.as_str()), |bencher| {
            bencher.iter(|| form.event(black_box(&event), CURSOR));
        });
    }
}

/// The cost of a write by the way in which its parts are passed to the kernel.
fn writing(criterion: &mut Criterion) {
    const EVENTS: usize = 64;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.set_nodelay(true).unwrap();
    let coding = TransferCoding::Chunked;
    for bytes in [220, 2048] {
        let event = vec![b'x'; bytes];
        let (before, after) = (coding.before(bytes), coding.after(bytes));
        let mut received = vec![0; EVENTS * coding.len(bytes)];
        let mut buffer = Vec::new();
        criterion.bench_function(&format!("write_copied_{bytes}"), |bencher| {
            bencher.iter(|| {
                let mut parts = Parts::new(&mut buffer);
                for _ in 0..EVENTS {
                    parts.copy(before.as_ref());
                    parts.copy(black_box(&event));
                    parts.copy(after);
                }
                server.write_all(parts.only().unwrap()).unwrap();
                client.read_exact(&mut received).unwrap();
            });
        });
        criterion.bench_function(&format!("write_vectored_{bytes}"), |bencher| {
            bencher.iter(|| {
                let event = black_box(&event);
                let parts = [before.as_ref(), event, after].map(IoSlice::new).repeat(EVENTS);
                assert_eq!(server.write_vectored(&parts).unwrap(), received.len());
                client.read_exact(&mut received).unwrap();
            });
        });
    }
}

fn hub(criterion: &mut Criterion) {
    let mut hub = Hub::new([(topic(), WindowLimits { events: 500, bytes: 1 << 24 })]);
    hub.assign(&Assigned::new(topic(), 1, [0]));
    hub.go_live(&[topic()]);
    let (mut decoder, mut offset) = (decoder(), 0);
    criterion.bench_function("hub_append", |bencher| {
        let next = || {
            offset += 1;
            Entry::Event(Arc::new(decode(&mut decoder, offset, "{}")))
        };
        bencher.iter_batched(next, |entry| hub.append(&entry), BatchSize::SmallInput);
    });
}

fn index(criterion: &mut Criterion) {
    let (stream, mut index) = (stream(), Index::default());
    let form = Form {
        transport: Transport::Sse,
        data: DataForm::Envelope,
        event_field: EventField::None,
        frames: WebSocketFrames::Text,
    };
    for user in 0..USERS {
        let Ok(selector) = Selector::default().with(&"user".into(), &format!("user-{user:05}"), None, None) else {
            continue;
        };
        index.subscribe(&stream, &selector, Subscriber { session: user as u32, frame: form.key(stream.id) });
    }
    let event = decode(&mut decoder(), 1, &value(4_711));
    criterion.bench_function("index_10k_keys", |bencher| {
        bencher.iter(|| index.matches(black_box(&event), |_, found| assert_eq!(black_box(found).len(), 1)));
    });
}

fn routes(criterion: &mut Criterion) {
    let routes = (0..ROUTES).map(|n| Arc::new(route(&format!("/shop-{n}/orders/{{orderId}}/events")))).collect();
    let table = RouteTable::new(routes).unwrap();
    criterion.bench_function("route_1k", |bencher| {
        bencher.iter(|| black_box(table.find(black_box("/shop-500/orders/order-123/events"))));
    });
}

/// `claims.admin == true || event.data.owner == claims.sub`, for an event of 250 bytes: its fields are looked up once
/// for all clients, and the rest is evaluated once for each user.
fn rules(criterion: &mut Criterion) {
    let inputs = [(Root::Claims, "admin"), (Root::Event, "data.owner"), (Root::Claims, "sub")];
    let inputs = inputs.map(|(root, path)| Input { root, path: path.split('.').map(Box::from).collect() });
    let equal = |one, other| Box::new(Expression::Compare(Compared::Equal, Box::new(one), Box::new(other)));
    let is_admin = equal(Expression::Input(0), Expression::Literal(true.into()));
    let is_owner = equal(Expression::Input(1), Expression::Input(2));
    let rule = Rule::new("/x".into(), "owner", Expression::Or(is_admin, is_owner), inputs.into());
    let claims = serde_json::json!({ "admin": false, "sub": "user-00001" });
    let bound = Arc::new(rule).bind(claims.as_object().cloned().map(Claims::from).as_ref(), &[]);
    let value = format!(r#"{{"type":"bench","data":{{"text":"{}","owner":"user-00001"}}}}"#, "x".repeat(200));
    let event = decode(&mut decoder(), 1, &value);
    criterion.bench_function("rule_facts", |bencher| bencher.iter(|| bound.rule().facts(black_box(&event))));
    let facts = bound.rule().facts(&event);
    criterion.bench_function("rule_allows", |bencher| {
        bencher.iter(|| assert_eq!(bound.allows(black_box(&facts)), Ok(true)));
    });
}

/// The verification of a token when a stream is opened: nothing is cached between streams.
fn tokens(criterion: &mut Criterion) {
    let rsa = jose::private(include_bytes!("../src/auth/test_keys/rsa-private.pem"));
    let ec = jose::private(include_bytes!("../src/auth/test_keys/ec-private.pem"));
    let claims = serde_json::json!({ "sub": "user-00001", "exp": 4_000_000_000_u64 });
    for (algorithm, key) in
        [(Algorithm::HS256, jose::secret(&[7; 32])), (Algorithm::RS256, rsa), (Algorithm::ES256, ec)]
    {
        let keys = serde_json::json!({ "keys": [jose::jwk(&key)] }).to_string();
        let key_file = KeyFile::Set(TokenKey(keys.into()));
        let issuer = Issuer { name: None, audience: None, key_file, algorithms: [algorithm].into() };
        let issuer = TrustedIssuer::new(issuer).unwrap();
        let verifier = Verifier::new(vec![issuer], None, Duration::from_secs(5));
        let token = jose::token(&serde_json::json!({ "alg": algorithm }), &claims, &key);
        criterion.bench_function(&format!("verify_{algorithm:?}"), |bencher| {
            bencher.iter(|| verifier.verify(black_box(&token), 1_800_000_000_000).unwrap())
        });
    }
}

fn route(pattern: &str) -> StreamRoute {
    StreamRoute {
        pattern: pattern.into(),
        stream: stream(),
        offer: Offer::Only(Transport::Sse),
        admission: Admission::Public,
        token_from: sidestream::route::TokenSources::default(),
        bindings: [].into(),
        rule: None,
        cors: None,
        other_methods: OtherMethods::Refuse,
        data: DataForm::Envelope,
        fields: None,
        event_field: EventField::None,
        frames: WebSocketFrames::Text,
        heartbeat: Duration::from_secs(15),
        heartbeat_form: HeartbeatForm::Silent,
        retry: Duration::from_secs(3),
        on_gap: OnGap::Gone,
        refresh: None,
        queue: QueueLimits { events: 16, bytes: 1 << 16, overflow: Overflow::DropOldest },
        websocket: WebSocketLimits {
            message_bytes: 1000,
            commands_per_second: 5,
            frames_per_second: 200,
            subscriptions: 2,
            pong_timeout: Duration::from_secs(10),
            authenticate_timeout: Duration::from_secs(10),
        },
        stall_timeout: Duration::from_secs(300),
        batch: None,
        max_streams: None,
        quotas: [].into(),
        allowed_origins: [].into(),
        subprotocols: [].into(),
        subscribe: [].into(),
    }
}

/// Short: these figures guard against regressions by an order of magnitude, on ordinary machines.
fn brief() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
        .configure_from_args()
}

criterion_group! { name = pieces; config = brief(); targets = decoding, encoding, writing, hub, index, routes, rules, tokens }
criterion_main!(pieces);
