//! The CORS fields of responses: the route's policy, applied to the request's `Origin`.

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};

use crate::route::{OtherMethods, StreamRoute};

/// `Access-Control-Allow-Methods` of a preflight response by sidestream.
const METHODS: &str = "GET, HEAD";

/// The header fields for every response to one request; empty if the route has no policy.
#[derive(Clone, Debug, Default)]
pub(super) struct CrossOrigin {
    fields: Vec<(HeaderName, HeaderValue)>,
}

/// Which server responds to an OPTIONS request.
pub(super) enum Preflight {
    /// The service, which has its own policy.
    Upstream,
    /// sidestream, with these fields.
    Answer(CrossOrigin),
}

impl CrossOrigin {
    pub(super) fn of(route: &StreamRoute, headers: &HeaderMap) -> Self {
        route.cors.as_ref().map(|cors| Self::new(cors.answer(origin(headers)))).unwrap_or_default()
    }

    /// Selects the server for an OPTIONS request (WHATWG Fetch section 4.8). The service handles preflights of methods
    /// that the route forwards to it, and all preflights if the route has no policy.
    pub(super) fn preflight(&self, route: &StreamRoute, headers: &HeaderMap) -> Preflight {
        let asked = headers.get(ACCESS_CONTROL_REQUEST_METHOD);
        let is_read =
            asked.is_some_and(|method| [Method::GET, Method::HEAD].iter().any(|read| method == read.as_str()));
        let is_ours = is_read && route.cors.is_some();
        if route.other_methods == OtherMethods::Upstream && !is_ours {
            return Preflight::Upstream;
        }
        match (&route.cors, origin(headers), asked) {
            (Some(cors), Some(origin), Some(_)) => Preflight::Answer(Self::new(cors.preflight(origin, METHODS))),
            _ => Preflight::Answer(self.clone()),
        }
    }

    /// The fields of a preflight response for this route, with other methods.
    pub(super) fn preflight_of(route: &StreamRoute, headers: &HeaderMap, methods: &'static str) -> Self {
        match (&route.cors, origin(headers)) {
            (Some(cors), Some(origin)) => Self::new(cors.preflight(origin, methods)),
            _ => Self::of(route, headers),
        }
    }

    /// Adds the fields to a response.
    pub(super) fn on<T>(&self, mut response: Response<T>) -> Response<T> {
        for (name, value) in &self.fields {
            response.headers_mut().append(name, value.clone());
        }
        response
    }

    /// The fields as CRLF-terminated lines of a response head, if there are any.
    pub(super) fn lines(&self) -> Option<Box<str>> {
        let line =
            |(name, value): &(HeaderName, HeaderValue)| format!("{name}: {}\r\n", value.to_str().unwrap_or_default());
        (!self.fields.is_empty()).then(|| self.fields.iter().map(line).collect::<String>().into())
    }

    /// Drops a value that is not a valid header value: then the browser allows nothing.
    fn new(fields: Vec<(&'static str, String)>) -> Self {
        let field = |(name, value): (&'static str, String)| {
            Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))
        };
        Self { fields: fields.into_iter().filter_map(field).collect() }
    }
}

/// The origin of a request that has exactly one `Origin`.
fn origin(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(ORIGIN).iter();
    let (one, None) = (lines.next()?, lines.next()) else { return None };
    one.to_str().ok()
}
