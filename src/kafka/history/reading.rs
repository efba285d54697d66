//! One partition as it is assigned to a client: its records go into pages, one behind the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use super::bell::Bell;
use super::desk::Job;
use super::draft::{Draft, Read, Taken};
use super::topic::TopicLog;
use crate::kafka::client::{Client, Context};

/// How many records are taken before it is another partition's turn. A page has fewer.
const RECORDS_PER_TURN: usize = 1024;

pub(super) struct Reading {
    /// What the client fetched of this partition, and of no other.
    queue: PartitionQueue<Context>,
    /// Where the log ended just before the partition was assigned.
    log_end: i64,
    /// Where the next page begins that is read on to.
    next: i64,
    /// A record that was taken and lies behind `next`.
    behind: Option<Read>,
    /// The page that is read.
    draft: Option<Draft>,
    /// Since when nothing came, or nothing was read.
    pub(super) quiet_since: Instant,
}

/// How it goes with a page.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing is to be read, or nothing is there.
    Waiting,
    /// There is more.
    More,
    Done(Draft),
    /// The client does not stand where reading should go on: the partition is to be assigned again.
    Lost(Draft),
    Refused(KafkaError),
}

impl Reading {
    /// Lets the client fetch what the page needs and what comes behind it; the bell rings when something is there.
    pub(super) fn start(
        client: &Arc<Client>,
        bell: &Arc<Bell>,
        (topic, partition): (&str, i32),
        draft: Draft,
        log_end: i64,
        now: Instant,
    ) -> Result<Self, KafkaError> {
        let unknown = || KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownPartition);
        // Before the partition is assigned, so that no record goes to the client's common queue.
        let mut queue = client.split_partition_queue(topic, partition).ok_or_else(unknown)?;
        let bell = bell.clone();
        queue.set_nonempty_callback(move || bell.ring());
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(draft.next()))?;
        client.incremental_assign(&list)?;
        Ok(Self { queue, log_end, next: draft.next(), behind: None, draft: Some(draft), quiet_since: now })
    }

    /// The client fetches it no longer.
    pub(super) fn stop(self, client: &Client, topic: &str, partition: i32) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        client.incremental_unassign(&list)
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
        self.quiet_since = now;
    }

    /// The page that is read, which is given up here.
    pub(super) fn take_draft(&mut self) -> Option<Draft> {
        self.draft.take()
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
            self.quiet_since = now;
            let is_complete = match polled {
                Ok(message) => {
                    let read = topic.read(&message);
                    drop(message);
                    self.is_complete(draft.take(read))
                }
                // The end that was met lies where the log ended at the assignment or behind: further than the page.
                Err(KafkaError::PartitionEOF(_)) if draft.stop() <= self.log_end => {
                    draft.reach_stop();
                    true
                }
                Err(KafkaError::PartitionEOF(_)) => return Progress::Lost(draft),
                Err(error) if is_lost_position(&error) => return Progress::Lost(draft),
                Err(error) => return Progress::Refused(error),
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
