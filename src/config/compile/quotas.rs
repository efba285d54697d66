//! `limits.quotas` and `routes.quotas`: limits of one user, tenant, client address or route, or of the process.

use std::sync::Arc;

use super::bindings::claim;
use crate::config::diagnostic::{Diagnostics, alternatives};
use crate::config::file::Node;
use crate::config::keys::{self, Entry, QUOTAS_MAX};
use crate::config::section::Section;
use crate::quota::{Quota, QuotaBy, Rates};
use crate::rate::Rate;

/// The quotas of the section `limits`, for all routes together.
pub(super) fn of_process(limits: &Section<'_>, diagnostics: &Diagnostics) -> Arc<[Quota]> {
    compile(limits, &keys::QUOTAS, diagnostics, |section| section.parse(&keys::QUOTA_BY, by)).into()
}

/// The quotas of one route.
pub(super) fn of_route(route: &Section<'_>, diagnostics: &Diagnostics) -> Arc<[Quota]> {
    const EXPECTED: &str = "`route`, `address` or `claims.<claim>`, such as `claims.sub`";
    let by_part = |text: &str| by(text).filter(|by| *by != QuotaBy::Process);
    let read = |section: &Section<'_>| section.parse_as(&keys::QUOTA_BY, EXPECTED, by_part);
    let mut quotas = compile(route, &keys::ROUTE_QUOTAS, diagnostics, read);
    let path = route.text(&keys::ROUTE_PATH).unwrap_or_default();
    for quota in &mut quotas {
        quota.name = format!("{} on {path}", quota.by).into();
    }
    quotas.into()
}

fn compile(
    section: &Section<'_>,
    key: &dyn Entry,
    diagnostics: &Diagnostics,
    by: impl Fn(&Section<'_>) -> Option<QuotaBy>,
) -> Vec<Quota> {
    let written = section.list(key);
    if written.len() > QUOTAS_MAX {
        diagnostics.wrong(section.place_of(key), format!("there are more than {QUOTAS_MAX} quotas"));
    }
    let mut quotas: Vec<Quota> = Vec::new();
    for node in written {
        let section = Section::open(&section.path_of(key), node, diagnostics);
        let Some(quota) = quota(&section, node, diagnostics, &by) else { continue };
        if quotas.iter().any(|earlier| earlier.by == quota.by) {
            diagnostics.wrong(section.place_of(&keys::QUOTA_BY), format!("another quota counts by `{}`", quota.by));
        }
        quotas.push(quota);
    }
    quotas
}

fn quota(
    section: &Section<'_>,
    node: &Node,
    diagnostics: &Diagnostics,
    by: impl Fn(&Section<'_>) -> Option<QuotaBy>,
) -> Option<Quota> {
    section.require(&keys::QUOTA_BY);
    let by = by(section);
    let streams = section.written(&keys::QUOTA_STREAMS);
    let rates = Rates {
        opens: section.written(&keys::OPENS_PER_MINUTE).map(|opens| Rate::per_minute(opens.into())),
        commands: section.written(&keys::QUOTA_COMMANDS).map(|commands| Rate::per_second(commands.into())),
        replay: section.written(&keys::REPLAY_BYTES_PER_MINUTE).map(|bytes| Rate::per_minute(bytes as u64)),
        events: section.written(&keys::EVENTS_PER_SECOND).map(|events| Rate::per_second(events.into())),
        bytes: section.written(&keys::BYTES_PER_SECOND).map(|bytes| Rate::per_second(bytes as u64)),
    };
    if !keys::quota_limits().any(|key| section.has(key)) {
        let names = keys::quota_limits().map(Entry::name);
        diagnostics.expected(node.place, "the quota limits nothing", alternatives(names));
    }
    let by = by?;
    Some(Quota { name: by.to_string().into(), by, streams, rates })
}

fn by(text: &str) -> Option<QuotaBy> {
    match text {
        "process" => Some(QuotaBy::Process),
        "route" => Some(QuotaBy::Route),
        "address" => Some(QuotaBy::Address),
        _ => claim(text).map(QuotaBy::Claim),
    }
}
