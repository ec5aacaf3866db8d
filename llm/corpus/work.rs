//! How a stage goes over its parts: in threads, a share of them, until it is asked to stop.

use super::part::{Part, expect, hash};
use super::report::Report;
use crate::error::{Error, Result};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Which of the parts a process takes: of `count` processes the one numbered `index`, from 1, takes every `count`-th.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    index: usize,
    count: usize,
}

impl Share {
    /// All of them.
    pub const ALL: Share = Share { index: 1, count: 1 };

    /// Whether the part of a number, counted from 0, is this share's.
    pub fn has(&self, number: usize) -> bool {
        number % self.count == self.index - 1
    }

    /// Whether these are all.
    pub fn is_all(&self) -> bool {
        self.count == 1
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Share, String> {
        let parsed = text.split_once('/').and_then(|(i, n)| Some(Share { index: i.parse().ok()?, count: n.parse().ok()? }));
        parsed.filter(|s| (1..=s.count).contains(&s.index)).ok_or_else(|| format!("{text} is no share: expected one of so many, from 1/3 to 3/3"))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The stage, or the step of it.
    pub stage: &'static str,
    /// Parts done of this process's share.
    pub done: usize,
    /// Parts of its share.
    pub of: usize,
    /// Bytes of text since the last word.
    pub bytes: u64,
}

/// What a stage works with.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Threads.
    pub threads: usize,
    /// Bytes of memory that it may use beside the program itself.
    pub memory: u64,
    /// The parts it takes.
    pub share: Share,
    /// Set where it shall stop.
    pub stop: &'a AtomicBool,
    /// Told now and then how far it is.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

impl Work<'_> {
    /// An error where it was asked to stop. Long loops ask once a document.
    pub fn go_on(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error("stopped; run the same command again to go on".into())) } else { Ok(()) }
    }

    /// Calls a function for the numbers below `count` that are this share's, in threads, and gives its results in order. The first error
    /// ends it, of several the one of the lowest number.
    pub fn each<T: Send>(&self, stage: &'static str, count: usize, work: &(dyn Fn(usize) -> Result<(T, u64)> + Sync)) -> Result<Vec<T>> {
        let mine: Vec<usize> = (0..count).filter(|n| self.share.has(*n)).collect();
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let results: Mutex<Vec<(usize, Result<T>)>> = Mutex::new(vec![]);
        let failed = AtomicBool::new(false);
        let turn = || {
            while let Some(&number) = mine.get(next.fetch_add(1, Ordering::Relaxed)) {
                if failed.load(Ordering::Relaxed) {
                    return;
                }
                let result = self.go_on().and_then(|()| work(number));
                let bytes = result.as_ref().map_or(0, |r| r.1);
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                results.lock().expect("no thread panics with it").push((number, result.map(|r| r.0)));
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                (self.progress)(Progress { stage, done, of: mine.len(), bytes });
            }
        };
        (self.progress)(Progress { stage, done: 0, of: mine.len(), bytes: 0 });
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads.clamp(1, mine.len().max(1))).map(|_| scope.spawn(turn)).collect();
            threads.into_iter().for_each(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        });
        let mut results = results.into_inner().expect("no thread panics with it");
        results.sort_by_key(|r| r.0);
        results.into_iter().map(|r| r.1).collect()
    }
}

/// What a stage's part is made of: the part before it, the stage, and all else that determines it.
pub fn made_of(stage: &str, settings: &str, before: &Report) -> String {
    hash(format!("{stage}\n{settings}\n{}", before.checksum).as_bytes())
}

/// Makes the parts of a folder from those before, each from the one of its name, where they are not there already. `settings` is all
/// else that determines them: parts made with others are made again. Gives the reports of this share's parts, in order.
pub fn map_parts(
    work: &Work,
    stage: &'static str,
    from: &[Part],
    folder: &Path,
    settings: &str,
    make: &(dyn Fn(&Part, &Part, Report) -> Result<Report> + Sync),
) -> Result<Vec<Report>> {
    let all = from.iter().map(|p| Ok((p.name.clone(), made_of(stage, settings, &p.finished()?))));
    expect(folder, &all.collect::<Result<_>>()?)?;
    work.each(stage, from.len(), &|number| {
        let (old, new) = (&from[number], from[number].within(folder));
        let before = old.finished()?;
        let made_of = made_of(stage, settings, &before);
        let report = match new.report().filter(|r| r.made_of == made_of) {
            Some(report) => report,
            None => make(old, &new, Report { made_of, documents_in: before.documents, bytes_in: before.bytes, ..Report::default() })?,
        };
        Ok((report, before.bytes))
    })
}
