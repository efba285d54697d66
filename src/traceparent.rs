//! The position of a span in its trace, in the format of W3C Trace Context: `00-<trace>-<span>-<flags>`, in hexadecimal
//! digits.
//!
//! Data only: `traces` begins and exports spans.

use std::fmt;
use std::str::FromStr;

/// The length of a `traceparent` of version 00; later versions may append fields after a `-`.
const LEN: usize = 55;
/// The `trace-flags` bit of sampled spans.
const SAMPLED: u8 = 1;

/// A span, and whether it is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Never zero.
    pub trace: [u8; 16],
    /// Never zero.
    pub span: [u8; 8],
    pub sampled: bool,
}

/// A text is not a `traceparent`; a new trace begins then (W3C Trace Context section 2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a `traceparent` as W3C Trace Context has it")]
pub struct BadTraceParent;

impl FromStr for TraceParent {
    type Err = BadTraceParent;

    fn from_str(text: &str) -> Result<Self, BadTraceParent> {
        let (head, rest) = text.as_bytes().split_at_checked(LEN).ok_or(BadTraceParent)?;
        let dashes = [2, 35, 52].iter().all(|at| head[*at] == b'-');
        let [version] = bytes(&head[..2]).ok_or(BadTraceParent)?;
        let is_long_enough = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let trace = bytes(&head[3..35]).filter(|id| *id != [0; 16]);
        let span = bytes(&head[36..52]).filter(|id| *id != [0; 8]);
        match (trace, span, bytes(&head[53..])) {
            (Some(trace), Some(span), Some([flags])) if dashes && is_long_enough => {
                Ok(Self { trace, span, sampled: flags & SAMPLED != 0 })
            }
            _ => Err(BadTraceParent),
        }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", u8::from(self.sampled) * SAMPLED)
    }
}

/// Lower-case digits only (section 2.2.1).
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_specification_round_trips() {
        let parent: TraceParent = EXAMPLE.parse().unwrap();
        assert_eq!((parent.trace[0], parent.span[1], parent.sampled), (0x4b, 0xf0, true));
        assert_eq!(parent.to_string(), EXAMPLE);
        let unsampled: TraceParent = EXAMPLE.replace("-01", "-02").parse().unwrap();
        assert_eq!((unsampled.sampled, unsampled.to_string()), (false, EXAMPLE.replace("-01", "-00")));
        let later: TraceParent = format!("cc{}-more", &EXAMPLE[2..]).parse().unwrap();
        assert_eq!(later, parent);
    }

    #[test]
    fn invalid_traceparents_are_rejected() {
        let zeros = |from: usize, to: usize| format!("{}{}{}", &EXAMPLE[..from], "0".repeat(to - from), &EXAMPLE[to..]);
        for wrong in [
            String::new(),
            EXAMPLE[..54].into(),
            format!("{EXAMPLE}-more"),
            format!("ff{}", &EXAMPLE[2..]),
            format!("cc{}more", &EXAMPLE[2..]),
            EXAMPLE.to_uppercase(),
            EXAMPLE.replace('-', "_"),
            EXAMPLE.replace("4b", "+b"),
            zeros(3, 35),
            zeros(36, 52),
            "é".repeat(28),
        ] {
            assert_eq!(wrong.parse::<TraceParent>(), Err(BadTraceParent), "{wrong}");
        }
    }
}
