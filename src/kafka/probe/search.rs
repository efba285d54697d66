//! Finds the end of an unreadable batch. Pure.

use super::Verdict;
use super::look::Seen;

/// Reads at `from`. If that is unreadable, reads at offsets up to `until`, the end of the log: with doubling steps
/// until one is after the batch (exponential search), then by bisection. At most 2 log2(`until` - `from`) + 1 reads.
///
/// If the client does not report which batch it rejected, a readable batch between two unreadable ones may be included
/// if no step hits it.
pub(super) fn search(from: i64, until: i64, mut look: impl FnMut(i64) -> Seen) -> Verdict {
    let base = match look(from) {
        Seen::Readable => return Verdict::Readable,
        Seen::Nothing => return Verdict::Unknown,
        Seen::Unreadable { base } => base,
    };
    let (mut inside, mut beyond, mut step) = (from.max(base.unwrap_or(from)), until, 1);
    let start = inside;
    while beyond - inside > 1 {
        let offset = inside + step.min((beyond - inside) / 2);
        match look(offset) {
            Seen::Unreadable { base: other } if other == base => {
                inside = offset;
                step = step.saturating_mul(2);
            }
            Seen::Unreadable { .. } | Seen::Readable => beyond = offset,
            Seen::Nothing => return Verdict::Unknown,
        }
    }
    if start < beyond { Verdict::Unreadable(start..beyond) } else { Verdict::Unknown }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // A log with one such batch.
mod tests {
    use std::ops::Range;

    use super::*;

    /// A log with these unreadable batches; all others are readable.
    fn log(batches: &[Range<i64>], is_base_known: bool) -> impl Fn(i64) -> Seen {
        move |offset| match batches.iter().find(|batch| batch.contains(&offset)) {
            Some(batch) => Seen::Unreadable { base: is_base_known.then_some(batch.start) },
            None => Seen::Readable,
        }
    }

    #[test]
    fn the_end_is_exact_for_any_size_and_position() {
        for is_base_known in [true, false] {
            for end in [101, 102, 103, 104, 163, 164, 165, 400, 9_999, 10_000] {
                for from in [100, 100.max(end - 7), end - 1] {
                    let found = search(from, 10_000, log(&[100..end], is_base_known));
                    assert_eq!(found, Verdict::Unreadable(from..end), "{from}, {end}");
                }
            }
        }
    }

    #[test]
    fn looks_are_few() {
        let mut looks = 0;
        let log = log(&[0..300_000], true);
        let found = search(0, 1 << 50, |offset| {
            looks += 1;
            log(offset)
        });
        assert_eq!((found, looks), (Verdict::Unreadable(0..300_000), 38));
    }

    #[test]
    fn another_unreadable_batch_is_another() {
        let batches = [0..300, 310..610];
        assert_eq!(search(0, 1_000, log(&batches, true)), Verdict::Unreadable(0..300));
        assert_eq!(search(0, 1_000, log(&[0..300, 300..610], true)), Verdict::Unreadable(0..300));
    }

    #[test]
    fn control_records_before_the_batch_are_not_part_of_it() {
        let found = search(97, 1_000, |offset| match offset {
            ..300 => Seen::Unreadable { base: Some(100) },
            300.. => Seen::Readable,
        });
        assert_eq!(found, Verdict::Unreadable(100..300));
    }

    #[test]
    fn no_response_yields_no_verdict() {
        assert_eq!(search(0, 10, |_| Seen::Nothing), Verdict::Unknown);
        assert_eq!(search(0, 10, |_| Seen::Readable), Verdict::Readable);
        let silent_later = |offset| if offset < 2 { Seen::Unreadable { base: None } } else { Seen::Nothing };
        assert_eq!(search(0, 1_000, silent_later), Verdict::Unknown);
    }
}
