//! Rules of routes: at the opening, on live events, in replay, and for commands.

use serde_json::{Value, json};

use crate::support::fixture::{Fixture, Plan};
use crate::support::token;

const ROUTES: &str = "streams:\n  notices: { topics: [notices], keys: [userId] }\nauth: { key_file: jwt.key, algorithms: \
                      [HS256], leeway: 0s }\nroutes:\n  - { path: /all, stream: notices, public: true, transport: sse }\n  - { path: /tier, \
                      stream: notices, rule: \"claims.role == 'admin' || event.data.tier in claims.tiers\" }\n  - { path: \
                      /admin, stream: notices, rule: \"claims.role == 'admin'\" }\n  - { path: '/user/{id}', stream: notices, \
                      transport: ws, bind: { userId: path.id }, rule: \"path.id in claims.users && event.data.tier != 'x'\", \
                      websocket: { subscribe: ['/user/{id}', /tier, /admin] } }\n";

fn fixture() -> Fixture {
    Plan::new(ROUTES).build()
}

fn of(claims: Value) -> String {
    let mut claims = claims;
    claims["exp"] = json!(token::now() + 3600);
    token::with(claims)
}

fn notice(fixture: &Fixture, user: &str, tier: Value) -> String {
    fixture.broker.event("notices", 0, json!({"userId": user, "data": { "tier": tier }}))
}

#[test]
fn a_rule_decides_live_and_in_replay() {
    let fixture = fixture();
    let gold = of(json!({"sub": "a", "role": "user", "tiers": ["gold"]}));
    let admin = of(json!({"sub": "b", "role": "admin", "tiers": []}));
    let open = |token: &str| {
        let get = || fixture.get("/tier").bearer(token);
        (get().ndjson(), get().header("Accept", "text/event-stream").sse(), get().websocket())
    };
    let (mut few, mut all) = (open(&gold), open(&admin));
    let ids: Vec<String> = [json!("tin"), json!("gold"), json!(7), json!(null), json!("gold")]
        .into_iter()
        .map(|tier| notice(&fixture, "u", tier))
        .collect();
    let own = [ids[1].clone(), ids[4].clone()];
    assert_eq!((few.0.ids(2), few.1.ids(2), few.2.ids(2)), (own.to_vec(), own.to_vec(), own.to_vec()));
    assert_eq!((all.0.ids(5), all.1.ids(5), all.2.ids(5)), (ids.clone(), ids.clone(), ids.clone()));
    for _ in 0..2 {
        let since = fixture.get(&format!("/tier?since={}", ids[0])).bearer(&gold);
        assert_eq!((since.ndjson().ids(2), since.websocket().ids(2)), (own.to_vec(), own.to_vec()));
        let last =
            fixture.get("/tier").header("Accept", "text/event-stream").header("Last-Event-ID", &ids[1]).bearer(&gold);
        assert_eq!(last.sse().ids(1), own[1..]);
    }
}

#[test]
fn what_needs_no_event_is_a_403() {
    let fixture = fixture();
    let user = of(json!({"sub": "a", "role": "user"}));
    let answer = fixture.get("/admin").bearer(&user).send();
    answer.problem(403);
    assert_eq!(fixture.get("/admin").bearer(&of(json!({"sub": "a"}))).send().status(), 403, "a missing claim");
    assert_eq!(fixture.get("/user/u2").bearer(&of(json!({"users": ["u1"]}))).upgrade().send().status(), 403);
    let count = |name: &str| fixture.sidecar.metric(name);
    assert_eq!(count("notifications_streams_rejected_total{reason=\"rule\"}"), Some(3.0));
    fixture.get("/admin").bearer(&of(json!({"role": "admin"}))).ndjson();
}

#[test]
fn a_failure_is_counted_and_denies() {
    let fixture = fixture();
    let mut few = fixture.get("/tier").bearer(&of(json!({"role": "user", "tiers": ["gold"]}))).ndjson();
    fixture.broker.event("notices", 0, json!({"userId": "u", "data": {}}));
    fixture.broker.event("notices", 0, json!({"userId": "u", "data": "gold"}));
    let id = notice(&fixture, "u", json!("gold"));
    assert_eq!(few.ids(1), [id]);
    fixture.sidecar.await_metric("notifications_rule_errors_total{route=\"/tier\"}", 2.0);
}

#[test]
fn commands_obey_rules() {
    let fixture = fixture();
    let token = of(json!({"sub": "a", "role": "user", "users": ["u1", "u2"], "tiers": ["gold"]}));
    let mut socket = fixture.get("/user/u1").bearer(&token).websocket();
    let ids =
        [notice(&fixture, "u1", json!("y")), notice(&fixture, "u1", json!("x")), notice(&fixture, "u1", json!("z"))];
    assert_eq!(socket.ids(2), [ids[0].clone(), ids[2].clone()]);
    let hidden = notice(&fixture, "u1", json!("x"));
    fixture.settle("/all", &[hidden]);
    let status = socket.ask(json!({"command": "get-status"}));
    assert_eq!(status["data"]["result"]["id"], json!(ids[2]), "{status}");
    let refused = socket.ask(json!({"command": "subscribe", "resource": "u3"}));
    assert_eq!(refused["data"]["status"], "error", "{refused}");
    assert!(refused["data"]["error"].as_str().unwrap().contains("rule"), "{refused}");
    assert_eq!(socket.ask(json!({"command": "subscribe", "resource": "/admin"}))["data"]["status"], "error");
    assert_eq!(socket.ask(json!({"command": "subscribe", "resource": "/user/u2"}))["data"]["status"], "ok");
    notice(&fixture, "u2", json!("x"));
    let own = notice(&fixture, "u2", json!("gold"));
    assert_eq!(socket.ids(1), std::slice::from_ref(&own));
    // Two subscriptions: one denies what the other allows.
    assert_eq!(socket.ask(json!({"command": "unsubscribe"}))["data"]["status"], "ok");
    assert_eq!(socket.ask(json!({"command": "subscribe", "resource": "/tier", "since": own}))["data"]["status"], "ok");
    assert_eq!(socket.ask(json!({"command": "subscribe", "resource": "/user/u1"}))["data"]["status"], "ok");
    notice(&fixture, "u3", json!("tin"));
    let both = [notice(&fixture, "u1", json!("tin")), notice(&fixture, "u3", json!("gold"))];
    assert_eq!(socket.ids(2), both);
}
