//! `eggcorn data inspect`: what stands in a stage's folder.

use super::report::print;
use crate::cli::say;
use eggcorn::llm::corpus::{Cluster, DedupKind, clusters, inspect, sample};
use eggcorn::llm::{INDEX, Index, Result, Shards};
use std::path::PathBuf;

/// Show what a stage has made: how much, what was removed and why, some of its documents.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn data inspect corpus\n  eggcorn data inspect corpus/stages/2-clean\n  eggcorn data inspect corpus/dedup --clusters\n  eggcorn data inspect corpus/dedup --documents 10 --seed 2 --json | jq .documents"
)]
pub struct Args {
    /// The folder of a stage; or of a corpus, whose files of tokens are checked.
    folder: PathBuf,
    /// How many documents to show.
    #[arg(long, default_value_t = 3)]
    documents: usize,
    /// Which of them: another seed shows others.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Characters to show of each.
    #[arg(long, default_value_t = 400)]
    characters: usize,
    /// Of a deduplication, show what was merged with what: the first clusters of each kind.
    #[arg(long, value_name = "COUNT", num_args = 0..=1, default_missing_value = "10")]
    clusters: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    if args.folder.join(INDEX).is_file() {
        return corpus(args);
    }
    let (found, documents) = (inspect(&args.folder)?, sample(&args.folder, args.documents, args.seed)?);
    let listed = args.clusters.map_or(Ok(vec![]), |count| lists(args, count))?;
    if args.json {
        let lists: serde_json::Map<String, serde_json::Value> =
            listed.iter().map(|(kind, all, list)| (kind.to_string(), serde_json::json!({"count": all, "first": list}))).collect();
        let line = serde_json::json!({
            "parts": found.parts, "unfinished": found.unfinished, "report": found.report, "documents": documents, "clusters": lists,
        });
        say!("{line}");
        return Ok(());
    }
    let rest = if found.unfinished == 0 { String::new() } else { format!(", and {} that are not finished", found.unfinished) };
    say!("{} parts{rest}\n", found.parts - found.unfinished);
    print(&found.report, true);
    for document in documents {
        let text: String = document.text.chars().take(args.characters).collect();
        let dots = if text.len() < document.text.len() { " …" } else { "" };
        say!("\n--- {}, {} bytes\n{text}{dots}", document.id, document.text.len());
    }
    listed.iter().for_each(show);
    Ok(())
}

/// What a corpus holds, whose files are read whole and compared with their checksums.
fn corpus(args: &Args) -> Result<()> {
    let index = Index::read(&args.folder)?;
    Shards::verify(&args.folder)?;
    if args.json {
        say!("{}", serde_json::to_string(&index).expect("an index has a JSON form"));
        return Ok(());
    }
    say!("tokens of {} kinds, {} each, by {}", index.tokenizer.vocabulary, index.dtype, index.tokenizer.file);
    for (side, files) in [("train", &index.parts.train), ("held out", &index.parts.held_out)] {
        files.iter().for_each(|f| say!("{side:10} {:20} {:>14} tokens {:>10} documents", f.file, f.tokens, f.documents));
    }
    say!("every file is as it was written; the stages are below {}", args.folder.join("stages").display());
    Ok(())
}

/// The clusters of each kind that has some: how many, and the first.
type Lists = Vec<(DedupKind, u64, Vec<Cluster>)>;

fn lists(args: &Args, count: usize) -> Result<Lists> {
    let mut found = vec![];
    for kind in [DedupKind::Documents, DedupKind::Near] {
        found.extend(clusters(&args.folder, kind, count)?.map(|(list, all)| (kind, all, list)));
    }
    Ok(found)
}

fn show((kind, all, list): &(DedupKind, u64, Vec<Cluster>)) {
    say!("\n{all} clusters of {kind}");
    for cluster in list {
        say!("  {}, {} bytes, stays", cluster.kept.id, cluster.kept.bytes);
        for member in &cluster.removed {
            say!("    {:.2}  {}, {} bytes", member.similarity, member.id, member.bytes);
        }
    }
}
