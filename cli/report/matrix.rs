//! Which classes are taken for which, as SVG, whose colours are the page's.

use super::page::{escaped, put};

/// Classes that are drawn at most: those with the most texts.
const MOST: usize = 24;
/// A cell's sides, and the room for a name beside and above the cells.
const CELL: (f64, f64) = (64.0, 40.0);
const BESIDE: f64 = 132.0;
const ABOVE: f64 = 46.0;
/// Letters of a name that are shown, of rows and of columns.
const LETTERS: [usize; 2] = [17, 9];

/// The picture: a row for each class that is right, a column for each that was said, each cell as dark as its share of the row.
pub fn draw(names: &[String], counts: &[Vec<u64>]) -> String {
    let shown = shown(counts);
    let n = shown.len() as f64;
    let (width, height) = (BESIDE + n * CELL.0 + 8.0, ABOVE + n * CELL.1 + 26.0);
    let mut svg = format!("<svg class=\"matrix\" viewBox=\"0 0 {width} {height}\" role=\"img\" style=\"max-width:{width}px\">");
    put(
        &mut svg,
        format_args!("<text class=\"tick\" x=\"{}\" y=\"14\">said</text><text class=\"tick\" x=\"8\" y=\"{}\">right</text>", BESIDE, ABOVE - 8.0),
    );
    for (i, right) in shown.iter().enumerate() {
        let (x, y) = (BESIDE + i as f64 * CELL.0 + CELL.0 / 2.0, ABOVE + i as f64 * CELL.1);
        let [row, column] = LETTERS.map(|letters| escaped(&cut(&names[*right], letters)));
        let whole = escaped(&names[*right]);
        put(
            &mut svg,
            format_args!("<text class=\"name\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{column}<title>{whole}</title></text>", ABOVE - 8.0),
        );
        put(
            &mut svg,
            format_args!(
                "<text class=\"name\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{row}<title>{whole}</title></text>",
                BESIDE - 8.0,
                y + CELL.1 / 2.0 + 4.0
            ),
        );
        let all: u64 = counts[*right].iter().sum();
        for (j, said) in shown.iter().enumerate() {
            cell(&mut svg, (BESIDE + j as f64 * CELL.0, y), counts[*right][*said], all);
        }
    }
    if shown.len() < counts.len() {
        let words = format!("the {MOST} of {} classes with the most texts", counts.len());
        put(&mut svg, format_args!("<text class=\"tick\" x=\"8\" y=\"{}\">{words}</text>", height - 8.0));
    }
    svg + "</svg>"
}

fn cell(svg: &mut String, (x, y): (f64, f64), count: u64, all: u64) {
    let share = count as f64 / all.max(1) as f64;
    let (w, h) = (CELL.0 - 2.0, CELL.1 - 2.0);
    let on = if share > 0.55 { " on" } else { "" };
    put(
        svg,
        format_args!("<rect class=\"cell\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"4\" fill-opacity=\"{:.3}\"/>", 0.06 + 0.84 * share),
    );
    put(svg, format_args!("<text class=\"count{on}\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{count}</text>", x + w / 2.0, y + h / 2.0 + 4.0));
}

/// The picture as a file: with its colours.
pub fn alone(names: &[String], counts: &[Vec<u64>]) -> String {
    let mut svg = draw(names, counts).replace("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" font-family=\"sans-serif\" ");
    let style = "<style>svg{background:#fff}.cell{fill:#2f6db5}.tick{fill:#666;font-size:11px}.name{fill:#222;font-size:12px}\
                 .count{fill:#222;font-size:13px}.count.on{fill:#fff}</style>";
    let at = svg.find('>').map_or(0, |i| i + 1);
    svg.insert_str(at, style);
    svg + "\n"
}

/// The numbers of the classes that are drawn, in their order.
fn shown(counts: &[Vec<u64>]) -> Vec<usize> {
    let mut all: Vec<usize> = (0..counts.len()).collect();
    all.sort_by_key(|i| std::cmp::Reverse(counts[*i].iter().sum::<u64>()));
    all.truncate(MOST);
    all.sort_unstable();
    all
}

/// A name's beginning.
fn cut(name: &str, letters: usize) -> String {
    match name.char_indices().nth(letters) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.into(),
    }
}
