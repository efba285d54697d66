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
use super::service::{Asked, Interpret, Kind, Question, ServiceError, ServiceSettings, Settings, asked};
use crate::access::Principal;

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

impl Settings for ForwardSettings {
    fn service(&self) -> &ServiceSettings {
        &self.service
    }

    fn kind(&self) -> Kind {
        let Self { service, is_upstream, request_headers, claims } = self;
        let authority = authority_of(&(service.uri.to_string(), is_upstream, request_headers, claims));
        Kind { name: "auth.forward", authority, is_for_one_target: true }
    }

    fn interpret(&self, readers: Arc<Readers>) -> Interpret {
        let claims = self.claims.clone();
        Box::new(move |response| verdict::read(response, &claims, &readers))
    }
}

/// Calls the service.
pub type Forward = Asked<ForwardSettings>;

impl Forward {
    pub fn new(settings: ForwardSettings, readers: Arc<Readers>) -> Self {
        asked(settings, readers)
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
