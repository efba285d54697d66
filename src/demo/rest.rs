//! The demo's upstream: a small REST service for the shop, on a free loopback port, with the demo's page at `/` and the
//! page's controls under `/demo`.
//!
//! It does not know about streams, which is what the demo shows. Orders are placed asynchronously (202 and an operation
//! to poll).

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use http::{Method, Response, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::codec::problem::{ABOUT_BLANK, MEDIA_TYPE, document};

use super::classic;
use super::producer::{Ask, BURST_EVENTS_MAX, OUTAGE};
use super::shop::{SEEDED, Shop};
use super::tokens::Tokens;

/// The largest request body, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;

/// The default number of orders per page.
const PAGE_SIZE: usize = 20;
const PAGE_SIZE_MAX: usize = 100;
/// The default price of an order, in cents.
const TOTAL_DEFAULT: u32 = 9_999;
/// The highest price of an order, in units of `total`.
const TOTAL_MAX: f64 = 1_000_000.0;

/// The default number of events in a burst.
const BURST_EVENTS: usize = 4_000;

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The page, and the npm package that reads its streams: path, content type, content.
const PAGE: [(&str, &str, &str); 13] = [
    ("", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("page.js", JAVASCRIPT, include_str!("page/page.js")),
    ("client/backoff.js", JAVASCRIPT, include_str!("../../clients/js/src/backoff.js")),
    ("client/credit.js", JAVASCRIPT, include_str!("../../clients/js/src/credit.js")),
    ("client/fetched.js", JAVASCRIPT, include_str!("../../clients/js/src/fetched.js")),
    ("client/index.js", JAVASCRIPT, include_str!("../../clients/js/src/index.js")),
    ("client/items.js", JAVASCRIPT, include_str!("../../clients/js/src/items.js")),
    ("client/refused.js", JAVASCRIPT, include_str!("../../clients/js/src/refused.js")),
    ("client/shared.js", JAVASCRIPT, include_str!("../../clients/js/src/shared.js")),
    ("client/stream.js", JAVASCRIPT, include_str!("../../clients/js/src/stream.js")),
    ("client/text.js", JAVASCRIPT, include_str!("../../clients/js/src/text.js")),
    ("client/websocket.js", JAVASCRIPT, include_str!("../../clients/js/src/websocket.js")),
];
/// The page loads nothing from other origins, and connects only to its own.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self' ws: wss:; \
     img-src data:; base-uri 'none'; form-action 'none'";

/// A complete response.
pub(super) type Answer = Response<Vec<u8>>;

/// The responses of the service; `server` transports them over HTTP.
pub(super) struct RestService {
    shop: Arc<Shop>,
    ask: SyncSender<Ask>,
    /// The tokens of the users, for the page: `{"u123":"<JWT>"}`.
    tokens: Value,
}

impl RestService {
    pub(super) fn new(shop: Arc<Shop>, ask: SyncSender<Ask>, tokens: &Tokens) -> Self {
        Self { shop, ask, tokens: tokens.iter().map(|(user, token)| ((*user).to_owned(), json!(token))).collect() }
    }

    /// Responds to one request. HEAD is handled like GET; the server omits the body.
    pub(super) fn answer(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> Answer {
        let read = method == Method::GET || method == Method::HEAD;
        let file = path.trim_start_matches('/');
        let segments: Vec<&str> = file.strip_prefix("v1/").unwrap_or(file).split('/').collect();
        match segments[..] {
            _ if read && on_page(file).is_some() => page(file),
            ["clients.js"] if read => answer_bytes(StatusCode::OK, JAVASCRIPT, classic::SCRIPT.clone().into_bytes()),
            ["demo", "tokens"] if read => answer_json(StatusCode::OK, &self.tokens),
            ["demo", "burst"] if method == Method::POST => self.burst(query),
            ["demo", "kafka", "restart"] if method == Method::POST => self.restart(),
            ["orders"] if read => self.list(query),
            ["orders"] if method == Method::POST => self.place(body),
            ["orders", id] if read => found(self.shop.order(id), "order"),
            ["orders", id] if method == Method::PUT => self.update(id, body),
            ["orders", id] if method == Method::DELETE => self.delete(id),
            ["operations", id] if read => found(self.shop.operation(id), "operation"),
            ["orders"] => not_allowed("GET, HEAD, POST"),
            ["demo", "burst"] | ["demo", "kafka", "restart"] => not_allowed("POST"),
            ["orders", _] => not_allowed("GET, HEAD, PUT, DELETE"),
            ["clients.js"] | ["demo", "tokens"] | ["operations", _] => not_allowed("GET, HEAD"),
            _ if on_page(file).is_some() => not_allowed("GET, HEAD"),
            _ => problem(StatusCode::NOT_FOUND, "there is nothing under this path"),
        }
    }

    fn list(&self, query: &str) -> Answer {
        let (Ok(page), Ok(size)) = (parameter(query, "page", 0), parameter(query, "size", PAGE_SIZE)) else {
            return problem(StatusCode::BAD_REQUEST, "page and size are whole numbers");
        };
        let size = size.clamp(1, PAGE_SIZE_MAX);
        let (orders, total) = self.shop.page(page, size);
        let meta = json!({"pagination": {"page": page, "size": size, "totalElements": total}});
        answer_json(StatusCode::OK, &json!({"data": orders, "meta": meta}))
    }

    fn place(&self, body: &[u8]) -> Answer {
        let total = match total(body) {
            Ok(total) => total,
            Err(detail) => return problem(StatusCode::BAD_REQUEST, detail),
        };
        let accepted = self.shop.accept(total);
        let operation_id = accepted.operation_id.clone();
        if self.ask.try_send(Ask::Order(accepted)).is_err() {
            self.shop.withdraw(&operation_id);
            return busy();
        }
        let location = format!("/operations/{operation_id}");
        let body = json!({"operationId": operation_id, "status": "PROCESSING"});
        with(answer_json(StatusCode::ACCEPTED, &body), header::LOCATION, &location)
    }

    fn update(&self, id: &str, body: &[u8]) -> Answer {
        let changed = match total(body) {
            Ok(total) => self.shop.update(id, total),
            Err(detail) => return problem(StatusCode::BAD_REQUEST, detail),
        };
        match changed {
            Some(order) if self.ask.try_send(Ask::Changed(order.clone())).is_err() => busy(),
            order => found(order, "order"),
        }
    }

    fn delete(&self, id: &str) -> Answer {
        if SEEDED.contains(&id) {
            return problem(StatusCode::CONFLICT, "the demo keeps this order");
        }
        if !self.shop.delete(id) {
            return problem(StatusCode::NOT_FOUND, "no such order");
        }
        if self.ask.try_send(Ask::Deleted(id.to_owned())).is_err() {
            return busy();
        }
        let mut answer = Response::new(Vec::new());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        answer
    }

    fn burst(&self, query: &str) -> Answer {
        match parameter(query, "events", BURST_EVENTS) {
            Ok(events @ 1..=BURST_EVENTS_MAX) => self.accept(Ask::Burst(events), &json!({"events": events})),
            _ => problem(StatusCode::BAD_REQUEST, &format!("events is a number from 1 to {BURST_EVENTS_MAX}")),
        }
    }

    fn restart(&self) -> Answer {
        self.accept(Ask::Outage, &json!({"downMs": OUTAGE.as_millis() as u64}))
    }

    fn accept(&self, ask: Ask, body: &Value) -> Answer {
        self.ask.try_send(ask).map_or_else(|_| busy(), |()| answer_json(StatusCode::ACCEPTED, body))
    }
}

/// The price of an order in cents. The error is a message for the client.
fn total(body: &[u8]) -> Result<u32, &'static str> {
    let Ok(Value::Object(order)) = serde_json::from_slice(body) else { return Err("an order is a JSON object") };
    let Some(total) = order.get("total") else { return Ok(TOTAL_DEFAULT) };
    let total = total.as_f64().filter(|total| (0.0..=TOTAL_MAX).contains(total));
    // The range was checked: at most 100,000,000 cents.
    total.map(|total| (total * 100.0).round() as u32).ok_or("total is a number from 0 to 1000000")
}

/// An RFC 9457 problem of the type `about:blank`.
pub(super) fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = document(Some(ABOUT_BLANK), status.as_u16(), title, detail, Value::Null);
    answer_bytes(status, MEDIA_TYPE, body)
}

fn busy() -> Answer {
    let busy = problem(StatusCode::SERVICE_UNAVAILABLE, "too much waits to be done");
    with(busy, header::RETRY_AFTER, "1")
}

fn on_page(file: &str) -> Option<(&'static str, &'static str)> {
    PAGE.iter().find(|(path, ..)| *path == file).map(|(_, content_type, content)| (*content_type, *content))
}

fn page(file: &str) -> Answer {
    let Some((content_type, content)) = on_page(file) else {
        return problem(StatusCode::NOT_FOUND, "there is nothing under this path");
    };
    let answer = answer_bytes(StatusCode::OK, content_type, content.into());
    with(answer, header::CONTENT_SECURITY_POLICY, PAGE_POLICY)
}

fn found(thing: Option<impl Serialize>, what: &str) -> Answer {
    match thing {
        Some(thing) => answer_json(StatusCode::OK, &thing),
        None => problem(StatusCode::NOT_FOUND, &format!("no such {what}")),
    }
}

fn not_allowed(allow: &'static str) -> Answer {
    with(problem(StatusCode::METHOD_NOT_ALLOWED, &format!("allowed here: {allow}")), header::ALLOW, allow)
}

fn answer_json(status: StatusCode, body: &impl Serialize) -> Answer {
    match serde_json::to_vec(body) {
        Ok(body) => answer_bytes(status, "application/json", body),
        Err(_) => answer_bytes(StatusCode::INTERNAL_SERVER_ERROR, "application/json", b"null".to_vec()),
    }
}

fn answer_bytes(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Answer {
    let length = body.len();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    answer
}

fn with(mut answer: Answer, name: header::HeaderName, value: &str) -> Answer {
    if let Ok(value) = value.parse() {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// An integer of the query, or `default` if it is absent.
fn parameter(query: &str, name: &str, default: usize) -> Result<usize, std::num::ParseIntError> {
    let value = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name);
    value.map_or(Ok(default), |(_, value)| value.parse())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::super::shop::Accepted;
    use super::*;

    fn service(waiting_max: usize) -> (RestService, Receiver<Ask>) {
        let (sender, receiver) = sync_channel(waiting_max);
        let tokens = vec![("u123", "a.b.c".to_owned())];
        (RestService::new(Arc::new(Shop::open()), sender, &tokens), receiver)
    }

    fn body(answer: &Answer) -> Value {
        serde_json::from_slice(answer.body()).unwrap()
    }

    #[test]
    fn orders_come_in_pages() {
        let (service, _receiver) = service(1);
        let answer = service.answer(&Method::GET, "/orders", "page=1&size=2", b"");
        assert_eq!(
            body(&answer),
            json!({
                "data": [{"id": "order-789", "status": "CREATED", "total": 1299.0}],
                "meta": {"pagination": {"page": 1, "size": 2, "totalElements": 3}},
            })
        );
        assert_eq!(service.answer(&Method::GET, "/orders", "page=x", b"").status(), 400);
    }

    #[test]
    fn placing_an_order_gives_an_operation_and_wakes_the_producer() {
        let (service, receiver) = service(1);
        let answer = service.answer(&Method::POST, "/orders", "", br#"{"total":12.34}"#);
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["location"]),
            (202, &"/operations/op-1".parse().unwrap())
        );
        assert_eq!(body(&answer), json!({"operationId": "op-1", "status": "PROCESSING"}));
        assert_eq!(body(&service.answer(&Method::GET, "/operations/op-1", "", b"")), body(&answer));
        assert_eq!(receiver.recv().unwrap(), Ask::Order(Accepted { operation_id: "op-1".into(), total: 1_234 }));
    }

    #[test]
    fn orders_that_cannot_be_made_are_refused() {
        let (service, _receiver) = service(1);
        for bad in ["", "[]", "{", r#"{"total":-1}"#, r#"{"total":1e9}"#, r#"{"total":"1"}"#] {
            assert_eq!(service.answer(&Method::POST, "/orders", "", bad.as_bytes()).status(), 400, "{bad}");
        }
        assert_eq!(service.answer(&Method::POST, "/orders", "", b"{}").status(), 202);
        let busy = service.answer(&Method::POST, "/orders", "", b"{}");
        assert_eq!((busy.status().as_u16(), busy.headers().contains_key("retry-after")), (503, true));
        assert_eq!(service.answer(&Method::GET, "/operations/op-2", "", b"").status(), 404);
    }

    #[test]
    fn what_is_not_there_is_a_problem() {
        let (service, _receiver) = service(1);
        for path in ["/nothing", "/orders/order-0", "/operations/op-0", "/orders/order-123/x"] {
            let answer = service.answer(&Method::GET, path, "", b"");
            assert_eq!(answer.status(), 404, "{path}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
        let answer = service.answer(&Method::DELETE, "/orders", "", b"");
        assert_eq!((answer.status().as_u16(), &answer.headers()["allow"]), (405, &"GET, HEAD, POST".parse().unwrap()));
    }

    #[test]
    fn the_page_and_its_tokens_are_served() {
        let (service, _receiver) = service(1);
        let page = service.answer(&Method::GET, "/", "", b"");
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
        let texts: String = PAGE.iter().map(|(_, _, content)| *content).collect();
        for (file, ..) in &PAGE[1..] {
            let name = file.rsplit('/').next().unwrap();
            let is_used = ['"', '\''].iter().any(|quote| texts.contains(&format!("{name}{quote}")));
            assert!(is_used, "the page does not use {file}");
            assert_eq!(service.answer(&Method::GET, &format!("/{file}"), "", b"").status(), 200);
        }
        assert!(body(&service.answer(&Method::GET, "/demo/tokens", "", b""))["u123"] == "a.b.c");
    }

    #[test]
    fn bursts_are_bounded_and_outages_are_passed_on() {
        let (service, receiver) = service(2);
        for (query, status) in [("events=0", 400), ("events=10001", 400), ("events=-1", 400), ("events=10000", 202)] {
            assert_eq!(service.answer(&Method::POST, "/demo/burst", query, b"").status(), status, "{query}");
        }
        assert_eq!(body(&service.answer(&Method::POST, "/demo/kafka/restart", "", b"")), json!({"downMs": 3000}));
        assert_eq!(service.answer(&Method::POST, "/demo/burst", "", b"").status(), 503);
        assert_eq!(service.answer(&Method::GET, "/demo/burst", "", b"").status(), 405);
        assert_eq!((receiver.recv().unwrap(), receiver.recv().unwrap()), (Ask::Burst(10_000), Ask::Outage));
    }
}
