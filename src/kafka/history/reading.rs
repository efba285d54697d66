//! One partition as it is assigned to a client: its records go into pages, one behind the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::bell::Bell;
use super::desk::Job;
use super::draft::{Draft, Read, Taken};
use super::topic::TopicLog;
use crate::event::Epoch;
use crate::kafka::client::{Client, Context};

/// How many records are taken before it is another partition's turn. A page has fewer.
const RECORDS_PER_TURN: usize = 1024;
/// How many pages are read on to while others wait.
const PAGES_IN_A_ROW: usize = 32;
/// After how long without a record the partition's leader is asked whether it answers, and how often again.
pub(super) const PROBE_AFTER: Duration = Duration::from_millis(300);

pub(super) struct Reading {
    /// What the client fetched of this partition, and of no other.
    queue: PartitionQueue<Context>,
    /// Which topic it is a partition of.
    pub(super) epoch: Epoch,
    /// Where the log ended just before the partition was assigned, if that was asked.
    log_end: Option<i64>,
    /// Where the next page begins that is read on to.
    next: i64,
    /// From here on nobody wants anything, as far as is known.
    until: i64,
    /// A record that was taken and lies behind `next`.
    behind: Option<Read>,
    /// The page that is read.
    draft: Option<Draft>,
    /// How many pages were read on to.
    pages: usize,
    /// Since when nothing came, or nothing was read.
    pub(super) quiet_since: Instant,
    /// When the partition's leader is asked, at the earliest, whether it answers.
    pub(super) probe_at: Instant,
}

/// A page to be read from a partition that is not assigned yet.
pub(super) struct Start {
    pub(super) draft: Draft,
    pub(super) epoch: Epoch,
    /// Where the log ends, if that is known.
    pub(super) log_end: Option<i64>,
    /// From here on nothing is wanted.
    pub(super) until: i64,
}

/// How it goes with a page.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing is to be read, or nothing is there.
    Waiting,
    /// There is more.
    More,
    Done(Draft),
    /// The client does not stand where reading should go on, or met the end of the log: where the log begins and ends is
    /// to be asked, and the partition to be assigned again.
    Lost(Draft),
    Refused(Draft, KafkaError),
}

impl Reading {
    /// Prepares to read; the partition is to be assigned after that, at the draft's next offset. The bell rings when
    /// something was fetched.
    pub(super) fn new(
        client: &Arc<Client>,
        bell: &Arc<Bell>,
        (topic, partition): (&str, i32),
        start: Start,
        now: Instant,
    ) -> Result<Self, KafkaError> {
        let unknown = || KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownPartition);
        // Before the partition is assigned, so that no record goes to the client's common queue.
        let mut queue = client.split_partition_queue(topic, partition).ok_or_else(unknown)?;
        let bell = bell.clone();
        queue.set_nonempty_callback(move || bell.ring());
        let Start { draft, epoch, log_end, until } = start;
        Ok(Self {
            queue,
            epoch,
            log_end,
            next: draft.next(),
            until,
            behind: None,
            draft: Some(draft),
            pages: 0,
            quiet_since: now,
            probe_at: now + PROBE_AFTER,
        })
    }

    pub(super) fn is_idle(&self) -> bool {
        self.draft.is_none()
    }

    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// Reads another page from where it stands.
    pub(super) fn go_on(&mut self, job: Job, now: Instant) {
        self.draft = Some(Draft::new(job.wanted, job.start, job.stop));
        self.until = self.until.max(job.until);
        (self.quiet_since, self.probe_at) = (now, now + PROBE_AFTER);
        self.pages += 1;
    }

    /// Whether everything was read that somebody wanted of the partition.
    pub(super) fn is_spent(&self) -> bool {
        self.next >= self.until
    }

    /// Whether it is time to look whether others wait.
    pub(super) fn is_tired(&self) -> bool {
        self.pages >= PAGES_IN_A_ROW
    }

    /// The page that is read, which is given up here.
    pub(super) fn take_start(&mut self) -> Option<Start> {
        let (epoch, until) = (self.epoch, self.until);
        self.draft.take().map(|draft| Start { draft, epoch, log_end: None, until })
    }

    /// Takes what is there of the page.
    pub(super) fn read(&mut self, topic: &mut TopicLog, now: Instant) -> Progress {
        let Some(mut draft) = self.draft.take() else { return Progress::Waiting };
        if let Some(read) = self.behind.take()
            && self.is_complete(draft.take(read))
        {
            return self.done(draft, now);
        }
        for _ in 0..RECORDS_PER_TURN {
            let Some(polled) = self.queue.poll(Duration::ZERO) else {
                self.draft = Some(draft);
                return Progress::Waiting;
            };
            (self.quiet_since, self.probe_at) = (now, now + PROBE_AFTER);
            let is_complete = match polled {
                Ok(message) => {
                    let read = topic.read(&message);
                    drop(message);
                    self.is_complete(draft.take(read))
                }
                // The end that was met lies where the log ended at the assignment or behind: further than the page.
                // Where the log ended then is asked only once an end is met: hardly any page meets one.
                Err(KafkaError::PartitionEOF(_)) if self.log_end.is_some_and(|end| draft.stop() <= end) => {
                    draft.reach_stop();
                    true
                }
                Err(KafkaError::PartitionEOF(_)) => return Progress::Lost(draft),
                Err(error) if is_lost_position(&error) => return Progress::Lost(draft),
                Err(error) => return Progress::Refused(draft, error),
            };
            if is_complete {
                return self.done(draft, now);
            }
        }
        self.draft = Some(draft);
        Progress::More
    }

    fn is_complete(&mut self, taken: Taken) -> bool {
        match taken {
            Taken::More => false,
            Taken::Full => true,
            Taken::Behind(read) => {
                self.behind = Some(read);
                true
            }
        }
    }

    fn done(&mut self, draft: Draft, now: Instant) -> Progress {
        (self.next, self.quiet_since) = (draft.next(), now);
        Progress::Done(draft)
    }
}

fn is_lost_position(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    matches!(code, Some(Code::AutoOffsetReset | Code::LogTruncation | Code::OffsetOutOfRange))
}
