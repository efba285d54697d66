//! Finds out whether one batch of a partition cannot be read, and where it ends.
//!
//! librdkafka tries a batch that it cannot decompress, parse or receive again for ever, and names no end of it
//! (confluentinc/librdkafka issues 5260 and 5596). A fetch at an offset inside of a batch is answered with the whole
//! batch, so the end is found by reading at offsets beyond and by halving the distance. That takes a thread and clients
//! of its own; nobody waits for it.

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

/// How long one look may take: a connection and a fetch.
const LOOK_WAIT: Duration = Duration::from_secs(5);
/// How long all looks of a probe may take.
const PROBE_WAIT: Duration = Duration::from_secs(60);

/// A place where a partition does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    /// What the brokers call the topic.
    pub(super) topic: Topic,
    pub(super) partition: i32,
    /// The offset that is to be read next.
    pub(super) from: i64,
}

/// What a probe found at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The place can be read, or is the end of the log: the cause is not the batch.
    Readable,
    /// These offsets are one batch, or the rest of one, which this client cannot read.
    Unreadable(Range<i64>),
    /// No answer, or not in time.
    Unknown,
}

/// A probe under way. Dropping it gives it up.
#[derive(Debug)]
pub(super) struct Probe {
    answer: Receiver<Vec<Verdict>>,
    stop: Arc<AtomicBool>,
}

impl Probe {
    /// Starts the thread; fails where there is none. The suspects are looked at in their order.
    pub(super) fn start(config: &Kafka, metrics: &Arc<Metrics>, suspects: Vec<Suspect>) -> io::Result<Self> {
        let (sender, answer) = mpsc::channel();
        let stop = Arc::<AtomicBool>::default();
        let (config, metrics, stopped) = (config.clone(), metrics.clone(), stop.clone());
        thread::Builder::new().name("kafka-probe".into()).spawn(move || {
            let looking = Looking { config, metrics, stop: stopped, until: Instant::now() + PROBE_WAIT };
            // Nobody may wait any more.
            let _ = sender.send(looking.judge(&suspects));
        })?;
        Ok(Self { answer, stop })
    }

    /// What was found of each suspect, once. Those at the end may be missing: there was no time for them. Does not wait.
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

/// The thread's side.
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

    /// How long the next question may take; nothing where there is no time, or nobody waits.
    fn time_left(&self) -> Option<Duration> {
        let left = LOOK_WAIT.min(self.until.saturating_duration_since(Instant::now()));
        (!left.is_zero() && !self.stop.load(Ordering::Relaxed)).then_some(left)
    }
}

/// Whether an error may be due to the batch that was fetched, rather than to brokers or rights.
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
