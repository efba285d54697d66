//! The keys of an issuer that publishes them at a URL (RFC 7517 section 5), which is configured or found by OpenID
//! Connect Discovery 1.0.
//!
//! They are cached, and requested again in the background: periodically, and when a token names an unknown key. While
//! the issuer does not respond, the last keys stay in use for a configured time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL};
use http::{HeaderMap, Request, StatusCode, Uri};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::TokenKey;
use super::keys::{BadKey, Keys};
use crate::http_client::{HttpClient, RequestError, RequestLimits, Response, TlsError, TlsRoots};

/// The connect timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The limits of a response: complete within 10 s, and at most 256 KiB.
const LIMITS: RequestLimits = RequestLimits { time: Duration::from_secs(10), body: 256 * 1024 };
/// When keys are requested again if the response has no `Cache-Control: max-age`...
const REFRESH: Duration = Duration::from_secs(10 * 60);
/// ...and the bounds of `max-age`.
const REFRESH_MIN: Duration = Duration::from_secs(60);
const REFRESH_MAX: Duration = Duration::from_secs(60 * 60);
/// The backoff after a failed request: the first delay, which doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The least time between two requests because of unknown keys.
const COOLDOWN: Duration = Duration::from_secs(5);

/// Where an issuer publishes its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    pub location: KeyLocation,
    /// How long keys are used after the last successful response.
    pub keep: Duration,
    /// Absent, the system's authorities.
    pub roots: Option<TlsRoots>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyLocation {
    /// A JWKS.
    Jwks(Uri),
    /// The issuer's identifier, whose metadata contain the URL of the JWKS (OpenID Connect Discovery 1.0 section 4).
    Discovery(String),
}

/// Why there are no keys. No message contains bytes of a body.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Unanswered(#[from] RequestError),
    #[error("the response has status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("the metadata are not those of an OpenID provider: JSON with `issuer` and `jwks_uri`")]
    Metadata,
    #[error("the metadata are of another issuer")]
    Issuer,
    #[error("`jwks_uri` is not an `https://` URL")]
    Location,
    #[error("{0}")]
    Keys(#[from] BadKey),
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// Called after each request for an issuer's keys with whether it succeeded, and with `None` before the first one.
pub type OnFetch = Arc<dyn Fn(&str, Option<bool>) + Send + Sync>;

/// The current keys, which one task requests.
pub struct RemoteKeys {
    source: KeySource,
    algorithms: Vec<Algorithm>,
    known: ArcSwapOption<Fetched>,
    asked: Arc<Notify>,
    /// Whether a request is in progress, or about to begin.
    is_fetching: watch::Sender<bool>,
    last_attempt: Mutex<Option<Instant>>,
    is_followed: AtomicBool,
    /// Nothing can be requested: TLS could not be prepared.
    is_given_up: AtomicBool,
}

/// The keys of a response.
pub(super) struct Fetched {
    pub(super) keys: Keys,
    at: Instant,
    refresh: Duration,
}

impl RemoteKeys {
    pub(super) fn new(source: KeySource, algorithms: Vec<Algorithm>) -> Self {
        Self {
            source,
            algorithms,
            known: ArcSwapOption::empty(),
            asked: Arc::default(),
            is_fetching: watch::Sender::new(false),
            last_attempt: Mutex::default(),
            is_followed: AtomicBool::new(false),
            is_given_up: AtomicBool::new(false),
        }
    }

    /// The location, for [`Material`](super::issuer): its owner determines which keys are valid.
    pub(super) fn location(&self) -> String {
        self.source.location.to_string()
    }

    /// The keys, unless they are too old to be used.
    pub(super) fn current(&self) -> Option<Arc<Fetched>> {
        self.known.load_full().filter(|known| known.at.elapsed() <= self.source.keep)
    }

    /// Takes over the keys of the same issuer from the previous configuration.
    pub(super) fn inherit(&self, before: &Self) {
        if self.source.location == before.source.location && self.algorithms == before.algorithms {
            self.known.store(before.known.load_full());
        }
    }

    /// Requests the keys. True if a request is in progress; false if one has just ended, and the next has to wait.
    pub(super) fn ask(&self) -> bool {
        if self.is_given_up.load(Ordering::Relaxed) {
            return false;
        }
        let last = *self.last_attempt.lock().unwrap_or_else(PoisonError::into_inner);
        let mut begins = false;
        self.is_fetching.send_if_modified(|is_fetching| {
            begins = !*is_fetching && last.is_none_or(|at| at.elapsed() >= COOLDOWN);
            *is_fetching |= begins;
            begins
        });
        if begins {
            self.asked.notify_one();
        }
        *self.is_fetching.borrow()
    }

    /// Waits until no request is in progress, for at most `patience`. False if one still is.
    pub(super) async fn settled(&self, patience: Duration) -> bool {
        let mut is_fetching = self.is_fetching.subscribe();
        timeout(patience, is_fetching.wait_for(|is_fetching| !is_fetching)).await.is_ok()
    }

    /// Requests the keys once. Returns how many of them support the algorithms.
    ///
    /// # Errors
    ///
    /// Why there are no keys.
    pub async fn fetch(&self) -> Result<usize, FetchError> {
        let client = self.client()?;
        Ok(self.request(&client).await?.keys.len())
    }

    fn client(&self) -> Result<HttpClient, TlsError> {
        HttpClient::trusting(CONNECT_TIMEOUT, self.source.roots.as_ref())
    }

    async fn request(&self, client: &HttpClient) -> Result<Fetched, FetchError> {
        let location = match &self.source.location {
            KeyLocation::Jwks(uri) => uri.clone(),
            KeyLocation::Discovery(issuer) => discover(client, issuer).await?,
        };
        let response = get(client, location).await?;
        let keys = Keys::set(&TokenKey(response.body.to_vec()), &self.algorithms)?;
        Ok(Fetched { keys, at: Instant::now(), refresh: refresh(&response.headers) })
    }

    fn finish(&self, fetched: Option<Fetched>) {
        if let Some(fetched) = fetched {
            self.known.store(Some(Arc::new(fetched)));
        }
        *self.last_attempt.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.is_fetching.send_replace(false);
    }
}

impl std::fmt::Display for KeyLocation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Jwks(uri) => uri.fmt(formatter),
            Self::Discovery(issuer) => issuer.fmt(formatter),
        }
    }
}

/// Keeps the keys up to date in a task, while they are in use. Does nothing if such a task is running.
pub(super) fn follow(keys: &Arc<RemoteKeys>, issuer: &str, on_fetch: &OnFetch) {
    if keys.is_followed.swap(true, Ordering::Relaxed) {
        return;
    }
    on_fetch(issuer, None);
    let client = match keys.client() {
        Ok(client) => client,
        Err(error) => {
            keys.is_given_up.store(true, Ordering::Relaxed);
            return tracing::error!(issuer, %error, "cannot request the keys of an issuer");
        }
    };
    tokio::spawn(refresh_while_used(Arc::downgrade(keys), client, issuer.to_owned(), on_fetch.clone()));
}

async fn refresh_while_used(keys: Weak<RemoteKeys>, client: HttpClient, issuer: String, on_fetch: OnFetch) {
    let mut retry = RETRY_FIRST;
    let mut was_failing = false;
    while let Some(known) = keys.upgrade() {
        known.is_fetching.send_replace(true);
        let fetched = known.request(&client).await;
        on_fetch(&issuer, Some(fetched.is_ok()));
        let pause = match &fetched {
            Ok(fetched) => {
                if was_failing {
                    tracing::info!(issuer, "the issuer provides its keys again");
                }
                retry = RETRY_FIRST;
                fetched.refresh
            }
            Err(error) => {
                if !was_failing {
                    tracing::warn!(issuer, %error, "cannot get the keys of an issuer; trying again");
                }
                let pause = retry;
                retry = (retry * 2).min(RETRY_MAX);
                pause
            }
        };
        was_failing = fetched.is_err();
        known.finish(fetched.ok());
        let asked = known.asked.clone();
        drop(known);
        tokio::select! {
            () = sleep(pause) => {}
            () = asked.notified() => {}
        }
    }
}

/// The URL of the JWKS in an issuer's metadata. The metadata must be this issuer's own (section 4.3), and an `https`
/// issuer must not refer to keys without TLS.
async fn discover(client: &HttpClient, issuer: &str) -> Result<Uri, FetchError> {
    let place = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let place: Uri = place.parse().map_err(|_| FetchError::Location)?;
    let is_plain = place.scheme_str() == Some("http");
    let response = get(client, place).await?;
    let metadata: Metadata = serde_json::from_slice(&response.body).map_err(|_| FetchError::Metadata)?;
    if metadata.issuer != issuer {
        return Err(FetchError::Issuer);
    }
    let keys: Uri = metadata.jwks_uri.parse().map_err(|_| FetchError::Location)?;
    match keys.scheme_str() {
        Some("https") => Ok(keys),
        Some("http") if is_plain => Ok(keys),
        _ => Err(FetchError::Location),
    }
}

async fn get(client: &HttpClient, uri: Uri) -> Result<Response, FetchError> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = uri;
    request.headers_mut().insert(ACCEPT, http::HeaderValue::from_static("application/json"));
    let response = client.send(request, LIMITS).await?;
    if response.status == StatusCode::OK { Ok(response) } else { Err(FetchError::Status(response.status)) }
}

/// The delay until the next request: `max-age` (RFC 9111 section 5.2.2.1), within bounds.
fn refresh(headers: &HeaderMap) -> Duration {
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let mut directives = lines.flat_map(|line| line.split(',')).map(|directive| directive.trim().to_ascii_lowercase());
    let age = directives.find_map(|directive| match &*directive {
        "no-cache" | "no-store" => Some(0),
        directive => directive.strip_prefix("max-age=")?.trim_matches('"').parse().ok(),
    });
    age.map_or(REFRESH, |seconds| Duration::from_secs(seconds).clamp(REFRESH_MIN, REFRESH_MAX))
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
