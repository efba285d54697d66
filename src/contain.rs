//! Bounds what a bug of ours costs: one record, or one connection, rather than the thread that serves all of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a part that a bug may end; nothing where it panicked. What it had begun to change is the caller's to give up.
pub(crate) fn contain<T>(part: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(part)).ok()
}
