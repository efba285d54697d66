//! The newest event that a rule allows, across topics and within limits.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::event::{Assigned, Entry, Event};
use crate::hub::{Hub, WindowLimits};
use crate::route::Transport;
use crate::rule::{Compared, Expression, Input, Root, Rule};
use crate::session::tests::Bench;
use crate::testing::{event, stream};

/// The event that `get-status` shows to a client whose rule allows the event with this id only.
fn shown(events: impl IntoIterator<Item = Arc<Event>>, allowed: &str) -> Value {
    let mut bench = Bench::new();
    let limits = WindowLimits { events: 1000, bytes: 1 << 24 };
    let topics = ["a", "b"];
    bench.hub = Hub::new(topics.map(|topic| (topic.into(), limits)));
    for topic in topics {
        bench.hub.assign(&Assigned::new(topic, 0, [0]));
    }
    bench.hub.go_live(&topics.map(Arc::from));
    for event in events {
        bench.hub.append(&Entry::Event(event));
    }
    let is_allowed = Expression::Compare(
        Compared::Equal,
        Box::new(Expression::Input(0)),
        Box::new(Expression::Literal(allowed.into())),
    );
    let inputs = vec![Input { root: Root::Event, path: ["id".into()].into() }];
    let rule = Arc::new(Rule::new("/x".into(), "one event", is_allowed, inputs));
    let mut session = bench.open(Transport::WebSocket, |request, route| {
        route.stream = stream(1, &topics);
        request.rule = Some(rule.bind(None, &[]));
    });
    bench.written(&mut session);
    bench.pass(Duration::from_secs(1));
    let answer = bench.ask(&mut session, &json!({ "command": "get-status" }));
    answer[0]["data"]["result"]["id"].clone()
}

#[test]
fn the_newest_event_is_found_whatever_its_topic_is() {
    let older = || (0..300).map(|n| event("a", 0, n, &[]));
    assert_eq!(shown(older().chain([event("b", 0, 0, &[])]), "b:0:0"), "b:0:0");
    assert_eq!(shown([event("b", 0, 0, &[])].into_iter().chain(older()), "b:0:0"), Value::Null, "it is too far back");
    let last = STATUS_EVENTS_MAX as i64;
    let others = || (1..=last).map(|n| event("a", 0, n, &[]));
    assert_eq!(shown(others(), "a:0:1"), "a:0:1");
    assert_eq!(shown(others().chain([event("a", 0, last + 1, &[])]), "a:0:1"), Value::Null);
}

#[test]
fn large_events_are_limited_by_their_bytes() {
    let large = |offset: i64, bytes: usize| {
        let plain = event("a", 0, offset, &[]);
        let data = format!(r#"{{"id":"a:0:{offset}","data":"{}"}}"#, "x".repeat(bytes));
        Arc::new(plain.with_envelope(data.into(), 0..0))
    };
    let half = STATUS_BYTES_MAX / 2;
    assert_eq!(shown([large(0, 10), large(1, half), large(2, 10)], "a:0:0"), "a:0:0");
    assert_eq!(shown([large(0, 10), large(1, half), large(2, half)], "a:0:0"), Value::Null);
}
