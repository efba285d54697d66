//! `upstream.streams`: the streams that the REST service itself sends.

use crate::config::diagnostic::Diagnostics;
use crate::config::file::Node;
use crate::config::keys::{self, UPSTREAM_PATHS_MAX};
use crate::config::section::Section;
use crate::config::snapshot::{UpstreamPath, UpstreamStreams};
use crate::route::Pattern;

pub(super) fn compile(upstream: &Section<'_>, diagnostics: &Diagnostics) -> UpstreamStreams {
    let section = upstream.section(&keys::UPSTREAM_STREAMS);
    let written = section.list(&keys::UPSTREAM_PATHS);
    if written.len() > UPSTREAM_PATHS_MAX {
        let message = format!("there are more than {UPSTREAM_PATHS_MAX} paths");
        diagnostics.wrong(section.place_of(&keys::UPSTREAM_PATHS), message);
    }
    UpstreamStreams {
        heartbeat: section.value(&keys::UPSTREAM_HEARTBEAT),
        heartbeat_interval: section.value(&keys::UPSTREAM_HEARTBEAT_INTERVAL),
        read_timeout: section.value(&keys::STREAM_READ_TIMEOUT),
        paths: written.iter().filter_map(|node| path(&section, node, diagnostics)).collect(),
    }
}

fn path(streams: &Section<'_>, node: &Node, diagnostics: &Diagnostics) -> Option<UpstreamPath> {
    let section = Section::open(&streams.path_of(&keys::UPSTREAM_PATHS), node, diagnostics);
    section.require(&keys::UPSTREAM_PATH_PATTERN);
    let heartbeat = section.written(&keys::UPSTREAM_PATH_HEARTBEAT);
    let early = section.value(&keys::UPSTREAM_PATH_EARLY);
    let written = section.text(&keys::UPSTREAM_PATH_PATTERN)?;
    let pattern = Pattern::parse(written).map_err(|error| {
        let name = section.path_of(&keys::UPSTREAM_PATH_PATTERN);
        let message = format!("`{name}`: `{written}` is not a valid pattern: {error}");
        diagnostics.wrong(section.place_of(&keys::UPSTREAM_PATH_PATTERN), message);
    });
    Some(UpstreamPath { pattern: pattern.ok()?, heartbeat, early })
}
