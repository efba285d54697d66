use std::time::Duration;

use serde_json::json;

use super::super::CloseReason;
use super::super::tests::Bench;
use super::*;
use crate::access::{Binding, Principal, Rule, Source};
use crate::codec::{Choice, Fields};
use crate::route::*;
use crate::testing::{self, binding, stream};

const PATTERN: &str = "/orders/{id}/x";

/// A route with all settings.
fn route() -> StreamRoute {
    StreamRoute {
        admission: Admission::Token,
        bindings: [by_path("id"), by_claim("sub")].into(),
        offer: Offer::Auto,
        allowed_origins: ["https://a".into()].into(),
        subprotocols: ["one".into()].into(),
        ..testing::route(PATTERN)
    }
}

fn by_path(name: &str) -> Binding {
    binding("orderId", Source::Path(name.into()))
}

fn by_claim(name: &str) -> Binding {
    binding("userId", Source::Claim([name.into()].into()))
}

fn table(routes: impl IntoIterator<Item = StreamRoute>) -> Arc<RouteTable> {
    Arc::new(RouteTable::new(routes.into_iter().map(Arc::new).collect()).unwrap())
}

/// A request for the route's stream that authority 1 admitted.
fn request(transport: Transport, routes: &Arc<RouteTable>) -> Request {
    let principal = Principal { claims: Arc::default(), expires_at: None, authority: Authority(1), standing: None };
    let route = routes.routes().next().unwrap().clone();
    Request { principal: Some(principal), routes: routes.clone(), ..testing::request(route, transport) }
}

/// The transports whose streams continue when these routes replace the previous one.
fn who_goes_on(routes: impl IntoIterator<Item = StreamRoute>) -> Vec<Transport> {
    let before = table([route()]);
    let reload = Reload::new(&before, table(routes), [Authority(0), Authority(1)]);
    let goes_on = |transport: &Transport| reload.goes_on(&request(*transport, &before)).is_some();
    Transport::ALL.into_iter().filter(goes_on).collect()
}

/// Changes, and the transports that continue afterwards.
#[test]
fn changes_that_end_streams() {
    use Transport::{Sse, WebSocket};
    let but = |one| Transport::ALL.into_iter().filter(|transport| *transport != one).collect::<Vec<_>>();
    let (not_sse, not_websocket) = (but(Sse), but(WebSocket));
    type Change = fn(&mut StreamRoute);
    let cases: [(&str, Change, &[Transport]); 29] = [
        ("nothing", |_| {}, &Transport::ALL),
        ("heartbeat", |r| r.heartbeat = Duration::from_secs(1), &Transport::ALL),
        ("heartbeat form", |r| r.heartbeat_form = HeartbeatForm::Visible, &Transport::ALL),
        ("retry", |r| r.retry = Duration::from_secs(9), &Transport::ALL),
        ("queue", |r| r.queue.overflow = Overflow::Disconnect, &Transport::ALL),
        ("refresh", |r| r.refresh = Some("/all".into()), &Transport::ALL),
        ("on_gap", |r| r.on_gap = OnGap::Continue, &Transport::ALL),
        ("max_streams", |r| r.max_streams = Some(1), &Transport::ALL),
        ("other methods", |r| r.other_methods = OtherMethods::Upstream, &Transport::ALL),
        ("websocket limits", |r| r.websocket.commands_per_second = 1, &Transport::ALL),
        ("order of bindings", |r| r.bindings.reverse(), &Transport::ALL),
        ("another pattern", |r| r.pattern = "/orders/{other}/x".into(), &[]),
        ("another topic", |r| r.stream = stream(2, &["refunds"]), &[]),
        ("another stream of the topic", |r| r.stream = stream(2, &["orders"]), &[]),
        ("public", |r| r.admission = Admission::Public, &[]),
        ("a binding less", |r| r.bindings = [by_path("id")].into(), &[]),
        ("a binding more", |r| r.bindings = [by_path("id"), by_claim("sub"), by_claim("org")].into(), &[]),
        ("another rule", |r| r.bindings[1].rule = Rule::Prefix, &[]),
        ("another claim", |r| r.bindings = [by_path("id"), by_claim("org")].into(), &[]),
        ("payload", |r| r.data = DataForm::Payload, &[]),
        ("fields", |r| r.fields = Some(Arc::new(Fields::new(1, Choice::Keep, []))), &[]),
        ("event field", |r| r.event_field = EventField::Type, &not_sse),
        ("frames", |r| r.frames = WebSocketFrames::Binary, &not_websocket),
        ("only SSE", |r| r.offer = Offer::Only(Sse), &[Sse]),
        ("only WebSocket", |r| r.offer = Offer::Only(WebSocket), &[WebSocket]),
        ("an origin less", |r| r.allowed_origins = [].into(), &not_websocket),
        ("an origin more", |r| r.allowed_origins = ["https://b".into(), "https://a".into()].into(), &Transport::ALL),
        ("another subprotocol", |r| r.subprotocols = ["two".into()].into(), &not_websocket),
        ("a subprotocol more", |r| r.subprotocols = ["two".into(), "one".into()].into(), &Transport::ALL),
    ];
    let before = table([route()]);
    for (what, change, expected) in cases {
        let changed = || {
            let mut route = route();
            change(&mut route);
            route
        };
        assert_eq!(who_goes_on([changed()]), expected, "{what}");
        let ends = Reload::new(&before, table([changed()]), []).ends(&route(), &before);
        let others = Transport::ALL.into_iter().filter(|transport| !expected.contains(transport));
        assert_eq!(ends, others.collect::<Vec<_>>(), "{what}: whatever the tokens");
    }
}

#[test]
fn a_removed_or_narrowed_route_ends_its_streams() {
    assert!(who_goes_on([]).is_empty());
    assert_eq!(who_goes_on([route(), testing::route("/orders/special/y")]), Transport::ALL);
    assert!(who_goes_on([route(), testing::route("/orders/special/x")]).is_empty());
    // An exception that existed before is not among its paths.
    let before = table([route(), testing::route("/orders/special/x")]);
    let reload = Reload::new(&before, table([route(), testing::route("/orders/special/x")]), [Authority(1)]);
    assert!(reload.goes_on(&request(Transport::Sse, &before)).is_some());
}

#[test]
fn a_token_stays_valid_while_its_authority_is_trusted() {
    let before = table([route()]);
    let with = |trusted: &[u64], principal: bool| {
        let mut request = request(Transport::Sse, &before);
        request.principal = request.principal.filter(|_| principal);
        let trusted = trusted.iter().copied().map(Authority);
        Reload::new(&before, table([route()]), trusted).goes_on(&request).is_some()
    };
    assert!(with(&[1], true) && with(&[2, 1], true) && with(&[], false));
    assert!(!with(&[2], true) && !with(&[], true));
}

/// The routes of a new configuration: the one of `bench`, changed.
fn replaced(bench: &Bench, change: impl FnOnce(&mut StreamRoute)) -> Arc<RouteTable> {
    let mut route = bench.route();
    change(&mut route);
    table([route])
}

#[test]
fn an_open_stream_adopts_the_new_settings() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::Sse, |_, _| {});
    let (before, due) = (session.request.routes.clone(), session.deadline());
    let routes = replaced(&bench, |route| route.heartbeat = Duration::from_secs(1));
    let reload = Reload::new(&before, routes.clone(), []);
    assert!(session.is_of(&reload.before()));
    assert!(session.take_over(&reload));
    let route = routes.routes().next().unwrap();
    assert!(Arc::ptr_eq(&session.request.route, route) && Arc::ptr_eq(&session.subscriptions[0].route, route));
    assert!(session.deadline() < due && session.deadline() > bench.now.instant, "the interval counts from now");
    assert!(!session.is_of(&reload.before()) && session.is_of(&Arc::downgrade(&routes)));

    // Once adopted, it is not compared again.
    session.request.route = of_another_stream(&bench);
    assert!(session.take_over(&reload));
}

/// A route of another stream, which no reload lets continue.
fn of_another_stream(bench: &Bench) -> Arc<StreamRoute> {
    Arc::new(StreamRoute { stream: stream(9, &["refunds"]), ..bench.route() })
}

#[test]
fn a_stream_that_cannot_continue_keeps_its_settings_until_it_ends() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::Sse, |_, _| {});
    let before = session.request.routes.clone();
    let reload = Reload::new(&before, replaced(&bench, |route| route.stream = stream(9, &["refunds"])), []);
    let route = session.request.route.clone();
    assert!(!session.take_over(&reload));
    assert!(Arc::ptr_eq(&session.request.route, &route) && session.is_of(&Arc::downgrade(&before)));
    session.close(CloseReason::Drain);
    assert!(session.take_over(&reload), "it ends already");
}

#[test]
fn every_subscription_has_to_continue() {
    let mut bench = Bench::new();
    let base = |bench: &Bench| StreamRoute { offer: Offer::Auto, ..bench.route() };
    let others = stream(2, &["orders"]);
    let other = |bench: &Bench| StreamRoute { pattern: "/others".into(), stream: others.clone(), ..base(bench) };
    let own = |bench: &Bench| StreamRoute { subscribe: ["/others".into()].into(), ..base(bench) };
    let open = |bench: &mut Bench| {
        let routes = table([own(bench), other(bench)]);
        let mut session = bench.open(Transport::WebSocket, |request, route| {
            request.routes = routes;
            (route.offer, route.subscribe) = (Offer::Auto, ["/others".into()].into());
        });
        let answer = bench.ask(&mut session, &json!({ "command": "subscribe", "resource": "/others" }));
        assert_eq!(answer[0]["data"]["status"], "ok", "{answer:?}");
        session
    };
    let reload = |session: &Session, routes: [StreamRoute; 2]| Reload::new(&session.request.routes, table(routes), []);

    let mut session = open(&mut bench);
    let both = reload(&session, [own(&bench), StreamRoute { max_streams: Some(7), ..other(&bench) }]);
    assert!(session.take_over(&both));
    let adopted: Vec<_> = session.subscriptions.iter().map(|known| known.route.max_streams).collect();
    assert_eq!(adopted, [None, Some(7)]);

    let narrowed = StreamRoute { stream: stream(9, &["refunds"]), ..other(&bench) };
    let payload = StreamRoute { data: DataForm::Payload, ..other(&bench) };
    let no_more = StreamRoute { subscribe: [].into(), ..own(&bench) };
    for routes in [[own(&bench), narrowed], [own(&bench), payload], [no_more, other(&bench)]] {
        let mut session = open(&mut bench);
        let reload = reload(&session, routes);
        assert!(!session.take_over(&reload));
        assert!(session.subscriptions.iter().all(|known| known.route.max_streams.is_none()));
    }
}
