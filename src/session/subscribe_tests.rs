//! What the client of a WebSocket may subscribe to, and the form of its subscriptions.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::tests::{Bench, masked, token};
use super::*;
use crate::access::{Principal, Rule, Source, Standing, VALUE_BYTES_MAX, Withdrawn};
use crate::admission::{SentBy, Site};
use crate::codec::websocket::Opcode;
use crate::route::{Admission, DataForm, Offer, OnGap, RouteTable, Stream, StreamRoute, Transport};
use crate::rule::{Compared, Expression, Input, Root};
use crate::testing::{self, FewSlots, binding, selector};

#[test]
fn a_subscription_cannot_override_a_claim() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, |request, route| {
        request.principal = Some(token("a", None));
        request.selector = selector(&[("userId", "a")]);
        route.bindings = Box::new([binding("userId", Source::Claim(Box::new(["sub".into()])))]);
        route.stream = Arc::new(Stream {
            id: 1,
            name: "orders".into(),
            topics: Box::new(["orders".into()]),
            keys: Box::new(["userId".into()]),
            state: None,
        });
    });
    bench.written(&mut session);
    let answer = bench.ask(&mut session, &json!({ "command": "subscribe", "resource": "b" }));
    assert_eq!(answer[0]["data"]["status"], "error");
    bench.append(&mut session, 0, &[("userId", "b")]);
    bench.append(&mut session, 1, &[("userId", "a")]);
    let text = bench.written(&mut session);
    assert!(!text.contains("orders:0:0") && text.contains("orders:0:1"));
}

#[test]
fn a_value_of_the_path_is_chosen_among_those_that_a_claim_allows() {
    let mut bench = Bench::new();
    let mut session = beside(&mut bench, |own, _| {
        own.admission = Admission::Token;
        own.subscribe = Box::new([own.pattern.clone()]);
        own.bindings[0].rule = Rule::All;
        own.bindings[0].sources = [Source::Path("orderId".into()), Source::Claim(Box::new(["orders".into()]))].into();
    });
    let mut holder = token("a", None);
    Arc::make_mut(&mut holder.claims).extend([("orders".into(), json!(["o1", "o2"]))]);
    session.request.principal = Some(holder);
    let mut status = |resource: &str| {
        let answer = bench.ask(&mut session, &json!({ "command": "subscribe", "resource": resource }));
        answer[0]["data"]["status"].as_str().map(str::to_owned)
    };
    assert_eq!(status("o2").as_deref(), Some("ok"));
    assert_eq!(status("o3").as_deref(), Some("error"));
}

/// A socket on a public route `/orders/{orderId}/ws`, next to a route with the same pattern that `change` modifies.
fn beside(bench: &mut Bench, change: impl FnOnce(&mut StreamRoute, &mut StreamRoute)) -> Session {
    let by_path = |pattern: &str, id: u16| StreamRoute {
        offer: Offer::Auto,
        stream: Arc::new(Stream {
            id,
            name: "orders".into(),
            topics: Box::new(["orders".into()]),
            keys: Box::new(["orderId".into()]),
            state: None,
        }),
        bindings: Box::new([binding("orderId", Source::Path("orderId".into()))]),
        ..testing::route(pattern)
    };
    let (mut own, mut other) = (by_path("/orders/{orderId}/ws", 1), by_path("/others/{orderId}/ws", 2));
    change(&mut own, &mut other);
    let own = Arc::new(own);
    let routes = Arc::new(RouteTable::new(vec![own.clone(), Arc::new(other)]).unwrap());
    let mut session = bench.open(Transport::WebSocket, |request, _| {
        request.selector = selector(&[("orderId", "o1")]);
        request.routes = routes;
    });
    session.request.route = own;
    session.subscriptions.iter_mut().for_each(|first| first.route = session.request.route.clone());
    bench.written(&mut session);
    session
}

/// Accepted for the target of its request alone, as by a service that is asked about each request.
#[derive(Debug)]
struct ForOneTarget;

impl Standing for ForOneTarget {
    fn withdrawn(&self) -> Option<Withdrawn> {
        None
    }

    fn is_for_one_target(&self) -> bool {
        true
    }
}

#[test]
fn a_principal_of_one_target_may_not_subscribe_beyond_it() {
    let mut bench = Bench::new();
    let mut session = beside(&mut bench, |own, other| {
        (own.admission, other.admission) = (Admission::Token, Admission::Token);
        own.subscribe = [own.pattern.clone(), other.pattern.clone()].into();
    });
    for (standing, status) in [(None, "ok"), (Some(Arc::new(ForOneTarget) as Arc<dyn Standing>), "error")] {
        session.request.principal = Some(Principal { standing, ..token("a", None) });
        for resource in ["o2", "/others/o2/ws"] {
            let answer = subscribe(&mut bench, &mut session, resource);
            assert_eq!(answer["status"], status, "{resource}: {answer}");
            bench.ask(&mut session, &json!({ "command": "unsubscribe", "resource": resource }));
        }
    }
}

/// `event.type == path.orderId`
fn by_path_only() -> Arc<crate::rule::Rule> {
    let input = |root, name: &str| Input { root, path: [name.into()].into() };
    let (one, other) = (Box::new(Expression::Input(0)), Box::new(Expression::Input(1)));
    let expression = Expression::Compare(Compared::Equal, one, other);
    let inputs = vec![input(Root::Event, "type"), input(Root::Path, "orderId")];
    Arc::new(crate::rule::Rule::new("/orders/{orderId}/ws".into(), "by path", expression, inputs))
}

#[test]
fn a_path_that_only_the_rule_reads_is_no_part_of_another_path() {
    let mut bench = Bench::new();
    let rule = by_path_only();
    let mut session = beside(&mut bench, |own, _| {
        (own.admission, own.bindings, own.rule) = (Admission::Token, [].into(), Some(rule.clone()));
    });
    let first = Some(rule.bind(None, &[("orderId".into(), "o1".into())]));
    for subscription in &mut session.subscriptions {
        (subscription.selector, subscription.rule) = (Selector::default(), first.clone());
    }
    (session.request.selector, session.request.rule) = (Selector::default(), first);
    let standing = Some(Arc::new(ForOneTarget) as Arc<dyn Standing>);
    session.request.principal = Some(Principal { standing, ..token("a", None) });
    let mut status = |session: &mut Session, command: &str, resource: &str| {
        bench.pass(Duration::from_secs(1));
        let answer = bench.ask(session, &json!({ "command": command, "resource": resource }));
        answer[0]["data"]["status"].as_str().map(str::to_owned)
    };
    for command in ["get-status", "subscribe", "unsubscribe"] {
        assert_eq!(status(&mut session, command, "/orders/o2/ws").as_deref(), Some("error"), "{command}");
    }
    assert_eq!(status(&mut session, "get-status", "/orders/o1/ws").as_deref(), Some("ok"));
    session.request.principal = Some(token("a", None));
    let own = StreamRoute { subscribe: [session.request.route.pattern.clone()].into(), ..open_route(&session) };
    session.request.route = Arc::new(own);
    assert_eq!(status(&mut session, "subscribe", "/orders/o2/ws").as_deref(), Some("ok"), "beside the first path");
    assert_eq!(status(&mut session, "unsubscribe", "/orders/o2/ws").as_deref(), Some("ok"));
    assert_eq!(session.subscriptions.len(), 1, "the first path stays");
}

/// A copy of the session's route.
fn open_route(session: &Session) -> StreamRoute {
    let route = &session.request.route;
    StreamRoute {
        offer: Offer::Auto,
        stream: route.stream.clone(),
        admission: route.admission,
        rule: route.rule.clone(),
        ..testing::route(&route.pattern)
    }
}

/// The `data` of the response to `subscribe`.
fn subscribe(bench: &mut Bench, session: &mut Session, resource: &str) -> Value {
    bench.pass(Duration::from_secs(1));
    bench.ask(session, &json!({ "command": "subscribe", "resource": resource }))[0]["data"].clone()
}

#[test]
fn a_public_socket_may_not_subscribe_beyond_its_path() {
    let mut bench = Bench::new();
    let mut session = beside(&mut bench, |_, _| {});
    for resource in ["o2", "/orders/o2/ws", "/others/o1/ws", "/others/o2/ws"] {
        let answer = subscribe(&mut bench, &mut session, resource);
        assert!(answer["error"].as_str().is_some_and(|why| why.contains("websocket.subscribe")), "{answer}");
    }
    bench.append(&mut session, 0, &[("orderId", "o2")]);
    assert_eq!(bench.written(&mut session), "");
    let status = bench.ask(&mut session, &json!({ "command": "get-status", "resource": "o2" }));
    assert_eq!(status[0]["data"]["status"], "error", "no way around it");
}

#[test]
fn a_route_may_open_its_own_paths_and_others() {
    let mut bench = Bench::new();
    let mut session = beside(&mut bench, |own, _| own.subscribe = [own.pattern.clone()].into());
    assert_eq!(subscribe(&mut bench, &mut session, "o2")["status"], "ok");
    assert_eq!(subscribe(&mut bench, &mut session, "/others/o2/ws")["status"], "error");
    let mut session = beside(&mut bench, |own, other| own.subscribe = [other.pattern.clone()].into());
    assert_eq!(subscribe(&mut bench, &mut session, "o2")["status"], "error");
    assert_eq!(subscribe(&mut bench, &mut session, "/others/o2/ws")["status"], "ok");
}

#[test]
fn a_subscription_has_its_own_routes_form_and_snapshot() {
    let mut bench = Bench::new();
    let mut session = beside(&mut bench, |own, other| {
        own.subscribe = [other.pattern.clone()].into();
        other.data = DataForm::Payload;
        other.on_gap = OnGap::Continue;
    });
    assert_eq!(subscribe(&mut bench, &mut session, "/others/o2/ws")["status"], "ok");
    bench.append(&mut session, 0, &[("orderId", "o2")]);
    let live = bench.written(&mut session);
    assert!(live.contains(r#""data":{"n":0}}"#) && !live.contains("orderId"), "{live}");
    bench.append(&mut session, 1, &[("orderId", "o1")]);
    assert!(bench.written(&mut session).contains(r#""orderId":"o1""#), "its own are envelopes still");
    bench.pass(Duration::from_secs(1));
    let gone = json!({ "command": "unsubscribe", "resource": "/others/o2/ws" });
    assert_eq!(bench.ask(&mut session, &gone)[0]["data"]["status"], "ok");
    let again = json!({ "command": "subscribe", "resource": "/others/o2/ws", "since": "orders:0:-1" });
    session.read(&masked(Opcode::Text, again.to_string().as_bytes()), &mut bench.context());
    let replayed = bench.written(&mut session);
    assert!(replayed.contains(r#""data":{"n":0}}"#) && !replayed.contains("o2\""), "{replayed}");
    let status = json!({ "command": "get-status", "resource": "/others/o2/ws" });
    assert_eq!(bench.ask(&mut session, &status)[0]["data"]["result"], json!({ "n": 0 }));
}

#[test]
fn a_subscription_is_authorized_like_a_request() {
    let mut bench = Bench::new();
    let site = || Some(Site::new(["https://a.example"].into_iter(), Some("api.example"), SentBy::Cookie));
    let ask = |bench: &mut Bench, change: &dyn Fn(&mut StreamRoute)| {
        let mut session = beside(bench, |own, other| {
            own.subscribe = [other.pattern.clone()].into();
            other.admission = Admission::Token;
            change(other);
        });
        session.request.principal = Some(token("a", None));
        session.request.socket.as_mut().unwrap().site = site();
        subscribe(bench, &mut session, "/others/o2/ws")
    };
    let foreign = ask(&mut bench, &|_| {});
    assert!(foreign["error"].as_str().is_some_and(|why| why.contains("origin")), "{foreign}");
    let allow = |other: &mut StreamRoute| other.allowed_origins = ["https://a.example".into()].into();
    assert_eq!(ask(&mut bench, &allow)["status"], "ok");
    let elsewhere = ask(&mut bench, &|other| {
        allow(other);
        other.offer = Offer::Only(Transport::Sse);
    });
    assert!(elsewhere["error"].as_str().is_some_and(|why| why.contains("transport")), "{elsewhere}");
}

#[test]
fn subscriptions_count_against_their_routes_limit() {
    let mut bench = Bench::new();
    let mut session =
        beside(&mut bench, |own, other| own.subscribe = [own.pattern.clone(), other.pattern.clone()].into());
    let taken = Arc::new(());
    session.request.socket.as_mut().unwrap().slots = Arc::new(FewSlots(taken.clone(), 2));
    assert_eq!(subscribe(&mut bench, &mut session, "/others/o2/ws")["status"], "ok");
    assert_eq!(Arc::strong_count(&taken), 3);
    let gone = json!({ "command": "unsubscribe", "resource": "/others/o2/ws" });
    bench.ask(&mut session, &gone);
    assert_eq!(Arc::strong_count(&taken), 2, "given back");
    let _other = taken.clone();
    let refused = subscribe(&mut bench, &mut session, "/others/o2/ws");
    assert!(refused["error"].as_str().is_some_and(|why| why.contains("limit of streams")), "{refused}");
    assert_eq!(subscribe(&mut bench, &mut session, "o2")["status"], "error", "the second on its own route counts too");
    bench.ask(&mut session, &json!({ "command": "unsubscribe" }));
    assert_eq!(subscribe(&mut bench, &mut session, "o2")["status"], "ok", "the first has the connection's slot");
}

#[test]
fn a_response_quotes_the_beginning_of_what_a_client_sent() {
    let mut bench = Bench::new();
    let mut session = beside(&mut bench, |own, _| own.subscribe = [own.pattern.clone()].into());
    let long = "\u{fc}".repeat(300);
    for text in [
        json!({ "command": long }),
        json!({ "type": long, "data": {} }),
        json!({ "type": "command", "data": long }),
        json!({ "command": "subscribe", "resource": long }),
        json!({ "command": "unsubscribe", "resource": long }),
        json!({ "command": "subscribe", "resource": format!("/{long}") }),
        json!({ "command": "subscribe", "resource": format!("/orders/{long}/ws") }),
    ] {
        bench.pass(Duration::from_secs(1));
        let answer = bench.ask(&mut session, &text)[0].clone();
        assert_eq!(answer["data"]["status"], "error", "{answer}");
        assert!(!answer.to_string().contains(&long[..300]), "{answer}");
    }
}

#[test]
fn a_value_to_subscribe_to_has_a_limit() {
    let mut bench = Bench::new();
    let mut session = beside(&mut bench, |own, _| own.subscribe = [own.pattern.clone()].into());
    let longest = "x".repeat(VALUE_BYTES_MAX);
    assert_eq!(subscribe(&mut bench, &mut session, &longest)["status"], "ok");
    for resource in [format!("{longest}x"), format!("/orders/{longest}x/ws")] {
        let answer = subscribe(&mut bench, &mut session, &resource);
        assert!(answer["error"].as_str().is_some_and(|why| why.contains("longer than 512 bytes")), "{answer}");
    }
}
