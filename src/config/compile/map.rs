//! `topics.*.map` and `topics.*.shape`: the origins of the parts of a topic's events.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::diagnostic::{Diagnostics, alternatives, did_you_mean};
use crate::config::file::{Name, Node, Place, Value};
use crate::config::keys::{self, Defaulted, Entry, Mixed};
use crate::config::section::{Section, text};
use crate::decode::mapping::{Mapping, ORIGINS_MAX, Origin, Origins, is_type};
use crate::decode::{Format, Preset};

/// The mapping of a topic, if it has one. What `map` has replaces that of `shape`.
pub(super) fn compile(
    topic: &Section<'_>,
    declared: &BTreeSet<Arc<str>>,
    format: Format,
    diagnostics: &Diagnostics,
) -> Option<Mapping> {
    let preset = topic.written(&keys::TOPIC_SHAPE);
    let section = topic.section(&keys::TOPIC_MAP);
    let compiler = Compiler { section: &section, format, preset, diagnostics };
    if preset.is_some() && !format.is_json() {
        diagnostics.expected(topic.place_of(&keys::TOPIC_SHAPE), "records of this shape are JSON", "`format: json`");
    }
    let fields = |name: &Arc<str>| (name.clone(), Origin::field(name).into());
    let default = match preset {
        Some(preset) => preset.mapping(declared.iter().cloned()),
        None => Mapping::new(Origin::field("type").into(), Origin::field("ts").into(), declared.iter().map(fields)),
    };
    let mapping = compiler.over(default, declared);
    (preset.is_some() || topic.has(&keys::TOPIC_MAP)).then_some(mapping)
}

struct Compiler<'a> {
    section: &'a Section<'a>,
    format: Format,
    preset: Option<Preset>,
    diagnostics: &'a Diagnostics,
}

impl Compiler<'_> {
    /// The written parts, and those of `default`.
    fn over(&self, default: Mapping, declared: &BTreeSet<Arc<str>>) -> Mapping {
        let Self { section, diagnostics, .. } = self;
        let ts = self.origins(&keys::MAP_TS);
        if ts.iter().flat_map(|ts| &ts.0).any(|origin| matches!(origin, Origin::Constant(_))) {
            diagnostics.wrong(section.place_of(&keys::MAP_TS), "the time of every event can't be one constant");
        }
        let drop = section.texts(&keys::MAP_DROP, is_type, |_| None);
        let types = self.types();
        if !section.has(&keys::MAP_DROP) {
            self.check_dropped(&default.drop);
        }
        Mapping {
            preset: default.preset,
            kind: self.origins(&keys::MAP_TYPE).unwrap_or(default.kind),
            types: if section.has(&keys::MAP_TYPES) { types } else { default.types },
            drop: if section.has(&keys::MAP_DROP) { drop } else { default.drop },
            ts: ts.unwrap_or(default.ts),
            keys: self.keys(default.keys, declared),
            data: self.data().or(default.data),
        }
    }

    fn types(&self) -> Box<[(Box<str>, Box<str>)]> {
        let entry = |(name, node): &(Name, Node)| {
            let kind = text(&node.value).filter(|text| is_type(text));
            if kind.is_none() {
                self.section.reject(&keys::MAP_TYPES, node, keys::MAP_TYPES.kind.expected);
            }
            Some((name.text.as_str().into(), kind?.into()))
        };
        let mut types: Vec<_> = self.section.entries(&keys::MAP_TYPES).iter().filter_map(entry).collect();
        types.sort();
        types.into()
    }

    /// Rejects types that the preset drops: all their records would be lost, though the user names them.
    fn check_dropped(&self, drop: &[Box<str>]) {
        for (_, node) in self.section.entries(&keys::MAP_TYPES) {
            if let Some(kind) = text(&node.value).filter(|kind| drop.iter().any(|dropped| **dropped == **kind)) {
                let message = format!("the shape of this topic drops records of the type `{kind}`");
                self.diagnostics.expected(node.place, message, "another type, or `drop` with the types to drop");
            }
        }
    }

    fn keys(&self, default: Box<[(Arc<str>, Origins)]>, declared: &BTreeSet<Arc<str>>) -> Box<[(Arc<str>, Origins)]> {
        let mut keys = default;
        for (name, node) in self.section.entries(&keys::MAP_KEYS) {
            let found = self.read(&node.value);
            match &found {
                Some(origins) => self.check_format(node.place, origins),
                None => self.section.reject(&keys::MAP_KEYS, node, keys::MAP_KEYS.kind.expected),
            }
            match keys.iter_mut().find(|(key, _)| **key == *name.text) {
                Some((_, origins)) => *origins = found.unwrap_or_else(|| origins.clone()),
                None => {
                    let names = || declared.iter().map(|key| &**key);
                    let hint = did_you_mean(&name.text, names());
                    let message = format!("no stream of this topic declares the key `{}`{hint}", name.text);
                    self.diagnostics.expected(name.place, message, alternatives(names()));
                }
            }
        }
        keys
    }

    fn data(&self) -> Option<Origins> {
        let is_json = |origin: &Origin| origin.is_in_value() || matches!(origin, Origin::InKey(_));
        let read = |value: &Value| self.read(value).filter(|origins| origins.0.iter().all(is_json));
        self.checked(&keys::MAP_DATA, self.section.mixed(&keys::MAP_DATA, read))
    }

    fn origins(&self, key: &Defaulted<Mixed>) -> Option<Origins> {
        self.checked(key, self.section.mixed(key, |value| self.read(value)))
    }

    fn checked(&self, key: &dyn Entry, origins: Option<Origins>) -> Option<Origins> {
        origins.inspect(|origins| self.check_format(self.section.place_of(key), origins))
    }

    fn check_format(&self, place: Place, origins: &Origins) {
        if !self.format.is_json() && origins.0.iter().any(Origin::is_in_value) {
            let message = "a JSON pointer points at nothing in text or bytes";
            self.diagnostics.expected(place, message, "`format: json`, or another origin");
        }
    }

    /// One origin, or a list of them.
    fn read(&self, value: &Value) -> Option<Origins> {
        let nodes = match value {
            Value::List(list) if (1..=ORIGINS_MAX).contains(&list.len()) => list,
            value => return self.parse(text(value)?),
        };
        let parsed: Option<Vec<Origins>> = nodes.iter().map(|node| self.parse(text(&node.value)?)).collect();
        Some(Origins(parsed?.into_iter().flat_map(|origins| origins.0).collect()))
    }

    /// One origin as it is written. `field:id` is in the row if the topic has a shape.
    fn parse(&self, text: &str) -> Option<Origins> {
        match (text.strip_prefix("field:"), self.preset) {
            (Some(""), _) => None,
            (Some(name), Some(_)) => Some(Origin::InRow(name.into()).into()),
            (Some(name), None) => Some(Origin::field(name).into()),
            (None, _) => Origin::parse(text).map(Origins::from),
        }
    }
}
