//! A model of one's own, with the whole command line:
//!
//! ```sh
//! cargo run --example own_model -- dump tiny --stage fused
//! cargo run --example own_model -- train tiny --data text.txt --set width=64 --out runs/tiny
//! cargo run --example own_model -- generate runs/tiny
//! ```

use eggcorn::ir::{Scope, Tensor};
use eggcorn::models::layers::{linear, rms_norm, softmax};
use eggcorn::models::{Architecture, Entry, Hidden, Init, Kept, Made, Reading, Shape, check};
use serde::{Deserialize, Serialize};

/// Attention with one head, and no more. The fields are its settings: what stands under `[model]`, and what `--set` changes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tiny {
    vocab_size: usize,
    context: usize,
    layers: usize,
    width: usize,
}

impl Default for Tiny {
    fn default() -> Tiny {
        Tiny { vocab_size: 256, context: 64, layers: 2, width: 32 }
    }
}

impl Architecture for Tiny {
    fn name() -> &'static str {
        "tiny"
    }

    /// x + tanh(softmax(q kᵀ / √d, causal) v W), normalised, layer after layer
    fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Hidden<'g> {
        let places = s.param("places", [self.context, self.width]).gather(read.positions(s));
        let x = read.embed(|ids| s.param("words", [self.vocab_size, self.width]).gather(ids)) + places; // [B, T, C]
        read.blocks(s, "blocks", self.layers, x, |s, x, place| {
            let (b, t, c) = (x.dim(-3), x.dim(-2), x.dim(-1));
            let [q, k, v] = ["q", "k", "v"].map(|name| linear(&s.at(name), x, self.width).reshape((b, 1usize, t, c)));
            let [k, v] = place.with_past(k, v); // [B, 1, S, C]
            let scores = place.visible(s, q.contract("bhtd,bhsd->bhts", k) / (self.width as f64).sqrt());
            let y = softmax(scores).contract("bhts,bhsd->bhtd", v).reshape((b, t, c));
            Made::new(rms_norm(&s.at("norm"), x + linear(&s.at("out"), y, self.width).tanh(), 1e-5), [k, v])
        })
    }

    fn head<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        linear(&s.at("head"), x, self.vocab_size)
    }

    fn cache(&self) -> Vec<Kept> {
        Kept::keys_and_values(self.layers, 1, self.context, self.width)
    }

    fn init(&self, path: &str) -> Init {
        if path.ends_with("norm.weight") { Init::Ones } else { Init::Normal(0.05) }
    }

    fn shape(&self) -> Shape {
        Shape { vocabulary: self.vocab_size, context: self.context, dropout: 0.0 }
    }

    fn check(&self) -> Result<(), String> {
        check::layers("layers", self.layers)?;
        check::sizes(&[("vocab_size", self.vocab_size, 256), ("context", self.context, 64), ("width", self.width, 32)])
    }
}

fn main() -> std::process::ExitCode {
    eggcorn::cli::main_with(&[Entry::of::<Tiny>()])
}
