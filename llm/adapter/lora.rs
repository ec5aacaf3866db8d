//! Low-rank adapters (Hu et al. 2021): x W + s (x A) B, where W stays as it is.
//!
//! A and B have the layouts of PEFT's files, `[r, in]` and `[out, r]`, whatever W's is. Which of `x W + (x A) B` and `x (W + A B)` is computed
//! is not decided here: the compiler's e-graph holds both.

use super::weave::{Frame, Linear};
use ir::{Axes, Bin, DType, Dim, Dims, Ein, NodeId, Op, Red, Type, Un, num};

/// What stands beside one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Low {
    /// The name of the adapter, where there are several.
    pub name: Option<String>,
    /// The rank r.
    pub rank: usize,
    /// What its product is multiplied by.
    pub scale: f64,
    /// The probability of dropping an element of what goes in.
    pub dropout: f64,
    /// Whether the columns of W + s A B have lengths of their own (Liu et al. 2024).
    pub dora: bool,
}

/// What the factors are called, and the lengths.
pub const A: &str = "lora_A";
/// The second factor.
pub const B: &str = "lora_B";
/// Lengths of columns.
pub const MAGNITUDE: &str = "lora_magnitude_vector";

impl Low {
    /// Its parameters: what each is called, its path and its type, stacked where layers are.
    pub fn parameters(&self, linear: &Linear) -> Vec<(&'static str, String, Type)> {
        let name = self.name.as_ref().map_or(String::new(), |n| format!(".{n}"));
        let loops = &linear.ty.dims[..linear.ty.rank() - 2];
        let ty = |dims: &[usize]| Type::f32(loops.iter().copied().chain(dims.iter().map(|d| Dim::from(*d))));
        let factor = |which, dims: [usize; 2]| (which, format!("{}.{which}{name}.weight", linear.module), ty(&dims));
        let both = [factor(A, [self.rank, linear.inputs]), factor(B, [linear.outputs, self.rank])];
        let lengths = self.dora.then(|| (MAGNITUDE, format!("{}.{MAGNITUDE}{name}", linear.module), ty(&[linear.outputs])));
        both.into_iter().chain(lengths).collect()
    }

    fn param(&self, frame: &mut Frame, linear: &Linear, which: &str) -> NodeId {
        let all = self.parameters(linear);
        let (_, path, ty) = all.iter().find(|p| p.0 == which).expect("it has what is asked for");
        frame.param(path, ty, &linear.path)
    }

    /// A and s B.
    fn factors(&self, frame: &mut Frame, linear: &Linear) -> [NodeId; 2] {
        let [a, b] = [A, B].map(|which| self.param(frame, linear, which));
        if self.scale == 1.0 {
            return [a, b];
        }
        let scale = frame.add(num(self.scale), &[]);
        [a, frame.add(Op::Bin(Bin::Mul), &[b, scale])]
    }
}

/// A product of a layer, `x` with its matrix, by labels.
pub(super) struct Site<'a> {
    pub(super) x: NodeId,
    pub(super) w: NodeId,
    pub(super) ein: Ein,
    pub(super) linear: &'a Linear,
}

/// A sum, and beside it s (x A) B.
pub(super) fn beside(frame: &mut Frame, site: &Site, sum: NodeId, low: &Low) -> NodeId {
    let Site { ein, linear, .. } = site;
    let inside = usize::from(!linear.turned);
    let (inner, outer, rank) = (ein.b[inside], ein.b[1 - inside], u8::MAX);
    let thin: Vec<u8> = ein.a.iter().map(|l| if *l == inner { rank } else { *l }).collect();
    let x = dropped(frame, site.x, low.dropout);
    let [a, b] = low.factors(frame, linear);
    let product = frame.add(Op::Contract(Ein::new(&ein.a, &[rank, inner], &thin)), &[x, a]);
    let product = frame.add(Op::Contract(Ein::new(&thin, &[outer, rank], &ein.outs())), &[product, b]);
    if !low.dora {
        return frame.add(Op::Bin(Bin::Add), &[sum, product]);
    }
    let lengths = shares(frame, linear, site.w, low);
    let behind = usize::from(ein.out - 1 - outer);
    let dims: Dims = std::iter::once(Dim::from(linear.outputs)).chain(std::iter::repeat_n(Dim::ONE, behind)).collect();
    let lengths = frame.add(Op::Reshape(dims), &[lengths]);
    if x == site.x {
        let whole = frame.add(Op::Bin(Bin::Add), &[sum, product]);
        return frame.add(Op::Bin(Bin::Mul), &[whole, lengths]);
    }
    // of what nothing is dropped of, the model's own product stays as it is
    let one = frame.add(num(1.0), &[]);
    let more = frame.add(Op::Bin(Bin::Sub), &[lengths, one]);
    let own = frame.add(Op::Contract(ein.clone()), &[x, site.w]);
    let own = frame.add(Op::Bin(Bin::Mul), &[own, more]);
    let product = frame.add(Op::Bin(Bin::Mul), &[product, lengths]);
    let sum = frame.add(Op::Bin(Bin::Add), &[sum, own]);
    frame.add(Op::Bin(Bin::Add), &[sum, product])
}

/// A matrix, and added to it s A B as it lies; of lengths of their own, with these.
pub(super) fn within(frame: &mut Frame, linear: &Linear, w: NodeId, low: &Low) -> NodeId {
    let whole = added(frame, linear, w, low);
    if !low.dora {
        return whole;
    }
    let lengths = shares(frame, linear, w, low);
    let out = Dim::from(linear.outputs);
    let dims: [Dim; 2] = if linear.turned { [Dim::ONE, out] } else { [out, Dim::ONE] };
    let lengths = frame.add(Op::Reshape(dims.into_iter().collect()), &[lengths]);
    frame.add(Op::Bin(Bin::Mul), &[whole, lengths])
}

/// W + s A B.
fn added(frame: &mut Frame, linear: &Linear, w: NodeId, low: &Low) -> NodeId {
    let [a, b] = low.factors(frame, linear);
    let (inner, outer, rank) = (0, 1, 2);
    let out = if linear.turned { [inner, outer] } else { [outer, inner] };
    let product = frame.add(Op::Contract(Ein::new(&[rank, inner], &[outer, rank], &out)), &[a, b]);
    frame.add(Op::Bin(Bin::Add), &[w, product])
}

/// The wanted length of each column over the one that W + s A B has, through which no gradient flows. `[out]`
fn shares(frame: &mut Frame, linear: &Linear, w: NodeId, low: &Low) -> NodeId {
    let whole = added(frame, linear, w, low);
    let square = frame.add(Op::Bin(Bin::Mul), &[whole, whole]);
    let sum = frame.add(Op::Reduce(Red::Sum, Axes::from_slice(&[if linear.turned { -2 } else { -1 }])), &[square]);
    let norm = frame.add(Op::Un(Un::Sqrt), &[sum]);
    let norm = frame.add(Op::StopGradient, &[norm]);
    let norm = frame.add(Op::Reshape([Dim::from(linear.outputs)].into_iter().collect()), &[norm]);
    let magnitude = low.param(frame, linear, MAGNITUDE);
    frame.add(Op::Bin(Bin::Div), &[magnitude, norm])
}

/// x with each element dropped with probability p and the rest scaled by 1 / (1 − p).
fn dropped(frame: &mut Frame, x: NodeId, p: f64) -> NodeId {
    if p == 0.0 {
        return x;
    }
    let key = frame.key();
    let bits = frame.add(Op::RandomBits(frame.func.ty(x).dims.clone()), &[key]);
    let least = frame.add(Op::Const(f64::from((p * 2f64.powi(32)) as u32).to_bits(), DType::U32), &[]);
    let keep = frame.add(Op::Bin(Bin::Le), &[least, bits]);
    let (scale, zero) = (frame.add(num(1.0 / (1.0 - p)), &[]), frame.add(num(0.0), &[]));
    let x = frame.add(Op::Bin(Bin::Mul), &[x, scale]);
    frame.add(Op::Select, &[keep, x, zero])
}
