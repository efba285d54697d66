//! Decides whether a stream may be opened: one decision for requests and for the `subscribe` commands of WebSockets.
//!
//! `gateway` determines the caller once, from the request head. `auth` verifies tokens, and the composition root counts
//! open streams ([`Slots`]).

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::access::{Denied, Principal, Selector};
use crate::quota::Meter;
use crate::route::{Admission, Params, StreamRoute, Transport};
use crate::rule::{BoundRule, Decision};

/// The longest `Origin` that is compared, in bytes. No route allows a longer one.
pub const ORIGIN_BYTES_MAX: usize = 512;

/// The caller of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    pub transport: Transport,
    /// The verified token. Public routes ignore it.
    pub principal: Option<&'a Principal>,
    /// The page that opens a WebSocket. For other transports, browsers enforce CORS.
    pub site: Option<&'a Site>,
}

/// The page that opens a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    origin: Origin,
    sent_by: SentBy,
}

/// Who decided that a request has its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentBy {
    /// The page or the program: it knows them.
    Client,
    /// The browser, in a cookie: it also does so for pages of other sites.
    Cookie,
    /// The TLS client, which also does so for pages of other sites if it is a browser. Devices have no pages.
    Certificate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// Not a browser: browsers always send an origin.
    Absent,
    /// Several values, or one that is longer than any route allows.
    Unknown,
    /// The host that the request was sent to.
    OwnHost,
    Other(Box<str>),
}

/// Why a stream is not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it is not served over this transport")]
    Transport,
    #[error("a token is required")]
    Unidentified,
    #[error("this origin may not open a WebSocket here")]
    Origin,
    #[error("the rule of this route does not allow it")]
    Rule,
    #[error(transparent)]
    Denied(#[from] Denied),
}

/// The events that a stream receives.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    pub selector: Selector,
    /// The rule of the route, if it has one: it decides on the selected events.
    pub rule: Option<Arc<BoundRule>>,
}

/// Decides whether `caller` may open a stream of this route, and what it receives.
///
/// # Errors
///
/// Why the stream is refused.
pub fn admit(route: &StreamRoute, params: &Params, caller: &Caller<'_>) -> Result<Rights, Refused> {
    if !route.offer.has(caller.transport) {
        return Err(Refused::Transport);
    }
    let principal = match route.admission {
        Admission::Public => None,
        Admission::Token => Some(caller.principal.ok_or(Refused::Unidentified)?),
    };
    // Browsers send cookies for pages of other sites too, and the same-origin policy does not cover WebSockets (RFC
    // 6455 section 10.2).
    if caller.transport.is_upgrade() && caller.site.is_some_and(|site| site.is_foreign(route)) {
        return Err(Refused::Origin);
    }
    rights(route, params, principal)?.admitted()
}

/// The events that the holder of this token may receive on the route, if any.
///
/// # Errors
///
/// The bindings deny it.
pub fn rights(route: &StreamRoute, params: &Params, principal: Option<&Principal>) -> Result<Rights, Denied> {
    let selector = Selector::bind(&route.bindings, params, principal)?;
    let claims = principal.map(|principal| &*principal.claims);
    let rule = route.rule.as_ref().map(|rule| rule.bind(claims, params));
    Ok(Rights { selector, rule })
}

impl Rights {
    /// Decides whether there can be such events.
    ///
    /// # Errors
    ///
    /// The rule denies all of them.
    pub fn admitted(self) -> Result<Self, Refused> {
        match self.rule.as_ref().map(|rule| rule.decision()) {
            Some(Decision::Denied(_)) => Err(Refused::Rule),
            Some(Decision::Allowed | Decision::ByEvent) | None => Ok(self),
        }
    }
}

/// Decides whether this page may open a WebSocket of this route without a token, which the first message contains.
/// [`admit`] decides afterwards.
///
/// # Errors
///
/// Why the WebSocket is refused.
pub fn admit_unauthenticated(route: &StreamRoute, transport: Transport, site: &Site) -> Result<(), Refused> {
    if !route.offer.has(transport) {
        return Err(Refused::Transport);
    }
    if site.is_foreign(route) { Err(Refused::Origin) } else { Ok(()) }
}

/// Decides whether the holder of a token may get a ticket for a stream of this route, requested by this page.
///
/// # Errors
///
/// Why the ticket is refused.
pub fn admit_ticket(route: &StreamRoute, params: &Params, holder: &Principal, site: &Site) -> Result<(), Refused> {
    if site.is_foreign(route) {
        return Err(Refused::Origin);
    }
    rights(route, params, Some(holder))?.admitted().map(drop)
}

/// Counts the open streams of each route against its `max_streams`, and those of each identity against quotas.
pub trait Slots: Send + Sync + fmt::Debug {
    /// Takes a slot of the route for a further subscription of an open socket, and one of each quota of the route. The
    /// connection counts in the quotas of all routes already, except for those by route.
    ///
    /// # Errors
    ///
    /// None is free, or a quota is exceeded.
    fn subscribe(&self, route: &StreamRoute, holder: Option<&Principal>, now: Instant) -> Result<Admitted, NoSlot>;

    /// Takes a slot of the route, and one of each quota that applies to the holder of a token.
    ///
    /// # Errors
    ///
    /// None is free, or a quota is exceeded.
    fn take_for(&self, route: &StreamRoute, holder: &Principal, now: Instant) -> Result<Admitted, NoSlot>;
}

/// What a socket has taken after its handshake: a slot, and the quotas that the stream counts in.
#[derive(Debug)]
pub struct Admitted {
    pub slot: Slot,
    pub meters: Vec<Meter>,
}

/// The limit that leaves no slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSlot {
    Route,
    /// The name of the quota.
    Quota(Arc<str>),
}

/// One of a route's `max_streams` and of its quotas, until it is dropped.
pub type Slot = Box<dyn Taken>;

/// A resource that is released by dropping it.
pub trait Taken: Send + fmt::Debug {}

impl<T: Send + fmt::Debug> Taken for T {}

impl Site {
    /// From the values of `Origin` and `Host`.
    pub fn new<'a>(mut origins: impl Iterator<Item = &'a str>, host: Option<&str>, sent_by: SentBy) -> Self {
        let origin = match (origins.next(), origins.next()) {
            (None, _) => Origin::Absent,
            (Some(origin), None) if origin.len() <= ORIGIN_BYTES_MAX => {
                let is_own = host.is_some_and(|host| is_host_of(origin, host));
                if is_own { Origin::OwnHost } else { Origin::Other(origin.into()) }
            }
            _ => Origin::Unknown,
        };
        Self { origin, sent_by }
    }

    /// Whether the route forbids this page to open a WebSocket. A cookie or a certificate requires a page of the
    /// request's own host, or an origin that may send credentials. A request with a certificate may have no origin:
    /// devices send none. A CORS policy applies to every page.
    fn is_foreign(&self, route: &StreamRoute) -> bool {
        let is_ambient = self.sent_by != SentBy::Client;
        let is_decided = is_ambient || route.cors.is_some();
        let is_allowed = match &self.origin {
            Origin::Absent => self.sent_by != SentBy::Cookie,
            Origin::Unknown => false,
            Origin::OwnHost => true,
            Origin::Other(origin) => {
                let by_policy = route
                    .cors
                    .as_ref()
                    .is_some_and(|cors| if is_ambient { cors.allows_credentials(origin) } else { cors.allows(origin) });
                by_policy || route.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
            }
        };
        is_decided && !is_allowed
    }
}

/// Whether an origin has this host. Schemes are not compared: TLS may end before the sidecar.
fn is_host_of(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let bare = |host: &str| host.strip_suffix(default_port).unwrap_or(host).to_ascii_lowercase();
    !host.is_empty() && bare(host) == bare(authority)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::cors::Cors;
    use crate::route::Offer;
    use crate::testing::{principal, route};

    fn private() -> StreamRoute {
        let allowed_origins = ["https://app.example".into()].into();
        StreamRoute { admission: Admission::Token, offer: Offer::Auto, allowed_origins, ..route("/x") }
    }

    fn asks(route: &StreamRoute, transport: Transport, site: Option<&Site>) -> Result<(), Refused> {
        let who = principal("a", None);
        admit(route, &Params::default(), &Caller { transport, principal: Some(&who), site }).map(drop)
    }

    #[test]
    fn a_cookie_is_accepted_from_pages_of_the_host_and_of_allowed_origins() {
        let is_taken = |origins: &[&str], host| {
            let site = Site::new(origins.iter().copied(), Some(host), SentBy::Cookie);
            asks(&private(), Transport::WebSocket, Some(&site)) != Err(Refused::Origin)
        };
        for (origin, host) in [
            ("https://api.example", "api.example"),
            ("https://api.example", "API.example:443"),
            ("http://api.example:8080", "api.example:8080"),
            ("https://app.example", "api.example"),
        ] {
            assert!(is_taken(&[origin], host), "{origin} {host}");
        }
        for origin in ["null", "https://evil.example", "https://api.example.evil", "https://api.example:8443"] {
            assert!(!is_taken(&[origin], "api.example"), "{origin}");
        }
        assert!(!is_taken(&[], "api.example"));
        assert!(!is_taken(&["https://app.example", "https://evil.example"], "api.example"));
        assert!(!is_taken(&["https://"], ""));
        assert!(!is_taken(&[&format!("https://{}", "a".repeat(ORIGIN_BYTES_MAX))], "api.example"));
    }

    #[test]
    fn without_a_policy_the_origin_matters_only_for_a_websocket_with_a_cookie() {
        let foreign = |sent_by| Site::new(["https://evil.example"].into_iter(), Some("api.example"), sent_by);
        assert_eq!(asks(&private(), Transport::WebSocket, Some(&foreign(SentBy::Cookie))), Err(Refused::Origin));
        assert!(asks(&private(), Transport::WebSocket, Some(&foreign(SentBy::Client))).is_ok());
        assert!(asks(&private(), Transport::Sse, Some(&foreign(SentBy::Cookie))).is_ok());
        let public = StreamRoute { admission: Admission::Public, ..private() };
        assert!(asks(&public, Transport::WebSocket, Some(&foreign(SentBy::Client))).is_ok());
    }

    #[test]
    fn a_cors_policy_applies_to_every_page_that_opens_a_websocket() {
        let policy = |credentials| {
            let origins = vec!["https://*.shop.example".parse().unwrap()];
            let cors = Cors::listed(origins, credentials, Box::default(), Duration::ZERO);
            StreamRoute { cors: Some(Arc::new(cors)), ..private() }
        };
        let opens = |route: &StreamRoute, origins: &[&str], sent_by| {
            let site = Site::new(origins.iter().copied(), Some("api.example"), sent_by);
            asks(route, Transport::WebSocket, Some(&site)).is_ok()
        };
        for (origins, without_cookie, with_cookie) in [
            (&["https://a.shop.example"][..], true, true),
            (&["https://app.example"], true, true),
            (&["https://api.example"], true, true),
            (&["https://evil.example"], false, false),
            (&["null"], false, false),
            (&["https://a.shop.example", "https://evil.example"], false, false),
            (&[], true, false),
        ] {
            let public = StreamRoute { admission: Admission::Public, ..policy(true) };
            assert_eq!(opens(&policy(true), origins, SentBy::Client), without_cookie, "{origins:?}");
            assert_eq!(opens(&public, origins, SentBy::Client), without_cookie, "{origins:?}");
            assert_eq!(opens(&policy(true), origins, SentBy::Cookie), with_cookie, "{origins:?}");
        }
        assert!(!opens(&policy(false), &["https://a.shop.example"], SentBy::Cookie), "the policy allows no cookies");
        let any = StreamRoute { cors: Some(Arc::new(Cors::any(Box::default(), Duration::ZERO))), ..private() };
        assert!(opens(&any, &["https://evil.example"], SentBy::Client));
        assert!(!opens(&any, &["https://evil.example"], SentBy::Cookie), "a star never allows cookies");
    }

    #[test]
    fn a_certificate_needs_an_origin_only_from_pages() {
        let opens = |origins: &[&str]| {
            let site = Site::new(origins.iter().copied(), Some("api.example"), SentBy::Certificate);
            asks(&private(), Transport::WebSocket, Some(&site)).is_ok()
        };
        assert!(opens(&[]), "a device");
        assert!(opens(&["https://api.example"]));
        assert!(opens(&["https://app.example"]));
        assert!(!opens(&["https://evil.example"]));
        assert!(!opens(&["https://app.example", "https://evil.example"]));
    }

    #[test]
    fn a_route_requires_a_token_and_an_offered_transport() {
        let caller = Caller { transport: Transport::Sse, principal: None, site: None };
        assert_eq!(admit(&private(), &Params::default(), &caller).unwrap_err(), Refused::Unidentified);
        assert!(admit(&route("/x"), &Params::default(), &caller).is_ok());
        assert_eq!(asks(&route("/x"), Transport::WebSocket, None), Err(Refused::Transport));
    }
}
