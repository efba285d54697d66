//! The operators of rules, on values: comparison, arithmetic, texts and lists. Each takes steps for what it reads.
//!
//! Integers are exact, from -2^63 to 2^64 - 1. If one of two numbers is a double, both are: JSON does not distinguish
//! `7` and `7.0`. A double that may be rounded already is a failure.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::expression::{Arithmetic, Compared, TextTest};
use super::failure::{Failure, Stop};
use super::input::VALUE_BYTES_MAX;
use super::pattern::{MATCHED_BYTES_MAX, Pattern};
use super::steps::Steps;

/// Doubles from here on are not exact integers: two different numbers of a text may be the same double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

impl Steps {
    pub(super) fn compare(&self, how: Compared, one: &Value, other: &Value) -> Result<bool, Stop> {
        if matches!(how, Compared::Equal | Compared::Unequal) {
            return Ok(self.is_equal(one, other)? == (how == Compared::Equal));
        }
        let order = match (one, other) {
            (Value::Number(one), Value::Number(other)) => order(one, other)?,
            // CEL: false is less than true.
            (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
            (Value::String(one), Value::String(other)) => {
                self.read(one.len().min(other.len()))?;
                one.cmp(other)
            }
            _ => return Err(Failure::Type.into()),
        };
        Ok(match how {
            Compared::Less => order.is_lt(),
            Compared::LessOrEqual => order.is_le(),
            Compared::Greater => order.is_gt(),
            Compared::GreaterOrEqual | Compared::Equal | Compared::Unequal => order.is_ge(),
        })
    }

    fn is_equal(&self, one: &Value, other: &Value) -> Result<bool, Stop> {
        self.take(1)?;
        match (one, other) {
            (Value::Number(one), Value::Number(other)) => Ok(order(one, other)?.is_eq()),
            (Value::String(one), Value::String(other)) => {
                self.read(one.len().min(other.len()))?;
                Ok(one == other)
            }
            (Value::Array(one), Value::Array(other)) => {
                if one.len() != other.len() {
                    return Ok(false);
                }
                for (one, other) in one.iter().zip(other) {
                    if !self.is_equal(one, other)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Object(one), Value::Object(other)) => {
                if one.len() != other.len() {
                    return Ok(false);
                }
                for (name, one) in one {
                    match other.get(name) {
                        Some(other) if self.is_equal(one, other)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(true)
            }
            (one, other) => Ok(one == other),
        }
    }

    pub(super) fn is_in(&self, one: &Value, other: &Value) -> Result<bool, Stop> {
        match (one, other) {
            (one, Value::Array(elements)) => {
                for element in elements {
                    if self.is_equal(one, element)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Value::String(name), Value::Object(members)) => Ok(members.contains_key(name)),
            // Numbers and booleans are keys of maps in CEL; the names of an object are strings.
            (Value::Number(_) | Value::Bool(_), Value::Object(_)) => Ok(false),
            _ => Err(Failure::Type.into()),
        }
    }

    pub(super) fn calculate(&self, how: Arithmetic, one: &Value, other: &Value) -> Result<Value, Stop> {
        match (how, one, other) {
            (_, Value::Number(one), Value::Number(other)) => Ok(Value::Number(calculate(how, one, other)?)),
            (Arithmetic::Add, Value::String(one), Value::String(other)) => {
                self.read(one.len() + other.len())?;
                if one.len() + other.len() > VALUE_BYTES_MAX {
                    return Err(Failure::Unusable.into());
                }
                Ok([one.as_str(), other].concat().into())
            }
            (Arithmetic::Add, Value::Array(first), Value::Array(second)) => {
                self.copy(one)?;
                self.copy(other)?;
                Ok(Value::Array([first.as_slice(), second].concat()))
            }
            _ => Err(Failure::Type.into()),
        }
    }

    pub(super) fn size(&self, value: &Value) -> Result<usize, Stop> {
        match value {
            Value::String(text) => {
                self.read(text.len())?;
                Ok(text.chars().count())
            }
            Value::Array(elements) => Ok(elements.len()),
            Value::Object(members) => Ok(members.len()),
            _ => Err(Failure::Type.into()),
        }
    }

    pub(super) fn test(&self, test: TextTest, text: &Value, part: &Value) -> Result<bool, Stop> {
        let (text, part) = (as_str(text)?, as_str(part)?);
        self.read(text.len().max(part.len()))?;
        Ok(match test {
            TextTest::StartsWith => text.starts_with(part),
            TextTest::EndsWith => text.ends_with(part),
            TextTest::Contains => text.contains(part),
        })
    }

    pub(super) fn matches(&self, pattern: &Pattern, text: &Value) -> Result<bool, Stop> {
        let text = as_str(text)?;
        if text.len() > MATCHED_BYTES_MAX {
            return Err(Failure::LongText.into());
        }
        self.match_text(text.len())?;
        Ok(pattern.is_in(text))
    }
}

fn as_str(value: &Value) -> Result<&str, Stop> {
    value.as_str().ok_or(Stop::Failed(Failure::Type))
}

/// The order of two numbers.
fn order(one: &Number, other: &Number) -> Result<Ordering, Stop> {
    if let (Some(one), Some(other)) = (integer(one), integer(other)) {
        return Ok(one.cmp(&other));
    }
    let (one, other) = (double(one)?, double(other)?);
    one.partial_cmp(&other).ok_or(Stop::Failed(Failure::Inexact))
}

fn calculate(how: Arithmetic, one: &Number, other: &Number) -> Result<Number, Stop> {
    let result = match (integer(one), integer(other)) {
        (Some(a), Some(b)) => {
            let result = match how {
                Arithmetic::Add => a.checked_add(b),
                Arithmetic::Subtract => a.checked_sub(b),
                Arithmetic::Multiply => a.checked_mul(b),
                Arithmetic::Divide => a.checked_div(b),
                Arithmetic::Remainder => a.checked_rem(b),
            };
            let is_signed = one.is_i64() && other.is_i64();
            result.and_then(|result| match i64::try_from(result) {
                Ok(result) => Some(Number::from(result)),
                Err(_) if is_signed => None,
                Err(_) => u64::try_from(result).ok().map(Number::from),
            })
        }
        _ => {
            let (a, b) = (double(one)?, double(other)?);
            Number::from_f64(match how {
                Arithmetic::Add => a + b,
                Arithmetic::Subtract => a - b,
                Arithmetic::Multiply => a * b,
                Arithmetic::Divide => a / b,
                Arithmetic::Remainder => return Err(Failure::Type.into()),
            })
        }
    };
    result.ok_or(Stop::Failed(Failure::Arithmetic))
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// A number as a double, if it was not rounded.
fn double(number: &Number) -> Result<f64, Stop> {
    number.as_f64().filter(|double| double.abs() < EXACT_MAX).ok_or(Stop::Failed(Failure::Inexact))
}
