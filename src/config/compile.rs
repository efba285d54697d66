//! Compiles the written configuration into a snapshot, and reports every error.
//!
//! Each part is compiled regardless of errors in others. An invalid part is replaced by a default, so that one error is
//! not reported twice. The snapshot is used only if there are no errors.

mod address;
mod api_keys;
mod bindings;
mod client_certificates;
mod cors;
mod fields;
mod forward;
mod introspection;
mod kafka;
mod map;
mod quotas;
mod registries;
mod revocations;
mod routes;
mod rule;
mod service;
mod state;
mod streams;
mod tls;
mod tokens;
mod topics;
mod upstream_streams;
mod websocket;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::certificates;
use super::diagnostic::Diagnostics;
use super::file::{Node, Value};
use super::keys::{self, Entry, Valued};
use super::section::{Section, text};
use super::snapshot::{DrainLimits, ForwardedTrust, Limits, ReplayLog, Snapshot, Tracing, Upstream};
use super::source::{SECRET_BYTES_MAX, without_line_break};
use super::{CONFIG_BYTES_MAX, ReadOptions};
use crate::auth::{Forward, Introspection, Readers};
use crate::cgroup;
use crate::client::Target;
use crate::cores::cores_up_to;
use crate::http_client::TlsRoots;
use crate::hub::ReplayLimits;
use crate::network::Network;
use crate::quota::Quota;
use crate::route::RouteTable;

/// The default number of writer threads, on at least as many cores.
const WRITERS: usize = 4;
const SERVICE_NAME_BYTES_MAX: usize = 255;

/// Compiles the whole file.
pub(super) fn compile(
    root: &Node,
    base_dir: &Path,
    options: &ReadOptions,
    diagnostics: &Diagnostics,
) -> Option<Snapshot> {
    report_placeholders(root, diagnostics);
    let root = Section::open("", root, diagnostics);
    let files = Files { base_dir, is_read: !options.without_secrets, is_run: options.is_run };
    let sections = (root.section(&keys::UPSTREAM_SECTION), root.section(&keys::TRACING_SECTION));
    let (upstream, tracing) = (upstream(&sections.0, options, diagnostics), tracing(&sections.1));
    let (listen, admin) = listeners(&root, options, diagnostics);
    let auth = root.section(&keys::AUTH_SECTION);
    let roots = roots(&auth, &keys::CA_FILE, files, diagnostics);
    let verifier = tokens::compile(&root, &auth, files, roots.as_ref(), diagnostics);
    let forward = forward::compile(&auth, &upstream, roots.as_ref(), (listen, admin), diagnostics);
    let introspection = introspection::compile(&auth, files, roots.as_ref(), (listen, admin), diagnostics);
    let streams = streams::compile(&root, diagnostics);
    let registries = registries::compile(&root, files, diagnostics);
    let mut clusters = kafka::compile(&root, &streams, &registries, files, diagnostics);
    let revocations = revocations::compile(&auth, &clusters, diagnostics);
    kafka::keep_read(&mut clusters);
    // A cluster may be read for revocations alone.
    let revoking = revocations.iter().filter_map(|settings| settings.source.as_ref());
    let revoking = revoking.filter(|source| clusters.iter().all(|other| other.cluster != source.cluster));
    let states = state::compile(&root, &streams, &clusters, diagnostics);
    let mut certificates = certificates::find(clusters.iter().chain(revoking), &mut diagnostics.sources.borrow_mut());
    let tls = tls::compile(&root, files, diagnostics);
    certificates.extend(tls.certificates);
    let limits = limits(&root, diagnostics);
    report_circle(&sections.0, &keys::UPSTREAM_ADDRESS, &upstream.address, (listen, admin), diagnostics);
    if let Some(Tracing { endpoint, .. }) = &tracing {
        report_circle(&sections.1, &keys::TRACING_ENDPOINT, &endpoint.authority, (listen, admin), diagnostics);
    }
    let routes =
        routes::compile(&root, &streams, verifier.as_ref(), introspection.is_some(), limits.idle_timeout, diagnostics);
    let readers = Arc::new(readers(routes.as_ref(), &limits.quotas));
    let forward = forward.map(|settings| Forward::new(settings, readers.clone()));
    let introspection = introspection.map(|settings| Introspection::new(settings, readers));
    let verifier = verifier.map(|verifier| verifier.with_forward(forward).with_introspection(introspection));
    Some(Snapshot {
        listen,
        tls: tls.server.map(Arc::new),
        admin,
        upstream,
        forwarded: forwarded(&root),
        registries,
        kafka: clusters.remove(0),
        clusters,
        certificates,
        verifier: verifier.map(Arc::new),
        revocations,
        probe: root.value(&keys::PROBE),
        describe: root.value(&keys::DESCRIBE),
        limits,
        replay: replay(&root.section(&keys::REPLAY_SECTION)),
        states,
        metrics_prefix: metrics_prefix(&root.section(&keys::METRICS_SECTION)),
        tracing,
        drain: drain(&root.section(&keys::DRAIN_SECTION)),
        writers: root.written(&keys::WRITERS).map_or_else(|| cores_up_to(WRITERS), |count| count as usize),
        // Last: an early return would leave keys unread, which would be reported as unknown.
        routes: Arc::new(routes?),
    })
}

/// What reads the claims of services.
fn readers(routes: Option<&RouteTable>, quotas: &[Quota]) -> Readers {
    let routes = || routes.into_iter().flat_map(RouteTable::routes);
    let counted = quotas.iter().chain(routes().flat_map(|route| &*route.quotas)).filter_map(Quota::binding);
    let bindings = routes().flat_map(|route| route.bindings.iter().cloned());
    Readers {
        bindings: bindings.chain(counted).collect(),
        rules: routes().filter_map(|route| route.rule.clone()).collect(),
    }
}

/// The directory of the files that a configuration names, and whether they are read.
#[derive(Clone, Copy)]
struct Files<'a> {
    base_dir: &'a Path,
    is_read: bool,
    is_run: bool,
}

/// Reports placeholders that the user has to fill in.
fn report_placeholders(node: &Node, diagnostics: &Diagnostics) {
    match &node.value {
        Value::Map(entries) => entries.iter().for_each(|(_, value)| report_placeholders(value, diagnostics)),
        Value::List(items) => items.iter().for_each(|item| report_placeholders(item, diagnostics)),
        _ if node.is_placeholder() => {
            let message = format!("{} is a placeholder: replace it", node.describe());
            diagnostics.expected(node.place, message, "what is meant here");
        }
        _ => {}
    }
}

/// The addresses of the client listener and the admin listener.
fn listeners(root: &Section<'_>, options: &ReadOptions, diagnostics: &Diagnostics) -> (SocketAddr, SocketAddr) {
    let section = root.section(&keys::ADMIN_SECTION);
    let (listen, admin) = (root.value(&keys::LISTEN), section.value(&keys::ADMIN_LISTEN));
    let (listen, admin) = (options.listen.unwrap_or(listen), options.admin.unwrap_or(admin));
    if address::clash(listen, admin) {
        let is_of_admin = section.has(&keys::ADMIN_LISTEN);
        let place = if is_of_admin { section.place_of(&keys::ADMIN_LISTEN) } else { root.place_of(&keys::LISTEN) };
        let message = format!("`listen` ({listen}) and `admin.listen` ({admin}) are the same port of the same host");
        diagnostics.expected(place, message, "another port for one of them");
    }
    (listen, admin)
}

/// Reports an upstream that is sidestream itself.
fn report_circle(
    section: &Section<'_>,
    key: &dyn Entry,
    target: &str,
    (listen, admin): (SocketAddr, SocketAddr),
    diagnostics: &Diagnostics,
) {
    let path = section.path_of(key);
    let message = if address::leads_to(target, listen) {
        format!(
            "`{path}` ({target}) leads back to sidestream, which listens on {listen}: a request would go round for ever"
        )
    } else if address::leads_to(target, admin) {
        format!(
            "`{path}` ({target}) leads to the admin listener of sidestream, {admin}: any client could reload and drain it"
        )
    } else {
        return;
    };
    let expected =
        "the address of another process; if the command line of `run` has --listen or --admin, pass them here, too";
    diagnostics.expected(section.place_of(key), message, expected);
}

fn upstream(section: &Section<'_>, options: &ReadOptions, diagnostics: &Diagnostics) -> Upstream {
    section.require(&keys::UPSTREAM_ADDRESS);
    let address = section.parse(&keys::UPSTREAM_ADDRESS, |text| is_host_port(text).then_some(text));
    let overridden = options.upstream_port.map(|port| format!("127.0.0.1:{port}"));
    Upstream {
        address: overridden.unwrap_or_else(|| address.unwrap_or_default().into()),
        connect_timeout: section.value(&keys::CONNECT_TIMEOUT),
        read_timeout: section.value(&keys::READ_TIMEOUT),
        write_timeout: section.value(&keys::WRITE_TIMEOUT),
        keepalive: section.value(&keys::KEEPALIVE),
        pool: section.value(&keys::POOL) as usize,
        retries: section.value(&keys::RETRIES) as usize,
        streams: upstream_streams::compile(section, diagnostics),
    }
}

/// A name or an IP address (IPv6 in brackets), and a port.
fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    is_host(host) && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// A name or an IP address (IPv6 in brackets).
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
    }
}

fn forwarded(root: &Section<'_>) -> ForwardedTrust {
    let section = root.section(&keys::FORWARDED_SECTION);
    let trust = section.mixed(&keys::TRUST, |value| match value {
        Value::Text(text) if text == "none" => Some(ForwardedTrust::Nobody),
        Value::Text(text) if text == "all" => Some(ForwardedTrust::Everybody),
        Value::List(listed) => Some(ForwardedTrust::Networks(networks(&section, &keys::TRUST, listed))),
        _ => None,
    });
    trust.unwrap_or(ForwardedTrust::Nobody)
}

/// The networks of a list. Invalid ones are reported.
fn networks(section: &Section<'_>, key: &dyn Entry, listed: &[Node]) -> Box<[Network]> {
    let networks = listed.iter().filter_map(|node| {
        let network = text(&node.value).and_then(Network::parse);
        if network.is_none() {
            section.reject(key, node, "an address or a network such as `10.0.0.0/8`");
        }
        network
    });
    networks.collect()
}

fn limits(root: &Section<'_>, diagnostics: &Diagnostics) -> Limits {
    let section = root.section(&keys::LIMITS_SECTION);
    let connections = section.value(&keys::CONNECTIONS);
    let streams = section.written(&keys::STREAMS);
    if streams.is_some_and(|streams| streams > connections) {
        let message = format!("`limits.streams` is more than `limits.connections`, {connections}, allows");
        diagnostics.wrong(section.place_of(&keys::STREAMS), message);
    }
    Limits {
        max_streams: streams.unwrap_or_else(|| keys::STREAMS.default.value().min(connections)) as usize,
        max_connections: connections as usize,
        memory: section.written(&keys::MEMORY).or_else(cgroup::memory_limit),
        encodings: section.value(&keys::ENCODINGS),
        header_timeout: section.value(&keys::HEADER_TIMEOUT),
        idle_timeout: section.value(&keys::IDLE_TIMEOUT),
        proxy_buffers: section.value(&keys::PROXY_BUFFERS),
        tcp_user_timeout: section.value(&keys::TCP_USER_TIMEOUT),
        quotas: quotas::of_process(&section, diagnostics),
    }
}

pub(super) fn drain(section: &Section<'_>) -> DrainLimits {
    DrainLimits {
        budget: section.value(&keys::DRAIN_BUDGET),
        reconnects_per_second: section.value(&keys::RECONNECTS_PER_SECOND),
    }
}

fn replay(section: &Section<'_>) -> ReplayLog {
    let limits = ReplayLimits {
        events: section.value(&keys::REPLAY_EVENTS).into(),
        bytes: section.value(&keys::REPLAY_BYTES) as u64,
        time: section.value(&keys::REPLAY_TIME),
    };
    ReplayLog { limits, cache_bytes: section.value(&keys::REPLAY_CACHE) }
}

fn metrics_prefix(section: &Section<'_>) -> String {
    // Metric names may also contain colons, which are reserved for recording rules.
    let is_name = |text: &str| {
        text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
    };
    let prefix = section.parse(&keys::METRICS_PREFIX, |text| is_name(text).then_some(text));
    prefix.unwrap_or(keys::METRICS_PREFIX.default.0).into()
}

fn tracing(section: &Section<'_>) -> Option<Tracing> {
    let endpoint = section.parse(&keys::TRACING_ENDPOINT, collector);
    let sample = section.value(&keys::TRACING_SAMPLE);
    let is_name = |text: &str| (1..=SERVICE_NAME_BYTES_MAX).contains(&text.len());
    let service_name = section.parse(&keys::SERVICE_NAME, |text| is_name(text).then_some(text));
    let service_name = service_name.unwrap_or(keys::SERVICE_NAME.default.0).into();
    Some(Tracing { endpoint: endpoint?, sample, service_name })
}

/// The URL to which spans are posted (OTLP/HTTP, "Endpoint URLs").
fn collector(written: &str) -> Option<Target> {
    let is_plain = written.starts_with("http://") && !written.contains(['?', '#']);
    format!("{}/v1/traces", written.trim_end_matches('/')).parse().ok().filter(|_| is_plain)
}

/// The authorities in the file that a key names. `None` if it is absent or invalid.
fn roots(section: &Section<'_>, key: &dyn Entry, files: Files<'_>, diagnostics: &Diagnostics) -> Option<TlsRoots> {
    let node = section.get(key)?;
    let pem = named_file(section, key, node, files, CONFIG_BYTES_MAX, diagnostics)?;
    let roots = TlsRoots::from_pem(&pem);
    if roots.is_none() {
        let message = format!("`{}`: the file has no certificate in PEM", section.path_of(key));
        diagnostics.wrong(node.place, message);
    }
    roots
}

/// The content of the file that a node under this key names, without the line break at its end. `None` if it cannot be
/// read (which is reported), or if files are not read.
fn secret_file(
    section: &Section<'_>,
    key: &dyn Entry,
    node: &Node,
    files: Files<'_>,
    diagnostics: &Diagnostics,
) -> Option<Vec<u8>> {
    named_file(section, key, node, files, SECRET_BYTES_MAX, diagnostics).map(without_line_break)
}

/// The content of the file that a node under this key names, of at most `limit` bytes. `None` as above.
fn named_file(
    section: &Section<'_>,
    key: &dyn Entry,
    node: &Node,
    files: Files<'_>,
    limit: u64,
    diagnostics: &Diagnostics,
) -> Option<Vec<u8>> {
    let Some(name) = text(&node.value).filter(|name| !name.is_empty()) else {
        section.reject(key, node, "the name of a file");
        return None;
    };
    let Files { base_dir, is_read, .. } = files;
    if !is_read {
        return None;
    }
    let path: PathBuf = base_dir.join(name);
    let read = diagnostics.sources.borrow_mut().read(&path, limit);
    match read {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            // The value may be the secret itself instead of a file name, so it is not quoted.
            let message = format!("`{}`: the file named here cannot be read: {error}", section.path_of(key));
            let folder = if base_dir.as_os_str().is_empty() { Path::new(".") } else { base_dir };
            let expected = format!("the name of a file, relative to the folder `{}`", folder.display());
            diagnostics.expected(node.place, message, expected);
            None
        }
    }
}

/// A token of HTTP (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
