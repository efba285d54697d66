//! A row of results: the figure, the reference, and the target. Pure; its tests run with the integration tests (`cargo
//! test --test integration -- bench::`).

use serde_json::{Value, json};

/// One figure, as `target/bench/results.json` lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    /// The product's figure: the median of its runs.
    pub value: f64,
    /// The reference's figure in the same run: the median of its runs.
    pub reference: Option<f64>,
    /// The median of the ratios of all pairs, product by reference.
    pub ratio: Option<f64>,
    /// The range of the judged figures, divided by their median.
    pub spread: f64,
    /// `<=N` or `>=N`, for the ratio, or for the value if there is no ratio.
    pub target: &'static str,
}

impl Row {
    /// Product and reference, measured in pairs.
    pub fn of_pairs(name: &str, unit: &'static str, pairs: &[(f64, f64)], target: &'static str) -> Self {
        let ratios: Vec<f64> = pairs.iter().map(|(product, reference)| product / reference).collect();
        Self {
            name: name.into(),
            unit,
            value: median(pairs.iter().map(|pair| pair.0)),
            reference: Some(median(pairs.iter().map(|pair| pair.1))),
            ratio: Some(median(ratios.iter().copied())),
            spread: spread(&ratios),
            target,
        }
    }

    /// The product alone.
    pub fn of_values(name: &str, unit: &'static str, values: &[f64], target: &'static str) -> Self {
        let value = median(values.iter().copied());
        Self { name: name.into(), unit, value, reference: None, ratio: None, spread: spread(values), target }
    }

    /// Whether the target is met; an invalid target and a NaN are not.
    pub fn is_met(&self) -> bool {
        let judged = self.ratio.unwrap_or(self.value);
        let limit = |sign| self.target.strip_prefix(sign).and_then(|number: &str| number.parse::<f64>().ok());
        limit("<=").is_some_and(|limit| judged <= limit) || limit(">=").is_some_and(|limit| judged >= limit)
    }

    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "unit": self.unit,
            "value": short(self.value),
            "reference": self.reference.map(short),
            "ratio": self.ratio.map(short),
            "spread": short(self.spread),
            "target": self.target,
        })
    }

    /// A line of a Markdown table.
    pub fn markdown(&self) -> String {
        let or_none = |figure: Option<f64>| figure.map_or_else(String::new, |figure| short(figure).to_string());
        let verdict = if self.is_met() { "yes" } else { "**no**" };
        let (value, spread) = (short(self.value), short(self.spread));
        let (reference, ratio) = (or_none(self.reference), or_none(self.ratio));
        let (name, unit, target) = (&self.name, self.unit, self.target);
        format!("| {name} | {unit} | {value} | {reference} | {ratio} | {spread} | `{target}` | {verdict} |\n")
    }
}

/// The middle value, or the mean of the two middle ones; NaN for no values.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The range divided by the median.
pub fn spread(values: &[f64]) -> f64 {
    let highest = values.iter().copied().fold(f64::MIN, f64::max);
    let lowest = values.iter().copied().fold(f64::MAX, f64::min);
    if values.len() < 2 || highest <= lowest {
        return 0.0;
    }
    (highest - lowest) / median(values.iter().copied())
}

/// Three decimals, or none from 1,000 on, which is the precision of the measurement.
pub fn short(figure: f64) -> f64 {
    let scale = if figure.abs() >= 1000.0 { 1.0 } else { 1000.0 };
    (figure * scale).round() / scale
}
