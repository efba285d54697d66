//! Windows of partitions that change other than by the next entry: truncated logs, and entries that the writer skipped.

use std::sync::Arc;

use super::{Seq, TopicWindow, place};
use crate::event::Entry;

/// The most remembered truncations of a topic's logs; the oldest are forgotten. Truncation is very rare.
const CUTS_MAX: usize = 64;

/// A truncation: records beyond the log's end no longer exist, and other records will replace them.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct Cut {
    /// The position of its gap in hub order.
    pub(super) seq: Seq,
    pub(in crate::hub) partition: usize,
    /// The offset after the last remaining record.
    pub(in crate::hub) end: i64,
    /// The offset after the last record that had been read.
    pub(super) was: i64,
    /// Whether there may have been an event beyond the end: transaction markers alone are no loss.
    pub(in crate::hub) is_loss: bool,
}

impl TopicWindow {
    /// Truncates a partition: removes the entries beyond its log's end. Live sessions receive the gap, and sessions in
    /// catch-up find it with [`Self::cuts_since`]. The window does not contain the gap, because later clients were
    /// never beyond the end.
    pub(super) fn cut(&mut self, cut: Cut) {
        let is_kept = |entry: &Entry| {
            let (_, partition, last) = place(entry);
            partition as usize != cut.partition || last < cut.end
        };
        self.entries.retain(|(_, entry)| is_kept(entry));
        for (_, entry) in self.entries.iter_mut().filter(|(_, entry)| place(entry).1 as usize == cut.partition) {
            // Offsets without records may contain records now.
            if let Entry::Event(event) = entry
                && event.next > cut.end
            {
                *event = Arc::new(event.with_next(cut.end));
            }
        }
        self.bytes = self.entries.iter().map(|(_, entry)| entry.weight()).sum();
        for ends in [&mut self.base, &mut self.next, &mut self.from, &mut self.live] {
            ends[cut.partition] = ends[cut.partition].min(cut.end);
        }
        // Older cursors may contain positions beyond the end.
        self.order_from = cut.seq + 1;
        if self.cuts.len() == CUTS_MAX {
            self.cuts.pop_front();
        }
        self.cuts.push_back(cut);
    }

    /// Whether an event may have been read of a partition from this offset on. Entries that left the window are
    /// unknown.
    pub(super) fn may_hold_events(&self, partition: usize, from: i64) -> bool {
        let mut places = self.entries.iter().map(|(_, entry)| place(entry));
        self.base[partition] > from || places.any(|(_, of, last)| of as usize == partition && last >= from)
    }

    /// The writer skipped the entries before `next`, which the log contains: the partition's window starts there, so
    /// that resuming clients read them from the log.
    pub(super) fn skip(&mut self, seq: Seq, partition: i32, next: i64) {
        self.entries.retain(|(_, entry)| place(entry).1 != partition);
        self.bytes = self.entries.iter().map(|(_, entry)| entry.weight()).sum();
        for ends in [&mut self.base, &mut self.next] {
            ends[partition as usize] = next;
        }
        self.order_from = seq + 1;
    }

    /// The truncations from this position in hub order on, in order.
    pub(in crate::hub) fn cuts_since(&self, seq: Seq) -> impl Iterator<Item = &Cut> {
        self.cuts.iter().filter(move |cut| cut.seq >= seq)
    }

    /// The last truncation of a log, for a client whose position is beyond what has been read since, and not beyond
    /// what had been read before. A position that was never read here is unrelated to that truncation.
    pub(in crate::hub) fn last_cut(&self, partition: usize, position: i64) -> Option<&Cut> {
        let last = self.cuts.iter().rev().find(|cut| cut.partition == partition)?;
        (position <= last.was).then_some(last)
    }
}
