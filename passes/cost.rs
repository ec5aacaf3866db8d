//! Predicted seconds of an op: a roofline over a small machine table.

use ir::{Class, DType, Op, Row, Type};

/// What a machine does in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Floating-point operations in matrix products.
    pub products: f64,
    /// Floating-point operations elsewhere.
    pub pointwise: f64,
    /// Bytes to and from memory.
    pub bytes: f64,
    /// Seconds to start a kernel.
    pub launch: f64,
}

/// Keeps two ways of doing nothing from costing the same.
const VIEW: f64 = 1e-12;

// Frozen tables, one a kind of machine, so that what is extracted depends on no measurement.
impl Machine {
    /// A processor: two cores with AVX-512.
    pub const CPU: Machine = Machine { products: 200e9, pointwise: 40e9, bytes: 30e9, launch: 3e-6 };
    /// A graphics processor of a data centre: of NVIDIA's H100 (SXM) what kernels get, about 0.9 of 67 TFLOP/s in 32 bits and of 3.35
    /// TB/s; a launch recorded in a graph.
    pub const GPU: Machine = Machine { products: 60e12, pointwise: 30e12, bytes: 3e12, launch: 2e-6 };

    fn kernel(&self, flops: f64, rate: f64, bytes: usize) -> f64 {
        (flops / rate).max(bytes as f64 / self.bytes) + self.launch
    }

    /// Predicted seconds of one op, its operands and result in memory, but for pointwise ops, which are fused into a neighbour.
    pub fn seconds(&self, op: &Op, args: &[&Type], ty: &Type) -> f64 {
        let count = if ty.dtype == DType::Tuple { 0.0 } else { ty.count() as f64 };
        let traffic = args.iter().map(|t| t.bytes()).sum::<usize>() + ty.bytes();
        match op.spec().class {
            Class::Leaf => 0.0,
            Class::View | Class::Structure => VIEW,
            Class::Pointwise => (if matches!(op, Op::Un(_)) { 8.0 } else { 1.0 }) * count / self.pointwise + 1e-8,
            Class::Reduce => self.kernel(args[0].count() as f64, self.pointwise, traffic),
            // what is not written stays where it is
            Class::Index if matches!(op, Op::Update(_)) => self.kernel(0.0, self.pointwise, 2 * args[1].bytes()),
            Class::Index => self.kernel(0.0, self.pointwise, traffic),
            Class::Contract => self.kernel(product_flops(op, args, count), self.products, traffic),
            Class::Composite => self.composite(op, args, ty, count),
        }
    }

    fn composite(&self, op: &Op, args: &[&Type], ty: &Type, count: f64) -> f64 {
        let Op::Row(row) = op else { unreachable!("{op} is no composite") };
        match row {
            // pointwise composites cost a little less than their parts, so that they are what is seen
            Row::Sigmoid | Row::Silu => 10.0 * count / self.pointwise + 0.9e-8,
            Row::Swiglu => 10.5 * count / self.pointwise + 0.9e-8,
            Row::Gelu | Row::GeluGrad => 13.0 * count / self.pointwise + 0.9e-8,
            Row::Rope => self.kernel(4.0 * count, self.pointwise, 2 * ty.bytes()),
            // a row composite reads its rows once and its result is fused onward: its parts less their launches
            Row::Softmax
            | Row::SoftmaxBwd
            | Row::LogSumExp
            | Row::LayerNorm
            | Row::LayerNormBwd
            | Row::RmsNorm
            | Row::RmsNormBwd
            | Row::CrossEntropy
            | Row::CrossEntropyBwd => self.kernel(4.0 * count, self.pointwise, args.first().map_or(0, |t| t.bytes())),
        }
    }
}

/// Operations of a product with so many results, or of attention's products.
fn product_flops(op: &Op, args: &[&Type], count: f64) -> f64 {
    if let Op::Contract(e) = op {
        let inner: f64 = e.a.iter().zip(&args[0].dims).filter(|(l, _)| **l >= e.out).map(|(_, d)| d.size() as f64).product();
        return 2.0 * count * inner;
    }
    if let Op::Grouped(_) = op {
        return 2.0 * count * args[0].dim(-1).size() as f64;
    }
    // each row is in one group's sum
    if let Op::GroupedSum(_) = op {
        return 2.0 * args[0].count() as f64 * args[1].dim(-1).size() as f64;
    }
    let (Op::Attention(a) | Op::AttentionBwd(a)) = op else { unreachable!("{op} is no product") };
    let products = if matches!(op, Op::Attention(_)) { 2.0 } else { 5.0 };
    let sizes = ir::attention_sizes(a, args[0], args[1], args[2]).expect("the type rule has checked the labels");
    let size = |l: &u8| sizes[usize::from(*l)].map_or(1.0, |d| d.size() as f64);
    let scores: f64 = (0..a.scores).map(|l| size(&l)).product();
    let depth: f64 = a.q.iter().filter(|l| **l >= a.scores).map(size).product();
    let captured: Vec<&Type> = args[op.fixed_operands()..].to_vec();
    let shared = a.f.share(size(&(a.scores - 2)) as usize, size(&(a.scores - 1)) as usize, &captured);
    // a mask that bounds say costs nothing
    let pointwise: f64 = a.f.visible(&captured).0.canonical().steps.iter().map(|s| if matches!(s.op, Op::Un(_)) { 8.0 } else { 1.0 }).sum();
    (products * 2.0 * depth + POINTWISE * pointwise) * scores * shared
}

/// What an operation between products costs beside one of theirs.
const POINTWISE: f64 = 4.0;
