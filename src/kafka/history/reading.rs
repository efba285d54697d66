//! A partition that is assigned to the client: its records are collected into consecutive chunks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::draft::{Draft, Read, Taken};
use super::store::Job;
use super::topic::TopicLog;
use super::wakeup::Wakeup;
use crate::decode::OwnedRecord;
use crate::event::Epoch;
use crate::kafka::client::{Client, Context};

/// The most records of a partition per turn. A chunk has fewer.
const RECORDS_PER_TURN: usize = 1024;
/// The most consecutive chunks while other partitions wait.
const PAGES_IN_A_ROW: usize = 32;
/// After this long without a record, the partition's leader is probed, repeatedly at this interval.
pub(super) const PROBE_AFTER: Duration = Duration::from_millis(300);

pub(super) struct Reading {
    /// The client's fetch queue of this partition.
    queue: PartitionQueue<Context>,
    /// The epoch of its topic.
    pub(super) epoch: Epoch,
    /// The end of the log just before the assignment, if it was requested.
    log_end: Option<i64>,
    /// The start of the next consecutive chunk.
    next: i64,
    /// From here on nothing is requested, as far as is known.
    until: i64,
    /// A received record after `next`.
    behind: Option<Read>,
    /// A received record that waits for its schema.
    held: Option<Box<OwnedRecord>>,
    /// The current chunk.
    draft: Option<Draft>,
    /// The number of consecutive chunks.
    pages: usize,
    /// The partition's leader has responded, to a fetch or to a question.
    pub(super) is_proven: bool,
    /// Since when nothing has arrived or been read.
    pub(super) quiet_since: Instant,
    /// The earliest time of the next probe of the partition's leader.
    pub(super) probe_at: Instant,
}

/// A chunk to be read from a partition that is not assigned yet.
pub(super) struct Start {
    pub(super) draft: Draft,
    pub(super) epoch: Epoch,
    /// The end of the log, if known.
    pub(super) log_end: Option<i64>,
    /// From here on nothing is needed.
    pub(super) until: i64,
}

/// The progress of a chunk.
#[derive(Debug)]
pub(super) enum Progress {
    /// There is no current chunk, or no data.
    Waiting,
    /// There is more data.
    More,
    Done(Draft),
    /// The client's position is not where reading should continue, or it has reached the end of the log: the ends of
    /// the log have to be requested, and the partition assigned again.
    Lost(Draft),
    Refused(Draft, KafkaError),
}

impl Reading {
    /// Prepares reading; the partition has to be assigned afterwards, at the draft's next offset. The thread is
    /// notified when data was fetched.
    pub(super) fn new(
        client: &Arc<Client>,
        wakeup: &Arc<Wakeup>,
        (topic, partition): (&str, i32),
        start: Start,
        now: Instant,
    ) -> Result<Self, KafkaError> {
        let unknown = || KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownPartition);
        // Before the assignment, so that no record goes to the client's common queue.
        let mut queue = client.split_partition_queue(topic, partition).ok_or_else(unknown)?;
        let wakeup = wakeup.clone();
        queue.set_nonempty_callback(move || wakeup.wake());
        let Start { draft, epoch, log_end, until } = start;
        Ok(Self {
            queue,
            epoch,
            log_end,
            next: draft.next(),
            until,
            behind: None,
            held: None,
            draft: Some(draft),
            pages: 0,
            is_proven: log_end.is_some(),
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

    /// Starts another chunk at the current position.
    pub(super) fn go_on(&mut self, job: Job, now: Instant) {
        self.draft = Some(Draft::new(job.wanted, job.start, job.stop));
        self.until = self.until.max(job.until);
        (self.quiet_since, self.probe_at) = (now, now + PROBE_AFTER);
        self.pages += 1;
    }

    /// Whether everything that was requested of the partition has been read.
    pub(super) fn is_spent(&self) -> bool {
        self.next >= self.until
    }

    /// Whether other partitions should have their turn.
    pub(super) fn is_tired(&self) -> bool {
        self.pages >= PAGES_IN_A_ROW
    }

    /// Takes the current chunk, which is cancelled here.
    pub(super) fn take_start(&mut self) -> Option<Start> {
        let (epoch, until) = (self.epoch, self.until);
        self.draft.take().map(|draft| Start { draft, epoch, log_end: None, until })
    }

    /// Reads available records into the chunk.
    pub(super) fn read(&mut self, topic: &mut TopicLog, now: Instant) -> Progress {
        let Some(mut draft) = self.draft.take() else { return Progress::Waiting };
        if let Some(read) = self.behind.take()
            && self.is_complete(draft.take(read))
        {
            return self.done(draft, now);
        }
        if let Some(held) = self.held.take() {
            (self.quiet_since, self.probe_at) = (now, now + PROBE_AFTER);
            match held.with(|record| topic.decode(record)) {
                Some(read) => {
                    if self.is_complete(draft.take(read)) {
                        return self.done(draft, now);
                    }
                }
                None => return self.hold(held, draft),
            }
        }
        for _ in 0..RECORDS_PER_TURN {
            let Some(polled) = self.queue.poll(Duration::ZERO) else {
                self.draft = Some(draft);
                return Progress::Waiting;
            };
            (self.quiet_since, self.probe_at, self.is_proven) = (now, now + PROBE_AFTER, true);
            let is_complete = match polled {
                Ok(message) => {
                    let read = topic.read(&message);
                    drop(message);
                    match read {
                        Ok(read) => self.is_complete(draft.take(read)),
                        Err(held) => return self.hold(held, draft),
                    }
                }
                // The end of the log is at or after its end at the assignment: after the chunk's limit.
                // The end of the log is requested only after an end was reached: few chunks reach one.
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

    /// Continues with this record in a later turn.
    fn hold(&mut self, record: Box<OwnedRecord>, draft: Draft) -> Progress {
        (self.held, self.draft) = (Some(record), Some(draft));
        Progress::Waiting
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
