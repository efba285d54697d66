//! Forward auth: a service decides whether a request is accepted and who it is from, as with nginx's `auth_request`,
//! Traefik's ForwardAuth and Envoy's `ext_authz` over HTTP.
//!
//! Answers are cached for a bounded time. While a stream is open the service is asked again: the last positive answer holds for
//! one interval. No credential, claim or body is in a log or message.

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

/// The longest body of an answer, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Requests to the service that are under way at a time; others wait for their turn, for the time of one request.
const ASKING_MAX: usize = 64;
/// How long a negative answer is used for other requests, at most.
const DENIED_CACHE_MAX: Duration = Duration::from_secs(1);
/// How long a failure counts for requests that would ask the same.
const FAILURE_CACHE: Duration = Duration::from_secs(1);
/// Failures are logged no more often than this.
const REPORT_PAUSE: Duration = Duration::from_secs(10);

/// Who is asked, with what, and what an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSettings {
    pub uri: Uri,
    /// The service behind the proxy is the one that is asked: it sees the `Host` of the request, and no HTTP proxy is used.
    pub is_upstream: bool,
    /// The fields of the request that are sent, in addition to `X-Forwarded-*`.
    pub request_headers: Box<[HeaderName]>,
    /// Claims, and the fields of an answer that they are taken from.
    pub claims: Box<[(Box<str>, HeaderName)]>,
    /// How long a positive answer is used for other requests.
    pub cache: Duration,
    /// How long a positive answer holds for an open stream.
    pub interval: Duration,
    /// How long one request takes, at most.
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

/// Why the service gave no verdict. No message has a header value or a byte of a body.
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

/// What an answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardOutcome {
    Allowed,
    Unauthorized,
    Forbidden,
    Unavailable,
}

impl ForwardOutcome {
    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Whom to notify.
#[derive(Clone)]
pub struct ForwardHooks {
    /// Receives each answer: with the time that it took, or nothing where it came from the cache.
    pub on_answer: Arc<dyn Fn(ForwardOutcome, Option<Duration>) + Send + Sync>,
    /// Called when the access of open streams was withdrawn.
    pub on_withdrawal: Arc<dyn Fn() + Send + Sync>,
}

/// Asks the service. Made once per configuration.
pub struct Forward {
    settings: ForwardSettings,
    /// What routes bind: no other claims are kept of an answer.
    bindings: Box<[Binding]>,
    answers: Answers,
    asking: Semaphore,
    running: OnceLock<Running>,
    /// When a failure was logged last.
    reported: Mutex<Option<Instant>>,
}

struct Running {
    hooks: ForwardHooks,
    /// Absent where TLS could not be prepared.
    client: Option<HttpClient>,
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Equal where they ask the same and keep the same of an answer.
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
            running: OnceLock::new(),
            reported: Mutex::default(),
        }
    }

    /// From now on requests can be sent. Only the first call counts.
    pub fn start(&self, hooks: &ForwardHooks) {
        self.running.get_or_init(|| {
            let Self { settings, .. } = self;
            let client = if settings.is_upstream { HttpClient::direct } else { HttpClient::new };
            let client = client(settings.timeout)
                .map_err(|error| tracing::error!(%error, "cannot ask the authentication service"));
            Running { hooks: hooks.clone(), client: client.ok() }
        });
    }

    /// What the acceptance of its principals rests on.
    pub(super) fn authority(&self) -> Authority {
        let ForwardSettings { uri, is_upstream, request_headers, claims, .. } = &self.settings;
        authority_of(&(uri.to_string(), is_upstream, request_headers, claims))
    }

    /// What to ask about a request with these fields, of which `X-Forwarded-For`, `-Proto` and `-Host` are sidestream's own.
    pub fn question(&self, headers: &HeaderMap, method: &Method, target: &str) -> Result<Question, QuestionTooLong> {
        Question::new(headers, &self.settings.request_headers, self.settings.is_upstream, method, target)
    }

    /// Whether a request has a field that carries credentials.
    pub fn has_credentials(&self, headers: &HeaderMap) -> bool {
        self.settings.request_headers.iter().any(|name| headers.contains_key(name))
    }

    /// Who a request is from.
    pub async fn identify(self: &Arc<Self>, question: Question) -> Result<Principal, ForwardError> {
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
        Ok(Principal { claims, expires_at: None, authority: self.authority(), standing: Some(lease) })
    }

    /// The answer to a question, and when it was asked. Requests that ask the same at the same time share one.
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
        let verdict = self.request(question).await;
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

    async fn request(&self, question: &Question) -> Verdict {
        self.ask(question).await.unwrap_or_else(|failure| {
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

    async fn ask(&self, question: &Question) -> Result<Verdict, Failure> {
        let client = self.running.get().and_then(|running| running.client.as_ref()).ok_or(Failure::NoClient)?;
        let turn = timeout(self.settings.timeout, self.asking.acquire()).await;
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

/// Which answers do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// One that is cached.
    Cached,
    /// One that came after the question.
    Current,
}

#[cfg(test)]
mod tests;
