//! Contains panics: a bug ends one record or connection instead of the thread that serves all of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `part`; `None` if it panicked. The caller discards the state that `part` was changing.
pub(crate) fn contain<T>(part: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(part)).ok()
}
