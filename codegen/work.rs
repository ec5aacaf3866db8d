//! What running a program takes at least: the arithmetic of its products and the bytes its kernels touch.

use crate::routine::Program;
use crate::spec::{Heads, Spec, Template};

/// Of one run of a program.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Work {
    /// Operations of products, those of attention among them; a product and its addition are two. Nothing else is counted.
    pub flops: f64,
    /// Bytes that kernels read and write, each element of an operand once a kernel.
    pub bytes: f64,
}

impl Program {
    /// The work of one run.
    pub fn work(&self) -> Work {
        let each: Vec<Work> = self.specs.iter().map(Spec::work).collect();
        let sum = |sum: Work, one: Work| Work { flops: sum.flops + one.flops, bytes: sum.bytes + one.bytes };
        self.calls().iter().map(|call| each[call.kernel]).fold(Work::default(), sum)
    }
}

impl Spec {
    fn work(&self) -> Work {
        // what goes by index touches any row, and one a point
        let points = if let Template::Rows { .. } = self.template { count(&self.dims) } else { f64::INFINITY };
        let touched = self.touches().into_iter().map(|t| t.distinct().min(points) * self.params[t.arg].elem.bytes() as f64);
        Work { flops: self.product_flops(), bytes: touched.sum() }
    }

    fn product_flops(&self) -> f64 {
        match &self.template {
            Template::Contract { .. } => 2.0 * count(&self.dims),
            // the scores and the output; or the scores again, the gradients of the weights, of q and of k, and those of v
            Template::Attention(h) => 2.0 * pairs(h) * (h.depth + h.value_depth) as f64,
            Template::AttentionBwd(h) => 2.0 * pairs(h) * (3 * h.depth + 2 * h.value_depth) as f64,
            Template::Rows { .. } | Template::Cols { .. } | Template::ScatterAdd { .. } => 0.0,
        }
    }
}

/// Queries and keys that meet, over all heads: of causal ones half, as it is counted everywhere.
fn pairs(h: &Heads) -> f64 {
    count(&h.heads) * count(&[h.queries, h.keys]) * if h.causal() { 0.5 } else { 1.0 }
}

fn count(sizes: &[usize]) -> f64 {
    sizes.iter().map(|n| *n as f64).product()
}
