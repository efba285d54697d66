//! What the answers of one request say of other origins: the route's policy, applied to the request's `Origin`.

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};

use crate::route::{OtherMethods, StreamRoute};

/// The methods that sidestream names in its answer to a preflight.
const METHODS: &str = "GET, HEAD";

/// Header fields for every answer to one request; none where the route has no policy.
#[derive(Clone, Debug, Default)]
pub(super) struct CrossOrigin {
    fields: Vec<(HeaderName, HeaderValue)>,
}

/// Who answers an OPTIONS request.
pub(super) enum Preflight {
    /// The service, which has a policy of its own.
    Upstream,
    /// sidestream, with these fields.
    Answer(CrossOrigin),
}

impl CrossOrigin {
    pub(super) fn of(route: &StreamRoute, headers: &HeaderMap) -> Self {
        route.cors.as_ref().map(|cors| Self::new(cors.answer(origin(headers)))).unwrap_or_default()
    }

    /// What becomes of an OPTIONS request (WHATWG Fetch section 4.8). Where a route leaves other methods to the service,
    /// so it does their preflights, and all of them where it has no policy.
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

    /// The fields of the answer to a preflight of a request of ours for this route, by another method.
    pub(super) fn preflight_of(route: &StreamRoute, headers: &HeaderMap, methods: &'static str) -> Self {
        match (&route.cors, origin(headers)) {
            (Some(cors), Some(origin)) => Self::new(cors.preflight(origin, methods)),
            _ => Self::of(route, headers),
        }
    }

    /// The response with these fields.
    pub(super) fn on<T>(&self, mut response: Response<T>) -> Response<T> {
        for (name, value) in &self.fields {
            response.headers_mut().append(name, value.clone());
        }
        response
    }

    /// The same as lines of a head, each ended by CRLF; nothing where there are none.
    pub(super) fn lines(&self) -> Option<Box<str>> {
        let line =
            |(name, value): &(HeaderName, HeaderValue)| format!("{name}: {}\r\n", value.to_str().unwrap_or_default());
        (!self.fields.is_empty()).then(|| self.fields.iter().map(line).collect::<String>().into())
    }

    /// A value that is no header's is left out: then nothing is allowed.
    fn new(fields: Vec<(&'static str, String)>) -> Self {
        let field = |(name, value): (&'static str, String)| {
            Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))
        };
        Self { fields: fields.into_iter().filter_map(field).collect() }
    }
}

/// The origin of a request that names just one.
fn origin(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(ORIGIN).iter();
    let (one, None) = (lines.next()?, lines.next()) else { return None };
    one.to_str().ok()
}
