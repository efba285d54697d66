//! Forward auth: a service decides whether a request is accepted, and who the client is, like nginx's `auth_request`,
//! Traefik's ForwardAuth and Envoy's `ext_authz` over HTTP.
//!
//! Responses are cached for a bounded time. While a stream is open, the service is called again: the last positive
//! response is valid for one interval. No log and no message contains a credential, a claim or a body.

mod answers;
mod lease;
mod question;
mod verdict;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Uri};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use answers::{Answers, Entry, Known};
use lease::Lease;
pub use question::{QUESTION_BYTES_MAX, Question, QuestionTooLong, is_forwardable};
use verdict::Verdict;

use super::verifier::authority_of;
use crate::access::{Authority, Binding, Principal};
use crate::http_client::{HttpClient, RequestError, RequestLimits};

/// The longest response body, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// The most concurrent requests to the service; others wait, within the time limit of one request.
const ASKING_MAX: usize = 64;
/// The longest time for which other requests use a negative response.
const DENIED_CACHE_MAX: Duration = Duration::from_secs(1);
/// How long a failure applies to requests with the same question.
const FAILURE_CACHE: Duration = Duration::from_secs(1);
/// The least time between two log lines about failures.
const REPORT_PAUSE: Duration = Duration::from_secs(10);

/// The service, its requests, and the interpretation of its responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSettings {
    pub uri: Uri,
    /// Whether the service is the upstream: it receives the `Host` of the request, and no HTTP proxy is used.
    pub is_upstream: bool,
    /// The fields of the request that are forwarded, in addition to `X-Forwarded-*`.
    pub request_headers: Box<[HeaderName]>,
    /// Claims with the response fields that contain them.
    pub claims: Box<[(Box<str>, HeaderName)]>,
    /// How long other requests use a positive response.
    pub cache: Duration,
    /// How long a positive response is valid for an open stream.
    pub interval: Duration,
    /// The time limit of one request.
    pub timeout: Duration,
}

/// Why a request is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    #[error("the credentials are not accepted")]
    Unauthorized,
    #[error("the authentication service denies access")]
    Forbidden,
    #[error("the authentication service is not available")]
    Unavailable,
}

/// Why there is no decision. No message contains a header value or a byte of a body.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the HTTP client could not be prepared")]
    NoClient,
    #[error("too many requests to the service are under way")]
    Busy,
    #[error("{0}")]
    Unanswered(#[from] RequestError),
    #[error("the response has status {0}")]
    Status(u16),
    #[error("the response says it is JSON, but it is not a JSON object")]
    Body,
}

/// The kind of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardOutcome {
    Allowed,
    Unauthorized,
    Forbidden,
    Unavailable,
}

impl ForwardOutcome {
    /// The label value in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Callbacks.
#[derive(Clone)]
pub struct ForwardHooks {
    /// Called for each response with its duration; `None` if it came from the cache.
    pub on_answer: Arc<dyn Fn(ForwardOutcome, Option<Duration>) + Send + Sync>,
    /// Called when the access of open streams was withdrawn.
    pub on_withdrawal: Arc<dyn Fn() + Send + Sync>,
}

/// Calls the service. Created once per configuration.
pub struct Forward {
    settings: ForwardSettings,
    /// The claims that routes bind; others of a response are dropped.
    bindings: Box<[Binding]>,
    answers: Answers,
    asking: Semaphore,
    /// The same for open streams, so that requests of unknown clients cannot delay them.
    confirming: Semaphore,
    running: OnceLock<Running>,
    /// The time of the last log line about a failure.
    reported: Mutex<Option<Instant>>,
}

struct Running {
    hooks: ForwardHooks,
    /// `None` if TLS could not be initialized.
    client: Option<HttpClient>,
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Equal if requests and the claims of responses are the same.
impl PartialEq for Forward {
    fn eq(&self, other: &Self) -> bool {
        (&self.settings, &self.bindings) == (&other.settings, &other.bindings)
    }
}

impl Forward {
    pub fn new(settings: ForwardSettings, bindings: Box<[Binding]>) -> Self {
        Self {
            settings,
            bindings,
            answers: Answers::default(),
            asking: Semaphore::new(ASKING_MAX),
            confirming: Semaphore::new(ASKING_MAX),
            running: OnceLock::new(),
            reported: Mutex::default(),
        }
    }

    /// Enables requests. Only the first call has an effect.
    pub fn start(&self, hooks: &ForwardHooks) {
        self.running.get_or_init(|| {
            let Self { settings, .. } = self;
            let client = if settings.is_upstream { HttpClient::direct } else { HttpClient::new };
            let client = client(settings.timeout)
                .map_err(|error| tracing::error!(%error, "cannot ask the authentication service"));
            Running { hooks: hooks.clone(), client: client.ok() }
        });
    }

    /// Sends requests from now on if the previous configuration does, so that none fails between the two.
    pub(super) fn inherit(&self, before: &Self) {
        if let Some(running) = before.running.get() {
            self.start(&running.hooks);
        }
    }

    /// The authority of its principals.
    pub(super) fn authority(&self) -> Authority {
        let ForwardSettings { uri, is_upstream, request_headers, claims, .. } = &self.settings;
        authority_of(&(uri.to_string(), is_upstream, request_headers, claims))
    }

    /// The question for a request with these fields, whose `X-Forwarded-For`, `-Proto` and `-Host` are sidestream's
    /// own.
    ///
    /// # Errors
    ///
    /// The fields exceed the limit.
    pub fn question(&self, headers: &HeaderMap, method: &Method, target: &str) -> Result<Question, QuestionTooLong> {
        Question::new(headers, &self.settings.request_headers, self.settings.is_upstream, method, target)
    }

    /// Whether a request has a field with credentials.
    pub fn has_credentials(&self, headers: &HeaderMap) -> bool {
        self.settings.request_headers.iter().any(|name| headers.contains_key(name))
    }

    /// The principal of a request, and how long ago the service was asked about it.
    ///
    /// # Errors
    ///
    /// The request is not accepted, or the service does not respond.
    pub async fn identify(self: &Arc<Self>, question: Question) -> Result<(Principal, Duration), ForwardError> {
        let entry = self.answers.entry(question.key());
        let (verdict, asked) = self.verdict(&entry, &question, Use::Cached).await;
        let claims = match verdict {
            Verdict::Allowed(claims) => claims,
            Verdict::Unavailable => return Err(ForwardError::Unavailable),
            denied => {
                if entry.withdraw_lease() {
                    self.withdrawn();
                }
                let is_forbidden = matches!(denied, Verdict::Forbidden);
                return Err(if is_forbidden { ForwardError::Forbidden } else { ForwardError::Unauthorized });
            }
        };
        let lease = entry.lease(&claims, || Lease::start(self.clone(), entry.clone(), question, claims.clone(), asked));
        let principal = Principal { claims, expires_at: None, authority: self.authority(), standing: Some(lease) };
        Ok((principal, asked.elapsed()))
    }

    /// The response to a question, and the time of its request. Concurrent requests with the same question share one.
    async fn verdict(&self, entry: &Entry, question: &Question, answers: Use) -> (Verdict, Instant) {
        let arrived = Instant::now();
        let Ok(mut known) = timeout(self.settings.timeout, entry.known()).await else {
            return (Verdict::Unavailable, arrived);
        };
        let is_usable = |known: &&Known| known.at >= arrived || (answers == Use::Cached && known.until > arrived);
        if let Some(Known { verdict, asked, .. }) = known.as_ref().filter(is_usable) {
            self.answered(verdict.outcome(), None);
            return (verdict.clone(), *asked);
        }
        let asked = Instant::now();
        let verdict = self.request(question, answers).await;
        let at = Instant::now();
        self.answered(verdict.outcome(), Some(at - asked));
        let until = match verdict {
            Verdict::Allowed(_) => asked + self.settings.cache,
            Verdict::Unauthorized | Verdict::Forbidden => at + self.settings.cache.min(DENIED_CACHE_MAX),
            Verdict::Unavailable => at + FAILURE_CACHE,
        };
        *known = Some(Known { verdict: verdict.clone(), asked, at, until });
        (verdict, asked)
    }

    async fn request(&self, question: &Question, answers: Use) -> Verdict {
        let turns = match answers {
            Use::Cached => &self.asking,
            Use::Current => &self.confirming,
        };
        self.ask(question, turns).await.unwrap_or_else(|failure| {
            self.report(&failure);
            Verdict::Unavailable
        })
    }

    fn report(&self, failure: &Failure) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_none_or(|at| at.elapsed() >= REPORT_PAUSE) {
            *reported = Some(Instant::now());
            tracing::warn!(%failure, "the authentication service gives no answer; streams are refused");
        }
    }

    async fn ask(&self, question: &Question, turns: &Semaphore) -> Result<Verdict, Failure> {
        let client = self.running.get().and_then(|running| running.client.as_ref()).ok_or(Failure::NoClient)?;
        let turn = timeout(self.settings.timeout, turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Failure::Busy) };
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = self.settings.uri.clone();
        *request.headers_mut() = question.headers().clone();
        let limits = RequestLimits { time: self.settings.timeout, body: BODY_BYTES_MAX };
        let response = client.send(request, limits).await?;
        verdict::read(&response, &self.settings.claims, &self.bindings)
    }

    fn answered(&self, outcome: ForwardOutcome, took: Option<Duration>) {
        if let Some(running) = self.running.get() {
            (running.hooks.on_answer)(outcome, took);
        }
    }

    fn withdrawn(&self) {
        if let Some(running) = self.running.get() {
            (running.hooks.on_withdrawal)();
        }
    }
}

/// The acceptable responses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// A cached one.
    Cached,
    /// One that arrived after the question.
    Current,
}

#[cfg(test)]
mod tests;
