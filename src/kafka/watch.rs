//! Whether each partition moves on while its log does. Pure.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

/// After how long a partition counts as stalled.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// After how long a partition is suspected where the client said that it cannot read a batch.
const SUSPECT_AFTER: Duration = Duration::from_secs(2);
/// For how long that counts. The client repeats it every half a second for a batch, every half a minute for a response.
const REFUSAL_KEPT: Duration = Duration::from_secs(40);
/// The same where a transaction that is not finished keeps the records back.
const HELD_AFTER: Duration = Duration::from_secs(60);
/// After how long the same place is probed again.
const PROBE_AGAIN: Duration = Duration::from_secs(30);

/// A partition, by its topic's place among those that are read.
pub(super) type Key = (usize, i32);

/// Where a partition stands, in offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// After the last record that was taken, and what holds none behind it.
    pub(super) next: i64,
    /// The client's position: what it fetches next.
    pub(super) fetched: i64,
    /// The last stable offset: records from here on belong to transactions that are not finished.
    pub(super) stable: i64,
    /// The end of the log (the high watermark).
    pub(super) end: i64,
}

impl Standing {
    /// Whether the ends of the log are known: they come with what is fetched.
    pub(super) fn is_known(&self) -> bool {
        self.end >= 0
    }

    /// What is read next. Offsets before it that were not taken hold no records.
    pub(super) fn position(&self) -> i64 {
        self.next.max(self.fetched)
    }

    /// Offsets between the last record that was taken and the last stable one; none where the rest hold no records.
    pub(super) fn lag(&self) -> i64 {
        (self.stable - self.next).max(0)
    }

    /// How many offsets lie between the last stable one and the end.
    pub(super) fn uncommitted(&self) -> i64 {
        (self.end - self.stable).max(0)
    }

    /// Whether all that may be read was read.
    fn is_held(&self) -> bool {
        self.position() >= self.stable
    }
}

/// A partition that does not move although its log goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    pub(super) partition: i32,
    pub(super) standing: Standing,
    /// A transaction that is not finished keeps its records back.
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
    /// Since when it stands there.
    since: Instant,
    /// Since when its log goes on beyond.
    behind_since: Instant,
    is_reported: bool,
    probed: Option<Instant>,
}

impl Watch {
    /// Takes note of where a partition stands; gives for how long it has not moved although its log goes on.
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

    /// The client said that it cannot read a batch, or a response, of some partition.
    pub(super) fn refused(&mut self, now: Instant) {
        self.refused = Some(now);
    }

    /// The partitions of a topic that stalled since this was asked last.
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

    /// The partitions in which a batch may be the cause and which are to be probed now, which is noted; those that have
    /// stood still for the longest first. After a refusal that is whichever does not move: where responses are refused,
    /// the end of its log is not known.
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
        // The last offsets hold no records: the client's position is beyond ours.
        let markers = Standing { fetched: 9, ..standing(7, 9, 9) };
        assert_eq!(watch.observe(KEY, markers, now + Duration::from_secs(2000)), Duration::ZERO);
        assert_eq!(watch.observe(KEY, markers, now + Duration::from_secs(3000)), Duration::ZERO);
    }

    #[test]
    fn one_that_stays_behind_is_reported_once_and_again_after_it_moved() {
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
    fn a_transaction_has_longer_and_is_no_suspect() {
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
    fn a_place_is_probed_now_and_then() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        watch.observe(KEY, standing(7, 20, 20), now);
        assert!(watch.suspects(now + STALLED_AFTER / 2).is_empty());
        let probed = now + STALLED_AFTER;
        assert_eq!(watch.suspects(probed), [(KEY, standing(7, 20, 20))]);
        assert!(watch.suspects(probed + PROBE_AGAIN / 2).is_empty());
        assert_eq!(watch.suspects(probed + PROBE_AGAIN).len(), 1);
    }

    #[test]
    fn after_a_refusal_whatever_stands_still_is_suspected_soon() {
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
