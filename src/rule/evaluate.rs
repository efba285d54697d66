//! Evaluates an expression with a limited number of steps.
//!
//! The semantics are CEL's: values of different types are unequal, numbers of different types are compared as numbers,
//! and an error in one operand of `&&` or `||` does not count if the other one decides. A value of an event is unknown
//! as long as there is no event, and spreads like an error.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::expression::{Compared, Expression, TextTest};
use super::input::{Slot, VALUE_BYTES_MAX};

/// The most steps of one evaluation: a step is a part of the expression, an element of a list, or [`STEP_BYTES`] of
/// text.
pub const STEPS_MAX: u32 = 10_000;

const STEP_BYTES: usize = 64;

/// Doubles from here on are not exact integers: two different numbers of a text may be the same double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Why a rule failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("a value that it reads is missing")]
    Missing,
    #[error("a value has another type than an operator needs")]
    Type,
    #[error("a number is too large to be compared exactly")]
    Inexact,
    #[error("a value is longer than {VALUE_BYTES_MAX} bytes, or cannot be read")]
    Unusable,
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

type Found<'a> = Result<Cow<'a, Value>, Stop>;

/// One evaluation.
pub(super) struct Evaluation<'a> {
    known: &'a [Option<Slot>],
    event: Option<&'a [Option<Slot>]>,
    steps: Cell<u32>,
}

/// The variables of the surrounding macros, innermost first.
#[derive(Clone, Copy)]
struct Variables<'a> {
    value: &'a Value,
    outer: Option<&'a Self>,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(known: &'a [Option<Slot>], event: Option<&'a [Option<Slot>]>) -> Self {
        Self { known, event, steps: Cell::new(0) }
    }

    pub(super) fn decide(&self, expression: &Expression) -> Result<bool, Stop> {
        self.flag(expression, None)
    }

    fn step(&self, count: usize) -> Result<(), Stop> {
        let steps = self.steps.get().saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        self.steps.set(steps);
        if steps > STEPS_MAX { Err(Failure::Steps.into()) } else { Ok(()) }
    }

    fn value<'e>(&'e self, expression: &'e Expression, variables: Option<&'e Variables<'e>>) -> Found<'e> {
        self.step(1)?;
        let value = |part| self.value(part, variables);
        Ok(match expression {
            Expression::Literal(value) => Cow::Borrowed(value),
            Expression::Input(n) => match self.slot(*n)? {
                Slot::Found(value) => Cow::Borrowed(value),
                Slot::Missing | Slot::NoObject => return Err(Failure::Missing.into()),
                Slot::Unusable => return Err(Failure::Unusable.into()),
            },
            Expression::Has(n) => match self.slot(*n)? {
                Slot::Found(_) => flag(true),
                Slot::Missing => flag(false),
                Slot::NoObject => return Err(Failure::Missing.into()),
                // It is there.
                Slot::Unusable => return Err(Failure::Unusable.into()),
            },
            Expression::Variable(n) => {
                let mut at = variables;
                for _ in 0..*n {
                    at = at.and_then(|variables| variables.outer);
                }
                Cow::Borrowed(at.ok_or(Failure::Missing)?.value)
            }
            Expression::Member(object, name) => member(value(object)?, name)?.ok_or(Failure::Missing)?,
            Expression::HasMember(object, name) => flag(member(value(object)?, name)?.is_some()),
            Expression::Index(of, index) => self.index(value(of)?, &*value(index)?)?,
            Expression::List(parts) => {
                let parts = parts.iter().map(|part| {
                    let part = value(part)?;
                    self.step(weight(&part))?;
                    Ok(part.into_owned())
                });
                Cow::Owned(Value::Array(parts.collect::<Result<_, Stop>>()?))
            }
            Expression::Not(part) => flag(!self.flag(part, variables)?),
            Expression::And(one, other) => flag(self.decided_by(false, one, other, variables)?),
            Expression::Or(one, other) => flag(self.decided_by(true, one, other, variables)?),
            Expression::If(condition, then, otherwise) => {
                return value(if self.flag(condition, variables)? { then } else { otherwise });
            }
            Expression::Compare(how, one, other) => flag(self.compare(*how, &*value(one)?, &*value(other)?)?),
            Expression::In(one, other) => flag(self.is_in(&*value(one)?, &*value(other)?)?),
            Expression::Join(one, other) => {
                let (one, other) = (value(one)?, value(other)?);
                let joined = [text(&one)?, text(&other)?].concat();
                self.step(joined.len() / STEP_BYTES)?;
                if joined.len() > VALUE_BYTES_MAX {
                    return Err(Failure::Unusable.into());
                }
                Cow::Owned(Value::String(joined))
            }
            Expression::Size(part) => Cow::Owned(self.size(&*value(part)?)?.into()),
            Expression::Text(part) => as_text(value(part)?)?,
            Expression::TextTest(test, one, other) => {
                let (one, other) = (value(one)?, value(other)?);
                flag(self.test(*test, text(&one)?, text(&other)?)?)
            }
            Expression::Exists(list, predicate) => flag(self.any(true, &*value(list)?, predicate, variables)?),
            Expression::All(list, predicate) => flag(self.any(false, &*value(list)?, predicate, variables)?),
        })
    }

    fn slot(&self, n: usize) -> Result<&Slot, Stop> {
        let of = |slots: &'a [Option<Slot>]| slots.get(n).and_then(Option::as_ref);
        match (of(self.known), self.event) {
            (Some(slot), _) => Ok(slot),
            (None, Some(event)) => of(event).ok_or(Stop::Failed(Failure::Missing)),
            (None, None) => Err(Stop::Unknown),
        }
    }

    fn flag(&self, expression: &Expression, variables: Option<&Variables<'_>>) -> Result<bool, Stop> {
        match &*self.value(expression, variables)? {
            Value::Bool(flag) => Ok(*flag),
            _ => Err(Failure::Type.into()),
        }
    }

    /// `&&` and `||`: an operand that is `decisive` decides, whatever the other one is.
    fn decided_by(
        &self,
        decisive: bool,
        one: &Expression,
        other: &Expression,
        variables: Option<&Variables<'_>>,
    ) -> Result<bool, Stop> {
        let mut undecided = Undecided::default();
        for part in [one, other] {
            if undecided.adds(self.flag(part, variables), decisive)? {
                return Ok(decisive);
            }
        }
        undecided.or(!decisive)
    }

    /// `exists` and `all`: an element for which the predicate is `decisive` decides.
    fn any(
        &self,
        decisive: bool,
        list: &Value,
        predicate: &Expression,
        outer: Option<&Variables<'_>>,
    ) -> Result<bool, Stop> {
        let mut undecided = Undecided::default();
        let mut is_decided_by = |value: &Value| {
            let variables = Variables { value, outer };
            undecided.adds(self.flag(predicate, Some(&variables)), decisive)
        };
        match list {
            Value::Array(elements) => {
                for element in elements {
                    if is_decided_by(element)? {
                        return Ok(decisive);
                    }
                }
            }
            Value::Object(members) => {
                for name in members.keys() {
                    if is_decided_by(&Value::from(name.as_str()))? {
                        return Ok(decisive);
                    }
                }
            }
            _ => return Err(Failure::Type.into()),
        }
        undecided.or(!decisive)
    }

    fn index<'v>(&self, of: Cow<'v, Value>, index: &Value) -> Found<'v> {
        match (&*of, index) {
            (Value::Object(_), Value::String(name)) => Ok(member(of, name)?.ok_or(Failure::Missing)?),
            (Value::Array(_), Value::Number(n)) => {
                let n = n.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or(Failure::Missing)?;
                let element = match of {
                    Cow::Borrowed(Value::Array(elements)) => elements.get(n).map(Cow::Borrowed),
                    Cow::Owned(Value::Array(mut elements)) if n < elements.len() => {
                        Some(Cow::Owned(elements.swap_remove(n)))
                    }
                    _ => None,
                };
                Ok(element.ok_or(Failure::Missing)?)
            }
            _ => Err(Failure::Type.into()),
        }
    }

    fn compare(&self, how: Compared, one: &Value, other: &Value) -> Result<bool, Stop> {
        if matches!(how, Compared::Equal | Compared::Unequal) {
            return Ok(self.is_equal(one, other)? == (how == Compared::Equal));
        }
        let order = match (one, other) {
            (Value::Number(one), Value::Number(other)) => order(one, other)?,
            // CEL: false is less than true.
            (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
            (Value::String(one), Value::String(other)) => {
                self.step(one.len().min(other.len()) / STEP_BYTES)?;
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
        self.step(1)?;
        match (one, other) {
            (Value::Number(one), Value::Number(other)) => Ok(order(one, other)?.is_eq()),
            (Value::String(one), Value::String(other)) => {
                self.step(one.len().min(other.len()) / STEP_BYTES)?;
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

    fn is_in(&self, one: &Value, other: &Value) -> Result<bool, Stop> {
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
            _ => Err(Failure::Type.into()),
        }
    }

    fn size(&self, value: &Value) -> Result<usize, Stop> {
        match value {
            Value::String(text) => {
                self.step(text.len() / STEP_BYTES)?;
                Ok(text.chars().count())
            }
            Value::Array(elements) => Ok(elements.len()),
            Value::Object(members) => Ok(members.len()),
            _ => Err(Failure::Type.into()),
        }
    }

    fn test(&self, test: TextTest, text: &str, part: &str) -> Result<bool, Stop> {
        self.step(text.len().max(part.len()) / STEP_BYTES)?;
        Ok(match test {
            TextTest::StartsWith => text.starts_with(part),
            TextTest::EndsWith => text.ends_with(part),
            TextTest::Contains => text.contains(part),
        })
    }
}

/// The operands of `&&`, `||`, `exists` and `all` so far, of which none decides.
#[derive(Default)]
struct Undecided(Option<Stop>);

impl Undecided {
    /// Whether this operand decides. Too many steps end the evaluation.
    fn adds(&mut self, operand: Result<bool, Stop>, decisive: bool) -> Result<bool, Stop> {
        match operand {
            Ok(flag) => return Ok(flag == decisive),
            Err(stop @ Stop::Failed(Failure::Steps)) => return Err(stop),
            Err(Stop::Unknown) => self.0 = Some(Stop::Unknown),
            Err(stop) => drop(self.0.get_or_insert(stop)),
        }
        Ok(false)
    }

    fn or(self, flag: bool) -> Result<bool, Stop> {
        self.0.map_or(Ok(flag), Err)
    }
}

/// The steps that a copy of a value costs.
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

fn flag(flag: bool) -> Cow<'static, Value> {
    Cow::Owned(Value::Bool(flag))
}

fn text(value: &Value) -> Result<&str, Stop> {
    value.as_str().ok_or(Stop::Failed(Failure::Type))
}

fn as_text(value: Cow<'_, Value>) -> Found<'_> {
    match &*value {
        Value::String(_) => Ok(value),
        Value::Number(number) if !number.is_f64() => Ok(Cow::Owned(number.to_string().into())),
        Value::Bool(flag) => Ok(Cow::Owned(flag.to_string().into())),
        _ => Err(Failure::Type.into()),
    }
}

fn member<'v>(object: Cow<'v, Value>, name: &str) -> Result<Option<Cow<'v, Value>>, Stop> {
    match object {
        Cow::Borrowed(Value::Object(members)) => Ok(members.get(name).map(Cow::Borrowed)),
        Cow::Owned(Value::Object(mut members)) => Ok(members.remove(name).map(Cow::Owned)),
        _ => Err(Failure::Type.into()),
    }
}

/// The order of two numbers. Integers are compared exactly; a double that may be rounded is not compared.
fn order(one: &Number, other: &Number) -> Result<Ordering, Stop> {
    if let (Some(one), Some(other)) = (integer(one), integer(other)) {
        return Ok(one.cmp(&other));
    }
    let (one, other) = (one.as_f64(), other.as_f64());
    let (Some(one), Some(other)) = (one.filter(is_exact), other.filter(is_exact)) else {
        return Err(Failure::Inexact.into());
    };
    one.partial_cmp(&other).ok_or(Stop::Failed(Failure::Inexact))
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn is_exact(double: &f64) -> bool {
    double.abs() < EXACT_MAX
}
