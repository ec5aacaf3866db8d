//! Shares as bars, with what chance would do.

use eggcorn::llm::evaluate::Mean;
use eggcorn::llm::{Error, Result};
use plotters::prelude::*;

/// A bar.
pub struct Bar {
    pub name: String,
    /// The share, and its standard error.
    pub of: Mean,
    /// What guessing would do.
    pub chance: f64,
}

/// A picture of bars, one below another.
pub fn draw(title: &str, bars: &[Bar]) -> Result<String> {
    drawn(title, bars).map_err(|e| Error(format!("the figures cannot be drawn: {e}")))
}

/// Where bars begin, and how long one of 1 is.
const LEFT: i32 = 300;
const LENGTH: f64 = 420.0;

fn drawn(title: &str, bars: &[Bar]) -> std::result::Result<String, Box<dyn std::error::Error>> {
    let at = |share: f64| LEFT + (LENGTH * share) as i32;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (800, 56 + 26 * bars.len() as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        area.draw(&Text::new(format!("{title}: accuracy ± standard error; the line is chance"), (20, 14), ("sans-serif", 15)))?;
        for (i, bar) in bars.iter().enumerate() {
            let top = 42 + 26 * i as i32;
            let (share, error) = (bar.of.mean, bar.of.error.unwrap_or(0.0));
            area.draw(&Text::new(short(&bar.name), (20, top + 3), ("sans-serif", 13)))?;
            area.draw(&Rectangle::new([(LEFT, top), (at(share), top + 18)], BLUE.mix(0.5).filled()))?;
            area.draw(&PathElement::new([(at(share - error), top + 9), (at(share + error), top + 9)], BLACK.stroke_width(1)))?;
            area.draw(&PathElement::new([(at(bar.chance), top - 3), (at(bar.chance), top + 21)], RED.stroke_width(2)))?;
            area.draw(&Text::new(format!("{share:.3}"), (at((share + error).max(bar.chance)) + 6, top + 3), ("sans-serif", 13)))?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// The beginning of a long name.
fn short(name: &str) -> String {
    let n = name.chars().count();
    if n <= 40 { name.into() } else { format!("{}…", name.chars().take(39).collect::<String>()) }
}
