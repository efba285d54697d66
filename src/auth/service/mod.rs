//! A service that is asked who a request is from. Its answers are cached for a bounded time, and concurrent requests
//! with the same question share one.
//!
//! While a stream is open, the service is asked again: the last positive answer is valid for one interval. No log and
//! no message contains a credential, a claim or a body. What is asked, and what an answer means, is the [forward
//! auth](super::forward)'s or the [introspection](super::introspection)'s.

mod answers;
mod asked;
mod channel;
mod lease;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use answers::{Answers, Entry, Known};
pub(super) use asked::{Asked, Settings, asked};
use channel::{Channel, SharedChannel};
use lease::Lease;

use super::readers::Readers;
use super::revocations::unix_ms;
use crate::access::{self, Authority, Principal, VALUE_BYTES_MAX, Waiter};
use crate::http_client::{RequestError, Response, TlsRoots};

/// The longest time for which other requests use a negative response.
const DENIED_CACHE_MAX: Duration = Duration::from_secs(1);
/// How long a failure applies to requests with the same question.
const FAILURE_CACHE: Duration = Duration::from_secs(1);

/// Where a service is, and how long its answers hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSettings {
    pub uri: Uri,
    /// Whether no HTTP proxy is used.
    pub is_direct: bool,
    /// Absent, the system's authorities.
    pub roots: Option<TlsRoots>,
    /// How long other requests use a positive response.
    pub cache: Duration,
    /// How long a positive response is valid for an open stream.
    pub interval: Duration,
    /// The time limit of one request.
    pub timeout: Duration,
}

/// The challenges of a service to a client without valid credentials (RFC 9110 section 11.6.1); none if it sent none.
pub type Challenges = Arc<[HeaderValue]>;

/// Why a request is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    #[error("the credentials are not accepted")]
    Unauthorized(Challenges),
    #[error("the authentication service denies access")]
    Forbidden,
    #[error("the authentication service is not available")]
    Unavailable,
}

/// Why there is no decision. No message contains a header value or a byte of a body.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the HTTP client could not be prepared")]
    NoClient,
    #[error("too many requests to the service are under way")]
    Busy,
    #[error("{0}")]
    Unanswered(#[from] RequestError),
    #[error("the response has status {0}")]
    Status(u16),
    #[error("the response is not the JSON object that it has to be")]
    Body,
}

/// The decision of a service.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Allowed(Granted),
    Unauthorized(Challenges),
    Forbidden,
    /// No decision.
    Unavailable,
}

pub(super) type Claims = Arc<access::Claims>;

/// Who an accepted request is from.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    pub(super) claims: Claims,
    /// In milliseconds since the Unix epoch.
    pub(super) expires_at: Option<i64>,
}

impl Verdict {
    pub(super) fn outcome(&self) -> ServiceOutcome {
        match self {
            Self::Allowed(_) => ServiceOutcome::Allowed,
            Self::Unauthorized(_) => ServiceOutcome::Unauthorized,
            Self::Forbidden => ServiceOutcome::Forbidden,
            Self::Unavailable => ServiceOutcome::Unavailable,
        }
    }

    /// The decision at this time: what has expired is not accepted.
    fn now(self) -> Self {
        match self {
            Self::Allowed(Granted { expires_at: Some(end), .. }) if end <= unix_ms() => {
                Self::Unauthorized(Challenges::default())
            }
            verdict => verdict,
        }
    }
}

/// The kind of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceOutcome {
    Allowed,
    Unauthorized,
    Forbidden,
    Unavailable,
}

impl ServiceOutcome {
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
pub struct ServiceHooks {
    /// Called for each response with its duration; `None` if it came from the cache.
    pub on_answer: Arc<dyn Fn(ServiceOutcome, Option<Duration>) + Send + Sync>,
    /// Called when the access of open streams was withdrawn.
    pub on_withdrawal: Arc<dyn Fn() + Send + Sync>,
    /// Called when a verification that a session waits for has ended.
    pub on_verified: Arc<dyn Fn(Waiter) + Send + Sync>,
}

/// Interprets a response.
pub(super) type Interpret = Box<dyn Fn(&Response) -> Result<Verdict, Failure> + Send + Sync>;

/// Identifies a question: equal for two requests only if the same is sent.
pub(super) type Key = [u8; 32];

/// A request to a service, without its URL.
pub struct Question {
    request: Request<Bytes>,
    key: Key,
}

impl Question {
    pub(super) fn new(method: Method, headers: HeaderMap, body: Bytes, key: Sha256) -> Self {
        let mut request = Request::new(body);
        (*request.method_mut(), *request.headers_mut()) = (method, headers);
        Self { request, key: key.finalize().into() }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    #[cfg(test)]
    pub(super) fn key(&self) -> Key {
        self.key
    }

    #[cfg(test)]
    pub(super) fn body(&self) -> &Bytes {
        self.request.body()
    }
}

/// What the principals of a service have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// The name in logs.
    pub(super) name: &'static str,
    pub(super) authority: Authority,
    /// Whether a principal is accepted for the target of its request alone.
    pub(super) is_for_one_target: bool,
}

/// Calls a service. Created once per configuration.
pub(super) struct Service {
    settings: ServiceSettings,
    credentials: Option<HeaderValue>,
    kind: Kind,
    interpret: Interpret,
    answers: Answers,
    running: OnceLock<Running>,
}

struct Running {
    hooks: ServiceHooks,
    channel: SharedChannel,
    runtime: Handle,
}

impl Service {
    fn new(settings: ServiceSettings, credentials: Option<HeaderValue>, kind: Kind, interpret: Interpret) -> Self {
        let (answers, running) = (Answers::default(), OnceLock::new());
        Self { settings, credentials, kind, interpret, answers, running }
    }

    /// Enables requests. Only the first call has an effect. Runs on tokio.
    fn start(&self, hooks: &ServiceHooks) {
        self.running.get_or_init(|| {
            let channel = SharedChannel::new(self.channel());
            Running { hooks: hooks.clone(), channel, runtime: Handle::current() }
        });
    }

    /// Sends requests from now on if the previous configuration does, so that none fails between the two. With the same
    /// authority, its streams stay open, and are asked about as this configuration says.
    fn inherit(&self, before: &Self) {
        let Some(running) = before.running.get() else { return };
        let _entered = running.runtime.enter();
        if self.authority() != before.authority() {
            return self.start(&running.hooks);
        }
        self.running.get_or_init(|| {
            running.channel.replace(self.channel());
            Running { hooks: running.hooks.clone(), channel: running.channel.clone(), runtime: running.runtime.clone() }
        });
    }

    fn channel(&self) -> Channel {
        Channel::new(self.settings.clone(), self.credentials.clone(), self.kind.name)
    }

    /// The settings of requests now: those of the newest configuration, once requests are enabled.
    fn current(&self) -> ServiceSettings {
        self.running.get().map_or_else(|| self.settings.clone(), |running| running.channel.current().settings.clone())
    }

    /// The runtime of its requests, and the callbacks, once requests are enabled.
    pub(super) fn running(&self) -> Option<(&Handle, &ServiceHooks)> {
        self.running.get().map(|running| (&running.runtime, &running.hooks))
    }

    pub(super) fn authority(&self) -> Authority {
        self.kind.authority
    }

    /// The principal of a request, and how long ago the service was asked about it.
    ///
    /// # Errors
    ///
    /// The request is not accepted, or the service does not respond.
    pub(super) async fn identify(self: &Arc<Self>, question: Question) -> Result<(Principal, Duration), ServiceError> {
        let entry = self.answers.entry(question.key);
        let (verdict, asked) = self.verdict(&entry, &question, Use::Cached).await;
        let granted = match verdict {
            Verdict::Allowed(granted) => granted,
            Verdict::Unavailable => return Err(ServiceError::Unavailable),
            Verdict::Forbidden => return self.denied(&entry, ServiceError::Forbidden),
            Verdict::Unauthorized(challenges) => return self.denied(&entry, ServiceError::Unauthorized(challenges)),
        };
        let Granted { claims, expires_at } = granted;
        let lease = entry.lease(&claims, || Lease::start(self.clone(), entry.clone(), question, claims.clone(), asked));
        let principal = Principal { claims, expires_at, authority: self.kind.authority, standing: Some(lease) };
        Ok((principal, asked.elapsed()))
    }

    /// Ends the streams of a question that is not accepted any more.
    fn denied<T>(&self, entry: &Entry, error: ServiceError) -> Result<T, ServiceError> {
        if entry.withdraw_lease() {
            self.withdrawn();
        }
        Err(error)
    }

    /// The response to a question, and the time of its request. Concurrent requests with the same question share one.
    async fn verdict(&self, entry: &Entry, question: &Question, answers: Use) -> (Verdict, Instant) {
        let arrived = Instant::now();
        let ServiceSettings { timeout: patience, cache, .. } = self.current();
        let Ok(mut known) = timeout(patience, entry.known()).await else {
            return (Verdict::Unavailable, arrived);
        };
        let is_usable = |known: &&Known| known.at >= arrived || (answers == Use::Cached && known.until > arrived);
        if let Some(Known { verdict, asked, .. }) = known.as_ref().filter(is_usable) {
            self.answered(verdict.outcome(), None);
            return (verdict.clone().now(), *asked);
        }
        let asked = Instant::now();
        let verdict = self.request(question, answers).await;
        let at = Instant::now();
        self.answered(verdict.outcome(), Some(at - asked));
        let until = match verdict {
            Verdict::Allowed(_) => asked + cache,
            Verdict::Unauthorized(_) | Verdict::Forbidden => at + cache.min(DENIED_CACHE_MAX),
            Verdict::Unavailable => at + FAILURE_CACHE,
        };
        *known = Some(Known { verdict: verdict.clone(), asked, at, until });
        (verdict, asked)
    }

    async fn request(&self, question: &Question, answers: Use) -> Verdict {
        let Some(running) = self.running.get() else { return Verdict::Unavailable };
        let channel = running.channel.current();
        let asked = channel.ask(question, answers).await;
        let verdict = asked.and_then(|response| Ok((self.interpret)(&response)?.now()));
        verdict.unwrap_or_else(|failure| {
            channel.report(&failure);
            Verdict::Unavailable
        })
    }

    fn answered(&self, outcome: ServiceOutcome, took: Option<Duration>) {
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

/// The claims that are read, those that identify the subject, and these. Others of a response are dropped, because
/// the service determines their size.
pub(super) fn kept(claims: Map<String, Value>, readers: &Readers, names: &[&str]) -> Claims {
    let others: Vec<_> = names.iter().filter_map(|name| Some((name, usable(claims.get(*name)?)?))).collect();
    let all = Principal { claims: Arc::new(claims.into()), expires_at: None, authority: Authority(0), standing: None };
    let mut kept = all.claims_for(readers.claims());
    kept.extend(others.into_iter().map(|(name, value)| ((*name).to_owned(), value)));
    Arc::new(kept)
}

/// A text or number of a bounded size.
fn usable(value: &Value) -> Option<Value> {
    match value {
        Value::Number(_) => Some(value.clone()),
        Value::String(text) if text.len() <= VALUE_BYTES_MAX => Some(value.clone()),
        _ => None,
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
