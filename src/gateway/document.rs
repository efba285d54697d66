//! The state of a stream as a document: a page of a collection, or one element, on the path of the stream.
//!
//! It contains what a stream with `?from=state` sends as the state. Its entity tag begins with a cursor, and so is the one in the
//! document: a stream that resumes there sends every change after it.

mod asked;
mod page;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LINK, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tokio::time::timeout;

use self::asked::Asked;
use self::page::{Page, Range, View};
use super::Gateway;
use super::admission::retry_delay;
use super::decide::{Wanted, authorized, check, prefers_document};
use super::query::Parameter;
use super::refusal::{Reason, Refusal};
use crate::admission::Rights;
use crate::codec::DataForm;
use crate::config::snapshot::Snapshot;
use crate::cursor::{EncodedCut, TopicPosition};
use crate::event::{Event, EventId};
use crate::hub::{Cut, NoState};
use crate::problem::Problem;
use crate::route::{Admission, Offer, StreamRoute, Transport};
use crate::rule::Judge;
use crate::states::State;

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/json");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The requests of the process that wait for a change. Further ones are answered at once.
pub(super) const WAITS_MAX: usize = 1024;
/// The longest time until a waiting request looks again: a cut that is shared may be as old, and a drain has no signal.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// `Retry-After` while the state is read.
const READING_TIME: Duration = Duration::from_secs(2);

/// A request for a document.
struct Request<'a> {
    route: &'a StreamRoute,
    rights: Rights,
    asked: Asked,
    /// The positions of which the client has the document.
    known: Vec<TopicPosition>,
}

/// What a request for a document receives at this moment.
enum Found {
    Document(Document),
    /// The client has it.
    Unchanged(String),
    Absent,
    /// The cut of the page is not kept any more.
    Gone,
    /// The page cannot be found by its number.
    TooFar(page::TooFar),
    /// The positions of the topic do not fit into a cursor.
    TooManyPartitions,
}

struct Document {
    body: Vec<u8>,
    /// The position of the state.
    cursor: String,
    /// The target of the next page.
    next: Option<String>,
}

/// The transport whose rules apply, if the request is for the state as a document.
pub(super) fn asked_for(wanted: Wanted<'_>, raw: &str) -> Option<Transport> {
    let Wanted { route, header, query, .. } = wanted;
    let is_stream = [Parameter::Framing, Parameter::From, Parameter::Probe].iter().any(|it| query.first(*it).is_some());
    if route.stream.state.is_none() || is_stream || !prefers_document(&header.headers, route, asked::is_paged(raw)) {
        return None;
    }
    body_transport(route.offer)
}

fn body_transport(offer: Offer) -> Option<Transport> {
    Transport::by_preference().find(|transport| offer.has(*transport) && !transport.is_upgrade())
}

/// The response to a request for a document.
pub(super) async fn respond(
    gateway: &Gateway,
    snapshot: &Snapshot,
    wanted: Wanted<'_>,
    raw: &str,
    transport: Transport,
) -> Result<Response<Vec<u8>>, Refusal> {
    let Wanted { route, header, query, .. } = wanted;
    check(wanted)?;
    let rights = authorized(snapshot, wanted, transport).await?.rights;
    let asked = Asked::parse(route, &rights.selector, raw, query).map_err(wrong)?;
    if gateway.pressure.refuses_streams() {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "there is too little memory for a document");
        return Err(Refusal::new(Reason::Memory, problem.retry_after(retry_delay())));
    }
    let state = gateway.states.of(&route.stream).ok_or_else(|| unavailable(NoState::NotRead))?;
    let form = form(route, &rights);
    let known = asked::known(&header.headers, &route.stream.topics[0], &form);
    let request = Request { route, rights, asked, known };
    let wait = asked::wait(&header.headers).filter(|_| request.may_wait());
    let found = await_change(gateway, state, &request, wait).await.map_err(unavailable)?;
    let mut response = found.respond(&form);
    if response.headers().contains_key(ETAG) {
        let api_key = snapshot.verifier.as_deref().and_then(|verifier| verifier.fields().api_key.cloned());
        caching(response.headers_mut(), route.admission, api_key);
    }
    if let Some(applied) = wait.and_then(|wait| HeaderValue::try_from(format!("wait={}", wait.as_secs())).ok()) {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// The end of the entity tag: it differs where a client receives other elements of the same state, or other fields of
/// them. Empty if it receives all of each event. It is the same on all replicas.
fn form(route: &StreamRoute, rights: &Rights) -> String {
    let Rights { selector, rule } = rights;
    if selector.0.is_empty() && rule.is_none() && route.fields.is_none() && route.data == DataForm::Envelope {
        return String::new();
    }
    let mut hasher = DefaultHasher::new();
    (selector, rule, route.data, format!("{:?}", route.fields)).hash(&mut hasher);
    format!(";{:016x}", hasher.finish())
}

/// Looks at the state until the client does not have it yet, or the time is over.
async fn await_change(
    gateway: &Gateway,
    state: &State,
    request: &Request<'_>,
    wait: Option<Duration>,
) -> Result<Found, NoState> {
    let place = wait.and_then(|_| gateway.document_waits.try_acquire().ok());
    let ends = Instant::now() + wait.filter(|_| place.is_some()).unwrap_or_default();
    let mut changes = state.changes();
    loop {
        changes.mark_unchanged();
        let now = Instant::now();
        let found = request.look(gateway, state, now)?;
        let left = ends.saturating_duration_since(now);
        if !matches!(found, Found::Unchanged(_)) || left.is_zero() || gateway.draining.is_set() {
            return Ok(found);
        }
        let _ = timeout(left.min(LOOK_AGAIN), changes.changed()).await;
    }
}

impl Request<'_> {
    /// A page of a cut that is kept never changes.
    fn may_wait(&self) -> bool {
        !self.known.is_empty() && !matches!(self.asked, Asked::After { .. })
    }

    fn look(&self, gateway: &Gateway, state: &State, now: Instant) -> Result<Found, NoState> {
        let judge = Judge::default();
        let view = View { route: self.route, rights: &self.rights, judge: &judge };
        let found = match &self.asked {
            Asked::Element(key) => self.element(view, &*state.table().current()?, key),
            Asked::Numbered { number, size } => {
                let current = state.table().current()?;
                // Further pages are of the same cut: then it has to be kept.
                let cut = if current.len() <= *size { current } else { state.table().cut(now)? };
                self.page(view, &cut, None, (Some(*number), *size))
            }
            Asked::After { cursor, size } => {
                let position = cursor.cut(&self.route.stream.topics[0]);
                match position.and_then(|position| state.table().kept(&position)) {
                    Some(cut) => self.page(view, &cut, cursor.key.as_deref().map(Arc::from).as_ref(), (None, *size)),
                    None => Found::Gone,
                }
            }
        };
        for (route, failures) in judge.take_failures() {
            gateway.metrics.rule_errors.with_label_values(&[&*route]).inc_by(failures.count);
        }
        Ok(found)
    }

    fn element(&self, view: View<'_>, cut: &Cut, key: &str) -> Found {
        let Some((event, body)) = cut.get(key).and_then(|event| Some((event, view.element(event)?))) else {
            return Found::Absent;
        };
        let Some(encoded) = EncodedCut::new(&cut.position, &event.id.topic) else { return Found::TooManyPartitions };
        let cursor = self.end(cut, &encoded);
        if self.known.iter().any(|known| has(known, cut, event)) {
            return Found::Unchanged(cursor);
        }
        Found::Document(Document { body, cursor, next: None })
    }

    fn page(
        &self,
        view: View<'_>,
        cut: &Cut,
        after: Option<&Arc<str>>,
        (number, size): (Option<usize>, usize),
    ) -> Found {
        let Some(encoded) = EncodedCut::new(&cut.position, &self.route.stream.topics[0]) else {
            return Found::TooManyPartitions;
        };
        let cursor = self.end(cut, &encoded);
        if self.known.iter().any(|known| cut.is_unchanged_since(known)) {
            return Found::Unchanged(cursor);
        }
        let skip = number.map_or(0, |number| number * size);
        let page = match view.page(cut, after, Range { skip, size }) {
            Ok(page) => page,
            Err(too_far) => return Found::TooFar(too_far),
        };
        let within = self.within(cut, &encoded, number, &page);
        let next = within.as_ref().filter(|_| page.has_more && skip == 0);
        let next = next.map(|cursor| format!("?since={cursor}&size={size}"));
        let body = page.document(number, size, cut.unreadable, within.as_deref().unwrap_or(&cursor));
        Found::Document(Document { body, cursor, next })
    }

    /// The position within the snapshot of a client that lacks a part of it. A page that was asked for by its number may
    /// be of another cut than the pages before it, so that its client has nothing for certain.
    fn within(&self, cut: &Cut, encoded: &EncodedCut, number: Option<usize>, page: &Page) -> Option<String> {
        if number.is_some_and(|number| number > 0) {
            return Some(encoded.cursor(&self.id(-1), None));
        }
        let last = page.last.as_ref().filter(|_| page.has_more)?;
        Some(encoded.cursor(&cut.get(last)?.id, Some(last)))
    }

    /// The position after the whole cut.
    fn end(&self, cut: &Cut, encoded: &EncodedCut) -> String {
        let last = cut.position.next.first().map_or(-1, |next| (next - 1).max(-1));
        encoded.end(self.id(last)).to_string()
    }

    fn id(&self, offset: i64) -> EventId {
        EventId { topic: self.route.stream.topics[0].clone(), partition: 0, offset }
    }
}

/// Whether a client that has the state at this position has the newest event of a key.
fn has(known: &TopicPosition, cut: &Cut, event: &Event) -> bool {
    let next = usize::try_from(event.id.partition).ok().and_then(|n| known.next.get(n));
    known.epoch == cut.position.epoch && next.is_some_and(|next| event.id.offset < *next)
}

impl Found {
    fn respond(self, form: &str) -> Response<Vec<u8>> {
        let problem = |status, detail: String| Problem::new(status, detail).into_response();
        match self {
            Self::Document(document) => document.into_response(form),
            Self::Unchanged(cursor) => {
                let mut response = Response::new(Vec::new());
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                put_tag(response.headers_mut(), &cursor, form);
                response
            }
            Self::Absent => problem(StatusCode::NOT_FOUND, "there is no such element".into()),
            Self::Gone => problem(
                StatusCode::GONE,
                "the snapshot of this cursor is not kept any more: begin with the first page".into(),
            ),
            Self::TooFar(too_far) => problem(StatusCode::BAD_REQUEST, too_far.to_string()),
            Self::TooManyPartitions => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "the topic has too many partitions for a cursor".into())
            }
        }
    }
}

impl Document {
    fn into_response(self, form: &str) -> Response<Vec<u8>> {
        let length = self.body.len();
        let mut response = Response::new(self.body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, MEDIA_TYPE);
        headers.insert(CONTENT_LENGTH, length.into());
        put_tag(headers, &self.cursor, form);
        let next = self.next.and_then(|next| HeaderValue::try_from(format!("<{next}>; rel=\"next\"")).ok());
        next.map(|next| headers.insert(LINK, next));
        response
    }
}

fn put_tag(headers: &mut HeaderMap, cursor: &str, form: &str) {
    // The characters of cursors are valid in entity tags.
    if let Ok(tag) = HeaderValue::try_from(format!("\"{cursor}{form}\"")) {
        headers.insert(ETAG, tag);
    }
}

/// Caches revalidate a document before each use; those that several users share do not keep what needs a token.
fn caching(headers: &mut HeaderMap, admission: Admission, api_key: Option<HeaderName>) {
    let (directives, mut vary) = match admission {
        Admission::Public => ("no-cache", "accept".to_owned()),
        Admission::Token => ("private, no-cache", "accept, authorization, cookie".to_owned()),
    };
    if let Some(field) = api_key.filter(|_| admission == Admission::Token) {
        vary = format!("{vary}, {field}");
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(directives));
    if let Ok(vary) = HeaderValue::try_from(vary) {
        headers.insert(VARY, vary);
    }
}

fn wrong(detail: &'static str) -> Refusal {
    Refusal::new(Reason::Parameter, Problem::new(StatusCode::BAD_REQUEST, detail))
}

fn unavailable(why: NoState) -> Refusal {
    let delay = match why {
        NoState::NotRead => READING_TIME,
        NoState::TooLarge => retry_delay(),
    };
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, why.to_string());
    Refusal::new(Reason::State, problem.retry_after(delay))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Choice, Fields};
    use crate::pointer::Pointer;
    use crate::testing::{route, selector};

    #[test]
    fn an_entity_tag_differs_with_rights_and_shown_fields() {
        let rights = |value: &str| Rights { selector: selector(&[("userId", value)]), rule: None };
        let showing = |choice, id, field: &str| {
            let pointer: Pointer = std::iter::once(Box::from(field)).collect();
            StreamRoute { fields: Some(Arc::new(Fields::new(id, choice, [pointer]))), ..route("/orders") }
        };
        let all = Rights::default();
        let forms = [
            form(&route("/orders"), &all),
            form(&route("/orders"), &rights("u1")),
            form(&route("/orders"), &rights("u2")),
            form(&StreamRoute { data: DataForm::Payload, ..route("/orders") }, &all),
            form(&showing(Choice::Keep, 1, "total"), &all),
            form(&showing(Choice::Drop, 1, "total"), &all),
            form(&showing(Choice::Drop, 1, "name"), &all),
        ];
        assert_eq!(forms[0], "");
        for (n, form) in forms.iter().enumerate() {
            assert!(!forms[..n].contains(form), "{n}: {forms:?}");
        }
        assert_eq!(form(&route("/orders"), &rights("u1")), forms[1]);
    }
}
