//! The ConfigMap with the sidecar's configuration, where it is in the same input: how long its drain may take.

use std::time::Duration;

use super::tree::Tree;
use super::workload::Object;
use crate::config::drain_budget;

/// The key of the ConfigMap that is mounted as the sidecar's configuration.
const KEY: &str = "sidestream.yaml";
/// Around the drain: to leave the endpoints before it, and to finish after it.
const AROUND_DRAIN: Duration = Duration::from_secs(10);

/// What is known of a sidecar's configuration.
pub(super) enum Configuration {
    /// It is not in the input.
    Elsewhere,
    /// There is such a ConfigMap, without the key; its name.
    Empty(String),
    /// The time that a drain may take, and the ConfigMap's name.
    Known { budget: Duration, name: String },
}

impl Configuration {
    /// The one of this name in this namespace.
    pub(super) fn of(tree: &Tree, objects: &[Object], name: &str, namespace: &str) -> Self {
        let is_meant =
            |object: &&Object| object.is_config_map() && object.name == name && object.namespace == namespace;
        let Some(object) = objects.iter().find(is_meant) else { return Self::Elsewhere };
        let name = name.to_owned();
        match tree.text_at(object.id, &["data", KEY]) {
            None => Self::Empty(name),
            Some(text) => drain_budget(text).map_or(Self::Elsewhere, |budget| Self::Known { budget, name }),
        }
    }

    /// The least time that the pod has to be given to end, in seconds, and why.
    pub(super) fn grace(&self) -> Option<(u64, String)> {
        let Self::Known { budget, name } = self else { return None };
        let least = budget.saturating_add(AROUND_DRAIN).as_secs_f64().ceil() as u64;
        let (budget, around) = (budget.as_secs_f64(), AROUND_DRAIN.as_secs());
        Some((least, format!("`drain.budget` of the ConfigMap {name} is {budget} s, with {around} s around it")))
    }

    pub(super) fn missing_key(&self) -> Option<String> {
        let Self::Empty(name) = self else { return None };
        Some(format!("ConfigMap {name}: it has no key `{KEY}`: the sidecar will not start"))
    }
}
