//! The common arguments of `tap` and `doctor`: the URL of a stream, its transport, and request headers.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use http::{HeaderName, HeaderValue};

use crate::client::{Choice, Target};
use crate::codec::Transport;
use crate::config;

/// Whatever transport the path offers.
const AUTO: &str = "auto";

/// The address of a stream, and the options of its request.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct Address {
    /// The URL of the stream: http, https, ws or wss. TLS trusts the certificates of this host (SSL_CERT_FILE).
    #[arg(value_name = "URL")]
    pub url: Target,
    /// The transport to request. auto: NDJSON if the path offers it, or else what it offers.
    #[arg(long, default_value = AUTO, value_parser = choice())]
    pub transport: Choice,
    /// A request header; repeatable.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    pub header: Vec<(String, String)>,
    /// A file with a token, sent as `Authorization: Bearer`; read again for each connection.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Every transport by its name, and `auto`.
fn choice() -> impl TypedValueParser<Value = Choice> {
    let names = Transport::ALL.map(Transport::as_str);
    PossibleValuesParser::new(names.into_iter().chain([AUTO])).map(|name| {
        let only = Transport::ALL.into_iter().find(|transport| transport.as_str() == name);
        only.map_or(Choice::Auto, Choice::Only)
    })
}

impl Address {
    /// The request headers, including the token.
    pub(super) fn headers(&self) -> Result<Vec<(String, String)>, String> {
        let mut headers = self.header.clone();
        if let Some(path) = &self.token_file {
            let unreadable = |error: &dyn std::fmt::Display| format!("{}: cannot be read: {error}", path.display());
            let token = config::read_secret_text(path).map_err(|error| unreadable(&error))?;
            let value = format!("Bearer {token}");
            HeaderValue::from_str(&value).map_err(|_| unreadable(&"it contains no token"))?;
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
