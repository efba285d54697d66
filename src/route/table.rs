//! The table of stream routes: a tree of segments that finds the most specific route of a path.
//!
//! It knows nothing of requests: no host, no query, no methods.

use std::collections::BTreeMap;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::StreamRoute;
use super::normal::{Decoded, Reading, is_plain};
use super::pattern::{BadPattern, PATTERN_SEGMENTS_MAX, Pattern, Segment};

/// The longest path that is normalized, in bytes; a longer one is refused unless it is plain.
pub const NORMALIZED_PATH_BYTES_MAX: usize = 8 * 1024;

/// Parameters of a matched pattern: names and percent-decoded values.
pub type Params = Box<[(Box<str>, Box<str>)]>;

/// What a path is.
#[derive(Debug, PartialEq)]
pub enum Found<'a> {
    /// No stream route: the upstream's.
    Upstream,
    Stream {
        route: &'a Arc<StreamRoute>,
        params: Params,
    },
    /// Not a stream route as it came, but one once normalized (`//events`, `/x/%2e%2e/events`, `%2Fevents`), or not
    /// readable at all (an encoded NUL): 400.
    Disguised,
}

/// Why routes make no table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRoutes {
    #[error("`{pattern}` is not a valid pattern: {cause}")]
    Pattern { pattern: Arc<str>, cause: BadPattern },
    #[error("`{one}` and `{other}` match the same paths")]
    Overlap { one: Arc<str>, other: Arc<str> },
}

/// All stream routes of a snapshot.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<StreamRoute>>,
    patterns: Vec<Pattern>,
    root: Node,
}

/// What may follow a segment.
#[derive(Debug, Default)]
struct Node {
    literals: BTreeMap<Box<[u8]>, Node>,
    parameter: Option<Box<Node>>,
    /// The index of the route that ends here.
    route: Option<usize>,
}

impl RouteTable {
    /// Builds the table. Fails on a text that is no pattern, and on two patterns that match the same paths.
    pub fn new(routes: Vec<Arc<StreamRoute>>) -> Result<Self, BadRoutes> {
        let mut root = Node::default();
        let mut patterns = Vec::with_capacity(routes.len());
        for (index, route) in routes.iter().enumerate() {
            let pattern = Pattern::parse(&route.pattern)
                .map_err(|cause| BadRoutes::Pattern { pattern: route.pattern.clone(), cause })?;
            if let Some(earlier) = root.leaf(&pattern).route.replace(index) {
                let one = routes[earlier].pattern.clone();
                return Err(BadRoutes::Overlap { one, other: route.pattern.clone() });
            }
            patterns.push(pattern);
        }
        Ok(Self { routes, patterns, root })
    }

    /// All routes, in the order they were given.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<StreamRoute>> {
        self.routes.iter()
    }

    /// Whether one of the routes has just this pattern.
    pub fn has(&self, pattern: &str) -> bool {
        self.routes.iter().any(|route| *route.pattern == *pattern)
    }

    /// Every route with the patterns of those that take paths from it.
    pub fn routes_and_exceptions(&self) -> impl Iterator<Item = (&Arc<StreamRoute>, Vec<&Arc<str>>)> {
        self.routes.iter().zip(&self.patterns).map(|(route, pattern)| {
            let takers = self.routes.iter().zip(&self.patterns).filter(|(_, other)| other.takes_from(pattern));
            (route, takers.map(|(taker, _)| &taker.pattern).collect())
        })
    }

    /// What this path is: as it came, without the query.
    ///
    /// A literal segment beats a parameter, segment by segment from the left. Allocates nothing for a plain path that
    /// is the upstream's.
    pub fn find(&self, raw_path: &str) -> Found<'_> {
        let direct = raw_path.strip_prefix('/').and_then(|path| {
            // "/" has no segments, where `split` gives an empty one.
            self.root.reached(path.split('/').filter(|_| !path.is_empty()).map(str::as_bytes))
        });
        if !is_plain(raw_path) && self.is_disguised(raw_path, direct) {
            return Found::Disguised;
        }
        let Some(index) = direct else {
            return Found::Upstream;
        };
        match self.params(index, raw_path) {
            Some(params) => Found::Stream { route: &self.routes[index], params },
            None => Found::Disguised,
        }
    }

    /// Whether some reading of the path reaches another route than the path as it came. Takes time and memory in
    /// proportion to the path's length: it is decoded once, and all readings share one list of segments.
    fn is_disguised(&self, raw_path: &str, direct: Option<usize>) -> bool {
        if raw_path.len() > NORMALIZED_PATH_BYTES_MAX {
            return true;
        }
        let path = Decoded::of(raw_path);
        if path.bytes().contains(&0) {
            return true;
        }
        let mut segments = Vec::new();
        Reading::all(&path).any(|reading| {
            reading.segments(&path, &mut segments);
            let reached = self.root.reached(segments.iter().map(|segment| &path.bytes()[segment.clone()]));
            reached.is_some() && reached != direct
        })
    }

    /// The values of the route's parameters; nothing if one holds what no value may.
    fn params(&self, index: usize, raw_path: &str) -> Option<Params> {
        self.patterns[index]
            .segments
            .iter()
            .zip(raw_path.split('/').skip(1))
            .filter_map(|(segment, raw)| match segment {
                Segment::Parameter(name) => Some((name, raw)),
                Segment::Literal(_) => None,
            })
            .map(|(name, raw)| Some((name.clone(), parameter_value(raw)?)))
            .collect()
    }
}

impl Node {
    /// Where a route of this pattern ends.
    fn leaf(&mut self, pattern: &Pattern) -> &mut Self {
        pattern.segments.iter().fold(self, |node, segment| match segment {
            Segment::Literal(text) => node.literals.entry(text.as_bytes().into()).or_default(),
            Segment::Parameter(_) => node.parameter.get_or_insert_default(),
        })
    }

    /// The most specific route of a path with these segments. No pattern has more than [`PATTERN_SEGMENTS_MAX`], and so
    /// no more of them are looked at.
    fn reached<'s>(&self, segments: impl Iterator<Item = &'s [u8]>) -> Option<usize> {
        let mut first: [&[u8]; PATTERN_SEGMENTS_MAX] = [&[]; PATTERN_SEGMENTS_MAX];
        let mut count = 0;
        for segment in segments {
            *first.get_mut(count)? = segment;
            count += 1;
        }
        self.find(&first[..count])
    }

    /// Visits a node of the tree once at most.
    fn find(&self, segments: &[&[u8]]) -> Option<usize> {
        let [segment, rest @ ..] = segments else {
            return self.route;
        };
        if segment.is_empty() {
            return None;
        }
        if let Some(child) = self.literals.get(*segment)
            && let Some(found) = child.find(rest)
        {
            return Some(found);
        }
        self.parameter.as_ref()?.find(rest)
    }
}

/// A parameter's value, percent-decoded once. Nothing where it is not UTF-8, or where it holds a control character, a
/// separator or a dot segment at any depth of encoding: what comes after us might take it for structure.
fn parameter_value(raw: &str) -> Option<Box<str>> {
    let decoded = Decoded::of(raw);
    let fully = decoded.bytes();
    let structural = fully.iter().any(|b| matches!(b, b'/' | b'\\') || b.is_ascii_control());
    if structural || matches!(fully, b"." | b"..") {
        return None;
    }
    let value = percent_decode_str(raw).decode_utf8().ok()?;
    (!value.chars().any(char::is_control)).then(|| value.into())
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
