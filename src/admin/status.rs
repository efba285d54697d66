//! The data of the admin page in addition to metrics: routes with their streams, slow streams, the last reload, and the
//! streams that are bound to a key's value. Read-only.

use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use super::Readiness;
use crate::config::snapshot::Snapshot;
use crate::explain::{Explanation, Question, explain};
use crate::hub::Log;
use crate::metrics::Metrics;
use crate::reload::ReloadHandle;
use crate::revoke::Revoker;
use crate::route::{Admission, Offer, StreamRoute};
use crate::writer::{StreamStats, Survey, Writers};

/// The sources of the data.
pub struct Status {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub writers: Writers,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub reload: Arc<OnceLock<ReloadHandle>>,
    pub revoker: Option<Arc<Revoker>>,
    pub log: Arc<dyn Log>,
    pub started: Instant,
}

impl Status {
    /// Blocks its thread while the log is read.
    pub(super) fn explain(&self, question: &Question) -> Explanation {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_unix_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        explain(&self.snapshot.load(), &*self.log, question, now_unix_ms)
    }

    /// Blocks its thread until the writers have responded.
    pub(super) fn report(&self) -> Value {
        let snapshot = self.snapshot.load();
        let routes: Vec<Value> = snapshot.routes.routes().map(|route| self.route(route)).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "prefix": snapshot.metrics_prefix,
            "listen_port": snapshot.listen.port(),
            "not_ready": self.readiness.reasons_against(),
            "streams": self.writers.streams(),
            "streams_max": snapshot.limits.max_streams,
            "routes": routes,
            "slow": self.writers.survey(Survey::MostWaiting),
            "reload": self.reload.get().and_then(ReloadHandle::last).map(|last| json!(*last)),
            "follows_file": self.reload.get().is_some(),
        })
    }

    /// The streams that are bound to this value of any key.
    pub(super) fn find(&self, value: &str) -> Vec<StreamStats> {
        self.writers.survey(Survey::BoundTo(value.into()))
    }

    fn route(&self, route: &StreamRoute) -> Value {
        let transport = match route.offer {
            Offer::Only(transport) => transport.as_str(),
            Offer::Auto => "auto",
        };
        json!({
            "path": &*route.pattern,
            "stream": &*route.stream.name,
            "topics": &*route.stream.topics,
            "transport": transport,
            "public": route.admission == Admission::Public,
            "open": self.metrics.route_streams.with_label_values(&[&*route.pattern]).get(),
            "max": route.max_streams,
            "events": self.metrics.route_events.with_label_values(&[&*route.pattern]).get(),
        })
    }
}
