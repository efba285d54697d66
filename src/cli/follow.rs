//! The common arguments of `tap` and `doctor`: the URL of a stream, its transport, and request headers.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use http::{HeaderName, HeaderValue};

use crate::client::{Choice, Target};
use crate::config;

/// The address of a stream, and the options of its request.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct Address {
    /// The URL of the stream: http, https, ws or wss. TLS trusts the certificates of this host (SSL_CERT_FILE).
    #[arg(value_name = "URL")]
    pub url: Target,
    /// The transport to request. auto: NDJSON or SSE, or WebSocket if the path offers nothing else.
    #[arg(long, value_enum, default_value_t = Transport::Auto)]
    pub transport: Transport,
    /// A request header; repeatable.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    pub header: Vec<(String, String)>,
    /// A file with a token, sent as `Authorization: Bearer`; read again for each connection.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    Sse,
    Ndjson,
    Ws,
    Auto,
}

impl From<Transport> for Choice {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Sse => Self::Sse,
            Transport::Ndjson => Self::Ndjson,
            Transport::Ws => Self::WebSocket,
            Transport::Auto => Self::Auto,
        }
    }
}

impl Address {
    /// The request headers, including the token.
    pub(super) fn headers(&self) -> Result<Vec<(String, String)>, String> {
        let mut headers = self.header.clone();
        if let Some(path) = &self.token_file {
            let unreadable = |error: &dyn std::fmt::Display| format!("{}: cannot be read: {error}", path.display());
            let token = config::read_secret_text(path).map_err(|error| unreadable(&error))?;
            let value = format!("Bearer {token}");
            HeaderValue::from_str(&value).map_err(|_| unreadable(&"it holds no token"))?;
            headers.push(("Authorization".to_owned(), value));
        }
        Ok(headers)
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
    let is_sound =
        |(name, value): &(&str, &str)| name.parse::<HeaderName>().is_ok() && HeaderValue::from_str(value).is_ok();
    let (name, value) = parts.filter(is_sound).ok_or("expected `Name: value`")?;
    Ok((name.to_owned(), value.to_owned()))
}
