//! Edits of a text at the positions that a [`Tree`] knows. Entries and items are inserted and removed in the
//! surrounding style; all other text stays unchanged.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Error;
use super::tree::{Entry, Id, Kind, Tree};

/// Pending edits, applied together.
pub(super) struct Edits<'a> {
    text: &'a str,
    tree: &'a Tree,
    line_break: &'static str,
    replacements: Vec<(Range<usize>, String)>,
    removed: BTreeSet<Id>,
}

/// An item, or the value of an entry, and the range of its text.
type Sibling = (Id, Range<usize>);

/// Text to insert, in both styles of YAML.
pub(super) struct Insertion {
    /// Whole lines, with indentation 0.
    pub(super) block: String,
    /// JSON without the enclosing brackets: `"key": value` pairs or items, separated by commas.
    pub(super) flow: String,
}

impl<'a> Edits<'a> {
    pub(super) fn new(text: &'a str, tree: &'a Tree) -> Self {
        let line_break = if text.contains("\r\n") { "\r\n" } else { "\n" };
        Self { text, tree, line_break, replacements: Vec::new(), removed: BTreeSet::new() }
    }

    /// Inserts entries or items at the start of the collection under a key; `key` is that key in its map.
    pub(super) fn insert_under(&mut self, entry: Entry, insertion: &Insertion) -> Result<(), Error> {
        let Entry { key, value } = entry;
        let node = self.tree.node(value);
        let (first, is_flow, brackets) = match &node.kind {
            Kind::Map { entries, is_flow } => (entries.first().map(|entry| entry.key), *is_flow, ["{", "}"]),
            Kind::Seq { items, is_flow } => (items.first().copied(), *is_flow, ["[", "]"]),
            _ => return Err(self.tree.error(value, "a map or a list was expected here")),
        };
        match first {
            Some(first) if is_flow => self.insert(self.tree.node(first).span.start, format!("{}, ", insertion.flow)),
            None if is_flow => self.insert(node.span.start + brackets[0].len(), insertion.flow.clone()),
            _ => {
                let place = self.begins(value, first).and_then(|begins| {
                    let column = self.text.get(line_start(self.text, begins)..begins)?.chars().count();
                    Some((self.head(key, begins)?, column))
                });
                let Some((at, column)) = place else {
                    let message = "nothing can be put in here: it does not begin on a line of its own";
                    return Err(self.tree.error(value, message));
                };
                let block = self.indented(&insertion.block, column);
                self.insert(at, block);
            }
        }
        Ok(())
    }

    /// Sets the value of a key that has none.
    pub(super) fn fill(&mut self, entry: Entry, value: &str) {
        let node = self.tree.node(entry.value);
        if node.span.is_empty() {
            let after = self.tree.node(entry.key).span.end;
            let colon = self.text[after..].find(':').map_or(after, |at| after + at + 1);
            self.insert(colon, format!(" {value}"));
        } else {
            self.replacements.push((node.span.clone(), value.to_owned()));
        }
    }

    /// Inserts an entry at the start of a map that is an item of a list.
    pub(super) fn insert_into_item(&mut self, map: Id, insertion: &Insertion) {
        let Some(first) = self.tree.entries(map).first() else { return };
        let at = self.tree.node(first.key).span.start;
        if self.is_flow(map) {
            self.insert(at, format!("{}, ", insertion.flow));
        } else {
            let indent = " ".repeat(self.tree.node(first.key).column);
            self.insert(at, format!("{}{}{indent}", insertion.block.trim_end(), self.line_break));
        }
    }

    /// The text of a node, including quotes.
    pub(super) fn written(&self, id: Id) -> &'a str {
        self.text.get(self.tree.node(id).span.clone()).unwrap_or_default()
    }

    /// Replaces a scalar.
    pub(super) fn replace(&mut self, scalar: Id, with: impl Into<String>) {
        self.replacements.push((self.tree.node(scalar).span.clone(), with.into()));
    }

    /// Removes an entry (given by its value) or an item, and every parent that becomes empty: a block collection cannot
    /// be empty.
    pub(super) fn remove(&mut self, id: Id) {
        self.removed.insert(id);
    }

    /// The edited text.
    pub(super) fn apply(mut self) -> String {
        let removed = self.outermost();
        let mut cuts: Vec<_> = removed.iter().filter_map(|id| self.cut(*id, &removed)).collect();
        cuts.sort_by_key(|cut| cut.start);
        self.replacements.extend(merged(cuts).into_iter().map(|cut| (cut, String::new())));
        // Stable, so that insertions at one position keep their order.
        self.replacements.sort_by_key(|(range, _)| range.start);
        let mut changed = String::with_capacity(self.text.len() + 4096);
        let mut at = 0;
        for (range, with) in &self.replacements {
            changed += self.text.get(at..range.start).unwrap_or_default();
            changed += with;
            at = range.end;
        }
        changed + self.text.get(at..).unwrap_or_default()
    }

    fn insert(&mut self, at: usize, text: String) {
        self.replacements.push((at..at, text));
    }

    /// Where a block collection begins: a map at its first key, a list at its first dash.
    fn begins(&self, collection: Id, first: Option<Id>) -> Option<usize> {
        let begins = self.tree.node(first?).span.start;
        match self.tree.node(collection).kind {
            Kind::Seq { .. } => self.dash(begins),
            _ => Some(begins),
        }
    }

    /// The position of the dash before an item.
    fn dash(&self, item: usize) -> Option<usize> {
        self.text[..item].trim_end().strip_suffix('-').map(str::len)
    }

    /// Where to insert above the first child: the start of the line below the key, if only comments are between them;
    /// otherwise the start of the child's line.
    fn head(&self, key: Id, child: usize) -> Option<usize> {
        let below = line_end(self.text, self.tree.node(key).span.end);
        let between = self.text.get(below..child).unwrap_or("?");
        if between.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Some(below);
        }
        let start = line_start(self.text, child);
        self.text[start..child].trim().is_empty().then_some(start)
    }

    fn indented(&self, block: &str, column: usize) -> String {
        let indent = " ".repeat(column);
        block.lines().map(|line| format!("{indent}{line}{}", self.line_break)).collect()
    }

    /// The removed nodes, without those inside another removed node.
    fn outermost(&self) -> BTreeSet<Id> {
        let mut removed = self.removed.clone();
        loop {
            let emptied: Vec<Id> = removed.iter().filter_map(|id| self.emptied_parent(*id, &removed)).collect();
            let before = removed.len();
            removed.extend(emptied);
            if removed.len() == before {
                break;
            }
        }
        let has_removed_parent = |id: &Id| self.tree.node(*id).parent.is_some_and(|parent| removed.contains(&parent));
        removed.iter().copied().filter(|id| !has_removed_parent(id)).collect()
    }

    /// The collection of a removed node, if nothing else is left in it. An empty flow collection inside a block
    /// collection stays: the user wrote it, because edits insert block style into block collections.
    fn emptied_parent(&self, id: Id, removed: &BTreeSet<Id>) -> Option<Id> {
        let parent = self.tree.node(id).parent?;
        let around = self.tree.node(parent).parent?;
        let is_empty = match &self.tree.node(parent).kind {
            Kind::Map { entries, .. } => entries.iter().all(|entry| removed.contains(&entry.value)),
            Kind::Seq { items, .. } => items.iter().all(|item| removed.contains(item)),
            _ => false,
        };
        (is_empty && (!self.is_flow(parent) || self.is_flow(around))).then_some(parent)
    }

    fn is_flow(&self, id: Id) -> bool {
        matches!(self.tree.node(id).kind, Kind::Map { is_flow: true, .. } | Kind::Seq { is_flow: true, .. })
    }

    /// The text to remove with a node.
    fn cut(&self, id: Id, removed: &BTreeSet<Id>) -> Option<Range<usize>> {
        let (siblings, is_flow) = self.siblings(id)?;
        let position = siblings.iter().position(|(sibling, _)| *sibling == id)?;
        let own = siblings[position].1.clone();
        let next = siblings.get(position + 1).map(|(_, next)| next.start);
        if is_flow {
            let is_kept = |(sibling, _): &&Sibling| !removed.contains(sibling);
            if siblings[position..].iter().any(|sibling| is_kept(&sibling)) {
                return next.map(|next| own.start..next);
            }
            // The comma before the last entry is removed with it.
            let kept = siblings[..position].iter().rfind(is_kept).map(|(_, kept)| kept.end);
            return Some(kept.unwrap_or(siblings[0].1.start)..own.end);
        }
        let begins = if self.is_item(id) { self.dash(own.start)? } else { own.start };
        let start = line_start(self.text, begins);
        match (self.text[start..begins].trim(), next) {
            ("", _) => Some(start..line_end(self.text, own.end)),
            // The first entry of a map that is a list item: the dash stays for the next entry.
            (_, Some(next)) => Some(begins..next),
            _ => None,
        }
    }

    /// The children of the node's collection with the ranges of their texts, and whether the collection is in flow
    /// style. An entry is identified by its value.
    fn siblings(&self, id: Id) -> Option<(Vec<Sibling>, bool)> {
        match &self.tree.node(self.tree.node(id).parent?).kind {
            Kind::Map { entries, is_flow } => {
                Some((entries.iter().map(|entry| (entry.value, self.span_of(*entry))).collect(), *is_flow))
            }
            Kind::Seq { items, is_flow } => {
                Some((items.iter().map(|item| (*item, self.tree.node(*item).span.clone())).collect(), *is_flow))
            }
            _ => None,
        }
    }

    fn is_item(&self, id: Id) -> bool {
        let parent = self.tree.node(id).parent;
        parent.is_some_and(|parent| matches!(self.tree.node(parent).kind, Kind::Seq { .. }))
    }

    fn span_of(&self, entry: Entry) -> Range<usize> {
        self.tree.node(entry.key).span.start..self.tree.node(entry.value).span.end
    }
}

/// Merges ranges that touch or overlap. They are sorted.
fn merged(ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |at| at + 1)
}

/// The position after the line break.
fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |found| at + found + 1)
}
