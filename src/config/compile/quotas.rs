//! `limits.quotas`: limits of one user, tenant or client address.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::bindings::claim;
use crate::config::diagnostic::Diagnostics;
use crate::config::section::{Section, text};
use crate::config::snapshot::{Quota, QuotaBy};

/// The most quotas: each open stream counts in all of them.
const QUOTAS_MAX: usize = 8;
const LIMIT: RangeInclusive<u32> = 1..=1_000_000;

/// The quotas of the section `limits`.
pub(super) fn compile(limits: &Section<'_>, diagnostics: &Diagnostics) -> Arc<[Quota]> {
    let written = limits.list("quotas");
    if written.len() > QUOTAS_MAX {
        diagnostics.wrong(limits.place_of("quotas"), format!("there are more than {QUOTAS_MAX} quotas"));
    }
    let mut quotas: Vec<Quota> = Vec::new();
    for node in written {
        let section = Section::open("limits.quotas", node, diagnostics);
        section.require("by", "what identifies those for whom the quota counts");
        let by = section.read("by", "`address` or `claims.<claim>`, such as `claims.sub`", |value| by(text(value)?));
        let (streams, opens_per_minute) = (section.count("streams", LIMIT), section.count("opens_per_minute", LIMIT));
        if !section.has("streams") && !section.has("opens_per_minute") {
            diagnostics.expected(node.place, "the quota limits nothing", "`streams`, `opens_per_minute`, or both");
        }
        let Some(by) = by else { continue };
        if quotas.iter().any(|earlier| earlier.by == by) {
            diagnostics.wrong(section.place_of("by"), format!("another quota counts by `{by}`"));
        }
        quotas.push(Quota { by, streams, opens_per_minute });
    }
    quotas.into()
}

fn by(text: &str) -> Option<QuotaBy> {
    if text == "address" { Some(QuotaBy::Address) } else { claim(text).map(QuotaBy::Claim) }
}
