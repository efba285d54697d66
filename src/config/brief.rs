//! A configuration from a few command-line flags instead of a file: public streams of topics. It is rendered as a file
//! and compiled like one, so that the same rules apply.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

use super::{LoadError, Snapshot, parse};

/// The file name in diagnostics.
const ORIGIN: &str = "(from the command line)";

/// The flags that replace a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brief {
    /// `host:port` of the REST service.
    pub upstream: String,
    /// `host:port,...`
    pub brokers: String,
    pub topics: Vec<String>,
    pub listen: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
}

impl Brief {
    /// Compiles it like a file. Diagnostics refer to positions in [`Brief::written`].
    ///
    /// # Errors
    ///
    /// The diagnostics.
    pub fn compile(&self) -> Result<Snapshot, LoadError> {
        parse(&self.written(), ORIGIN, Path::new(""))
    }

    /// The equivalent file.
    pub fn written(&self) -> String {
        // JSON strings are valid YAML, whatever they contain.
        let Self { upstream, brokers, topics, listen, admin } = self;
        let mut text = String::new();
        if let Some(listen) = listen {
            text += &format!("listen: {}\n", json!(listen));
        }
        if let Some(admin) = admin {
            text += &format!("admin: {{ listen: {} }}\n", json!(admin));
        }
        text += &format!("upstream: {{ address: {} }}\n", json!(upstream));
        text += &format!("kafka: {{ brokers: {} }}\n", json!(brokers));
        text += &format!("streams: {{ all: {{ topics: {} }} }}\n", json!(topics));
        text += "routes:\n";
        for (path, transport) in [("/stream", "ndjson"), ("/events", "sse"), ("/ws", "ws")] {
            text += &format!("  - {{ path: {path}, stream: all, transport: {transport}, public: true }}\n");
        }
        text
    }

    /// The defaults that the user may not expect, a sentence each.
    pub fn assumptions(&self, snapshot: &Snapshot) -> Vec<String> {
        vec![
            format!(
                "{} is streamed whole at /stream (NDJSON), /events (SSE) and /ws (WebSocket)",
                self.topics.join(", ")
            ),
            "the streams are public: every client that can connect receives every event, without a token".into(),
            format!("everything else goes to http://{}", self.upstream),
            format!("clients connect to {}; metrics and health are at {}", snapshot.listen, snapshot.admin),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Admission, Found, Offer, Transport};

    fn brief(upstream: &str, topics: &[&str]) -> Brief {
        let topics = topics.iter().map(|topic| (*topic).into()).collect();
        Brief { upstream: upstream.into(), brokers: "a:1,b:2".into(), topics, listen: None, admin: None }
    }

    #[test]
    fn topics_are_streamed_on_three_paths() {
        let mut brief = brief("127.0.0.1:3000", &["orders", "invoices"]);
        brief.listen = Some("[::1]:0".parse().unwrap());
        let snapshot = brief.compile().unwrap();
        let expected = [("/stream", Transport::Ndjson), ("/events", Transport::Sse), ("/ws", Transport::WebSocket)];
        for (path, transport) in expected {
            let Found::Stream { route, .. } = snapshot.routes.find(path) else { panic!("{path}") };
            assert_eq!((route.offer, route.admission), (Offer::Only(transport), Admission::Public));
            assert_eq!(*route.stream.topics, ["invoices".into(), "orders".into()]);
        }
        assert_eq!((&*snapshot.kafka.brokers, &*snapshot.upstream.address), ("a:1,b:2", "127.0.0.1:3000"));
        assert_eq!(snapshot.listen, brief.listen.unwrap());
    }

    #[test]
    fn an_error_is_reported_as_in_a_file() {
        let error = brief("127.0.0.1:3000 }\nwriters: 3 #", &["or ders"]).compile().unwrap_err().to_string();
        assert!(error.contains("`upstream.address`: found") && error.contains("found `or ders`"), "{error}");
        assert!(error.starts_with("(from the command line):1:22: "), "{error}");
    }
}
