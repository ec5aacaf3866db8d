//! The page: its sections, in the order one reads them.

use super::block;
use super::chart::{Chart, Line, Unit};
use super::matrix;
use eggcorn::ir::Graph;
use eggcorn::llm::record::{History, Row, Tested, duration, thousands};
use eggcorn::llm::{Config, Confusion, OfClass};
use std::collections::BTreeSet;
use std::fmt::{Arguments, Write};

/// How the page looks.
const STYLE: &str = concat!(include_str!("block.css"), include_str!("page.css"));

/// Bytes of a MiB.
const MIB: f64 = 1048576.0;

/// A text as HTML shows it.
pub fn escaped(text: &str) -> String {
    let one = |c: char| match c {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '"' => "&quot;".into(),
        '\'' => "&#39;".into(),
        // what no page may hold
        c if c.is_control() && !matches!(c, '\n' | '\t') => "\u{FFFD}".into(),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}

/// Adds a piece of text.
pub fn put(to: &mut String, text: Arguments) {
    to.write_fmt(text).expect("a string takes what is written");
}

/// A run as a page.
pub fn page(name: &str, history: &History, config: &Config, tested: Option<&Tested>, fused: Option<&Graph>) -> String {
    let name = escaped(name);
    let sections = [
        heading(&name, history, config),
        tiles(history),
        losses(history, config),
        tested.map(classes).unwrap_or_default(),
        measured(history),
        course(history),
        samples(history),
        picture(fused),
        settings(config),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{name} · eggcorn</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\n</html>\n",
        sections.concat()
    )
}

fn heading(name: &str, h: &History, config: &Config) -> String {
    let parameters = h.ready.as_ref().map_or(String::new(), |r| format!(" · {} parameters", thousands(r.parameters)));
    let source = |(s, n): &(String, Option<u64>)| format!(" · {}: {}", escaped(s), n.map_or("made".into(), |n| thousands(n) + " tokens"));
    let sources = h.ready.iter().flat_map(|r| &r.sources).map(source).collect::<String>();
    let notices = h.notices.iter().map(|n| format!("<p class=\"notice\">{}</p>\n", escaped(n))).collect::<String>();
    let damaged = match h.damaged {
        0 => String::new(),
        n => format!("<p class=\"notice\">{n} lines of the metrics are damaged and left out</p>\n"),
    };
    let vocabulary = thousands(config.model.vocab_size() as u64);
    format!(
        "<header>\n<h1>{name}</h1>\n<p class=\"about\">{}{parameters} · {vocabulary} kinds of tokens{sources}</p>\n<p class=\"state\">{}</p>\n</header>\n{notices}{damaged}",
        escaped(config.model.name()),
        state(h)
    )
}

/// How far the run is.
fn state(h: &History) -> String {
    let Some(last) = h.rows.last() else { return "nothing is trained yet".into() };
    if h.is_finished() {
        return format!("<span class=\"done\">finished</span> after {} steps", thousands(last.step));
    }
    let to = h.ready.as_ref().and_then(|r| r.to_step).map_or(String::new(), |to| format!(" of {}", thousands(to)));
    format!("<span class=\"going\">under way</span> step {}{to}", thousands(last.step))
}

/// The figures one asks for first.
fn tiles(h: &History) -> String {
    let mut all: Vec<(&str, String, String)> = vec![];
    if let Some((step, loss)) = h.best() {
        all.push(("held-out loss, best", format!("{loss:.4}"), format!("perplexity {:.2}, after step {}", loss.exp(), thousands(step))));
    }
    if let Some(last) = h.rows.last() {
        all.extend(h.last_loss().map(|mean| ("training loss", format!("{mean:.4}"), format!("mean of the last {} steps", h.rows.len().min(50)))));
        let tokens = last.tokens.map_or(String::new(), |t| format!("{} tokens", Unit::Large.show(t as f64, 1.0)));
        all.push(("steps", thousands(last.step), tokens));
        all.push(("time in steps", duration(h.seconds()), h.median(|r| r.ms).map_or(String::new(), |ms| format!("{ms:.1} ms a step"))));
    }
    let last = h.rows.last().map_or(0, |r| r.step);
    for (_, what, value) in h.measured.iter().filter(|m| m.0 == last) {
        all.push((what, format!("{value:.4}"), "measured at the end".into()));
    }
    if let Some(speed) = h.median(|r| r.tokens_per_second) {
        all.push(("tokens a second", thousands(speed.round() as u64), "median".into()));
    }
    if let (Some(mfu), Some(ceiling)) = (h.median(|r| r.mfu), h.ready.as_ref().and_then(|r| r.ceiling)) {
        all.push(("MFU", format!("{:.1} %", 100.0 * mfu), format!("of {:.0} GFLOP/s, measured", ceiling / 1e9)));
    }
    if let (Some(ready), Some(most)) = (&h.ready, h.rows.iter().filter_map(|r| r.memory).max().filter(|m| *m > 0)) {
        let mib = |b: u64| format!("{} MiB", thousands(b >> 20));
        all.push(("memory, peak", mib(most), format!("{} planned for the model", mib(ready.bytes))));
    }
    let tile =
        |(what, figure, more): &(&str, String, String)| format!("<div><dt>{}</dt><dd>{figure}<small>{more}</small></dd></div>\n", escaped(what));
    format!("<dl class=\"tiles\">\n{}</dl>\n", all.iter().map(tile).collect::<String>())
}

/// A value of each step against another.
fn points(h: &History, x: fn(&Row) -> Option<f64>, y: fn(&Row) -> Option<f64>) -> Vec<(f64, f64)> {
    h.rows.iter().filter_map(|r| Some((x(r)?, y(r)?))).filter(|p| p.1.is_finite()).collect()
}

fn step(r: &Row) -> Option<f64> {
    Some(r.step as f64)
}

fn losses(h: &History, config: &Config) -> String {
    let chance = (config.model.vocab_size() as f64).ln();
    let chart = |title: &str, what, x: fn(&Row) -> Option<f64>| {
        Chart {
            title: title.into(),
            x: what,
            lines: vec![
                Line { name: "training".into(), class: "c1".into(), points: points(h, x, |r| Some(r.loss)), dots: false },
                Line { name: "held out".into(), class: "c2".into(), points: points(h, x, |r| r.held_out), dots: true },
            ],
            mark: Some((chance, format!("guessing: {chance:.2}"))),
            from_zero: false,
            unit: Unit::Plain,
        }
        .draw()
    };
    let both = chart("loss against steps", "step", step) + &chart("loss against tokens", "tokens", |r| r.tokens.map(|t| t as f64));
    section("Loss", &format!("<div class=\"charts\">\n{both}</div>\n"))
}

fn course(h: &History) -> String {
    let one = |title: &str, unit, from_zero, lines: Vec<Line>, mark| Chart { title: title.into(), x: "step", lines, mark, from_zero, unit }.draw();
    let line = |name: &str, class: &str, y: fn(&Row) -> Option<f64>| Line {
        name: name.into(),
        class: class.into(),
        points: points(h, step, y),
        dots: false,
    };
    let planned = h.ready.as_ref().map(|r| (r.bytes as f64 / MIB, format!("planned: {} MiB", r.bytes >> 20)));
    let memory = |r: &Row| r.memory.filter(|m| *m > 0).map(|m| m as f64 / MIB);
    let all = [
        one("learning rate", Unit::Plain, true, vec![line("rate", "c3", |r| r.lr)], None),
        one("norm of the gradient", Unit::Plain, true, vec![line("norm", "c4", |r| r.grad_norm)], None),
        one("tokens a second", Unit::Large, true, vec![line("speed", "c1", |r| r.tokens_per_second)], None),
        one("model FLOPs utilisation", Unit::Share, true, vec![line("MFU", "c3", |r| r.mfu)], None),
        one("milliseconds a step", Unit::Plain, true, vec![line("work", "c1", |r| r.ms), line("waiting for data", "c2", |r| r.waited_ms)], None),
        one("memory of the process against the plan", Unit::Mebibytes, true, vec![line("peak", "c4", memory)], planned),
    ];
    section("Course", &format!("<div class=\"charts\">\n{}</div>\n", all.concat()))
}

/// What else was measured more than once, a chart each.
fn measured(h: &History) -> String {
    let names: BTreeSet<&str> = h.measured.iter().map(|m| m.1.as_str()).collect();
    let points = |name: &str| h.measured.iter().filter(|m| m.1 == name && m.2.is_finite()).map(|m| (m.0 as f64, m.2)).collect::<Vec<_>>();
    let chart = |name: &str, points| {
        let lines = vec![Line { name: name.into(), class: "c2".into(), points, dots: true }];
        Chart { title: name.into(), x: "step", lines, mark: None, from_zero: false, unit: Unit::Plain }.draw()
    };
    let all = names.iter().map(|name| (name, points(name))).filter(|(_, points)| points.len() > 1);
    let charts: String = all.map(|(name, points)| chart(name, points)).collect();
    if charts.is_empty() { charts } else { section("Measured on the way", &format!("<div class=\"charts\">\n{charts}</div>\n")) }
}

/// Which classes are taken for which, beside what counting does.
fn classes(tested: &Tested) -> String {
    let share = |x: f64| format!("<td>{:.2} %</td>", 100.0 * x);
    let who = |(who, found): &(&str, Confusion)| format!("<tr><th>{who}</th>{}<td>{:.4}</td></tr>\n", share(found.accuracy()), found.macro_f1());
    let all = tested.all();
    let one = |(name, c): (&String, OfClass)| {
        format!("<tr><th>{}</th>{}{}<td>{:.4}</td><td>{}</td></tr>\n", escaped(name), share(c.precision), share(c.recall), c.f1, thousands(c.texts))
    };
    let found: String = tested.classes.iter().zip(all[0].1.of_classes()).map(one).collect();
    let tables = format!(
        "<table><tr><th></th><th>accuracy</th><th>macro-F1</th></tr>\n{}</table>\n<table><tr><th></th><th>precision</th><th>recall</th><th>F1</th>\
         <th>texts</th></tr>\n{found}</table>\n",
        all.iter().map(who).collect::<String>()
    );
    let words = format!("<p>{} {} texts, which nothing was learned from.</p>\n", thousands(all[0].1.count()), escaped(&tested.part));
    let picture = matrix::draw(&tested.classes, &tested.model);
    section("Classes", &format!("{words}<div class=\"settings\">\n{tables}</div>\n<div class=\"scroll\">{picture}</div>\n"))
}

/// Texts that the model wrote on the way: of many the first, the last, and some between.
fn samples(h: &History) -> String {
    let n = h.samples.len();
    if n == 0 {
        return String::new();
    }
    let shown = n.min(12);
    let one = |i: usize| {
        let (step, text) = &h.samples[if shown > 1 { i * (n - 1) / (shown - 1) } else { n - 1 }];
        format!("<figure class=\"sample\"><figcaption>after step {}</figcaption><pre>{}</pre></figure>\n", thousands(*step), escaped(text.trim_end()))
    };
    section("What it writes", &format!("<div class=\"samples\">\n{}</div>\n", (0..shown).map(one).collect::<String>()))
}

fn picture(fused: Option<&Graph>) -> String {
    let Some(graph) = fused else { return String::new() };
    let (svg, times) = block::draw(graph);
    let key = "<p class=\"keys\"><span class=\"key k-found\">found by the compiler</span><span class=\"key k-product\">matrix product</span>\
               <span class=\"key k-plain\">element by element</span></p>";
    let words = "What the compiler made of one block of the model, which was written as sums, products and exponentials.";
    section("The fused block", &format!("<p>{words} It runs {times} times a pass.</p>\n{key}\n<div class=\"scroll\">{svg}</div>\n"))
}

fn settings(config: &Config) -> String {
    let text = config.to_toml();
    let mut out = String::new();
    for part in text.split("\n[") {
        let (name, keys) = part.split_once('\n').unwrap_or((part, ""));
        let row = |line: &str| line.split_once(" = ").map(|(k, v)| format!("<tr><th>{}</th><td>{}</td></tr>\n", escaped(k), escaped(v)));
        let rows: String = keys.lines().filter_map(row).collect();
        out += &format!("<table><caption>{}</caption>\n{rows}</table>\n", escaped(name.trim_matches(['[', ']', ' '])));
    }
    section("Settings", &format!("<div class=\"settings\">\n{out}</div>\n"))
}

fn section(title: &str, content: &str) -> String {
    format!("<section>\n<h2>{title}</h2>\n{content}</section>\n")
}
