//! Ctrl-C.

use super::note;
use eggcorn::llm::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first Ctrl-C asks for a stop and says so, the second does not ask.
pub fn stop_on_interrupt(words: &'static str) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        note!("{words}");
    })
    .map_err(|e| Error(format!("Ctrl-C cannot be handled: {e}")))?;
    Ok(stop)
}
