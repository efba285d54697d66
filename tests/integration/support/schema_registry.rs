//! Schema registries: Apicurio as a child process, and one that responds with what a test puts there.
//!
//! `make registry` installs Apicurio into `target/registry`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::Call;
use super::real_broker::free_port;

/// A JVM on a busy two-core machine.
const START: Duration = Duration::from_secs(180);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Confluent's API.
const API: &str = "/apis/ccompat/v7";

/// Apicurio, killed when dropped. It keeps schemas in memory.
pub struct Apicurio {
    child: Child,
    address: SocketAddr,
}

impl Apicurio {
    pub fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = root.join("target/registry");
        let jar = folder.join("apicurio-registry-app-2.6.13.Final-runner.jar");
        assert!(jar.exists(), "Apicurio is not in {}: run `make registry`", folder.display());
        let logs = root.join("target/test-logs");
        std::fs::create_dir_all(&logs).unwrap();
        let log = File::create(logs.join("registry.log")).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-Dquarkus.http.host=127.0.0.1", &format!("-Dquarkus.http.port={}", address.port()), "-jar"])
            .arg(jar)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("setpriv and java");
        let mut registry = Self { child, address };
        registry.await_start();
        registry
    }

    /// The URL of Confluent's API.
    pub fn url(&self) -> String {
        format!("http://{}{API}", self.address)
    }

    fn await_start(&mut self) {
        let deadline = Instant::now() + START;
        let subjects = Call::of_admin(self.address, "GET", &format!("{API}/subjects"));
        while TcpStream::connect(self.address).is_err() || subjects.send().status() != 200 {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "Apicurio ended ({ended:?}): see target/test-logs/registry.log");
            assert!(Instant::now() < deadline, "no registry in {START:?}: see target/test-logs/registry.log");
            thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Apicurio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A registry that responds with what a test puts there, and 503 to everything else.
pub struct Stub {
    pub address: SocketAddr,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    answers: BTreeMap<String, Value>,
    /// The value of `Authorization` without which the response is 401.
    credentials: Option<String>,
}

impl Stub {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, known) = (listener.local_addr().unwrap(), Arc::<Mutex<Known>>::default());
        let answers = known.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(BufReader::new(stream.unwrap()), &answers);
            }
        });
        Self { address, known }
    }

    pub fn put(&self, path: &str, answer: Value) {
        self.known.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    /// Responds with 401 to requests without this value of `Authorization`.
    pub fn require(&self, credentials: &str) {
        self.known.lock().unwrap().credentials = Some(credentials.to_owned());
    }

    /// Responds with 503 to everything.
    pub fn forget(&self) {
        self.known.lock().unwrap().answers.clear();
    }
}

fn answer(mut stream: BufReader<TcpStream>, known: &Mutex<Known>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap_or(0) > 0 {}
    let known = known.lock().unwrap();
    let is_allowed = known.credentials.as_ref().is_none_or(|value| head.lines().any(|line| is_field(line, value)));
    let found = head.split(' ').nth(1).and_then(|path| known.answers.get(path)).map(Value::to_string);
    let (status, body) = match found {
        _ if !is_allowed => ("401 Unauthorized", String::new()),
        Some(body) => ("200 OK", body),
        None => ("503 Unavailable", String::new()),
    };
    drop(known);
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let _ = stream.get_mut().write_all(answer.as_bytes());
}

/// Whether a line is the field `Authorization` with this value.
fn is_field(line: &str, value: &str) -> bool {
    line.split_once(": ").is_some_and(|(name, found)| name.eq_ignore_ascii_case("authorization") && found == value)
}
