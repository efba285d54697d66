//! Readiness, and the reasons against it. It reads state and changes none.

use std::sync::OnceLock;

use crate::shutdown::Ending;
use crate::source::Status;

/// Returns the status of the sources; cheap.
type SourceStatus = Box<dyn Fn() -> Status + Send + Sync>;

/// The inputs of `/readyz`.
pub struct Readiness {
    ending: Ending,
    is_kafka_required: bool,
    /// Set when listeners and sources have started.
    source: OnceLock<SourceStatus>,
}

impl Readiness {
    /// Not ready before [`Self::serve_source`]. An outage of Kafka counts only if `is_kafka_required`.
    ///
    /// A drain alone does not count: requests are still proxied, and kube-proxy sends them to terminating endpoints, if
    /// there are no others, as long as these are ready.
    pub fn new(ending: Ending, is_kafka_required: bool) -> Self {
        Self { ending, is_kafka_required, source: OnceLock::new() }
    }

    /// All components have started: the status of the sources decides from now on. Only the first call has an effect.
    pub fn serve_source(&self, status: SourceStatus) {
        let _ = self.source.set(status);
    }

    /// The reasons; empty when ready. A source is warm when its replay window is, or when the time limit for that is
    /// over.
    pub fn reasons_against(&self) -> Vec<&'static str> {
        let mut reasons = Vec::new();
        if self.ending.is_set() {
            reasons.push("draining");
        }
        match self.source.get().map(|status| status()) {
            None => reasons.push("starting"),
            Some(status) => {
                if !status.warm {
                    reasons.push("warming up");
                }
                if self.is_kafka_required && !status.connected {
                    reasons.push("kafka");
                }
            }
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(is_kafka_required: bool, status: Option<Status>) -> Vec<&'static str> {
        let readiness = Readiness::new(Ending::default(), is_kafka_required);
        if let Some(status) = status {
            readiness.serve_source(Box::new(move || status));
        }
        readiness.reasons_against()
    }

    #[test]
    fn kafka_counts_only_if_it_is_required() {
        let status = |warm, connected| Some(Status { warm, connected });
        assert_eq!(reasons(false, None), ["starting"]);
        assert_eq!(reasons(false, status(false, true)), ["warming up"]);
        assert!(reasons(false, status(true, false)).is_empty());
        assert_eq!(reasons(true, status(true, false)), ["kafka"]);
        assert!(reasons(true, status(true, true)).is_empty());
    }
}
