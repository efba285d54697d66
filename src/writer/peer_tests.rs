//! Clients that do not read, and clients that have disappeared.

use std::process::{Command, Stdio};

use socket2::SockRef;

use super::*;

const PEER_TIMEOUT: Duration = Duration::from_secs(2);
/// Set in the process that runs a test in its own network namespace.
const INSIDE: &str = "SIDESTREAM_TEST_NETWORK";

impl Bench {
    /// With one writer, which a second client follows.
    fn impatient() -> Self {
        Self { peer_timeout: PEER_TIMEOUT, ..Self::with_writers(1) }
    }

    fn ended(&self, reason: &str) -> u64 {
        self.metrics.transport(Transport::Ndjson).disconnects.with_label_values(&[reason]).get()
    }

    /// A client with a small receive buffer that reads only the head.
    fn deaf(&self) -> TcpStream {
        let mut client = self.open(Transport::Ndjson, 10);
        SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
        read_until(&mut client, "\r\n\r\n");
        client
    }

    /// Feeds until events are dropped, which shows that the client's window is closed, or until the client is
    /// disconnected for that. Returns the next offset.
    fn fill(&self) -> i64 {
        let mut reader = self.open(Transport::Ndjson, usize::MAX);
        read_until(&mut reader, "\r\n\r\n");
        let mut next = 0;
        let dropped = self.metrics.events_dropped.with_label_values(&["drop-oldest"]);
        while dropped.get() == 0 && self.ended("slow-consumer") == 0 {
            self.feed_to(&mut reader, next..next + 100);
            next += 100;
        }
        next
    }
}

#[test]
fn a_client_that_pauses_longer_than_the_peer_timeout_continues_with_a_gap() {
    let bench = Bench::impatient();
    let mut paused = bench.deaf();
    let mut next = bench.fill();
    let until = Instant::now() + 3 * PEER_TIMEOUT;
    while Instant::now() < until {
        bench.feed(next..next + 1);
        next += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = read_until(&mut paused, &format!("\"id\":\"orders:0:{}\"", next - 1));
    let missed =
        text.lines().filter_map(|line| line.split_once("\"missed\":")?.1.split(',').next()?.parse::<i64>().ok());
    let got = text.lines().filter(|line| line.starts_with("{\"id\"")).count() as i64;
    assert_eq!(got + missed.sum::<i64>(), next);
    assert_eq!((bench.ended("client-lost"), bench.ended("slow-consumer")), (0, 0));
}

#[test]
fn a_client_that_stalls_longer_than_its_route_allows_is_disconnected() {
    let bench = Bench { stall_timeout: Duration::from_secs(1), ..Bench::impatient() };
    let _paused = bench.deaf();
    bench.fill();
    bench.wait_for(|bench| bench.ended("slow-consumer") == 1);
    bench.wait_for(|bench| bench.writers.streams() == 0);
}

#[test]
fn a_dead_client_is_removed() {
    if !is_inside("writer::tests::peer::a_dead_client_is_removed") {
        return;
    }
    let bench = Bench::impatient();
    let mut reading = bench.open(Transport::Ndjson, 100);
    read_until(&mut reading, "\r\n\r\n");
    ip("down");
    bench.feed(0..1);
    bench.wait_for(|bench| bench.ended("client-lost") == 1);
}

#[test]
fn a_dead_client_with_a_closed_window_is_removed() {
    if !is_inside("writer::tests::peer::a_dead_client_with_a_closed_window_is_removed") {
        return;
    }
    let bench = Bench::impatient();
    let _paused = bench.deaf();
    bench.fill();
    // So long that the kernel by itself would probe the closed window only every few seconds.
    std::thread::sleep(3 * PEER_TIMEOUT);
    assert_eq!(bench.ended("client-lost"), 0, "it is alive");
    ip("down");
    bench.wait_for(|bench| bench.ended("client-lost") == 1);
}

/// Whether this process has its own network namespace with only the loopback interface. Otherwise runs the test in a
/// process that has one, if the machine allows it.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        ip("up");
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net"]);
        command
    };
    let probe = unshare().args(["ip", "link", "set", "lo", "up"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!(
            "skipped {test}: this machine makes no network namespaces (`unshare --user --map-root-user --net ip link`)"
        );
        return false;
    }
    let again =
        unshare().arg(std::env::current_exe().unwrap()).args([test, "--exact"]).env(INSIDE, "1").output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
    false
}

fn ip(state: &str) {
    assert!(Command::new("ip").args(["link", "set", "lo", state]).status().unwrap().success());
}
