//! The keys that ingress-nginx's settings map to, and the conversion of their values.
//!
//! The ranges are those of `config`; values outside are clamped, which the report states. `draft` resolves conflicts
//! between values.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::write_duration;

/// nginx's units of time, in milliseconds; a number without a unit is in seconds.
const UNITS: [(&str, u64); 8] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
    ("M", 2_592_000_000),
    ("y", 31_536_000_000),
];
const SECOND: u64 = 1_000;
const DAY: u64 = 24 * 3_600 * SECOND;
/// Other proxies on the path often allow 60 s of silence; a third of that leaves a margin.
const HEARTBEAT_MS: RangeInclusive<u64> = SECOND..=20 * SECOND;

/// A key that takes a value of ingress-nginx, in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Setting {
    ConnectTimeout,
    ReadTimeout,
    WriteTimeout,
    Keepalive,
    Pool,
    Retries,
    HeaderTimeout,
    IdleTimeout,
    DrainBudget,
}

/// The converted value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Derived {
    /// Milliseconds, or a count.
    pub(super) value: u64,
    /// How it was derived, if it differs from the written value.
    pub(super) reason: Option<String>,
}

impl Setting {
    /// The key with its section.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::ConnectTimeout => "upstream.connect_timeout",
            Self::ReadTimeout => "upstream.read_timeout",
            Self::WriteTimeout => "upstream.write_timeout",
            Self::Keepalive => "upstream.keepalive",
            Self::Pool => "upstream.pool",
            Self::Retries => "upstream.retries",
            Self::HeaderTimeout => "limits.header_timeout",
            Self::IdleTimeout => "limits.idle_timeout",
            Self::DrainBudget => "drain.budget",
        }
    }

    /// Formats a value for the configuration.
    pub(super) fn write(self, value: u64) -> String {
        if self.is_count() { value.to_string() } else { write_duration(Duration::from_millis(value)) }
    }

    /// Converts a value. The error says what the value is not.
    pub(super) fn derive(self, written: &str) -> Result<Derived, &'static str> {
        match self {
            Self::Retries => retries(written),
            Self::Pool => match count(written)? {
                0 => Err("0 keeps no connections, which `upstream.pool` can't"),
                connections => Ok(self.clamp(connections)),
            },
            _ => match nginx_time(written).ok_or("not a time as nginx writes it, such as `60` or `1h`")? {
                0 => Err("0 switches something off that sidestream always does"),
                ms => Ok(self.clamp(ms)),
            },
        }
    }

    fn clamp(self, value: u64) -> Derived {
        let range = self.range();
        let clamped = value.clamp(*range.start(), *range.end());
        let reason = (clamped != value).then(|| {
            let [low, high] = [*range.start(), *range.end()].map(|limit| self.write(limit));
            format!("it may be {low} to {high}")
        });
        Derived { value: clamped, reason }
    }

    fn is_count(self) -> bool {
        matches!(self, Self::Pool | Self::Retries)
    }

    fn range(self) -> RangeInclusive<u64> {
        match self {
            Self::ConnectTimeout | Self::ReadTimeout | Self::WriteTimeout | Self::Keepalive => 1..=DAY,
            Self::HeaderTimeout | Self::IdleTimeout => SECOND..=DAY,
            Self::DrainBudget => 100..=600 * SECOND,
            Self::Pool => 1..=65_536,
            Self::Retries => 0..=10,
        }
    }
}

/// The heartbeat interval for a proxy that closes connections after this much silence.
pub(super) fn heartbeat(read_timeout_ms: u64) -> u64 {
    let third = read_timeout_ms / 3 / SECOND * SECOND;
    third.clamp(*HEARTBEAT_MS.start(), *HEARTBEAT_MS.end())
}

/// Converts `proxy_next_upstream_tries`, where 0 means unlimited, or the conditions of `proxy_next_upstream`.
fn retries(written: &str) -> Result<Derived, &'static str> {
    if written.trim() == "off" {
        return Ok(Derived { value: 0, reason: None });
    }
    match count(written)? {
        0 => Ok(Derived { value: 10, reason: Some("0 means no limit; sidestream has one, 10".into()) }),
        tries => {
            let mut derived = Setting::Retries.clamp(tries - 1);
            derived.reason.get_or_insert_with(|| "the first attempt is not a retry".into());
            Ok(derived)
        }
    }
}

fn count(written: &str) -> Result<u64, &'static str> {
    written.trim().parse().map_err(|_| "not a whole number")
}

/// Parses nginx's time syntax into milliseconds: `60`, `1h 30m`, `500ms`.
pub(super) fn nginx_time(written: &str) -> Option<u64> {
    let mut rest = written.trim();
    let mut ms: Option<u64> = None;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        let after = rest[digits..].trim_start();
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let unit = if letters == 0 && after.is_empty() { "s" } else { &after[..letters] };
        let factor = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        ms = Some(ms.unwrap_or(0).checked_add(number.checked_mul(factor)?)?);
        rest = after[letters..].trim_start();
    }
    ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_parsed_as_nginx_does() {
        let good =
            [("60", 60_000), ("60s", 60_000), ("1h 30m", 5_400_000), ("1h30m", 5_400_000), ("500ms", 500), ("0", 0)];
        for (written, ms) in good {
            assert_eq!(nginx_time(written), Some(ms), "{written}");
        }
        for written in ["", "s", "1x", "-1", "1.5s", "1 2", "99999999999999999999", "18446744073709551615y", "٣"] {
            assert_eq!(nginx_time(written), None, "{written}");
        }
    }

    #[test]
    fn values_outside_the_range_are_clamped_and_reported() {
        let derive = |setting: Setting, written| setting.derive(written).map(|derived| (derived.value, derived.reason));
        assert_eq!(derive(Setting::ReadTimeout, "3600"), Ok((3_600_000, None)));
        assert_eq!(derive(Setting::ReadTimeout, "7d"), Ok((DAY, Some("it may be 1ms to 24h".into()))));
        assert_eq!(derive(Setting::DrainBudget, "1h"), Ok((600_000, Some("it may be 100ms to 10m".into()))));
        assert_eq!(derive(Setting::Pool, "100000"), Ok((65_536, Some("it may be 1 to 65536".into()))));
        assert!(derive(Setting::ReadTimeout, "0").is_err() && derive(Setting::ReadTimeout, "soon").is_err());
        assert_eq!(derive(Setting::Retries, "3").unwrap().0, 2);
        assert_eq!(derive(Setting::Retries, "0").unwrap().0, 10);
        assert_eq!(derive(Setting::Retries, "50").unwrap().0, 10);
        assert_eq!(derive(Setting::Retries, "off").unwrap().0, 0);
        assert!(derive(Setting::Retries, "error timeout").is_err());
    }

    #[test]
    fn a_heartbeat_is_a_third_of_the_silence_allowed() {
        let beats = [(60_000, 20_000), (30_000, 10_000), (3_600_000, 20_000), (10_000, 3_000), (1_000, 1_000)];
        for (read_timeout, expected) in beats {
            assert_eq!(heartbeat(read_timeout), expected, "{read_timeout}");
        }
    }
}
