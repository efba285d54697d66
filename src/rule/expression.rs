//! The expressions of rules, as compiled: a part of CEL (the Common Expression Language).

use serde_json::Value;

use super::pattern::Pattern;

/// An expression. Its depth is bounded by who compiles it: evaluation recurses.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// `"a"`, `7`, `true`, `null`.
    Literal(Value),
    /// `claims.sub`, by the number of the input.
    Input(usize),
    /// `has(event.data.a)`, by the number of the input.
    Has(usize),
    /// The variable of a macro: 0 is that of the innermost one.
    Variable(usize),
    /// `x.name`, where `x` is not an input.
    Member(Box<Self>, Box<str>),
    /// `has(x.name)`, where `x` is not an input.
    HasMember(Box<Self>, Box<str>),
    /// `x[0]`.
    Index(Box<Self>, Box<Self>),
    /// `[a, b]`.
    List(Box<[Self]>),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    /// `a ? b : c`.
    If(Box<Self>, Box<Self>, Box<Self>),
    Compare(Compared, Box<Self>, Box<Self>),
    /// `a in b`.
    In(Box<Self>, Box<Self>),
    /// `a - b`, and `a + b` of numbers, texts or lists.
    Calculate(Arithmetic, Box<Self>, Box<Self>),
    /// `size(a)`.
    Size(Box<Self>),
    /// `string(a)`.
    Text(Box<Self>),
    /// `a.startsWith(b)`.
    TextTest(TextTest, Box<Self>, Box<Self>),
    /// `a.matches("^b")`.
    Matches(Box<Self>, Pattern),
    /// `list.exists(x, predicate)`.
    Exists(Box<Self>, Box<Self>),
    /// `list.all(x, predicate)`.
    All(Box<Self>, Box<Self>),
    /// `list.map(x, element)`, `list.map(x, filter, element)` and `list.filter(x, filter)`.
    Map {
        list: Box<Self>,
        filter: Option<Box<Self>>,
        element: Box<Self>,
    },
}

/// An operation on numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    /// Of integers only.
    Remainder,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A test of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}
