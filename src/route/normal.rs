//! The interpretations of a path by servers and proxies.
//!
//! Servers disagree on whether `%2F`, `%2e`, `\`, `//` and `;x` are significant, and on the order of resolving them, so
//! there is no single normal form. This module lists the segments of each reading; the table checks whether any of them
//! reaches a stream route. It changes nothing: a forwarded path stays as received.

use std::ops::Range;

/// Whether all readings of a path agree: no character that normalization affects, no empty segment, none that begins
/// with a dot. Most paths are plain and cost one pass.
pub(super) fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    let meaningful = |&b: &u8| matches!(b, b'%' | b'\\' | b';') || b.is_ascii_control();
    let odd_pair = |pair: &[u8]| pair[0] == b'/' && matches!(pair[1], b'/' | b'.');
    bytes.first() == Some(&b'/')
        && !bytes.iter().any(meaningful)
        && !bytes.windows(2).any(odd_pair)
        && (bytes.len() == 1 || bytes.last() != Some(&b'/'))
}

/// The most readings of a path; see [`Reading::all`].
#[cfg(test)]
const READINGS_MAX: usize = 24;

/// The significance of a decoded byte in some readings; most bytes have none.
const SLASH: u8 = 1;
const BACKSLASH: u8 = 1 << 1;
const ENCODED_SLASH: u8 = 1 << 2;
const ENCODED_BACKSLASH: u8 = 1 << 3;
const SEMICOLON: u8 = 1 << 4;
/// The byte was percent-encoded in the path.
const ENCODED: u8 = 1 << 5;
const SLASHES: u8 = SLASH | ENCODED_SLASH;
const BACKSLASHES: u8 = BACKSLASH | ENCODED_BACKSLASH;

/// A path with percent-encoding removed until none is left (`%252e` is `.`), in one pass. A `%` without two hexadecimal
/// digits stays.
#[derive(Debug)]
pub(super) struct Decoded {
    bytes: Vec<u8>,
    /// The significance of each byte.
    signs: Vec<u8>,
}

impl Decoded {
    pub(super) fn of(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len());
        let mut signs = Vec::with_capacity(text.len());
        for byte in text.bytes() {
            bytes.push(byte);
            signs.push(sign(byte, false));
            // The decoded byte may complete another escape: "%25" + "2e".
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

/// One interpretation of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    separators: Separators,
    /// `\` is a separator, as `/` is (IIS, WHATWG URLs).
    backslash: bool,
    /// `//` is collapsed before dot segments are resolved (nginx) instead of afterwards (RFC 3986 section 5.2.4).
    collapse_first: bool,
    /// `;...` is removed from every segment (servlet containers).
    cut_parameters: bool,
}

/// Which separators and dot segments are recognized.
#[derive(Clone, Copy, Debug)]
enum Separators {
    /// Decoded ones.
    Decoded,
    /// Raw separators, but also encoded dot segments (RFC 3986 section 6.2.2).
    RawButDots,
    /// Raw ones only.
    Raw,
}

impl Reading {
    /// All readings of this path. If only insignificant bytes are encoded, they agree.
    pub(super) fn all(path: &Decoded) -> impl Iterator<Item = Self> + use<> {
        let bytes = path.bytes();
        let structural = path.signs.iter().any(|sign| sign & ENCODED_SLASH != 0)
            || path.contains(b'\\')
            || bytes.split(|&b| b == b'/').skip(1).any(|segment| matches!(segment, b"" | b"." | b".."))
            || bytes.first() != Some(&b'/');
        let either = |open: bool| if open { &[false, true][..] } else { &[false][..] };

        // Removing parameters may expose a dot segment: then every combination matters.
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

    /// Writes the segments of the path in this reading to `kept`, as non-empty ranges of its decoded bytes. `kept` is
    /// cleared first: the readings of a path share its memory, so that a segment costs no allocation. One pass over the
    /// path.
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

    /// Handles the text between two separators, with parameters from `cut` on.
    fn keep(self, path: &Decoded, whole: Range<usize>, cut: Option<usize>, kept: &mut Vec<Range<usize>>) {
        let segment = whole.start..cut.unwrap_or(whole.end);
        // A raw dot segment has no encoding and no parameters.
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

    /// The significance bits of the separators in this reading.
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
