//! Reads the results of `cargo bench --bench pieces` from criterion's files.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::row::Row;
use crate::{Fallible, Plan};

/// Each operation with its target, which guards against regressions by an order of magnitude.
const PIECES: &[(&str, &str)] = &[
    ("decode_envelope", "<=5000"),
    ("encode_sse", "<=1000"),
    ("encode_ndjson", "<=1000"),
    ("encode_ws", "<=1000"),
    ("hub_append", "<=1000"),
    ("index_10k_keys", "<=1000"),
    ("route_1k", "<=2000"),
];

pub fn rows(_plan: &Plan) -> Fallible<Vec<Row>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/criterion");
    let read = |(name, target): &(&str, &'static str)| {
        let file = folder.join(name).join("new/estimates.json");
        let text = fs::read_to_string(&file).map_err(|_| format!("{name}: run cargo bench --bench pieces"))?;
        let estimate: Value = serde_json::from_str(&text)?;
        let number = |pointer| estimate.pointer(pointer).and_then(Value::as_f64).ok_or("no estimate");
        let (value, low) = (number("/median/point_estimate")?, number("/median/confidence_interval/lower_bound")?);
        let high = number("/median/confidence_interval/upper_bound")?;
        let row = Row::of_values(&format!("piece_{name}"), "ns", &[value], target);
        Ok(Row { spread: (high - low) / value, ..row })
    };
    PIECES.iter().map(read).collect()
}
