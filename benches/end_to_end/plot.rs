//! Curves as an SVG file with two logarithmic axes.

use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;

use crate::Fallible;

const SIZE: (u32, u32) = (720, 400);
const COLORS: [RGBColor; 2] = [RGBColor(0, 90, 160), RGBColor(150, 150, 150)];

pub struct Plot {
    pub title: String,
    pub x: &'static str,
    pub y: &'static str,
    pub curves: Vec<Curve>,
}

pub struct Curve {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

pub fn write(file: &Path, plot: &Plot) -> Fallible<()> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let points = || plot.curves.iter().flat_map(|curve| &curve.points);
    let (xs, ys) = (around(points().map(|point| point.0)), around(points().map(|point| point.1)));
    let mut chart = ChartBuilder::on(&area)
        .caption(&plot.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(xs.log_scale(), ys.log_scale())?;
    chart.configure_mesh().x_desc(plot.x).y_desc(plot.y).light_line_style(WHITE).draw()?;
    for (curve, color) in plot.curves.iter().zip(COLORS) {
        chart
            .draw_series(LineSeries::new(curve.points.iter().copied(), color.stroke_width(2)).point_size(3))?
            .label(curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart.configure_series_labels().border_style(BLACK.mix(0.3)).draw()?;
    Ok(area.present()?)
}

/// With a margin on both sides.
fn around(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    low * 0.7..high * 1.4
}
