//! Translations against references.

use super::Args;
use crate::cli::say;
use eggcorn::llm::evaluate::Corpus;
use eggcorn::llm::{Error, Result};
use serde_json::json;
use std::path::Path;

pub fn run(args: &Args, hypotheses: &Path) -> Result<()> {
    let references = args.references.iter().map(|path| lines(path)).collect::<Result<Vec<_>>>()?;
    let hypotheses = lines(hypotheses)?;
    let corpus = Corpus::new(&hypotheses, &references)?;
    let (bleu, chrf, chrf_words) = (corpus.bleu(), corpus.chrf(0), corpus.chrf(2));
    if args.json {
        say!("{}", json!({"lines": hypotheses.len(), "bleu": bleu.score, "chrf": chrf.score, "chrf++": chrf_words.score}));
    } else {
        say!("{} lines\n{bleu}\n{chrf}\n{chrf_words}", hypotheses.len());
    }
    Ok(())
}

/// The lines of a file; only a newline ends one.
fn lines(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error(format!("{}: the lines cannot be read: {e}", path.display())))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(if text.is_empty() { vec![] } else { text.split('\n').map(|l| l.strip_suffix('\r').unwrap_or(l).to_string()).collect() })
}
