//! Snapshots: the state, then every change after it exactly once, and resuming in the middle.

use std::time::Duration;

use super::tests::Bench;
use super::*;
use crate::event::{Assigned, Entry, Feed, Topic};
use crate::hub::{Asker, Log, Lookup, OffsetsAt, Page, Place, ReplayLimits, Table, TableConfig, TopicDescription};
use crate::route::{OnGap, State, Stream, StreamRoute};
use crate::testing::{FakeLog, event, selector};

/// A log with a state.
#[derive(Debug)]
struct WithState {
    log: FakeLog,
    table: Arc<Table>,
}

impl Log for WithState {
    fn page(&self, place: &Place, asker: Asker) -> Lookup<Arc<Page>> {
        self.log.page(place, asker)
    }

    fn offsets_at(&self, topic: &Topic, ms: i64, asker: Asker) -> Lookup<OffsetsAt> {
        self.log.offsets_at(topic, ms, asker)
    }

    fn description(&self, topic: &Topic, since_ms: i64, asker: Asker) -> Lookup<TopicDescription> {
        self.log.description(topic, since_ms, asker)
    }

    fn limits(&self) -> ReplayLimits {
        self.log.limits()
    }

    fn table(&self, stream: &Stream) -> Option<&Table> {
        stream.state.as_ref().map(|_| &*self.table)
    }
}

struct Shop {
    bench: Bench,
    table: Arc<Table>,
    next: i64,
}

impl Shop {
    /// With a table that was read if `is_read`.
    fn new(is_read: bool) -> Self {
        let deletes = ["delete".into()].into();
        let config = TableConfig { topic: "orders".into(), key: "orderId".into(), deletes, bytes: 1 << 20 };
        let table = Arc::new(Table::new(config));
        let mut bench = Bench::new();
        let state = State { key: "orderId".into(), bytes: 1 << 20 };
        bench.stream = Arc::new(Stream {
            id: 1,
            name: "orders".into(),
            topics: ["orders".into()].into(),
            keys: ["orderId".into()].into(),
            state: Some(state),
        });
        bench.log = Arc::new(WithState { log: FakeLog::new(Vec::new(), 3), table: table.clone() });
        let mut shop = Self { bench, table, next: 0 };
        shop.table.feed(&Feed::Assigned(Assigned::new("orders", 0, [0])), shop.bench.now.instant);
        if is_read {
            shop.go_live();
        }
        shop
    }

    fn go_live(&mut self) {
        self.table.feed(&Feed::Live { topics: ["orders".into()].into() }, self.bench.now.instant);
    }

    /// An event of an order, which the table and the window receive.
    fn order(&mut self, key: &str) {
        let event = event("orders", 0, self.next, &[("orderId", key)]);
        self.next += 1;
        self.table.feed(&Feed::Batch([Entry::Event(event.clone())].into()), self.bench.now.instant);
        self.bench.hub.append(&Entry::Event(event));
    }

    fn orders(&mut self, keys: &[&str]) {
        keys.iter().for_each(|key| self.order(key));
    }

    fn open(&mut self, transport: Transport, change: impl FnOnce(&mut Request, &mut StreamRoute)) -> Session {
        self.bench.open(transport, |request, route| {
            request.from_state = true;
            change(request, route);
        })
    }

    fn lines(&mut self, session: &mut Session) -> Vec<serde_json::Value> {
        let text = self.bench.written(session);
        let body = text.split_once("\r\n\r\n").map_or(&*text, |(_, body)| body);
        body.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn since(position: &str) -> impl FnOnce(&mut Request, &mut StreamRoute) {
    let resume = position.parse().unwrap();
    move |request, _| request.resume = Some(Box::new(resume))
}

/// What a line is: `begin`, `end`, `state KEY OFFSET` or `KEY OFFSET`.
fn shape(line: &serde_json::Value) -> String {
    if line["type"] == "snapshot" {
        let reason = line["reason"].as_str().map(|reason| format!(" {reason}")).unwrap_or_default();
        return format!("{}{reason}", line["phase"].as_str().unwrap());
    }
    let mark = if line["snapshot"] == true { "state " } else { "" };
    format!("{mark}{} {}", line["orderId"].as_str().unwrap(), line["data"]["n"])
}

fn shapes(lines: &[serde_json::Value]) -> Vec<String> {
    lines.iter().map(shape).collect()
}

#[test]
fn the_state_precedes_every_change_after_it() {
    let mut shop = Shop::new(true);
    shop.orders(&["b", "a", "b"]);
    let mut session = shop.open(Transport::Ndjson, |_, _| {});
    shop.order("c");
    let lines = shop.lines(&mut session);
    assert_eq!(shapes(&lines), ["begin", "state a 1", "state b 2", "end", "c 3"]);
    let end = &lines[3];
    assert_eq!((&end["cursor"], &end["count"], &end["stream"]), (&"orders:0:2".into(), &2.into(), &"orders".into()));
    shop.bench.append(&mut session, 4, &[("orderId", "a")]);
    assert_eq!(shapes(&shop.lines(&mut session)), ["a 4"], "the stream is live");
}

#[test]
fn a_writer_behind_the_state_sends_no_change_twice() {
    let mut shop = Shop::new(true);
    shop.order("a");
    // The table has read more than the writer.
    let ahead = event("orders", 0, 1, &[("orderId", "b")]);
    shop.table.feed(&Feed::Batch([Entry::Event(ahead.clone())].into()), shop.bench.now.instant);
    let mut session = shop.open(Transport::Ndjson, |_, _| {});
    assert_eq!(shapes(&shop.lines(&mut session)), ["begin", "state a 0", "state b 1", "end"]);
    shop.bench.hub.append(&Entry::Event(ahead));
    assert!(shop.lines(&mut session).is_empty(), "it has the change");
    shop.bench.append(&mut session, 2, &[("orderId", "b")]);
    assert_eq!(shapes(&shop.lines(&mut session)), ["b 2"]);
}

#[test]
fn a_client_gets_the_state_of_its_own_keys() {
    let mut shop = Shop::new(true);
    shop.orders(&["a", "b", "c"]);
    let mut one = shop.open(Transport::Ndjson, |request, _| request.selector = selector(&[("orderId", "b")]));
    shop.order("c");
    shop.order("b");
    assert_eq!(shapes(&shop.lines(&mut one)), ["begin", "state b 1", "end", "b 4"]);
    let mut none = shop.open(Transport::Ndjson, |request, _| request.selector = selector(&[("userId", "u")]));
    assert_eq!(shapes(&shop.lines(&mut none)), ["begin", "end"], "no event has this key");
}

#[test]
fn a_client_that_was_cut_off_continues_in_the_same_cut() {
    let mut shop = Shop::new(true);
    shop.orders(&["a", "b", "c"]);
    let mut first = shop.open(Transport::Ndjson, |_, _| {});
    let lines = shop.lines(&mut first);
    shop.orders(&["a", "c"]);
    let mut resumed = shop.open(Transport::Ndjson, since(lines[1]["cursor"].as_str().unwrap()));
    assert_eq!(shapes(&shop.lines(&mut resumed)), ["state b 1", "state c 2", "end", "a 3", "c 4"]);
    let mut begun = shop.open(Transport::Ndjson, since(lines[0]["cursor"].as_str().unwrap()));
    assert_eq!(shapes(&shop.lines(&mut begun))[..3], ["begin", "state a 0", "state b 1"]);
    // Without `?from=state`, it is not the position of a change either.
    let mut plain = shop.open(Transport::Ndjson, |request, route| {
        since(lines[2]["cursor"].as_str().unwrap())(request, route);
        request.from_state = false;
    });
    assert_eq!(shapes(&shop.lines(&mut plain)), ["state c 2", "end", "a 3", "c 4"]);
}

#[test]
fn a_client_whose_cut_is_gone_begins_again_and_is_informed() {
    let mut shop = Shop::new(true);
    shop.orders(&["a", "b"]);
    let mut first = shop.open(Transport::Ndjson, |_, _| {});
    let lines = shop.lines(&mut first);
    shop.bench.pass(Duration::from_secs(3600));
    shop.order("b");
    for cursor in [lines[0]["cursor"].as_str().unwrap(), lines[1]["cursor"].as_str().unwrap()] {
        let mut resumed = shop.open(Transport::Ndjson, since(cursor));
        let shown = shapes(&shop.lines(&mut resumed));
        assert_eq!(shown, ["begin cut-gone", "state a 0", "state b 2", "end"]);
    }
}

#[test]
fn the_state_replaces_what_was_lost_where_the_route_says_so() {
    let mut shop = Shop::new(true);
    shop.orders(&["a", "b", "c", "a", "b", "c", "d"]);
    // Retention has deleted what is not in the window.
    let mut log = FakeLog::new(Vec::new(), 3);
    log.low = 3;
    shop.bench.log = Arc::new(WithState { log, table: shop.table.clone() });
    let mut recent = shop.bench.open(Transport::Ndjson, |request, route| {
        since("orders:0:4")(request, route);
        route.on_gap = OnGap::State;
    });
    assert_eq!(shapes(&shop.lines(&mut recent)), ["c 5", "d 6"], "nothing was lost");
    for transport in [Transport::Ndjson, Transport::Sse] {
        let mut session = shop.bench.open(transport, |request, route| {
            since("orders:0:0")(request, route);
            route.on_gap = OnGap::State;
        });
        let answer = shop.bench.written(&mut session);
        let begin = answer.find("\"phase\":\"begin\"").zip(answer.find("\"reason\":\"retention\""));
        assert_eq!((begin.is_some(), answer.matches("\"snapshot\":true").count()), (true, 4), "{answer}");
        assert!(!answer.contains("\"gap\""), "{answer}");
    }
}

#[test]
fn without_a_state_the_answer_is_an_error_or_for_sse_a_wait() {
    let mut shop = Shop::new(false);
    shop.order("a");
    let mut refused = shop.open(Transport::Ndjson, |_, _| {});
    let answer = shop.bench.written(&mut refused);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: 2\r\n"), "{answer}");
    let mut sse = shop.open(Transport::Sse, |_, _| {});
    let head = shop.bench.written(&mut sse);
    assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("snapshot"), "{head}");
    shop.go_live();
    let body = shop.bench.written(&mut sse);
    let mut expected = body.lines().filter(|line| line.starts_with("event: snapshot") || line.starts_with("id: "));
    assert_eq!(expected.next().map(|line| line.starts_with("id: orders:0:-1~.")), Some(true), "{body}");
    assert!(body.contains("\"snapshot\":true") && body.contains("id: orders:0:0\nevent: snapshot\n"), "{body}");
}

#[test]
fn clients_of_one_cut_share_encodings() {
    let mut shop = Shop::new(true);
    shop.orders(&["a", "b"]);
    let mut first = shop.open(Transport::Ndjson, |_, _| {});
    first.catch_up(&mut shop.bench.context());
    let bytes = shop.bench.encodings.bytes();
    let mut second = shop.open(Transport::Ndjson, |_, _| {});
    second.catch_up(&mut shop.bench.context());
    assert_eq!((bytes > 0, shop.bench.encodings.bytes()), (true, bytes), "both have them in their queues");
    assert_eq!(shop.bench.written(&mut first), shop.bench.written(&mut second));
}
