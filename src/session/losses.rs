//! Detects which part of a client's replay the log no longer contains, before the response is sent.

use rustc_hash::FxHashMap;

use super::WriterContext;
use super::log_reading::PARTITIONS_AHEAD;
use crate::event::{Entry, Epoch, Gap, GapCause, GapRange, Topic};
use crate::hub::{Lookup, Place, Replay, cut};
use crate::route::Stream;

/// The topic, epoch, partition and offset of a [`Place`].
type PlaceKey = (Topic, Epoch, i32, i64);

/// The losses found so far. They are kept because a chunk may be evicted from the cache before those of other
/// partitions arrive.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// The loss at each checked place, if any.
    places: FxHashMap<PlaceKey, Option<(GapCause, GapRange)>>,
    /// Whether the client has waited for `SILENCE_WAIT`: partitions with unresponsive leaders are not checked any
    /// longer.
    pub(super) accepts_silence: bool,
}

/// The gaps at the start of the replay, or `None` if chunks had to be requested. The caller retries once they arrive.
pub(super) fn first_losses(
    stream: &Stream,
    replay: &Replay,
    checked: &mut Checked,
    context: &WriterContext<'_>,
) -> Option<Vec<Gap>> {
    let places = replay.places(context.hub, stream);
    let key = |place: &Place| (place.topic.clone(), place.epoch, place.partition, place.offset);
    let (mut asked, mut silent) = (0, 0);
    for place in &places {
        if asked == PARTITIONS_AHEAD {
            break;
        }
        if checked.places.contains_key(&key(place)) {
            continue;
        }
        match context.log.page(place, context.asker()) {
            Lookup::Found(page) => {
                let first = page.entries.first().and_then(|first| cut(first, place.offset, place.until));
                let lost = first.as_deref().and_then(loss).map(|(cause, range)| (cause, range.clone()));
                checked.places.insert(key(place), lost);
            }
            Lookup::Down if checked.accepts_silence => silent += 1,
            Lookup::Asked | Lookup::Down | Lookup::Busy => asked += 1,
        }
    }
    let lost: Vec<_> = places.iter().filter_map(|place| checked.places.get(&key(place))).collect();
    let partitions: usize = replay.positions().0.iter().map(|topic| topic.next.len()).sum();
    if lost.len() + silent < places.len() || (silent > 0 && silent == partitions) {
        return None;
    }
    let mut gaps: Vec<Gap> = Vec::new();
    for (cause, range) in lost.into_iter().flatten() {
        match gaps.iter_mut().find(|gap| gap.cause == *cause) {
            Some(gap) => gap.ranges.push(range.clone()),
            None => gaps.push(Gap { cause: *cause, ranges: vec![range.clone()], missed: None, cursor: None }),
        }
    }
    Some(gaps)
}

/// The range that retention deleted, if the entry is such a gap. Unreadable records are no loss of the log.
pub(super) fn loss(entry: &Entry) -> Option<(GapCause, &GapRange)> {
    match entry {
        Entry::Gap { cause: GapCause::Retention, range } => Some((GapCause::Retention, range)),
        _ => None,
    }
}
