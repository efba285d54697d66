//! Finds the ConfigMap with the sidecar's configuration, if it is part of the input, and reads how long a drain may
//! take.

use std::time::Duration;

use super::object::Object;
use super::tree::Tree;
use crate::config::drain_budget;

/// The key of the ConfigMap that the sidecar mounts as its configuration.
const KEY: &str = "sidestream.yaml";
/// Time before the drain, to leave the endpoints, and after it, to finish.
const AROUND_DRAIN: Duration = Duration::from_secs(10);

/// The known facts about a sidecar's configuration.
pub(super) enum Configuration {
    /// The ConfigMap is not part of the input.
    Elsewhere,
    /// The ConfigMap has no such key; its name.
    Empty(String),
    /// The time limit of a drain, and the ConfigMap's name.
    Known { budget: Duration, name: String },
}

impl Configuration {
    /// Finds the ConfigMap of this name in this namespace.
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

    /// The least termination grace period that the drain requires, in seconds, and the reason.
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
