//! A matrix in few bits, taken out of its words where a product reads it: mathematics, which the compiler puts into one kernel.

use super::weave::{Frame, Linear};
use crate::weights::packed::{MIDDLE, NF4, Packed};
use ir::{Bin, DType, Dim, Dims, NodeId, Op, Type, num};

/// The parameters that a layer's matrix is: their paths and types, stacked where layers are.
pub fn parameters(packed: Packed, linear: &Linear) -> [(String, Type); 2] {
    let sizes = matrix(linear);
    let loops = &linear.ty.dims[..linear.ty.rank() - 2];
    let ty = |dtype, sizes: [usize; 3]| Type::of(dtype, loops.iter().copied().chain(sizes.map(Dim::from)));
    let [words, scales] = packed.names(&linear.path);
    [(words, ty(DType::U32, packed.words(sizes))), (scales, ty(DType::F32, packed.scales(sizes)))]
}

/// The sizes of one layer's matrix, as it lies.
pub fn matrix(linear: &Linear) -> [usize; 2] {
    if linear.turned { [linear.inputs, linear.outputs] } else { [linear.outputs, linear.inputs] }
}

/// The matrix.
pub(super) fn unpacked(frame: &mut Frame, linear: &Linear, packed: Packed) -> NodeId {
    let [words, scales] = parameters(packed, linear).map(|(path, ty)| frame.param(&path, &ty, &linear.path));
    let (sizes, [rows, blocks, block]) = (matrix(linear), packed.words(matrix(linear)));
    // a number of a word each: [parts, rows, blocks, block]
    let part = frame.add(Op::Iota(-4, Dim::from(packed.parts())), &[]);
    let part = frame.add(Op::Cast(DType::U32), &[part]);
    let bits = frame.uint(packed.bits() as u32);
    let shift = frame.add(Op::Bin(Bin::Mul), &[part, bits]);
    let shifted = frame.add(Op::Bin(Bin::Shr), &[words, shift]);
    let mask = frame.uint((1 << packed.bits()) - 1);
    let codes = frame.add(Op::Bin(Bin::And), &[shifted, mask]);
    let levels = match packed {
        Packed::Int8 => {
            let (codes, middle) = (frame.add(Op::Cast(DType::F32), &[codes]), frame.add(num(f64::from(MIDDLE)), &[]));
            frame.add(Op::Bin(Bin::Sub), &[codes, middle])
        }
        Packed::Nf4 => level(frame, codes),
    };
    let scales = reshape(frame, scales, &[packed.parts(), rows, blocks, 1]);
    let all = frame.add(Op::Bin(Bin::Mul), &[levels, scales]);
    let all = reshape(frame, all, &[packed.parts() * rows, blocks * block]);
    let cut = |frame: &mut Frame, x, axis, whole: usize, to: usize| {
        if whole == to { x } else { frame.add(Op::Slice(axis, 0, to as u32), &[x]) }
    };
    let all = cut(frame, all, -2, packed.parts() * rows, sizes[0]);
    cut(frame, all, -1, blocks * block, sizes[1])
}

fn reshape(frame: &mut Frame, x: NodeId, sizes: &[usize]) -> NodeId {
    frame.add(Op::Reshape(sizes.iter().map(|n| Dim::from(*n)).collect::<Dims>()), &[x])
}

/// The levels of codes, bit by bit: a choice of two a bit needs no table, which no machine reads as fast.
fn level(frame: &mut Frame, codes: NodeId) -> NodeId {
    let mut levels: Vec<NodeId> = NF4.iter().map(|level| frame.add(num(f64::from(*level)), &[])).collect();
    for bit in 0..4 {
        let (mask, none) = (frame.uint(1 << bit), frame.uint(0));
        let own = frame.add(Op::Bin(Bin::And), &[codes, mask]);
        let low = frame.add(Op::Bin(Bin::Eq), &[own, none]);
        levels = levels.chunks_exact(2).map(|pair| frame.add(Op::Select, &[low, pair[0], pair[1]])).collect();
    }
    levels[0]
}
