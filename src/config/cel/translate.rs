//! Translates the syntax tree of an expression.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};
use serde_json::Value;

use super::operators::{arithmetic, compared, operator};
use super::step::Step;
use super::{DEPTH_MAX, Mistake, Names};
use crate::config::diagnostic::{alternatives, did_you_mean};
use crate::rule::{Arithmetic, Expression, Input, Root, TextTest};

/// The most parts of an expression.
const PARTS_MAX: usize = 512;
/// The most values that an expression reads.
const INPUTS_MAX: usize = 64;
/// The longest path to a value, in names.
const NAMES_MAX: usize = 16;
/// The deepest nesting of macros.
const MACROS_MAX: usize = 2;

const VARIABLES: [&str; 3] = ["claims", "path", "event"];
const FUNCTIONS: [&str; 11] =
    ["has", "size", "string", "startsWith", "endsWith", "contains", "matches", "exists", "all", "map", "filter"];

/// The type of an expression, where it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flag,
    Number,
    Text,
    List,
    Null,
}

impl Kind {
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Flag => "`true` or `false`",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::List => "a list",
            Self::Null => "`null`",
        }
    }
}

pub(super) fn translate(
    tree: &IdedExpr,
    info: &SourceInfo,
    names: &Names,
) -> Result<(Expression, Vec<Input>), Vec<Mistake>> {
    let mut translator =
        Translator { info, names, inputs: Vec::new(), parts: 0, variables: Vec::new(), mistakes: Vec::new() };
    let expression = translator.operand(tree, 0, &[Kind::Flag]);
    match expression.filter(|_| translator.mistakes.is_empty()) {
        Some(expression) => Ok((expression, translator.inputs)),
        None => Err(translator.mistakes),
    }
}

pub(super) struct Translator<'a> {
    info: &'a SourceInfo,
    names: &'a Names,
    inputs: Vec<Input>,
    parts: usize,
    /// The variables of the surrounding macros, outermost first.
    variables: Vec<String>,
    mistakes: Vec<Mistake>,
}

impl Translator<'_> {
    /// `None` if it is invalid, which is reported.
    fn part(&mut self, tree: &IdedExpr, depth: u16) -> Option<Expression> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            // Once is enough.
            return if self.parts == PARTS_MAX + 1 {
                self.reject(tree, format!("the expression has more than {PARTS_MAX} parts"))
            } else {
                None
            };
        }
        if depth > DEPTH_MAX {
            return self.reject(tree, format!("the expression is nested deeper than {DEPTH_MAX}"));
        }
        if let Some((root, path)) = self.path(tree).filter(|(_, path)| !path.is_empty()) {
            return self.input(tree, root, path).map(Expression::Input);
        }
        match &tree.expr {
            Expr::Literal(literal) => self.literal(tree, literal),
            Expr::Ident(name) => self.variable(tree, name),
            Expr::Select(select) => {
                let name = || select.field.as_str().into();
                if select.test
                    && let Some((root, mut path)) = self.path(&select.operand)
                {
                    path.push(name());
                    return self.input(tree, root, path).map(Expression::Has);
                }
                let object = Box::new(self.part(&select.operand, depth + 1)?);
                Some(if select.test {
                    Expression::HasMember(object, name())
                } else {
                    Expression::Member(object, name())
                })
            }
            Expr::Call(call) => self.call(tree, call, depth + 1),
            Expr::List(list) => {
                let parts: Vec<_> = list.elements.iter().map(|element| self.part(element, depth + 1)).collect();
                Some(Expression::List(parts.into_iter().collect::<Option<_>>()?))
            }
            Expr::Comprehension(comprehension) => self.comprehension(tree, comprehension, depth + 1),
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                self.reject(tree, "rules have no maps and messages of their own")
            }
        }
    }

    /// A part that has one of these types, if its type is known.
    fn operand(&mut self, tree: &IdedExpr, depth: u16, kinds: &[Kind]) -> Option<Expression> {
        let part = self.part(tree, depth)?;
        match self.kind(&part).filter(|kind| !kinds.contains(kind)) {
            Some(found) => {
                let expected = kinds.iter().map(|kind| kind.describe()).collect::<Vec<_>>().join(" or ");
                self.report(tree, format!("found {}", found.describe()), Some(expected));
                None
            }
            None => Some(part),
        }
    }

    pub(super) fn boxed(&mut self, tree: &IdedExpr, depth: u16, kinds: &[Kind]) -> Option<Box<Expression>> {
        self.operand(tree, depth, kinds).map(Box::new)
    }

    fn literal(&mut self, tree: &IdedExpr, literal: &LiteralValue) -> Option<Expression> {
        let value = match literal {
            LiteralValue::Boolean(flag) => Value::from(*flag.inner()),
            LiteralValue::Int(number) => Value::from(*number.inner()),
            LiteralValue::UInt(number) => Value::from(*number.inner()),
            LiteralValue::Double(number) => Value::from(*number.inner()),
            LiteralValue::String(text) => Value::from(text.inner()),
            LiteralValue::Null => Value::Null,
            LiteralValue::Bytes(_) => return self.reject(tree, "events have no bytes to compare with"),
        };
        Some(Expression::Literal(value))
    }

    fn variable(&mut self, tree: &IdedExpr, name: &str) -> Option<Expression> {
        if let Some(n) = self.variables.iter().rev().position(|known| known == name) {
            return Some(Expression::Variable(n));
        }
        if VARIABLES.contains(&name) {
            return self.reject(tree, format!("`{name}` alone is no value: name a member of it"));
        }
        let known: Vec<&str> = VARIABLES.iter().copied().chain(self.variables.iter().map(String::as_str)).collect();
        let (hint, expected) = (did_you_mean(name, known.iter().copied()), alternatives(known.iter().copied()));
        self.report(tree, format!("there is no variable `{name}`{hint}"), Some(expected));
        None
    }

    /// The variable and the names of `claims.org.id` and `claims["org"].id`; no names for a variable alone.
    fn path(&self, tree: &IdedExpr) -> Option<(Root, Vec<Box<str>>)> {
        let mut names: Vec<Box<str>> = Vec::new();
        let mut at = tree;
        loop {
            match &at.expr {
                Expr::Select(select) if !select.test => {
                    names.push(select.field.as_str().into());
                    at = &select.operand;
                }
                Expr::Call(CallExpr { func_name, args, target: None }) if func_name == operators::INDEX => {
                    let [of, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }] = &args[..] else {
                        return None;
                    };
                    names.push(name.inner().into());
                    at = of;
                }
                Expr::Ident(name) if !self.variables.contains(name) => {
                    let root = match name.as_str() {
                        "claims" => Root::Claims,
                        "path" => Root::Path,
                        "event" => Root::Event,
                        _ => return None,
                    };
                    names.reverse();
                    return Some((root, names));
                }
                _ => return None,
            }
        }
    }

    /// The number of an input.
    fn input(&mut self, tree: &IdedExpr, root: Root, path: Vec<Box<str>>) -> Option<usize> {
        match root {
            Root::Claims if !self.names.has_claims => {
                return self.reject(tree, "a public route has no token, and so no claims");
            }
            Root::Path => {
                if let Some(parameters) = &self.names.parameters
                    && !matches!(&path[..], [only] if parameters.iter().any(|known| **known == **only))
                {
                    let known = || parameters.iter().map(String::as_str);
                    let written = path.join(".");
                    let hint = did_you_mean(&written, known());
                    self.report(
                        tree,
                        format!("the path has no parameter `{written}`{hint}"),
                        Some(alternatives(known())),
                    );
                    return None;
                }
            }
            Root::Claims | Root::Event => {}
        }
        if path.len() > NAMES_MAX {
            return self.reject(tree, format!("a path of more than {NAMES_MAX} names"));
        }
        let input = Input { root, path: path.into() };
        let n = self.inputs.iter().position(|known| *known == input).unwrap_or(self.inputs.len());
        if n == INPUTS_MAX {
            return self.reject(tree, format!("the expression reads more than {INPUTS_MAX} values"));
        }
        if n == self.inputs.len() {
            self.inputs.push(input);
        }
        Some(n)
    }

    fn call(&mut self, tree: &IdedExpr, call: &CallExpr, depth: u16) -> Option<Expression> {
        use Kind::{Flag, List, Number, Text};
        let args: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        Some(match (call.func_name.as_str(), call.target.is_some(), &args[..]) {
            (operators::LOGICAL_NOT, false, [part]) => Expression::Not(self.boxed(part, depth, &[Flag])?),
            (name @ (operators::LOGICAL_AND | operators::LOGICAL_OR), false, [one, other]) => {
                let parts = (self.boxed(one, depth, &[Flag]), self.boxed(other, depth, &[Flag]));
                let kind = if name == operators::LOGICAL_AND { Expression::And } else { Expression::Or };
                kind(parts.0?, parts.1?)
            }
            (operators::CONDITIONAL, false, [condition, then, otherwise]) => {
                let condition = self.boxed(condition, depth, &[Flag]);
                let parts = (self.part(then, depth), self.part(otherwise, depth));
                Expression::If(condition?, Box::new(parts.0?), Box::new(parts.1?))
            }
            (operators::INDEX, false, [of, index]) => {
                let of = self.boxed(of, depth, &[List]);
                Expression::Index(of?, self.boxed(index, depth, &[Number, Text])?)
            }
            (operators::IN, false, [one, other]) => {
                let one = self.part(one, depth);
                Expression::In(Box::new(one?), self.boxed(other, depth, &[List])?)
            }
            (operators::NEGATE, false, [part]) => {
                let zero = Box::new(Expression::Literal(0.into()));
                Expression::Calculate(Arithmetic::Subtract, zero, self.boxed(part, depth, &[Number])?)
            }
            (name, false, [one, other]) if arithmetic(name).is_some() => {
                return self.calculation(tree, arithmetic(name)?, (one, other), depth);
            }
            ("matches", _, [text, pattern]) => {
                let text = self.boxed(text, depth, &[Text]);
                let pattern = self.pattern(pattern);
                Expression::Matches(text?, pattern?)
            }
            ("size", _, [part]) => Expression::Size(self.boxed(part, depth, &[Text, List])?),
            ("string", false, [part]) => Expression::Text(self.boxed(part, depth, &[Flag, Number, Text])?),
            ("startsWith" | "endsWith" | "contains", true, [one, other]) => {
                let test = match call.func_name.as_str() {
                    "startsWith" => TextTest::StartsWith,
                    "endsWith" => TextTest::EndsWith,
                    _ => TextTest::Contains,
                };
                let parts = (self.boxed(one, depth, &[Text]), self.boxed(other, depth, &[Text]));
                Expression::TextTest(test, parts.0?, parts.1?)
            }
            (name, false, [one, other]) if compared(name).is_some() => {
                return self.comparison(tree, compared(name)?, (one, other), depth);
            }
            (name, ..) => {
                let message = match operator(name) {
                    Some(operator) => format!("rules have no operator `{operator}`"),
                    None => {
                        format!("there is no function `{name}` with these arguments{}", did_you_mean(name, FUNCTIONS))
                    }
                };
                self.report(tree, message, Some(alternatives(FUNCTIONS)));
                return None;
            }
        })
    }

    /// A macro that the parser has expanded.
    fn comprehension(&mut self, tree: &IdedExpr, macro_: &ComprehensionExpr, depth: u16) -> Option<Expression> {
        let Some(step) = Step::of(macro_) else {
            return self.reject(tree, "of the macros, rules have only `has`, `exists`, `all`, `map` and `filter`");
        };
        if self.variables.len() == MACROS_MAX {
            return self.reject(tree, format!("macros are nested deeper than {MACROS_MAX}"));
        }
        if VARIABLES.contains(&macro_.iter_var.as_str()) || self.variables.contains(&macro_.iter_var) {
            return self.reject(tree, format!("`{}` is a variable already", macro_.iter_var));
        }
        let list = self.boxed(&macro_.iter_range, depth, &[Kind::List]);
        self.variables.push(macro_.iter_var.clone());
        let expression = match step {
            Step::Exists(predicate) => {
                self.boxed(predicate, depth, &[Kind::Flag]).zip(list).map(|(part, list)| Expression::Exists(list, part))
            }
            Step::All(predicate) => {
                self.boxed(predicate, depth, &[Kind::Flag]).zip(list).map(|(part, list)| Expression::All(list, part))
            }
            Step::Map { filter, element } => {
                let filter = filter.map(|filter| self.boxed(filter, depth, &[Kind::Flag]));
                let element = self.part(element, depth).map(Box::new);
                let is_valid = !matches!(filter, Some(None));
                let parts = list.zip(element).filter(|_| is_valid);
                parts.map(|(list, element)| Expression::Map { list, filter: filter.flatten(), element })
            }
        };
        self.variables.pop();
        expression
    }

    pub(super) fn kind(&self, part: &Expression) -> Option<Kind> {
        match part {
            Expression::Literal(Value::Bool(_)) => Some(Kind::Flag),
            Expression::Literal(Value::Number(_)) | Expression::Size(_) => Some(Kind::Number),
            Expression::Literal(Value::String(_)) | Expression::Text(_) => Some(Kind::Text),
            Expression::Calculate(Arithmetic::Add, one, other) => self.kind(one).or_else(|| self.kind(other)),
            Expression::Calculate(..) => Some(Kind::Number),
            Expression::Literal(Value::Null) => Some(Kind::Null),
            Expression::Has(_)
            | Expression::HasMember(..)
            | Expression::Not(_)
            | Expression::And(..)
            | Expression::Or(..)
            | Expression::Compare(..)
            | Expression::In(..)
            | Expression::TextTest(..)
            | Expression::Matches(..)
            | Expression::Exists(..)
            | Expression::All(..) => Some(Kind::Flag),
            Expression::List(_) | Expression::Map { .. } => Some(Kind::List),
            Expression::If(_, then, otherwise) => self.kind(then).filter(|kind| self.kind(otherwise) == Some(*kind)),
            Expression::Input(n) => self.inputs.get(*n).and_then(input_kind),
            Expression::Literal(_) | Expression::Variable(_) | Expression::Member(..) | Expression::Index(..) => None,
        }
    }

    pub(super) fn reject<T>(&mut self, tree: &IdedExpr, message: impl Into<String>) -> Option<T> {
        self.report(tree, message, None);
        None
    }

    fn report(&mut self, tree: &IdedExpr, message: impl Into<String>, expected: Option<String>) {
        let start = self.info.offset_for(tree.id).map(|(start, _)| start as usize);
        let before = start.and_then(|start| self.info.source.get(..start));
        let line_and_column = before.map(|before| {
            let line = before.rsplit('\n').next().unwrap_or_default();
            (before.matches('\n').count() + 1, line.chars().count() + 1)
        });
        self.mistakes.push(Mistake { line_and_column, message: message.into(), expected });
    }
}

/// The inputs whose type is known.
fn input_kind(input: &Input) -> Option<Kind> {
    match (input.root, &*input.path) {
        (Root::Path, _) => Some(Kind::Text),
        (Root::Event, [name]) if matches!(&**name, "id" | "type") => Some(Kind::Text),
        (Root::Event, [name]) if **name == *"ts" => Some(Kind::Number),
        _ => None,
    }
}
