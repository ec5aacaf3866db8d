//! The loss of a run as a picture, from its metrics.

use eggcorn::llm::record::METRICS;
use eggcorn::llm::{Error, Result, write_file};
use plotters::prelude::*;
use std::path::Path;

/// The picture's name in a run directory.
pub const FILE: &str = "loss.svg";

/// Training losses are averaged over this part of the run, or they would be a band.
const WINDOWS: usize = 200;

/// Draws `loss.svg` from `metrics.jsonl`: the training loss, and the held-out loss where it was evaluated.
pub fn plot(dir: &Path) -> Result<()> {
    let path = dir.join(METRICS);
    let text = std::fs::read_to_string(&path).map_err(|e| Error(format!("{}: metrics cannot be read: {e}", path.display())))?;
    let events: Vec<serde_json::Value> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let of = |kind: &str| -> Vec<(f64, f64)> {
        let point = |e: &serde_json::Value| Some((e["step"].as_f64()?, e["loss"].as_f64()?));
        events.iter().filter(|e| e["event"] == kind).filter_map(point).collect()
    };
    let (train, held_out) = (averaged(&of("step")), of("evaluated"));
    let svg = draw(&train, &held_out).map_err(|e| Error(format!("the loss cannot be drawn: {e}")))?;
    write_file(&dir.join(FILE), svg.as_bytes())
}

fn averaged(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean = |c: &[(f64, f64)]| {
        let n = c.len() as f64;
        (c.iter().map(|p| p.0).sum::<f64>() / n, c.iter().map(|p| p.1).sum::<f64>() / n)
    };
    points.chunks(points.len().div_ceil(WINDOWS).max(1)).map(mean).collect()
}

fn draw(train: &[(f64, f64)], held_out: &[(f64, f64)]) -> std::result::Result<String, Box<dyn std::error::Error>> {
    let all = || train.iter().chain(held_out);
    let (last, low, high) = all().fold((1.0f64, f64::MAX, f64::MIN), |(s, l, h), p| (s.max(p.0), l.min(p.1), h.max(p.1)));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (800, 480)).into_drawing_area();
        area.fill(&WHITE)?;
        let margin = (high - low).max(0.1) * 0.05;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .caption("loss", ("sans-serif", 18))
            .x_label_area_size(36)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..last, low - margin..high + margin)?;
        chart.configure_mesh().x_desc("step").x_label_formatter(&|x| format!("{x:.0}")).light_line_style(BLACK.mix(0.05)).draw()?;
        let key = |color: RGBColor| move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2));
        chart.draw_series(LineSeries::new(train.iter().copied(), BLUE.stroke_width(2)))?.label("training").legend(key(BLUE));
        chart.draw_series(LineSeries::new(held_out.iter().copied(), RED.stroke_width(2)).point_size(3))?.label("held out").legend(key(RED));
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.2)).draw()?;
        area.present()?;
    }
    Ok(svg)
}

/// Several curves over one axis, as a picture.
pub fn curves(title: &str, along: &str, all: &[(String, Vec<(f64, f64)>)]) -> Result<String> {
    lines(title, along, all).map_err(|e| Error(format!("{title} cannot be drawn: {e}")))
}

fn lines(title: &str, along: &str, all: &[(String, Vec<(f64, f64)>)]) -> std::result::Result<String, Box<dyn std::error::Error>> {
    let range = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) =
            all.iter().flat_map(|c| &c.1).map(of).filter(|x| x.is_finite()).fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(x), h.max(x)));
        let margin = (high - low).max(1e-3) * 0.05;
        low - margin..high + margin
    };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (800, 480)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .caption(title, ("sans-serif", 18))
            .x_label_area_size(36)
            .y_label_area_size(48)
            .build_cartesian_2d(range(|p| p.0), range(|p| p.1))?;
        chart.configure_mesh().x_desc(along).light_line_style(BLACK.mix(0.05)).draw()?;
        for (i, (name, points)) in all.iter().enumerate() {
            let color = Palette99::pick(i).to_rgba();
            let key = move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2));
            let finite = points.iter().copied().filter(|p| p.1.is_finite());
            chart.draw_series(LineSeries::new(finite, color.stroke_width(2)).point_size(2))?.label(name.as_str()).legend(key);
        }
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.2)).draw()?;
        area.present()?;
    }
    Ok(svg)
}
