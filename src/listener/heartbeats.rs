//! Heartbeats in a response that the proxy writes: bytes that a connection inserts while the proxy waits for more of the
//! response. The proxy permits them where they are invisible; they are no part of what it writes.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;

use prometheus::IntCounter;
use tokio::time::{Instant, Sleep, sleep};

use crate::codec::TransferCoding;

/// The heartbeats of the current response, if it has any.
#[derive(Debug, Default)]
pub struct Heartbeats(Mutex<Option<Running>>);

#[derive(Debug)]
struct Running {
    /// The longest silence.
    interval: Duration,
    coding: TransferCoding,
    /// The bytes that may be inserted now; `None` within a record.
    permitted: Option<&'static [u8]>,
    /// When the proxy or a heartbeat last wrote.
    last: Instant,
    timer: Pin<Box<Sleep>>,
    has_sent: bool,
    sent: IntCounter,
}

impl Heartbeats {
    /// Begins with a response whose head the proxy writes next. `sent` counts the heartbeats.
    pub fn start(&self, interval: Duration, coding: TransferCoding, sent: IntCounter) {
        let timer = Box::pin(sleep(interval));
        let last = Instant::now();
        *self.running() = Some(Running { interval, coding, permitted: None, last, timer, has_sent: false, sent });
    }

    /// Permits these bytes after what the proxy writes next, or none.
    pub fn permit(&self, bytes: Option<&'static [u8]>) {
        if let Some(running) = &mut *self.running() {
            running.permitted = bytes;
            running.last = Instant::now();
        }
    }

    /// Ends them, before the end of the response is written.
    pub fn stop(&self) {
        *self.running() = None;
    }

    /// Whether the current response has had one.
    pub fn have_been_sent(&self) -> bool {
        self.running().as_ref().is_some_and(|running| running.has_sent)
    }

    /// The bytes of a heartbeat that is due. Otherwise the task is woken for the next one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Vec<u8>> {
        let running = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut()?;
        let bytes = running.permitted?;
        let mut due = None;
        while running.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if running.last + running.interval <= now {
                running.last = now;
                due = Some(running.coding.apply(bytes));
            }
            running.timer.as_mut().reset(running.last + running.interval);
        }
        if due.is_some() {
            running.has_sent = true;
            running.sent.inc();
        }
        due
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
