//! `metrics.jsonl`: what happened in a run, an event a line.

use crate::run::{Cost, Event, Reads};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where a run goes on from.
#[derive(Clone, Copy)]
pub struct From {
    /// The step of the checkpoint; 0 for a new run.
    pub step: u64,
    /// The step it goes to.
    pub to: u64,
}

/// The lines of a run up to the checkpoint it goes on from. Lines that are no events are dropped: the last may be torn. So is what follows
/// a run's last step, which comes again.
pub(super) fn kept(text: &str, from: From) -> String {
    let mut kept = String::new();
    if from.step == 0 {
        return kept;
    }
    for line in text.lines() {
        let Ok(Value::Object(event)) = serde_json::from_str(line) else { continue };
        let step = event.get("step").and_then(Value::as_u64).unwrap_or(0);
        if step > from.step {
            break;
        }
        if step < from.to || event.get("event").is_some_and(|e| e == "step" || e == "sampled") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// An event as a line of JSON, with the hour in seconds since 1970.
pub fn line(event: &Event) -> String {
    as_json(event, now()).to_string()
}

/// The same, of an hour.
pub(super) fn as_json(event: &Event, now: f64) -> Value {
    let mut all = fields(event);
    all["time"] = json!((now * 1e3).round() / 1e3);
    all
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

fn fields(event: &Event) -> Value {
    match event {
        Event::Ready { parameters, bytes, compile_seconds, kernels, from_step, to_step, sources, flops, ceiling } => {
            let read = |r: &Reads| json!({"source": r.source, "tokens": r.tokens, "epochs": r.epochs});
            let sources: Vec<Value> = sources.iter().map(read).collect();
            json!({
                "event": "ready", "parameters": parameters, "bytes": bytes, "compile_seconds": compile_seconds, "kernels": kernels,
                "from_step": from_step, "to_step": to_step, "sources": sources, "flops": flops, "ceiling": ceiling,
            })
        }
        Event::Step { step, loss, grad_norm, lr, tokens_per_second, cost: Cost { tokens, seconds, waited, mfu, memory } } => json!({
            "event": "step", "step": step, "tokens": tokens, "loss": loss, "grad_norm": grad_norm, "lr": lr,
            "tokens_per_second": tokens_per_second, "ms": 1e3 * seconds, "waited_ms": 1e3 * waited, "mfu": mfu, "memory": memory,
        }),
        Event::Evaluated { step, loss, whole } => json!({"event": "evaluated", "step": step, "loss": loss, "whole": whole}),
        Event::Measured { step, what, value } => json!({"event": "measured", "step": step, "what": what, "value": value}),
        Event::Notice(text) => json!({"event": "notice", "text": text}),
        Event::Saved { step } => json!({"event": "saved", "step": step}),
        Event::Sampled { step, text } => json!({"event": "sampled", "step": step, "text": text}),
    }
}
