//! The index maps an event's keys to the subscribers that it matches, so that the cost of an event depends on those and
//! not on all subscribers.
//!
//! A subscription is stored under its topic, the names of the keys that it selects by (its shape), and their values. A
//! topic has as many shapes as its routes have distinct sets of bound keys: a handful.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::access::Selector;
use crate::event::{Event, FrameKey, Topic};
use crate::route::Stream;

/// The recipient of a matching event, and the form of its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The writer's number of the session.
    pub session: u32,
    pub frame: FrameKey,
}

/// The subscribers of each topic, by shape and values.
#[derive(Debug, Default)]
pub struct Index {
    topics: FxHashMap<Topic, Vec<Shape>>,
}

#[derive(Debug)]
struct Shape {
    keys: Box<[Arc<str>]>,
    /// The key that is selected by a prefix of its value. A route has at most one.
    prefix: Option<Prefix>,
    /// By the values of the keys. Clients choose the values, so the table uses a keyed hash (the standard library's
    /// SipHash with a random key): otherwise clients could choose colliding values and make each event of the topic
    /// cost as much as all of them. A subscription has an entry for each combination of its values; an event matches
    /// at most one of them.
    subscribers: HashMap<Box<str>, Vec<StreamSubscribers>>,
}

/// A key that is selected by a prefix of its value.
#[derive(Debug)]
struct Prefix {
    /// Its position among the keys.
    key: usize,
    /// The lengths of all prefixes since the shape was created, in bytes. An event is looked up once for each length,
    /// of which there are at most [`VALUE_BYTES_MAX`](crate::access::VALUE_BYTES_MAX).
    lengths: BTreeSet<usize>,
}

type StreamSubscribers = (Arc<Stream>, Vec<Subscriber>);

impl Index {
    /// Adds a subscription. If it is added twice, events are delivered twice: the session distinguishes them.
    pub fn subscribe(&mut self, stream: &Arc<Stream>, selector: &Selector, subscriber: Subscriber) {
        for topic in &stream.topics {
            let shapes = self.topics.entry(topic.clone()).or_default();
            let at = shapes.iter().position(|shape| shape.is_of(selector)).unwrap_or_else(|| {
                shapes.push(Shape::of(selector));
                shapes.len() - 1
            });
            shapes[at].add(stream, selector, subscriber);
        }
    }

    /// Removes one subscription.
    pub fn unsubscribe(&mut self, stream: &Stream, selector: &Selector, subscriber: Subscriber) {
        for topic in &stream.topics {
            let Some(shapes) = self.topics.get_mut(topic) else { continue };
            let Some(shape) = shapes.iter().position(|shape| shape.is_of(selector)) else { continue };
            shapes[shape].remove(stream, selector, subscriber);
            if shapes[shape].subscribers.is_empty() {
                shapes.swap_remove(shape);
            }
        }
    }

    /// Removes all subscriptions of a session by scanning the index, for a session that can no longer list its own.
    pub fn forget(&mut self, session: u32) {
        for shapes in self.topics.values_mut() {
            for shape in &mut *shapes {
                shape.subscribers.retain(|_, streams| {
                    streams.iter_mut().for_each(|(_, subscribers)| subscribers.retain(|s| s.session != session));
                    streams.retain(|(_, subscribers)| !subscribers.is_empty());
                    !streams.is_empty()
                });
            }
            shapes.retain(|shape| !shape.subscribers.is_empty());
        }
    }

    /// Calls `deliver` for every stream with matching subscribers, with all of these.
    pub fn matches(&self, event: &Event, mut deliver: impl FnMut(&Stream, &[Subscriber])) {
        let Some(shapes) = self.topics.get(&event.id.topic) else { return };
        for shape in shapes {
            shape.wanting(event, |streams| {
                streams.iter().for_each(|(stream, subscribers)| deliver(stream, subscribers))
            });
        }
    }

    /// Calls `deliver` for the subscribers, of every stream with the event's topic, that select by a key which the event
    /// lacks, and by no value that differs from the event's. It may call it several times for a subscriber.
    pub fn misses(&self, event: &Event, mut deliver: impl FnMut(&Stream, &[Subscriber])) {
        let shapes = self.topics.get(&event.id.topic).into_iter().flatten();
        for (stream, subscribers) in shapes.flat_map(|shape| shape.lacking(event)).flatten() {
            deliver(stream, subscribers);
        }
    }

    /// Calls `deliver` for all subscribers of every stream with this topic, whatever they select: a loss at the source
    /// could affect any of them.
    pub fn everybody(&self, topic: &Topic, mut deliver: impl FnMut(&Stream, &[Subscriber])) {
        let shapes = self.topics.get(topic).into_iter().flatten();
        for (stream, subscribers) in shapes.flat_map(|shape| shape.subscribers.values()).flatten() {
            deliver(stream, subscribers);
        }
    }
}

impl Shape {
    fn of(selector: &Selector) -> Self {
        let prefix = selector.0.iter().position(|criterion| criterion.wanted.is_prefix());
        Self {
            keys: selector.0.iter().map(|criterion| criterion.key.clone()).collect(),
            prefix: prefix.map(|key| Prefix { key, lengths: BTreeSet::new() }),
            subscribers: HashMap::new(),
        }
    }

    fn is_of(&self, selector: &Selector) -> bool {
        self.keys.iter().eq(selector.0.iter().map(|criterion| &criterion.key))
            && self.prefix.as_ref().map(|prefix| prefix.key)
                == selector.0.iter().position(|criterion| criterion.wanted.is_prefix())
    }

    /// Calls `found` with the subscribers of each entry that the event's values reach.
    fn wanting<'a>(&'a self, event: &Event, mut found: impl FnMut(&'a [StreamSubscribers])) {
        let mut look_up = |name: &str| self.subscribers.get(name).into_iter().for_each(|streams| found(streams));
        match (&*self.keys, &self.prefix) {
            ([], _) => look_up(""),
            ([key], None) => event.key(key).into_iter().for_each(look_up),
            (keys, prefix) => {
                let Some(mut values) = keys.iter().map(|key| event.key(key)).collect::<Option<Vec<_>>>() else {
                    return;
                };
                let Some(prefix) = prefix else { return look_up(&joined(&values)) };
                let whole = values[prefix.key];
                for start in prefix.lengths.iter().filter_map(|length| whole.get(..*length)) {
                    values[prefix.key] = start;
                    look_up(&joined(&values));
                }
            }
        }
    }

    /// The subscribers of each entry that the event's values may reach, if it lacks one of the keys.
    fn lacking(&self, event: &Event) -> impl Iterator<Item = &[StreamSubscribers]> {
        let values: Vec<_> = self.keys.iter().map(|key| event.key(key)).collect();
        let prefix = self.prefix.as_ref().map(|prefix| prefix.key);
        let admits = move |key, wanted: &str, value: &str| {
            if prefix == Some(key) { value.starts_with(wanted) } else { value == wanted }
        };
        let entries = values.contains(&None).then_some(&self.subscribers).into_iter().flatten();
        // The name of an entry with one key is not joined, but then its value is the missing one.
        let reaches = move |name: &str| {
            let mut pairs = parts(name).zip(&values).enumerate();
            pairs.all(|(key, (wanted, value))| value.is_none_or(|value| admits(key, wanted, value)))
        };
        entries.filter(move |(name, _)| reaches(name)).map(|(_, streams)| &**streams)
    }

    fn add(&mut self, stream: &Arc<Stream>, selector: &Selector, subscriber: Subscriber) {
        for name in entries(selector) {
            let streams = self.subscribers.entry(name.into()).or_default();
            match streams.iter_mut().find(|(known, _)| known.id == stream.id) {
                Some((_, subscribers)) => subscribers.push(subscriber),
                None => {
                    // Usually one per value: reserve no more.
                    streams.reserve_exact(1);
                    streams.push((stream.clone(), vec![subscriber]));
                }
            }
        }
        if let Some(prefix) = &mut self.prefix {
            prefix.lengths.extend(selector.0[prefix.key].wanted.values().iter().map(|value| value.len()));
        }
    }

    fn remove(&mut self, stream: &Stream, selector: &Selector, subscriber: Subscriber) {
        for name in entries(selector) {
            self.remove_entry(stream, &name, subscriber);
        }
    }

    fn remove_entry(&mut self, stream: &Stream, name: &str, subscriber: Subscriber) {
        let Some(streams) = self.subscribers.get_mut(name) else { return };
        if let Some((_, subscribers)) = streams.iter_mut().find(|(known, _)| known.id == stream.id)
            && let Some(at) = subscribers.iter().position(|s| *s == subscriber)
        {
            subscribers.swap_remove(at);
        }
        streams.retain(|(_, subscribers)| !subscribers.is_empty());
        if streams.is_empty() {
            self.subscribers.remove(name);
        }
    }
}

/// The names of a selector's entries: one for each combination of its values.
fn entries(selector: &Selector) -> Vec<String> {
    match &*selector.0 {
        [only] if !only.wanted.is_prefix() => only.wanted.values().iter().map(|value| value.to_string()).collect(),
        [] => vec![String::new()],
        criteria => {
            let mut combinations: Vec<Vec<&str>> = vec![Vec::new()];
            for criterion in criteria {
                let values = criterion.wanted.values();
                combinations =
                    combinations.iter().flat_map(|start| values.iter().map(|value| longer(start, value))).collect();
            }
            combinations.iter().map(|values| joined(values)).collect()
        }
    }
}

fn longer<'a>(start: &[&'a str], value: &'a str) -> Vec<&'a str> {
    start.iter().copied().chain([value]).collect()
}

/// Joins values with length prefixes, so that different lists have different texts.
fn joined(values: &[&str]) -> String {
    values.iter().map(|value| format!("{}:{value}", value.len())).collect()
}

/// The values of a joined name.
fn parts(mut name: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (length, rest) = name.split_once(':')?;
        let (value, rest) = rest.split_at_checked(length.parse().ok()?)?;
        name = rest;
        Some(value)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use serde_json::json;

    use super::*;
    use crate::access::{Binding, Criterion, Rule, Source};
    use crate::testing::{self, event, selector, stream};

    #[test]
    fn an_event_misses_the_subscribers_of_the_keys_that_it_lacks() {
        let (mut index, stream) = (Index::default(), stream(1, &["orders"]));
        for (session, keys) in [(0, &[][..]), (1, &[("a", "1")]), (2, &[("b", "1")]), (3, &[("a", "1"), ("b", "1")])] {
            index.subscribe(&stream, &selector(keys), subscriber(session));
        }
        let missed = |keys: &[(&str, &str)]| {
            let mut found = Vec::new();
            index.misses(&event("orders", 0, 1, keys), |_, those| found.extend(those.iter().map(|one| one.session)));
            found.sort_unstable();
            found
        };
        assert_eq!(missed(&[("a", "2")]), [2], "a client of another `a` learns nothing");
        assert_eq!(missed(&[("a", "1")]), [2, 3]);
        assert_eq!(missed(&[]), [1, 2, 3]);
        assert_eq!(missed(&[("a", "2"), ("b", "2")]), [0; 0]);
    }

    fn who(index: &Index, event: &Event) -> Vec<u32> {
        let mut found = Vec::new();
        index.matches(event, |_, subscribers| found.extend(subscribers.iter().map(|s| s.session)));
        found.sort_unstable();
        found
    }

    fn subscriber(session: u32) -> Subscriber {
        Subscriber { session, frame: FrameKey::new(0, 0) }
    }

    #[test]
    fn an_event_reaches_exactly_the_matching_subscribers() {
        let stream = stream(1, &["orders"]);
        let mut index = Index::default();
        index.subscribe(&stream, &selector(&[]), subscriber(1));
        index.subscribe(&stream, &selector(&[("userId", "a")]), subscriber(2));
        index.subscribe(&stream, &selector(&[("userId", "b")]), subscriber(3));
        index.subscribe(&stream, &selector(&[("orderId", "7"), ("userId", "a")]), subscriber(4));
        assert_eq!(who(&index, &event("orders", 0, 1, &[("userId", "a")])), [1, 2]);
        assert_eq!(who(&index, &event("orders", 0, 2, &[("orderId", "7"), ("userId", "a")])), [1, 2, 4]);
        assert_eq!(who(&index, &event("orders", 0, 3, &[])), [1]);
        assert_eq!(who(&index, &event("refunds", 0, 3, &[("userId", "a")])), [0; 0]);
    }

    #[test]
    fn the_hash_of_values_that_clients_choose_is_keyed() {
        let shape = Shape::of(&selector(&[("userId", "a")]));
        let hashed = || std::hash::BuildHasher::hash_one(shape.subscribers.hasher(), "a");
        let other = Shape::of(&selector(&[("userId", "a")]));
        assert_eq!(hashed(), hashed());
        assert_ne!(hashed(), std::hash::BuildHasher::hash_one(other.subscribers.hasher(), "a"));
    }

    /// Selectors over two keys, each with no criterion, one or several values, or prefixes.
    fn any_selector() -> impl Strategy<Value = Selector> {
        let values = || prop::collection::btree_set(prop::sample::select(vec!["x", "xy", "1:x", "y"]), 1..4);
        let wanted = |rule| {
            values().prop_map(move |values| {
                let sources = [Source::Claim(["c".into()].into())].into();
                let binding = Binding { key: "k".into(), sources, rule };
                let holder = testing::holder(&json!({ "c": values }));
                Selector::bind(&[binding], &[], Some(&holder)).unwrap().0[0].wanted.clone()
            })
        };
        let one = |key: &'static str, rule| {
            prop::option::of(wanted(rule).prop_map(move |wanted| Criterion { key: key.into(), wanted }))
        };
        let second = prop_oneof![one("userId", Rule::Any), one("userId", Rule::Prefix)];
        (one("orderId", Rule::Any), second).prop_map(|(a, b)| Selector(a.into_iter().chain(b).collect()))
    }

    proptest! {
        /// The index finds exactly the subscribers whose selectors match, each once, after any history; and those that
        /// a missing key concerns.
        #[test]
        fn the_index_agrees_with_the_selectors(
            steps in prop::collection::vec((any::<bool>(), 0..6u32, any_selector()), 1..60),
        ) {
            let stream = stream(1, &["orders"]);
            let mut index = Index::default();
            let mut model: Vec<(u32, Selector)> = Vec::new();
            for (add, session, selector) in steps {
                if add {
                    index.subscribe(&stream, &selector, subscriber(session));
                    model.push((session, selector));
                } else if let Some(at) = model.iter().position(|known| *known == (session, selector.clone())) {
                    index.unsubscribe(&stream, &selector, subscriber(session));
                    model.swap_remove(at);
                }
                for a in ["", "x", "xy", "xyz", "1:x"] {
                    for b in ["", "x", "xy", "y", "é"] {
                        let keys: Vec<_> = [("orderId", a), ("userId", b)].into_iter().filter(|(_, v)| !v.is_empty()).collect();
                        let mut event = Arc::into_inner(event("orders", 0, 1, &keys)).unwrap();
                        event.is_gap_without_key = true;
                        let mut expected: Vec<_> =
                            model.iter().filter(|(_, selector)| selector.matches(&event)).map(|(who, _)| *who).collect();
                        expected.sort_unstable();
                        prop_assert_eq!(who(&index, &event), expected);
                        let expected: BTreeSet<_> =
                            model.iter().filter(|(_, selector)| selector.misses(&event)).map(|(who, _)| *who).collect();
                        let mut missed = BTreeSet::new();
                        index.misses(&event, |_, those| missed.extend(those.iter().map(|one| one.session)));
                        prop_assert_eq!(missed, expected);
                    }
                }
            }
        }
    }
}
