//! The pointwise part of a kernel, from the ops of a group.

use super::group::Group;
use super::homes::row_major;
use super::layout::{KernelArgs, Layout};
use super::needed::Needed;
use super::role::{Immediate, immediate, pointwise};
use crate::kernel::Elem;
use crate::spec::{Access, Dag, Step as Pure, Store};
use ir::{DType, NodeId, Op};
use std::collections::HashMap;

/// The pointwise part of a kernel while it is built.
pub(crate) struct DagBuilder<'a> {
    group: &'a Group,
    needed: &'a Needed<'a>,
    /// Dims that values are aligned to.
    dims: Vec<usize>,
    /// Rank of the iteration, which may have further dims behind.
    rank: usize,
    pub args: KernelArgs,
    pub dag: Dag,
    steps: HashMap<NodeId, usize>,
    pub product: Option<NodeId>,
}

impl<'a> DagBuilder<'a> {
    pub(crate) fn new(group: &'a Group, needed: &'a Needed<'a>, dims: Vec<usize>, rank: usize) -> DagBuilder<'a> {
        DagBuilder { group, needed, dims, rank, args: KernelArgs::default(), dag: Dag::default(), steps: HashMap::new(), product: None }
    }

    /// The steps of these values. A kernel may be thousands of ops in a row, so that what waits for its operands is on a stack of its own.
    pub(crate) fn build(&mut self, b: &mut Layout, outputs: &[NodeId]) {
        let mut stack: Vec<(NodeId, bool)> = outputs.iter().rev().map(|id| (*id, false)).collect();
        while let Some((id, operands_done)) = stack.pop() {
            if self.steps.contains_key(&id) {
                continue;
            }
            if operands_done || !self.is_computed(b, id) {
                self.value(b, id);
            } else {
                stack.push((id, true));
                stack.extend(self.operands(b, id).iter().rev().map(|a| (*a, false)));
            }
        }
    }

    /// The operands that become steps of this kernel.
    fn operands(&self, b: &Layout, id: NodeId) -> Vec<NodeId> {
        let node = b.func.node(id);
        let is_step = |i: NodeId| self.group.nodes.contains(&i) || matches!(immediate(&b.func.node(i).op), Some(Immediate::Number(_)));
        if node.op == Op::Gather { node.args[1..].iter().copied().filter(|i| is_step(*i)).collect() } else { node.args.clone() }
    }

    /// Whether a value is computed in this kernel, of its operands.
    fn is_computed(&self, b: &Layout, id: NodeId) -> bool {
        let op = &b.func.node(id).op;
        let of = &self.needed.groups.of;
        let (own, reader) = (of[id.index()], of[self.group.nodes[0].index()]);
        let here = own == reader && own.is_some();
        Some(id) != self.product && (here || (own != reader && pointwise(op) && self.needed.inlined(id, reader)))
    }

    fn push(&mut self, step: Pure, dtype: DType) -> usize {
        self.dag.steps.push((step, Elem::of(dtype)));
        self.dag.steps.len() - 1
    }

    /// Strides of a value over the iteration: aligned at the end of `dims`, 0 where it is broadcast.
    fn aligned(&self, dims: &[usize], strides: &[i64]) -> Vec<i64> {
        let skip = self.dims.len() - dims.len();
        let own = dims.iter().zip(strides).map(|(d, s)| if *d == 1 { 0 } else { *s });
        std::iter::repeat_n(0, skip).chain(own).chain(std::iter::repeat_n(0, self.rank - self.dims.len())).collect()
    }

    fn value(&mut self, b: &mut Layout, id: NodeId) -> usize {
        if let Some(s) = self.steps.get(&id) {
            return *s;
        }
        let node = b.func.node(id).clone();
        let step = match immediate(&node.op) {
            Some(Immediate::Number(x)) => self.push(Pure::Const(x), node.ty.dtype),
            Some(Immediate::Positions(_)) => {
                let dims = node.ty.sizes();
                let mut strides = vec![0; dims.len()];
                strides[0] = 1;
                let strides = self.aligned(&dims, &strides);
                self.push(Pure::Index { offset: 0, strides }, DType::I32)
            }
            None if Some(id) == self.product => self.push(Pure::Product, DType::F32),
            None if self.is_computed(b, id) => self.compute(b, id, &node.op),
            None => {
                let home = b.home(id);
                let arg = self.args.arg(home.buffer, Elem::of(node.ty.dtype), false);
                let strides = self.aligned(&home.dims, &home.strides);
                self.push(Pure::Load(Access { arg, offset: home.offset, strides }), node.ty.dtype)
            }
        };
        self.steps.insert(id, step);
        step
    }

    fn compute(&mut self, b: &mut Layout, id: NodeId, op: &Op) -> usize {
        let node = b.func.node(id).clone();
        if *op == Op::Gather {
            return self.gather(b, id);
        }
        let args: Vec<usize> = node.args.iter().map(|a| self.value(b, *a)).collect();
        let step = match op {
            Op::Un(u) => Pure::Un(*u, args[0]),
            Op::Bin(f) => Pure::Bin(*f, args[0], args[1]),
            Op::Select => Pure::Select(args[0], args[1], args[2]),
            Op::Cast(_) | Op::StopGradient | Op::Broadcast(_) => Pure::Cast(args[0]),
            Op::Reduce(red, _) => Pure::Reduce(*red, args[0]),
            Op::RandomBits(_) => {
                let dims = node.ty.sizes();
                let strides = self.aligned(&dims, &row_major(&dims));
                let counter = self.push(Pure::Index { offset: 0, strides }, DType::I32);
                let counter = self.push(Pure::Cast(counter), DType::U32);
                Pure::Random(args[0], counter)
            }
            Op::Param(..) | Op::Input(..) | Op::Const(..) | Op::Iota(..) | Op::Size(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Slice(..) => {
                unreachable!("{op} is in memory, or written out")
            }
            Op::Contract(_)
            | Op::Grouped(_)
            | Op::GroupedSum(_)
            | Op::Pad(..)
            | Op::Concat(_)
            | Op::Gather
            | Op::ScatterAdd
            | Op::Update(_)
            | Op::Repeat(_)
            | Op::Tuple
            | Op::Get(_) => {
                unreachable!("{op} is not pointwise")
            }
            Op::Row(_) | Op::Attention(_) | Op::AttentionBwd(_) => unreachable!("{op} was written out, or has a kernel"),
        };
        self.push(step, node.ty.dtype)
    }

    fn gather(&mut self, b: &mut Layout, id: NodeId) -> usize {
        let node = b.func.node(id).clone();
        let [table, index] = node.args[..] else { unreachable!("gather has two operands") };
        let home = b.home(table);
        if home.dims[0] == 0 {
            // every index is outside
            return self.push(Pure::Const(0.0), node.ty.dtype);
        }
        let index_dims = b.func.ty(index).sizes();
        // the index is aligned with the leading dims of the result: give it the rest as size-1 axes
        let rest = home.dims.len() - 1;
        let i = match immediate(&b.func.node(index).op) {
            // computed in this kernel, element by element
            _ if self.group.nodes.contains(&index) => self.value(b, index),
            Some(Immediate::Number(_)) => self.value(b, index),
            Some(Immediate::Positions(axis)) => {
                let mut strides = vec![0; self.dims.len()];
                let at = self.dims.len() as i64 - rest as i64 + i64::from(axis);
                strides[at as usize] = 1;
                strides.resize(self.rank, 0);
                self.push(Pure::Index { offset: 0, strides }, DType::I32)
            }
            None => {
                let place = b.home(index);
                let arg = self.args.arg(place.buffer, Elem::I32, false);
                let dims: Vec<usize> = index_dims.iter().copied().chain(std::iter::repeat_n(1, rest)).collect();
                let strides: Vec<i64> = place.strides.iter().copied().chain(std::iter::repeat_n(0, rest)).collect();
                let strides = self.aligned(&dims, &strides);
                self.push(Pure::Load(Access { arg, offset: place.offset, strides }), DType::I32)
            }
        };
        let arg = self.args.arg(home.buffer, Elem::of(node.ty.dtype), false);
        let strides = self.aligned(&home.dims[1..], &home.strides[1..]);
        let access = Access { arg, offset: home.offset, strides };
        self.push(Pure::Gather { access, row: home.strides[0], rows: home.dims[0] as i64, index: i }, node.ty.dtype)
    }

    pub(crate) fn stores(&mut self, b: &mut Layout, outputs: &[NodeId]) -> Vec<Store> {
        let store = |d: &mut Self, b: &mut Layout, id: NodeId| {
            let home = b.home(id);
            let arg = d.args.arg(home.buffer, Elem::of(b.func.ty(id).dtype), true);
            let strides = d.aligned(&home.dims, &home.strides);
            Store { step: d.steps[&id], access: Access { arg, offset: home.offset, strides }, at: None }
        };
        outputs.iter().map(|id| store(self, b, *id)).collect()
    }
}
