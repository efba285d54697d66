//! Requests of schemas (Confluent's Schema Registry API, which Apicurio and Karapace have, too): a schema by its id, and
//! the schemas that it refers to by subject and version.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::cache::Key;
use super::{RegistrySettings, SchemaText};
use crate::decode::registered::{SchemaFormat, SchemaId};
use crate::http_client::{HttpClient, RequestError, RequestLimits, TlsError};

/// The connect timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The limits of a response: complete within 5 s, and at most 1 MiB.
const LIMITS: RequestLimits = RequestLimits { time: Duration::from_secs(5), body: 1024 * 1024 };
/// The most schemas that a schema refers to, directly or not.
const REFERENCES_MAX: usize = 64;
/// The most bytes of a schema with its references.
const SCHEMA_TEXT_BYTES_MAX: usize = 2 * 1024 * 1024;
const MEDIA_TYPES: HeaderValue = HeaderValue::from_static("application/vnd.schemaregistry.v1+json, application/json");
/// What is encoded in a segment of a path: all but the unreserved characters (RFC 3986 section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The value of the field `Authorization`, which is never shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials(HeaderValue);

impl Credentials {
    /// HTTP Basic authentication (RFC 7617).
    pub fn basic(user: &str, password: &[u8]) -> Option<Self> {
        let pair = [user.as_bytes(), b":", password].concat();
        Self::new(&format!("Basic {}", STANDARD.encode(pair)))
    }

    /// A bearer token (RFC 6750); `None` if it cannot be one.
    pub fn bearer(token: &[u8]) -> Option<Self> {
        let token = std::str::from_utf8(token).ok().filter(|token| !token.is_empty() && !token.contains(' '))?;
        Self::new(&format!("Bearer {token}"))
    }

    fn new(value: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }
}

/// Why there is no schema. No message has a byte of a body.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the registry does not know it")]
    Unknown,
    #[error("{0}")]
    Unanswered(#[from] RequestError),
    #[error("the response has status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("the response is not one of a schema registry: JSON with `schema`")]
    Body,
    #[error("the registry's URL is not valid with the schema's place")]
    Place,
    #[error("it is a schema of {0}, not of {1}")]
    Format(Box<str>, &'static str),
    #[error("it has more than {REFERENCES_MAX} references, or {SCHEMA_TEXT_BYTES_MAX} bytes with them")]
    TooLarge,
}

impl Failure {
    /// The registry has the schema, and another request would have the same result.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Format(..) | Self::TooLarge)
    }
}

#[derive(Deserialize)]
struct Answer {
    schema: String,
    /// Absent for Avro.
    #[serde(rename = "schemaType")]
    kind: Option<Box<str>>,
    references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: u32,
}

pub(super) struct Fetcher {
    client: HttpClient,
    url: Box<str>,
    credentials: Option<Credentials>,
}

impl Fetcher {
    pub(super) fn new(settings: &RegistrySettings) -> Result<Self, TlsError> {
        let client = HttpClient::trusting(CONNECT_TIMEOUT, settings.roots.as_ref())?;
        Ok(Self { client, url: settings.url.clone(), credentials: settings.credentials.clone() })
    }

    /// Requests a schema with its references.
    pub(super) async fn fetch(&self, (id, format): Key) -> Result<SchemaText, Failure> {
        let place = match id {
            SchemaId::Number(id) => format!("/schemas/ids/{id}"),
            SchemaId::Guid(_) => format!("/schemas/guids/{id}"),
        };
        let root = self.get(&place).await?;
        check_format(root.kind.as_deref(), format)?;
        let mut text = SchemaText { schema: root.schema, references: Vec::new() };
        let mut wanted = VecDeque::from(root.references.unwrap_or_default());
        let mut known = BTreeSet::new();
        while let Some(reference) = wanted.pop_front() {
            // As in Confluent's clients, the first schema of a name counts.
            if !known.insert(reference.name.clone()) {
                continue;
            }
            if known.len() > REFERENCES_MAX || wanted.len() > REFERENCES_MAX {
                return Err(Failure::TooLarge);
            }
            let mut place = format!("/subjects/{}", utf8_percent_encode(&reference.subject, SEGMENT));
            // Writing to a string cannot fail.
            let _ = write!(place, "/versions/{}", reference.version);
            let answer = self.get(&place).await?;
            text.references.push((reference.name, answer.schema));
            if text.len() > SCHEMA_TEXT_BYTES_MAX {
                return Err(Failure::TooLarge);
            }
            wanted.extend(answer.references.unwrap_or_default());
        }
        Ok(text)
    }

    async fn get(&self, place: &str) -> Result<Answer, Failure> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = format!("{}{place}", self.url).parse().map_err(|_| Failure::Place)?;
        request.headers_mut().insert(ACCEPT, MEDIA_TYPES);
        if let Some(Credentials(credentials)) = &self.credentials {
            request.headers_mut().insert(AUTHORIZATION, credentials.clone());
        }
        let response = self.client.send(request, LIMITS).await?;
        match response.status {
            StatusCode::OK => serde_json::from_slice(&response.body).map_err(|_| Failure::Body),
            StatusCode::NOT_FOUND => Err(Failure::Unknown),
            status => Err(Failure::Status(status)),
        }
    }
}

fn check_format(kind: Option<&str>, format: SchemaFormat) -> Result<(), Failure> {
    let kind = kind.unwrap_or("AVRO");
    let expected = match format {
        SchemaFormat::Avro => "AVRO",
        SchemaFormat::Protobuf => "PROTOBUF",
        SchemaFormat::JsonSchema => "JSON",
    };
    if kind == expected { Ok(()) } else { Err(Failure::Format(kind.into(), format.name())) }
}
