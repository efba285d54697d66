//! The JSON text of logical types: a string, so that nothing is lost. A date or a time that RFC 3339 cannot express stays
//! a number.

use std::fmt::Write as _;

use num_bigint::BigInt;
use time::{Date, OffsetDateTime};

/// The Julian day of 1970-01-01.
const EPOCH_JULIAN_DAY: i64 = 2_440_588;
const SECONDS_PER_DAY: i64 = 86_400;

/// A decimal from the big-endian two's complement of its digits.
pub(super) fn decimal(unscaled: &[u8], scale: usize) -> String {
    let number = BigInt::from_signed_bytes_be(unscaled).to_string();
    let (sign, digits) = number.strip_prefix('-').map_or(("", &*number), |digits| ("-", digits));
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    format!("\"{sign}{whole}{point}{fraction}\"")
}

/// `None` unless there are 16 bytes.
pub(super) fn uuid(bytes: &[u8]) -> Option<String> {
    let number = u128::from_be_bytes(bytes.try_into().ok()?);
    let hex = format!("{number:032x}");
    Some(format!("\"{}-{}-{}-{}-{}\"", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// `"2026-11-28"` from days since the Unix epoch.
pub(super) fn date(days: i64) -> String {
    let day = days.checked_add(EPOCH_JULIAN_DAY).and_then(|day| i32::try_from(day).ok());
    let date = day.and_then(|day| Date::from_julian_day(day).ok());
    date.and_then(full_date).map_or_else(|| days.to_string(), |date| format!("\"{date}\""))
}

/// `"10:00:00.123"`.
pub(super) fn time_of_day(units: i64, digits: u8) -> String {
    let per_second = 10_i64.pow(digits.into());
    if !(0..SECONDS_PER_DAY * per_second).contains(&units) {
        return units.to_string();
    }
    format!("\"{}\"", clock(units / per_second, units % per_second, digits))
}

/// `"2026-11-28T10:00:00.123Z"`; a local one without `Z`.
pub(super) fn timestamp(units: i64, digits: u8, is_local: bool) -> String {
    let per_second = 10_i64.pow(digits.into());
    let time = OffsetDateTime::from_unix_timestamp(units.div_euclid(per_second)).ok();
    let Some((time, date)) = time.and_then(|time| Some((time, full_date(time.date())?))) else {
        return units.to_string();
    };
    let seconds = i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second());
    let zone = if is_local { "" } else { "Z" };
    format!("\"{date}T{}{zone}\"", clock(seconds, units.rem_euclid(per_second), digits))
}

/// An ISO 8601 duration from three little-endian numbers: months, days and milliseconds.
pub(super) fn duration(bytes: [u8; 12]) -> String {
    let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (months, days, ms) = (number(0), number(4), number(8));
    format!("\"P{months}M{days}DT{}.{:03}S\"", ms / 1000, ms % 1000)
}

/// RFC 3339's years have four digits.
fn full_date(date: Date) -> Option<String> {
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    (0..=9999).contains(&year).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

fn clock(seconds: i64, fraction: i64, digits: u8) -> String {
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    // Writing to a string cannot fail.
    let _ = write!(text, ".{fraction:0width$}", width = digits.into());
    text
}
