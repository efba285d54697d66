//! What a decoded record becomes: an event, or a gap that is counted and logged.

use std::sync::Arc;
use std::time::Duration;

use super::TopicReader;
use crate::decode::{Record, Undecodable};
use crate::event::{Entry, Event};

/// The least time between two log lines about bad records of a topic.
const BAD_RECORD_LOG_INTERVAL: Duration = Duration::from_secs(1);

impl TopicReader {
    pub(super) fn entry(&mut self, record: &Record<'_>, decoded: Result<Event, Undecodable>) -> Entry {
        match decoded {
            Ok(event) => {
                if let Some(violation) = self.decoder.take_passed() {
                    self.invalid.inc();
                    self.log_bad_record(record, &violation.to_string(), "the data of a record is invalid; sending it");
                }
                self.missing_keys.count(&event, self.decoder.missing_keys(&event));
                Entry::Event(Arc::new(event))
            }
            Err(reason) => {
                match reason {
                    Undecodable::Dropped => self.dropped.inc(),
                    Undecodable::Invalid(_) => self.invalid.inc(),
                    _ => self.undecodable.inc(),
                }
                if !matches!(reason, Undecodable::Dropped) {
                    self.log_bad_record(record, &reason.to_string(), "record is not an event");
                }
                reason.entry(self.config.name.clone(), record.partition, record.offset)
            }
        }
    }

    fn log_bad_record(&mut self, record: &Record<'_>, reason: &str, message: &str) {
        if self.quiet_until.is_some_and(|until| record.received < until) {
            self.unlogged += 1;
            return;
        }
        let place = format!("{}:{}:{}", self.config.name, record.partition, record.offset);
        tracing::warn!(place, reason, more_before = self.unlogged, "{message}");
        self.quiet_until = Some(record.received + BAD_RECORD_LOG_INTERVAL);
        self.unlogged = 0;
    }
}
