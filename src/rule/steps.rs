//! The steps of one evaluation, which are limited.

use std::cell::Cell;

use serde_json::Value;

use super::failure::{Failure, Stop};

/// The most steps of one evaluation: a step is a part of the expression, an element of a list, [`STEP_BYTES`] of text,
/// or [`MATCHED_STEP_BYTES`] of a text that a pattern is applied to.
pub const STEPS_MAX: u32 = 10_000;

const STEP_BYTES: usize = 64;
const MATCHED_STEP_BYTES: usize = 4;

/// The steps that an evaluation has taken.
#[derive(Debug, Default)]
pub(super) struct Steps(Cell<u32>);

impl Steps {
    pub(super) fn take(&self, count: usize) -> Result<(), Stop> {
        let steps = self.0.get().saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        self.0.set(steps);
        if steps > STEPS_MAX { Err(Failure::Steps.into()) } else { Ok(()) }
    }

    /// Takes the steps of reading a text of this many bytes.
    pub(super) fn read(&self, bytes: usize) -> Result<(), Stop> {
        self.take(bytes / STEP_BYTES)
    }

    /// Takes the steps of applying a pattern to a text of this many bytes.
    pub(super) fn match_text(&self, bytes: usize) -> Result<(), Stop> {
        self.take(1 + bytes / MATCHED_STEP_BYTES)
    }

    /// Takes the steps of copying a value.
    pub(super) fn copy(&self, value: &Value) -> Result<(), Stop> {
        self.take(weight(value))
    }
}

fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => 1 + text.len() / STEP_BYTES,
        Value::Array(elements) => 1 + elements.iter().map(weight).sum::<usize>(),
        Value::Object(members) => {
            1 + members.iter().map(|(name, member)| name.len() / STEP_BYTES + weight(member)).sum::<usize>()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}
