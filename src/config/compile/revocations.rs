//! `auth.revocations`: the topic whose records revoke subjects, sessions and tokens.

use std::sync::Arc;

use crate::config::diagnostic::{Diagnostics, alternatives, did_you_mean};
use crate::config::keys;
use crate::config::section::Section;
use crate::config::snapshot::{Kafka, RevocationSettings, TopicConfig};
use crate::decode::Shape;
use crate::decode::mapping::{Mapping, Origin};
use crate::event::is_topic_name;

/// Returns `None` if the section is absent. `clusters` are those of the whole configuration.
pub(super) fn compile(auth: &Section<'_>, clusters: &[Kafka], diagnostics: &Diagnostics) -> Option<RevocationSettings> {
    let section = auth.section(&keys::REVOCATIONS);
    let topic = section.parse(&keys::REVOCATION_TOPIC, |text| is_topic_name(text).then_some(text));
    let name = section.text(&keys::REVOCATION_CLUSTER).unwrap_or(keys::REVOCATION_CLUSTER.default.0);
    let keep = section.value(&keys::REVOCATION_KEEP);
    if !auth.has(&keys::REVOCATIONS) {
        return None;
    }
    let cluster = clusters.iter().find(|cluster| &*cluster.cluster == name);
    if cluster.is_none() {
        let names = || clusters.iter().map(|cluster| &*cluster.cluster);
        let message = format!("there is no cluster `{name}`{}", did_you_mean(name, names()));
        diagnostics.expected(section.place_of(&keys::REVOCATION_CLUSTER), message, alternatives(names()));
    }
    let source = topic.zip(cluster).map(|(topic, cluster)| {
        let topic = TopicConfig { shape: shape(), from_start: true, ..TopicConfig::new(topic.into(), []) };
        Kafka { topics: vec![topic], ..cluster.clone() }
    });
    Some(RevocationSettings { keep, source })
}

/// The whole value is the revocation, whatever its members and headers are. Its time is the record's own, because the
/// constant is no time.
fn shape() -> Shape {
    let mapping = Mapping::new(Origin::Constant("revocation".into()).into(), Origin::Constant("".into()).into(), []);
    Shape { mapping: Some(Arc::new(mapping)), ..Shape::new([]) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::decode::{Decoder, Record};

    #[test]
    fn a_revocation_is_the_whole_value_at_the_time_of_the_record() {
        let headers = [
            ("ce_id", "1"),
            ("ce_source", "s"),
            ("ce_specversion", "1.0"),
            ("ce_type", "t"),
            ("ce_time", "1970-01-01T00:00:01Z"),
        ]
        .map(|(name, value)| (name, Some(value.as_bytes())));
        for value in [
            r#"{"sub":"u1","ts":1700000000}"#,
            r#"{"sub":"u1","data":{"sub":"u2"}}"#,
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","time":"1970-01-01T00:00:01Z","data":{},"sub":"u1"}"#,
        ] {
            for headers in [&headers[..], &[]] {
                let record = Record {
                    partition: 0,
                    offset: 0,
                    timestamp: Some(7),
                    key: None,
                    headers,
                    value: Some(value.as_bytes()),
                    received: Instant::now(),
                    received_ms: 8,
                    trace: None,
                };
                let event = Decoder::new("r".into(), &shape()).decode(&record).unwrap();
                assert_eq!((&event.envelope[event.payload.clone()], event.ts), (value.as_bytes(), 7));
            }
        }
    }
}
