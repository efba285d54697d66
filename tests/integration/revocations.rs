//! Revocations: by a topic, on every replica, and by a request to one process.

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::admin::Admin;
use crate::support::broker::Broker;
use crate::support::eventually_true;
use crate::support::fixture::{Fixture, KAFKA_PROPERTIES, Plan};
use crate::support::http::{Answer, Call};
use crate::support::ndjson::Ndjson;
use crate::support::real::shared;
use crate::support::sidecar::Sidecar;
use crate::support::token;

fn settings(notices: &str, revocations: &str) -> String {
    format!(
        "streams: {{ notices: {{ topics: [{notices}], keys: [userId] }} }}\n\
         auth:\n  key_file: jwt.key\n  algorithms: [HS256]\n  tickets: {{ key_file: jwt.key }}\n  revocations: {{ {revocations} }}\n\
         routes:\n\
         - {{ path: /mine/events, stream: notices, transport: sse, bind: {{ userId: claims.sub }}, retry: 200ms }}\n\
         - {{ path: /mine/stream, stream: notices, transport: ndjson, bind: {{ userId: claims.sub }}, token_from: [ticket] }}\n\
         - {{ path: /mine/ws, stream: notices, transport: ws, bind: {{ userId: claims.sub }} }}\n"
    )
}

fn fixture() -> Fixture {
    let broker = Broker::start(&[("notices", 1), ("revocations", 2)]);
    Plan::new(settings("notices", "topic: revocations")).broker(broker).build()
}

fn token(user: &str, session: &str, issued: u64) -> String {
    let id = format!("{user}-{session}-{issued}");
    token::with(json!({"sub": user, "sid": session, "jti": id, "iat": issued, "exp": token::now() + 3600}))
}

fn revoke(fixture: &Fixture, partition: i32, record: &Value) {
    fixture.broker.produce("revocations", partition, None, Some(record.to_string().as_bytes()));
}

fn status(sidecar: &Sidecar, token: &str) -> u16 {
    sidecar.call("GET", "/mine/stream").bearer(token).open().0.status
}

fn ended(mut stream: Ndjson) {
    assert!(stream.object().is_none() && !stream.cut);
}

#[test]
fn a_record_ends_streams_and_refuses_tokens_on_every_replica() {
    let fixture = fixture();
    let other = Sidecar::run(&fixture.config);
    eventually_true("the other replica", || other.admin("/readyz").status() == 200);
    let now = token::now();
    let (old, of_another) = (token("u1", "s1", now - 60), token("u2", "s2", now - 60));
    let mut sse = fixture.get("/mine/events").bearer(&old).sse();
    let ndjson = other.call("GET", "/mine/stream").bearer(&old).ndjson();
    let mut websocket = fixture.get("/mine/ws").bearer(&old).websocket();
    let mut goes_on = fixture.get("/mine/stream").bearer(&of_another).ndjson();
    revoke(&fixture, 0, &json!({"sub": "u1"}));
    let revoked = Instant::now();
    assert_eq!(websocket.closed(), 1008);
    println!("from revocation to close: {:?}", revoked.elapsed());
    sse.rest();
    ended(ndjson);
    for transport in ["sse", "ws"] {
        fixture
            .sidecar
            .await_metric(&format!("notifications_{transport}_disconnects_total{{reason=\"revoked\"}}"), 1.0);
    }
    for replica in [&fixture.sidecar, &other] {
        assert_eq!((status(replica, &old), status(replica, &of_another)), (401, 200));
        assert_eq!(status(replica, &token("u1", "s3", now + 5)), 200, "who logs in again");
    }
    let own = fixture.broker.notice("u2");
    assert_eq!(goes_on.ids(1), [own]);
}

#[test]
fn a_session_or_one_token_is_revoked_alone() {
    let fixture = fixture();
    let now = token::now();
    let tokens = [token("u1", "s1", now - 60), token("u1", "s1", now - 50), token("u1", "s2", now - 60)];
    let ids = |fixture: &Fixture| tokens.each_ref().map(|token| status(&fixture.sidecar, token));
    revoke(&fixture, 1, &json!({"jti": format!("u1-s1-{}", now - 60)}));
    eventually_true("the token is revoked", || ids(&fixture) == [401, 200, 200]);
    revoke(&fixture, 0, &json!({"sid": "s1"}));
    eventually_true("the session is revoked", || ids(&fixture) == [401, 401, 200]);
    assert_eq!(fixture.sidecar.metric("notifications_revocations"), Some(2.0));
}

#[test]
fn what_was_revoked_before_the_start_is_refused_once_it_is_ready() {
    let broker = Broker::start(&[("notices", 1), ("revocations", 2)]);
    for n in 0..500 {
        let record = json!({"sub": format!("u{n}")}).to_string();
        broker.produce_all("revocations", n % 2, [record.as_bytes()].into_iter());
    }
    for no_revocation in [&b"not JSON"[..], b"{}", b"[]", b"{\"sub\": [7]}"] {
        broker.produce("revocations", 0, None, Some(no_revocation));
    }
    // Members that have a meaning in an event have none in a revocation.
    for record in
        [json!({"sub": 600}), json!({"sub": "u601", "ts": 1}), json!({"sub": "u602", "data": {"sub": "u603"}})]
    {
        broker.produce("revocations", 1, None, Some(record.to_string().as_bytes()));
    }
    broker.produce("revocations", 0, Some("u1"), None);
    let fixture = Plan::new(settings("notices", "topic: revocations")).broker(broker).build();
    let now = token::now();
    for n in [0, 1, 499] {
        assert_eq!(status(&fixture.sidecar, &token(&format!("u{n}"), "s", now - 60)), 401, "{n}");
    }
    for user in [json!(600), json!("u601"), json!("u602")] {
        let token = token::with(json!({"sub": user, "iat": now - 60, "exp": now + 3600}));
        assert_eq!(status(&fixture.sidecar, &token), 401, "{user}");
    }
    for user in ["u500", "u603"] {
        assert_eq!(status(&fixture.sidecar, &token(user, "s", now - 60)), 200, "{user}");
    }
    let received = |result: &str| {
        fixture.sidecar.metric(&format!("notifications_revocations_received_total{{result=\"{result}\"}}"))
    };
    assert_eq!((received("added"), received("malformed")), (Some(503.0), Some(3.0)));
}

#[test]
fn a_ticket_ends_with_its_token() {
    let fixture = fixture();
    let old = token("u1", "s1", token::now() - 60);
    let ticket = |token: &str| {
        let call = fixture.call("POST", "/.well-known/sidestream/tickets?path=/mine/stream").bearer(token);
        call.send().json()["ticket"].as_str().unwrap().to_owned()
    };
    let by_ticket = |ticket: &str| fixture.get(&format!("/mine/stream?ticket={ticket}"));
    let ticket = ticket(&old);
    let stream = by_ticket(&ticket).ndjson();
    revoke(&fixture, 0, &json!({"sid": "s1"}));
    ended(stream);
    by_ticket(&ticket).send().problem(401);
}

/// A cluster that is read for revocations alone is connected, counted, and its certificates are observed.
#[test]
fn revocations_may_have_a_cluster_of_their_own() {
    let other = Broker::start(&[("revocations", 1)]);
    let cluster =
        format!("clusters: {{ other: {{ brokers: \"{}\", properties: {KAFKA_PROPERTIES} }} }}\n", other.address());
    let fixture = Plan::new(settings("notices", "topic: revocations, cluster: other")).with(&cluster).build();
    fixture.sidecar.await_metric("notifications_kafka_connected", 2.0);
    let token = token("u1", "s1", token::now() - 60);
    let mut websocket = fixture.get("/mine/ws").bearer(&token).websocket();
    other.produce("revocations", 0, None, Some(json!({"sid": "s1"}).to_string().as_bytes()));
    assert_eq!(websocket.closed(), 1008);
    assert_eq!(status(&fixture.sidecar, &token), 401);
    other.down();
    fixture.sidecar.await_metric("notifications_kafka_connected", 1.0);
    assert_eq!(fixture.sidecar.admin("/readyz").status(), 200, "a process that was ready stays so");
}

fn post(fixture: &Fixture, body: &str) -> Answer {
    Call::of_admin(fixture.sidecar.admin, "POST", "/-/revoke").body(body).send()
}

#[test]
fn a_request_revokes_in_one_process() {
    let fixture = Plan::new(settings("notices", "")).build();
    let old = token("u1", "s1", token::now() - 60);
    let stream = fixture.get("/mine/stream").bearer(&old).ndjson();
    for (body, expected) in
        [("", 400), ("{}", 400), ("[]", 400), (&*format!("{{\"sub\": \"{}\"}}", "x".repeat(9000)), 413)]
    {
        post(&fixture, body).problem(expected);
    }
    let elsewhere = Call::of_admin(fixture.sidecar.admin, "POST", "/-/revoke").header("X-Forwarded-For", "10.0.0.1");
    elsewhere.body("{\"sub\": \"u1\"}").send().problem(403);
    assert_eq!(status(&fixture.sidecar, &old), 200);
    assert_eq!(post(&fixture, "{\"sub\": \"u1\"}").status(), 200);
    ended(stream);
    assert_eq!(status(&fixture.sidecar, &old), 401);
    post(&Fixture::standard(), "{\"sub\": \"u1\"}").problem(409);
}

#[test]
fn a_topic_of_apache_kafka_revokes() {
    let node = shared();
    let admin = Admin::of(&node.address);
    for topic in ["revoked-notices", "revoking"] {
        admin.create_topic(topic, 1, &[("cleanup.policy", "compact")]);
    }
    let broker = Broker::at(&node.address);
    broker.produce("revoking", 0, Some("u0"), Some(b"{\"sub\":\"u0\"}"));
    let fixture = Plan::new(settings("revoked-notices", "topic: revoking")).broker(broker).build();
    let now = token::now();
    assert_eq!(status(&fixture.sidecar, &token("u0", "s", now - 60)), 401);
    let old = token("u1", "s1", now - 60);
    let mut websocket = fixture.get("/mine/ws").bearer(&old).websocket();
    fixture.broker.produce("revoking", 0, Some("u1"), Some(b"{\"sub\":\"u1\"}"));
    let revoked = Instant::now();
    assert_eq!(websocket.closed(), 1008);
    println!("from revocation to close, Apache Kafka: {:?}", revoked.elapsed());
    assert_eq!(status(&fixture.sidecar, &old), 401);
}
