//! An OpenTelemetry collector for traces: it accepts what is posted to `/v1/traces`, and returns the spans.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message;

use super::eventually;

pub struct Collector {
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    connections: usize,
    spans: Vec<Span>,
    /// Connections that stay open without a response.
    held: Vec<TcpStream>,
}

/// A received span; ids are in hexadecimal.
#[derive(Clone, Debug, Default)]
pub struct Span {
    pub service: String,
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty for the root of a trace.
    pub parent: String,
    pub kind: i32,
    /// Numbers are converted to text.
    pub attributes: BTreeMap<String, String>,
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    pub end: u64,
    /// The times of its events.
    pub moments: Vec<u64>,
    pub is_error: bool,
}

impl Span {
    #[track_caller]
    pub fn is(&self, attributes: &[(&str, &str)]) {
        for (key, value) in attributes {
            assert_eq!(self.attributes.get(*key).map(String::as_str), Some(*value), "{key} of {self:?}");
        }
    }
}

impl Collector {
    pub fn start() -> Self {
        Self::that(true)
    }

    /// A collector that accepts connections and never responds.
    pub fn silent() -> Self {
        Self::that(false)
    }

    fn that(answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Mutex<Shared>>::default();
        let seen = shared.clone();
        // Ends with the test process.
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                seen.lock().unwrap().connections += 1;
                if answers {
                    let spans = take(socket);
                    seen.lock().unwrap().spans.extend(spans);
                } else {
                    seen.lock().unwrap().held.push(socket);
                }
            }
        });
        Self { address, shared }
    }

    /// The configuration section that sends traces here.
    pub fn section(&self, sample: f64) -> String {
        format!("tracing: {{ endpoint: \"http://{}\", sample: {sample:?}, service_name: shop }}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.shared.lock().unwrap().connections
    }

    pub fn spans(&self) -> Vec<Span> {
        self.shared.lock().unwrap().spans.clone()
    }

    /// Waits until there are this many spans of this name, and returns them in order of arrival.
    #[track_caller]
    pub fn named(&self, name: &str, count: usize) -> Vec<Span> {
        let named = || self.spans().into_iter().filter(|span| span.name == name).collect::<Vec<_>>();
        eventually(&format!("{count} spans {name:?}"), || Some(named()).filter(|spans| spans.len() >= count))
    }
}

/// Reads a request, responds, and returns its spans.
fn take(socket: TcpStream) -> Vec<Span> {
    let mut reader = BufReader::new(socket);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_ascii_lowercase()),
        }
    }
    assert_eq!(lines[0], "post /v1/traces http/1.1");
    assert!(lines.contains(&"content-type: application/x-protobuf".to_owned()), "{lines:?}");
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    let request = ExportTraceServiceRequest::decode(&*body).unwrap();
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let service = texts(resource.resource.unwrap().attributes).remove("service.name").unwrap();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Span {
                service: service.clone(),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                kind: span.kind,
                attributes: texts(span.attributes),
                start: span.start_time_unix_nano,
                end: span.end_time_unix_nano,
                moments: span.events.iter().map(|event| event.time_unix_nano).collect(),
                is_error: span.status.is_some_and(|status| status.code == 2),
            });
        }
    }
    spans
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.into_iter().map(|pair| (pair.key, text(pair.value.unwrap().value.unwrap()))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
