//! Evaluates an expression with a limited number of steps.
//!
//! The semantics are CEL's: values of different types are unequal, numbers of different types are compared as numbers,
//! and an error in one operand of `&&` or `||` does not count if the other one decides. A value of an event is unknown
//! as long as there is no event, and spreads like an error.

use std::borrow::Cow;

use serde_json::Value;

use super::expression::Expression;
use super::failure::{Failure, Stop};
use super::input::Slot;
use super::steps::Steps;

type Found<'a> = Result<Cow<'a, Value>, Stop>;

/// One evaluation.
pub(super) struct Evaluation<'a> {
    known: &'a [Option<Slot>],
    event: Option<&'a [Option<Slot>]>,
    steps: Steps,
}

/// The variables of the surrounding macros, innermost first.
#[derive(Clone, Copy)]
struct Variables<'a> {
    value: &'a Value,
    outer: Option<&'a Self>,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(known: &'a [Option<Slot>], event: Option<&'a [Option<Slot>]>) -> Self {
        Self { known, event, steps: Steps::default() }
    }

    pub(super) fn decide(&self, expression: &Expression) -> Result<bool, Stop> {
        self.flag(expression, None)
    }

    fn value<'e>(&'e self, expression: &'e Expression, variables: Option<&'e Variables<'e>>) -> Found<'e> {
        self.steps.take(1)?;
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
                    self.steps.copy(&part)?;
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
            Expression::Compare(how, one, other) => flag(self.steps.compare(*how, &*value(one)?, &*value(other)?)?),
            Expression::In(one, other) => flag(self.steps.is_in(&*value(one)?, &*value(other)?)?),
            Expression::Calculate(how, one, other) => {
                Cow::Owned(self.steps.calculate(*how, &*value(one)?, &*value(other)?)?)
            }
            Expression::Size(part) => Cow::Owned(self.steps.size(&*value(part)?)?.into()),
            Expression::Text(part) => as_text(value(part)?)?,
            Expression::TextTest(test, one, other) => flag(self.steps.test(*test, &*value(one)?, &*value(other)?)?),
            Expression::Matches(text, pattern) => flag(self.steps.matches(pattern, &*value(text)?)?),
            Expression::Exists(list, predicate) => flag(self.any(true, &*value(list)?, predicate, variables)?),
            Expression::All(list, predicate) => flag(self.any(false, &*value(list)?, predicate, variables)?),
            Expression::Map { list, filter, element } => {
                Cow::Owned(self.map(&*value(list)?, filter.as_deref(), element, variables)?)
            }
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
        let is_decided = any_element(list, |value| {
            let variables = Variables { value, outer };
            undecided.adds(self.flag(predicate, Some(&variables)), decisive)
        })?;
        if is_decided { Ok(decisive) } else { undecided.or(!decisive) }
    }

    /// `map` and `filter`: a list of the results of `element`, for the elements that pass the filter.
    fn map(
        &self,
        list: &Value,
        filter: Option<&Expression>,
        element: &Expression,
        outer: Option<&Variables<'_>>,
    ) -> Result<Value, Stop> {
        let mut results = Vec::new();
        any_element(list, |value| {
            let variables = Variables { value, outer };
            let passes = filter.map_or(Ok(true), |filter| self.flag(filter, Some(&variables)))?;
            if passes {
                let result = self.value(element, Some(&variables))?;
                self.steps.copy(&result)?;
                results.push(result.into_owned());
            }
            Ok(false)
        })?;
        Ok(Value::Array(results))
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
}

/// Whether `is_it` is true for an element of a list, or for a name of an object; the others are not looked at.
fn any_element(list: &Value, mut is_it: impl FnMut(&Value) -> Result<bool, Stop>) -> Result<bool, Stop> {
    match list {
        Value::Array(elements) => {
            for element in elements {
                if is_it(element)? {
                    return Ok(true);
                }
            }
        }
        Value::Object(members) => {
            for name in members.keys() {
                if is_it(&Value::from(name.as_str()))? {
                    return Ok(true);
                }
            }
        }
        _ => return Err(Failure::Type.into()),
    }
    Ok(false)
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

fn flag(flag: bool) -> Cow<'static, Value> {
    Cow::Owned(Value::Bool(flag))
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
