//! A corpus card as a page: one file that needs no other.

use crate::cli::tokenizer::escaped;
use eggcorn::llm::corpus::{Card, StageCard};
use plotters::prelude::*;
use std::fmt::Write;

/// The page's name in the folder of a corpus.
pub const PAGE: &str = "card.html";

type Drawn = Result<String, Box<dyn std::error::Error>>;

const STYLE: &str = "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:60em;padding:0 1em;color:#222}\
    table{border-collapse:collapse;margin:.5em 0}td,th{padding:.15em .8em;text-align:right;border-bottom:1px solid #ddd}\
    td:first-child,th:first-child{text-align:left}pre{white-space:pre-wrap;word-break:break-word;background:#f6f6f6;padding:.6em;font-size:13px}\
    .some{display:flex;flex-wrap:wrap;gap:2em}h2{margin-top:1.6em}small{color:#666}";

/// The page of a card.
pub fn page(card: &Card) -> Drawn {
    let [train, held_out] = card.tokens;
    let mut body = format!(
        "<h1>Corpus card</h1>\n<p>{} documents, {} bytes, {} characters of text; {} tokens to train on and {} held out, of a vocabulary of {} \
         <small>(tokenizer {})</small>; {:.2} bytes a token, {:.0} tokens a document.</p>\n",
        grouped(card.documents),
        grouped(card.bytes),
        grouped(card.characters),
        grouped(train),
        grouped(held_out),
        grouped(card.vocabulary as u64),
        escaped(&card.tokenizer),
        card.bytes as f64 / (train + held_out).max(1) as f64,
        (train + held_out) as f64 / card.documents.max(1) as f64,
    );
    let _ = write!(body, "<h2>What each stage left</h2>\n{}\n{}", waterfall(&card.stages)?, stages(&card.stages));
    let _ = write!(body, "<h2>Lengths</h2>\n<p>Documents by bytes of text.</p>\n{}", lengths(card)?);
    if !card.languages.is_empty() {
        let _ = write!(body, "<h2>Languages</h2>\n{}", languages(card));
    }
    let _ = write!(body, "<h2>Said most often</h2>\n<p>In {} bytes of text, some of all documents.</p>\n{}", grouped(card.sampled), ngrams(card));
    let _ = write!(body, "<h2>Removed or changed</h2>\n{}", examples(&card.stages));
    let _ = writeln!(body, "<h2>Some documents</h2>");
    for document in &card.samples {
        let _ = writeln!(body, "<p><small>{}</small></p><pre>{}</pre>", escaped(&document.id), escaped(&document.text));
    }
    Ok(format!("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>corpus card</title>\n<style>{STYLE}</style>\n{body}</html>\n"))
}

/// A number with spaces between thousands.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).expect("digits are text")).collect();
    groups.join("\u{202F}")
}

/// Stages that hand documents on: encoding removes none.
fn handing(stages: &[StageCard]) -> impl Iterator<Item = &StageCard> {
    stages.iter().filter(|s| s.name != "tokens" && s.name != "split")
}

fn waterfall(stages: &[StageCard]) -> Drawn {
    let rows: Vec<(String, f64)> = handing(stages).map(|s| (s.name.clone(), s.bytes[1] as f64 / 1e6)).collect();
    bars(&rows, "MB of text")
}

/// A bar a row, the longest across.
fn bars(rows: &[(String, f64)], unit: &str) -> Drawn {
    let most = rows.iter().map(|r| r.1).fold(1e-9, f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (760, 12 + 28 * rows.len() as u32)).into_drawing_area();
        for (i, (name, value)) in rows.iter().enumerate() {
            let (top, length) = (6 + 28 * i as i32, (430.0 * value / most) as i32);
            area.draw(&Text::new(name.clone(), (4, top + 3), ("sans-serif", 14)))?;
            area.draw(&Rectangle::new([(150, top), (150 + length, top + 20)], RGBColor(31, 119, 180).mix(0.75).filled()))?;
            let digits = if most >= 100.0 { 0 } else { 3 };
            area.draw(&Text::new(format!("{value:.digits$} {unit}"), (156 + length, top + 3), ("sans-serif", 14)))?;
        }
        area.present()?;
    }
    Ok(svg)
}

fn stages(stages: &[StageCard]) -> String {
    let mut table = String::from("<table><tr><th>stage<th>documents before<th>after<th>bytes before<th>after</tr>\n");
    for s in stages {
        let numbers = [s.documents[0], s.documents[1], s.bytes[0], s.bytes[1]].map(grouped).join("<td>");
        let _ = writeln!(table, "<tr><td>{}<td>{numbers}</tr>", escaped(&s.name));
        for (name, n) in &s.counts {
            let _ = writeln!(table, "<tr><td>&emsp;{}<td><td>{}<td><td></tr>", escaped(name), grouped(*n));
        }
    }
    table + "</table>\n"
}

fn lengths(card: &Card) -> Drawn {
    let name = |n: u32| match n {
        0..10 => format!("{} to {} B", 1u64 << n, 2u64 << n),
        10..20 => format!("{} to {} KiB", 1u64 << (n - 10), 2u64 << (n - 10)),
        _ => format!("{} to {} MiB", 1u64 << (n - 20), 2u64 << (n - 20)),
    };
    let (first, last) = (card.lengths.keys().next().copied().unwrap_or(0), card.lengths.keys().last().copied().unwrap_or(0));
    let rows: Vec<(String, f64)> = (first..=last).map(|n| (name(n), card.lengths.get(&n).copied().unwrap_or(0) as f64)).collect();
    bars(&rows, "documents")
}

fn languages(card: &Card) -> String {
    let mut all: Vec<(&String, &u64)> = card.languages.iter().collect();
    all.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let row = |(language, n): &(&String, &u64)| {
        format!("<tr><td>{}<td>{}<td>{:.1} %</tr>\n", escaped(language), grouped(**n), 100.0 * **n as f64 / card.documents.max(1) as f64)
    };
    format!("<table><tr><th>language<th>documents<th></tr>\n{}</table>\n", all.iter().map(row).collect::<String>())
}

fn ngrams(card: &Card) -> String {
    let table = |rows: &Vec<(String, u64)>| {
        let row = |(words, n): &(String, u64)| format!("<tr><td>{}<td>{}</tr>\n", escaped(words), grouped(*n));
        format!("<table>{}</table>\n", rows.iter().map(row).collect::<String>())
    };
    format!("<div class=some>{}</div>\n", card.ngrams.iter().map(table).collect::<String>())
}

fn examples(stages: &[StageCard]) -> String {
    let mut all = String::new();
    for stage in stages {
        for (reason, tally) in &stage.tallies {
            let _ = writeln!(
                all,
                "<details><summary>{}, {}: {} times, {} bytes</summary>",
                escaped(&stage.name),
                escaped(reason),
                grouped(tally.times),
                grouped(tally.bytes)
            );
            for example in &tally.examples {
                let _ = writeln!(all, "<p><small>{}</small></p><pre>{}</pre>", escaped(&example.id), escaped(&example.text));
            }
            all.push_str("</details>\n");
        }
    }
    if all.is_empty() { "<p>Nothing.</p>\n".into() } else { all }
}
