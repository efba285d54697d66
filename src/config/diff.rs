//! The difference between two snapshots: what a running process can apply, and what needs a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::keys::{self, Change};
use super::snapshot::{DEFAULT_CLUSTER, Kafka, Limits, Snapshot, TopicConfig, Tracing, Upstream};
use crate::event::Topic;
use crate::route::StreamRoute;

/// The difference between two snapshots.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Keys that are read only at start, as written: `kafka.brokers`. If there are any, the new snapshot cannot be
    /// applied.
    pub needs_restart: Vec<String>,
    /// Changed sections or keys that can be applied.
    pub changed: Vec<&'static str>,
    /// Patterns of routes.
    pub routes_added: Vec<Arc<str>>,
    pub routes_removed: Vec<Arc<str>>,
    pub routes_changed: Vec<Arc<str>>,
    pub topics_added: Vec<Topic>,
    pub topics_removed: Vec<Topic>,
    /// Topics whose settings or keys differ.
    pub topics_changed: Vec<Topic>,
}

impl Diff {
    /// Compares two snapshots.
    pub fn between(old: &Snapshot, new: &Snapshot) -> Self {
        let mut diff = Self {
            needs_restart: needs_restart(old, new),
            changed: process(old, new).filter(|name| !is_read_at_start(name)).collect(),
            ..Self::default()
        };
        diff.compare_routes(old, new);
        diff.compare_topics(&by_name(old), &by_name(new));
        diff
    }

    /// Whether the snapshots are equal.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn compare_topics(&mut self, old: &Topics<'_>, new: &Topics<'_>) {
        let absent = |these: &Topics<'_>, others: &Topics<'_>| -> Vec<Topic> {
            these.keys().filter(|topic| !others.contains_key(*topic)).map(|topic| (*topic).clone()).collect()
        };
        self.topics_added = absent(new, old);
        self.topics_removed = absent(old, new);
        let differs = |(name, (_, topic)): &(&&Topic, &(&Arc<str>, &TopicConfig))| {
            new.get(**name).is_some_and(|(_, now)| now != topic)
        };
        self.topics_changed = old.iter().filter(differs).map(|(name, _)| (*name).clone()).collect();
    }

    fn compare_routes(&mut self, old: &Snapshot, new: &Snapshot) {
        let by_pattern = |snapshot: &Snapshot| -> BTreeMap<Arc<str>, Arc<StreamRoute>> {
            snapshot.routes.routes().map(|route| (route.pattern.clone(), route.clone())).collect()
        };
        let (old, new) = (by_pattern(old), by_pattern(new));
        self.routes_added = new.keys().filter(|pattern| !old.contains_key(*pattern)).cloned().collect();
        for (pattern, route) in old {
            match new.get(&pattern) {
                None => self.routes_removed.push(pattern),
                Some(same) if *same == route => {}
                Some(_) => self.routes_changed.push(pattern),
            }
        }
    }
}

/// All topics by name, each with the name of its cluster.
type Topics<'a> = BTreeMap<&'a Topic, (&'a Arc<str>, &'a TopicConfig)>;

/// `routes added: /a, /b; changed: limits.streams`
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            part("needs a restart", &self.needs_restart),
            part("routes added", &self.routes_added),
            part("routes removed", &self.routes_removed),
            part("routes changed", &self.routes_changed),
            part("topics added", &self.topics_added),
            part("topics removed", &self.topics_removed),
            part("topics changed", &self.topics_changed),
            part("changed", &self.changed),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "nothing changed" } else { "" })?;
        f.write_str(&parts.join("; "))
    }
}

fn part<T: AsRef<str>>(title: &str, names: &[T]) -> Option<String> {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    (!names.is_empty()).then(|| format!("{title}: {}", names.join(", ")))
}

/// The names whose value is true.
fn named<const N: usize>(differences: [(&'static str, bool); N]) -> impl Iterator<Item = &'static str> {
    differences.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name)
}

/// Whether a change of this key needs a restart, by its description.
fn is_read_at_start(path: &str) -> bool {
    keys::find(path).is_none_or(|key| key.change() == Change::Restart)
}

/// The keys that differ, except those of sources and routes, which are compared by name. Each structure is destructured
/// without `..`, so that a new field does not compile until it is handled here: bind it, and add a line with its key
/// below. `_` is only for what is no key.
pub(super) fn process(old: &Snapshot, new: &Snapshot) -> impl Iterator<Item = &'static str> {
    let Snapshot {
        listen,
        tls,
        admin,
        upstream,
        forwarded,
        registries,
        kafka: _,
        clusters: _,
        // Derived from files, which are reread when they change.
        certificates: _,
        routes: _,
        verifier,
        revocations,
        probe,
        describe,
        limits,
        replay,
        states,
        metrics_prefix,
        tracing: _,
        drain,
        writers,
    } = old;
    let Limits {
        max_streams,
        max_connections,
        memory,
        encodings,
        header_timeout,
        idle_timeout,
        proxy_buffers,
        tcp_user_timeout,
        quotas,
    } = limits;
    // The pool is created at start; the other fields are applied.
    let without_pool = |upstream: &Upstream| Upstream { pool: 0, ..upstream.clone() };
    named([
        ("listen", *listen != new.listen),
        ("tls", *tls != new.tls),
        ("admin.listen", *admin != new.admin),
        ("upstream", without_pool(upstream) != without_pool(&new.upstream)),
        ("upstream.pool", upstream.pool != new.upstream.pool),
        ("forwarded", *forwarded != new.forwarded),
        ("registry", *registries != new.registries),
        ("auth", *verifier != new.verifier),
        ("auth.revocations", *revocations != new.revocations),
        ("probe", *probe != new.probe),
        ("describe", *describe != new.describe),
        ("limits.streams", *max_streams != new.limits.max_streams),
        ("limits.quotas", *quotas != new.limits.quotas),
        ("limits.tcp_user_timeout", *tcp_user_timeout != new.limits.tcp_user_timeout),
        ("replay", *replay != new.replay),
        ("streams.state", *states != new.states || state_topics(old) != state_topics(new)),
        ("writers", *writers != new.writers),
        ("tracing", without_sample(old) != without_sample(new)),
        ("metrics.prefix", *metrics_prefix != new.metrics_prefix),
        ("limits.connections", *max_connections != new.limits.max_connections),
        ("limits.memory", *memory != new.limits.memory),
        ("limits.encodings", *encodings != new.limits.encodings),
        ("limits.header_timeout", *header_timeout != new.limits.header_timeout),
        ("limits.idle_timeout", *idle_timeout != new.limits.idle_timeout),
        ("limits.proxy_buffers", *proxy_buffers != new.limits.proxy_buffers),
        ("tracing.sample", sample(old) != sample(new)),
        ("drain", *drain != new.drain),
    ])
}

/// The topics that are read for their states, whose sources read all settings at start.
fn state_topics(snapshot: &Snapshot) -> Vec<TopicConfig> {
    snapshot.state_sources().flat_map(|kafka| kafka.topics).collect()
}

fn needs_restart(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    process(old, new)
        .filter(|name| is_read_at_start(name))
        .map(String::from)
        .chain(sources(old, new))
        .chain(moved(old, new))
        .collect()
}

/// The sampling ratio, if tracing is enabled.
fn sample(snapshot: &Snapshot) -> Option<f64> {
    snapshot.tracing.as_ref().map(|tracing| tracing.sample)
}

/// The settings that the exporter reads at start.
fn without_sample(snapshot: &Snapshot) -> Option<Tracing> {
    snapshot.tracing.clone().map(|tracing| Tracing { sample: 0.0, ..tracing })
}

/// Sources read all of their settings at start, except for topics.
fn sources(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    fn of<'a>(snapshot: &'a Snapshot, cluster: &str) -> Option<&'a Kafka> {
        snapshot.sources().find(|kafka| &*kafka.cluster == cluster)
    }
    let clusters: BTreeSet<Arc<str>> = old.sources().chain(new.sources()).map(|kafka| kafka.cluster.clone()).collect();
    let differences = clusters.iter().map(|cluster| match (of(old, cluster), of(new, cluster)) {
        (Some(old), Some(new)) => source(old, new),
        (None, _) => vec![format!("clusters.{cluster} (new)")],
        (_, None) => vec![format!("clusters.{cluster} (gone)")],
    });
    differences.flatten().collect()
}

fn source(old: &Kafka, new: &Kafka) -> Vec<String> {
    if old == new {
        return Vec::new();
    }
    let section =
        if &*old.cluster == DEFAULT_CLUSTER { "kafka".to_owned() } else { format!("clusters.{}", old.cluster) };
    // Not a key: `finds_times` is false only for the demo's broker.
    let Kafka {
        cluster: _,
        brokers,
        properties,
        property_files,
        topics: _,
        warm_up,
        required_for_readiness,
        finds_times: _,
    } = old;
    let mut names: Vec<String> = named([
        ("brokers", *brokers != new.brokers),
        ("properties", *properties != new.properties),
        ("property_files", *property_files != new.property_files),
        ("warm_up", *warm_up != new.warm_up),
        ("required_for_readiness", *required_for_readiness != new.required_for_readiness),
    ])
    .map(|key| format!("{section}.{key}"))
    .collect();
    // Other settings that the source reads.
    let of_topics = Kafka { topics: new.topics.clone(), ..old.clone() };
    if names.is_empty() && of_topics != *new {
        names.push(section);
    }
    names
}

/// The topics that are read from elsewhere: another cluster, or another topic in it.
fn moved(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let (old, new) = (by_name(old), by_name(new));
    let both = old.iter().filter_map(|(name, old)| Some((name, old, new.get(name)?)));
    let moved = both.filter(|(_, old, new)| (&old.0, &old.1.source) != (&new.0, &new.1.source));
    moved
        .map(|(name, old, new)| format!("topics.{name}.{}", if old.0 == new.0 { "topic" } else { "cluster" }))
        .collect()
}

fn by_name(snapshot: &Snapshot) -> Topics<'_> {
    let topics = snapshot.sources().flat_map(|kafka| kafka.topics.iter().map(move |topic| (&kafka.cluster, topic)));
    topics.map(|(cluster, topic)| (&topic.name, (cluster, topic))).collect()
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
