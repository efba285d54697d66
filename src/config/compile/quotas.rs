//! `limits.quotas`: limits of one user, tenant or client address.

use std::sync::Arc;

use super::bindings::claim;
use crate::config::diagnostic::Diagnostics;
use crate::config::keys::{self, QUOTAS_MAX};
use crate::config::section::Section;
use crate::config::snapshot::{Quota, QuotaBy};

/// The quotas of the section `limits`.
pub(super) fn compile(limits: &Section<'_>, diagnostics: &Diagnostics) -> Arc<[Quota]> {
    let written = limits.list(&keys::QUOTAS);
    if written.len() > QUOTAS_MAX {
        diagnostics.wrong(limits.place_of(&keys::QUOTAS), format!("there are more than {QUOTAS_MAX} quotas"));
    }
    let mut quotas: Vec<Quota> = Vec::new();
    for node in written {
        let section = Section::open("limits.quotas", node, diagnostics);
        section.require(&keys::QUOTA_BY);
        let by = section.parse(&keys::QUOTA_BY, by);
        let streams = section.written(&keys::QUOTA_STREAMS);
        let opens_per_minute = section.written(&keys::OPENS_PER_MINUTE);
        if !section.has(&keys::QUOTA_STREAMS) && !section.has(&keys::OPENS_PER_MINUTE) {
            diagnostics.expected(node.place, "the quota limits nothing", "`streams`, `opens_per_minute`, or both");
        }
        let Some(by) = by else { continue };
        if quotas.iter().any(|earlier| earlier.by == by) {
            diagnostics.wrong(section.place_of(&keys::QUOTA_BY), format!("another quota counts by `{by}`"));
        }
        quotas.push(Quota { by, streams, opens_per_minute });
    }
    quotas.into()
}

fn by(text: &str) -> Option<QuotaBy> {
    if text == "address" { Some(QuotaBy::Address) } else { claim(text).map(QuotaBy::Claim) }
}
