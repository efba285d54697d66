//! `sidestream explain`: the step that decides, by the command and by the admin listener.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::fixture::{Fixture, Plan};
use crate::support::http::Call;
use crate::support::sidecar::binary;
use crate::support::token;

fn fixture() -> Fixture {
    Plan::new(
        "streams:\n  notices: { topics: [notices], keys: [userId] }\nauth: { key_file: jwt.key, algorithms: [HS256] }\nroutes:\n  - \
         { path: /mine, stream: notices, bind: { userId: claims.sub }, rule: \"claims.level > 0 && event.data.level <= \
         claims.level\" }\n  - { path: /open, stream: notices, public: true, transport: sse }\n",
    )
    .build()
}

fn of(sub: &str, level: i64) -> String {
    token::with(json!({"sub": sub, "level": level, "exp": token::now() + 3600}))
}

/// The command's exit code, standard output and standard error.
fn explain(fixture: &Fixture, arguments: &[&str], token: &str) -> (i32, String, String) {
    let admin = fixture.sidecar.admin.to_string();
    let arguments = [&["explain", "--admin", &admin, "--token-file", "-"], arguments].concat();
    let mut child =
        binary(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The decision, and the step that decided.
fn decision(fixture: &Fixture, arguments: &[&str], token: &str) -> (Option<bool>, Option<String>) {
    let (code, out, error) = explain(fixture, &[arguments, &["--output", "json"]].concat(), token);
    let answer: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {out} {error}"));
    let receives = answer["receives"].as_bool();
    assert_eq!(
        code,
        match receives {
            Some(true) => 0,
            Some(false) => 1,
            None => 2,
        }
    );
    (receives, answer["decided_by"].as_str().map(str::to_owned))
}

#[test]
fn the_step_that_decides_is_named() {
    let fixture = fixture();
    let notice = |user: &str, data: Value| fixture.broker.event("notices", 0, json!({"userId": user, "data": data}));
    let (own, high) = (notice("u1", json!({"level": 1})), notice("u1", json!({"level": 2})));
    let (other, none) = (notice("u2", json!({"level": 1})), notice("u1", json!({})));
    let bad = fixture.broker.produce("notices", 0, None, Some(b"{"));
    let last = notice("u1", json!({"level": 0}));
    fixture.settle("/open", &[last]);
    let token = of("u1", 1);
    let no = |step: &str| (Some(false), Some(step.to_owned()));
    let on_mine = |event: &str, token: &str| decision(&fixture, &["--route", "/mine", "--event", event], token);
    assert_eq!(decision(&fixture, &["--route", "/mine"], &token), (Some(true), None));
    assert_eq!(on_mine(&own, &token), (Some(true), None));
    assert_eq!(on_mine(&high, &token), no("rule"));
    assert_eq!(on_mine(&none, &token), no("rule"));
    assert_eq!(on_mine(&other, &token), no("bind"));
    assert_eq!(on_mine(&bad, &token), no("validation"));
    assert_eq!(on_mine("orders:0:0", &token), no("route"));
    assert_eq!(on_mine(&own, &of("u1", 0)), no("rule"));
    assert_eq!(on_mine(&own, "garbage"), no("token"));
    assert_eq!(on_mine(&own, &token::with(json!({"level": 1, "exp": token::now() + 3600}))), no("bind"));
    assert_eq!(on_mine("notices:0:99", &token).0, None, "it may come");
    assert_eq!(decision(&fixture, &["--route", "/none"], &token), no("route"));
    assert_eq!(decision(&fixture, &["--route", "//mine"], &token), no("route"));
    assert_eq!(decision(&fixture, &["--route", "/open", "--event", &other], ""), (Some(true), None));
    let record = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(record.path(), r#"{"userId":"u1","data":{"level":2}}"#).unwrap();
    let of_file =
        |token: &str| decision(&fixture, &["--route", "/mine", "--event-file", record.path().to_str().unwrap()], token);
    assert_eq!((of_file(&token), of_file(&of("u1", 2))), (no("rule"), (Some(true), None)));
    std::fs::write(record.path(), "{").unwrap();
    assert_eq!(of_file(&token), no("validation"));
}

#[test]
fn no_answer_repeats_the_token_or_the_event() {
    let fixture = fixture();
    let id = fixture.broker.event("notices", 0, json!({"userId": "u2", "data": { "level": "hidden" }}));
    fixture.settle("/open", std::slice::from_ref(&id));
    for token in [of("u1", 1), of("u2", 1), "secret-token".to_owned()] {
        let (_, out, error) = explain(&fixture, &["--route", "/mine", "--event", &id], &token);
        let text = out + &error;
        assert!(!text.contains(&token) && !text.contains("hidden"), "{text}");
        let signature = token.rsplit('.').next().unwrap();
        assert!(!text.contains(signature) && !fixture.sidecar.log().contains(signature), "{text}");
    }
    let (code, out, _) = explain(&fixture, &["--route", "/mine", "--event", &id], &of("u2", 1));
    assert!(code == 1 && out.contains("rule        no   it fails for the event: a value has another type"), "{out}");
    assert!(out.ends_with("not received: rule decides\n"), "{out}");
}

#[test]
fn questions_are_limited_to_the_same_host() {
    let fixture = fixture();
    let ask = |body: &str| {
        let call = Call::of_admin(fixture.sidecar.admin, "POST", "/-/explain");
        call.body(body).send()
    };
    assert_eq!(ask(r#"{"path":"/open"}"#).json()["receives"], true);
    ask("{").problem(400);
    ask(r#"{"path":"/open","unknown":1}"#).problem(400);
    let call = Call::of_admin(fixture.sidecar.admin, "POST", "/-/explain");
    call.header("Origin", "https://evil.example").body(r#"{"path":"/open"}"#).send().problem(403);
    let call = Call::of_admin(fixture.sidecar.admin, "GET", "/-/explain");
    call.send().problem(405);
}
