//! The loss of texts.

use super::table::table;
use super::{Args, scorer};
use crate::cli::corpus;
use crate::cli::options::tokenizer;
use crate::cli::say;
use eggcorn::llm::evaluate::{Counted, ORDERS, Scorer, TextLoss, Windows, text_loss};
use eggcorn::llm::hub::Directory;
use eggcorn::llm::{Config, Error, Models, Result, Source, Tokenizer, Tokens};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::ops::Range;

/// What a text is asked with.
struct Asked<'a> {
    tokenizer: &'a Tokenizer,
    /// The token that stands before it.
    begin: Option<i32>,
    windows: Windows,
}

pub fn run(args: &Args, directory: &Directory, models: &Models) -> Result<()> {
    let tokenizer = tokenizer(directory, args.tokenizer.as_deref())?;
    let held_out = held_out(args, directory, models)?;
    let (sources, train) = (corpus::sources(&args.data, &tokenizer, held_out)?, corpus::sources(&args.train, &tokenizer, 0.0)?);
    let mut scorers = vec![("model", scorer(args, directory, false)?)];
    if args.baselines {
        scorers.push(("random weights", scorer(args, directory, true)?));
    }
    let begin = begin(directory, &tokenizer)?;
    for source in &sources {
        let context = directory.model().context();
        let windows = Windows::new(source.held_out.count(), context, args.stride.unwrap_or(context), begin.is_some())?;
        if windows.asked() == 0 {
            let held_out = if held_out < 1.0 { format!("; --held-out is {held_out}") } else { String::new() };
            return Err(Error(format!("{}: nothing of it is evaluated: there are {} tokens{held_out}", source.name, windows.tokens)));
        }
        let learned: Vec<&Tokens> = if train.is_empty() { vec![&source.train] } else { train.iter().map(|s| &s.train).collect() };
        let asked = Asked { tokenizer: &tokenizer, begin, windows };
        let (rows, note) = asked.rows(source, &learned, &mut scorers)?;
        if args.json {
            say!("{}", asked.object(source, held_out, &rows));
        } else {
            asked.print(source, held_out, &rows, &note);
        }
    }
    Ok(())
}

/// The share that is evaluated.
fn held_out(args: &Args, directory: &Directory, models: &Models) -> Result<f64> {
    match args.held_out {
        Some(share) if share > 0.0 && share <= 1.0 => Ok(share),
        Some(share) => Err(Error(format!("--held-out {share}: expected a share above 0 and at most 1, as in 0.1"))),
        None if directory.is_run() => Ok(Config::of_run(directory.path(), models)?.data.held_out),
        None => Ok(1.0),
    }
}

/// The token that every text begins with.
fn begin(directory: &Directory, tokenizer: &Tokenizer) -> Result<Option<i32>> {
    Ok(tokenizer.template().before.last().copied().or(directory.generation()?.begin))
}

impl Asked<'_> {
    /// What each says of the text, by name, and what there is to know of that.
    fn rows(&self, source: &Source, learned: &[&Tokens], scorers: &mut [(&'static str, Scorer)]) -> Result<(Vec<(String, TextLoss)>, String)> {
        let mut rows = vec![];
        for (name, scorer) in scorers {
            rows.push((name.to_string(), self.loss(&source.held_out, scorer)?));
        }
        let model = rows[0].1;
        let uniform = |symbols: usize, each: u64| TextLoss { nats: each as f64 * (symbols as f64).ln(), ..model };
        rows.push(("uniform over tokens".into(), uniform(self.tokenizer.size(), model.tokens)));
        if learned.iter().all(|tokens| tokens.count() == 0) {
            return Ok((rows, "no n-grams: there is no text to count them in; name one with --train".into()));
        }
        let counted = Counted::new(&self.windows, self.tokenizer, &source.held_out, learned)?;
        rows.extend((1..=ORDERS).map(|n| (format!("{n}-grams of {}", counted.what), counted.loss(n))));
        let tokens: u64 = learned.iter().map(|t| t.count()).sum();
        Ok((rows, format!("n-grams are counted in {tokens} tokens, with 0.1 added to every count")))
    }

    fn loss(&self, tokens: &Tokens, scorer: &mut Scorer) -> Result<TextLoss> {
        let bar = bar(self.windows.asked());
        let read = |range: Range<u64>| tokens.read(range);
        let loss = text_loss(&self.windows, self.begin, self.tokenizer, &read, &mut |requests| {
            let sum = scorer.score(requests, &mut |_, _| ())?.iter().map(|s| s.log_probability).sum();
            bar.inc(requests.iter().map(|r| r.asked as u64).sum());
            Ok(sum)
        });
        bar.finish_and_clear();
        loss
    }

    fn how(&self) -> String {
        let Windows { context, stride, .. } = self.windows;
        let first = match self.begin {
            Some(id) => format!("the first token is asked after {:?}", self.tokenizer.decode(&[id])),
            None => "the first token is not asked".into(),
        };
        format!("windows of {context} tokens, stride {stride}; {first}")
    }

    fn print(&self, source: &Source, held_out: f64, rows: &[(String, TextLoss)], note: &str) {
        let model = rows[0].1;
        let part = if held_out < 1.0 { format!("the last {held_out} of it: ") } else { String::new() };
        say!("{}: {part}{} tokens, {} bytes; {}", source.name, model.tokens, model.bytes, self.how());
        let cells = |(name, loss): &(String, TextLoss)| {
            vec![name.clone(), format!("{:.4}", loss.loss()), format!("{:.4}", loss.perplexity()), format!("{:.4}", loss.bits_per_byte())]
        };
        table(&["", "nats/token", "perplexity", "bits/byte"], &rows.iter().map(cells).collect::<Vec<_>>());
        say!("{note}");
    }

    fn object(&self, source: &Source, held_out: f64, rows: &[(String, TextLoss)]) -> Value {
        let model = rows[0].1;
        let row = |(name, loss): &(String, TextLoss)| json!({"name": name, "loss": loss.loss(), "perplexity": loss.perplexity(), "bits_per_byte": loss.bits_per_byte()});
        json!({
            "data": source.name, "held_out": held_out, "tokens": model.tokens, "bytes": model.bytes, "context": self.windows.context,
            "stride": self.windows.stride, "begin": self.begin, "rows": rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

/// A bar of tokens.
pub fn bar(tokens: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} tokens, {per_sec}, {eta}").expect("the template is well-formed");
    ProgressBar::new(tokens).with_style(style)
}
