//! The fixtures of the tests: a broker, an upstream, the sidecar between them, and clients that read what it sends.
//!
//! Nothing here asserts properties of the product; the tests do. Every wait is for a condition, and ends at
//! [`DEADLINE`].

pub mod admin;
pub mod broker;
pub mod client;
pub mod collector;
pub mod cutter;
pub mod fixture;
pub mod framed;
pub mod hop;
pub mod http;
pub mod http2;
pub mod kubernetes;
pub mod ndjson;
pub mod raw_upstream;
pub mod real;
pub mod real_broker;
pub mod relay;
pub mod returning;
pub mod schema_registry;
pub mod sidecar;
pub mod slow;
pub mod sse;
pub mod token;
pub mod upstream;
pub mod websocket;
pub mod wiretap;

use std::time::{Duration, Instant};

/// How long a wait may take before the test fails.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// The polling interval of conditions without a notification.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Waits until `look` returns something.
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    let Some(found) = within_deadline(look) else { panic!("not within {DEADLINE:?}: {what}") };
    found
}

/// Like [`eventually`]; `None` after [`DEADLINE`].
pub fn within_deadline<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Waits until `holds` returns true.
pub fn eventually_true(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(()));
}

/// A deadline for loops that heartbeats would otherwise keep alive.
pub struct Patience {
    until: Instant,
}

impl Patience {
    pub fn start() -> Self {
        Self { until: Instant::now() + DEADLINE }
    }

    /// For clients that live through a whole test.
    pub fn long() -> Self {
        Self { until: Instant::now() + 4 * DEADLINE }
    }

    #[track_caller]
    pub fn check(&self, what: &str) {
        assert!(Instant::now() < self.until, "not within {DEADLINE:?}: {what}");
    }
}

/// The first example in YAML of a section of docs/security.md that begins with this key.
pub fn documented(section: &str, key: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md")).unwrap();
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let mut examples = section.split("```yaml\n").skip(1).map(|example| example.split("```").next().unwrap());
    examples.find(|example| example.starts_with(key)).unwrap().to_owned()
}
