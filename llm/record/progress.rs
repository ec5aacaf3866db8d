//! Where a training stands, in a line.

use crate::run::{Cost, Event};
use std::time::{Duration, Instant};

/// What the line says, from the events so far.
#[derive(Clone, Debug)]
pub struct Progress {
    from: u64,
    to: u64,
    start: Instant,
    step: u64,
    loss: f64,
    lr: f64,
    norm: f64,
    held_out: Option<f64>,
    memory: usize,
    seconds: Smooth,
    /// Seconds a token.
    pace: Smooth,
    /// How many times longer than at the ceiling.
    slowness: Smooth,
}

impl Progress {
    /// At the beginning of a run from one step to another.
    pub fn new(from: u64, to: u64) -> Progress {
        let (nothing, none) = (Smooth(None), f64::NAN);
        Progress {
            from,
            to,
            start: Instant::now(),
            step: from,
            loss: none,
            lr: none,
            norm: none,
            held_out: None,
            memory: 0,
            seconds: nothing,
            pace: nothing,
            slowness: nothing,
        }
    }

    /// The step done, and the last.
    pub fn steps(&self) -> (u64, u64) {
        (self.step, self.to)
    }

    /// Whether the step done is the first of this training.
    pub fn is_first(&self) -> bool {
        self.step == self.from + 1
    }

    /// Takes in what an event says of where the training stands.
    pub fn push(&mut self, event: &Event) {
        match event {
            Event::Ready { from_step, to_step, .. } => *self = Progress::new(*from_step, *to_step),
            Event::Step { step, loss, grad_norm, lr, tokens_per_second, cost } => {
                (self.step, self.loss, self.lr, self.norm) = (*step, *loss, *lr, *grad_norm);
                self.pace.push(1.0 / tokens_per_second);
                self.cost(cost);
            }
            Event::Evaluated { loss, .. } => self.held_out = Some(*loss),
            Event::Measured { .. } | Event::Notice(_) | Event::Saved { .. } | Event::Sampled { .. } => {}
        }
    }

    fn cost(&mut self, cost: &Cost) {
        self.memory = cost.memory;
        self.seconds.push(cost.seconds);
        cost.mfu.into_iter().for_each(|mfu| self.slowness.push(1.0 / mfu));
    }

    /// `step 00500/02000 | loss 2.1034 | val 2.1511 | lr 9.4e-4 | norm 0.83 | 41.2 ms | 18,640 tok/s | mfu 31.2 % | peak 212 MiB | eta 1m02s`,
    /// without what nobody knows. Of ms, tokens a second and MFU these are running means.
    pub fn line(&self) -> String {
        self.line_after(self.start.elapsed())
    }

    /// The same, so long after the start.
    pub fn line_after(&self, elapsed: Duration) -> String {
        let places = self.to.to_string().len().max(5);
        let mut parts = vec![format!("step {:0places$}/{:0places$}", self.step, self.to), format!("loss {:.4}", self.loss)];
        parts.extend(self.held_out.map(|loss| format!("val {loss:.4}")));
        parts.push(format!("lr {:.1e}", self.lr));
        parts.push(format!("norm {:.2}", self.norm));
        parts.extend(self.seconds.0.map(milliseconds));
        parts.extend(self.pace.0.map(|s| format!("{} tok/s", thousands(s.recip().round() as u64))));
        parts.extend(self.slowness.0.map(|s| format!("mfu {:.1} %", 100.0 / s)));
        parts.extend((self.memory > 0).then(|| format!("peak {} MiB", thousands((self.memory >> 20) as u64))));
        parts.extend(self.eta(elapsed).map(|s| format!("eta {}", duration(s))));
        parts.join(" | ")
    }

    /// Seconds to the end, at the pace since the start, evaluations and checkpoints included.
    fn eta(&self, elapsed: Duration) -> Option<f64> {
        let done = self.step.saturating_sub(self.from);
        (done > 0).then(|| elapsed.as_secs_f64() / done as f64 * self.to.saturating_sub(self.step) as f64)
    }
}

/// A figure that would flicker: its mean, where what is long past counts less and less.
#[derive(Clone, Copy, Debug)]
struct Smooth(Option<f64>);

impl Smooth {
    fn push(&mut self, x: f64) {
        self.0 = Some(self.0.map_or(x, |mean| mean + 0.1 * (x - mean)));
    }
}

/// `41.2 ms`, `3.41 s`.
pub fn milliseconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", 1e3 * seconds) } else { format!("{seconds:.2} s") }
}

/// `18,640`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let group = |(i, d): (usize, char)| if i > 0 && (digits.len() - i).is_multiple_of(3) { vec![',', d] } else { vec![d] };
    digits.chars().enumerate().flat_map(group).collect()
}

/// `8s`, `1m02s`, `3h05m`, `2d04h`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    let (minutes, hours, days) = (s / 60, s / 3600, s / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", s % 60),
        (0, ..) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}
