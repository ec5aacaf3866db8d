//! What a person or a machine sees of a training.

use super::options::mebibytes;
use super::output::{Output, note};
use eggcorn::llm::record::{Progress, line};
use eggcorn::llm::{Event, Reads, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The screen: a progress bar on a terminal, else plain lines now and then, or each event as a line of JSON.
pub struct View {
    bar: Option<ProgressBar>,
    json: bool,
    out: Output,
    /// When a line was shown last.
    last: Instant,
    progress: Progress,
}

/// How often a line is shown where there is no bar.
const PAUSE: Duration = Duration::from_secs(5);

impl View {
    pub fn new(json: bool) -> View {
        let bar = (!json && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:16} {msg}").expect("the template reads");
            ProgressBar::new(1).with_style(style)
        });
        View { bar, json, out: Output::default(), last: Instant::now(), progress: Progress::new(0, 1) }
    }

    /// Shows an event; as a machine reads it, the line it has in the metrics.
    pub fn show(&mut self, event: &Event) {
        if self.json {
            self.out.line(&line(event));
        } else {
            self.progress.push(event);
            self.tell(event);
        }
    }

    fn tell(&mut self, event: &Event) {
        match event {
            Event::Ready { parameters, bytes, compile_seconds, kernels, from_step, sources, .. } => {
                let from = if *from_step > 0 { format!(", from step {from_step}") } else { String::new() };
                let planned = mebibytes(*bytes);
                self.line(&format!("{parameters} parameters, {kernels} kernels compiled in {compile_seconds:.2} s, {planned} planned{from}"));
                for Reads { source, tokens, epochs } in sources {
                    self.line(&match tokens {
                        Some(tokens) => format!("{source}: {tokens} tokens, {epochs:.2} times over"),
                        None => format!("{source}: made as it is read"),
                    });
                }
                self.last = Instant::now();
            }
            Event::Step { .. } => self.step(),
            Event::Evaluated { whole: false, .. } => self.now(),
            Event::Evaluated { step, loss, whole: true } => self.line(&format!("step {step}: held-out loss {loss:.4} (all of it)")),
            Event::Measured { step, what, value } => self.line(&format!("step {step}: {what} {value:.4}")),
            Event::Notice(text) => self.line(&format!("notice: {text}")),
            Event::Sampled { step, text } => self.line(&format!("--- after step {step}:\n{text}\n---")),
            Event::Saved { .. } => {}
        }
    }

    fn step(&mut self) {
        if let Some(bar) = &self.bar {
            let (done, all) = self.progress.steps();
            bar.set_length(all);
            bar.set_position(done);
            bar.set_message(self.progress.line());
        } else if self.progress.is_first() || self.last.elapsed() >= PAUSE {
            self.now();
        }
    }

    /// A line of where the training stands.
    fn now(&mut self) {
        self.last = Instant::now();
        self.line(&self.progress.line());
    }

    fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => self.out.line(text),
        }
    }

    /// The last words, where a person reads.
    pub fn last_words(&mut self, text: &str) {
        if !self.json {
            self.out.line(text);
        }
    }

    /// The bar goes.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// An error where a line could not be printed.
    pub fn finish(&self) -> Result<()> {
        self.out.finish()
    }
}

/// How many of a count are done, on standard error: a bar on a terminal, else lines now and then.
pub struct Count {
    bar: ProgressBar,
    what: &'static str,
    last: Instant,
}

impl Count {
    pub fn new(what: &'static str) -> Count {
        let style = ProgressStyle::with_template("{bar:16} {pos}/{len} {msg}, {eta} to go").expect("the template reads");
        Count { bar: ProgressBar::new(0).with_style(style).with_message(what), what, last: Instant::now() }
    }

    pub fn show(&mut self, done: u64, all: u64) {
        self.bar.set_length(all);
        self.bar.set_position(done);
        if self.bar.is_hidden() && self.last.elapsed() >= PAUSE {
            note!("{done} of {all} {}", self.what);
            self.last = Instant::now();
        }
    }

    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
