//! Detects partitions that do not advance although their logs do. Pure.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

/// The time after which a partition counts as stalled.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// The time after which a partition is suspected if the client reported an unreadable batch.
const SUSPECT_AFTER: Duration = Duration::from_secs(2);
/// How long such a report is valid. The client repeats it every half second for a batch, and every half minute for a
/// response.
const REFUSAL_KEPT: Duration = Duration::from_secs(40);
/// The time after which a partition counts as stalled if an open transaction holds its records back.
const HELD_AFTER: Duration = Duration::from_secs(60);
/// The interval of probes at the same position.
const PROBE_AGAIN: Duration = Duration::from_secs(30);

/// A partition, by the index of its topic.
pub(super) type Key = (usize, i32);

/// The offsets of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// After the last received record and the offsets without records that follow.
    pub(super) next: i64,
    /// The client's position: the next offset to fetch.
    pub(super) fetched: i64,
    /// The last stable offset: later records belong to open transactions.
    pub(super) stable: i64,
    /// The end of the log (the high watermark).
    pub(super) end: i64,
}

impl Standing {
    /// Whether the ends of the log are known: they are part of fetch responses.
    pub(super) fn is_known(&self) -> bool {
        self.end >= 0
    }

    /// The next offset to read. Earlier offsets that were not received contain no records.
    pub(super) fn position(&self) -> i64 {
        self.next.max(self.fetched)
    }

    /// Offsets between the last received record and the last stable offset; 0 if the rest contain no records.
    pub(super) fn lag(&self) -> i64 {
        (self.stable - self.next).max(0)
    }

    /// Offsets between the last stable offset and the end.
    pub(super) fn uncommitted(&self) -> i64 {
        (self.end - self.stable).max(0)
    }

    /// Whether all readable records have been read.
    fn is_held(&self) -> bool {
        self.position() >= self.stable
    }
}

/// A partition that does not advance although its log does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    pub(super) partition: i32,
    pub(super) standing: Standing,
    /// An open transaction holds its records back.
    pub(super) is_held: bool,
}

/// All partitions of a cluster.
#[derive(Debug, Default)]
pub(super) struct Watch {
    partitions: FxHashMap<Key, Still>,
    refused: Option<Instant>,
}

#[derive(Debug)]
struct Still {
    standing: Standing,
    /// Since when it has this position.
    since: Instant,
    /// Since when its log has continued beyond the position.
    behind_since: Instant,
    is_reported: bool,
    probed: Option<Instant>,
}

impl Watch {
    /// Records the state of a partition. Returns for how long it has not advanced although its log has.
    pub(super) fn observe(&mut self, key: Key, standing: Standing, now: Instant) -> Duration {
        let fresh = Still { standing, since: now, behind_since: now, is_reported: false, probed: None };
        let still = self.partitions.entry(key).or_insert(fresh);
        let has_moved = still.standing.position() != standing.position();
        still.standing = standing;
        if has_moved {
            (still.since, still.probed) = (now, None);
        }
        if has_moved || standing.position() >= standing.end {
            (still.behind_since, still.is_reported) = (now, false);
        }
        now.duration_since(still.behind_since)
    }

    /// The client reported an unreadable batch or response of some partition.
    pub(super) fn refused(&mut self, now: Instant) {
        self.refused = Some(now);
    }

    /// The partitions of a topic that have stalled since the last call.
    pub(super) fn news(&mut self, topic: usize, now: Instant) -> Vec<Stall> {
        let of_topic = self.partitions.iter_mut().filter(|((of, _), still)| *of == topic && !still.is_reported);
        let stall = |(key, still): (&Key, &mut Still)| {
            let is_held = still.standing.is_held();
            let limit = if is_held { HELD_AFTER } else { STALLED_AFTER };
            still.is_reported = now.duration_since(still.behind_since) >= limit;
            still.is_reported.then_some(Stall { partition: key.1, standing: still.standing, is_held })
        };
        let mut stalls: Vec<_> = of_topic.filter_map(stall).collect();
        stalls.sort_unstable_by_key(|stall| stall.partition);
        stalls
    }

    /// The partitions in which a batch may be the cause and that are due for a probe (which is recorded), the longest
    /// stalled first. After a report of the client these are all that do not advance: if responses are rejected, the
    /// end of the log is unknown.
    pub(super) fn suspects(&mut self, now: Instant) -> Vec<(Key, Standing)> {
        let is_refused = self.refused.is_some_and(|refused| now.duration_since(refused) < REFUSAL_KEPT);
        let is_suspect = |still: &Still| {
            let is_stalled = now.duration_since(still.behind_since) >= STALLED_AFTER && !still.standing.is_held();
            let is_due = still.probed.is_none_or(|probed| now.duration_since(probed) >= PROBE_AGAIN);
            is_due && (is_stalled || (is_refused && now.duration_since(still.since) >= SUSPECT_AFTER))
        };
        let mut found: Vec<_> = self.partitions.iter_mut().filter(|(_, still)| is_suspect(still)).collect();
        found.sort_unstable_by_key(|(key, still)| (still.behind_since, **key));
        found.iter_mut().for_each(|(_, still)| still.probed = Some(now));
        found.into_iter().map(|(key, still)| (*key, still.standing)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = (0, 3);

    fn standing(next: i64, stable: i64, end: i64) -> Standing {
        Standing { next, fetched: next, stable, end }
    }

    #[test]
    fn a_partition_at_the_end_of_its_log_is_never_stalled() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        for seconds in [0, 100, 1000] {
            let now = now + Duration::from_secs(seconds);
            assert_eq!(watch.observe(KEY, standing(7, 7, 7), now), Duration::ZERO);
            assert!(watch.news(0, now).is_empty() && watch.suspects(now).is_empty());
        }
        // The last offsets contain no records: the client's position is beyond `next`.
        let markers = Standing { fetched: 9, ..standing(7, 9, 9) };
        assert_eq!(watch.observe(KEY, markers, now + Duration::from_secs(2000)), Duration::ZERO);
        assert_eq!(watch.observe(KEY, markers, now + Duration::from_secs(3000)), Duration::ZERO);
    }

    #[test]
    fn a_stalled_partition_is_reported_once_per_stall() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        watch.observe(KEY, standing(7, 7, 7), at(0));
        watch.observe(KEY, standing(7, 20, 20), at(2));
        assert_eq!(watch.observe(KEY, standing(7, 30, 30), at(12)), Duration::from_secs(12));
        assert!(watch.news(1, at(12)).is_empty());
        let stalls = watch.news(0, at(12));
        assert_eq!((stalls.len(), stalls[0].partition, stalls[0].is_held), (1, 3, false));
        assert!(watch.news(0, at(13)).is_empty());
        assert_eq!(watch.observe(KEY, standing(8, 30, 30), at(14)), Duration::ZERO);
        assert!(watch.news(0, at(23)).is_empty());
        assert_eq!(watch.news(0, at(24)).len(), 1);
    }

    #[test]
    fn an_open_transaction_stalls_later_and_is_not_suspected() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let held = standing(20, 20, 25);
        assert_eq!((held.uncommitted(), held.lag()), (5, 0));
        watch.observe(KEY, held, at(0));
        assert!(watch.news(0, at(59)).is_empty());
        assert!(watch.news(0, at(60))[0].is_held);
        assert!(watch.suspects(at(600)).is_empty());
    }

    #[test]
    fn a_position_is_probed_at_intervals() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        watch.observe(KEY, standing(7, 20, 20), now);
        assert!(watch.suspects(now + STALLED_AFTER / 2).is_empty());
        let probed = now + STALLED_AFTER;
        assert_eq!(watch.suspects(probed), [(KEY, standing(7, 20, 20))]);
        assert!(watch.suspects(probed + PROBE_AGAIN / 2).is_empty());
        assert_eq!(watch.suspects(probed + PROBE_AGAIN).len(), 1);
    }

    #[test]
    fn after_a_report_of_the_client_every_stalled_partition_is_suspected() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        watch.observe(KEY, standing(7, 0, 0), at(0));
        watch.observe((1, 0), standing(1, 1, 1), at(0));
        watch.refused(at(1));
        assert!(watch.suspects(at(1)).is_empty());
        watch.observe((1, 0), standing(2, 2, 2), at(2));
        assert_eq!(watch.suspects(at(2)), [(KEY, standing(7, 0, 0))]);
        assert_eq!(watch.suspects(at(4)).len(), 1, "the other stands still as well by now");
        assert!(watch.suspects(at(100)).is_empty(), "that was long ago");
    }
}
