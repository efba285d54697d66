//! Explains whether the holder of a token receives an event on a path, and which step decides: the route, the token,
//! the bindings, the rule, the log, or the record's form.
//!
//! It takes the same decisions as an opened stream, in the same order, from the running configuration. It repeats no
//! token and no part of an event. It asks neither `auth.forward` nor `auth.introspection`.

use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::access::{Principal, Selector};
use crate::admission::{self, Rights};
use crate::config::snapshot::Snapshot;
use crate::decode::{Decoder, Format, Record, Shape};
use crate::event::{Entry, Event, EventId, GapCause, Topic};
use crate::hub::{Asker, Log, Lookup, Place};
use crate::route::{Admission, Found, Params, Stream, StreamRoute};
use crate::rule::{BoundRule, Decision};

/// The longest question, in bytes: a token, and a record of the default size limit of brokers.
pub const QUESTION_BYTES_MAX: usize = 2 << 20;
/// How long the log is waited for.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);
const LOG_INTERVAL: Duration = Duration::from_millis(20);
/// It is called by no writer.
const ASKER: Asker = Asker { writer: u32::MAX, session: 0 };

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The path of the stream, as clients send it.
    path: String,
    token: Option<String>,
    /// The id of an event, `topic:partition:offset`.
    event: Option<String>,
    /// The value of a record, instead of an event.
    record: Option<String>,
    /// The topic of the record, if the stream has several.
    topic: Option<String>,
}

/// The answer.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// Whether the stream opens and, if an event was named, receives it. `None` if that cannot be decided now.
    receives: Option<bool>,
    /// The step that decided, unless all of them passed.
    decided_by: Option<&'static str>,
    steps: Vec<Step>,
}

/// One step of the decision.
#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    /// `None` if it cannot be decided now.
    passes: Option<bool>,
    detail: String,
}

/// The last step, which did not pass.
type Stopped = Step;

/// Answers a question. Blocks its thread while the log is read.
pub fn explain(snapshot: &Snapshot, log: &dyn Log, question: &Question, now_unix_ms: i64) -> Explanation {
    let mut steps = Vec::new();
    match decide(snapshot, log, question, now_unix_ms, &mut steps) {
        Ok(()) => Explanation { receives: Some(true), decided_by: None, steps },
        Err(last) => {
            let (receives, decided_by) = (last.passes, Some(last.step));
            steps.push(last);
            Explanation { receives, decided_by, steps }
        }
    }
}

fn decide(
    snapshot: &Snapshot,
    log: &dyn Log,
    question: &Question,
    now_unix_ms: i64,
    steps: &mut Vec<Step>,
) -> Result<(), Stopped> {
    let (route, params) = match snapshot.routes.find(&question.path) {
        Found::Stream { route, params } => (route, params),
        Found::Upstream => return Err(fails("route", "no stream has this path: it is the upstream's")),
        Found::Disguised => return Err(fails("route", "the path must be written in its normal form")),
    };
    steps.push(passes("route", format!("`{}`, stream `{}`", route.pattern, route.stream.name)));
    let principal = identify(snapshot, route, question, now_unix_ms, steps)?;
    let Rights { selector, rule } = admit(route, &params, principal.as_ref(), steps)?;
    let Some(event) = named_event(snapshot, log, question, &route.stream, steps)? else { return Ok(()) };
    judge(route, &selector, rule.as_deref(), &event, steps)
}

fn identify(
    snapshot: &Snapshot,
    route: &StreamRoute,
    question: &Question,
    now_unix_ms: i64,
    steps: &mut Vec<Step>,
) -> Result<Option<Principal>, Stopped> {
    if route.admission == Admission::Public {
        steps.push(passes("token", "the route is public: no token counts"));
        return Ok(None);
    }
    let verifier = snapshot.verifier.as_deref().ok_or_else(|| fails("token", "no token is accepted here"))?;
    if !verifier.takes_tokens() {
        return Err(undecided("token", "a service decides: it is not asked here"));
    }
    let token = question.token.as_deref().ok_or_else(|| fails("token", "a token is required"))?;
    let principal = verifier.verify(token, now_unix_ms).map_err(|error| match verifier.introspects(token) {
        Some(_) => undecided("token", "`auth.introspection` decides: the service is not asked here"),
        None => fails("token", error.to_string()),
    })?;
    if let Some(why) = principal.withdrawn() {
        return Err(fails("token", format!("it is not accepted any more: {why:?}")));
    }
    let left = principal.expires_at.map(|at| format!(", for {} s", at.saturating_sub(now_unix_ms) / 1000));
    steps.push(passes("token", format!("it is accepted{}", left.unwrap_or_default())));
    Ok(Some(principal))
}

fn admit(
    route: &StreamRoute,
    params: &Params,
    principal: Option<&Principal>,
    steps: &mut Vec<Step>,
) -> Result<Rights, Stopped> {
    let rights = admission::rights(route, params, principal).map_err(|why| fails("bind", why.to_string()))?;
    let criteria = rights.selector.0.iter();
    let bound: Vec<String> = criteria.map(|criterion| format!("`{}` = {}", criterion.key, criterion.wanted)).collect();
    steps.push(passes("bind", if bound.is_empty() { "the whole stream".into() } else { bound.join(", ") }));
    let decision = rights.rule.as_ref().map(|rule| rule.decision());
    let rights = rights.admitted().map_err(|refused| match decision {
        Some(Decision::Denied(Some(failure))) => fails("rule", format!("it fails: {failure}")),
        Some(Decision::Denied(None)) => fails("rule", "it is false, whatever the event is"),
        _ => fails("rule", refused.to_string()),
    })?;
    match decision {
        Some(Decision::Allowed) => steps.push(passes("rule", "it allows every event")),
        Some(Decision::ByEvent) => steps.push(passes("rule", "each event decides")),
        Some(Decision::Denied(_)) | None => {}
    }
    Ok(rights)
}

/// The event in question, if one is named.
fn named_event(
    snapshot: &Snapshot,
    log: &dyn Log,
    question: &Question,
    stream: &Stream,
    steps: &mut Vec<Step>,
) -> Result<Option<Event>, Stopped> {
    if let Some(id) = &question.event {
        let id: EventId = id.parse().map_err(|error| fails("window", format!("`event`: {error}")))?;
        carries(stream, &id.topic)?;
        return read(log, &id, steps).map(Some);
    }
    let Some(record) = &question.record else { return Ok(None) };
    let topic = match (&question.topic, &*stream.topics) {
        (Some(topic), _) => topic.as_str().into(),
        (None, [only]) => only.clone(),
        (None, _) => return Err(fails("route", "the stream has several topics: name one of them")),
    };
    carries(stream, &topic)?;
    decode(snapshot, &topic, record, steps).map(Some)
}

fn carries(stream: &Stream, topic: &Topic) -> Result<(), Stopped> {
    let is_carried = stream.topics.contains(topic);
    if is_carried { Ok(()) } else { Err(fails("route", format!("the stream does not carry the topic `{topic}`"))) }
}

/// Reads an event from the log.
fn read(log: &dyn Log, id: &EventId, steps: &mut Vec<Step>) -> Result<Event, Stopped> {
    if log.limits().events == 0 {
        return Err(undecided(
            "window",
            "replay from the log is disabled (`replay.events: 0`): give the record itself",
        ));
    }
    let EventId { topic, partition, offset } = id;
    if *offset < 0 {
        return Err(fails("window", "no record has a negative offset"));
    }
    let place = Place { topic: topic.clone(), partition: *partition, epoch: 0, offset: *offset, until: offset + 1 };
    let until = Instant::now() + LOG_TIMEOUT;
    let page = loop {
        match log.page(&place, ASKER) {
            Lookup::Found(page) => break page,
            Lookup::Asked | Lookup::Down | Lookup::Busy if Instant::now() < until => thread::sleep(LOG_INTERVAL),
            Lookup::Asked | Lookup::Down | Lookup::Busy => {
                return Err(undecided("window", "the log does not answer, or has no such partition or offset yet"));
            }
        }
    };
    for entry in &page.entries {
        match entry {
            Entry::Event(event) if event.id.offset == *offset => {
                steps.push(passes("window", "the log has the record"));
                return Ok(event.with_next(event.next));
            }
            Entry::Gap { cause: GapCause::Truncated, range } if range.from <= *offset => {
                return Err(undecided("window", "the log ends before it"));
            }
            Entry::Gap { cause, range } if (range.from..=range.to).contains(offset) => {
                let is_of_record = matches!(cause, GapCause::Undecodable | GapCause::Invalid);
                let step = if is_of_record { "validation" } else { "window" };
                return Err(fails(step, format!("clients receive a gap in its place: {}", cause.as_str())));
            }
            Entry::Event(_) | Entry::Gap { .. } | Entry::Hole { .. } => {}
        }
    }
    Err(fails("window", "there is no record at this offset: it was compacted, aborted, or is a control record"))
}

/// Decodes a record as the source would.
fn decode(snapshot: &Snapshot, topic: &Topic, record: &str, steps: &mut Vec<Step>) -> Result<Event, Stopped> {
    let shape = snapshot.sources().flat_map(|kafka| &kafka.topics).find(|known| known.name == *topic);
    let shape = shape.ok_or_else(|| fails("route", format!("the topic `{topic}` is not read")))?;
    let record = Record {
        partition: 0,
        offset: 0,
        timestamp: None,
        key: None,
        headers: &[],
        value: Some(record.as_bytes()),
        received: Instant::now(),
        received_ms: 0,
        trace: None,
    };
    // The record is given as it is after decoding with the schema of a registry.
    let is_json = shape.shape.format.is_json();
    let format = if is_json { Format::Json } else { shape.shape.format };
    let mut decoder = Decoder::new(topic.clone(), &Shape { format, key_format: None, ..shape.shape.clone() });
    let event = decoder.decode(&record);
    let event = event.map_err(|error| fails("validation", format!("the record is not an event: {error}")))?;
    steps.push(passes(
        "validation",
        match decoder.take_passed() {
            Some(violation) => format!("the record is an event, although its data is invalid: {violation}"),
            None => "the record is an event".into(),
        },
    ));
    Ok(event)
}

fn judge(
    route: &StreamRoute,
    selector: &Selector,
    rule: Option<&BoundRule>,
    event: &Event,
    steps: &mut Vec<Step>,
) -> Result<(), Stopped> {
    for criterion in &*selector.0 {
        let key = &criterion.key;
        let is_met = Selector([criterion.clone()].into()).matches(event);
        match event.key(key) {
            None => return Err(fails("bind", format!("the event has no usable `{key}`"))),
            Some(_) if !is_met => return Err(fails("bind", format!("the event has another `{key}`"))),
            Some(_) => {}
        }
    }
    steps.push(passes("bind", "the event has the bound keys"));
    if let Some(rule) = rule {
        match rule.allows(&rule.rule().facts(event)) {
            Ok(true) => steps.push(passes("rule", "it is true for the event")),
            Ok(false) => return Err(fails("rule", "it is false for the event")),
            Err(failure) => return Err(fails("rule", format!("it fails for the event: {failure}"))),
        }
    }
    if let Some(fields) = &route.fields {
        match fields.of(event) {
            Some(_) => steps.push(passes("fields", "a part of the event is sent")),
            None => return Err(fails("fields", "names of its fields cannot be compared: clients receive a gap")),
        }
    }
    Ok(())
}

fn passes(step: &'static str, detail: impl Into<String>) -> Step {
    Step { step, passes: Some(true), detail: detail.into() }
}

fn fails(step: &'static str, detail: impl Into<String>) -> Stopped {
    Step { step, passes: Some(false), detail: detail.into() }
}

fn undecided(step: &'static str, detail: impl Into<String>) -> Stopped {
    Step { step, passes: None, detail: detail.into() }
}
