//! `eggcorn tokenizer view`: tokens in colours, and the merges of a word.

use super::TokenizerArgs;
use super::input::whole;
use super::page::page;
use crate::cli::say;
use eggcorn::llm::text::{Engine, Specials};
use eggcorn::llm::{Error, Result, Tokenizer, write_file};
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Show the tokens of a text in colours, or the merges of a word as they happen.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn tokenizer view tokenizer.json \"unbelievable tokens\"\n  eggcorn tokenizer view tokenizer.json --file input.txt --html tokens.html\n  eggcorn tokenizer view tokenizer.json --steps unbelievable"
)]
pub struct Args {
    #[command(flatten)]
    tokenizer: TokenizerArgs,
    /// The text; standard input where there is none and no --file.
    text: Option<String>,
    /// A file of text.
    #[arg(long, conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Write a page that any browser shows, with ids on hovering.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Show the merges of one word, in order, instead.
    #[arg(long, value_name = "WORD", conflicts_with_all = ["text", "file", "html"])]
    steps: Option<String>,
    /// Print ids under the tokens.
    #[arg(long)]
    ids: bool,
}

/// Backgrounds that dark and light letters are read on, and the same for pages.
pub const COLORS: [(u8, &str); 6] = [(151, "#afd7af"), (223, "#ffd7af"), (153, "#afd7ff"), (218, "#ffafd7"), (187, "#d7d7af"), (189, "#d7d7ff")];

pub fn run(args: &Args) -> Result<()> {
    let tokenizer = args.tokenizer.open()?;
    if let Some(word) = &args.steps {
        return steps(&tokenizer, word);
    }
    let text = whole(args.text.as_ref(), args.file.as_ref())?;
    let ids = tokenizer.encode_with(&text, Specials::Token)?;
    let pieces: Vec<(i32, String)> = ids.iter().map(|id| (*id, piece(&tokenizer, *id))).collect();
    if let Some(path) = &args.html {
        write_file(path, page(&pieces, text.len(), text.chars().count()).as_bytes())?;
        say!("{} tokens: {}", ids.len(), path.display());
        return Ok(());
    }
    let colored = std::io::stdout().is_terminal() || std::env::var_os("CLICOLOR_FORCE").is_some();
    say!("{}", if colored { colors(&pieces) } else { bars(&pieces) });
    if args.ids {
        say!("{}", ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    }
    say!("{} tokens, {} characters, {} bytes", ids.len(), text.chars().count(), text.len());
    Ok(())
}

/// What a token shows: its text, or its bytes where they are none.
fn piece(tokenizer: &Tokenizer, id: i32) -> String {
    let mut bytes = vec![];
    tokenizer.bytes(id, &mut bytes);
    match std::str::from_utf8(&bytes) {
        // a terminal must not take the text's control characters for its own
        Ok(text) => text.chars().map(|c| if c == '\n' { "↵\n".into() } else { shown(c) }).collect(),
        Err(_) => bytes.iter().map(|b| format!("<{b:02x}>")).collect(),
    }
}

fn shown(c: char) -> String {
    if c.is_control() { c.escape_default().to_string() } else { c.to_string() }
}

fn colors(pieces: &[(i32, String)]) -> String {
    let mut all = String::new();
    for (i, (_, piece)) in pieces.iter().enumerate() {
        let color = COLORS[i % COLORS.len()].0;
        // a background that goes over a line's end fills the next line
        for line in piece.split_inclusive('\n') {
            let (text, end) = line.strip_suffix('\n').map_or((line, ""), |t| (t, "\n"));
            let _ = write!(all, "\x1b[48;5;{color}m\x1b[30m{text}\x1b[0m{end}");
        }
    }
    all
}

/// Without colours, a bar between tokens.
fn bars(pieces: &[(i32, String)]) -> String {
    pieces.iter().map(|p| p.1.as_str()).collect::<Vec<_>>().join("|")
}

fn steps(tokenizer: &Tokenizer, word: &str) -> Result<()> {
    let bpe = match tokenizer {
        Tokenizer::Subword(s) => match s.engine() {
            Engine::Bpe(bpe) => bpe,
            Engine::Wrapped(_) => return Err(Error("--steps shows byte-pair encoding, and this tokenizer is of another kind".into())),
        },
        Tokenizer::Char { .. } | Tokenizer::Byte => return Err(Error("this tokenizer merges nothing: every token is one character or byte".into())),
    };
    let show = |ids: &[u32]| ids.iter().map(|id| piece(tokenizer, *id as i32)).collect::<Vec<_>>().join("|");
    let words: Vec<&str> = bpe.split.words(word).collect();
    for word in &words {
        say!("{}", show(&word.bytes().map(|b| bpe.merges.bytes[usize::from(b)]).collect::<Vec<_>>()));
        let steps = bpe.merges.steps(word.as_bytes());
        let width = steps.iter().map(|s| show(&s.word).chars().count()).max().unwrap_or(0);
        for step in &steps {
            let (a, b) = (show(&[step.pair.0]), show(&[step.pair.1]));
            let line = show(&step.word);
            say!("{line}{}   {a} + {b}, of rank {}", " ".repeat(width - line.chars().count()), step.rank);
        }
        let ids: Vec<String> = tokenizer.encode(word)?.iter().map(ToString::to_string).collect();
        say!("{}: {}", if ids.len() == 1 { "one token" } else { "ids" }, ids.join(" "));
    }
    Ok(())
}
