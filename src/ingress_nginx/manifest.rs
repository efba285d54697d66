//! Kubernetes objects in YAML: splits documents and Lists, and keeps lines.
//!
//! It handles what all objects have in common and no particular kind. It contacts no cluster and validates no schema.

use std::borrow::Cow;
use std::sync::Arc;

use super::report::{Subject, shown};
use crate::config::{Name, Node, Place, Value};

/// A Kubernetes object.
pub(super) struct Object<'a> {
    pub(super) kind: &'a str,
    /// For example `networking.k8s.io/v1`.
    pub(super) api: &'a str,
    /// For example `Ingress shop/orders`.
    pub(super) title: Arc<str>,
    pub(super) name: Cow<'a, str>,
    pub(super) node: &'a Node,
}

/// Why a text is not a list of objects.
pub(super) type Malformed = (Place, String);

impl Object<'_> {
    /// A field of this object.
    pub(super) fn subject(&self, key: impl Into<Arc<str>>, place: Place) -> Subject {
        Subject { object: self.title.clone(), key: key.into(), line: place.line }
    }
}

/// The objects of these documents, including the items of Lists.
pub(super) fn objects(documents: &[Node]) -> Result<Vec<Object<'_>>, Malformed> {
    let mut objects = Vec::new();
    for document in documents {
        collect(document, None, &mut objects)?;
    }
    Ok(objects)
}

/// The depth is that of the tree, which is limited. Items of a list from an API server may omit their kind, which the
/// list's own kind implies: `assumed`.
fn collect<'a>(
    node: &'a Node,
    assumed: Option<(&'a str, &'a str)>,
    objects: &mut Vec<Object<'a>>,
) -> Result<(), Malformed> {
    let Value::Map(_) = &node.value else {
        return Err((node.place, format!("found {}, not a Kubernetes object", shown(&node.value.describe()))));
    };
    let own = |key| get(node, key).and_then(|node| plain(&node.value));
    let (kind, api) = (own("kind"), own("apiVersion"));
    let Some((kind, api)) = kind.zip(api).or(assumed) else {
        return Err((node.place, "not a Kubernetes object: it has no `kind` and `apiVersion`".into()));
    };
    match (kind.strip_suffix("List"), get(node, "items").map(|items| &items.value)) {
        (Some(item), Some(Value::List(items))) => {
            let assumed = (!item.is_empty()).then_some((item, api));
            items.iter().try_for_each(|item| collect(item, assumed, objects))
        }
        (Some(_), Some(Value::Nothing)) => Ok(()),
        _ => {
            objects.push(object(kind, api, node));
            Ok(())
        }
    }
}

fn object<'a>(kind: &'a str, api: &'a str, node: &'a Node) -> Object<'a> {
    let metadata = get(node, "metadata");
    let of = |key| metadata.and_then(|metadata| get(metadata, key)).and_then(|node| scalar(&node.value));
    let name = of("name").or_else(|| of("generateName")).unwrap_or(Cow::Borrowed("(without a name)"));
    let namespace = of("namespace").map(|namespace| format!("{}/", shown(&namespace))).unwrap_or_default();
    let title = format!("{} {namespace}{}", shown(kind), shown(&name)).into();
    Object { kind, api, title, name, node }
}

/// The value of a key, unless it is null.
pub(super) fn get<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let node = entries(node).iter().find(|(name, _)| name.text == key).map(|(_, node)| node);
    node.filter(|node| !matches!(node.value, Value::Nothing))
}

/// The value at a path of keys.
pub(super) fn at<'a>(node: &'a Node, keys: &[&str]) -> Option<&'a Node> {
    keys.iter().try_fold(node, |node, key| get(node, key))
}

/// The entries of a mapping; empty for other nodes.
pub(super) fn entries(node: &Node) -> &[(Name, Node)] {
    match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

/// The elements of a sequence; empty for other nodes.
pub(super) fn list(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::List(list)) => list,
        _ => &[],
    }
}

/// A string value.
pub(super) fn plain(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// A string value, or the text of another scalar.
pub(super) fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Text(text) => Some(Cow::Borrowed(text)),
        Value::Flag(flag) => Some(flag.to_string().into()),
        Value::Integer(number) => Some(number.to_string().into()),
        Value::Fraction(number) => Some(number.to_string().into()),
        Value::Nothing => Some(Cow::Borrowed("")),
        Value::List(_) | Value::Map(_) => None,
    }
}

/// The line of the input that contains this line of a text; `lines` are the lines of the input. A quoted text is
/// assumed to be on one line.
pub(super) fn line_of(lines: &[&str], node: &Node, text: &str, line: u64) -> u64 {
    let index = |count: u64| usize::try_from(count - 1).unwrap_or(usize::MAX);
    let first = lines.get(index(node.place.line)).and_then(|line| line.chars().nth(index(node.place.column)));
    if matches!(first, Some('"' | '\'')) {
        return node.place.line;
    }
    // The position of a block scalar is that of its first non-empty line.
    let empty = text.chars().take_while(|c| *c == '\n').count() as u64;
    (node.place.line + line).saturating_sub(empty + 1)
}
