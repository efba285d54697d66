//! The macros of CEL, recognized by the loops into which the parser expands them.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, operators};

/// The variable of a macro's result; no identifier of an expression has this name.
const RESULT: &str = "@result";

/// What a loop does with each element.
pub(super) enum Step<'a> {
    /// `exists`, with its predicate.
    Exists(&'a IdedExpr),
    /// `all`, with its predicate.
    All(&'a IdedExpr),
    /// `map` and `filter`: appends `element`.
    Map { filter: Option<&'a IdedExpr>, element: &'a IdedExpr },
}

impl<'a> Step<'a> {
    /// `None` for other macros.
    pub(super) fn of(macro_: &'a ComprehensionExpr) -> Option<Self> {
        if macro_.iter_var2.is_some() {
            return None;
        }
        let (name, args) = call(&macro_.loop_step)?;
        match (name, args) {
            (operators::LOGICAL_OR, [result, predicate]) if is_result(result) => Some(Self::Exists(predicate)),
            (operators::LOGICAL_AND, [result, predicate]) if is_result(result) => Some(Self::All(predicate)),
            (operators::CONDITIONAL, [filter, then, otherwise]) if is_result(otherwise) => {
                appended(then).map(|element| Self::Map { filter: Some(filter), element })
            }
            _ => appended(&macro_.loop_step).map(|element| Self::Map { filter: None, element }),
        }
    }
}

/// The element that is appended to the result.
fn appended(step: &IdedExpr) -> Option<&IdedExpr> {
    match call(step)? {
        (operators::ADD, [result, IdedExpr { expr: Expr::List(list), .. }]) if is_result(result) => {
            list.elements.first().filter(|_| list.elements.len() == 1)
        }
        _ => None,
    }
}

fn call(tree: &IdedExpr) -> Option<(&str, &[IdedExpr])> {
    match &tree.expr {
        Expr::Call(CallExpr { func_name, args, target: None }) => Some((func_name, args)),
        _ => None,
    }
}

fn is_result(tree: &IdedExpr) -> bool {
    matches!(&tree.expr, Expr::Ident(name) if name == RESULT)
}
