//! A YAML document as written: every node with the range of its text, so that an edit can be spliced in and all other
//! text stays the same byte for byte. It resolves neither tags nor types, and does not write.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

use super::Error;

/// The index of a node in its [`Tree`].
pub(super) type Id = usize;

/// All documents of a text. The parser limits the depth to 255.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// The root of each document.
    pub(super) roots: Vec<Id>,
    anchors: BTreeMap<usize, Id>,
    /// Nodes that an alias refers to: a change to one would have effect in two places.
    shared: BTreeSet<Id>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// The byte range in the text. A block collection ends with its last child.
    pub(super) span: Range<usize>,
    /// 1-based.
    pub(super) line: usize,
    /// 0-based, in characters.
    pub(super) column: usize,
    pub(super) parent: Option<Id>,
}

#[derive(Debug)]
pub(super) enum Kind {
    Scalar { text: String, is_plain: bool },
    Map { entries: Vec<Entry>, is_flow: bool },
    Seq { items: Vec<Id>, is_flow: bool },
    Alias(Id),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Id,
    pub(super) value: Id,
}

impl Tree {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut builder = Builder::default();
        let mut options = granit_parser::Options::default();
        options.set_emit_comments(false);
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event.map_err(|error| {
                let (line, column) = (error.marker().line(), error.marker().col() + 1);
                Error { line, column, message: format!("no YAML: {}", error.info()) }
            })?;
            builder.take(event, span);
        }
        Ok(builder.tree)
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    /// The value under a key, with aliases and merge keys resolved.
    pub(super) fn get(&self, map: Id, key: &str) -> Option<Id> {
        let own = self.entry(map, key).map(|entry| self.target(entry.value));
        own.or_else(|| {
            // Merge keys of a merged map are not followed, so that a cycle cannot occur. Manifests do not nest them.
            let merged = self.target(self.entry(map, "<<")?.value);
            self.entry(merged, key).map(|entry| self.target(entry.value))
        })
    }

    /// The value at a path of keys.
    pub(super) fn find(&self, map: Id, path: &[&str]) -> Option<Id> {
        path.iter().try_fold(map, |map, key| self.get(map, key))
    }

    /// An entry of the map itself, without merge keys.
    pub(super) fn entry(&self, map: Id, key: &str) -> Option<Entry> {
        self.entries(map).iter().copied().find(|entry| self.text(entry.key) == Some(key))
    }

    /// The entries of a map; empty for other nodes.
    pub(super) fn entries(&self, map: Id) -> &[Entry] {
        match &self.node(map).kind {
            Kind::Map { entries, .. } => entries,
            _ => &[],
        }
    }

    /// The items of a sequence, with aliases resolved; empty for other nodes.
    pub(super) fn items(&self, seq: Id) -> impl Iterator<Item = Id> {
        let items = match &self.node(seq).kind {
            Kind::Seq { items, .. } => items.as_slice(),
            _ => &[],
        };
        items.iter().map(|item| self.target(*item))
    }

    /// The text of a scalar.
    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match &self.node(id).kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The text of a scalar at a path of keys.
    pub(super) fn text_at(&self, map: Id, path: &[&str]) -> Option<&str> {
        self.find(map, path).and_then(|id| self.text(id))
    }

    /// Whether the node is empty or `null`.
    pub(super) fn is_null(&self, id: Id) -> bool {
        matches!(&self.node(id).kind, Kind::Scalar { text, is_plain: true } if matches!(&**text, "" | "~" | "null"))
    }

    /// An entry of the map itself whose value can be edited in place: not an alias, not merged, not shared.
    pub(super) fn own(&self, map: Id, key: &str) -> Result<Option<Entry>, Error> {
        let entry = self.entry(map, key);
        if entry.is_none() && self.get(map, key).is_some() {
            return Err(
                self.error(map, format!("`{key}` is merged into this from elsewhere, and can't be changed here"))
            );
        }
        if let Some(Entry { value, .. }) = entry {
            let is_alias = matches!(self.node(value).kind, Kind::Alias(_));
            if is_alias || self.shared.contains(&value) {
                let message = format!("`{key}` is shared by an alias; written out it could be changed");
                return Err(self.error(value, message));
            }
        }
        Ok(entry)
    }

    /// An error at this node.
    pub(super) fn error(&self, id: Id, message: impl Into<String>) -> Error {
        let Node { line, column, .. } = self.node(id);
        Error { line: *line, column: column + 1, message: message.into() }
    }

    /// Resolves an alias; other nodes resolve to themselves.
    pub(super) fn target(&self, id: Id) -> Id {
        match self.node(id).kind {
            Kind::Alias(target) => target,
            _ => id,
        }
    }
}

/// Builds the tree from parser events. The children of a map arrive as key, value, key, value.
#[derive(Default)]
struct Builder {
    tree: Tree,
    open: Vec<Open>,
}

struct Open {
    id: Id,
    children: Vec<Id>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let is_plain = style == ScalarStyle::Plain;
                let id = self.add(Kind::Scalar { text: text.into_owned(), is_plain }, span, anchor);
                self.place(id);
            }
            Event::SequenceStart(style, anchor, _) => {
                let is_flow = style == StructureStyle::Flow;
                self.begin(Kind::Seq { items: Vec::new(), is_flow }, span, anchor);
            }
            Event::MappingStart(style, anchor, _) => {
                let is_flow = style == StructureStyle::Flow;
                self.begin(Kind::Map { entries: Vec::new(), is_flow }, span, anchor);
            }
            Event::Alias(anchor) => {
                // An alias to an anchor that is still open would contain itself; it is ignored.
                if let Some(target) = self.tree.anchors.get(&anchor).copied() {
                    self.tree.shared.insert(target);
                    let id = self.add(Kind::Alias(target), span, 0);
                    self.place(id);
                }
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(&span),
            _ => {}
        }
    }

    fn add(&mut self, kind: Kind, span: Span, anchor: usize) -> Id {
        let id = self.tree.nodes.len();
        let (line, column) = (span.start.line(), span.start.col());
        let parent = self.open.last().map(|open| open.id);
        self.tree.nodes.push(Node { kind, span: span.byte_range().unwrap_or_default(), line, column, parent });
        if anchor > 0 {
            self.tree.anchors.insert(anchor, id);
        }
        id
    }

    fn place(&mut self, id: Id) {
        match self.open.last_mut() {
            Some(open) => open.children.push(id),
            None => self.tree.roots.push(id),
        }
    }

    fn begin(&mut self, kind: Kind, span: Span, anchor: usize) {
        let id = self.add(kind, span, anchor);
        self.open.push(Open { id, children: Vec::new() });
    }

    fn end(&mut self, span: &Span) {
        let Some(Open { id, children }) = self.open.pop() else { return };
        let last = children.last().map(|child| self.tree.nodes[*child].span.end);
        let node = &mut self.tree.nodes[id];
        let is_flow = match &mut node.kind {
            Kind::Map { entries, is_flow } => {
                *entries = children.chunks_exact(2).map(|pair| Entry { key: pair[0], value: pair[1] }).collect();
                *is_flow
            }
            Kind::Seq { items, is_flow } => {
                *items = children;
                *is_flow
            }
            _ => false,
        };
        node.span.end = match last {
            Some(end) if !is_flow => end,
            _ => span.byte_range().map_or(node.span.end, |range| range.end),
        };
        self.place(id);
    }
}
