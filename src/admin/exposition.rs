//! The text of `/metrics`: one rendering at a time, which all requests share that arrived before it began. A flood of
//! scrapes therefore takes at most one thread, and costs about one rendering for all connections of the listener.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;
use tokio::task::yield_now;

use crate::metrics::Metrics;
use crate::telemetry;

pub(super) struct Exposition {
    metrics: Arc<Metrics>,
    /// The number of renderings that have begun.
    begun: AtomicU64,
    /// The last one, with its number. Locked during a rendering.
    last: Mutex<(u64, Vec<u8>)>,
}

impl Exposition {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, begun: AtomicU64::new(0), last: Mutex::default() }
    }

    /// The metrics, not older than this call.
    ///
    /// # Errors
    ///
    /// A metric cannot be encoded.
    pub(super) async fn text(&self) -> prometheus::Result<Vec<u8>> {
        let before = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.0 > before {
            return Ok(last.1.clone());
        }
        // Other requests that are ready join, also where the runtime has a single thread.
        yield_now().await;
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        self.metrics.log_lines_dropped.inc_by(telemetry::newly_dropped());
        let text = self.metrics.render()?;
        *last = (number, text.clone());
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_share_a_rendering_that_began_after_them() {
        let metrics = Arc::new(Metrics::new("test").unwrap());
        let exposition = Arc::new(Exposition::new(metrics.clone()));
        let asked: Vec<_> = (0..50)
            .map(|_| {
                let exposition = exposition.clone();
                tokio::spawn(async move { exposition.text().await.unwrap() })
            })
            .collect();
        for text in asked {
            assert!(String::from_utf8(text.await.unwrap()).unwrap().contains("\ntest_connections_evicted_total 0\n"));
        }
        assert_eq!(exposition.begun.load(Ordering::SeqCst), 1);
        metrics.connections_evicted.inc();
        let later = String::from_utf8(exposition.text().await.unwrap()).unwrap();
        assert!(later.contains("\ntest_connections_evicted_total 1\n"), "it is not older than the request");
    }
}
