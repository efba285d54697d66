//! The expressions of rules, as compiled: a part of CEL (the Common Expression Language).

use serde_json::Value;

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
    /// `a + b` of texts.
    Join(Box<Self>, Box<Self>),
    /// `size(a)`.
    Size(Box<Self>),
    /// `string(a)`.
    Text(Box<Self>),
    /// `a.startsWith(b)`.
    TextTest(TextTest, Box<Self>, Box<Self>),
    /// `list.exists(x, predicate)`.
    Exists(Box<Self>, Box<Self>),
    /// `list.all(x, predicate)`.
    All(Box<Self>, Box<Self>),
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
