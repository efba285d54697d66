//! Servers with the same purpose, each in its best configuration: nchan, Pushpin, Centrifugo, Mercure, and the sketch
//! that a team would write by hand. `make bench-peers` installs them as packages or into `target/peers`.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::clients::{self, Clients};
use crate::fan_out::{self, KEYED_PER_S, MANY, OUTSTANDING, which};
use crate::passthrough::{self, Proxy};
use crate::process::{self, Running};
use crate::product::{self, PAYLOAD_BYTES};
use crate::row::Row;
use crate::side::{self, Side};
use crate::{Fallible, Plan, Scenario};

/// What the sketch can do with 10,000 sessions, with a margin.
const SKETCH_PER_S: f64 = 1_000.0;
/// Signed with [`MERCURE_KEY`]: `{"mercure":{"publish":["*"]}}`.
const MERCURE_TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJtZXJjdXJlIjp7InB1Ymxpc2giOlsiKiJdfX0.8wYhuYwVMdKrzWJqZxNC8ZSIkb9qOJMqF8mqZby6HZ8";
const MERCURE_KEY: &str = "a key that is nobody's, of more than 32 bytes";

/// Pushpin's processes connect by ZeroMQ, which loses messages that are sent before.
const SETTLE: Duration = Duration::from_secs(3);

pub const SCENARIOS: &[Scenario] = &[
    ("backlog_1k_nchan", backlog_nchan),
    ("keyed_10k_nchan", keyed_nchan),
    ("go_sketch", go_sketch),
    ("paced_1k_nchan", |plan| paced(plan, "paced_1k_nchan", nchan, 100.0, "<=1.15")),
    ("paced_1k_sketch", |plan| paced(plan, "paced_1k_sketch", sketch, 100.0, "<=1")),
    ("paced_1k_mercure", |plan| paced(plan, "paced_1k_mercure", mercure, 100.0, "<=1")),
    ("paced_1k_centrifugo", |plan| paced(plan, "paced_1k_centrifugo", centrifugo, 100.0, "<=1")),
    ("paced_1k_pushpin", |plan| paced(plan, "paced_1k_pushpin", pushpin, 10.0, "<=1")),
];

/// The recipient of an event: a user, or all clients.
type Whose = Option<usize>;
/// Starts a peer with this many clients, each for its own user or all alike.
type Start = fn(usize, bool) -> Fallible<Side<'static>>;

fn paced(plan: &Plan, name: &str, start: Start, per_s: f64, target: &'static str) -> Fallible<Vec<Row>> {
    let cluster = product::mock(1)?;
    let mut product = fan_out::product(&cluster, "/sse", 1_000, PAYLOAD_BYTES)?;
    let mut peer = start(1_000, false)?;
    for side in [&mut product, &mut peer] {
        side.paced(per_s, plan.time / 2)?;
    }
    let pairs = side::pairs(&mut product, &mut peer, plan.pairs, |side| side.paced(per_s, plan.time))?;
    side::close([product, peer])?;
    Ok(vec![Row::of_pairs(name, "us of CPU a delivery", &side::cpu(&pairs), target)])
}

fn backlog_nchan(plan: &Plan) -> Fallible<Vec<Row>> {
    let cluster = product::mock(1)?;
    let mut product = fan_out::product(&cluster, "/sse", 1_000, PAYLOAD_BYTES)?;
    let mut peer = nchan(1_000, false)?;
    for side in [&mut product, &mut peer] {
        side.saturated(OUTSTANDING, plan.time / 2)?;
    }
    let pairs = side::pairs(&mut product, &mut peer, plan.pairs, |side| side.saturated(OUTSTANDING, plan.time))?;
    side::close([product, peer])?;
    Ok(vec![Row::of_pairs("backlog_1k_nchan", "deliveries/s", &side::throughput(&pairs), ">=5")])
}

fn keyed_nchan(plan: &Plan) -> Fallible<Vec<Row>> {
    keyed(plan, "keyed_10k_nchan", nchan, KEYED_PER_S, "<=0.33")
}

fn go_sketch(plan: &Plan) -> Fallible<Vec<Row>> {
    keyed(plan, "go_sketch", sketch, SKETCH_PER_S, "<=0.05")
}

fn keyed(plan: &Plan, name: &str, start: Start, per_s: f64, target: &'static str) -> Fallible<Vec<Row>> {
    let cluster = product::mock(1)?;
    let mut product = fan_out::product_keyed(&cluster, MANY)?;
    let mut peer = start(MANY, true)?;
    for side in [&mut product, &mut peer] {
        side.paced(per_s, plan.time / 2)?;
    }
    let pairs = side::pairs(&mut product, &mut peer, plan.pairs, |side| side.paced(per_s, plan.time))?;
    side::close([product, peer])?;
    Ok(vec![Row::of_pairs(name, "us of CPU an event", &side::cpu(&pairs), target)])
}

/// The server's clients, and a feed that writes `encode` of each event.
fn side(
    proxy: Proxy,
    count: usize,
    is_keyed: bool,
    request: impl Fn(Whose) -> String,
    mut send: impl FnMut(&[u8]) -> Fallible<()> + 'static,
    encode: impl Fn(Whose) -> String + 'static,
) -> Fallible<Side<'static>> {
    let requests = (0..count).map(|n| request(is_keyed.then_some(n)));
    let clients = Clients::read(clients::connect(proxy.address, requests)?)?;
    let publish = Box::new(move |events: std::ops::Range<u64>| {
        let text: String = events.map(|n| encode(is_keyed.then(|| which(n, count)))).collect();
        send(text.as_bytes())
    });
    Ok(Side::new(proxy.server, clients, if is_keyed { 1 } else { count }, publish))
}

fn channel(whose: Whose) -> String {
    whose.map_or_else(|| "everybody".into(), product::user)
}

fn event(whose: Whose) -> String {
    product::envelope(whose.map(product::user).as_deref(), &product::data(PAYLOAD_BYTES))
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n")
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: bench\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Sends sequential requests on one connection, whose responses a thread discards.
fn pipeline(address: SocketAddr) -> Fallible<impl FnMut(&[u8]) -> Fallible<()>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let mut answers = socket.try_clone()?;
    thread::spawn(move || {
        let mut bytes = [0; 1 << 14];
        while answers.read(&mut bytes).is_ok_and(|length| length > 0) {}
    });
    Ok(move |bytes: &[u8]| Ok(socket.write_all(bytes)?))
}

fn built(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/peers").join(name)
}

fn nchan(count: usize, is_keyed: bool) -> Fallible<Side<'static>> {
    let proxy = passthrough::nginx("nchan.conf", None)?;
    let send = pipeline(proxy.address)?;
    let request = |whose| get(&format!("/sub/{}", channel(whose)));
    side(proxy, count, is_keyed, request, send, |whose| post(&format!("/pub/{}", channel(whose)), "", &event(whose)))
}

fn sketch(count: usize, is_keyed: bool) -> Fallible<Side<'static>> {
    let mut server = Running::start(&mut Command::new(built("sketch"))).map_err(|error| format!("sketch: {error}"))?;
    let address = server.line("listen=")?.parse()?;
    let mut input = server.input()?;
    let send = move |bytes: &[u8]| Ok(input.write_all(bytes).and_then(|()| input.flush())?);
    let request = |whose| get(&format!("/users/{}", channel(whose)));
    side(Proxy { server, address }, count, is_keyed, request, send, |whose| event(whose) + "\n")
}

fn mercure(count: usize, is_keyed: bool) -> Fallible<Side<'static>> {
    let address = process::free_address()?;
    let mut server = Running::start(Command::new(built("mercure")).args([&address.to_string(), MERCURE_KEY]))
        .map_err(|error| format!("mercure: {error}"))?;
    server.await_port(address)?;
    let send = pipeline(address)?;
    let request = |whose| get(&format!("/.well-known/mercure?topic={}", channel(whose)));
    side(Proxy { server, address }, count, is_keyed, request, send, |whose| {
        let headers =
            format!("Authorization: Bearer {MERCURE_TOKEN}\r\nContent-Type: application/x-www-form-urlencoded\r\n");
        post("/.well-known/mercure", &headers, &format!("topic={}&data={}", channel(whose), event(whose)))
    })
}

fn centrifugo(count: usize, is_keyed: bool) -> Fallible<Side<'static>> {
    let address = process::free_address()?;
    let folder = passthrough::template("centrifugo.json", &[("PORT", address.port().to_string())])?;
    let file = folder.path().join("centrifugo.json");
    let mut server = Running::start_with(folder, Command::new(built("centrifugo")).arg("--config").arg(file))
        .map_err(|error| format!("centrifugo: {error}"))?;
    server.await_port(address)?;
    let send = pipeline(address)?;
    // {"subs":{"NAME":{}}}
    let request = |whose| {
        get(&format!("/connection/uni_sse?cf_connect=%7B%22subs%22%3A%7B%22{}%22%3A%7B%7D%7D%7D", channel(whose)))
    };
    side(Proxy { server, address }, count, is_keyed, request, send, |whose| {
        let headers = "X-API-Key: bench\r\nContent-Type: application/json\r\n";
        post("/api/publish", headers, &format!(r#"{{"channel":"{}","data":{}}}"#, channel(whose), event(whose)))
    })
}

fn pushpin(count: usize, is_keyed: bool) -> Fallible<Side<'static>> {
    let backend = passthrough::nginx("grip.conf", None)?;
    let publish = process::free_address()?;
    let address = process::free_address()?;
    let files = passthrough::template("zurl.conf", &[])?;
    let zurl = files.path().display().to_string();
    let file = files.path().join("zurl.conf");
    let asker = Running::start_with(
        files,
        Command::new("zurl").arg("--loglevel=0").arg(format!("--config={}", file.display())),
    )
    .map_err(|error| format!("zurl: {error}"))?;
    let ports = [("PUBLISH_PORT", publish.port().to_string()), ("PORT", address.port().to_string())];
    let values: Vec<_> = ports.into_iter().chain([("ZURL", zurl)]).collect();
    let folder = passthrough::template("pushpin.conf", &values)?;
    fs::write(folder.path().join("routes"), format!("* {}\n", backend.address))?;
    let file = folder.path().join("pushpin.conf");
    let mut server = Running::start_with(folder, Command::new("pushpin").arg(format!("--config={}", file.display())))
        .map_err(|error| format!("pushpin: {error}"))?;
    server.await_port(address)?;
    thread::sleep(SETTLE);
    let proxy = Proxy { server, address };
    // Its publishing port closes after each response.
    let send = move |bytes: &[u8]| {
        let body = format!(r#"{{"items":[{}]}}"#, String::from_utf8_lossy(bytes).trim_end_matches(','));
        let mut socket = TcpStream::connect(publish)?;
        socket.write_all(post("/publish/", "", &body).as_bytes())?;
        socket.read_exact(&mut [0; 12])?;
        Ok(())
    };
    let request = |whose| get(&format!("/{}", channel(whose)));
    let side = side(proxy, count, is_keyed, request, send, |whose| {
        let content = serde_json::Value::String(format!("data: {}\n\n", event(whose)));
        let channel = channel(whose);
        format!(r#"{{"channel":"{channel}","formats":{{"http-stream":{{"content":{content}}}}}}},"#)
    });
    // Pushpin itself holds its streams from here on.
    drop((backend, asker));
    side
}
