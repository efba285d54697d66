//! Evaluates the client's statistics: connection, lag, the ends of logs, added partitions, and partitions that do not
//! advance although their logs do. If one batch is the cause, it is skipped.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rdkafka::consumer::Consumer;

use super::Reading;
use crate::kafka::client::Statistics;
use crate::kafka::probe::{Probe, Suspect, Verdict};
use crate::kafka::watch::{Key, Stall, Standing};

impl Reading {
    /// Evaluates new statistics.
    pub(super) fn observe(&mut self) {
        let statistics = self.client.context().statistics.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(statistics) = statistics else { return };
        self.survey.connected(statistics.brokers());
        if statistics.connected() {
            if !self.base.link.is_up() {
                self.base.link.up();
                self.survey.hasten();
            }
        } else if self.base.link.is_up() {
            self.base.link.down("no connection to a broker");
        }
        for index in 0..self.topics.len() {
            self.observe_topic(index, &statistics);
        }
        self.pass_all();
        self.look_at_stalls();
    }

    fn observe_topic(&mut self, index: usize, statistics: &Statistics) {
        let topic = &mut self.topics[index];
        if statistics.partitions(topic.source()) > topic.next().len() {
            self.survey.hasten();
        }
        let reads: Vec<_> = topic.reads().collect();
        let (metrics, now) = (&self.base.metrics, Instant::now());
        for (id, next) in reads {
            let Some(partition) = statistics.partition(topic.source(), id) else { continue };
            let standing = partition.standing(next);
            let stalled = self.watch.observe((index, id), standing, now);
            if standing.is_known() {
                let label = id.to_string();
                let labels = [&**topic.name(), label.as_str()];
                metrics.consumer_lag.with_label_values(&labels).set(standing.lag());
                metrics.uncommitted_offsets.with_label_values(&labels).set(standing.uncommitted());
                let seconds = i64::try_from(stalled.as_secs()).unwrap_or(i64::MAX);
                metrics.stalled_seconds.with_label_values(&labels).set(seconds);
            }
            if partition.reached_end() {
                topic.reached_end(usize::try_from(id).unwrap_or(usize::MAX));
            }
        }
    }

    /// Reports stalled partitions, and probes suspects. If no broker responds, that is the cause and has been reported;
    /// but a response that the client rejects closes the connection as well.
    fn look_at_stalls(&mut self) {
        let now = Instant::now();
        let is_refused = self.client.context().unreadable.swap(false, Ordering::Relaxed);
        if is_refused {
            self.watch.refused(now);
        }
        if !self.base.link.is_up() && !is_refused {
            return;
        }
        for index in 0..self.topics.len() {
            let news = self.watch.news(index, now);
            self.report(index, &news);
        }
        if self.probe.is_none() {
            let suspects = self.watch.suspects(now);
            self.start_probe(&suspects);
        }
    }

    /// Logs one line for all partitions of a topic that have stalled since the last one.
    fn report(&self, index: usize, stalls: &[Stall]) {
        let Some(Stall { partition, standing, is_held }) = stalls.first() else { return };
        let (topic, others) = (&**self.topics[index].name(), stalls.len() - 1);
        let (offset, end) = (standing.position(), standing.end);
        let what = match is_held {
            true => "a transaction that is not finished keeps records back",
            false => "a partition does not advance although its log has more",
        };
        tracing::warn!(topic, partition, offset, end, others, "{what}");
    }

    fn start_probe(&mut self, suspects: &[(Key, Standing)]) {
        if suspects.is_empty() {
            return;
        }
        let epoch = |(index, _): Key| self.topics[index].epoch();
        let keys = suspects.iter().map(|(key, _)| (*key, epoch(*key))).collect();
        let suspect = |((index, partition), standing): &(Key, Standing)| Suspect {
            topic: self.topics[*index].source().clone(),
            partition: *partition,
            from: standing.position(),
        };
        match Probe::start(&self.base.config, &self.base.metrics, suspects.iter().map(suspect).collect()) {
            Ok(probe) => self.probe = Some((probe, keys)),
            Err(error) => tracing::warn!(%error, "cannot start a thread to examine a stalled partition"),
        }
    }

    /// Applies the verdicts of a probe, if available: skips an unreadable batch, and reports it as a gap.
    pub(super) fn take_verdicts(&mut self) {
        let Some(verdicts) = self.probe.as_ref().and_then(|(probe, _)| probe.verdicts()) else { return };
        let Some((_, keys)) = self.probe.take() else { return };
        let (mut batch, mut has_passed) = (Vec::new(), false);
        for (((index, partition), epoch), verdict) in keys.into_iter().zip(verdicts) {
            let topic = &mut self.topics[index];
            if let Verdict::Unreadable(range) = verdict
                && topic.epoch() == epoch
            {
                has_passed |= topic.pass_over(partition, range, &mut batch);
            }
        }
        if has_passed {
            self.assign();
            self.hand_on(batch);
        }
    }
}
