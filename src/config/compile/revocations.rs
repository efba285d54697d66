//! `auth.revocations`: the topic whose records revoke subjects, sessions and tokens.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::diagnostic::{Diagnostics, alternatives, did_you_mean};
use crate::config::section::{Section, text};
use crate::config::snapshot::{DEFAULT_CLUSTER, Kafka, RevocationSettings, TopicConfig};
use crate::event::is_topic_name;

const KEEP: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 24 * 60 * 60);

/// Returns `None` if the section is absent. `clusters` are those of the whole configuration.
pub(super) fn compile(auth: &Section<'_>, clusters: &[Kafka], diagnostics: &Diagnostics) -> Option<RevocationSettings> {
    let section = auth.section("revocations");
    let topic = section.read("topic", "the name of a topic", |value| text(value).filter(|text| is_topic_name(text)));
    let name = section.text("cluster", "the name of a cluster").unwrap_or(DEFAULT_CLUSTER);
    let keep = section.duration("keep", KEEP).unwrap_or(Duration::from_secs(24 * 60 * 60));
    if !auth.has("revocations") {
        return None;
    }
    let cluster = clusters.iter().find(|cluster| &*cluster.cluster == name);
    if cluster.is_none() {
        let names = || clusters.iter().map(|cluster| &*cluster.cluster);
        let message = format!("there is no cluster `{name}`{}", did_you_mean(name, names()));
        diagnostics.expected(section.place_of("cluster"), message, alternatives(names()));
    }
    let source = topic.zip(cluster).map(|(topic, cluster)| {
        let topic = TopicConfig { from_start: true, ..TopicConfig::new(topic.into(), []) };
        Kafka { topics: vec![topic], ..cluster.clone() }
    });
    Some(RevocationSettings { keep, source })
}
