//! The arithmetic of the benchmark: medians, spreads and targets. Nothing is measured here.

#[path = "../../benches/end_to_end/row.rs"]
#[allow(dead_code)] // The benchmark also formats rows.
mod row;

use row::{Row, median, spread};

#[test]
fn the_median_is_the_middle() {
    assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
    assert!(median([]).is_nan());
}

#[test]
fn the_spread_is_by_the_median() {
    assert_eq!(spread(&[2.0, 1.0, 3.0]), 1.0);
    assert_eq!(spread(&[5.0]), 0.0);
}

#[test]
fn a_pair_is_judged_by_the_median_of_its_ratios() {
    // The ratio of the medians would be 1.
    let row = Row::of_pairs("r", "us", &[(1.0, 2.0), (2.0, 1.0), (2.0, 2.0), (9.0, 3.0)], "<=1.5");
    assert_eq!((row.value, row.reference, row.ratio), (2.0, Some(2.0), Some(1.5)));
    assert!(row.is_met());
    assert!(!Row { target: "<=1.4", ..row.clone() }.is_met());
    assert!(Row { target: ">=1.5", ..row.clone() }.is_met());
    assert_eq!(row.json()["ratio"], 1.5);
}

#[test]
fn a_value_is_judged_and_an_invalid_figure_or_target_is_not_met() {
    let row = Row::of_values("r", "ms", &[4.0, 6.0], "<=5");
    assert!(row.is_met() && row.json()["ratio"].is_null());
    assert!(!Row { value: f64::NAN, ..row.clone() }.is_met());
    assert!(!Row { target: "5", ..row }.is_met());
}
