//! A topic whose chunks are read: converts its records to entries, and keeps facts about it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use prometheus::IntCounter;
use rdkafka::message::BorrowedMessage;

use super::draft::{Draft, Read};
use crate::config::snapshot::TopicConfig;
use crate::decode::{Decoder, OwnedRecord, Record, Shape, Undecodable};
use crate::event::{Entry, Epoch, GapCause, GapRange, Topic};
use crate::hub::Page;
use crate::kafka::headers::headers;
use crate::kafka::message::record;
use crate::metrics::Metrics;

/// The most remembered unreadable batches of a topic; the oldest are forgotten.
const UNREADABLE_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct TopicLog {
    /// The name in events, metrics and the hub.
    name: Topic,
    /// The name in the cluster.
    pub(super) source: Topic,
    /// What its records are decoded with.
    pub(super) shape: Shape,
    decoder: Decoder,
    /// The average envelope size of the last chunk; a large value before the first one.
    pub(super) record_bytes: usize,
    /// The brokers denied access: it is skipped until then.
    pub(super) refused_until: Option<Instant>,
    /// Unreadable batches by partition.
    unreadable: VecDeque<(i32, Range<i64>)>,
    records: IntCounter,
    bytes: IntCounter,
}

impl TopicLog {
    pub(super) fn new(config: &TopicConfig, metrics: &Metrics) -> Self {
        let label = [&*config.name];
        Self {
            name: config.name.clone(),
            source: config.source.clone(),
            shape: config.shape.clone(),
            decoder: Decoder::new(config.name.clone(), &config.shape),
            record_bytes: usize::MAX,
            refused_until: None,
            unreadable: VecDeque::new(),
            records: metrics.replay_records.with_label_values(&label),
            bytes: metrics.replay_bytes.with_label_values(&label),
        }
    }

    /// Converts a record, with the same result as when it was read live.
    ///
    /// # Errors
    ///
    /// The record waits for its schema.
    pub(super) fn read(&mut self, message: &BorrowedMessage<'_>) -> Result<Read, Box<OwnedRecord>> {
        self.records.inc();
        self.bytes.inc_by((message.key_len() + message.payload_len()) as u64);
        let headers = headers(message);
        let record = record(message, &headers);
        self.decode(&record).ok_or_else(|| Box::new(OwnedRecord::from(&record)))
    }

    /// `None` if the record waits for its schema.
    pub(super) fn decode(&mut self, record: &Record<'_>) -> Option<Read> {
        let (offset, ms) = (record.offset, record.timestamp);
        let entry = match self.decoder.decode(record) {
            Ok(event) => Entry::Event(Arc::new(event)),
            Err(Undecodable::AwaitsSchema(_)) => return None,
            // It was counted and logged when it was read live.
            Err(reason) => reason.entry(self.name.clone(), record.partition, offset),
        };
        Some(Read { offset, ms, entry })
    }

    /// The known unreadable batch that contains this offset.
    pub(super) fn unreadable(&self, partition: i32, offset: i64) -> Option<Range<i64>> {
        let found = self.unreadable.iter().find(|(of, range)| *of == partition && range.contains(&offset));
        found.map(|(_, range)| range.clone())
    }

    pub(super) fn note_unreadable(&mut self, partition: i32, range: Range<i64>) {
        if self.unreadable.len() == UNREADABLE_MAX {
            self.unreadable.pop_front();
        }
        self.unreadable.push_back((partition, range));
    }

    pub(super) fn forget_unreadable(&mut self) {
        self.unreadable.clear();
    }

    /// The gap that reports these offsets.
    pub(super) fn unreadable_gap(&self, partition: i32, offsets: &Range<i64>) -> Entry {
        let range = GapRange { topic: self.name.clone(), partition, from: offsets.start, to: offsets.end - 1 };
        Entry::Gap { cause: GapCause::Unreadable, range }
    }

    /// The chunk, as far as it was read, of the topic with this epoch.
    pub(super) fn page(&mut self, draft: Draft, partition: i32, epoch: Epoch) -> Page {
        let page = draft.finish(&self.name, partition, epoch);
        if let Some(mean) = page.bytes.checked_div(page.entries.len()) {
            self.record_bytes = mean;
        }
        page
    }

    pub(super) fn is_refused(&self, now: Instant) -> bool {
        self.refused_until.is_some_and(|until| now < until)
    }
}
