//! What running a program takes at least: the arithmetic of its products and the bytes its kernels touch.

use crate::routine::Program;
use crate::spec::{Dag, Heads, Spec, Step, Template};

/// Of one run of a program.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Work {
    /// Operations of products, those of attention among them; a product and its addition are two. Nothing else is counted.
    pub flops: f64,
    /// Bytes that kernels read and write, each element of an operand once a kernel.
    pub bytes: f64,
}

impl Program {
    /// The work of a call of each kernel.
    pub fn works(&self) -> Vec<Work> {
        self.specs.iter().map(Spec::work).collect()
    }

    /// The work of one run.
    pub fn work(&self) -> Work {
        let each = self.works();
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
            // a row has one group
            Template::Contract { own, .. } => 2.0 * count(&self.dims) / own.as_ref().map_or(1.0, |own| self.dims[own.dim].max(1) as f64),
            // the scores and the output; or the scores again, the gradients of the weights, of q and of k, and those of v
            Template::Attention(h) => 2.0 * pairs(h, &self.dag) * (h.depth + h.value_depth) as f64,
            Template::AttentionBwd(h) => 2.0 * pairs(h, &self.dag) * (3 * h.depth + 2 * h.value_depth) as f64,
            Template::Rows { .. } | Template::Cols { .. } | Template::ScatterAdd { .. } => 0.0,
        }
    }
}

/// Queries and keys that meet, over all heads: of causal ones half, as it is counted everywhere. What only shows as it runs counts as seen.
fn pairs(h: &Heads, dag: &Dag) -> f64 {
    if h.causal(dag) {
        return count(&h.heads) * count(&[h.queries, h.keys]) * 0.5;
    }
    let bound = |step: &usize, query: usize| match &dag.steps[*step].0 {
        Step::Index { offset, strides } if strides[..h.heads.len()].iter().all(|s| *s == 0) => Some(offset + strides[h.heads.len()] * query as i64),
        Step::Const(x) => Some(*x as i64),
        Step::Index { .. }
        | Step::Load(_)
        | Step::Product
        | Step::Cotangent
        | Step::Un(..)
        | Step::Bin(..)
        | Step::Select(..)
        | Step::Cast(_)
        | Step::Random(..)
        | Step::Gather { .. }
        | Step::Reduce(..) => None,
    };
    let row = |query: usize| {
        let from = h.visible.from.iter().filter_map(|s| bound(s, query)).fold(0, i64::max);
        let end = h.visible.to.iter().filter_map(|s| bound(s, query)).fold(h.keys as i64 - 1, i64::min) + 1;
        (end - from).max(0) as f64
    };
    count(&h.heads) * (0..h.queries).map(row).sum::<f64>()
}

fn count(sizes: &[usize]) -> f64 {
    sizes.iter().map(|n| *n as f64).product()
}
