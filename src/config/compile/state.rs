//! `streams.*.state`: the tables that are folded from topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::streams::Streams;
use crate::config::diagnostic::Diagnostics;
use crate::config::keys;
use crate::config::section::Section;
use crate::config::snapshot::{Kafka, TopicConfig};
use crate::decode::mapping::{Mapping, Origin};
use crate::decode::{Preset, Shape};
use crate::event::Topic;
use crate::hub::TableConfig;

/// The type of a tombstone.
const TOMBSTONE: &str = "delete";
/// The type of Debezium's deletions.
const DEBEZIUM_DELETION: &str = "deleted";

/// One table for each topic and key. Streams with the same state share it, with the largest of their limits.
pub(super) fn compile(
    root: &Section<'_>,
    streams: &Streams,
    clusters: &[Kafka],
    diagnostics: &Diagnostics,
) -> Vec<TableConfig> {
    let mut tables: BTreeMap<(Topic, Arc<str>), TableConfig> = BTreeMap::new();
    for stream in streams.values() {
        let Some((state, name)) = stream.state.as_ref().zip(stream.topics.first()) else { continue };
        let Some(topic) = clusters.iter().flat_map(|cluster| &cluster.topics).find(|topic| topic.name == *name) else {
            continue;
        };
        if !is_in_tombstones(&state.key, topic) {
            let message = format!(
                "the state of the stream `{}`: a tombstone of the topic `{name}` has no `{}`, so that no deletion would \
                 be known",
                stream.name, state.key
            );
            let expected = format!("`topics.{name}.map.keys.{}: key`, or no other key of the topic", state.key);
            diagnostics.expected(root.place_of(&keys::STREAMS_SECTION), message, expected);
        }
        let table = tables.entry((name.clone(), state.key.clone())).or_insert_with(|| TableConfig {
            topic: name.clone(),
            key: state.key.clone(),
            deletes: deletes(&topic.shape),
            bytes: 0,
        });
        table.bytes = table.bytes.max(state.bytes);
    }
    tables.into_values().collect()
}

/// Whether events that delete a key have it: a tombstone has nothing but the record's key.
fn is_in_tombstones(key: &Arc<str>, topic: &TopicConfig) -> bool {
    let Some(mapping) = &topic.shape.mapping else { return *topic.shape.keys == [key.clone()] };
    let is_in_key = |origin: &Origin| matches!(origin, Origin::Key | Origin::InKey(_) | Origin::InRow(_));
    let origins =
        |mapping: &Mapping| mapping.keys.iter().find(|(name, _)| name == key).map(|(_, origins)| origins.clone());
    origins(mapping).is_some_and(|origins| origins.0.iter().any(is_in_key))
}

fn deletes(shape: &Shape) -> Box<[Box<str>]> {
    let preset = shape.mapping.as_ref().and_then(|mapping| mapping.preset);
    let kinds = [Some(TOMBSTONE), (preset == Some(Preset::Debezium)).then_some(DEBEZIUM_DELETION)];
    kinds.into_iter().flatten().map(Box::from).collect()
}
