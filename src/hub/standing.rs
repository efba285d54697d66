//! The positions of a client during replay, with an identity that costs no comparison of all partitions.
//!
//! Events of a chunk move one partition. Meanwhile, the positions in the others are one shared value, which clients at
//! the same position have in common: two clients are compared by their pointers.

use std::ops::Deref;
use std::sync::Arc;

use crate::cursor::Positions;
use crate::encoding::OtherPositions;

/// A partition: its topic's index in the stream, and its number.
pub(super) type Lane = (usize, usize);

#[derive(Debug)]
pub(super) struct Standing {
    positions: Positions,
    /// The positions in all partitions except this one. `None` if they have changed since.
    others: Option<(Lane, Arc<OtherPositions>)>,
}

impl Standing {
    pub(super) fn new(positions: Positions) -> Self {
        Self { positions, others: None }
    }

    pub(super) fn next(&self, (topic, n): Lane) -> Option<i64> {
        self.positions.0.get(topic)?.next.get(n).copied()
    }

    /// Marks everything before the offset `next` of one partition as passed.
    pub(super) fn pass(&mut self, lane: Lane, next: i64) {
        self.others.take_if(|(of, _)| *of != lane);
        if let Some(known) = self.positions.0.get_mut(lane.0).and_then(|topic| topic.next.get_mut(lane.1)) {
            *known = next;
        }
    }

    /// Gives mutable access, for changes of any partition.
    pub(super) fn change(&mut self) -> &mut Positions {
        self.others = None;
        &mut self.positions
    }

    /// All positions, and those in all partitions except this one, which an equal value of another client may replace.
    pub(super) fn split(&mut self, lane: Lane) -> (&Positions, &mut Arc<OtherPositions>) {
        let others = self.others.take().filter(|(of, _)| *of == lane);
        let others = others.unwrap_or_else(|| (lane, Arc::new(self.positions.others(lane.0, lane.1))));
        (&self.positions, &mut self.others.insert(others).1)
    }

    pub(super) fn into_positions(self) -> Positions {
        self.positions
    }
}

impl Deref for Standing {
    type Target = Positions;

    fn deref(&self) -> &Positions {
        &self.positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::TopicPosition;

    fn standing(next: &[i64]) -> Standing {
        Standing::new(Positions(vec![TopicPosition { epoch: 7, next: next.to_vec() }]))
    }

    fn others(standing: &mut Standing) -> Arc<OtherPositions> {
        standing.split((0, 0)).1.clone()
    }

    #[test]
    fn the_other_positions_stay_while_one_partition_moves() {
        let mut standing = standing(&[1, 2]);
        let first = others(&mut standing);
        standing.pass((0, 0), 5);
        assert!(Arc::ptr_eq(&others(&mut standing), &first));
        standing.pass((0, 1), 3);
        assert_ne!(others(&mut standing), first);
        assert_eq!(standing.0[0].next, [5, 3]);
    }

    #[test]
    fn any_other_change_makes_other_positions() {
        let mut standing = standing(&[1, 2]);
        let first = others(&mut standing);
        standing.change().0[0].epoch = 8;
        assert_ne!(others(&mut standing), first);
        standing.change().0[0] = TopicPosition { epoch: 7, next: vec![9, 2] };
        assert_eq!(others(&mut standing), first, "only partition 0 differs");
        standing.change().0[0].next.push(0);
        assert_ne!(others(&mut standing), first);
    }
}
