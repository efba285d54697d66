//! Applies a changed list of topics between two batches. Topics that are configured as before are not affected: their
//! positions stay, and the client fetches again from them.

use std::time::Instant;

use super::Reading;
use crate::config::snapshot::TopicConfig;
use crate::event::{Applied, Feed, TopicChange};
use crate::kafka::topic::TopicReader;
use crate::kafka::watch::Watch;

impl Reading {
    /// Applies the topics that a reload asks for, if there was one.
    pub(super) fn reconfigure(&mut self) {
        let Some((topics, applied)) = self.base.desired.take() else { return };
        let has_removed = self.remove_others(&topics, &applied);
        let mut has_added = false;
        for config in &topics {
            match self.topics.iter_mut().find(|topic| topic.name() == &config.name) {
                Some(topic) => {
                    let change = topic.reconfigure(config, &self.base.metrics);
                    if let Some(is_reshaped) = change {
                        self.announce(config, is_reshaped, &applied);
                    }
                }
                None => {
                    has_added = true;
                    self.announce(config, false, &applied);
                    self.topics.push(TopicReader::new(
                        config.clone(),
                        self.base.config.finds_times,
                        &self.base.metrics,
                    ));
                }
            }
        }
        self.base.config.topics = topics;
        // A topic that warms again needs the ends of its logs, and the survey's order is that of the topics.
        self.survey.start_over();
        if has_removed || has_added {
            self.start_over(has_added);
        }
    }

    fn announce(&self, config: &TopicConfig, is_reshaped: bool, applied: &Applied) {
        let (topic, window, applied) = (config.name.clone(), Some(config.window()), applied.clone());
        (self.base.sink)(Feed::Topic(TopicChange { topic, window, is_reshaped, applied }));
    }

    /// Stops reading topics that are not among these. Returns whether there were any.
    fn remove_others(&mut self, topics: &[TopicConfig], applied: &Applied) -> bool {
        let is_gone = |topic: &mut TopicReader| !topics.iter().any(|config| &config.name == topic.name());
        let removed: Vec<TopicReader> = self.topics.extract_if(.., is_gone).collect();
        for topic in &removed {
            tracing::info!(topic = &**topic.name(), "the topic is no longer read");
            self.base.metrics.forget_topic(topic.name(), topic.next().len());
            let (topic, applied) = (topic.name().clone(), applied.clone());
            (self.base.sink)(Feed::Topic(TopicChange { topic, window: None, is_reshaped: true, applied }));
        }
        !removed.is_empty()
    }

    /// What refers to topics by their index begins again.
    fn start_over(&mut self, has_added: bool) {
        self.index = self.topics.iter().enumerate().map(|(index, topic)| (topic.source().clone(), index)).collect();
        self.watch = Watch::default();
        self.probe = None;
        self.assign();
        if has_added {
            // Streams of a new topic wait for it as long as at start.
            self.base.settle_at = Some(Instant::now() + self.base.config.warm_up);
        }
    }
}
