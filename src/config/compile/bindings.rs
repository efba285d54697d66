//! `routes.bind`: the keys by which a route selects events, and the sources of their values.

use crate::access::{Binding, Rule, Source};
use crate::config::diagnostic::{Diagnostics, alternatives, did_you_mean};
use crate::config::file::{Name, Node, Value};
use crate::config::keys;
use crate::config::section::{Section, text};
use crate::route::{Admission, Pattern, Stream};

/// The most sources of one key.
const SOURCES_MAX: usize = 16;
const RULES: [(&str, Rule); 3] = [("any", Rule::Any), ("all", Rule::All), ("prefix", Rule::Prefix)];

/// The context of a route's bindings.
pub(super) struct Bindings<'a> {
    /// The route's section.
    pub(super) section: &'a Section<'a>,
    pub(super) pattern: Option<&'a Pattern>,
    pub(super) stream: Option<&'a Stream>,
    pub(super) admission: Admission,
    pub(super) diagnostics: &'a Diagnostics,
}

impl Bindings<'_> {
    pub(super) fn compile(&self) -> Box<[Binding]> {
        let mut bindings: Vec<Binding> = Vec::new();
        for (key, node) in self.section.entries(&keys::BIND) {
            if let Some(stream) = self.stream
                && !stream.keys.iter().any(|declared| **declared == *key.text)
            {
                let names = || stream.keys.iter().map(|name| &**name);
                let hint = did_you_mean(&key.text, names());
                let message = format!("the stream `{}` declares no key `{}`{hint}", stream.name, key.text);
                self.diagnostics.expected(key.place, message, alternatives(names()));
            }
            let Some((rule, sources)) = self.written(node) else { continue };
            if rule == Rule::Prefix && bindings.iter().any(|earlier| earlier.rule == Rule::Prefix) {
                self.diagnostics.wrong(node.place, "another key of this route has a `prefix`: one key may have it");
            }
            bindings.push(Binding { key: key.text.as_str().into(), sources, rule });
        }
        bindings.into()
    }

    /// The rule and the sources of one key; `None` if they are invalid, which is reported.
    fn written(&self, node: &Node) -> Option<(Rule, Box<[Source]>)> {
        let (rule, node) = match &node.value {
            Value::Map(entries) => match &entries[..] {
                [(name, inner)] => (self.rule(name)?, inner),
                _ => return self.reject(node),
            },
            _ => (Rule::Any, node),
        };
        let sources = match &node.value {
            Value::List(list) if (1..=SOURCES_MAX).contains(&list.len()) => {
                list.iter().map(|node| self.source(node)).collect::<Option<Vec<_>>>()?
            }
            Value::List(_) => return self.reject(node),
            _ => vec![self.source(node)?],
        };
        let has_path = sources.iter().any(|source| matches!(source, Source::Path(_)));
        if has_path && (rule == Rule::Prefix || rule == Rule::Any && sources.len() > 1) {
            let message = "a client chooses the value of a path parameter, and could choose beyond the claims";
            self.diagnostics.expected(node.place, message, "claims, or `all`: only values that each of them has");
            return None;
        }
        Some((rule, sources.into()))
    }

    fn rule(&self, name: &Name) -> Option<Rule> {
        let found = RULES.iter().find(|(known, _)| *known == name.text).map(|(_, rule)| *rule);
        if found.is_none() {
            let names = || RULES.iter().map(|(known, _)| *known);
            let message = format!("unknown key `{}`{}", name.text, did_you_mean(&name.text, names()));
            self.diagnostics.expected(name.place, message, alternatives(names()));
        }
        found
    }

    fn source(&self, node: &Node) -> Option<Source> {
        let source = text(&node.value).and_then(source);
        match &source {
            None => return self.reject(node),
            Some(Source::Claim(_)) if self.admission == Admission::Public => {
                self.diagnostics.wrong(node.place, "a public route has no token, and so no claims");
            }
            Some(Source::Path(name)) => {
                if let Some(pattern) =
                    self.pattern.filter(|pattern| !pattern.parameters().any(|known| known == &**name))
                {
                    let hint = did_you_mean(name, pattern.parameters());
                    let message = format!("the path has no parameter `{name}`{hint}");
                    self.diagnostics.expected(node.place, message, alternatives(pattern.parameters()));
                }
            }
            Some(Source::Claim(_)) => {}
        }
        source
    }

    fn reject<T>(&self, node: &Node) -> Option<T> {
        self.section.reject(&keys::BIND, node, keys::BIND.kind.expected);
        None
    }
}

/// `path.orderId` or `claims.org.id`.
fn source(text: &str) -> Option<Source> {
    match text.split_once('.')? {
        ("path", name) if !name.is_empty() => Some(Source::Path(name.into())),
        _ => claim(text).map(Source::Claim),
    }
}

/// `claims.org.id` as a path of names.
pub(super) fn claim(text: &str) -> Option<Box<[Box<str>]>> {
    let path = text.strip_prefix("claims.")?;
    path.split('.').all(|name| !name.is_empty()).then(|| path.split('.').map(Box::from).collect())
}
