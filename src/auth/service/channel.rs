//! The requests to a service, as one configuration says: where, with which credentials and authorities, how many at once.
//!
//! Configurations with the same authority share the current channel, so that streams that were opened with an earlier one
//! are asked about with the settings of now.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::{Failure, Question, ServiceSettings, Use};
use crate::http_client::{HttpClient, RequestLimits, Response};

/// The longest response body, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// The most concurrent requests to a service; others wait, within the time limit of one request.
const ASKING_MAX: usize = 64;
/// The least time between two log lines about failures.
const REPORT_PAUSE: Duration = Duration::from_secs(10);

/// The channel of the newest configuration.
#[derive(Clone)]
pub(super) struct SharedChannel(watch::Sender<Arc<Channel>>);

impl SharedChannel {
    pub(super) fn new(channel: Channel) -> Self {
        Self(watch::Sender::new(Arc::new(channel)))
    }

    pub(super) fn current(&self) -> Arc<Channel> {
        self.0.borrow().clone()
    }

    pub(super) fn replace(&self, channel: Channel) {
        self.0.send_replace(Arc::new(channel));
    }

    /// Reports each later replacement.
    pub(super) fn replacements(&self) -> watch::Receiver<Arc<Channel>> {
        self.0.subscribe()
    }
}

pub(super) struct Channel {
    pub(super) settings: ServiceSettings,
    credentials: Option<HeaderValue>,
    /// The name of the service in logs.
    name: &'static str,
    /// `None` if TLS could not be initialized.
    client: Option<HttpClient>,
    asking: Semaphore,
    /// The same for open streams, so that requests of unknown clients cannot delay them.
    confirming: Semaphore,
    /// The time of the last log line about a failure.
    reported: Mutex<Option<Instant>>,
}

impl Channel {
    /// Runs on tokio.
    pub(super) fn new(settings: ServiceSettings, credentials: Option<HeaderValue>, name: &'static str) -> Self {
        let client = if settings.is_direct { HttpClient::direct } else { HttpClient::trusting };
        let client = client(settings.timeout, settings.roots.as_ref())
            .map_err(|error| tracing::error!(service = name, %error, "cannot ask the authentication service"));
        let [asking, confirming] = [ASKING_MAX; 2].map(Semaphore::new);
        Self { settings, credentials, name, client: client.ok(), asking, confirming, reported: Mutex::default() }
    }

    /// The response of the service.
    ///
    /// # Errors
    ///
    /// There is none, or it would take too long.
    pub(super) async fn ask(&self, question: &Question, answers: Use) -> Result<Response, Failure> {
        let client = self.client.as_ref().ok_or(Failure::NoClient)?;
        let turns = match answers {
            Use::Cached => &self.asking,
            Use::Current => &self.confirming,
        };
        let turn = timeout(self.settings.timeout, turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Failure::Busy) };
        let mut request = question.request.clone();
        *request.uri_mut() = self.settings.uri.clone();
        request.headers_mut().extend(self.credentials.iter().map(|value| (AUTHORIZATION, value.clone())));
        let limits = RequestLimits { time: self.settings.timeout, body: BODY_BYTES_MAX };
        Ok(client.send(request, limits).await?)
    }

    pub(super) fn report(&self, failure: &Failure) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_none_or(|at| at.elapsed() >= REPORT_PAUSE) {
            *reported = Some(Instant::now());
            let service = self.name;
            tracing::warn!(service, %failure, "the authentication service gives no answer; streams are refused");
        }
    }
}
