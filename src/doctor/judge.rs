//! Derives verdicts from observations: pure, and the only place that knows what harms streams and how to fix it.

use std::time::Duration;

use serde::Serialize;

use super::watch::{Arrival, Watch};
use super::{LIVELY, Seen};
use crate::client::{End, Failure, Head};

/// Records that were sent at least this far apart and arrived closer together were buffered, in milliseconds.
const TOGETHER_MS: i64 = 50;
/// Fewer records do not show buffering.
const RECORDS_MIN: usize = 4;
/// After this much silence on the frequent probe, a hop holds records back: a buffer that is not full yet.
const HELD_BACK: Duration = Duration::from_secs(4);
/// An idle timeout above this allows the default heartbeat of 15 s, even if two are lost.
const IDLE_ENOUGH: Duration = Duration::from_secs(45);
/// Ages that differ by less count as equal: the timers of hops are not exact.
const SAME_AGE: Duration = Duration::from_secs(1);
/// How many stated heartbeat intervals fit into the allowed silence.
const HEARTBEATS_PER_SILENCE: u32 = 3;

/// One statement about the path to the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// An identifier for programs.
    pub code: &'static str,
    /// Whether it is a problem or information.
    pub problem: bool,
    pub message: String,
    /// How to fix it; empty if it is not a problem.
    pub advice: String,
}

impl Verdict {
    fn problem(code: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { code, problem: true, message: message.into(), advice: advice.into() }
    }

    fn note(code: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { code, problem: false, message: message.into(), advice: advice.into() }
    }
}

/// All verdicts, the most severe first.
pub(super) fn judge(seen: &Seen) -> Vec<Verdict> {
    let head = match &seen.lively.head {
        Ok(head) => head,
        Err(failure) => return vec![unopened(failure)],
    };
    let mut verdicts = Vec::new();
    if !seen.is_probe {
        verdicts.push(Verdict::note(
            "no-probe",
            "the server does not allow probes: the results are from an ordinary stream, which may be silent for reasons of its own",
            "set `probe: true` in sidestream's configuration",
        ));
    }
    verdicts.extend(compression(seen));
    verdicts.extend(buffering(seen));
    verdicts.extend(cuts(seen));
    verdicts.extend(downgrade(seen, head));
    if !seen.lively.is_websocket {
        verdicts.extend(headers(head));
        verdicts.extend(cors(seen));
    }
    if !verdicts.iter().any(|verdict| verdict.problem) {
        let text = format!("nothing found in {}", seconds(seen.lively.age));
        verdicts.push(Verdict::note("healthy", text, ""));
    }
    verdicts
}

/// No stream was opened.
fn unopened(failure: &Failure) -> Verdict {
    match failure {
        Failure::Refused(head, body) if is_upgrade_lost(head, body) => Verdict::problem(
            "upgrade",
            format!("a hop removed the upgrade to WebSocket: the response is {}", head.status),
            "let every hop pass Upgrade (nginx: proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade and \
             Connection \"upgrade\"; Envoy: upgrade_configs with websocket)",
        ),
        Failure::Refused(head, _) if head.status == 200 => Verdict::problem(
            "headers",
            format!("the response is not a stream: its content type is {}", shown(head, "content-type")),
            "check whether the path is that of a stream route, and which hop changes Content-Type",
        ),
        Failure::Unanswered => Verdict::problem(
            "buffering",
            "not even the response head arrived, although sidestream sends it at once",
            unbuffer(),
        ),
        failure => Verdict::problem("refused", failure.to_string(), "check what responds there: a hop, or sidestream"),
    }
}

/// sidestream responds with 426 to a request without an upgrade. A hop that forbids upgrades responds without a problem
/// document.
fn is_upgrade_lost(head: &Head, body: &str) -> bool {
    let is_problem = shown(head, "content-type").contains("problem+json");
    head.status == 426 || (head.status == 403 && !is_problem && body.is_empty())
}

fn compression(seen: &Seen) -> Option<Verdict> {
    let encoding = |watch: &Watch| watch.head.as_ref().ok().and_then(|head| head.header("content-encoding"));
    let encoding = encoding(&seen.browser).or_else(|| encoding(&seen.lively))?;
    Some(Verdict::problem(
        "compression",
        format!("a hop compresses the stream ({encoding}), although it is marked `no-transform`"),
        "exclude the stream's content type, or its path, from compression (nginx: gzip off)",
    ))
}

fn buffering(seen: &Seen) -> Option<Verdict> {
    let Watch { arrivals, age, .. } = &seen.lively;
    let silence = age.saturating_sub(arrivals.last().map_or(Duration::ZERO, |last| last.at));
    if seen.is_probe && silence >= HELD_BACK {
        let text = format!(
            "no data arrived for {}, although sidestream sends a record every {}",
            seconds(silence),
            seconds(LIVELY)
        );
        return Some(Verdict::problem("buffering", text, unbuffer()));
    }
    let held = held_back(arrivals)?;
    Some(Verdict::problem(
        "buffering",
        format!(
            "records arrive in bunches: up to {} together ({} bytes), held back for up to {}",
            held.records,
            held.bytes,
            seconds(held.longest)
        ),
        unbuffer(),
    ))
}

fn unbuffer() -> String {
    "turn buffering off for the path (nginx: proxy_buffering off, or do not ignore X-Accel-Buffering); padding records \
     to the buffer's size would only hide it"
        .to_owned()
}

/// How a hop held records back.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    records: usize,
    bytes: usize,
    longest: Duration,
}

/// Detects records that were sent apart and arrived together: most of them, so that a single delay does not count.
fn held_back(arrivals: &[Arrival]) -> Option<Held> {
    let timed: Vec<(i64, i64, usize)> =
        arrivals.iter().filter_map(|a| Some((a.came_ms, a.left_ms?, a.bytes))).collect();
    let is_bunched =
        |pair: &[(i64, i64, usize)]| pair[1].0 - pair[0].0 <= TOGETHER_MS && pair[1].1 - pair[0].1 > 2 * TOGETHER_MS;
    let bunched = timed.windows(2).filter(|pair| is_bunched(pair)).count();
    if timed.len() < RECORDS_MIN || bunched * 2 < timed.len() - 1 {
        return None;
    }
    let bunches = timed.chunk_by(|one, next| next.0 - one.0 <= TOGETHER_MS);
    let largest = bunches.max_by_key(|bunch| bunch.len()).unwrap_or_default();
    // The clock offset is the same for all of them.
    let delays = timed.iter().map(|(came, left, _)| came - left);
    let spread = delays.clone().max().unwrap_or(0) - delays.min().unwrap_or(0);
    Some(Held {
        records: largest.len(),
        bytes: largest.iter().map(|(_, _, bytes)| bytes).sum(),
        longest: Duration::from_millis(u64::try_from(spread).unwrap_or(0)),
    })
}

/// Disconnections by a hop: at the same age regardless of traffic (a cap), or only without traffic (an idle timeout).
fn cuts(seen: &Seen) -> Vec<Verdict> {
    let end_of = |watch: &Watch| watch.end.clone().map(|end| (watch.age, end));
    let lively = end_of(&seen.lively);
    let silent = seen.silent.as_ref().filter(|silent| silent.head.is_ok()).and_then(end_of);
    let mut verdicts = Vec::new();
    if let Some((age, _)) = &silent {
        let is_of_both = lively.as_ref().is_some_and(|(other, _)| age.abs_diff(*other) <= same_age(*age));
        if !is_of_both && seen.lively.age > *age {
            verdicts.push(idle_cut(*age));
        }
    }
    if let Some((age, end)) = &lively {
        verdicts.push(capped(*age, end, seen.is_probe));
    }
    verdicts
}

fn same_age(age: Duration) -> Duration {
    SAME_AGE.max(age / 10)
}

fn idle_cut(age: Duration) -> Verdict {
    let message = format!("a hop cuts a stream that is silent for {}", seconds(age));
    if age >= IDLE_ENOUGH {
        return Verdict::note("idle-cut", message, "heartbeats every 15s, the default, keep it open");
    }
    let heartbeat = age / HEARTBEATS_PER_SILENCE;
    let advice = if heartbeat >= Duration::from_secs(1) {
        format!("set `heartbeat_interval: {}s` on the route, or a longer idle limit at the hop", heartbeat.as_secs())
    } else {
        "set a longer idle limit at the hop: no heartbeat is that often".to_owned()
    };
    Verdict::problem("idle-cut", message, advice)
}

fn capped(age: Duration, end: &End, is_probe: bool) -> Verdict {
    let flowing = if is_probe { "although data flowed" } else { "whether or not data flowed" };
    let by_whom = match end {
        End::Said(how) => format!(" It ended properly ({how}): by sidestream, if a token expired or it drained."),
        End::Closed | End::Cut(_) => String::new(),
    };
    Verdict::problem(
        "total-cap",
        format!("the stream ended at the age of {}, {flowing}.{by_whom}", seconds(age)),
        "remove the limit on the duration of requests at the hop (Envoy: the route's timeout: 0s; Google's load balancer: the \
         backend's timeout): no heartbeat helps",
    )
}

fn downgrade(seen: &Seen, head: &Head) -> Option<Verdict> {
    let is_http10 = seen.lively.arrivals.iter().any(|arrival| arrival.is_http10 == Some(true));
    let message = match head {
        _ if is_http10 => {
            "the hop before sidestream uses HTTP/1.0: the end of a stream and a cut cannot be distinguished"
        }
        Head { minor: 0, .. } => "the response is HTTP/1.0: the end of a stream and a cut cannot be distinguished",
        _ if head.names("connection", "close") => "the response has `Connection: close`, which sidestream did not send",
        _ => return None,
    };
    Some(Verdict::problem("downgrade", message, "use HTTP/1.1 at every hop (nginx: proxy_http_version 1.1)"))
}

fn headers(head: &Head) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if !["no-store", "no-transform"].iter().all(|directive| head.names("cache-control", directive)) {
        let message = format!("a hop changed Cache-Control: it is {}", shown(head, "cache-control"));
        verdicts.push(Verdict::problem("headers", message, "leave sidestream's Cache-Control as it is"));
    }
    if head.header("content-length").is_some() {
        let message = "the response has a Content-Length, which no stream has";
        verdicts.push(Verdict::problem("headers", message, "check which hop responds in place of sidestream"));
    }
    if head.header("x-accel-buffering").is_none() {
        // nginx obeys and removes it, as documented.
        let message = "X-Accel-Buffering is missing: an nginx on the path consumes it";
        verdicts.push(Verdict::note("headers", message, ""));
    }
    verdicts
}

fn cors(seen: &Seen) -> Option<Verdict> {
    let origin = seen.origin.as_ref()?;
    let advice = "respond with this origin at the ingress, or with `*` if no credentials are sent";
    let head = match &seen.browser.head {
        Ok(head) => head,
        Err(failure) => return Some(Verdict::problem("cors", format!("with an Origin: {failure}"), advice)),
    };
    match head.header("access-control-allow-origin") {
        Some(allowed) if allowed == "*" => None,
        Some(allowed) if allowed == *origin && head.names("vary", "origin") => None,
        Some(allowed) if allowed == *origin => Some(Verdict::problem(
            "cors",
            "the origin is allowed, but `Vary: Origin` is missing: a cache would send it to pages of other origins",
            "add `Vary: Origin`",
        )),
        Some(allowed) => Some(Verdict::problem(
            "cors",
            format!("pages of {origin} may not read the stream: the allowed origin is {allowed}"),
            advice,
        )),
        None => Some(Verdict::problem(
            "cors",
            format!("pages of {origin} may not read the stream: no origin is allowed"),
            advice,
        )),
    }
}

fn shown(head: &Head, name: &str) -> String {
    head.header(name).unwrap_or_else(|| "absent".to_owned())
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
