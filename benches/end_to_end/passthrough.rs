//! Ordinary requests through proxies, driven by wrk, to one nginx that responds with 160 bytes of JSON or a megabyte.
//! CPU time is the proxy's only.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::clients::{self, Clients};
use crate::process::{self, Running};
use crate::product::{self, BROADCAST, Feed, Product};
use crate::row::Row;
use crate::{Fallible, Plan, fan_out};

const CONNECTIONS: &str = "-c64";
const THREADS: &str = "-t2";
const SMALL: &str = "/";
const LARGE: &str = "/large";
const LARGE_BYTES: usize = 1_000_000;

/// A proxy and its address.
pub struct Proxy {
    pub server: Running,
    pub address: SocketAddr,
}

pub fn rows(plan: &Plan) -> Fallible<Vec<Row>> {
    let upstream = nginx("upstream.conf", None)?;
    let folder = upstream.server.folder().ok_or("nginx has no files")?;
    fs::write(folder.join("large"), vec![b'x'; LARGE_BYTES])?;
    let cluster = product::mock(1)?;
    let product = Product::start(&cluster.bootstrap_servers(), &upstream.address.to_string())?;
    let product = Proxy { server: product.server, address: product.address };
    let (pingora, nginx) = (pingora(upstream.address)?, nginx("proxy.conf", Some(upstream.address))?);
    let mut rows = vec![
        beside(plan, "passthrough_pingora", SMALL, &product, &pingora, "<=1.05")?,
        beside(plan, "passthrough_1mb_pingora", LARGE, &product, &pingora, "<=1.05")?,
        beside(plan, "passthrough_nginx", SMALL, &product, &nginx, "<=1.5")?,
    ];
    if plan.peers {
        rows.push(beside(plan, "passthrough_haproxy", SMALL, &product, &haproxy(upstream.address)?, "<=1.5")?);
        rows.push(beside(plan, "passthrough_envoy", SMALL, &product, &envoy(upstream.address)?, "<=1")?);
    }
    Ok(rows)
}

/// The tail latency of ordinary requests while thousands of streams receive an event each second, compared with silent
/// streams.
pub fn beside_streams(plan: &Plan) -> Fallible<Vec<Row>> {
    let upstream = nginx("upstream.conf", None)?;
    let cluster = product::mock(1)?;
    let product = Product::start(&cluster.bootstrap_servers(), &upstream.address.to_string())?;
    let address = product.address;
    let sockets = clients::connect(address, (0..fan_out::MANY).map(|_| product::request("/sse")))?;
    let clients = Clients::read(sockets)?;
    let feed = Feed::to(&cluster.bootstrap_servers())?;
    let event = product::envelope(None, &product::data(product::PAYLOAD_BYTES));
    let seconds = plan.time.as_secs().max(2);
    let (mut pairs, mut sent) = (Vec::new(), 0);
    for _ in 0..plan.pairs {
        let silent = slowest(address, seconds)?;
        let requests = thread::spawn(move || slowest(address, seconds).map_err(|error| error.to_string()));
        for _ in 0..seconds {
            feed.send(BROADCAST, None, &event)?;
            sent += 1;
            thread::sleep(Duration::from_secs(1));
        }
        let fed = requests.join().map_err(|_| "wrk failed")??;
        clients.await_deliveries(sent * fan_out::MANY as u64)?;
        pairs.push((fed, silent));
    }
    clients.close()?;
    Ok(vec![Row::of_pairs("requests_beside_streams", "ms, 99th percentile", &pairs, "<=2")])
}

/// The 99th percentile of sequential requests on a few connections, in milliseconds.
fn slowest(address: SocketAddr, seconds: u64) -> Fallible<f64> {
    let arguments = ["-t1", "-c4", "--latency", &format!("-d{seconds}"), &format!("http://{address}/")];
    let output = Command::new("wrk").args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = text.lines().find_map(|line| line.trim().strip_prefix("99%")).map(str::trim);
    let figure = figure.ok_or_else(|| format!("wrk: {text}"))?;
    let in_ms = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)];
    let (number, scale) =
        in_ms.iter().find_map(|(unit, scale)| Some((figure.strip_suffix(unit)?, scale))).ok_or("no unit")?;
    Ok(number.parse::<f64>()? * scale)
}

fn beside(plan: &Plan, name: &str, path: &str, product: &Proxy, peer: &Proxy, target: &'static str) -> Fallible<Row> {
    // Fills pools and warms up code.
    for proxy in [product, peer] {
        cpu_per_request(proxy, path, Duration::from_secs(1))?;
    }
    let mut pairs = Vec::new();
    for n in 0..plan.pairs {
        let order = if n % 2 == 0 { [product, peer] } else { [peer, product] };
        let [first, second] = order.map(|proxy| cpu_per_request(proxy, path, plan.time.max(Duration::from_secs(1))));
        let (first, second) = (first?, second?);
        pairs.push(if n % 2 == 0 { (first, second) } else { (second, first) });
    }
    Ok(Row::of_pairs(name, "us of CPU a request", &pairs, target))
}

fn cpu_per_request(proxy: &Proxy, path: &str, time: Duration) -> Fallible<f64> {
    let threads = proxy.server.threads()?;
    let output = Command::new("wrk")
        .args([THREADS, CONNECTIONS, &format!("-d{}", time.as_secs()), &format!("http://{}{path}", proxy.address)])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let cpu = proxy.server.cpu_since(&threads)?;
    if text.contains("Non-2xx") {
        return Err(format!("a proxy refused requests: {text}").into());
    }
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in"));
    Ok(cpu.as_secs_f64() * 1e6 / requests.ok_or_else(|| format!("wrk: {text}"))?.0.parse::<f64>()?)
}

/// A configuration of `benches/peers/` with its `@NAME@` placeholders filled in, in a directory of its own.
pub fn template(name: &str, values: &[(&str, String)]) -> Fallible<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(name);
    let mut text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let own = [("FOLDER", folder.path().display().to_string())];
    for (key, value) in values.iter().chain(&own) {
        text = text.replace(&format!("@{key}@"), value);
    }
    fs::write(folder.path().join(name), text)?;
    Ok(folder)
}

/// Starts an installed program with a configuration that contains a placeholder for its address.
pub fn start(program: &str, before: &[&str], config: &str, values: &[(&str, String)]) -> Fallible<Proxy> {
    let address = process::free_address()?;
    let own = [("ADDRESS", address.to_string()), ("PORT", address.port().to_string())];
    let values: Vec<_> = values.iter().cloned().chain(own).collect();
    let folder = template(config, &values)?;
    let file = folder.path().join(config);
    let mut server = Running::start_with(folder, Command::new(program).args(before).arg(file))
        .map_err(|error| format!("{program}: {error}"))?;
    server.await_port(address)?;
    Ok(Proxy { server, address })
}

pub fn nginx(config: &str, upstream: Option<SocketAddr>) -> Fallible<Proxy> {
    let upstream = upstream.map(|upstream| ("UPSTREAM", upstream.to_string()));
    start("/usr/sbin/nginx", &["-e", "/dev/null", "-c"], config, upstream.as_slice())
}

fn haproxy(upstream: SocketAddr) -> Fallible<Proxy> {
    start("/usr/sbin/haproxy", &["-q", "-f"], "haproxy.cfg", &[("UPSTREAM", upstream.to_string())])
}

fn envoy(upstream: SocketAddr) -> Fallible<Proxy> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers/venv/bin/envoy");
    let values = [("UPSTREAM_PORT", upstream.port().to_string())];
    start(program, &["--concurrency", "2", "--disable-hot-restart", "-l", "off", "-c"], "envoy.yaml", &values)
}

/// Unmodified Pingora: `benches/peers/pingora.rs`, an example of the package, so that its location is known.
fn pingora(upstream: SocketAddr) -> Fallible<Proxy> {
    let program = Path::new(env!("CARGO_BIN_EXE_sidestream")).with_file_name("examples").join("bare-pingora");
    let address = process::free_address()?;
    let arguments = [address.to_string(), upstream.to_string()];
    let mut server =
        Running::start(Command::new(program).args(arguments)).map_err(|error| format!("pingora: {error}"))?;
    server.await_port(address)?;
    Ok(Proxy { server, address })
}
