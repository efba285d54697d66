//! Determines whether a batch of a partition is unreadable, and where it ends.
//!
//! librdkafka retries a batch that it cannot decompress, parse or receive for ever, and does not report its end
//! (confluentinc/librdkafka issues 5260 and 5596). A fetch at an offset inside of a batch returns the whole batch, so
//! the end is found by reading at later offsets and bisecting. That takes a thread and clients of its own; the consumer
//! does not wait for it.

mod look;
mod search;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;

use self::look::{Place, Seen, look, quiet_client};
use self::search::search;
use crate::config::snapshot::Kafka;
use crate::event::Topic;
use crate::metrics::Metrics;

/// The time limit of one read: a connection and a fetch.
const LOOK_WAIT: Duration = Duration::from_secs(5);
/// The time limit of all reads of a probe.
const PROBE_WAIT: Duration = Duration::from_secs(60);

/// A position at which a partition does not advance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    /// The topic's name in the cluster.
    pub(super) topic: Topic,
    pub(super) partition: i32,
    /// The next offset to read.
    pub(super) from: i64,
}

/// The result of a probe at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The position is readable, or is the end of the log: the batch is not the cause.
    Readable,
    /// These offsets are one batch, or the rest of one, which this client cannot read.
    Unreadable(Range<i64>),
    /// No response in time.
    Unknown,
}

/// A probe in progress. Dropping it cancels it.
#[derive(Debug)]
pub(super) struct Probe {
    answer: Receiver<Vec<Verdict>>,
    stop: Arc<AtomicBool>,
}

impl Probe {
    /// Starts the thread. The suspects are examined in order.
    pub(super) fn start(config: &Kafka, metrics: &Arc<Metrics>, suspects: Vec<Suspect>) -> io::Result<Self> {
        let (sender, answer) = mpsc::channel();
        let stop = Arc::<AtomicBool>::default();
        let (config, metrics, stopped) = (config.clone(), metrics.clone(), stop.clone());
        thread::Builder::new().name("kafka-probe".into()).spawn(move || {
            let looking = Looking { config, metrics, stop: stopped, until: Instant::now() + PROBE_WAIT };
            // The receiver may have been dropped.
            let _ = sender.send(looking.judge(&suspects));
        })?;
        Ok(Self { answer, stop })
    }

    /// The verdicts, once. The last suspects may be missing if time ran out. Does not block.
    pub(super) fn verdicts(&self) -> Option<Vec<Verdict>> {
        match self.answer.try_recv() {
            Ok(verdicts) => Some(verdicts),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Vec::new()),
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The state of the thread.
struct Looking {
    config: Kafka,
    metrics: Arc<Metrics>,
    stop: Arc<AtomicBool>,
    until: Instant,
}

impl Looking {
    fn judge(&self, suspects: &[Suspect]) -> Vec<Verdict> {
        let Some(client) = quiet_client(&self.config, &self.metrics) else { return Vec::new() };
        let judge = |suspect: &Suspect| {
            let left = self.time_left()?;
            Some(match client.fetch_watermarks(&suspect.topic, suspect.partition, left) {
                Err(_) => Verdict::Unknown,
                Ok((low, high)) if suspect.from < low || suspect.from >= high => Verdict::Readable,
                Ok((_, high)) => search(suspect.from, high, |offset| self.look(suspect, offset)),
            })
        };
        suspects.iter().map_while(judge).collect()
    }

    fn look(&self, suspect: &Suspect, offset: i64) -> Seen {
        let Some(wait) = self.time_left() else { return Seen::Nothing };
        let place = Place { topic: &suspect.topic, partition: suspect.partition, offset };
        look(&self.config, &self.metrics, &place, wait)
    }

    /// The rest of the time limit; `None` if it is over, or if the probe was cancelled.
    fn time_left(&self) -> Option<Duration> {
        let left = LOOK_WAIT.min(self.until.saturating_duration_since(Instant::now()));
        (!left.is_zero() && !self.stop.load(Ordering::Relaxed)).then_some(left)
    }
}

/// Whether the fetched batch may have caused the error, in contrast to brokers or permissions.
pub(super) fn is_unreadable(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BadCompression
            | Code::BadMessage
            | Code::NotImplemented
            | Code::InvalidMessage
            | Code::MessageSizeTooLarge
            | Code::UnsupportedCompressionType
    )
}
