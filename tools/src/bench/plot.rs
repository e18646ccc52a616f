//! Measurements over something, as lines in an SVG file.

use anyhow::Context;
use plotters::prelude::*;
use std::fs;
use std::path::Path;

/// Pixels of a plot.
const SIZE: (u32, u32) = (960, 480);
/// Lines are told apart by these.
const COLORS: [RGBColor; 4] = [BLUE, RED, GREEN, MAGENTA];

/// What is in a plot.
#[derive(Debug)]
pub struct Plot<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What goes to the right, with its unit.
    pub across: &'a str,
    /// What goes up, with its unit.
    pub up: &'a str,
    /// Lines, each with its name.
    pub lines: Vec<(&'a str, Vec<(f64, f64)>)>,
}

impl Plot<'_> {
    /// Writes it to a file, whose directory is made.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        path.parent().map_or(Ok(()), fs::create_dir_all).with_context(|| format!("cannot make {}", path.display()))?;
        let drawn = self.draw();
        drawn.and_then(|svg| Ok(fs::write(path, svg)?)).with_context(|| format!("cannot write {}", path.display()))
    }

    fn draw(&self) -> anyhow::Result<String> {
        let most = |axis: fn(&(f64, f64)) -> f64| {
            let all = self.lines.iter().flat_map(|(_, points)| points).map(axis);
            all.fold(f64::MIN_POSITIVE, f64::max)
        };
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            area.fill(&WHITE)?;
            let mut chart = ChartBuilder::on(&area)
                .caption(self.title, ("sans-serif", 20))
                .margin(12)
                .x_label_area_size(40)
                .y_label_area_size(64)
                .build_cartesian_2d(0.0..most(|point| point.0), 0.0..most(|point| point.1) * 1.1)?;
            chart.configure_mesh().x_desc(self.across).y_desc(self.up).draw()?;
            for ((name, points), color) in self.lines.iter().zip(COLORS.into_iter().cycle()) {
                let line = chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?;
                line.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
            }
            chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
            area.present()?;
        }
        Ok(svg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_texts_and_a_line_for_each_of_its_lines() {
        let lines = vec![("one", vec![(0.0, 1.0), (1.0, 3.0)]), ("other", vec![(0.0, 2.0), (1.0, 0.5)])];
        let plot = Plot { title: "lag & load", across: "seconds", up: "milliseconds", lines };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plots/lag.svg");
        plot.write(&path).unwrap();
        let svg = fs::read_to_string(&path).unwrap();
        assert!(
            ["lag &amp; load", "seconds", "milliseconds", "one", "other"].iter().all(|text| svg.contains(text)),
            "{svg}"
        );
        assert!(svg.matches("<polyline").count() >= 2, "{svg}");
    }
}
