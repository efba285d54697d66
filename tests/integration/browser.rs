//! A real browser: a page whose streams are cut while the sidecar is replaced; the demo page and the admin page.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::fixture::Fixture;
use crate::support::http::{Body, Head};
use crate::support::relay::Relay;
use crate::support::sidecar::Sidecar;
use crate::support::slow::deaf;

const STREAMS: [&str; 3] = ["sse", "ndjson", "ws"];
/// Events before the cut, between the cut and the restart, and after the restart.
const ROUNDS: usize = 3;
const EVENTS_PER_ROUND: usize = 40;
/// Polls of the admin page before its content is checked.
const ADMIN_LOOKS: usize = 6;

#[test]
fn a_page_resumes_exactly_on_every_transport() {
    let mut fixture = Fixture::standard();
    let relay = Relay::start(fixture.sidecar.listen);
    let url = format!("http://{}/resume.html", relay.address);
    let mut page = Page::open("browser_resume.cjs", &[&url, &(ROUNDS * EVENTS_PER_ROUND).to_string()]);
    page.until("three open streams", |page| page.opened.len() == STREAMS.len());
    let mut wanted = fixture.broker.orders("o1", EVENTS_PER_ROUND);
    page.await_ids(&wanted);
    relay.cut();
    wanted.extend(fixture.broker.orders("o1", EVENTS_PER_ROUND));
    page.await_ids(&wanted);
    // By SIGTERM; until the other sidecar listens, connections are refused.
    fixture.restart();
    relay.point_at(fixture.sidecar.listen);
    wanted.extend(fixture.broker.orders("o1", EVENTS_PER_ROUND));
    page.await_ids(&wanted);
    page.until("its end", |page| page.ended);
    for stream in STREAMS {
        assert_eq!(page.ids[stream], wanted, "{stream}");
        assert!(page.opened[stream] >= ROUNDS, "{stream} was cut each time: {:?}", page.opened);
    }
    assert_eq!(page.gaps, Vec::<Value>::new());
    // Chromium reports a refused connection itself, whether nothing listens or a sidecar is draining.
    let refused = |line: &&String| line.contains("net::ERR_") || line.contains(" 503");
    let unexpected: Vec<_> = page.console.iter().filter(|line| !refused(line)).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

/// The demo's state has been read.
const STATE_READY: &str = "notifications_state_ready{key=\"orderId\",topic=\"order-states\"}";

#[test]
fn the_demos_page_is_alive() {
    let directory = tempfile::tempdir().unwrap();
    let screens = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-logs/screens");
    std::fs::create_dir_all(&screens).unwrap();
    let demo = Sidecar::start(&["demo"], &directory.path().join("demo.log"));
    // Before, the panel of the state gets 503 and asks again.
    demo.await_metric(STATE_READY, 1.0);
    let url = format!("http://{}/", demo.listen);
    let mut page = Page::open("browser_demo.cjs", &[&url, screens.to_str().unwrap()]);
    page.until("its end", |page| page.ended);
    let said =
        |name: &str| -> Vec<&Value> { page.other.iter().map(|line| &line[name]).filter(|v| !v.is_null()).collect() };
    assert_eq!(said("live"), STREAMS);
    assert_eq!(said("lit"), STREAMS, "the order's event in every panel");
    assert_eq!(said("screen"), ["desktop-light.png", "desktop-dark.png", "phone-light.png", "phone-dark.png"]);
    assert_eq!(said("overflow"), [&json!(0); 4], "nothing sticks out sideways");
    assert_eq!(page.console, Vec::<String>::new());
}

#[test]
fn the_demos_tabs_share_their_connections() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Sidecar::start(&["demo"], &directory.path().join("demo.log"));
    demo.await_metric(STATE_READY, 1.0);
    let mut page = Page::open("browser_tabs.cjs", &[&format!("http://{}/", demo.listen)]);
    page.until("its end", |page| page.ended);
    let said =
        |name: &str| -> Vec<&Value> { page.other.iter().map(|line| &line[name]).filter(|v| !v.is_null()).collect() };
    assert_eq!(said("live"), [&json!(0), &json!(1), &json!(2)]);
    assert_eq!(said("lit"), [&json!(0), &json!(1), &json!(2)]);
    assert_eq!(said("closed"), [&json!(1), &json!(2)], "the tab that opened the streams is gone");
    assert_eq!(page.console, Vec::<String>::new());
    // All streams of the browser: as many as one tab has.
    demo.await_metric("notifications_stream_active_connections", 0.0);
}

#[test]
fn the_admin_page_shows_what_is_open_and_reloads() {
    let fixture = Fixture::standard();
    let screens = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-logs/screens");
    std::fs::create_dir_all(&screens).unwrap();
    let mut everybody: Vec<_> = (0..5).map(|_| fixture.get("/events").sse()).collect();
    let mut mine = fixture.get("/orders/o1/events").sse();
    let _slow = slow_stream(&fixture);
    assert_eq!(fixture.get("/typed").header("Last-Event-ID", "no position").sse().event().id_or_gap(), "gap");
    let url = format!("http://{}/", fixture.sidecar.admin);
    let mut page = Page::open("browser_admin.cjs", &[&url, screens.to_str().unwrap(), "o1"]);
    for look in 1..=ADMIN_LOOKS {
        let ids = fixture.broker.orders("o1", EVENTS_PER_ROUND);
        assert_eq!(mine.ids(ids.len()), ids);
        everybody.iter_mut().for_each(|stream| assert_eq!(stream.ids(ids.len()), ids));
        page.until("a look", |page| page.other.iter().any(|line| line["drawn"] == look));
    }
    page.until("the reload", |page| page.other.iter().any(|line| line["reloaded"] == true));
    let before = std::fs::read_to_string(&fixture.config).unwrap();
    let more = "  - { path: /more, stream: orders, transport: sse, public: true }\n";
    std::fs::write(&fixture.config, before.clone() + more).unwrap();
    page.until("the diff", |page| page.other.iter().any(|line| !line["applied"].is_null()));
    std::fs::write(&fixture.config, before + "nonsense: 1\n").unwrap();
    page.until("its end", |page| page.ended);
    let said =
        |name: &str| -> Vec<&Value> { page.other.iter().map(|line| &line[name]).filter(|v| !v.is_null()).collect() };
    assert!(said("route").contains(&&json!("/events|orders|sse|public|5")), "{:?}", said("route"));
    let rated = |route: &str| page.other.iter().find(|line| line["rated"] == route).unwrap();
    let (busy, quiet) = (rated("/events"), rated("/stream"));
    assert!(!["–", "0"].iter().any(|none| busy["rate"] == *none) && busy["lines"] == 1, "{busy}");
    assert_eq!((&quiet["rate"], &quiet["lines"]), (&json!("0"), &json!(1)));
    let text = |name: &str| said(name)[0].to_string();
    let follow = text("follow");
    assert!(follow.contains("curl -gN 'http://localhost:") && follow.contains("/spread/stream'"), "{follow}");
    assert!(text("slow").contains("/orders/special/events (sse)everything"), "{}", text("slow"));
    assert!(text("losses").contains("events droppeddrop-oldest"), "{}", text("losses"));
    assert!(text("losses").contains("\"gaps"), "{}", text("losses"));
    assert!(text("applied").contains("routes added: /more"), "{}", text("applied"));
    assert_eq!(said("found"), [&json!("/orders/{orderId}/events (sse)orderId=o100")]);
    assert!(said("mistakes")[0].as_str().unwrap().contains("unknown key `nonsense`"), "{:?}", said("mistakes"));
    assert_ne!(said("value"), [&json!("–")]);
    let screens =
        ["desktop-light", "desktop-dark", "phone-light", "phone-dark"].map(|name| format!("admin-{name}.png"));
    assert_eq!(said("screen"), screens.each_ref().map(|name| name.as_str()));
    assert_eq!(said("overflow"), [&json!(0); 4], "nothing sticks out sideways");
    assert_eq!(page.console, Vec::<String>::new());
}

/// A stream whose client reads nothing, and whose events are dropped.
fn slow_stream(fixture: &Fixture) -> (Head, Body) {
    let stream = deaf(fixture, fixture.get("/orders/special/events"));
    let large = json!({"type": "notice", "userId": "u", "data": "x".repeat(64 * 1024)}).to_string();
    while fixture.sidecar.metric_sum("notifications_events_dropped_total") == 0.0 {
        fixture.broker.produce("notices", 0, None, Some(large.as_bytes()));
    }
    stream
}

/// The output of a page in Chromium.
struct Page {
    client: Client,
    /// How often each stream was opened.
    opened: BTreeMap<String, usize>,
    ids: BTreeMap<String, Vec<String>>,
    gaps: Vec<Value>,
    console: Vec<String>,
    other: Vec<Value>,
    ended: bool,
}

impl Page {
    fn open(script: &str, arguments: &[&str]) -> Self {
        Self {
            client: Client::start(script, arguments),
            opened: BTreeMap::new(),
            ids: BTreeMap::new(),
            gaps: Vec::new(),
            console: Vec::new(),
            other: Vec::new(),
            ended: false,
        }
    }

    /// Reads until `enough` returns true.
    #[track_caller]
    fn until(&mut self, what: &str, enough: impl Fn(&Self) -> bool) {
        while !enough(self) {
            assert!(!self.ended, "the page ended before {what}");
            let line = self.client.line();
            self.note(line);
        }
    }

    #[track_caller]
    fn await_ids(&mut self, wanted: &[String]) {
        self.until("the events", |page| {
            STREAMS.iter().all(|stream| page.ids.get(*stream).is_some_and(|ids| ids.len() >= wanted.len()))
        });
    }

    fn note(&mut self, line: Value) {
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        if let Some(stream) = text("open") {
            *self.opened.entry(stream).or_default() += 1;
        } else if let (Some(stream), Some(id)) = (text("stream"), text("id")) {
            self.ids.entry(stream).or_default().push(id);
        } else if let Some(message) = text("console") {
            self.console.push(message);
        } else if line["end"] == true {
            self.ended = true;
        } else if line["gap"].is_null() {
            self.other.push(line);
        } else {
            self.gaps.push(line);
        }
    }
}
