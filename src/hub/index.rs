//! The index maps an event's keys to the subscribers that it matches, so that the cost of an event depends on those and
//! not on all subscribers.
//!
//! A subscription is stored under its topic, the names of the keys that it selects by (its shape), and their values. A
//! topic has as many shapes as its routes have distinct sets of bound keys: a handful.

use std::collections::HashMap;
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
    /// By the values of the keys. Clients choose the values, so the table uses a keyed hash (the standard library's
    /// SipHash with a random key): otherwise clients could choose colliding values and make each event of the topic
    /// cost as much as all of them.
    subscribers: HashMap<Box<str>, Vec<StreamSubscribers>>,
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
            let streams = shapes[at].subscribers.entry(filed_under(selector).into()).or_default();
            match streams.iter_mut().find(|(known, _)| known.id == stream.id) {
                Some((_, subscribers)) => subscribers.push(subscriber),
                None => {
                    // Usually one per value: reserve no more.
                    streams.reserve_exact(1);
                    streams.push((stream.clone(), vec![subscriber]));
                }
            }
        }
    }

    /// Removes one subscription.
    pub fn unsubscribe(&mut self, stream: &Stream, selector: &Selector, subscriber: Subscriber) {
        for topic in &stream.topics {
            let Some(shapes) = self.topics.get_mut(topic) else { continue };
            let Some(shape) = shapes.iter().position(|shape| shape.is_of(selector)) else { continue };
            shapes[shape].remove(stream, &filed_under(selector), subscriber);
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
            for (stream, subscribers) in shape.wanting(event) {
                deliver(stream, subscribers);
            }
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
        Self { keys: selector.0.iter().map(|(key, _)| key.clone()).collect(), subscribers: HashMap::new() }
    }

    fn is_of(&self, selector: &Selector) -> bool {
        self.keys.iter().eq(selector.0.iter().map(|(key, _)| key))
    }

    fn wanting(&self, event: &Event) -> &[StreamSubscribers] {
        let found = match &*self.keys {
            [] => self.subscribers.get(""),
            [key] => event.key(key).and_then(|value| self.subscribers.get(value)),
            keys => {
                let values = keys.iter().map(|key| event.key(key)).collect::<Option<Vec<_>>>();
                values.and_then(|values| self.subscribers.get(joined(&values).as_str()))
            }
        };
        found.map_or(&[], Vec::as_slice)
    }

    fn remove(&mut self, stream: &Stream, value: &str, subscriber: Subscriber) {
        let Some(streams) = self.subscribers.get_mut(value) else { return };
        if let Some((_, subscribers)) = streams.iter_mut().find(|(known, _)| known.id == stream.id)
            && let Some(at) = subscribers.iter().position(|s| *s == subscriber)
        {
            subscribers.swap_remove(at);
        }
        streams.retain(|(_, subscribers)| !subscribers.is_empty());
        if streams.is_empty() {
            self.subscribers.remove(value);
        }
    }
}

/// The text under which a selector is stored: its only value, or all values in an unambiguous form.
fn filed_under(selector: &Selector) -> String {
    match &*selector.0 {
        [] => String::new(),
        [(_, value)] => value.to_string(),
        keys => joined(&keys.iter().map(|(_, value)| &**value).collect::<Vec<_>>()),
    }
}

/// Joins values with length prefixes, so that different lists have different texts.
fn joined(values: &[&str]) -> String {
    values.iter().map(|value| format!("{}:{value}", value.len())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{event, selector, stream};

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

    proptest! {
        /// The index finds exactly the subscribers whose selectors match, after any history.
        #[test]
        fn the_index_agrees_with_the_selectors(
            steps in prop::collection::vec((any::<bool>(), 0..6u32, 0..3usize, 0..3usize), 1..60),
        ) {
            let stream = stream(1, &["orders"]);
            let choose = |a: usize, b: usize| {
                let mut keys = Vec::new();
                if a > 0 { keys.push(("orderId", ["", "x", "1:x"][a])); }
                if b > 0 { keys.push(("userId", ["", "x", "y"][b])); }
                keys
            };
            let mut index = Index::default();
            let mut model: Vec<(u32, Selector)> = Vec::new();
            for (add, session, a, b) in steps {
                let selector = selector(&choose(a, b));
                if add {
                    index.subscribe(&stream, &selector, subscriber(session));
                    model.push((session, selector));
                } else if let Some(at) = model.iter().position(|known| *known == (session, selector.clone())) {
                    index.unsubscribe(&stream, &selector, subscriber(session));
                    model.swap_remove(at);
                }
                for a in 0..3 {
                    for b in 0..3 {
                        let event = event("orders", 0, 1, &choose(a, b));
                        let mut expected: Vec<u32> =
                            model.iter().filter(|(_, s)| s.matches(&event)).map(|(n, _)| *n).collect();
                        expected.sort_unstable();
                        prop_assert_eq!(who(&index, &event), expected);
                    }
                }
            }
            if model.is_empty() {
                prop_assert!(index.topics.values().all(Vec::is_empty));
            }
        }
    }
}
