//! Why an evaluation has no value.

use super::input::VALUE_BYTES_MAX;
use super::pattern::MATCHED_BYTES_MAX;
use super::steps::STEPS_MAX;

/// Why a rule failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("a value that it reads is missing")]
    Missing,
    #[error("a value has another type than an operator needs")]
    Type,
    #[error("a number is too large to be compared or calculated with exactly")]
    Inexact,
    #[error("a result is too large for a number, or a number is divided by zero")]
    Arithmetic,
    #[error("a value is longer than {VALUE_BYTES_MAX} bytes, or cannot be read")]
    Unusable,
    #[error("a text that a pattern is applied to is longer than {MATCHED_BYTES_MAX} bytes")]
    LongText,
    #[error("it takes more than {STEPS_MAX} steps")]
    Steps,
    #[error("it panicked, which is a bug of sidestream")]
    Panicked,
}

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It depends on the event.
    Unknown,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
