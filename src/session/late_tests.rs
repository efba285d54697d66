//! Clients that resume before their position was read here.

use std::sync::Arc;
use std::time::Duration;

use super::tests::{Bench, masked, resume};
use super::*;
use crate::codec::websocket::Opcode;
use crate::cursor::{Positions, TopicPosition};
use crate::event::{Assigned, Entry};
use crate::hub::{Hub, WindowLimits};
use crate::testing::{FakeLog, event};

#[test]
fn an_sse_client_that_resumes_early_waits_and_others_get_a_503() {
    let mut bench = Bench::new();
    bench.hub = Hub::new([("orders".into(), WindowLimits { events: 9, bytes: 999 })]);
    let mut sse = bench.open(Transport::Sse, |request, _| request.resume = resume("orders:0:0"));
    assert!(bench.written(&mut sse).ends_with("retry: 2500\nid: orders:0:0\n\n"), "it keeps its place meanwhile");
    let mut ndjson = bench.open(Transport::Ndjson, |request, _| request.resume = resume("orders:0:0"));
    assert_eq!(bench.written(&mut ndjson), "");
    assert_eq!(ndjson.deadline(), bench.now.instant + Duration::from_secs(1));
    bench.pass(Duration::from_secs(1));
    assert!(!ndjson.tick(&mut bench.context()) && !sse.tick(&mut bench.context()));
    assert!(bench.written(&mut ndjson).starts_with("HTTP/1.1 503 "));
    assert_eq!(bench.written(&mut sse), "");
    assert!(sse.deadline() > bench.now.instant, "it goes on waiting");

    bench.hub.assign(&Assigned::new("orders", 0, [0]));
    for offset in 0..2 {
        bench.append(&mut sse, offset, &[]);
    }
    assert_eq!(bench.written(&mut sse), "", "nothing before all is read");
    bench.hub.go_live(&["orders".into()]);
    assert!(bench.written(&mut sse).starts_with("id: orders:0:1\n"));
    bench.append(&mut sse, 2, &[]);
    assert!(bench.written(&mut sse).starts_with("id: orders:0:2\n"));
}

#[test]
fn a_client_ahead_of_this_writer_waits_for_it() {
    let mut bench = Bench::new();
    let open = |bench: &mut Bench, transport| bench.open(transport, |request, _| request.resume = resume("orders:0:1"));
    let mut early = Transport::ALL.map(|transport| open(&mut bench, transport));
    let mut other = bench.open(Transport::Sse, |_, _| {});
    for (transport, session) in Transport::ALL.iter().zip(&mut early) {
        if transport.fails_in_stream() {
            continue;
        }
        assert_eq!(bench.bytes(session), b"", "neither 200 nor 410 before it is known");
    }
    // A WebSocket client may send messages early as well.
    let websocket = Transport::ALL.iter().position(|transport| *transport == Transport::WebSocket).unwrap();
    early[websocket].read(&masked(Opcode::Text, br#"{"command":"ping"}"#), &mut bench.context());
    for offset in 0..3 {
        bench.append(&mut other, offset, &[]);
    }
    for session in &mut early {
        let text = bench.written(session);
        assert!(text.contains("orders:0:2") && !text.contains("gap"), "{text}");
    }
    let mut lost = open(&mut Bench::new(), Transport::Ndjson);
    let mut bench = Bench::new();
    assert_eq!(bench.written(&mut lost), "");
    let mut fake_log = FakeLog::new(Vec::new(), 1);
    fake_log.high = 0;
    bench.log = Arc::new(fake_log);
    bench.pass(Duration::from_secs(2));
    bench.written(&mut lost);
    assert_eq!(lost.closed(), Some(CloseReason::ReplayNotPossible), "the log does not hold it after all");
}

/// After a restart, clients resume with positions from the previous process's hub order.
#[test]
fn a_client_that_is_ahead_does_not_affect_others() {
    let mut bench = Bench::new();
    bench.hub = Hub::new([("orders".into(), WindowLimits { events: 9, bytes: 9999 })]);
    bench.hub.assign(&Assigned::new("orders", 0, [0, 0]));
    for (partition, offset) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        bench.hub.append(&Entry::Event(event("orders", partition, offset, &[])));
    }
    bench.hub.go_live(&["orders".into()]);
    let topics = bench.stream.topics.clone();
    let at = |next: [i64; 2]| {
        let id = format!("orders:0:{}", next[0] - 1).parse().unwrap();
        Some(Box::new(Resume::From(
            Positions(vec![TopicPosition { epoch: 0, next: next.to_vec() }]).cursor(&topics, id),
        )))
    };
    let mut sent = |resume: Option<Box<Resume>>| {
        let mut session = bench.open(Transport::Sse, |request, _| request.resume = resume.clone());
        let text = bench.written(&mut session);
        session.leave(&mut bench.context());
        let ids = text.lines().filter_map(|line| line.strip_prefix("id: ")).skip(1).map(str::to_owned);
        ids.collect::<Vec<_>>()
    };
    let names = |ids: &[String]| ids.iter().map(|id| id.split('~').next().unwrap().to_owned()).collect::<Vec<_>>();
    let ahead = sent(at([0, 2]));
    assert_eq!(names(&ahead), ["orders:0:0", "orders:0:1"]);
    let behind = sent(at([0, 0]));
    assert_eq!(names(&behind), ["orders:0:0", "orders:1:0", "orders:0:1", "orders:1:1"]);
    for (ids, left) in [(&ahead, &["orders:0:1"][..]), (&behind, &["orders:1:0", "orders:0:1", "orders:1:1"])] {
        assert_eq!(names(&sent(resume(&ids[0]))), left, "cut after its first event");
    }
}
