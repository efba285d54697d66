//! The hub: the replay window, the index of subscriptions, and the queues of sessions.
//!
//! Each writer has its own hub and applies the same entries in the same order. Nothing here is locked, and the
//! transition from replay to live events is exact, because both happen between two entries. Events are shared; windows
//! only hold pointers to them.

mod by_time;
#[cfg(test)]
mod cut_tests;
mod ends;
pub mod entry;
pub mod index;
pub mod log;
pub mod queue;
pub mod replay;
pub mod resume;
mod standing;
pub mod state;
mod unread;
#[cfg(test)]
mod unread_tests;
pub mod window;

pub use crate::event::WindowLimits;
pub use ends::{Ahead, Ends, LogEnd, OtherEpoch};
pub use entry::{after, last_id};
pub use index::{Index, Subscriber};
pub use log::{Asker, Log, Lookup, NO_OFFSET, NoLog, OffsetsAt, Page, Place, ReplayLimits, TopicDescription};
pub use queue::{COALESCED_EVENTS_MAX, Pushed, Queue};
pub use replay::{Replay, cut};
pub use resume::{Plan, TimeStart, is_whole};
pub use state::{Cut, NoState, Table, TableConfig};
pub use window::{Hub, Seq};
