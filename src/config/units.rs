//! Durations and sizes in the configuration: `15s`, `250ms`, `64KiB`, `16MB`. One number with one unit, without
//! fractions.

use std::time::Duration;

/// The units of durations in milliseconds, the largest first.
const DURATION_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The units of sizes in bytes, the largest binary one first.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

/// Parses `250ms`, `15s`, `2m`, `1h`. A number needs a unit, even 0.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &DURATION_UNITS).map(Duration::from_millis)
}

/// Parses `64KiB`, `1MiB`, `16MB`, or a plain number of bytes. Units are case-sensitive.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZE_UNITS).or_else(|| digits(text))
}

/// Formats a duration.
pub(crate) fn write_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 { "0s".into() } else { write(ms, &DURATION_UNITS) }
}

/// Formats a size.
pub(super) fn write_size(bytes: u64) -> String {
    if bytes == 0 { "0B".into() } else { write(bytes, &SIZE_UNITS[..4]) }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    digits(number)?.checked_mul(*factor)
}

/// `u64::from_str` would also accept `+`.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn write(value: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .find(|(_, factor)| value.is_multiple_of(*factor))
        .map_or_else(|| value.to_string(), |(unit, factor)| format!("{}{unit}", value / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        let good = [("15s", 15_000), ("250ms", 250), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0), ("5 s", 5_000)];
        for (text, ms) in good {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "15", "s", "1.5s", "-1s", "+1s", "15S", "15sec", "1m30s", "1d", "99999999999999999h", "١s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_have_a_unit_or_are_bytes() {
        let good =
            [("64KiB", 65_536), ("1MiB", 1 << 20), ("16MB", 16_000_000), ("512", 512), ("7B", 7), ("1GiB", 1 << 30)];
        for (text, bytes) in good {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "KiB", "1k", "1kib", "1.5MiB", "-1", "+1", "1 2", "99999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for ms in [0, 1, 1500, 15_000, 600_000, 3_600_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&write_duration(duration)), Some(duration));
        }
        for bytes in [0, 1, 1000, 1024, 64 << 10, 1 << 30] {
            assert_eq!(parse_size(&write_size(bytes)), Some(bytes));
        }
        assert_eq!(
            (write_duration(Duration::from_secs(600)).as_str(), write_size(16 << 20).as_str()),
            ("10m", "16MiB")
        );
    }
}
