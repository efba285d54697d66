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

/// What a decoded byte means to some reading of a path; none of these to most of them.
const SLASH: u8 = 1;
const BACKSLASH: u8 = 1 << 1;
const ENCODED_SLASH: u8 = 1 << 2;
const ENCODED_BACKSLASH: u8 = 1 << 3;
const SEMICOLON: u8 = 1 << 4;
/// The byte did not stand in the path as it is.
const ENCODED: u8 = 1 << 5;
const SLASHES: u8 = SLASH | ENCODED_SLASH;
const BACKSLASHES: u8 = BACKSLASH | ENCODED_BACKSLASH;

/// A path without percent-encoding: decoded until nothing is left to decode (`%252e` is `.`), in one pass. A `%` without
/// two hexadecimal digits stays.
#[derive(Debug)]
pub(super) struct Decoded {
    bytes: Vec<u8>,
    /// For each byte what it means.
    signs: Vec<u8>,
}

impl Decoded {
    pub(super) fn of(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len());
        let mut signs = Vec::with_capacity(text.len());
        for byte in text.bytes() {
            bytes.push(byte);
            signs.push(sign(byte, false));
            // What was just completed may complete an escape in turn: "%25" + "2e".
            while let [.., b'%', high, low] = *bytes
                && let (Some(high), Some(low)) = (hex_digit(high), hex_digit(low))
            {
                let byte = high << 4 | low;
                bytes.truncate(bytes.len() - 3);
                bytes.push(byte);
                signs.truncate(signs.len() - 3);
                signs.push(sign(byte, true));
            }
        }
        Self { bytes, signs }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn contains(&self, byte: u8) -> bool {
        memchr::memchr(byte, &self.bytes).is_some()
    }
}

fn sign(byte: u8, is_encoded: bool) -> u8 {
    match (byte, is_encoded) {
        (b'/', false) => SLASH,
        (b'/', true) => ENCODED_SLASH | ENCODED,
        (b'\\', false) => BACKSLASH,
        (b'\\', true) => ENCODED_BACKSLASH | ENCODED,
        (b';', false) => SEMICOLON,
        (b';', true) => SEMICOLON | ENCODED,
        (_, false) => 0,
        (_, true) => ENCODED,
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
        let structural = path.signs.iter().any(|sign| sign & ENCODED_SLASH != 0)
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
    /// `kept` is emptied first: readings of one path share its memory, so that a segment costs no allocation. One pass
    /// over the path.
    pub(super) fn segments(self, path: &Decoded, kept: &mut Vec<Range<usize>>) {
        kept.clear();
        let separators = self.separators();
        let mut start = usize::from(path.signs.first().is_some_and(|sign| sign & separators & SLASHES != 0));
        let mut cut = None;
        for (at, sign) in path.signs.iter().enumerate().skip(start) {
            if sign & separators != 0 {
                self.keep(path, start..at, cut.take(), kept);
                start = at + 1;
            } else if sign & SEMICOLON != 0 && self.cut_parameters && cut.is_none() {
                cut = Some(at);
            }
        }
        self.keep(path, start..path.bytes.len(), cut, kept);
        kept.retain(|segment| !segment.is_empty());
    }

    /// Resolves what lies between two separators, and has parameters from `cut` on.
    fn keep(self, path: &Decoded, whole: Range<usize>, cut: Option<usize>, kept: &mut Vec<Range<usize>>) {
        let segment = whole.start..cut.unwrap_or(whole.end);
        // Raw dot segments have neither encoding nor parameters.
        let (compared, is_encoded) = match self.separators {
            Separators::Raw => (whole.clone(), path.signs[whole].iter().take(2).any(|sign| sign & ENCODED != 0)),
            Separators::Decoded | Separators::RawButDots => (segment.clone(), false),
        };
        match &path.bytes[compared] {
            b"." if !is_encoded => {}
            b".." if !is_encoded => drop(kept.pop()),
            b"" if self.collapse_first => {}
            _ => kept.push(segment),
        }
    }

    /// The signs of what separates segments in this reading.
    fn separators(self) -> u8 {
        let slashes = if matches!(self.separators, Separators::Decoded) { SLASHES } else { SLASH };
        let backslashes = if matches!(self.separators, Separators::Decoded) { BACKSLASHES } else { BACKSLASH };
        slashes | if self.backslash { backslashes } else { 0 }
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

    /// A reading is one pass over the decoded path. There are a bounded number, and they share one list of segments.
    #[test]
    fn normalizing_is_linear_in_the_length_of_the_path() {
        for unit in ["/;\\", "/%2e%2e;\\%2f", "/..%5c%2f", "/;a%2f", "%252f/", "/./%2e;"] {
            let path = Decoded::of(&unit.repeat(1000));
            assert_eq!(path.signs.len(), path.bytes.len());
            let mut kept = Vec::new();
            let readings: Vec<Reading> = Reading::all(&path).collect();
            assert!(readings.len() <= READINGS_MAX, "{unit}: {}", readings.len());
            readings.iter().for_each(|reading| reading.segments(&path, &mut kept));
            assert!(kept.capacity() <= 2 * path.bytes.len(), "{unit}: {}", kept.capacity());
        }
    }
}
