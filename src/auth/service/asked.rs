//! A service with the settings of its kind: [forward auth](crate::auth::forward) or
//! [introspection](crate::auth::introspection).

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;

use super::{Interpret, Kind, Service, ServiceHooks, ServiceSettings};
use crate::access::Authority;
use crate::auth::readers::Readers;

/// What distinguishes one kind of service from another.
pub(in crate::auth) trait Settings: fmt::Debug + PartialEq {
    fn service(&self) -> &ServiceSettings;

    fn kind(&self) -> Kind;

    /// The interpretation of responses; claims that no rule reads are dropped.
    fn interpret(&self, readers: Arc<Readers>) -> Interpret;

    /// `Authorization` of every request.
    fn credentials(&self) -> Option<HeaderValue> {
        None
    }
}

/// Calls a service of one kind. Created once per configuration.
pub struct Asked<S> {
    pub(in crate::auth) settings: S,
    readers: Arc<Readers>,
    pub(in crate::auth) service: Arc<Service>,
}

impl<S: fmt::Debug> fmt::Debug for Asked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Equal if requests and the claims of responses are the same.
impl<S: PartialEq> PartialEq for Asked<S> {
    fn eq(&self, other: &Self) -> bool {
        (&self.settings, &self.readers) == (&other.settings, &other.readers)
    }
}

pub(in crate::auth) fn asked<S: Settings>(settings: S, readers: Arc<Readers>) -> Asked<S> {
    let interpret = settings.interpret(readers.clone());
    let service = Service::new(settings.service().clone(), settings.credentials(), settings.kind(), interpret);
    Asked { settings, readers, service: Arc::new(service) }
}

impl<S> Asked<S> {
    /// Enables requests. Only the first call has an effect. Runs on tokio.
    pub fn start(&self, hooks: &ServiceHooks) {
        self.service.start(hooks);
    }

    /// Sends requests from now on if the previous configuration does, so that none fails between the two. Open streams
    /// of the same authority are asked about with these settings.
    pub(in crate::auth) fn inherit(&self, before: &Self) {
        self.service.inherit(&before.service);
    }

    /// The authority of its principals.
    pub(in crate::auth) fn authority(&self) -> Authority {
        self.service.authority()
    }
}
