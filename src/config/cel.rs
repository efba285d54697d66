//! The language of rules: CEL (the Common Expression Language), of which the crate `cel` parses the syntax.
//!
//! An expression is translated for [`crate::rule`], which evaluates it. Everything that could be expensive or has no
//! use is refused here, with its position. Parsing runs in a thread of its own, because the parser recurses.

mod operators;
mod step;
mod translate;

use std::fmt;

use cel::common::ast::{IdedExpr, SourceInfo};
use cel::parser::Parser;

use crate::bounded;
use crate::rule::{Expression, Input};

/// The longest expression, in bytes.
const SOURCE_BYTES_MAX: usize = 4096;
/// The deepest nesting of an expression: evaluation recurses.
const DEPTH_MAX: u16 = 32;

/// What an expression may name.
pub(super) struct Names {
    /// Whether clients have tokens.
    pub(super) has_claims: bool,
    /// The parameters of the path, if they are known.
    pub(super) parameters: Option<Vec<String>>,
}

/// An error in an expression.
#[derive(Debug)]
pub(super) struct Mistake {
    /// 1-based, in characters of the expression; `None` if it is not known.
    line_and_column: Option<(usize, usize)>,
    message: String,
    pub(super) expected: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line_and_column {
            Some((1, column)) => write!(f, "at character {column} of the expression: {}", self.message),
            Some((line, column)) => {
                write!(f, "at character {column} in line {line} of the expression: {}", self.message)
            }
            None => f.write_str(&self.message),
        }
    }
}

impl Mistake {
    fn whole(message: impl Into<String>) -> Self {
        Self { line_and_column: None, message: message.into(), expected: None }
    }
}

/// An expression, and the inputs that it reads by number.
pub(super) fn parse(source: &str, names: &Names) -> Result<(Expression, Vec<Input>), Vec<Mistake>> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(vec![Mistake::whole(format!("the expression is longer than {SOURCE_BYTES_MAX} bytes"))]);
    }
    let (tree, info) = syntax(source)?;
    translate::translate(&tree, &info, names)
}

/// Parses the syntax, within limits of stack and time.
fn syntax(source: &str) -> Result<(IdedExpr, SourceInfo), Vec<Mistake>> {
    let owned = source.to_owned();
    let parse = move || {
        let parsed = Parser::default().max_recursion_depth(DEPTH_MAX).parse_with_source_info(&owned);
        parsed.map_err(|errors| {
            let of = |error: &cel::ParseError| Mistake {
                line_and_column: usize::try_from(error.pos.0).ok().zip(usize::try_from(error.pos.1).ok()),
                message: error.msg.clone(),
                expected: None,
            };
            // The others are usually consequences of the first one.
            errors.errors.iter().take(1).map(of).collect::<Vec<_>>()
        })
    };
    bounded::run("parsing the expression", parse).unwrap_or_else(|message| Err(vec![Mistake::whole(message)]))
}
