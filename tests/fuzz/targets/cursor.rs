//! Any text as a cursor: it is rejected, or resuming from it terminates, and its text round-trips.

#![no_main]

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sidestream::cursor::{CURSOR_BYTES_MAX, Cursor};
use sidestream::event::{Assigned, Topic};
use sidestream::hub::{Hub, ReplayLimits, WindowLimits};
use sidestream::route::Stream;

fuzz_target!(|text: &str| {
    let Ok(cursor) = text.parse::<Cursor>() else { return };
    assert!(text.len() <= CURSOR_BYTES_MAX);
    assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor.clone()));
    let (hub, stream) = place();
    for events in [0, 100] {
        let limits = ReplayLimits { events, bytes: 1000, time: Duration::from_secs(1) };
        let _ = (hub.ahead(&stream, &cursor), hub.is_time_needed(&stream, &cursor, &limits));
        let mut plan = hub.plan(&stream, &cursor, &limits);
        let left: i64 = plan.replay.places(&hub, &stream).iter().map(|place| place.until - place.offset).sum();
        assert!(left <= events as i64, "more than the limit would be read");
        plan.replay.keep_newest(&hub, &stream, 0);
        while plan.replay.step(&hub, &stream).is_some() {}
    }
});

fn place() -> (Hub, Stream) {
    let topics: [Topic; 2] = ["orders".into(), "refunds".into()];
    let limits = WindowLimits { events: 10, bytes: 1000 };
    let mut hub = Hub::new(topics.iter().map(|topic| (topic.clone(), limits)));
    hub.assign(&Assigned::new(topics[0].clone(), 7, [5, 1000, 0]));
    hub.assign(&Assigned::new(topics[1].clone(), 0, [3]));
    hub.go_live(&topics);
    (hub, Stream { id: 1, name: Arc::from("all"), topics: topics.into(), keys: Box::new([]), state: None })
}
