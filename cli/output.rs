//! Where words go: results to standard output, all else to standard error.

use eggcorn::llm::{Error, Result};
use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// Prints a line of a command whose result is what it prints.
macro_rules! say {
    ($($t:tt)*) => { $crate::cli::output::print(format_args!("{}\n", format_args!($($t)*))) };
}

/// Tells a person something beside the result. Where it cannot be told, the work goes on.
macro_rules! note {
    ($($t:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($t)*);
    }};
}

pub(super) use {note, say};

/// Prints a part of the result. Where the reader has gone, as `head` does, the command ends quietly; where the result cannot be written for
/// another reason it ends with an error.
pub fn print(text: Arguments) {
    if let Err(e) = write(text) {
        end(&e);
    }
}

/// Shows the usage, or what is wrong with it.
pub fn usage(error: &clap::Error) -> ! {
    match error.print() {
        Err(e) if !error.use_stderr() => end(&e),
        _ => std::process::exit(error.exit_code()),
    }
}

fn write(text: Arguments) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_fmt(text)?;
    out.flush()
}

fn end(e: &io::Error) -> ! {
    if e.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    note!("error: the results cannot be written to standard output: {e}");
    std::process::exit(1)
}

/// Standard output of a command that has more to do than to print: it goes on when nobody reads.
#[derive(Default)]
pub struct Output {
    closed: bool,
    fault: Option<String>,
}

impl Output {
    /// Prints a line, if it still can.
    pub fn line(&mut self, text: &str) {
        let done = if self.closed { Ok(()) } else { write(format_args!("{text}\n")) };
        let Err(e) = done else { return };
        self.closed = true;
        if e.kind() != ErrorKind::BrokenPipe {
            note!("error: standard output cannot be written: {e}; the work goes on and ends with an error");
            self.fault = Some(e.to_string());
        }
    }

    /// An error where a line could not be printed, for another reason than that nobody reads.
    pub fn finish(&self) -> Result<()> {
        self.fault.as_ref().map_or(Ok(()), |e| Err(Error(format!("standard output could not be written: {e}"))))
    }
}
