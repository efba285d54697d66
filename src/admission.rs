//! Whether a stream may be opened: one decision for requests and for the `subscribe` commands of WebSockets.
//!
//! Who asks is established once, from the head of the request, by `gateway`. Verifying tokens is `auth`'s job, counting
//! open streams the composition root's ([`Slots`]).

use std::fmt;

use crate::access::{Denied, Principal, Selector};
use crate::route::{Admission, Offer, Params, StreamRoute, Transport};

/// The longest `Origin` that is compared, in bytes. A longer one is no origin that a route allows.
pub const ORIGIN_BYTES_MAX: usize = 512;

/// Who asks for a stream.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    pub transport: Transport,
    /// The verified token. Ignored by public routes.
    pub principal: Option<&'a Principal>,
    /// The page that sent the token, where it came in a cookie; absent for a bearer header.
    pub site: Option<&'a Site>,
}

/// The page on whose behalf a browser sent a cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// The request's `Origin`, if there was just one.
    origin: Option<Box<str>>,
    /// Whether that is the host which the request was sent to.
    is_own_host: bool,
}

/// Why a stream is not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it is not served over this transport")]
    Transport,
    #[error("a token is required")]
    Unidentified,
    #[error("this origin may not open a WebSocket with a cookie")]
    Origin,
    #[error(transparent)]
    Denied(#[from] Denied),
}

/// Decides whether `caller` may open a stream of this route, and gives what the stream shows.
pub fn admit(route: &StreamRoute, params: &Params, caller: &Caller<'_>) -> Result<Selector, Refused> {
    if route.offer != Offer::Auto && route.offer != Offer::Only(caller.transport) {
        return Err(Refused::Transport);
    }
    let principal = match route.admission {
        Admission::Public => None,
        Admission::Token => Some(caller.principal.ok_or(Refused::Unidentified)?),
    };
    // Browsers send cookies on any page's behalf, and the same-origin policy does not cover WebSockets (RFC 6455
    // section 10.2).
    let is_foreign = caller.site.is_some_and(|site| !site.is_allowed(route));
    if principal.is_some() && caller.transport == Transport::WebSocket && is_foreign {
        return Err(Refused::Origin);
    }
    Ok(Selector::bind(&route.bindings, params, principal)?)
}

/// Counts what is open on each route against its `max_streams`.
pub trait Slots: Send + Sync + fmt::Debug {
    /// Takes one slot of the route; nothing where all are taken. Dropping it frees it.
    fn take(&self, route: &StreamRoute) -> Option<Slot>;
}

/// One of a route's `max_streams`, taken until it is dropped.
pub type Slot = Box<dyn Taken>;

/// What is given back by being dropped.
pub trait Taken: Send + fmt::Debug {}

impl<T: Send + fmt::Debug> Taken for T {}

impl Site {
    /// From the values of `Origin` and `Host`; without an origin, or with several, no route allows it.
    pub fn new<'a>(mut origins: impl Iterator<Item = &'a str>, host: Option<&str>) -> Self {
        let (Some(origin), None) = (origins.next(), origins.next()) else { return Self::default() };
        if origin.len() > ORIGIN_BYTES_MAX {
            return Self::default();
        }
        Self { is_own_host: host.is_some_and(|host| is_host_of(origin, host)), origin: Some(origin.into()) }
    }

    /// Whether the page is of the request's own host or of an origin that the route allows.
    fn is_allowed(&self, route: &StreamRoute) -> bool {
        let Some(origin) = &self.origin else { return false };
        self.is_own_host || route.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }
}

/// Whether an origin names this host. The scheme is not compared: TLS may have ended before the sidecar.
fn is_host_of(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let bare = |host: &str| host.strip_suffix(default_port).unwrap_or(host).to_ascii_lowercase();
    !host.is_empty() && bare(host) == bare(authority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{principal, route};

    fn private() -> StreamRoute {
        let allowed_origins = ["https://app.example".into()].into();
        StreamRoute { admission: Admission::Token, offer: Offer::Auto, allowed_origins, ..route("/x") }
    }

    fn asks(route: &StreamRoute, transport: Transport, site: Option<&Site>) -> Result<Selector, Refused> {
        let who = principal("a", None);
        admit(route, &Params::default(), &Caller { transport, principal: Some(&who), site })
    }

    #[test]
    fn a_cookie_is_taken_from_pages_of_the_host_and_of_allowed_origins() {
        let is_taken = |origins: &[&str], host| {
            let site = Site::new(origins.iter().copied(), Some(host));
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
    fn only_a_cookie_and_only_a_websocket_are_asked_for_their_origin() {
        let foreign = Site::new(["https://evil.example"].into_iter(), Some("api.example"));
        assert_eq!(asks(&private(), Transport::WebSocket, Some(&foreign)), Err(Refused::Origin));
        for (transport, site) in [(Transport::WebSocket, None), (Transport::Sse, Some(&foreign))] {
            assert!(asks(&private(), transport, site).is_ok(), "{transport:?}");
        }
        let public = StreamRoute { admission: Admission::Public, ..private() };
        assert!(asks(&public, Transport::WebSocket, Some(&foreign)).is_ok());
    }

    #[test]
    fn a_route_is_open_to_who_has_a_token_and_over_what_it_offers() {
        let caller = Caller { transport: Transport::Sse, principal: None, site: None };
        assert_eq!(admit(&private(), &Params::default(), &caller), Err(Refused::Unidentified));
        assert!(admit(&route("/x"), &Params::default(), &caller).is_ok());
        assert_eq!(asks(&route("/x"), Transport::WebSocket, None), Err(Refused::Transport));
    }
}
