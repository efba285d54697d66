//! Translates the paths of an Ingress to path patterns, and interprets their last word.
//!
//! Regular expressions are translated only if they are simple: a whole segment that matches anything becomes a
//! parameter. The guesses here depend on words alone; `guess` considers annotations.

use crate::route::Pattern;

/// Last words of paths that indicate a stream, and its transport.
const STREAM_WORDS: [(&str, &str); 12] = [
    ("stream", "auto"),
    ("streams", "auto"),
    ("ndjson", "ndjson"),
    ("events", "sse"),
    ("event-stream", "sse"),
    ("eventsource", "sse"),
    ("sse", "sse"),
    ("ws", "ws"),
    ("wss", "ws"),
    ("websocket", "ws"),
    ("websockets", "ws"),
    ("socket", "ws"),
];
/// Characters that indicate a regular expression where no annotation does.
const REGEX_MARKS: [char; 8] = ['^', '$', '(', ')', '[', ']', '|', '\\'];
/// Suffixes of expressions that mean "and everything below".
const OPEN_ENDS: [&str; 12] =
    ["(/|$)(.*)", "(/|$).*", "(/.*)?", "/?(.*)", "/(.*)", "/(.+)", "/?.*", "/.*", "/.+", "(.*)", ".*", "/?"];
/// Expressions of a whole segment that become a parameter, without parentheses and quantifier.
const CLASSES: [&str; 6] = [".", "\\d", "\\w", "\\S", "[^/]", "[^\\/]"];

/// A path as a route's pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Translated {
    /// For example `/orders/{id}/events`.
    pub(super) pattern: String,
    /// The pattern matches less than the Ingress: paths below it are left out.
    pub(super) is_open: bool,
}

impl Translated {
    /// The transport that the last word indicates.
    pub(super) fn transport(&self) -> Option<&'static str> {
        let last = self.pattern.rsplit('/').next()?.to_ascii_lowercase();
        STREAM_WORDS.iter().find(|(word, _)| *word == last).map(|(_, transport)| *transport)
    }

    /// A name for the stream: the path's words, without a last one that only indicates a transport.
    pub(super) fn name(&self) -> Option<String> {
        let mut words: Vec<_> =
            self.pattern.split('/').filter(|word| !word.is_empty() && !word.starts_with('{')).collect();
        if self.transport().is_some() {
            words.pop();
        }
        let is_version = |word: &&str| word.strip_prefix('v').is_some_and(|rest| rest.parse::<u8>().is_ok());
        words.retain(|word| *word != "api" && !is_version(word));
        let name = words.join("-");
        (!name.is_empty()).then_some(name)
    }

    pub(super) fn is_root(&self) -> bool {
        self.pattern == "/"
    }
}

/// Whether a path is a regular expression, although no annotation says so.
pub(super) fn looks_like_regex(path: &str) -> bool {
    path.contains(REGEX_MARKS)
}

/// Translates a literal path. `is_prefix`: it also matches everything below.
pub(super) fn literal(path: &str, is_prefix: bool) -> Result<Translated, String> {
    // GKE and others read this as "everything below"; ingress-nginx reads it literally, which is not intended.
    let (path, is_starred) = path.strip_suffix("/*").map_or((path, false), |path| (path, true));
    checked(path, is_prefix || is_starred)
}

/// Translates a regular expression, which nginx matches as a prefix unless it ends in `$`.
pub(super) fn expression(expression: &str) -> Result<Translated, String> {
    let text = expression.strip_prefix('^').unwrap_or(expression);
    let (text, mut is_open) = text.strip_suffix('$').map_or((text, true), |text| (text, false));
    let text = match OPEN_ENDS.iter().find_map(|end| text.strip_suffix(end)) {
        // The open end must be a whole segment: `/orders/[^/]*` has none.
        Some(rest) if !rest.ends_with([']', '\\']) => {
            is_open = true;
            rest
        }
        _ => text,
    };
    let mut parameters = 0;
    let mut segments = Vec::new();
    for segment in split(text).into_iter().filter(|segment| !segment.is_empty()) {
        if let Some(literal) = unescaped(segment) {
            segments.push(literal);
        } else if is_anything(segment) {
            parameters += 1;
            segments.push(if parameters == 1 { "{id}".into() } else { format!("{{id{parameters}}}") });
        } else {
            return Err(format!("`{segment}` of the regular expression is not a whole segment"));
        }
    }
    checked(&format!("/{}", segments.join("/")), is_open)
}

/// The path as the service and sidestream receive it: the target with the groups inserted. The result is again a
/// regular expression.
pub(super) fn rewritten(expression: &str, target: &str) -> String {
    let groups = groups(expression);
    let mut path = String::new();
    let mut rest = target;
    while let Some((before, after)) = rest.split_once('$') {
        path += before;
        let digit = after.chars().next().and_then(|c| c.to_digit(10)).filter(|digit| *digit > 0);
        let Some(digit) = digit else {
            path += "\\$";
            rest = after;
            continue;
        };
        path += groups.get(digit as usize - 1).copied().unwrap_or_default();
        rest = &after[1..];
    }
    path + rest
}

/// The content of each pair of parentheses, in the order in which they open.
fn groups(expression: &str) -> Vec<&str> {
    let mut found: Vec<(usize, &str)> = Vec::new();
    let mut open = Vec::new();
    let mut is_escaped = false;
    for (at, c) in expression.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '(' => open.push(at),
            ')' => {
                if let Some(start) = open.pop() {
                    found.push((start, &expression[start + 1..at]));
                }
            }
            _ => {}
        }
    }
    found.sort_unstable();
    found.into_iter().map(|(_, group)| group).filter(|group| !group.starts_with("?:")).collect()
}

/// Splits at each `/` outside of brackets.
fn split(expression: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let is_border = |c: char| {
        depth += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
        c == '/' && depth == 0
    };
    expression.split(is_border).collect()
}

/// A segment that matches only itself.
fn unescaped(segment: &str) -> Option<String> {
    let mut literal = String::new();
    let mut chars = segment.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => literal.push(chars.next().filter(|c| !c.is_ascii_alphanumeric())?),
            // An unescaped dot is almost always meant literally.
            c if REGEX_MARKS.contains(&c) || matches!(c, '*' | '+' | '?' | '{' | '}') => return None,
            c => literal.push(c),
        }
    }
    Some(literal)
}

/// Whether a segment matches anything, or any characters of a class.
fn is_anything(segment: &str) -> bool {
    let inner = segment.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(segment);
    let inner = inner.strip_prefix("?:").unwrap_or(inner);
    let class = match inner.strip_suffix('}').and_then(|rest| rest.rsplit_once('{')) {
        Some((class, _)) => class,
        None => inner.trim_end_matches('?').strip_suffix(['*', '+']).unwrap_or_default(),
    };
    let is_set = class.starts_with('[') && class.find(']') == Some(class.len() - 1);
    CLASSES.contains(&class) || is_set
}

fn checked(path: &str, is_open: bool) -> Result<Translated, String> {
    let trimmed = path.trim_end_matches('/');
    let pattern = if trimmed.is_empty() { "/" } else { trimmed };
    Pattern::parse(pattern).map_err(|reason| format!("`{pattern}` is not a valid path of a route: {reason}"))?;
    Ok(Translated { pattern: pattern.into(), is_open })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_expressions_become_patterns() {
        let cases = [
            ("/orders/events", "/orders/events", true),
            ("^/orders/events$", "/orders/events", false),
            ("/orders/([^/]+)/events", "/orders/{id}/events", true),
            ("/t/[0-9]+/o/(\\d+)/sse$", "/t/{id}/o/{id2}/sse", false),
            ("/v1/([A-Za-z0-9-]{36})/stream", "/v1/{id}/stream", true),
            ("/events(/|$)(.*)", "/events", true),
            ("/ws/?(.*)", "/ws", true),
            ("/ws/.*", "/ws", true),
            ("/a\\.b/events/?$", "/a.b/events", true),
            ("/(.*)", "/", true),
            ("/", "/", true),
        ];
        for (written, pattern, is_open) in cases {
            assert_eq!(expression(written), Ok(Translated { pattern: pattern.into(), is_open }), "{written}");
        }
        for written in ["/(events|stream)", "/x[0-9]/events", "/(a/b)?/events", "/a%20b"] {
            assert!(expression(written).is_err(), "{written}: {:?}", expression(written));
        }
    }

    #[test]
    fn the_last_word_indicates_a_stream() {
        let transport = |path: &str| literal(path, false).unwrap().transport();
        let cases =
            [("/a/events", Some("sse")), ("/a/Stream/", Some("auto")), ("/ws/*", Some("ws")), ("/eventsx", None)];
        for (path, expected) in cases {
            assert_eq!(transport(path), expected, "{path}");
        }
        assert_eq!(transport("/"), None);
    }

    #[test]
    fn streams_are_named_after_the_rest_of_the_path() {
        let name = |path: &str| literal(path, false).unwrap().name();
        assert_eq!(name("/api/v1/orders/{id}/events"), Some("orders".into()));
        assert_eq!((name("/events"), name("/api/notifications")), (None, Some("notifications".into())));
    }

    #[test]
    fn a_rewritten_path_is_what_the_service_sees() {
        let cases = [
            ("/api(/|$)(.*)", "/$2", "/.*"),
            ("/api/(orders/events)$", "/$1", "/orders/events"),
            ("/x", "/", "/"),
            ("/x", "/$9/$y", "//\\$y"),
        ];
        for (written, target, expected) in cases {
            assert_eq!(rewritten(written, target), expected, "{written}");
        }
        assert_eq!(groups("/(?:x)/((a)/(b))"), ["(a)/(b)", "a", "b"]);
    }
}
