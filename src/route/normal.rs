//! What else a path may mean: the readings that servers and proxies on the way give to one spelling.
//!
//! Servers disagree on which of `%2F`, `%2e`, `\`, `//` and `;x` mean something, and in which order they are resolved,
//! so there is no single normal form to compare with. This file lists the segments of each reading; the table asks
//! whether any of them reaches a stream route. It rewrites nothing: a path passed on stays as it came.

use std::ops::Range;

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

/// The most ways there are to read one path; see [`Reading::all`].
#[cfg(test)]
const READINGS_MAX: usize = 24;

/// A path without percent-encoding: decoded until nothing is left to decode (`%252e` is `.`), in one pass. A `%` without
/// two hexadecimal digits stays.
#[derive(Debug)]
pub(super) struct Decoded {
    bytes: Vec<u8>,
    /// For each byte whether it stands in the path as it came.
    is_literal: Vec<bool>,
}

impl Decoded {
    pub(super) fn of(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len());
        let mut is_literal = Vec::with_capacity(text.len());
        for byte in text.bytes() {
            bytes.push(byte);
            is_literal.push(true);
            // What was just completed may complete an escape in turn: "%25" + "2e".
            while let [.., b'%', high, low] = *bytes
                && let (Some(high), Some(low)) = (hex_digit(high), hex_digit(low))
            {
                bytes.truncate(bytes.len() - 3);
                bytes.push(high << 4 | low);
                is_literal.truncate(is_literal.len() - 3);
                is_literal.push(false);
            }
        }
        Self { bytes, is_literal }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn contains(&self, byte: u8) -> bool {
        memchr::memchr(byte, &self.bytes).is_some()
    }
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
    pub(super) fn all(path: &Decoded) -> impl Iterator<Item = Self> + use<> {
        let bytes = path.bytes();
        let structural = bytes.iter().zip(&path.is_literal).any(|(b, is_literal)| *b == b'/' && !is_literal)
            || path.contains(b'\\')
            || bytes.split(|&b| b == b'/').skip(1).any(|segment| matches!(segment, b"" | b"." | b".."))
            || bytes.first() != Some(&b'/');
        let either = |open: bool| if open { &[false, true][..] } else { &[false][..] };

        // With `;`, cutting may lay a dot segment bare: then everything counts.
        let cuts = path.contains(b';');
        let separators = if structural || cuts {
            &[Separators::Decoded, Separators::RawButDots, Separators::Raw][..]
        } else {
            &[Separators::Decoded]
        };
        let backslashes = either(path.contains(b'\\'));
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

    /// Puts the segments of the path in this reading into `kept`, as ranges of its decoded bytes, none of them empty.
    /// `kept` is emptied first: readings of one path share its memory, so that a segment costs no allocation.
    pub(super) fn segments(self, path: &Decoded, kept: &mut Vec<Range<usize>>) {
        kept.clear();
        for whole in self.pieces(path) {
            let segment = self.without_parameters(path, whole.clone());
            // Raw dot segments have neither encoding nor parameters.
            let (compared, is_encoded) = match self.separators {
                Separators::Raw => (&path.bytes[whole.clone()], path.is_literal[whole].contains(&false)),
                Separators::Decoded | Separators::RawButDots => (&path.bytes[segment.clone()], false),
            };
            match compared {
                b"." if !is_encoded => {}
                b".." if !is_encoded => drop(kept.pop()),
                b"" if self.collapse_first => {}
                _ => kept.push(segment),
            }
        }
        kept.retain(|segment| !segment.is_empty());
    }

    /// What lies between the separators of this reading, a leading `/` left out.
    fn pieces(self, path: &Decoded) -> impl Iterator<Item = Range<usize>> + use<'_> {
        let counts = move |at: usize| {
            let is_encoded = !path.is_literal[at];
            let is_open = !is_encoded || matches!(self.separators, Separators::Decoded);
            is_open && (self.backslash || path.bytes[at] == b'/')
        };
        let mut start = usize::from(path.bytes.first() == Some(&b'/') && counts(0));
        let separators = memchr::memchr2_iter(b'/', b'\\', &path.bytes[start..]);
        let first = start;
        let ends = separators.map(move |at| first + at).filter(move |at| counts(*at)).chain([path.bytes.len()]);
        ends.map(move |end| std::mem::replace(&mut start, end + 1)..end)
    }

    fn without_parameters(self, path: &Decoded, segment: Range<usize>) -> Range<usize> {
        let end = if self.cut_parameters { memchr::memchr(b';', &path.bytes[segment.clone()]) } else { None };
        segment.start..end.map_or(segment.end, |end| segment.start + end)
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
            assert_eq!(Decoded::of(text).bytes(), expected.as_bytes(), "{text}");
        }
        assert_eq!(Decoded::of(&format!("%{}", "25".repeat(4000))).bytes(), b"%");
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

    /// What one path costs, counted in pieces looked at: all readings of twice the path look at twice as many.
    #[test]
    fn normalizing_is_linear_in_the_length_of_the_path() {
        for unit in ["/;\\", "/%2e%2e;\\", "/..%5c%2f", "/;a%2f", "%252f/"] {
            let looked_at = |times: usize| {
                let path = Decoded::of(&unit.repeat(times));
                let readings: Vec<Reading> = Reading::all(&path).collect();
                assert!(readings.len() <= READINGS_MAX);
                let mut kept = Vec::new();
                readings.iter().for_each(|reading| reading.segments(&path, &mut kept));
                assert!(kept.capacity() <= 2 * path.bytes.len(), "readings share one list");
                readings.iter().map(|reading| reading.pieces(&path).count()).sum::<usize>()
            };
            let (short, long) = (looked_at(500), looked_at(1000));
            assert!(long <= 2 * short, "{unit}: {short}, then {long}");
            assert!(long <= READINGS_MAX * (1 + 1000 * unit.len()), "{unit}: {long}");
        }
    }
}
