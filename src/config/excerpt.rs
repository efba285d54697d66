//! The line of a diagnostic with a marker below. Lines that may contain a secret are not shown.

use super::diagnostic::Diagnostic;
use super::file::Node;
use super::secrets::{self, mentions_secret};

/// The most characters of a line that are shown.
const SHOWN_CHARS_MAX: usize = 120;
/// Characters before the marked text that are shown of a longer line.
const BEFORE_CHARS: usize = 40;

/// A line or a part of it, and the marked range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    text: String,
    /// Characters before the marker.
    indent: usize,
    /// The width of the marker in characters.
    width: usize,
}

impl Excerpt {
    /// The excerpt with its line number, and a line of carets below.
    pub(super) fn render(&self, line: u64) -> String {
        let Self { text, indent, width } = self;
        format!("{line:>6} | {text}\n       | {:indent$}{:^<width$}", "", "")
    }
}

/// Adds an excerpt to every diagnostic. `root` is absent if the text is not YAML. Then it is unknown which lines
/// contain secrets, and no line from the first one that mentions a secret is shown.
pub(super) fn add(diagnostics: &mut [Diagnostic], text: &str, root: Option<&Node>) {
    if diagnostics.is_empty() {
        return;
    }
    let hidden = root.map(|root| secrets::lines(root, text)).unwrap_or_default();
    let is_open = |line: &&str| !mentions_secret(line);
    let lines: Vec<&str> = text.lines().collect();
    let shown_until = if root.is_some() { lines.len() } else { lines.iter().take_while(|line| is_open(line)).count() };
    for diagnostic in diagnostics {
        let line = usize::try_from(diagnostic.line).ok().filter(|line| (1..=shown_until).contains(line));
        let Some(line) = line.map(|line| lines[line - 1]).filter(is_open) else { continue };
        if !hidden.contains(&diagnostic.line) {
            diagnostic.excerpt = excerpt(line, diagnostic.column);
        }
    }
}

fn excerpt(line: &str, column: u64) -> Option<Excerpt> {
    // Control characters are replaced: a terminal would interpret them.
    let chars: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let at = usize::try_from(column).ok()?.checked_sub(1)?;
    let marked = chars.get(at..)?;
    let cut = if at < SHOWN_CHARS_MAX { 0 } else { at - BEFORE_CHARS };
    let text: String = chars[cut..].iter().take(SHOWN_CHARS_MAX).collect();
    let width = width(marked).clamp(1, SHOWN_CHARS_MAX - (at - cut));
    Some(Excerpt { text: text.trim_end().into(), indent: at - cut, width })
}

/// The width of the key or value at this position.
fn width(chars: &[char]) -> usize {
    match chars {
        [quote @ ('"' | '\''), rest @ ..] => rest.iter().position(|c| c == quote).map_or(1, |end| end + 2),
        _ => {
            let ends_at = |at: &usize| match chars[*at] {
                ',' | ']' | '}' => true,
                ':' => chars.get(at + 1).is_none_or(|next| *next == ' '),
                '#' => *at > 0 && chars[at - 1] == ' ',
                _ => false,
            };
            let end = (0..chars.len()).find(ends_at).unwrap_or(chars.len());
            chars[..end].iter().rposition(|c| *c != ' ').map_or(1, |last| last + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(text: &str, line: u64, column: u64) -> String {
        excerpt(text.lines().nth(line as usize - 1).unwrap(), column).unwrap().render(line)
    }

    #[test]
    fn the_marker_covers_the_key_or_the_value() {
        let text = "a: 1\nroutes: [{ heartbeet: 5s, path: '/x y' }] # why\n  key: a value # why\n\u{1b}[2J: 1";
        let line = "     2 | routes: [{ heartbeet: 5s, path: '/x y' }] # why\n       | ";
        assert_eq!(marked(text, 2, 12), format!("{line}           ^^^^^^^^^"));
        assert_eq!(marked(text, 2, 23), format!("{line}                      ^^"));
        assert_eq!(marked(text, 2, 33), format!("{line}                                ^^^^^^"));
        assert_eq!(marked(text, 2, 9), format!("{line}        ^^^^^^^^^^^^"));
        assert_eq!(marked(text, 3, 8), "     3 |   key: a value # why\n       |        ^^^^^^^");
        assert!(!marked(text, 4, 1).contains('\u{1b}'));
        assert_eq!(excerpt("a: 1", 9), None);
    }

    #[test]
    fn a_long_line_is_shown_around_the_marker() {
        let text = format!("{}end", "x".repeat(1000));
        let excerpt = excerpt(&text, 1001).unwrap();
        assert_eq!((excerpt.indent, excerpt.width, excerpt.text.len()), (BEFORE_CHARS, 3, BEFORE_CHARS + 3));
    }
}
