//! The table of stream routes: a tree of segments that finds the most specific route of a path.
//!
//! It considers paths only: no host, no query, no methods.

use std::collections::BTreeMap;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::StreamRoute;
use super::normal::{Decoded, Reading, is_plain};
use super::pattern::{BadPattern, PATTERN_SEGMENTS_MAX, Pattern, Segment};

/// The longest path that is normalized, in bytes; a longer one is rejected unless it is plain.
pub const NORMALIZED_PATH_BYTES_MAX: usize = 8 * 1024;

/// The parameters of a matched pattern: names and percent-decoded values.
pub type Params = Box<[(Box<str>, Box<str>)]>;

/// The result of a lookup.
#[derive(Debug, PartialEq)]
pub enum Found<'a> {
    /// Not a stream route: forward to the upstream.
    Upstream,
    Stream {
        route: &'a Arc<StreamRoute>,
        params: Params,
    },
    /// A path that is a stream route only after normalization (`//events`, `/x/%2e%2e/events`, `%2Fevents`), or that is
    /// not decodable (an encoded NUL): 400.
    Disguised,
}

/// Why routes do not form a table.
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

/// The possible continuations of a path.
#[derive(Debug, Default)]
struct Node {
    literals: BTreeMap<Box<[u8]>, Node>,
    parameter: Option<Box<Node>>,
    /// The index of the route that ends here.
    route: Option<usize>,
}

impl RouteTable {
    /// Builds the table.
    ///
    /// # Errors
    ///
    /// A text is not a pattern, or two patterns match the same paths.
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

    /// All routes, in their original order.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<StreamRoute>> {
        self.routes.iter()
    }

    /// Whether a route has this pattern.
    pub fn has(&self, pattern: &str) -> bool {
        self.routes.iter().any(|route| *route.pattern == *pattern)
    }

    /// Every route with the patterns of the routes that take precedence for some of its paths.
    pub fn routes_and_exceptions(&self) -> impl Iterator<Item = (&Arc<StreamRoute>, Vec<&Arc<str>>)> {
        self.routes.iter().zip(&self.patterns).map(|(route, pattern)| {
            let takers = self.routes.iter().zip(&self.patterns).filter(|(_, other)| other.takes_from(pattern));
            (route, takers.map(|(taker, _)| &taker.pattern).collect())
        })
    }

    /// Looks up a path as received, without the query.
    ///
    /// A literal segment takes precedence over a parameter, segment by segment from the left. A plain path of the
    /// upstream costs no allocation.
    pub fn find(&self, raw_path: &str) -> Found<'_> {
        let direct = raw_path.strip_prefix('/').and_then(|path| {
            // "/" has no segments, but `split` yields an empty one.
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

    /// Whether some reading of the path reaches another route than the received spelling. Time and memory are
    /// proportional to the path's length: it is decoded once, and all readings share one list of segments.
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

    /// The values of the route's parameters; `None` if one is not allowed.
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
    /// The node at which a route of this pattern ends.
    fn leaf(&mut self, pattern: &Pattern) -> &mut Self {
        pattern.segments.iter().fold(self, |node, segment| match segment {
            Segment::Literal(text) => node.literals.entry(text.as_bytes().into()).or_default(),
            Segment::Parameter(_) => node.parameter.get_or_insert_default(),
        })
    }

    /// The most specific route of a path with these segments. No pattern has more than [`PATTERN_SEGMENTS_MAX`]
    /// segments, so no more are examined.
    fn reached<'s>(&self, segments: impl Iterator<Item = &'s [u8]>) -> Option<usize> {
        let mut first: [&[u8]; PATTERN_SEGMENTS_MAX] = [&[]; PATTERN_SEGMENTS_MAX];
        let mut count = 0;
        for segment in segments {
            *first.get_mut(count)? = segment;
            count += 1;
        }
        self.find(&first[..count])
    }

    /// Visits each node at most once.
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

/// A parameter's value, percent-decoded once. `None` if it is not UTF-8, or if it contains a control character, a
/// separator or a dot segment at any depth of encoding: the upstream could interpret it as structure.
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
