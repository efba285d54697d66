//! What else a path may mean: the readings that servers and proxies on the way give to one spelling.
//!
//! Servers disagree on which of `%2F`, `%2e`, `\`, `//` and `;x` mean something, and in which order they are resolved,
//! so there is no single normal form to compare with. This file lists the segments of each reading; the table asks
//! whether any of them reaches a stream route. It rewrites nothing: a path passed on stays as it came.

use std::borrow::Cow;

/// Whether a path has one reading only: none of the characters that normalization acts on, no empty segment, none
/// that begins with a dot. Most paths are, and cost one pass.
pub(super) fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    let meaningful = |&b: &u8| matches!(b, b'%' | b'\\' | b';') || b.is_ascii_control();
    let odd_pair = |pair: &[u8]| pair[0] == b'/' && matches!(pair[1], b'/' | b'.');
    bytes.first() == Some(&b'/')
        && !bytes.iter().any(meaningful)
        && !bytes.windows(2).any(odd_pair)
        && (bytes.len() == 1 || bytes.last() != Some(&b'/'))
}

/// Decodes percent-encoding until nothing is left to decode (`%252e` is `.`), in one pass.
///
/// A `%` without two hexadecimal digits stays.
pub(super) fn decode_fully(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        out.push(byte);
        // What was just completed may complete an escape in turn: "%25" + "2e".
        while let [.., b'%', high, low] = *out
            && let (Some(high), Some(low)) = (hex_digit(high), hex_digit(low))
        {
            out.truncate(out.len() - 3);
            out.push(high << 4 | low);
        }
    }
    out
}

/// One way to read a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    separators: Separators,
    /// `\` separates as `/` does (IIS, WHATWG URLs).
    backslash: bool,
    /// `//` is collapsed before dot segments are resolved (nginx) rather than after (RFC 3986 section 5.2.4).
    collapse_first: bool,
    /// `;...` is cut off every segment (servlet containers).
    cut_parameters: bool,
}

/// Which separators and dot segments count.
#[derive(Clone, Copy, Debug)]
enum Separators {
    /// Those that are there after decoding.
    Decoded,
    /// Raw separators, but encoded dot segments as well (RFC 3986 section 6.2.2).
    RawButDots,
    /// Raw ones only.
    Raw,
}

impl Reading {
    /// Every way to read this path. Where nothing but plain characters is encoded, all of them agree.
    pub(super) fn all(path: &str) -> impl Iterator<Item = Self> {
        let decoded = decode_fully(path.as_bytes());
        let slashes = |text: &[u8]| text.iter().filter(|&&b| b == b'/').count();
        let contains = |byte: u8| decoded.contains(&byte);
        let structural = slashes(path.as_bytes()) != slashes(&decoded)
            || contains(b'\\')
            || decoded.split(|&b| b == b'/').skip(1).any(|segment| matches!(segment, b"" | b"." | b".."))
            || decoded.first() != Some(&b'/');
        let either = |open: bool| if open { &[false, true][..] } else { &[false][..] };

        // With `;`, cutting may lay a dot segment bare: then everything counts.
        let cuts = contains(b';');
        let separators = if structural || cuts {
            &[Separators::Decoded, Separators::RawButDots, Separators::Raw][..]
        } else {
            &[Separators::Decoded]
        };
        let backslashes = either(contains(b'\\'));
        let collapses = either(structural || cuts);
        separators.iter().flat_map(move |&separators| {
            backslashes.iter().flat_map(move |&backslash| {
                collapses.iter().flat_map(move |&collapse_first| {
                    either(cuts).iter().map(move |&cut_parameters| Self {
                        separators,
                        backslash,
                        collapse_first,
                        cut_parameters,
                    })
                })
            })
        })
    }

    /// The segments of the path in this reading, fully decoded, none of them empty.
    pub(super) fn segments(self, path: &str) -> Vec<Vec<u8>> {
        let text = match self.separators {
            Separators::Decoded => Cow::Owned(decode_fully(path.as_bytes())),
            Separators::RawButDots | Separators::Raw => Cow::Borrowed(path.as_bytes()),
        };
        let rest = text.strip_prefix(b"/").unwrap_or(&text);
        let mut stack: Vec<Vec<u8>> = Vec::new();
        for raw in rest.split(|&b| b == b'/' || (self.backslash && b == b'\\')) {
            let mut segment = decode_fully(raw);
            if self.cut_parameters
                && let Some(end) = segment.iter().position(|&b| b == b';')
            {
                segment.truncate(end);
            }
            let dots = if matches!(self.separators, Separators::Raw) { raw } else { &segment[..] };
            match dots {
                b"." => {}
                b".." => drop(stack.pop()),
                b"" if self.collapse_first => {}
                _ => stack.push(segment),
            }
        }
        stack.retain(|segment| !segment.is_empty());
        stack
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_to_the_end_in_one_pass() {
        let cases =
            [("%2e", "."), ("%252e", "."), ("%2%35%32e", "."), ("%25", "%"), ("%zz%2", "%zz%2"), ("a%20b", "a b")];
        for (text, expected) in cases {
            assert_eq!(decode_fully(text.as_bytes()), expected.as_bytes(), "{text}");
        }
        assert_eq!(decode_fully(format!("%{}", "25".repeat(4000)).as_bytes()), b"%");
    }

    #[test]
    fn most_paths_are_plain() {
        for path in ["/", "/events", "/orders/a-b_c~1/events", "/a.b", "/x:y@z"] {
            assert!(is_plain(path), "{path}");
        }
        for path in ["", "events", "//", "/a/", "/./a", "/a/..", "/a%20b", "/a\\b", "/a;b", "/a\0", "/\x7f"] {
            assert!(!is_plain(path), "{path}");
        }
    }
}
