//! Forward auth: a service decides whether a request is accepted, and who the client is, like nginx's `auth_request`,
//! Traefik's ForwardAuth and Envoy's `ext_authz` over HTTP.

mod question;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method};

pub use question::{QUESTION_BYTES_MAX, QuestionTooLong, is_forwardable};

use super::issuer::authority_of;
use super::readers::Readers;
use super::service::{Kind, Question, Service, ServiceError, ServiceHooks, ServiceSettings};
use crate::access::{Authority, Principal};

/// The service, its requests, and the interpretation of its responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSettings {
    pub service: ServiceSettings,
    /// Whether the service is the upstream: it receives the `Host` of the request.
    pub is_upstream: bool,
    /// The fields of the request that are forwarded, in addition to `X-Forwarded-*`.
    pub request_headers: Box<[HeaderName]>,
    /// Claims with the response fields that contain them.
    pub claims: Box<[(Box<str>, HeaderName)]>,
}

/// Calls the service. Created once per configuration.
pub struct Forward {
    settings: ForwardSettings,
    /// What reads claims; others of a response are dropped.
    readers: Arc<Readers>,
    service: Arc<Service>,
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Equal if requests and the claims of responses are the same.
impl PartialEq for Forward {
    fn eq(&self, other: &Self) -> bool {
        (&self.settings, &self.readers) == (&other.settings, &other.readers)
    }
}

impl Forward {
    pub fn new(settings: ForwardSettings, readers: Arc<Readers>) -> Self {
        let ForwardSettings { service, is_upstream, request_headers, claims } = &settings;
        let authority = authority_of(&(service.uri.to_string(), is_upstream, request_headers, claims));
        let kind = Kind { name: "auth.forward", authority, is_for_one_target: true };
        let (from_headers, bound) = (claims.clone(), readers.clone());
        let interpret = Box::new(move |response: &_| verdict::read(response, &from_headers, &bound));
        let service = Arc::new(Service::new(service.clone(), kind, interpret));
        Self { settings, readers, service }
    }

    /// Enables requests. Only the first call has an effect. Runs on tokio.
    pub fn start(&self, hooks: &ServiceHooks) {
        self.service.start(hooks);
    }

    /// Sends requests from now on if the previous configuration does, so that none fails between the two.
    pub(super) fn inherit(&self, before: &Self) {
        self.service.inherit(&before.service);
    }

    /// The authority of its principals.
    pub(super) fn authority(&self) -> Authority {
        self.service.authority()
    }

    /// The question for a request with these fields, whose `X-Forwarded-For`, `-Proto` and `-Host` are sidestream's
    /// own.
    ///
    /// # Errors
    ///
    /// The fields exceed the limit.
    pub fn question(&self, headers: &HeaderMap, method: &Method, target: &str) -> Result<Question, QuestionTooLong> {
        question::question(headers, &self.settings.request_headers, self.settings.is_upstream, method, target)
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
    pub async fn identify(&self, question: Question) -> Result<(Principal, Duration), ServiceError> {
        self.service.identify(question).await
    }
}

#[cfg(test)]
mod tests;
