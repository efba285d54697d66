//! Compiles the written configuration into a snapshot, and reports every error.
//!
//! Each part is compiled regardless of errors in others. An invalid part is replaced by a default, so that one error is
//! not reported twice. The snapshot is used only if there are no errors.

mod address;
mod bindings;
mod cors;
mod forward;
mod kafka;
mod quotas;
mod revocations;
mod routes;
mod streams;
mod tokens;
mod topics;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::ReadOptions;
use super::certificates;
use super::diagnostic::Diagnostics;
use super::file::{Node, Value};
use super::section::{Section, text};
use super::snapshot::{
    DrainLimits, ForwardedTrust, Limits, Quota, RETRIES_MAX, ReplayLog, Snapshot, Tracing, Upstream,
};
use super::source::{SECRET_BYTES_MAX, without_line_break};
use crate::auth::Forward;
use crate::cgroup;
use crate::client::Target;
use crate::cores::cores_up_to;
use crate::hub::ReplayLimits;

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
/// The default address of metrics and health checks.
pub const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9090);
const METRICS_PREFIX: &str = "notifications";
/// The default sampling ratio: one trace in a hundred costs little.
const SAMPLE: f64 = 0.01;
const SERVICE_NAME: &str = "sidestream";
const SERVICE_NAME_BYTES_MAX: usize = 255;
const STREAMS_MAX: u32 = 10_000;
const CONNECTIONS_MAX: u32 = 20_000;
/// The default number of writer threads, on at least as many cores.
const WRITERS: usize = 4;
const WRITERS_MAX: u32 = 256;
/// Of streams, connections and queued events: beyond any useful number.
const COUNT: RangeInclusive<u32> = 1..=10_000_000;
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
/// Of whole connections: less than a second would close healthy ones.
const LONG_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
const DRAIN_BUDGET: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(10 * 60);
/// Per client, from the log. 0 disables replay from the log.
const REPLAY_EVENTS: RangeInclusive<u32> = 0..=100_000_000;
/// In bytes.
const REPLAY_BYTES: RangeInclusive<u64> = 1024..=64 << 30;
const REPLAY_TIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// In bytes. Less would not hold one chunk of each partition until the waiting sessions have consumed it.
const PROXY_BUFFERS: RangeInclusive<u64> = 1 << 20..=64 << 30;
const REPLAY_CACHE: RangeInclusive<u64> = 4 << 20..=64 << 30;

/// In bytes. Less would reject streams even with empty caches.
const MEMORY: RangeInclusive<u64> = 64 << 20..=1 << 40;
/// In bytes. With 0, encodings are shared only between sessions that receive an event in the same turn of a writer.
const ENCODINGS: RangeInclusive<u64> = 0..=64 << 30;

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
    let sections = (root.section("upstream"), root.section("tracing"));
    let (upstream, tracing) = (upstream(&sections.0, options), tracing(&sections.1));
    let (listen, admin) = listeners(&root, options, diagnostics);
    let auth = root.section("auth");
    let verifier = tokens::compile(&root, &auth, files, diagnostics);
    let forward = forward::compile(&auth, &upstream, (listen, admin), diagnostics);
    let streams = streams::compile(&root, diagnostics);
    let mut clusters = kafka::compile(&root, &streams, files, diagnostics);
    let revocations = revocations::compile(&auth, &clusters, diagnostics);
    kafka::keep_read(&mut clusters);
    let certificates = certificates::find(&clusters, &mut diagnostics.sources.borrow_mut());
    let limits = limits(&root, diagnostics);
    report_circle(&sections.0, "address", &upstream.address, (listen, admin), diagnostics);
    if let Some(Tracing { endpoint, .. }) = &tracing {
        report_circle(&sections.1, "endpoint", &endpoint.authority, (listen, admin), diagnostics);
    }
    let routes = routes::compile(&root, &streams, verifier.as_ref(), limits.idle_timeout, diagnostics);
    let bindings = routes.iter().flat_map(|table| table.routes()).flat_map(|route| route.bindings.iter().cloned());
    let counted = limits.quotas.iter().filter_map(Quota::binding);
    let forward = forward.map(|settings| Forward::new(settings, bindings.chain(counted).collect()));
    let verifier = verifier.map(|verifier| verifier.with_forward(forward));
    Some(Snapshot {
        listen,
        admin,
        upstream,
        forwarded: forwarded(&root),
        kafka: clusters.remove(0),
        clusters,
        certificates,
        verifier: verifier.map(Arc::new),
        revocations,
        probe: root.flag("probe").unwrap_or(false),
        limits,
        replay: replay(&root.section("replay")),
        metrics_prefix: metrics_prefix(&root.section("metrics")),
        tracing,
        drain: drain(&root.section("drain")),
        writers: root.count("writers", 1..=WRITERS_MAX).map_or_else(|| cores_up_to(WRITERS), |count| count as usize),
        // Last: an early return would leave keys unread, which would be reported as unknown.
        routes: Arc::new(routes?),
    })
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
    let section = root.section("admin");
    let (written, admin) = (root.address("listen"), section.address("listen"));
    let listen = options.listen.or(written).unwrap_or(LISTEN);
    let admin = options.admin.or(admin).unwrap_or(ADMIN);
    if address::clash(listen, admin) {
        let place = if section.has("listen") { section.place_of("listen") } else { root.place_of("listen") };
        let message = format!("`listen` ({listen}) and `admin.listen` ({admin}) are the same port of the same host");
        diagnostics.expected(place, message, "another port for one of them");
    }
    (listen, admin)
}

/// Reports an upstream that is sidestream itself.
fn report_circle(
    section: &Section<'_>,
    key: &'static str,
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

fn upstream(section: &Section<'_>, options: &ReadOptions) -> Upstream {
    section.require("address", "the `host:port` of the REST service");
    let timeout = |key, default| section.duration(key, TIMEOUT).unwrap_or_else(|| Duration::from_secs(default));
    let address = section
        .read("address", "`host:port` such as `127.0.0.1:3000`", |value| text(value).filter(|text| is_host_port(text)));
    let overridden = options.upstream_port.map(|port| format!("127.0.0.1:{port}"));
    Upstream {
        address: overridden.unwrap_or_else(|| address.unwrap_or_default().into()),
        connect_timeout: timeout("connect_timeout", 5),
        read_timeout: timeout("read_timeout", 60),
        write_timeout: timeout("write_timeout", 60),
        keepalive: timeout("keepalive", 60),
        pool: section.count("pool", 1..=65_536).unwrap_or(128) as usize,
        retries: section.count("retries", 0..=RETRIES_MAX).unwrap_or(1) as usize,
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
    const EXPECTED: &str = "`none`, `all` or a list of networks such as `[10.0.0.0/8]`";
    let section = root.section("forwarded");
    let trust = section.read("trust", EXPECTED, |value| match value {
        Value::Text(text) if text == "none" => Some(ForwardedTrust::Nobody),
        Value::Text(text) if text == "all" => Some(ForwardedTrust::Everybody),
        Value::List(networks) => {
            let networks = networks.iter().filter_map(|node| {
                let network = text(&node.value).and_then(network);
                if network.is_none() {
                    section.reject("trust", node, "an address or a network such as `10.0.0.0/8`");
                }
                network
            });
            Some(ForwardedTrust::Networks(networks.collect()))
        }
        _ => None,
    });
    trust.unwrap_or(ForwardedTrust::Nobody)
}

/// `10.0.0.0/8`, or a single address.
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Some(bits), |prefix| prefix.parse().ok())?;
    (prefix <= bits).then_some((address, prefix))
}

fn limits(root: &Section<'_>, diagnostics: &Diagnostics) -> Limits {
    let section = root.section("limits");
    let connections = section.count("connections", COUNT).unwrap_or(CONNECTIONS_MAX);
    let streams = section.count("streams", COUNT);
    if streams.is_some_and(|streams| streams > connections) {
        let message = format!("`limits.streams` is more than `limits.connections`, {connections}, allows");
        diagnostics.wrong(section.place_of("streams"), message);
    }
    let timeout = |key, default| section.duration(key, LONG_TIMEOUT).unwrap_or_else(|| Duration::from_secs(default));
    Limits {
        max_streams: streams.unwrap_or_else(|| STREAMS_MAX.min(connections)) as usize,
        max_connections: connections as usize,
        memory: section.size("memory", MEMORY).or_else(cgroup::memory_limit),
        encodings: section.size("encodings", ENCODINGS).unwrap_or(8 << 20),
        header_timeout: timeout("header_timeout", 10),
        idle_timeout: timeout("idle_timeout", 75),
        proxy_buffers: section.size("proxy_buffers", PROXY_BUFFERS).unwrap_or(64 << 20),
        tcp_user_timeout: timeout("tcp_user_timeout", 30),
        quotas: quotas::compile(&section, diagnostics),
    }
}

pub(super) fn drain(section: &Section<'_>) -> DrainLimits {
    DrainLimits {
        budget: section.duration("budget", DRAIN_BUDGET).unwrap_or(Duration::from_secs(10)),
        reconnects_per_second: section.count("reconnects_per_second", 1..=100_000).unwrap_or(100),
    }
}

fn replay(section: &Section<'_>) -> ReplayLog {
    let limits = ReplayLimits {
        events: section.count("events", REPLAY_EVENTS).unwrap_or(100_000).into(),
        bytes: section.size("bytes", REPLAY_BYTES).unwrap_or(64 << 20) as u64,
        time: section.duration("time", REPLAY_TIME).unwrap_or(Duration::from_secs(60)),
    };
    ReplayLog { limits, cache_bytes: section.size("cache", REPLAY_CACHE).unwrap_or(32 << 20) }
}

fn metrics_prefix(section: &Section<'_>) -> String {
    // Metric names may also contain colons, which are reserved for recording rules.
    let prefix = section.read("prefix", "a metric name's beginning: `[a-zA-Z_][a-zA-Z0-9_]*`", |value| {
        text(value).filter(|text| {
            text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
        })
    });
    prefix.unwrap_or(METRICS_PREFIX).into()
}

fn tracing(section: &Section<'_>) -> Option<Tracing> {
    const ENDPOINT: &str = "the URL of an OpenTelemetry collector's receiver such as `http://127.0.0.1:4318`; `https` is not \
                            spoken here, a collector in the pod or on the node speaks it for us";
    let endpoint = section.read("endpoint", ENDPOINT, |value| collector(text(value)?));
    let sample = section.share("sample").unwrap_or(SAMPLE);
    let service_name = section.read("service_name", "a text of 1 to 255 bytes", |value| {
        text(value).filter(|text| (1..=SERVICE_NAME_BYTES_MAX).contains(&text.len()))
    });
    Some(Tracing { endpoint: endpoint?, sample, service_name: service_name.unwrap_or(SERVICE_NAME).into() })
}

/// The URL to which spans are posted (OTLP/HTTP, "Endpoint URLs").
fn collector(written: &str) -> Option<Target> {
    let is_plain = written.starts_with("http://") && !written.contains(['?', '#']);
    format!("{}/v1/traces", written.trim_end_matches('/')).parse().ok().filter(|_| is_plain)
}

/// The content of the file that a node under this key names, without the line break at its end. `None` if it cannot be
/// read (which is reported), or if files are not read.
fn secret_file(
    section: &Section<'_>,
    key: &str,
    node: &Node,
    files: Files<'_>,
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
    let read = diagnostics.sources.borrow_mut().read(&path, SECRET_BYTES_MAX);
    match read {
        Ok(bytes) => Some(without_line_break(bytes)),
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
