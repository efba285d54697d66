//! Runs one case: produces, opens, and reads item by item.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Map, Value, json};

use super::case::{Answer, Case, Open, Produce, Step};
use super::matching::{KEEP, compare};
use crate::support::Patience;
use crate::support::broker::Broker;
use crate::support::framed::{Framed, Framing};
use crate::support::http::{Body, Call, Head};
use crate::support::ndjson::Ndjson;
use crate::support::sse::{Record, Sse};
use crate::support::websocket::{BINARY, CLOSE, FIN, Frame, RawWebSocket, TEXT};

static RUNS: AtomicU32 = AtomicU32::new(0);

pub struct Run<'a> {
    address: SocketAddr,
    broker: &'a Broker,
    streams: BTreeMap<String, Stream>,
    values: HashMap<String, String>,
}

/// An open response, read according to its media type.
enum Stream {
    Sse(Sse),
    Ndjson(Ndjson),
    Framed(Framed),
    WebSocket(RawWebSocket),
    Whole(Body),
}

impl<'a> Run<'a> {
    pub fn new(address: SocketAddr, broker: &'a Broker) -> Self {
        let key = format!("k{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        Self { address, broker, streams: BTreeMap::new(), values: [("key".to_owned(), key)].into() }
    }

    pub fn all(mut self, case: &Case) {
        for (n, step) in case.steps.iter().enumerate() {
            eprintln!("{}, step {}", case.name, n + 1);
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
        let on = step.on.as_deref().unwrap_or("stream");
        if let Some(produce) = &step.produce {
            self.produce(produce);
        } else if let Some(open) = &step.open {
            self.open(open, step.answer.as_ref());
        } else if let Some(items) = &step.expect {
            items.iter().for_each(|item| self.expect(on, item));
        } else if let Some(message) = &step.send {
            self.send(on, message);
        } else if let Some(closes) = &step.closes {
            self.closes(on, closes);
        } else if step.cut {
            drop(self.streams.remove(on).expect("an open stream"));
        } else {
            panic!("a step without an action");
        }
    }

    fn produce(&mut self, produce: &Produce) {
        let value = produce.value.as_ref().map(|value| self.fill(value).to_string().into_bytes());
        let text = produce.text.as_ref().map(|text| self.text(text).into_bytes());
        let bytes = value.or(text).or_else(|| produce.hex.as_deref().map(bytes_of));
        let key = produce.key.as_ref().map(|key| self.text(key));
        let headers = produce.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let id = self.broker.produce_with_headers(
            &produce.topic,
            produce.partition,
            key.as_deref(),
            bytes.as_deref(),
            headers,
        );
        if let Some(name) = &produce.r#as {
            self.values.insert(name.clone(), id);
        }
    }

    fn open(&mut self, open: &Open, answer: Option<&Answer>) {
        let (method, path) = match (&open.get, &open.method, &open.path) {
            (Some(path), None, None) => ("GET", path),
            (None, Some(method), Some(path)) => (method.as_str(), path),
            _ => panic!("`open` has `get`, or `method` and `path`"),
        };
        let mut call = Call::new(self.address, method, &self.text(path));
        for (name, value) in &open.headers {
            call = call.header(name, self.text(value));
        }
        match open.version.as_deref() {
            None | Some("HTTP/1.1") => {}
            Some("HTTP/1.0") => call = call.http10(),
            Some(other) => panic!("{other} is not spoken here"),
        }
        if open.websocket {
            call = call.upgrade();
        }
        let (head, body) = call.open();
        if let Some(answer) = answer {
            check_head(&head, answer);
        }
        let problem = answer.and_then(|answer| answer.problem.as_ref());
        let framing = framing(&head, &self.text(path));
        let stream = self.read_as(head, body, problem, framing);
        self.streams.insert(open.r#as.clone().unwrap_or_else(|| "stream".to_owned()), stream);
    }

    fn read_as(&self, head: Head, mut body: Body, problem: Option<&Value>, framing: Option<Framing>) -> Stream {
        if let Some(problem) = problem {
            assert_eq!(head.header("content-type"), Some("application/problem+json"));
            let text = std::iter::from_fn(|| body.next().expect("a whole body")).flatten().collect::<Vec<_>>();
            let got: Value = serde_json::from_slice(&text).expect("a JSON problem");
            compare(&self.fill(problem), &got, "").unwrap_or_else(|error| panic!("{error} in {got}"));
            return Stream::Whole(body);
        }
        if let (200, Some(framing)) = (head.status, framing) {
            return Stream::Framed(Framed::over(body, framing));
        }
        match (head.status, head.header("content-type").unwrap_or_default()) {
            (101, _) => Stream::WebSocket(RawWebSocket { connection: body.connection, head }),
            (200, "text/event-stream") => Stream::Sse(Sse::over(head, body)),
            (200, "application/x-ndjson" | "application/jsonl" | "application/json") => {
                Stream::Ndjson(Ndjson::over(head, body))
            }
            _ => Stream::Whole(body),
        }
    }

    fn expect(&mut self, on: &str, item: &Value) {
        let expected = self.fill(item);
        let stream = self.streams.get_mut(on).unwrap_or_else(|| panic!("no stream {on}"));
        let got = stream.next(&expected);
        compare(&expected, &got, "").unwrap_or_else(|error| panic!("{error}; the item is {got}"));
        for (name, pointer) in expected[KEEP].as_object().into_iter().flatten() {
            let pointer = pointer.as_str().expect("a JSON pointer");
            let value = got.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {got}"));
            self.values.insert(name.clone(), value.to_owned());
        }
    }

    fn send(&mut self, on: &str, message: &Value) {
        let message = self.fill(message);
        let Some(Stream::WebSocket(socket)) = self.streams.get_mut(on) else { panic!("{on} is no WebSocket") };
        match (message["text"].as_str(), message["hex"].as_str()) {
            (Some(text), _) => socket.send(FIN | TEXT, text.as_bytes()),
            (_, Some(hex)) => socket.send(FIN | BINARY, &bytes_of(hex)),
            _ => socket.send(FIN | TEXT, message.to_string().as_bytes()),
        }
    }

    fn closes(&mut self, on: &str, closes: &Value) {
        let patience = Patience::start();
        match self.streams.get_mut(on).expect("an open stream") {
            Stream::WebSocket(socket) => assert_eq!(json!(socket.closed()), *closes),
            Stream::Sse(sse) => {
                while sse.record().is_some() {
                    patience.check("the end");
                }
            }
            Stream::Ndjson(ndjson) => {
                while ndjson.line().is_some() {
                    patience.check("the end");
                }
            }
            Stream::Framed(framed) => {
                while framed.record().is_some() {
                    patience.check("the end");
                }
            }
            Stream::Whole(body) => while body.next().expect("a proper end").is_some() {},
        }
    }

    /// Replaces `$name` in all strings of a value.
    fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), self.fill(value))).collect(),
            other => other.clone(),
        }
    }

    /// The longest matching name counts: `$key2` is not `$key` and a digit.
    fn text(&self, text: &str) -> String {
        let mut names: Vec<_> = self.values.iter().collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        names.into_iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value))
    }
}

impl Stream {
    /// The next item of the expected kind, or the next event or gap.
    fn next(&mut self, expected: &Value) -> Value {
        let patience = Patience::start();
        loop {
            patience.check("an item");
            let item = match self {
                Self::Sse(sse) => fields(&sse.record().expect("a record before the end"), expected),
                Self::Ndjson(ndjson) => match &*ndjson.line().expect("a line before the end") {
                    "" => json!(""),
                    line => serde_json::from_str(line).expect("a JSON line"),
                },
                Self::Framed(framed) => match framed.record().expect("a record before the end") {
                    Value::Null => json!(""),
                    record => record,
                },
                Self::WebSocket(socket) => message(socket),
                Self::Whole(_) => panic!("the answer is no stream"),
            };
            let kind = Kind::of(&item);
            if kind == Kind::Other || kind == Kind::of(expected) {
                return item;
            }
        }
    }
}

/// The fields of a record. If an event is expected, a record without data does not count.
fn fields(record: &Record, expected: &Value) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| value.map(|value| fields.insert(name.to_owned(), value));
    put("id", record.id.clone().map(Value::String));
    put("event", record.event.clone().map(Value::String));
    put("retry", record.retry.map(Value::from));
    put("comment", record.comments.first().cloned().map(Value::String));
    if expected["data"].is_string() {
        put("data", record.data.clone().map(Value::String));
    } else {
        put("json", record.data.as_deref().map(|data| serde_json::from_str(data).expect("JSON data")));
    }
    Value::Object(fields)
}

fn message(socket: &mut RawWebSocket) -> Value {
    loop {
        match socket.frame().expect("a frame before the end") {
            Frame { opcode: TEXT, payload } => return serde_json::from_slice(&payload).expect("a JSON message"),
            Frame { opcode: CLOSE, .. } => panic!("closed before the message"),
            _ => {}
        }
    }
}

/// The kind of an item that is neither an event nor a gap.
#[derive(PartialEq)]
enum Kind {
    /// The first record of an SSE stream.
    Priming,
    /// A heartbeat that readers skip: an SSE comment, an empty line.
    Silent,
    /// A heartbeat that is visible to scripts.
    Visible,
    Other,
}

impl Kind {
    fn of(item: &Value) -> Self {
        let is_of_type = |at: &str| item.pointer(at) == Some(&json!("heartbeat"));
        if item["retry"].is_u64() || item["retry"] == "<number>" {
            Self::Priming
        } else if item == &json!("") || item["comment"].is_string() {
            Self::Silent
        } else if is_of_type("/type") || is_of_type("/event") {
            Self::Visible
        } else {
            Self::Other
        }
    }
}

fn check_head(head: &Head, answer: &Answer) {
    assert_eq!(head.status, answer.status, "{head:?}");
    for (name, value) in &answer.headers {
        assert_eq!(head.header(name), Some(value.as_str()), "{name} in {head:?}");
    }
    for name in &answer.without {
        assert_eq!(head.header(name), None, "{name} in {head:?}");
    }
}

/// How an answer is framed, if neither as SSE nor as NDJSON. `application/json` is NDJSON, unless an array was asked
/// for.
fn framing(head: &Head, path: &str) -> Option<Framing> {
    match head.header("content-type")? {
        "application/x-length-prefixed-json" => Some(Framing::Length),
        "application/json-seq" => Some(Framing::JsonSeq),
        "application/x-json-array" => Some(Framing::JsonArray),
        "application/json" if path.contains("framing=json-array") => Some(Framing::JsonArray),
        _ => None,
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().map(|c| c.to_digit(16).expect("hexadecimal digits") as u8).collect();
    digits.chunks_exact(2).map(|two| two[0] << 4 | two[1]).collect()
}
