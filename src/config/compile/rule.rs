//! `routes.rule`: an expression that decides who receives which events.

use std::sync::Arc;

use crate::config::cel::{self, Names};
use crate::config::diagnostic::Diagnostics;
use crate::config::keys;
use crate::config::section::Section;
use crate::route::{Admission, Pattern};
use crate::rule::Rule;

/// `None` without a rule, or if it is invalid, which is reported.
pub(super) fn compile(
    route: &Section<'_>,
    pattern: Option<&Pattern>,
    admission: Admission,
    diagnostics: &Diagnostics,
) -> Option<Arc<Rule>> {
    let source = route.text(&keys::RULE)?;
    let place = route.place_of(&keys::RULE);
    let parameters = pattern.map(|pattern| pattern.parameters().map(str::to_owned).collect());
    let names = Names { has_claims: admission == Admission::Token, parameters };
    match cel::parse(source, &names) {
        Ok((expression, inputs)) => {
            let pattern = route.text(&keys::ROUTE_PATH).unwrap_or_default();
            Some(Arc::new(Rule::new(pattern.into(), source, expression, inputs)))
        }
        Err(mistakes) => {
            for mistake in mistakes {
                let message = format!("`{}`: {mistake}", route.path_of(&keys::RULE));
                match mistake.expected {
                    Some(expected) => diagnostics.expected(place, message, expected),
                    None => diagnostics.wrong(place, message),
                }
            }
            None
        }
    }
}
