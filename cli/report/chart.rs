//! A chart as SVG, whose colours are the page's, so that it follows light and dark.

use super::page::{escaped, put};
use std::cmp::Ordering;

/// Lines over one axis.
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What is below.
    pub x: &'static str,
    /// The lines.
    pub lines: Vec<Line>,
    /// A value that others are compared with, and what it is.
    pub mark: Option<(f64, String)>,
    /// Whether the axis begins at 0.
    pub from_zero: bool,
    /// How values are written.
    pub unit: Unit,
}

/// One line.
pub struct Line {
    /// What it is, for the key.
    pub name: String,
    /// The class that colours it.
    pub class: String,
    /// Its points, in order of x.
    pub points: Vec<(f64, f64)>,
    /// Whether each point is a measurement of its own, and not one of a crowd.
    pub dots: bool,
}

/// How values of an axis are written.
#[derive(Clone, Copy, PartialEq)]
pub enum Unit {
    /// As they are.
    Plain,
    /// With k and M.
    Large,
    /// In hundredths.
    Share,
    /// MiB.
    Mebibytes,
}

/// What a crowd of points is drawn by: so many means, and how far they scatter.
const COLUMNS: usize = 240;
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 250.0;
/// Around the plot: left, right, above, below.
const MARGIN: (f64, f64, f64, f64) = (54.0, 14.0, 12.0, 34.0);

/// A range of one axis.
#[derive(Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// Around values, with room; `None` where there is none.
    fn of(values: impl Iterator<Item = f64>) -> Option<Axis> {
        let (low, high) = values.filter(|v| v.is_finite()).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        match low.total_cmp(&high) {
            Ordering::Less => Some(Axis { low, high }),
            Ordering::Equal => Some(Axis { low: low - 0.5, high: high + 0.5 }),
            Ordering::Greater => None,
        }
    }

    /// Where a value stands, from 0 to 1.
    fn at(&self, x: f64) -> f64 {
        (x - self.low) / (self.high - self.low)
    }

    /// Round values within, about so many: 1, 2 or 5 times a power of ten apart.
    fn ticks(&self, about: f64) -> Vec<f64> {
        let rough = (self.high - self.low) / about;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough).unwrap_or(rough);
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        (first..=last).map(|i| i as f64 * step).collect()
    }
}

impl Chart {
    /// Colours of lines in a picture that stands alone.
    pub const COLOURS: [&str; 8] = ["#2f6db5", "#c8553d", "#2e8b6f", "#8a5fb0", "#b07a1e", "#4a9fb5", "#b5487f", "#6d6860"];

    /// The chart as a figure with a key; nothing where there are no points.
    pub fn draw(&self) -> String {
        let svg = self.svg(0.0);
        if svg.is_empty() {
            return svg;
        }
        format!("<figure class=\"chart\"><figcaption>{}{}</figcaption>{svg}</figure>\n", escaped(&self.title), self.key())
    }

    /// The chart as a file: with its colours, and its key below. Lines have the classes r0, r1, … and so on around.
    pub fn alone(&self) -> String {
        let below = 22.0 * self.lines.len() as f64 + 8.0;
        let mut svg = self.svg(below).replace("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" font-family=\"sans-serif\" ");
        let colour = |(i, c): (usize, &&str)| format!(".line.r{i}{{stroke:{c}}}.band.r{i},.dot.r{i},.name.r{i}{{fill:{c}}}");
        let colours: String = Chart::COLOURS.iter().enumerate().map(colour).collect();
        let style = format!(
            "<style>svg{{background:#fff}}.grid{{stroke:#eee}}.axis{{stroke:#ccc}}.tick{{fill:#666;font-size:11px}}.line{{fill:none;stroke-width:1.8}}\
             .band{{opacity:.16}}.name{{font-size:12px}}{colours}</style>"
        );
        let at = svg.find('>').map_or(0, |i| i + 1);
        svg.insert_str(at, &style);
        let name = |(i, l): (usize, &Line)| {
            let y = HEIGHT + 16.0 + 22.0 * i as f64;
            format!("<text class=\"name {}\" x=\"{}\" y=\"{y}\">\u{25A0} {}</text>", l.class, MARGIN.0, escaped(&l.name))
        };
        let names: String = self.lines.iter().enumerate().map(name).collect();
        svg.replace("</svg>", &format!("{names}</svg>\n"))
    }

    /// The picture, with room below; nothing where there are no points.
    fn svg(&self, below: f64) -> String {
        let all = || self.lines.iter().flat_map(|l| &l.points);
        let lines: Vec<(&Line, Vec<Column>)> = self.lines.iter().filter(|l| !l.points.is_empty()).map(|l| (l, l.columns())).collect();
        let means = lines.iter().flat_map(|(_, c)| c.iter().map(|c| c.mean));
        let (Some(x), Some(y)) = (Axis::of(all().map(|p| p.0)), Axis::of(means.chain(self.marked()))) else { return String::new() };
        let room = (y.high - y.low) * 0.06;
        let y = Axis { low: if self.from_zero { y.low.min(0.0) } else { y.low - room }, high: y.high + room };
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">", HEIGHT + below, escaped(&self.title));
        self.axes(&mut svg, x, y);
        for (line, columns) in &lines {
            line.draw(&mut svg, columns, x, y);
        }
        svg + "</svg>"
    }

    /// The value that is compared with, if that does not squeeze all others.
    fn marked(&self) -> Option<f64> {
        self.mark.as_ref().map(|m| m.0)
    }

    fn key(&self) -> String {
        if self.lines.len() < 2 {
            return String::new();
        }
        self.lines.iter().filter(|l| !l.points.is_empty()).map(|l| format!("<span class=\"key {}\">{}</span>", l.class, escaped(&l.name))).collect()
    }

    fn axes(&self, svg: &mut String, x: Axis, y: Axis) {
        let (left, right, _, below) = MARGIN;
        let bottom = HEIGHT - below;
        let values = y.ticks(5.0);
        let gap = values.get(1).map_or(1.0, |v| v - values[0]);
        for v in &values {
            let at = place_y(y, *v);
            put(svg, format_args!("<line class=\"grid\" x1=\"{left}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>", WIDTH - right));
            put(
                svg,
                format_args!(
                    "<text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    left - 7.0,
                    at + 3.5,
                    self.unit.show(*v, gap)
                ),
            );
        }
        for v in x.ticks(6.0) {
            let at = place_x(x, v);
            put(
                svg,
                format_args!(
                    "<text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                    bottom + 15.0,
                    Unit::Large.show(v, v)
                ),
            );
        }
        put(svg, format_args!("<line class=\"axis\" x1=\"{left}\" x2=\"{}\" y1=\"{bottom}\" y2=\"{bottom}\"/>", WIDTH - right));
        put(svg, format_args!("<text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>", WIDTH - right, HEIGHT - 4.0, self.x));
        if let Some((value, name)) = &self.mark {
            let at = place_y(y, *value);
            put(svg, format_args!("<line class=\"mark\" x1=\"{left}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>", WIDTH - right));
            let above = if at < 30.0 { at + 13.0 } else { at - 5.0 };
            put(svg, format_args!("<text class=\"tick\" x=\"{}\" y=\"{above:.1}\" text-anchor=\"end\">{}</text>", WIDTH - right, escaped(name)));
        }
    }
}

fn place_x(x: Axis, v: f64) -> f64 {
    MARGIN.0 + x.at(v) * (WIDTH - MARGIN.0 - MARGIN.1)
}

/// Within the plot, also what is beyond its axis.
fn place_y(y: Axis, v: f64) -> f64 {
    HEIGHT - MARGIN.3 - y.at(v).clamp(0.0, 1.0) * (HEIGHT - MARGIN.2 - MARGIN.3)
}

/// Some points side by side: their mean, and the least and greatest.
struct Column {
    x: f64,
    mean: f64,
    low: f64,
    high: f64,
}

impl Line {
    /// A crowd in so many columns; of few points each is its own.
    fn columns(&self) -> Vec<Column> {
        let column = |c: &[(f64, f64)]| {
            let n = c.len() as f64;
            let (low, high) = c.iter().fold((f64::MAX, f64::MIN), |(l, h), p| (l.min(p.1), h.max(p.1)));
            Column { x: c.iter().map(|p| p.0).sum::<f64>() / n, mean: c.iter().map(|p| p.1).sum::<f64>() / n, low, high }
        };
        let size = if self.dots { 1 } else { self.points.len().div_ceil(COLUMNS).max(1) };
        self.points.chunks(size).map(column).collect()
    }

    fn draw(&self, svg: &mut String, columns: &[Column], x: Axis, y: Axis) {
        let class = &self.class;
        let path = |of: &dyn Fn(&Column) -> f64| -> Vec<String> {
            columns.iter().map(|c| format!("{:.1} {:.1}", place_x(x, c.x), place_y(y, of(c)))).collect()
        };
        if !self.dots && self.points.len() > columns.len() {
            let (over, mut under) = (path(&|c| c.high), path(&|c| c.low));
            under.reverse();
            put(svg, format_args!("<path class=\"band {class}\" d=\"M{} L{} Z\"/>", over.join(" L"), under.join(" L")));
        }
        put(svg, format_args!("<path class=\"line {class}\" d=\"M{}\"/>", path(&|c| c.mean).join(" L")));
        for c in columns.iter().filter(|_| self.dots && columns.len() <= 120 || columns.len() == 1) {
            let said = format!("{}: {} at {}", escaped(&self.name), Unit::Plain.show(c.mean, c.mean / 1e4), Unit::Large.show(c.x, c.x));
            let (px, py) = (place_x(x, c.x), place_y(y, c.mean));
            put(svg, format_args!("<circle class=\"dot {class}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"2.6\"><title>{said}</title></circle>"));
        }
    }
}

impl Unit {
    /// A value as people write it, where its neighbours are a gap away.
    pub fn show(self, v: f64, gap: f64) -> String {
        match self {
            Unit::Share => format!("{:.*} %", usize::from(gap.abs() < 0.01), 100.0 * v),
            Unit::Mebibytes => format!("{v:.0} MiB"),
            Unit::Plain if v == 0.0 => "0".into(),
            Unit::Large if v.abs() >= 1e9 => format!("{}B", short(v / 1e9)),
            Unit::Large if v.abs() >= 1e6 => format!("{}M", short(v / 1e6)),
            Unit::Large if v.abs() >= 1e4 => format!("{}k", short(v / 1e3)),
            Unit::Large => short(v),
            Unit::Plain if gap.abs() < 1e-3 => format!("{v:.1e}"),
            Unit::Plain => format!("{v:.*}", (-gap.abs().log10().floor()).clamp(0.0, 4.0) as usize),
        }
    }
}

/// With at most two places behind the point.
fn short(v: f64) -> String {
    let text = format!("{v:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
