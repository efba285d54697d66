//! `sidestream tap`: follows a stream, prints its events, and resumes after a disconnection.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::follow::Address;
use super::indent::indent;
use super::output::note;
use crate::client::{Asked, End, Failure, Item, Kind, Step, Stream};

/// Exit code: the server rejects the request permanently.
const REFUSED: u8 = 1;
/// Exit code: no server was reached, or the token could not be read.
const UNREACHABLE: u8 = 2;
/// Exit code: the stream was cut, with `--once`.
const CUT: u8 = 3;

/// The time limit for connecting and for the response head, each.
const PATIENCE: Duration = Duration::from_secs(20);
/// A stream that is silent for longer counts as broken: the longest heartbeat interval is 10 minutes.
const SILENCE_MAX: Duration = Duration::from_secs(11 * 60);
/// The first reconnect delay, unless the stream states one; it doubles with each failure.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The refresh interval of the status line.
const REDRAW: Duration = Duration::from_secs(1);

#[derive(Args, Debug, PartialEq, Eq)]
pub struct Tap {
    #[command(flatten)]
    pub address: Address,
    /// The start position: a cursor, an event id, a time (2026-11-22T10:00:00Z) or an age (-15m).
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// One event per line, as received.
    #[arg(long)]
    pub raw: bool,
    /// A status line with count, rate and cursor on standard error if that is a terminal; otherwise once at the end.
    #[arg(long)]
    pub stats: bool,
    /// Exit after this many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max: Option<u64>,
    /// Do not reconnect.
    #[arg(long)]
    pub once: bool,
}

/// Why following ended.
enum Over {
    Enough,
    Ended(End),
    Failed(Failure),
    /// Standard output or standard error cannot be written.
    Unwritable(io::Error),
}

struct Follower<'a> {
    tap: &'a Tap,
    position: Option<String>,
    retry: Duration,
    events: u64,
    was_open: bool,
    status: Status,
}

/// Follows the stream until `--max`, or until it may not reconnect.
///
/// # Errors
///
/// The output cannot be written.
pub fn tap(tap: &Tap) -> io::Result<ExitCode> {
    let mut follower = Follower {
        tap,
        position: tap.since.clone(),
        retry: BACKOFF,
        events: 0,
        was_open: false,
        status: Status::new(tap.stats),
    };
    let code = follower.follow()?;
    follower.status.end(follower.events, follower.position.as_deref())?;
    Ok(ExitCode::from(code))
}

impl Follower<'_> {
    /// Returns the exit code.
    fn follow(&mut self) -> io::Result<u8> {
        let mut failures = 0;
        loop {
            let headers = match self.tap.address.headers() {
                Ok(headers) => headers,
                Err(error) => {
                    note(error)?;
                    return Ok(UNREACHABLE);
                }
            };
            let was = self.events;
            let over = match self.connection(headers) {
                Over::Unwritable(error) => return Err(error),
                over => over,
            };
            if let Some(code) = self.verdict(&over) {
                self.report(&over, None)?;
                return Ok(code);
            }
            // A stream without events that a token or a hop ends is not a failure.
            let is_failure = matches!(over, Over::Failed(_)) && self.events == was;
            failures = if is_failure { failures + 1 } else { 0 };
            let wait = backoff(self.retry, failures, fastrand::f64());
            self.report(&over, Some(wait))?;
            thread::sleep(wait);
        }
    }

    /// Reads one connection until it ends.
    fn connection(&mut self, headers: Vec<(String, String)>) -> Over {
        let target = &self.tap.address.url;
        let mut parameters = Vec::new();
        if let Some(position) = &self.position {
            parameters.push(("since", position.clone()));
        }
        // Visible heartbeats carry the position of a client that receives no events.
        if !target.has_parameter("heartbeat") {
            parameters.push(("heartbeat", "event".to_owned()));
        }
        let asked = Asked { target, choice: self.tap.address.transport, headers, parameters };
        match Stream::open(&asked, PATIENCE) {
            Ok(stream) => {
                self.was_open = true;
                self.read(stream)
            }
            Err(failure) => Over::Failed(failure),
        }
    }

    fn read(&mut self, mut stream: Stream) -> Over {
        let mut heard = Instant::now();
        loop {
            self.status.draw(self.events, self.position.as_deref());
            match stream.next(REDRAW) {
                Step::Item(item) => {
                    heard = Instant::now();
                    if let Err(error) = self.take(item) {
                        return Over::Unwritable(error);
                    }
                    if self.tap.max.is_some_and(|max| self.events >= max) {
                        return Over::Enough;
                    }
                }
                Step::Nothing if heard.elapsed() < SILENCE_MAX => {}
                Step::Nothing => return Over::Ended(End::Cut("no data for too long".to_owned())),
                Step::End(end) => return Over::Ended(end),
            }
        }
    }

    /// Prints an item. Gaps also go to standard output, because they replace events.
    fn take(&mut self, item: Item) -> io::Result<()> {
        if matches!(item.kind, Kind::Event | Kind::Gap) {
            self.status.clear();
            let mut out = io::stdout().lock();
            if self.tap.raw {
                writeln!(out, "{}", one_line(&item.data))
            } else {
                writeln!(out, "{}", indent(&item.data))
            }?;
            out.flush()?;
        }
        if item.kind == Kind::Gap {
            note(format_args!("a gap: {}", one_line(&item.data)))?;
        }
        self.events += u64::from(item.kind == Kind::Event);
        if item.cursor.is_some() {
            self.position = item.cursor;
        }
        self.retry = item.retry.unwrap_or(self.retry).min(BACKOFF_MAX);
        Ok(())
    }

    /// The exit code, unless it reconnects.
    fn verdict(&self, over: &Over) -> Option<u8> {
        Some(match over {
            Over::Enough => 0,
            Over::Unwritable(_) => return None,
            Over::Ended(End::Said(_)) if self.tap.once => 0,
            Over::Ended(_) if self.tap.once => CUT,
            Over::Ended(_) => return None,
            Over::Failed(Failure::Refused(head, _)) if is_final(head.status) => REFUSED,
            Over::Failed(Failure::Refused(..)) if self.tap.once => REFUSED,
            Over::Failed(_) if self.tap.once || !self.was_open => UNREACHABLE,
            Over::Failed(_) => return None,
        })
    }

    fn report(&mut self, over: &Over, wait: Option<Duration>) -> io::Result<()> {
        self.status.clear();
        let what = match over {
            Over::Ended(end) => end.to_string(),
            Over::Failed(failure) => failure.to_string(),
            Over::Enough | Over::Unwritable(_) => return Ok(()),
        };
        let next = wait.map(|wait| format!("; reconnecting in {:.1} s", wait.as_secs_f64())).unwrap_or_default();
        note(format_args!("{what}{next}"))
    }
}

/// Whether the status is permanent: 429 and server errors are not.
fn is_final(status: u16) -> bool {
    status < 500 && status != 429 && status != 408
}

/// Doubles with each consecutive failure. `jitter`, from 0 to 1, adds up to half, so that clients do not reconnect
/// together.
fn backoff(base: Duration, failures: u32, jitter: f64) -> Duration {
    let doubled = base.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX);
    doubled.mul_f64(1.0 + jitter / 2.0)
}

/// SSE may split data into lines, which are white space in JSON.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// The status line, which is redrawn in place.
struct Status {
    wanted: bool,
    terminal: bool,
    drawn: bool,
    due: Instant,
    /// The time and the number of events at the last refresh.
    before: (Instant, u64),
    began: Instant,
}

impl Status {
    fn new(wanted: bool) -> Self {
        let now = Instant::now();
        Self { wanted, terminal: io::stderr().is_terminal(), drawn: false, due: now, before: (now, 0), began: now }
    }

    fn draw(&mut self, events: u64, position: Option<&str>) {
        let now = Instant::now();
        if !self.wanted || !self.terminal || now < self.due {
            return;
        }
        let (then, before) = self.before;
        let seconds = (now - then).as_secs_f64().max(0.001);
        let rate = (events - before) as f64 / seconds;
        let _ = write!(io::stderr(), "\r\x1b[K{events} events, {rate:.1}/s, {}", position.unwrap_or("no cursor yet"));
        (self.drawn, self.due, self.before) = (true, now + REDRAW, (now, events));
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(io::stderr(), "\r\x1b[K");
            self.due = Instant::now();
        }
    }

    fn end(&mut self, events: u64, position: Option<&str>) -> io::Result<()> {
        self.clear();
        if !self.wanted {
            return Ok(());
        }
        let rate = events as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        note(format_args!("{events} events, {rate:.1}/s, {}", position.unwrap_or("no cursor")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_with_failures_up_to_a_limit() {
        let wait = |failures, jitter| backoff(Duration::from_secs(1), failures, jitter).as_secs_f64();
        assert_eq!((wait(0, 0.0), wait(2, 0.0), wait(99, 0.0)), (1.0, 4.0, 30.0));
        assert_eq!((wait(0, 1.0), wait(99, 1.0)), (1.5, 45.0));
    }

    #[test]
    fn temporary_failures_are_retried() {
        assert!([204, 301, 401, 403, 404, 410].into_iter().all(is_final));
        assert!(![408, 429, 500, 503].into_iter().any(is_final));
    }
}
