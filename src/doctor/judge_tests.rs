//! Verdicts for given observations.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;

fn head(changed: &[(&str, &str)]) -> Head {
    let sent = [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-store, no-transform"),
        ("x-accel-buffering", "no"),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in sent.iter().chain(changed) {
        headers.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    Head { minor: 1, status: 200, headers: Box::new(headers) }
}

/// A record every half second; `together` of them arrive at once.
fn arrivals(count: i64, together: i64) -> Vec<Arrival> {
    let arrival = |n: i64| {
        let came_ms = (n / together + 1) * together * 500;
        let at = Duration::from_millis(came_ms as u64);
        Arrival { at, came_ms, left_ms: Some(n * 500 + 77_000), bytes: 50, is_http10: Some(false) }
    };
    (0..count).map(arrival).collect()
}

fn watch(age: u64, end: Option<End>) -> Watch {
    let arrivals = arrivals(age as i64 * 2, 1);
    Watch { head: Ok(head(&[])), is_websocket: false, arrivals, end, age: Duration::from_secs(age) }
}

fn seen() -> Seen {
    let silent = Watch { arrivals: Vec::new(), ..watch(90, None) };
    Seen { is_probe: true, lively: watch(90, None), silent: Some(silent), browser: watch(2, None), origin: None }
}

fn cut() -> Option<End> {
    Some(End::Cut("within the body".to_owned()))
}

fn codes(seen: &Seen) -> Vec<&'static str> {
    judge(seen).into_iter().filter(|verdict| verdict.problem).map(|verdict| verdict.code).collect()
}

#[test]
fn a_healthy_path_has_no_problem() {
    let verdicts = judge(&seen());
    assert_eq!(
        verdicts.iter().map(|verdict| (verdict.code, verdict.problem)).collect::<Vec<_>>(),
        [("healthy", false)]
    );
}

#[test]
fn records_in_groups_indicate_buffering_and_single_delays_do_not() {
    let mut bunched = seen();
    bunched.lively.arrivals = arrivals(180, 8);
    assert_eq!(codes(&bunched), ["buffering"]);
    let held = held_back(&bunched.lively.arrivals).unwrap();
    assert_eq!((held.records, held.bytes, held.longest), (8, 400, Duration::from_millis(3500)));
    let mut nothing = seen();
    nothing.lively.arrivals.clear();
    assert_eq!(codes(&nothing), ["buffering"]);
    let mut stuck = seen();
    stuck.lively.arrivals.truncate(1);
    assert_eq!(codes(&stuck), ["buffering"]);
    let mut hiccup = seen();
    hiccup.lively.arrivals[3].came_ms = hiccup.lively.arrivals[4].came_ms;
    assert_eq!(codes(&hiccup), [""; 0]);
}

#[test]
fn an_idle_timeout_is_distinguished_from_a_cap() {
    let with = |lively: (u64, Option<End>), silent: (u64, Option<End>)| Seen {
        lively: watch(lively.0, lively.1),
        silent: Some(watch(silent.0, silent.1)),
        ..seen()
    };
    let idle = with((90, None), (10, cut()));
    assert_eq!(codes(&idle), ["idle-cut"]);
    assert!(judge(&idle)[0].advice.contains("`heartbeat_interval: 3s`"), "{:?}", judge(&idle));
    assert_eq!(codes(&with((90, None), (60, cut()))), [""; 0], "the default heartbeat is often enough");
    assert_eq!(codes(&with((15, cut()), (15, cut()))), ["total-cap"]);
    assert_eq!(codes(&with((30, cut()), (5, cut()))), ["idle-cut", "total-cap"]);
    assert_eq!(codes(&with((30, cut()), (90, None))), ["total-cap"]);
}

#[test]
fn response_heads_show_changes_by_hops() {
    let with = |change: fn(&mut Seen)| {
        let mut seen = seen();
        change(&mut seen);
        codes(&seen)
    };
    assert_eq!(with(|seen| seen.browser.head = Ok(head(&[("Content-Encoding", "gzip")]))), ["compression"]);
    assert_eq!(with(|seen| seen.lively.head = Ok(head(&[("Connection", "close")]))), ["downgrade"]);
    assert_eq!(with(|seen| seen.lively.arrivals[0].is_http10 = Some(true)), ["downgrade"]);
    assert_eq!(with(|seen| seen.lively.head = Ok(head(&[("Cache-Control", "no-store")]))), ["headers"]);
    assert_eq!(with(|seen| seen.lively.head = Ok(Head { minor: 0, ..head(&[]) })), ["downgrade"]);
    let lost = Head { status: 426, ..head(&[]) };
    assert_eq!(codes(&Seen { lively: failed(Failure::Refused(lost, String::new())), ..seen() }), ["upgrade"]);
    assert_eq!(codes(&Seen { lively: failed(Failure::Unanswered), ..seen() }), ["buffering"]);
}

fn failed(failure: Failure) -> Watch {
    Watch { head: Err(failure), ..watch(5, None) }
}

#[test]
fn an_origin_must_be_allowed_by_name_or_all() {
    let with = |headers: &[(&str, &str)]| {
        let browser = Watch { head: Ok(head(headers)), ..watch(2, None) };
        codes(&Seen { browser, origin: Some("https://a.example".to_owned()), ..seen() })
    };
    assert_eq!(with(&[]), ["cors"]);
    assert_eq!(with(&[("Access-Control-Allow-Origin", "*")]), [""; 0]);
    assert_eq!(with(&[("Access-Control-Allow-Origin", "https://b.example")]), ["cors"]);
    let allowed = ("Access-Control-Allow-Origin", "https://a.example");
    assert_eq!(with(&[allowed]), ["cors"]);
    assert_eq!(with(&[allowed, ("Vary", "Accept, Origin")]), [""; 0]);
}
