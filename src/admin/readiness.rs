//! Whether traffic should come here, and if not, why. Reads state; changes none of it.

use std::sync::OnceLock;

use crate::kafka::Status;
use crate::shutdown::Ending;

/// Asks the source how it is; cheap.
type SourceStatus = Box<dyn Fn() -> Status + Send + Sync>;

/// What `/readyz` answers from.
pub struct Readiness {
    ending: Ending,
    is_kafka_required: bool,
    /// Set when listeners and source are up.
    source: OnceLock<SourceStatus>,
}

impl Readiness {
    /// Not ready before [`Self::serve_source`]. An outage of Kafka counts only where it `is_kafka_required`.
    ///
    /// A drain alone does not count: requests are proxied all the while, and kube-proxy sends them to terminating
    /// endpoints, where there are no others, as long as those are ready.
    pub fn new(ending: Ending, is_kafka_required: bool) -> Self {
        Self { ending, is_kafka_required, source: OnceLock::new() }
    }

    /// Everything is started; from now on the source's state decides. Only the first call counts.
    pub fn serve_source(&self, status: SourceStatus) {
        let _ = self.source.set(status);
    }

    /// Why not; empty when ready. The source is warm when its replay window is, or when the time for that is over.
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
    fn kafka_counts_only_where_it_is_required() {
        let status = |warm, connected| Some(Status { warm, connected });
        assert_eq!(reasons(false, None), ["starting"]);
        assert_eq!(reasons(false, status(false, true)), ["warming up"]);
        assert!(reasons(false, status(true, false)).is_empty());
        assert_eq!(reasons(true, status(true, false)), ["kafka"]);
        assert!(reasons(true, status(true, true)).is_empty());
    }
}
