//! The decisions about a stream request before a slot is taken: transport, authentication, resume position.

use std::borrow::Cow;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::ACCEPT;
use http::{HeaderMap, HeaderName, StatusCode, Version};
use pingora::http::RequestHeader;

use super::admission::SocketSlots;
use super::authorize::{Authorized, Means, authorize};
use super::identify::identify;
use super::negotiate::{self, Agreed, Disagreed, negotiate};
use super::now_unix_ms;
use super::query::{Parameter, Query};
use super::refusal::{Reason, Refusal};
use super::{Gateway, asked, forwarded, handshake, target};
use crate::access::Authenticator;
use crate::codec::http::Handshake;
use crate::config::snapshot::Snapshot;
use crate::listener::is_last;
use crate::problem::Problem;
use crate::route::{Params, StreamRoute, Transport};
use crate::session::{BadPosition, Pace, Request, Socket};

/// How long a request waits for an issuer's keys.
const KEYS_PATIENCE: Duration = Duration::from_secs(3);

/// A stream request, as received.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) route: &'a Arc<StreamRoute>,
    pub(super) params: &'a Params,
    pub(super) header: &'a RequestHeader,
    pub(super) query: &'a Query<'a>,
    pub(super) has_body: bool,
    /// The peer's address.
    pub(super) client: Option<IpAddr>,
    /// Whether its connection is encrypted.
    pub(super) is_encrypted: bool,
}

/// Every decision before a slot is taken.
pub(super) async fn decide(gateway: &Gateway, snapshot: &Snapshot, wanted: Wanted<'_>) -> Result<Request, Refusal> {
    let Wanted { route, header, query, .. } = wanted;
    check(wanted)?;
    let agreed = negotiated(&header.headers, query, route).map_err(not_negotiated)?;
    let accept = || handshake::accept(&header.method, header.version, &header.headers, route);
    let handshake = agreed.transport.is_upgrade().then(accept).transpose();
    let handshake = handshake.map_err(|problem| Refusal::new(Reason::Handshake, problem))?;
    let authorized = authorized(snapshot, wanted, agreed.transport).await?;
    prepare(gateway, snapshot, wanted, agreed, handshake, authorized)
}

/// Refuses a request that cannot be meant like this.
pub(super) fn check(wanted: Wanted<'_>) -> Result<(), Refusal> {
    if wanted.has_body {
        let problem = Problem::new(StatusCode::BAD_REQUEST, "a stream is requested without a body");
        return Err(Refusal::new(Reason::Body, problem));
    }
    match wanted.query.slip() {
        Some(slip) => Err(Refusal::new(Reason::Parameter, Problem::new(StatusCode::BAD_REQUEST, slip.to_string()))),
        None => Ok(()),
    }
}

/// The access rights of a request on this transport. Waits for an issuer's keys if they are missing.
pub(super) async fn authorized(
    snapshot: &Snapshot,
    wanted: Wanted<'_>,
    transport: Transport,
) -> Result<Authorized, Refusal> {
    let Wanted { route, params, header, query, .. } = wanted;
    let identified = identify(snapshot, wanted, transport).await?;
    let means = Means { verifier: snapshot.verifier.as_deref(), identified: identified.as_ref() };
    let target = (target::split(header).0, query);
    let attempt = || authorize(route, params, transport, target, &header.headers, means, now_unix_ms());
    match attempt() {
        Err(refusal) if refusal.reason() == Reason::Keys => {
            keys_settled(snapshot).await;
            attempt()
        }
        decided => decided,
    }
}

fn prepare(
    gateway: &Gateway,
    snapshot: &Snapshot,
    wanted: Wanted<'_>,
    agreed: Agreed,
    handshake: Option<Handshake>,
    authorized: Authorized,
) -> Result<Request, Refusal> {
    let Wanted { route, params, header, query, client, .. } = wanted;
    let (transport, headers) = (agreed.transport, &header.headers);
    let resume = asked::resume(transport, &route.stream, headers, query).map_err(|_: BadPosition| {
        let detail = format!("`since` is not a valid position: {BadPosition}");
        Refusal::new(Reason::Position, Problem::new(StatusCode::BAD_REQUEST, detail))
    })?;
    let from_state = asked::from_state(&route.stream, query)
        .map_err(|detail| Refusal::new(Reason::Parameter, Problem::new(StatusCode::BAD_REQUEST, detail)))?;
    let batch = asked::batch(route, transport, query)
        .map_err(|detail| Refusal::new(Reason::Batch, Problem::new(StatusCode::BAD_REQUEST, detail)))?;
    let pace = pace(transport, query)?;
    let probe = probe(snapshot.probe, query)?;
    let socket = handshake.map(|handshake| {
        let quotas = snapshot.limits.quotas.clone();
        let address = client.map(|peer| forwarded::client(headers, peer, &snapshot.forwarded));
        let slots = Arc::new(SocketSlots { admission: gateway.admission.clone(), quotas, address });
        let authenticator = snapshot.verifier.clone().map(|verifier| verifier as Arc<dyn Authenticator>);
        let unauthenticated = authorized.is_unauthenticated.then(|| params.clone());
        let handshake = Some(handshake);
        Box::new(Socket { handshake, site: authorized.site, slots, authenticator, unauthenticated, slot: None })
    });
    Ok(Request {
        transport,
        content_type: agreed.content_type,
        http11: header.version == Version::HTTP_11,
        persists: !is_last(header),
        selector: authorized.rights.selector,
        rule: authorized.rights.rule,
        subscribe: probe.is_none() && asked::subscribes(transport, query),
        from_state,
        resume: resume.filter(|_| probe.is_none()).map(Box::new),
        heartbeat_form: asked::heartbeat_form(route, query),
        batch,
        probe,
        principal: authorized.principal,
        pace,
        headers: None,
        routes: snapshot.routes.clone(),
        route: route.clone(),
        socket,
    })
}

/// The pace that the client asks for.
fn pace(transport: Transport, query: &Query<'_>) -> Result<Option<Box<Pace>>, Refusal> {
    let refused = |detail| Refusal::new(Reason::Parameter, Problem::new(StatusCode::BAD_REQUEST, detail));
    let credit = asked::credit(transport, query).map_err(refused)?;
    let max_rate = asked::max_rate(query).map_err(refused)?;
    Ok(Pace::asked(credit, max_rate, Instant::now()))
}

/// The interval of a probe in milliseconds, if the request asks for one.
fn probe(is_enabled: bool, query: &Query<'_>) -> Result<Option<NonZeroU32>, Refusal> {
    let refuse = |status, detail: String| Err(Refusal::new(Reason::Probe, Problem::new(status, detail)));
    match asked::probe(query) {
        None => Ok(None),
        Some(_) if !is_enabled => {
            refuse(StatusCode::FORBIDDEN, "probes are not enabled here: the configuration needs `probe: true`".into())
        }
        Some(Ok(interval)) => Ok(Some(interval)),
        Some(Err(error)) => refuse(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

/// Waits for keys that are being requested: they may include the token's key.
pub(super) async fn keys_settled(snapshot: &Snapshot) {
    if let Some(verifier) = &snapshot.verifier {
        verifier.keys_settled(KEYS_PATIENCE).await;
    }
}

/// The transport that the request gets, if its clients receive failures in the stream.
pub(super) fn transport_without_errors(
    headers: &HeaderMap,
    query: &Query<'_>,
    route: &StreamRoute,
) -> Option<Transport> {
    let agreed = negotiated(headers, query, route).ok()?;
    Some(agreed.transport).filter(|transport| transport.fails_in_stream())
}

/// Whether the request prefers the state as a document to a stream.
pub(super) fn prefers_document(headers: &HeaderMap, route: &StreamRoute, is_paged: bool) -> bool {
    negotiate::prefers_document(route.offer, joined(headers, ACCEPT).as_deref(), is_paged)
}

fn negotiated(headers: &HeaderMap, query: &Query<'_>, route: &StreamRoute) -> Result<Agreed, Disagreed> {
    let (framing, accept) = (query.single(Parameter::Framing), joined(headers, ACCEPT));
    negotiate(route.offer, framing.as_deref(), accept.as_deref(), handshake::is_asked(headers))
}

fn not_negotiated(disagreed: Disagreed) -> Refusal {
    match disagreed {
        Disagreed::NotAcceptable(types) => {
            let problem = Problem::new(StatusCode::NOT_ACCEPTABLE, "none of the accepted types is offered here");
            Refusal::new(Reason::NotAcceptable, problem.member("offered", types))
        }
        Disagreed::UnknownFraming => {
            let names: Vec<_> = Transport::framings().map(Transport::as_str).collect();
            let detail = format!("`framing` is one of {}", names.join(", "));
            Refusal::new(Reason::Parameter, Problem::new(StatusCode::BAD_REQUEST, detail))
        }
        Disagreed::UpgradeRequired => {
            Refusal::new(Reason::Handshake, handshake::upgrade_required("this path is a WebSocket"))
        }
    }
}

/// Joins the lines of a list-based field into one value (RFC 9110 section 5.3).
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<Cow<'_, str>> {
    let mut lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let first = lines.next()?;
    Some(lines.fold(Cow::Borrowed(first), |all, line| Cow::Owned(format!("{all}, {line}"))))
}
