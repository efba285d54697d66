//! The pattern of a route, such as `/orders/{orderId}/events`, parsed. The table does the matching.

/// The most segments a pattern may have; it bounds the depth of the table.
pub const PATTERN_SEGMENTS_MAX: usize = 32;

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub(super) segments: Box<[Segment]>,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Matches itself, case-sensitively.
    Literal(Box<str>),
    /// `{name}` matches one whole, non-empty segment.
    Parameter(Box<str>),
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    #[error("it must begin with `/`")]
    NotAbsolute,
    #[error("it has an empty segment: no `//`, and no `/` at the end")]
    EmptySegment,
    #[error("`{0}` is not a parameter: a parameter is a whole segment `{{name}}`, its name of `[A-Za-z0-9_]`")]
    BadParameter(Box<str>),
    #[error("`{segment}` is how other routers write it; here a parameter, which is one whole segment, is `{proposal}`")]
    Foreign { segment: Box<str>, proposal: Box<str> },
    #[error("it has the parameter `{0}` twice")]
    RepeatedParameter(Box<str>),
    #[error("`{0}` must be percent-encoded in a path (RFC 3986 section 3.3), or would be normalized away")]
    BadLiteral(Box<str>),
    #[error("it has more than {PATTERN_SEGMENTS_MAX} segments")]
    TooLong,
}

impl Pattern {
    /// Parses a pattern. Literal segments consist of `pchar` (RFC 3986) without percent-encoding and without `;`, so
    /// that each has one spelling; `.` and `..` are not allowed.
    ///
    /// # Errors
    ///
    /// The reason why the text is not a pattern.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let path = text.strip_prefix('/').ok_or(BadPattern::NotAbsolute)?;
        let mut segments = Vec::new();
        for text in path.split('/').filter(|_| !path.is_empty()) {
            let segment = Segment::parse(text)?;
            if let Segment::Parameter(name) = &segment
                && segments.contains(&segment)
            {
                return Err(BadPattern::RepeatedParameter(name.clone()));
            }
            segments.push(segment);
        }
        if segments.len() > PATTERN_SEGMENTS_MAX {
            return Err(BadPattern::TooLong);
        }
        Ok(Self { segments: segments.into() })
    }

    /// The names of its parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(&**name),
            Segment::Literal(_) => None,
        })
    }

    /// Whether it matches this path, which is not normalized.
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut segments = path.split('/').filter(|_| !path.is_empty());
        let matches = self.segments.iter().all(|own| {
            segments.next().is_some_and(|segment| match own {
                Segment::Literal(literal) => **literal == *segment,
                Segment::Parameter(_) => !segment.is_empty(),
            })
        });
        matches && segments.next().is_none()
    }

    /// Whether both patterns match the same paths: only the names of parameters differ.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(|pair| match pair {
                (Segment::Parameter(_), Segment::Parameter(_)) => true,
                (one, other) => one == other,
            })
    }

    /// Whether this pattern matches some paths of `other` and is more specific: comparing from the left, a literal
    /// segment takes precedence over a parameter.
    pub fn takes_from(&self, other: &Self) -> bool {
        use Segment::{Literal, Parameter};
        let pairs = || self.segments.iter().zip(&other.segments);
        self.segments.len() == other.segments.len()
            && !pairs().any(|pair| matches!(pair, (Literal(one), Literal(other)) if one != other))
            && pairs().find_map(|pair| match pair {
                (Literal(_), Parameter(_)) => Some(true),
                (Parameter(_), Literal(_)) => Some(false),
                _ => None,
            }) == Some(true)
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, BadPattern> {
        if text.is_empty() {
            return Err(BadPattern::EmptySegment);
        }
        if text.contains(['{', '}']) {
            let name = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(BadPattern::BadParameter(text.into()));
            }
            return Ok(Self::Parameter(name.into()));
        }
        if let Some(proposal) = foreign(text) {
            return Err(BadPattern::Foreign { segment: text.into(), proposal: proposal.into() });
        }
        if matches!(text, "." | "..") || !text.bytes().all(is_literal_byte) {
            return Err(BadPattern::BadLiteral(text.into()));
        }
        Ok(Self::Literal(text.into()))
    }
}

/// The parameter syntax of another router, translated: `:id`, `<id>`, `[id]`, `*`.
fn foreign(segment: &str) -> Option<String> {
    if !segment.starts_with([':', '<', '[']) && !segment.contains('*') {
        return None;
    }
    // `<int:id>`: the name follows the type.
    let name = segment.trim_matches([':', '<', '>', '[', ']', '*']).rsplit(':').next().unwrap_or_default();
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    Some(format!("{{{}}}", if is_name { name } else { "name" }))
}

/// `pchar` of RFC 3986 without `%`, and without `;`, which many servers cut off.
fn is_literal_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_whole_paths() {
        let matches = |pattern: &str, path: &str| Pattern::parse(pattern).unwrap().matches(path);
        assert!(matches("/a/{x}", "/a/b") && matches("/", "/"));
        for path in ["/a", "/a/", "/a/b/c", "/a/b/", "/A/b", "a/b", "*", "/"] {
            assert!(!matches("/a/{x}", path), "{path}");
        }
    }

    #[test]
    fn parses_a_pattern() {
        let pattern = Pattern::parse("/orders/{orderId}/events").unwrap();
        assert_eq!(pattern.parameters().collect::<Vec<_>>(), ["orderId"]);
        assert_eq!(Pattern::parse("/").unwrap().segments.len(), 0);
        assert!(Pattern::parse("/orders/o1:watch").is_ok(), "a colon within a segment is one of its characters");
    }

    #[test]
    fn reports_why_a_text_is_not_a_pattern() {
        let cases = [
            ("orders", BadPattern::NotAbsolute),
            ("", BadPattern::NotAbsolute),
            ("/orders/", BadPattern::EmptySegment),
            ("//orders", BadPattern::EmptySegment),
            ("/a/{}", BadPattern::BadParameter("{}".into())),
            ("/a/x{id}", BadPattern::BadParameter("x{id}".into())),
            ("/a/{b c}", BadPattern::BadParameter("{b c}".into())),
            ("/{a}/{a}", BadPattern::RepeatedParameter("a".into())),
            ("/a/../b", BadPattern::BadLiteral("..".into())),
            ("/a%20b", BadPattern::BadLiteral("a%20b".into())),
            ("/:id", BadPattern::Foreign { segment: ":id".into(), proposal: "{id}".into() }),
            ("/<int:id>", BadPattern::Foreign { segment: "<int:id>".into(), proposal: "{id}".into() }),
            ("/[id]", BadPattern::Foreign { segment: "[id]".into(), proposal: "{id}".into() }),
            ("/orders/*/events", BadPattern::Foreign { segment: "*".into(), proposal: "{name}".into() }),
            ("/orders/**", BadPattern::Foreign { segment: "**".into(), proposal: "{name}".into() }),
            ("/*rest", BadPattern::Foreign { segment: "*rest".into(), proposal: "{rest}".into() }),
            ("/ä", BadPattern::BadLiteral("ä".into())),
            ("/a?b", BadPattern::BadLiteral("a?b".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(Pattern::parse(text), Err(expected), "{text}");
        }
        assert_eq!(Pattern::parse(&"/a".repeat(PATTERN_SEGMENTS_MAX + 1)), Err(BadPattern::TooLong));
    }

    #[test]
    fn patterns_overlap_regardless_of_parameter_names() {
        let parse = |text| Pattern::parse(text).unwrap();
        assert!(parse("/a/{x}").overlaps(&parse("/a/{y}")));
        assert!(!parse("/a/{x}").overlaps(&parse("/a/b")));
        assert!(!parse("/a/{x}").overlaps(&parse("/a/{x}/c")));
    }

    #[test]
    fn the_more_specific_pattern_takes_precedence() {
        let takes = |one, other| Pattern::parse(one).unwrap().takes_from(&Pattern::parse(other).unwrap());
        for (one, other) in [("/a/b", "/a/{x}"), ("/a/{x}", "/{y}/b"), ("/a/{x}/c", "/{y}/{x}/c")] {
            assert!(takes(one, other) && !takes(other, one), "{one} and {other}");
        }
        for (one, other) in
            [("/a/b", "/a/b"), ("/a/{x}", "/a/{y}"), ("/a/b", "/b/{x}"), ("/a/b", "/{x}"), ("/", "/{x}")]
        {
            assert!(!takes(one, other), "{one} and {other}");
        }
    }
}
