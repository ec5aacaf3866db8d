//! `metrics.csv`: a line a step, for spreadsheets and plots. It follows from the metrics, and is written anew from them where a run goes on.

use super::history::Row;
use std::fmt::Write;

/// The name in a run directory.
pub const TABLE: &str = "metrics.csv";

/// The columns, in order.
pub const COLUMNS: &str = "step,time,tokens,loss,held_out,lr,grad_norm,ms,waited_ms,tokens_per_second,mfu,memory\n";

/// A step's line; what is not known is empty.
pub(super) fn row(r: &Row) -> String {
    let mut line = r.step.to_string();
    let memory = r.memory.map(|m| m as f64);
    let tokens = r.tokens.map(|t| t as f64);
    for x in [r.time, tokens, Some(r.loss), r.held_out, r.lr, r.grad_norm, r.ms, r.waited_ms, r.tokens_per_second, r.mfu, memory] {
        line.push(',');
        x.map_or(Ok(()), |x| write!(line, "{x}")).expect("a string takes what is written");
    }
    line + "\n"
}
