//! `sidestream doctor`: opens streams through the real way to a route, and names what on it is bad for streams.
//!
//! The streams are probes: sidestream sends no events on them, but records that say when they left, after each so long a
//! silence as the request asks for. One is lively and one is silent, over the same path with the same rules, so that a
//! cut for idleness and a cap on the whole are told apart. What sidestream is behind the way does not matter to it; what
//! the hops are is seen from outside only.

mod judge;
mod watch;

use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::client::{Asked, Choice, Failure, Target};

pub use judge::Verdict;
use judge::judge;
use watch::{Watch, watch};

/// How often the lively stream is sent something.
const LIVELY: Duration = Duration::from_millis(500);
/// How much longer than everything the silent stream stays silent.
const SILENT_MARGIN: Duration = Duration::from_secs(60);
/// How long the stream is watched that is asked for with compression and an origin: its head is what counts.
const GLANCE: Duration = Duration::from_secs(2);
/// How long connecting and the answer's head may take, each. sidestream answers at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a browser says it reads.
const ENCODINGS: &str = "gzip, deflate, br, zstd";

/// What is to be examined.
#[derive(Clone, Debug)]
pub struct Examination<'a> {
    pub target: &'a Target,
    pub choice: Choice,
    pub headers: Vec<(String, String)>,
    /// Of a page that reads the stream.
    pub origin: Option<String>,
    pub duration: Duration,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    pub healthy: bool,
    pub verdicts: Vec<Verdict>,
}

/// What was seen of the three streams.
#[derive(Clone, Debug)]
struct Seen {
    /// Whether they were probes, or, where that is not enabled, ordinary streams.
    is_probe: bool,
    lively: Watch,
    silent: Option<Watch>,
    /// Asked for with compression and an origin.
    browser: Watch,
    origin: Option<String>,
}

/// Watches the streams for as long as it may, or until all have ended. An error: there is nobody to examine.
pub fn examine(examination: &Examination<'_>) -> Result<Findings, Failure> {
    let Examination { duration, .. } = examination;
    let until = Instant::now() + *duration;
    let silence = *duration + SILENT_MARGIN;
    let mut seen = thread::scope(|scope| {
        let silent = scope.spawn(|| watch(&asked(examination, Some(silence), false), PATIENCE, until));
        let browser = scope.spawn(|| {
            let glance = until.min(Instant::now() + GLANCE);
            watch(&asked(examination, Some(LIVELY), true), PATIENCE, glance)
        });
        let lively = watch(&asked(examination, Some(LIVELY), false), PATIENCE, until);
        let lost = || Watch::lost("a thread of ours ended");
        Seen {
            is_probe: true,
            lively,
            silent: Some(silent.join().unwrap_or_else(|_| lost())),
            browser: browser.join().unwrap_or_else(|_| lost()),
            origin: examination.origin.clone(),
        }
    });
    if is_without_probes(&seen.lively) {
        seen = look_on(examination, until);
    }
    if let Err(failure @ Failure::Unreachable(_)) = &seen.lively.head {
        return Err(failure.clone());
    }
    let verdicts = judge(&seen);
    Ok(Findings { healthy: !verdicts.iter().any(|verdict| verdict.problem), verdicts })
}

/// Where there are no probes: what an ordinary stream shows, whose silence is its own.
fn look_on(examination: &Examination<'_>, until: Instant) -> Seen {
    let (lively, browser) = thread::scope(|scope| {
        let glance = until.min(Instant::now() + GLANCE);
        let browser = scope.spawn(move || watch(&asked(examination, None, true), PATIENCE, glance));
        let lively = watch(&asked(examination, None, false), PATIENCE, until);
        (lively, browser.join().unwrap_or_else(|_| Watch::lost("a thread of ours ended")))
    });
    Seen { is_probe: false, lively, silent: None, browser, origin: examination.origin.clone() }
}

/// sidestream says so by a problem whose detail names the key.
fn is_without_probes(lively: &Watch) -> bool {
    matches!(&lively.head, Err(Failure::Refused(head, body)) if head.status == 403 && body.contains("`probe: true`"))
}

fn asked<'a>(examination: &Examination<'a>, silence: Option<Duration>, as_browser: bool) -> Asked<'a> {
    let mut headers = examination.headers.clone();
    let encodings = if as_browser { ENCODINGS } else { "identity" };
    headers.push(("Accept-Encoding".to_owned(), encodings.to_owned()));
    if let Some(origin) = examination.origin.clone().filter(|_| as_browser) {
        headers.push(("Origin".to_owned(), origin));
    }
    let parameter = match silence {
        Some(silence) => ("probe", format!("{}ms", silence.as_millis())),
        None => ("heartbeat", "event".to_owned()),
    };
    Asked { target: examination.target, choice: examination.choice, headers, parameters: vec![parameter] }
}
