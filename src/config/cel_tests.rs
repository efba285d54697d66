//! The language of `routes.rule`: what it means, what it refuses, and that it agrees with CEL's own interpreter.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::cel::{Names, parse};
use super::tests::{refused, route};
use crate::access::Claims;
use crate::event::Event;
use crate::rule::{BoundRule, Decision, MATCHED_BYTES_MAX, Rule};
use crate::testing;

fn compiled(source: &str) -> Arc<Rule> {
    let names = Names { has_claims: true, parameters: Some(vec!["id".into()]) };
    let (expression, inputs) = parse(source, &names).unwrap_or_else(|mistakes| panic!("{source}: {}", mistakes[0]));
    Arc::new(Rule::new("/x".into(), source, expression, inputs))
}

fn bound(source: &str, claims: &Value) -> Arc<BoundRule> {
    compiled(source).bind(claims.as_object().cloned().map(Claims::from).as_ref(), &[("id".into(), "7".into())])
}

fn event(data: &str) -> Event {
    let head = r#"{"id":"orders:0:7","ts":7,"type":"paid","userId":"u1","headers":{"a-b":"c"},"data":"#;
    let payload = head.len()..head.len() + data.len();
    let plain = testing::event("orders", 0, 7, &[]);
    Event { kind: "paid".into(), ..plain.with_envelope(format!("{head}{data}}}").into(), payload) }
}

/// The verdict on an event: `None` if the rule fails.
fn verdict(source: &str, claims: &Value, data: &str) -> Option<bool> {
    let bound = bound(source, claims);
    bound.allows(&bound.rule().facts(&event(data))).ok()
}

#[test]
fn expressions_have_the_meaning_of_cel() {
    let claims =
        json!({"sub": "u1", "level": 2, "tiers": ["gold", "silver"], "org": {"id": 7}, "https://x/role": "admin"});
    let data = r#"{"tier":"gold","amount":7.5,"big":12345678901234567890,"n":null,"list":[1,2,{"a":"b"}],"o":{"k":1},"t":true,"text":"über"}"#;
    for (source, expected) in [
        ("true", Some(true)),
        ("event.data.tier in claims.tiers", Some(true)),
        ("event.data.tier == \"gold\" && claims.level >= 2", Some(true)),
        ("event.data['tier'] == 'silver'", Some(false)),
        ("claims['https://x/role'] == 'admin'", Some(true)),
        ("event.type == 'paid' && event.id == 'orders:0:7' && event.ts == 7", Some(true)),
        ("event.userId == claims.sub", Some(true)),
        ("event.headers['a-b'] == 'c'", Some(true)),
        ("path.id == string(claims.org.id)", Some(true)),
        ("path.id == claims.org.id", Some(false)),
        ("event.data.amount > claims.level", Some(true)),
        ("event.data.amount > 7 && event.data.amount < 8.0", Some(true)),
        ("event.data.big == 12345678901234567890u", Some(true)),
        ("event.data.big == 12345678901234567891u", Some(false)),
        ("event.data.n == null", Some(true)),
        ("event.data.list[1] == 2 && event.data.list[2].a == 'b'", Some(true)),
        ("event.data.list[3] == 2", None),
        ("event.data.list[-1] == 2", None),
        ("size(event.data.list) == 3 && event.data.text.size() == 4 && size(event.data.o) == 1", Some(true)),
        (
            "event.data.text.startsWith('ü') && event.data.text.endsWith('r') && event.data.text.contains('be')",
            Some(true),
        ),
        ("'tier:' + event.data.tier == 'tier:gold'", Some(true)),
        ("event.data.tier in ['gold', 'silver']", Some(true)),
        ("'k' in event.data.o && !('x' in event.data.o)", Some(true)),
        ("1 in event.data.o || event.data.t in event.data.o", Some(false)),
        ("event.data.n in event.data.o", None),
        ("event.data.list.exists(x, x == 2) && !event.data.list.all(x, x == 2)", Some(true)),
        ("event.data.o.exists(key, key == 'k')", Some(true)),
        ("claims.tiers.exists(t, ['gold'].exists(u, t == u))", Some(true)),
        ("event.data.t ? claims.level == 2 : false", Some(true)),
        ("has(event.data.tier) && !has(event.data.none) && has(event.data.o.k)", Some(true)),
        // What is missing or of another type fails, unless the other operand decides.
        ("event.data.none == 1", None),
        ("event.data.none != 1", None),
        ("!event.data.none", None),
        ("has(event.data.none.k)", None),
        ("has(event.data.tier.k)", None),
        ("event.data.none == 1 || event.data.t", Some(true)),
        ("event.data.t || event.data.none == 1", Some(true)),
        ("event.data.none == 1 && !event.data.t", Some(false)),
        ("event.data.tier < 7", None),
        ("event.data.tier", None),
        ("claims.none == 1", None),
        ("event.data.tier in event.data.t", None),
        ("event.data.list.exists(x, x.a == 'b')", Some(true)),
        // Arithmetic, patterns, `map` and `filter`.
        ("event.data.amount * 2 == 15 && event.data.amount - claims.level == 5.5", Some(true)),
        ("claims.level + 1 == 3 && 7 / claims.level == 3 && -7 / 2 == -3 && -7 % 2 == -1", Some(true)),
        ("-claims.level == -2 && 7 / 2.0 == 3.5 && 1 + 2 * 3 == 7", Some(true)),
        ("9223372036854775807 + claims.level > 0", None),
        ("event.data.big - 12345678901234567889u == 1", Some(true)),
        ("event.data.big + event.data.big > 0", None),
        ("claims.level / 0 == 0 || claims.level % 0 == 0", None),
        ("event.data.amount / 0 > 1", None),
        ("event.data.amount % 2 == 1", None),
        ("event.data.tier + 1 == 2", None),
        ("event.data.list + claims.tiers == [1, 2, event.data.list[2], 'gold', 'silver']", Some(true)),
        ("event.data.tier.matches('^g.ld$') && !event.data.tier.matches('^g$')", Some(true)),
        ("matches(event.data.text, '^\\\\w+$') && event.data.text.matches('b')", Some(true)),
        ("event.data.amount.matches('7')", None),
        ("event.data.list.filter(x, x == 1 || x == 2) == [1, 2]", Some(true)),
        ("claims.tiers.map(t, t + '!') == ['gold!', 'silver!'] && event.data.o.map(k, k) == ['k']", Some(true)),
        ("claims.tiers.map(t, t != 'gold', size(t)) == [6]", Some(true)),
        ("event.data.tier in claims.tiers.filter(t, t.startsWith('g'))", Some(true)),
        ("size(event.data.list.filter(x, x > 1)) == 1", None),
        ("event.data.list.all(x, x.a == 'b')", None),
    ] {
        assert_eq!(verdict(source, &claims, data), expected, "{source}");
    }
}

#[test]
fn hostile_events_deny() {
    let is_own = "event.data.owner == claims.sub";
    let claims = json!({"sub": "u1", "n": 9_007_199_254_740_993_i64});
    assert_eq!(verdict(is_own, &claims, r#"{"owner":"u1"}"#), Some(true));
    assert_eq!(verdict(is_own, &claims, r#"{"owner":"u1","owner":"u2"}"#), Some(false), "the last one counts");
    assert_eq!(verdict(is_own, &claims, r#"{"\u006fwner":"u1"}"#), Some(true), "as a reader sees it");
    assert_eq!(verdict(is_own, &claims, r#"{"\ud800":1,"owner":"u1"}"#), None);
    for data in [r#""text""#, "7", "null", "[]", r#"{"owner":null}"#, r#"{"owner":["u1"]}"#, r#"{"owner":{"u1":1}}"#] {
        assert_ne!(verdict(is_own, &claims, data), Some(true), "{data}");
    }
    let deep = format!(r#"{{"owner":{}1{}}}"#, "[".repeat(127), "]".repeat(127));
    assert_ne!(verdict(is_own, &claims, &deep), Some(true));
    let long = format!(r#"{{"owner":"{}"}}"#, "u".repeat(1 << 20));
    assert_eq!(verdict(is_own, &claims, &long), None);
    // Doubles are not equal because they were rounded to the same one.
    for data in [r#"{"n":9007199254740992.0}"#, r#"{"n":9007199254740993.0}"#, r#"{"n":1e300}"#] {
        assert_eq!(verdict("event.data.n == claims.n", &claims, data), None, "{data}");
        assert_eq!(verdict("event.data.n != claims.n", &claims, data), None, "{data}");
    }
    let list = format!(r#"{{"l":[{}]}}"#, vec!["1"; 3000].join(","));
    let nested = |inner: &str| format!("size(event.data.l.map(x, event.data.l.{inner})) > 0");
    assert_eq!(verdict("event.data.l.all(x, event.data.l.all(y, x == y))", &claims, &list), None, "too many steps");
    assert_eq!(verdict(&nested("map(y, y)"), &claims, &list), None, "a result that would take much memory");
    assert_eq!(verdict(&nested("filter(y, y == x)"), &claims, &list), None);
    let matches = "event.data.s.matches('^(a+)+$')";
    let of = |bytes: usize| format!(r#"{{"s":"{}"}}"#, "a".repeat(bytes));
    assert_eq!(verdict(matches, &claims, &of(MATCHED_BYTES_MAX)), Some(true));
    assert_eq!(verdict(matches, &claims, &of(MATCHED_BYTES_MAX + 1)), None);
    let often = [matches; 10].join(" && ");
    assert_eq!(verdict(&often, &claims, &of(MATCHED_BYTES_MAX)), None, "patterns cost steps");
}

#[test]
fn what_needs_no_event_is_decided_at_once() {
    let decision = |source, claims| bound(source, &claims).decision();
    assert_eq!(decision("claims.role == 'admin' || event.data.public", json!({"role": "admin"})), Decision::Allowed);
    assert_eq!(decision("claims.role == 'admin' || event.data.public", json!({"role": "x"})), Decision::ByEvent);
    assert_eq!(decision("claims.role == 'admin' && event.data.public", json!({"role": "x"})), Decision::Denied(None));
    assert_eq!(decision("event.data.public && claims.role == 'admin'", json!({"role": "x"})), Decision::Denied(None));
    assert!(matches!(decision("claims.role == 'admin'", json!({})), Decision::Denied(Some(_))));
}

#[test]
fn an_error_has_its_place() {
    let stream = "streams: { s: { topics: [t] } }\nauth: { key_file: jwt.key, algorithms: [HS256] }\n";
    let wrong = |rule: &str, message: &str| {
        refused(&format!("{stream}routes:\n  - path: '/x/{{id}}'\n    stream: s\n    rule: @@{rule}\n"), message);
    };
    wrong(
        "event.data.a == clams.sub",
        "at character 17 of the expression: there is no variable `clams` (did you mean `claims`?); expected `claims`, `path` or `event`",
    );
    wrong("event.data.a == 'x' &&", "at character");
    wrong("event.data.a = 1", "at character");
    wrong("path.di == 'x'", "the path has no parameter `di` (did you mean `id`?); expected `id`");
    wrong("path.id.x == 'x'", "the path has no parameter `id.x`");
    wrong("event == 1", "`event` alone is no value");
    wrong("has(event)", "at character");
    wrong("\"'a' in claims\"", "`claims` alone is no value");
    wrong("event.data.a + 1 == 'x'", "a number and a text are never equal");
    wrong("event.type + 1 == 2", "at character 12 of the expression: a text and a number have no sum");
    wrong("event.type - 1 == 2", "found a text; expected a number");
    wrong("event.data.a.matches(event.data.b)", "the pattern of `matches` must be written as a text");
    wrong("event.data.a.matches('(')", "at character 22 of the expression: the pattern is invalid: unclosed group");
    wrong("event.data.a.matches('(?=a)')", "look-around");
    wrong("event.data.a.matches('(a{1000}){1000}')", "the pattern is invalid: ");
    wrong(
        "event.data.a.startWith('x')",
        "there is no function `startWith` with these arguments (did you mean `startsWith`?)",
    );
    wrong("event.data.l.map(x, x)", "found a list; expected `true` or `false`");
    wrong("event.data.l.filter(x, 1) == []", "found a number; expected `true` or `false`");
    wrong("event.data.l.exists_one(x, x)", "rules have only `has`, `exists`, `all`, `map` and `filter`");
    wrong("event.data.l.exists(event, true)", "`event` is a variable already");
    wrong("size(event.data.l)", "found a number; expected `true` or `false`");
    wrong("event.type", "found a text; expected `true` or `false`");
    wrong("event.ts == '7'", "a number and a text are never equal");
    wrong("event.type < true", "found `true` or `false`; expected a number or a text");
    wrong("\"{'a': 1}.a == 1\"", "rules have no maps and messages of their own");
    wrong("7", "found `7`; expected an expression");
    wrong("\"\\n\\n  nobody\"", "at character 3 in line 3 of the expression");
    let public = |rule: &str| {
        format!(
            "streams: {{ s: {{ topics: [t] }} }}\nroutes: [{{ path: /x, stream: s, public: true, rule: @@{rule} }}]\n"
        )
    };
    refused(&public("claims.a == 1"), "a public route has no token, and so no claims");
    assert!(route("rule: event.data.public").rule.is_some());
}

/// Expressions that would be expensive are refused when the configuration is read, and do not hold it up.
#[test]
fn bombs_are_refused() {
    let names = Names { has_claims: true, parameters: None };
    let is_refused = |source: &str| parse(source, &names).is_err();
    assert!(is_refused(&"(".repeat(4000)));
    assert!(is_refused(&format!("{}true{}", "(".repeat(2000), ")".repeat(2000))));
    assert!(is_refused(&"!!(!!!!!!(".repeat(12)));
    assert!(is_refused(&format!("{}1{}", "[".repeat(1000), "]".repeat(1000))));
    assert!(is_refused(&format!("{}true", "true && ".repeat(600))), "longer than it may be");
    assert!(is_refused(&format!("event{}", ".a".repeat(100))));
    assert!(is_refused(&(0..100).map(|n| format!("claims.c{n}")).collect::<Vec<_>>().join(" && ")));
    let nested = "event.l.all(a, event.l.all(b, event.l.all(c, true)))";
    assert!(is_refused(nested));
    assert!(is_refused("\0") && is_refused("") && is_refused("\u{202e}true"));
    assert!(!is_refused(&vec!["event.data.a"; 30].join(" || ")));
}

/// A random expression over `event.data.{a,b,l}` and literals, as text.
fn any_source() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "event.data.a",
        "event.data.b",
        "event.data.l",
        "1",
        "2.5",
        "'x'",
        "true",
        "false",
        "null",
        "['x', 'y']",
        "claims.s",
        "event.data.none",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            (pair.clone(), prop::sample::select(vec!["&&", "||", "==", "!=", "<", ">=", "in"]))
                .prop_map(|((a, b), operator)| format!("({a} {operator} {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (pair.clone(), inner.clone()).prop_map(|((a, b), c)| format!("({a} ? {b} : {c})")),
            inner.clone().prop_map(|a| format!("event.data.l.exists(x, {a} == x)")),
            inner.clone().prop_map(|a| format!("event.data.l.all(x, x == {a})")),
            inner.clone().prop_map(|a| format!("(event.data.l.map(x, x == {a}) == [true, false, false])")),
            inner.prop_map(|a| format!("({a} in event.data.l.filter(x, x != {a}))")),
        ]
    })
}

/// The verdict of the interpreter of the crate `cel`.
fn reference(source: &str, claims: &Value, event: &Event) -> Option<bool> {
    let program = cel::Program::compile(source).unwrap();
    let mut context = cel::Context::default();
    let envelope: Value = serde_json::from_slice(&event.envelope).unwrap();
    context.add_variable("event", envelope).unwrap();
    context.add_variable("claims", claims.clone()).unwrap();
    match program.execute(&context) {
        Ok(cel::Value::Bool(flag)) => Some(flag),
        _ => None,
    }
}

/// A random calculation with integers, as text. The crate takes an integer of JSON that is not negative for one without a
/// sign, which it does not mix with others.
fn any_calculation() -> impl Strategy<Value = String> {
    let leaf =
        prop::sample::select(vec!["event.data.i", "claims.n", "0", "1", "7", "3037000500", "9223372036854775807"]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 16, 2, |inner| {
        let operator = prop::sample::select(vec!["+", "-", "*", "/", "%"]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
            inner.prop_map(|a| format!("(-{a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn calculations_agree_with_cels_interpreter(a in any_calculation(), b in any_calculation(), i in -100_i64..0) {
        let (source, claims) = (format!("{a} >= {b}"), json!({"n": -2}));
        let data = json!({ "i": i }).to_string();
        prop_assert_eq!(verdict(&source, &claims, &data), reference(&source, &claims, &event(&data)), "{}", source);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn evaluation_agrees_with_cels_interpreter(
        source in any_source(),
        a in prop::sample::select(vec!["1", "\"x\"", "true", "null", "2.5", "[\"x\"]"]),
        b in prop::sample::select(vec!["2", "\"y\"", "false", "{\"x\":1}"]),
    ) {
        let names = Names { has_claims: true, parameters: None };
        // What is certainly of the wrong type is refused.
        let Ok((expression, inputs)) = parse(&source, &names) else { return Ok(()) };
        let claims = json!({"s": "x"});
        let event = event(&format!(r#"{{"a":{a},"b":{b},"l":["x",1,true]}}"#));
        let rule = Arc::new(Rule::new("/x".into(), &source, expression, inputs));
        let bound = rule.bind(claims.as_object().cloned().map(Claims::from).as_ref(), &[]);
        let verdict = bound.allows(&rule.facts(&event)).ok();
        prop_assert_eq!(verdict, reference(&source, &claims, &event), "left: ours; {}, a={}, b={}", source, a, b);
    }
}
