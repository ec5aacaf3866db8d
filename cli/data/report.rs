//! What a stage did, as a table or as JSON.

use super::work::WorkArgs;
use crate::cli::say;
use eggcorn::llm::corpus::Report;

/// Prints what a stage did.
pub fn show(report: &Report, args: &WorkArgs) {
    if args.json {
        say!("{}", serde_json::to_string(report).expect("a report has a JSON form"));
        return;
    }
    print(report, args.examples);
}

/// Prints a report as a table, with examples on request.
pub fn print(report: &Report, examples: bool) {
    say!("{:24} {:>14} {:>14}", "", "documents", "bytes of text");
    say!("{:24} {:>14} {:>14}", "in", report.documents_in, report.bytes_in);
    say!("{:24} {:>14} {:>14}", "out", report.documents, report.bytes);
    for (name, n) in &report.counts {
        say!("{name:24} {n:>14}");
    }
    if !report.tallies.is_empty() {
        say!("\n{:24} {:>14} {:>14}", "removed or changed", "times", "bytes");
    }
    for (reason, tally) in &report.tallies {
        say!("{reason:24} {:>14} {:>14}", tally.times, tally.bytes);
        for example in tally.examples.iter().filter(|_| examples) {
            say!("    {}: {}", example.id, example.text.escape_debug());
        }
    }
}
