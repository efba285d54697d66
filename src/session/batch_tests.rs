use std::time::Duration;

use super::super::tests::Bench;
use super::super::{CloseReason, Transport};
use crate::route::Batch;

#[test]
fn a_batch_is_sent_when_it_is_full_or_expires() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::Ndjson, |request, _| {
        request.batch = Batch::new(3, Duration::from_millis(50));
    });
    assert!(!session.gathers(bench.now.instant), "the head does not wait");
    assert!(bench.written(&mut session).contains("\r\nX-Batch-Size: 3\r\n"));
    bench.append(&mut session, 0, &[]);
    assert!(session.gathers(bench.now.instant));
    assert_eq!(session.deadline(), bench.now.instant + Duration::from_millis(50));
    bench.append(&mut session, 1, &[]);
    bench.append(&mut session, 2, &[]);
    assert!(!session.gathers(bench.now.instant), "it is full");
    assert_eq!(bench.written(&mut session).lines().count(), 3);
    bench.append(&mut session, 3, &[]);
    assert!(session.gathers(bench.now.instant));
    bench.pass(Duration::from_millis(49));
    assert!(session.gathers(bench.now.instant));
    bench.pass(Duration::from_millis(1));
    // The writer's timer checks it.
    session.tick(&mut bench.context());
    assert!(!session.gathers(bench.now.instant), "its time is over");
    assert!(session.deadline() > bench.now.instant, "and does not come again");
    bench.written(&mut session);
    bench.append(&mut session, 4, &[]);
    assert!(session.gathers(bench.now.instant));
    session.close(CloseReason::Drain);
    assert!(!session.gathers(bench.now.instant), "the end does not wait");
}

#[test]
fn a_queue_that_is_nearly_full_does_not_wait() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::Sse, |request, route| {
        request.batch = Batch::new(1000, Duration::from_secs(5));
        route.queue.events = 2;
    });
    bench.written(&mut session);
    bench.append(&mut session, 0, &[]);
    assert!(session.gathers(bench.now.instant));
    bench.append(&mut session, 1, &[]);
    assert!(!session.gathers(bench.now.instant));
    assert!(!bench.written(&mut session).contains("gap"));
    let mut plain = bench.open(Transport::Sse, |_, _| {});
    bench.written(&mut plain);
    bench.append(&mut plain, 2, &[]);
    assert!(!plain.gathers(bench.now.instant), "nobody waits who did not ask for it");
}
