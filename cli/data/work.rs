//! Options that all stages of a corpus share, and how a stage is watched.

use crate::cli::interrupt::stop_on_interrupt;
use crate::cli::note;
use crate::cli::options::{bytes, mebibytes, threads};
use eggcorn::llm::Result;
use eggcorn::llm::corpus::{Progress, Share, Work};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a stage works with.
#[derive(clap::Args)]
pub struct WorkArgs {
    /// Threads; one a core unless said. The result does not depend on it.
    #[arg(long)]
    threads: Option<usize>,
    /// Bytes of memory that the stage may use, as in 512MiB.
    #[arg(long, value_name = "BYTES", default_value = "4GiB", value_parser = bytes)]
    memory: usize,
    /// Which of the parts to take, as in 3/16: so that several processes each take a share. The result does not depend on it.
    #[arg(long, default_value = "1/1")]
    share: Share,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Print examples of what was removed or changed.
    #[arg(long)]
    pub examples: bool,
}

/// How often a line tells how far it is, where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

impl WorkArgs {
    /// Runs a stage: watched, and stopped by Ctrl-C.
    pub fn with<T>(&self, stage: impl FnOnce(&Work) -> Result<T>) -> Result<T> {
        let threads = threads(self.threads)?;
        let stop = stop_on_interrupt("stopping; once more to stop at once")?;
        let view = Mutex::new(View::default());
        let progress = |p: Progress| view.lock().expect("no thread panics with it").show(&p);
        let result = stage(&Work { threads, memory: self.memory as u64, share: self.share, stop: &stop, progress: &progress });
        view.into_inner().expect("no thread panics with it").clear();
        result
    }
}

/// How far a stage is: a bar on a terminal, else a line now and then.
#[derive(Default)]
struct View {
    stage: Option<&'static str>,
    bar: Option<ProgressBar>,
    bytes: u64,
    began: Option<Instant>,
    last: Option<Instant>,
}

impl View {
    fn show(&mut self, progress: &Progress) {
        if self.stage != Some(progress.stage) {
            self.begin(progress);
        }
        self.bytes += progress.bytes;
        let speed = self.speed();
        match &self.bar {
            Some(bar) => {
                bar.set_position(progress.done as u64);
                bar.set_message(speed);
            }
            None if self.last.is_some_and(|l| l.elapsed() >= BETWEEN_LINES) => {
                self.last = Some(Instant::now());
                note!("{}: {} of {} parts, {speed}", progress.stage, progress.done, progress.of);
            }
            None => {}
        }
    }

    fn begin(&mut self, progress: &Progress) {
        self.clear();
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix:12} {bar:30} {pos}/{len} {msg} {eta} left").expect("the template reads");
            ProgressBar::new(progress.of as u64).with_style(style).with_prefix(progress.stage)
        });
        let now = Some(Instant::now());
        *self = View { stage: Some(progress.stage), bar, bytes: 0, began: now, last: now };
    }

    fn speed(&self) -> String {
        let seconds = self.began.map_or(0.0, |b| b.elapsed().as_secs_f64()).max(1e-3);
        format!("{} of text, {}/s", mebibytes(self.bytes as usize), mebibytes((self.bytes as f64 / seconds) as usize))
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
