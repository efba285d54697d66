//! Random users, rules, fields, events and positions: a client receives exactly what a naive reading of the
//! configuration allows, in which form it does, live and replayed.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::Bench;
use super::*;
use crate::access::{Binding, Rule as BindingRule, Source};
use crate::admission::{self, Caller};
use crate::codec::{Choice, DataForm, Fields};
use crate::event::Entry;
use crate::pointer;
use crate::route::{Admission, Offer};
use crate::rule::{Compared, Expression, Input, Root, Rule};
use crate::testing::{self, FakeLog, holder};

/// A rule, and what it means.
type Case = (fn() -> Option<Rule>, fn(&Value, &Value) -> bool);

fn rule(name: &str, expression: Expression, inputs: &[(Root, &str)]) -> Option<Rule> {
    let path = |path: &str| path.split('.').map(Box::from).collect();
    let inputs = inputs.iter().map(|(root, names)| Input { root: *root, path: path(names) }).collect();
    Some(Rule::new("/x".into(), name, expression, inputs))
}

fn input(n: usize) -> Box<Expression> {
    Box::new(Expression::Input(n))
}

const CASES: [Case; 6] = [
    (|| None, |_, _| true),
    // event.data.level <= claims.level
    (
        || {
            let inputs = [(Root::Event, "data.level"), (Root::Claims, "level")];
            rule("level", Expression::Compare(Compared::LessOrEqual, input(0), input(1)), &inputs)
        },
        |claims, event| match (event["data"]["level"].as_i64(), claims["level"].as_i64()) {
            (Some(level), Some(most)) => level <= most,
            _ => false,
        },
    ),
    // event.data.public || event.data.owner == claims.sub
    (
        || {
            let inputs = [(Root::Event, "data.public"), (Root::Event, "data.owner"), (Root::Claims, "sub")];
            let is_owner = Expression::Compare(Compared::Equal, input(1), input(2));
            rule("owner", Expression::Or(input(0), Box::new(is_owner)), &inputs)
        },
        |claims, event| {
            event["data"]["public"] == true
                || !event["data"]["owner"].is_null() && event["data"]["owner"] == claims["sub"]
        },
    ),
    // claims.groups.exists(g, g == event.data.owner) && !has(event.data.level)
    (
        || {
            let inputs = [(Root::Claims, "groups"), (Root::Event, "data.owner"), (Root::Event, "data.level")];
            let is_in = Expression::Compare(Compared::Equal, Box::new(Expression::Variable(0)), input(1));
            let absent = Expression::Not(Box::new(Expression::Has(2)));
            rule(
                "group",
                Expression::And(Box::new(Expression::Exists(input(0), Box::new(is_in))), Box::new(absent)),
                &inputs,
            )
        },
        |claims, event| {
            let groups = claims["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
            let owner = event["data"].get("owner");
            owner.is_some_and(|owner| groups.contains(owner)) && event["data"].get("level").is_none()
        },
    ),
    // !event.data.public
    (
        || rule("private", Expression::Not(input(0)), &[(Root::Event, "data.public")]),
        |_, event| event["data"]["public"] == false,
    ),
    // claims.level >= 1
    (
        || {
            let one = Box::new(Expression::Literal(json!(1)));
            rule("admitted", Expression::Compare(Compared::GreaterOrEqual, input(0), one), &[(Root::Claims, "level")])
        },
        |claims, _| claims["level"].as_i64().is_some_and(|level| level >= 1),
    ),
];

/// What a route shows: the choice and the pointers, and the same by hand.
type Shown = (Option<(Choice, &'static [&'static str])>, fn(&mut Value));

const SHOWN: [Shown; 4] = [
    (None, |_| {}),
    (Some((Choice::Drop, &["/data/card", "/userId"])), |event| {
        event["data"].as_object_mut().unwrap().remove("card");
        event.as_object_mut().unwrap().remove("userId");
    }),
    (Some((Choice::Keep, &["/data/n"])), |event| {
        let n = event["data"]["n"].clone();
        event["data"] = json!({ "n": n });
        event.as_object_mut().unwrap().remove("userId");
    }),
    (Some((Choice::Keep, &[])), |event| {
        event["data"] = Value::Null;
        event.as_object_mut().unwrap().remove("userId");
    }),
];

#[derive(Clone, Debug)]
struct User {
    claims: Value,
    case: usize,
    shown: usize,
    is_bound: bool,
    payload: bool,
    transport: Transport,
    /// The number of events before it is opened, and the offset it resumes after, if it does.
    opens_at: usize,
    resumes: Option<usize>,
}

const EVENTS: usize = 12;

fn any_user() -> impl Strategy<Value = User> {
    let sub = prop::sample::select(vec!["a", "b"]);
    let level = prop::option::of(0..3_i64);
    let groups = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..3);
    let claims = (sub, level, groups).prop_map(|(sub, level, groups)| {
        let mut claims = json!({ "sub": sub, "groups": groups });
        if let Some(level) = level {
            claims["level"] = level.into();
        }
        claims
    });
    let transport = prop::sample::select(vec![Transport::Ndjson, Transport::Sse, Transport::WebSocket]);
    let place = (0..EVENTS, prop::option::of(0..EVENTS));
    (claims, 0..CASES.len(), 0..SHOWN.len(), any::<bool>(), any::<bool>(), transport, place).prop_map(
        |(claims, case, shown, is_bound, payload, transport, (opens_at, resumes))| {
            let resumes = resumes.filter(|after| *after < opens_at);
            User { claims, case, shown, is_bound, payload, transport, opens_at, resumes }
        },
    )
}

fn any_data() -> impl Strategy<Value = Value> {
    let owner = prop::option::of(prop::sample::select(vec![json!("a"), json!("b"), json!(null), json!(1)]));
    let level = prop::option::of(prop::sample::select(vec![json!(0), json!(2), json!("1"), json!(null)]));
    let public = prop::option::of(prop::sample::select(vec![json!(true), json!(false), json!("true")]));
    (owner, level, public).prop_map(|(owner, level, public)| {
        let mut data = json!({});
        for (name, value) in [("owner", owner), ("level", level), ("public", public)] {
            if let Some(value) = value {
                data[name] = value;
            }
        }
        data
    })
}

fn event(n: usize, user: &str, mut data: Value) -> Arc<Event> {
    data["n"] = n.into();
    data["card"] = format!("secret-{n}").into();
    let plain = testing::event("orders", 0, n as i64, &[("userId", user)]);
    let head = format!(r#"{{"id":"{}","ts":{n},"type":"test","userId":"{user}","data":"#, plain.id);
    let data = data.to_string();
    let payload = head.len()..head.len() + data.len();
    Arc::new(plain.with_envelope(format!("{head}{data}}}").into(), payload))
}

impl User {
    fn open(&self, bench: &mut Bench) -> Option<Session> {
        let principal = holder(&self.claims);
        let mut is_refused = false;
        let session = bench.open(self.transport, |request, route| {
            route.admission = Admission::Token;
            route.offer = Offer::Auto;
            route.queue.events = 100;
            route.queue.bytes = 1 << 20;
            route.data = if self.payload { DataForm::Payload } else { DataForm::Envelope };
            route.rule = CASES[self.case].0().map(Arc::new);
            route.fields = SHOWN[self.shown].0.map(|(choice, pointers)| {
                let pointers = pointers.iter().map(|text| pointer::parse(text).unwrap());
                Arc::new(Fields::new(self.shown as u32, choice, pointers))
            });
            if self.is_bound {
                let sources = [Source::Claim(["sub".into()].into())].into();
                route.bindings = [Binding { key: "userId".into(), sources, rule: BindingRule::Any }].into();
            }
            let caller = Caller { transport: self.transport, principal: Some(&principal), site: None };
            match admission::admit(route, &Default::default(), &caller) {
                Ok(rights) => (request.selector, request.rule) = (rights.selector, rights.rule),
                Err(_) => is_refused = true,
            }
            request.resume = self.resumes.and_then(|after| super::tests::resume(&format!("orders:0:{after}")));
        });
        (!is_refused).then_some(session)
    }

    /// What the user may see of an event, by a naive reading.
    fn sees(&self, event: &Event) -> Option<Value> {
        let mut value: Value = serde_json::from_slice(&event.envelope).unwrap();
        let is_theirs = !self.is_bound || value["userId"] == self.claims["sub"];
        if !is_theirs || !CASES[self.case].1(&self.claims, &value) {
            return None;
        }
        SHOWN[self.shown].1(&mut value);
        Some(if self.payload { value["data"].clone() } else { value })
    }
}

/// The events in what a client received, without cursors.
fn received(transport: Transport, bytes: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(bytes);
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let without_cursor = |mut value: Value| {
        if let Some(object) = value.as_object_mut() {
            object.remove("cursor");
        }
        value
    };
    match transport {
        Transport::WebSocket => {
            let starts = body.match_indices(r#"{"id":"orders:0:"#).map(|(at, _)| &body[at..]);
            let values =
                starts.filter_map(|text| serde_json::Deserializer::from_str(text).into_iter::<Value>().next()?.ok());
            // An envelope inside of a message has no timestamp.
            values.filter(|message| message.get("timestamp").is_some()).map(|message| message["data"].clone()).collect()
        }
        Transport::Sse => {
            let lines = body.lines().filter_map(|line| line.strip_prefix("data: "));
            lines.map(|line| serde_json::from_str(line).unwrap()).collect()
        }
        _ => body
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| without_cursor(serde_json::from_str(line).unwrap()))
            .collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_client_receives_exactly_what_it_may_see(
        users in prop::collection::vec(any_user(), 1..6),
        data in prop::collection::vec((prop::sample::select(vec!["a", "b"]), any_data()), EVENTS),
    ) {
        let events: Vec<_> = data.into_iter().enumerate().map(|(n, (user, data))| event(n, user, data)).collect();
        // All users see the same events, so that what they share would show.
        for user in &users {
            let mut bench = Bench::new();
            bench.log = Arc::new(FakeLog::new(events.iter().cloned().map(Entry::Event).collect(), 3));
            let mut session = None;
            let mut bytes = Vec::new();
            for (n, event) in events.iter().enumerate() {
                if n == user.opens_at {
                    session = user.open(&mut bench);
                    if let Some(session) = &mut session {
                        bytes.extend(bench.bytes(session));
                    }
                }
                match &mut session {
                    Some(session) => bench.deliver(session, event),
                    None => drop(bench.hub.append(&Entry::Event(event.clone()))),
                }
            }
            let Some(session) = &mut session else { continue };
            bytes.extend(bench.bytes(session));
            let first = user.resumes.map_or(user.opens_at, |after| after + 1);
            let expected: Vec<Value> = events[first..].iter().filter_map(|event| user.sees(event)).collect();
            prop_assert_eq!(received(user.transport, &bytes), expected, "{:?}", user);
            if user.shown > 0 {
                prop_assert!(!Bytes::from(bytes).windows(7).any(|part| part == b"secret-"), "{:?}", user);
            }
        }
    }
}
