//! Chunks that cannot be completed: an unreadable batch is skipped if it is the cause.

use std::time::Instant;

use rdkafka::error::KafkaError;

use super::{Draft, Work};
use crate::event::Epoch;
use crate::kafka::history::draft::{Read, Taken};
use crate::kafka::history::reading::Start;
use crate::kafka::history::requests::TopicPartition;
use crate::kafka::probe::{Probe, Suspect, Verdict, is_unreadable};

/// The most concurrent probes.
const PROBES_MAX: usize = 8;

/// A chunk that is suspended until the cause is known.
pub(super) struct Probing {
    probe: Probe,
    draft: Draft,
    epoch: Epoch,
}

impl Work {
    /// The client or its brokers rejected the next fetch of a chunk.
    pub(super) fn refused(&mut self, partition: TopicPartition, draft: Draft, error: &KafkaError, now: Instant) {
        match error.rdkafka_error_code() {
            Some(code) if is_unreadable(code) => self.suspect(partition, draft, now),
            _ => self.failed(partition, error, now),
        }
    }

    /// Determines why a chunk cannot be completed. If the cause is known already, the chunk continues after it.
    pub(super) fn suspect(&mut self, partition: TopicPartition, draft: Draft, now: Instant) {
        self.stop(&[partition]);
        let Some(topic) = self.base.topics.get_mut(&partition.topic) else { return };
        if let Some(range) = topic.unreadable(partition.partition, draft.next()) {
            return self.pass_over(partition, draft, &range, now);
        }
        let (topic, epoch) = (topic.source.clone(), self.base.store.epoch(partition.topic));
        let suspect = Suspect { topic, partition: partition.partition, from: draft.next() };
        let has_room = self.probes.len() < PROBES_MAX;
        match has_room.then(|| Probe::start(&self.base.config, &self.base.metrics, vec![suspect])) {
            Some(Ok(probe)) => drop(self.probes.insert(partition, Probing { probe, draft, epoch })),
            Some(Err(error)) => tracing::warn!(%error, "cannot start a thread to examine a stalled chunk"),
            None => {}
        }
        if !self.probes.contains_key(&partition) {
            self.leave_alone(partition, now);
        }
    }

    /// Applies the verdicts of finished probes.
    pub(super) fn take_verdicts(&mut self, now: Instant) {
        let ended: Vec<_> = self
            .probes
            .iter()
            .filter_map(|(partition, probing)| Some((*partition, probing.probe.verdicts()?)))
            .collect();
        for (partition, verdicts) in ended {
            let Some(Probing { draft, epoch, .. }) = self.probes.remove(&partition) else { continue };
            match verdicts.into_iter().next() {
                Some(Verdict::Unreadable(range)) if epoch == self.base.store.epoch(partition.topic) => {
                    if let Some(topic) = self.base.topics.get_mut(&partition.topic) {
                        topic.note_unreadable(partition.partition, range.clone());
                    }
                    self.pass_over(partition, draft, &range, now);
                }
                // It will be requested again.
                _ => self.leave_alone(partition, now),
            }
        }
    }

    /// Adds the gap to the chunk, which continues after it.
    fn pass_over(&mut self, partition: TopicPartition, mut draft: Draft, range: &std::ops::Range<i64>, now: Instant) {
        let Some(topic) = self.base.topics.get(&partition.topic) else { return };
        let taken = draft.unreadable(range).map_or(Taken::More, |offsets| {
            let (offset, entry) = (offsets.end - 1, topic.unreadable_gap(partition.partition, &offsets));
            draft.take(Read { offset, ms: None, entry })
        });
        let epoch = self.base.store.epoch(partition.topic);
        match taken {
            Taken::More => {
                let until = draft.stop();
                self.start(vec![(partition, Start { draft, epoch, log_end: None, until })], now);
            }
            Taken::Full | Taken::Behind(_) => self.publish(partition, draft, epoch, now),
        }
    }
}
