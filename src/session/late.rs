//! Partitions that join a replay late: their brokers did not respond when it began, or were not read up to the client's
//! position. The others do not wait for them.

use super::catch_up::{LOOK_AGAIN, Replaying};
use super::resume::{PARTITION_WAIT, described_since, end_in, offsets_of};
use super::{Session, WriterContext};
use crate::hub::{Lookup, Replay};

impl Session {
    /// Requests the start positions of a replay from a time, in partitions whose leaders did not respond before.
    pub(super) fn find_positions(&mut self, n: usize, replay: &mut Replay, context: &WriterContext<'_>) {
        let stream = self.subscriptions[n].stream.clone();
        for (topic, ms) in replay.times(context.hub, &stream) {
            let name = &stream.topics[topic];
            let gaps = if !context.log.finds_times(name) {
                // Without a time index, all of the log may be new to the client.
                let all = vec![0; replay.positions().0[topic].next.len()];
                replay.resolve(context.hub, &stream, topic, &all, &all)
            } else {
                let (offsets, firsts) = (offsets_of(name, ms, context), offsets_of(name, 0, context));
                let Some((offsets, firsts)) = offsets.zip(firsts) else { continue };
                replay.resolve(context.hub, &stream, topic, &offsets, &firsts)
            };
            self.report_lost(n, gaps, replay);
        }
    }

    /// Asks whether partitions exist that are unknown here. What the client received of one that does not is a loss.
    pub(super) fn find_unknown(&mut self, n: usize, replaying: &mut Replaying, context: &WriterContext<'_>) {
        let Replaying { replay, since, .. } = replaying;
        if context.now.instant < since.instant + PARTITION_WAIT {
            return;
        }
        let stream = self.subscriptions[n].stream.clone();
        for (topic, partitions) in replay.unknown(context.hub, &stream) {
            let Some(found) = described_since(&stream.topics[topic], since.unix_ms, context) else { continue };
            if found.partitions < partitions {
                let gaps = replay.end_unknown(context.hub, &stream, topic, found.partitions);
                self.report_lost(n, gaps, replay);
            }
        }
    }

    /// Asks whether the topics that are read here replaced those of the client's position.
    pub(super) fn find_others(&mut self, n: usize, replaying: &mut Replaying, context: &WriterContext<'_>) {
        let Replaying { replay, since, .. } = replaying;
        let stream = self.subscriptions[n].stream.clone();
        for (topic, other) in replay.others(context.hub, &stream) {
            if context.now.instant >= since.instant + PARTITION_WAIT
                && described_since(&other.topic, since.unix_ms, context).is_some_and(|found| found.confirms(&other))
            {
                let gaps = replay.end_other(context.hub, &stream, topic);
                if let Some(from) = &mut self.subscriptions[n].from {
                    from.go_back(replay.positions());
                }
                self.report_lost(n, gaps, replay);
            }
        }
    }

    /// Asks whether the logs that are not read up to the client's position end before it.
    pub(super) fn find_ends(&self, n: usize, replaying: &mut Replaying, context: &WriterContext<'_>) {
        let (stream, now) = (self.subscriptions[n].stream.clone(), context.now.instant);
        if replaying.ends_from.is_some_and(|from| now < from) {
            return;
        }
        for place in replaying.replay.ahead(context.hub, &stream) {
            let Lookup::Found(page) = context.log.page(&place, context.asker()) else { continue };
            replaying.ends_from = Some(now + LOOK_AGAIN);
            end_in(&page, &place).iter().for_each(|end| replaying.replay.note_end(&stream, end));
        }
    }
}
