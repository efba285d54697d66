//! The injected part of a pod, read from `sidecar.yaml`: as lines of YAML, as JSON, and as values for the other
//! modules.

use serde_json::{Value, json};

use super::edit::Insertion;
use super::tree::{Entry, Id, Kind, Tree};
use super::{Error, Names};

/// The name of the init container, which identifies an injected pod.
pub(super) const NAME: &str = "sidestream";
const DEFINITION: &str = include_str!("sidecar.yaml");
/// The text before this is a comment about the file itself.
const BEGINS: &str = "metadata:\n";

/// The definition with its names filled in.
pub(super) struct Sidecar {
    text: String,
    pub(super) tree: Tree,
}

impl Sidecar {
    pub(super) fn new(names: &Names) -> Result<Self, Error> {
        let body = DEFINITION.find(BEGINS).map_or(DEFINITION, |at| &DEFINITION[at..]);
        let text = body
            .replace("IMAGE", &names.image)
            .replace("CONFIG_MAP", &names.config_map)
            .replace("SECRET", &names.secret);
        let tree = Tree::parse(&text)?;
        Ok(Self { text, tree })
    }

    /// The definition's text, as it appears in a pod template.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The map that is merged into pods.
    pub(super) fn root(&self) -> Id {
        self.tree.roots.first().copied().unwrap_or_default()
    }

    pub(super) fn container(&self) -> Option<Id> {
        self.list("initContainers").next()
    }

    /// The items of a list of the pod's `spec`.
    pub(super) fn list(&self, key: &str) -> impl Iterator<Item = Id> {
        self.tree.find(self.root(), &["spec", key]).into_iter().flat_map(|list| self.tree.items(list))
    }

    /// The sidecar's ports; the first one is for clients.
    pub(super) fn ports(&self) -> impl Iterator<Item = u16> {
        let ports = self.container().and_then(|container| self.tree.get(container, "ports"));
        let ports = ports.into_iter().flat_map(|ports| self.tree.items(ports));
        ports.filter_map(|port| self.tree.text_at(port, &["containerPort"])?.parse().ok())
    }

    /// The least termination grace period, in seconds.
    pub(super) fn grace(&self) -> u64 {
        let written = self.tree.text_at(self.root(), &["spec", "terminationGracePeriodSeconds"]);
        written.and_then(|written| written.parse().ok()).unwrap_or_default()
    }

    /// The annotations through which Prometheus discovers the pod.
    pub(super) fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        let annotations = self.tree.find(self.root(), &["metadata", "annotations"]);
        let entries = annotations.map_or(&[][..], |annotations| self.tree.entries(annotations));
        entries.iter().filter_map(|entry| Some((self.tree.text(entry.key)?, self.tree.text(entry.value)?)))
    }

    /// All items of a list, to insert into an existing list.
    pub(super) fn items(&self, key: &str) -> Insertion {
        let items: Vec<Value> = self.list(key).map(|item| json(&self.tree, item)).collect();
        let flow = items.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
        Insertion { block: self.item_lines(key).unwrap_or_default(), flow }
    }

    /// A list with its key, to insert where there is none.
    pub(super) fn keyed(&self, key: &str) -> Insertion {
        let Insertion { block, flow } = self.items(key);
        let lines: String = block.lines().map(|line| format!("  {line}\n")).collect();
        Insertion { block: format!("{key}:\n{lines}"), flow: format!("{}: [{flow}]", json!(key)) }
    }

    /// The lines from a list's first dash to the end of its last item, including comments in between.
    fn item_lines(&self, key: &str) -> Option<String> {
        let list = self.tree.find(self.root(), &["spec", key])?;
        let node = self.tree.node(list);
        let begin = self.text[..node.span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[node.span.end..].find('\n').map_or(self.text.len(), |at| node.span.end + at);
        Some(
            self.text[begin..end]
                .lines()
                .map(|line| format!("{}\n", line.get(node.column..).unwrap_or_default()))
                .collect(),
        )
    }
}

/// A node of the definition as JSON. Plain integers and booleans keep their type; everything else is a string.
pub(super) fn json(tree: &Tree, id: Id) -> Value {
    match &tree.node(id).kind {
        Kind::Scalar { text, is_plain } => match (text.parse::<i64>(), &**text) {
            (Ok(number), _) if *is_plain => json!(number),
            (_, "true" | "false") if *is_plain => json!(text == "true"),
            _ => json!(text),
        },
        Kind::Map { entries, .. } => {
            let pair = |Entry { key, value }: &Entry| Some((tree.text(*key)?.to_owned(), json(tree, *value)));
            Value::Object(entries.iter().filter_map(pair).collect())
        }
        Kind::Seq { items, .. } => items.iter().map(|item| json(tree, *item)).collect(),
        Kind::Alias(target) => json(tree, *target),
    }
}
