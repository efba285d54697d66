//! Operators of two values, and patterns.

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};

use super::translate::{Kind, Translator};
use crate::rule::{Arithmetic, Compared, Expression, Pattern};

impl Translator<'_> {
    pub(super) fn comparison(
        &mut self,
        tree: &IdedExpr,
        how: Compared,
        operands: (&IdedExpr, &IdedExpr),
        depth: u16,
    ) -> Option<Expression> {
        let kinds: &[Kind] = match how {
            Compared::Equal | Compared::Unequal => &[Kind::Flag, Kind::Number, Kind::Text, Kind::List, Kind::Null],
            _ => &[Kind::Number, Kind::Text],
        };
        let (one, other) = self.alike(tree, operands, depth, kinds, "are never equal")?;
        Some(Expression::Compare(how, one, other))
    }

    pub(super) fn calculation(
        &mut self,
        tree: &IdedExpr,
        how: Arithmetic,
        operands: (&IdedExpr, &IdedExpr),
        depth: u16,
    ) -> Option<Expression> {
        let kinds: &[Kind] =
            if how == Arithmetic::Add { &[Kind::Number, Kind::Text, Kind::List] } else { &[Kind::Number] };
        let (one, other) = self.alike(tree, operands, depth, kinds, "have no sum")?;
        Some(Expression::Calculate(how, one, other))
    }

    /// Two operands of one of these kinds. `why` is the error if their kinds differ.
    fn alike(
        &mut self,
        tree: &IdedExpr,
        (one, other): (&IdedExpr, &IdedExpr),
        depth: u16,
        kinds: &[Kind],
        why: &str,
    ) -> Option<(Box<Expression>, Box<Expression>)> {
        let parts = (self.boxed(one, depth, kinds), self.boxed(other, depth, kinds));
        let (one, other) = (parts.0?, parts.1?);
        match (self.kind(&one), self.kind(&other)) {
            (Some(first), Some(second)) if first != second => {
                self.reject(tree, format!("{} and {} {why}", first.describe(), second.describe()))
            }
            _ => Some((one, other)),
        }
    }

    /// A pattern is compiled with the rule, so it is a constant.
    pub(super) fn pattern(&mut self, tree: &IdedExpr) -> Option<Pattern> {
        let Expr::Literal(LiteralValue::String(source)) = &tree.expr else {
            return self.reject(tree, "the pattern of `matches` must be written as a text");
        };
        match Pattern::new(source.inner()) {
            Ok(pattern) => Some(pattern),
            Err(error) => self.reject(tree, format!("the pattern is invalid: {error}")),
        }
    }
}

pub(super) fn arithmetic(operator: &str) -> Option<Arithmetic> {
    Some(match operator {
        operators::ADD => Arithmetic::Add,
        operators::SUBSTRACT => Arithmetic::Subtract,
        operators::MULTIPLY => Arithmetic::Multiply,
        operators::DIVIDE => Arithmetic::Divide,
        operators::MODULO => Arithmetic::Remainder,
        _ => return None,
    })
}

pub(super) fn compared(operator: &str) -> Option<Compared> {
    Some(match operator {
        operators::EQUALS => Compared::Equal,
        operators::NOT_EQUALS => Compared::Unequal,
        operators::LESS => Compared::Less,
        operators::LESS_EQUALS => Compared::LessOrEqual,
        operators::GREATER => Compared::Greater,
        operators::GREATER_EQUALS => Compared::GreaterOrEqual,
        _ => return None,
    })
}

/// An operator as written, from its name in the syntax tree.
pub(super) fn operator(name: &str) -> Option<&str> {
    let operator = name.trim_matches('_');
    (operator != name).then_some(operator)
}
