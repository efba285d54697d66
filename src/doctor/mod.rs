//! `sidestream doctor`: opens streams over the real path to a route, and reports what harms streams on it.
//!
//! The streams are probes: sidestream sends no events on them, but timestamped records at the requested interval. One
//! probe has frequent records and one is silent, with the same path and rules, which distinguishes an idle timeout from
//! a cap on the duration. The version of sidestream does not matter; hops are observed only from outside.

mod judge;
mod watch;

use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::client::{Asked, Choice, Failure, Target};

pub use judge::Verdict;
use judge::judge;
use watch::{Watch, watch};

/// The interval of records on the frequent probe.
const LIVELY: Duration = Duration::from_millis(500);
/// By how much the interval of the silent probe exceeds the whole examination.
const SILENT_MARGIN: Duration = Duration::from_secs(60);
/// How long the request with compression and an origin is observed: only its response head matters.
const GLANCE: Duration = Duration::from_secs(2);
/// The time limit for connecting and for the response head, each. sidestream responds at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// The `Accept-Encoding` of browsers.
const ENCODINGS: &str = "gzip, deflate, br, zstd";

/// What to examine.
#[derive(Clone, Debug)]
pub struct Examination<'a> {
    pub target: &'a Target,
    pub choice: Choice,
    pub headers: Vec<(String, String)>,
    /// The origin of a page that reads the stream.
    pub origin: Option<String>,
    pub duration: Duration,
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    pub healthy: bool,
    pub verdicts: Vec<Verdict>,
}

/// The observations of the three streams.
#[derive(Clone, Debug)]
struct Seen {
    /// Whether they were probes, or ordinary streams because probes are disabled.
    is_probe: bool,
    lively: Watch,
    silent: Option<Watch>,
    /// Requested with compression and an origin.
    browser: Watch,
    origin: Option<String>,
}

/// Watches the streams until the time limit, or until all have ended.
///
/// # Errors
///
/// No server answers.
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
        let lost = || Watch::lost("a thread of doctor ended");
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

/// Without probes: observes an ordinary stream, whose silences are its own.
fn look_on(examination: &Examination<'_>, until: Instant) -> Seen {
    let (lively, browser) = thread::scope(|scope| {
        let glance = until.min(Instant::now() + GLANCE);
        let browser = scope.spawn(move || watch(&asked(examination, None, true), PATIENCE, glance));
        let lively = watch(&asked(examination, None, false), PATIENCE, until);
        (lively, browser.join().unwrap_or_else(|_| Watch::lost("a thread of doctor ended")))
    });
    Seen { is_probe: false, lively, silent: None, browser, origin: examination.origin.clone() }
}

/// Whether sidestream's problem document says that probes are disabled.
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
