//! The address of a stream: the parts of a URL for a connection and a request.

use http::Uri;

/// A URL of `http`, `https`, `ws` or `wss`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub tls: bool,
    /// `ws` or `wss`, which states the transport.
    pub websocket: bool,
    /// As in `Host`.
    pub authority: String,
    /// Path and query.
    path: String,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a URL such as `http://host:8080/events` (http, https, ws or wss)";
        let uri: Uri = text.parse().map_err(|_| EXPECTED.to_owned())?;
        let (tls, websocket) = match uri.scheme_str() {
            Some("http") => (false, false),
            Some("https") => (true, false),
            Some("ws") => (false, true),
            Some("wss") => (true, true),
            _ => return Err(EXPECTED.to_owned()),
        };
        let authority = uri.authority().ok_or(EXPECTED)?;
        if authority.as_str().contains('@') {
            return Err("the URL contains credentials: use --header".to_owned());
        }
        Ok(Self {
            tls,
            websocket,
            authority: authority.as_str().to_owned(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }
}

impl Target {
    /// The URL with the scheme `http` or `https`.
    ///
    /// # Errors
    ///
    /// The parts do not form a URI.
    pub fn uri(&self) -> Result<Uri, http::Error> {
        self.uri_with(&[])
    }

    /// The same with these parameters instead of those of the same names.
    ///
    /// # Errors
    ///
    /// As [`Self::uri`].
    pub fn uri_with(&self, parameters: &[(&str, String)]) -> Result<Uri, http::Error> {
        let scheme = if self.tls { "https" } else { "http" };
        Uri::builder().scheme(scheme).authority(&*self.authority).path_and_query(self.path_with(parameters)).build()
    }

    fn path_with(&self, parameters: &[(&str, String)]) -> String {
        use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let is_replaced = |pair: &str| parameters.iter().any(|(name, _)| pair.split('=').next() == Some(*name));
        let own = query.split('&').filter(|pair| !pair.is_empty() && !is_replaced(pair)).map(str::to_owned);
        let more =
            parameters.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        let query: Vec<String> = own.chain(more).collect();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
    }

    /// Whether the URL itself contains this parameter.
    pub fn has_parameter(&self, name: &str) -> bool {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|pair| pair.split('=').next() == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed_and_invalid_ones_rejected() {
        let target: Target = "https://[::1]/a?b=c&since=old".parse().unwrap();
        let resumed = target.uri_with(&[("since", "t:0:1~A_-".into())]).unwrap();
        assert_eq!(resumed, "https://[::1]/a?b=c&since=t%3A0%3A1%7EA%5F%2D");
        assert!(target.has_parameter("since") && !target.has_parameter("sinc"));
        let target: Target = "ws://h:8080".parse().unwrap();
        assert_eq!((target.websocket, target.uri().unwrap()), (true, Uri::from_static("http://h:8080/")));
        for wrong in ["/events", "host:8080/x", "ftp://h/", "http://", "http://me:secret@h/"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
