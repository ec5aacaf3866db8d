//! An update at a run-time position: the state is copied to where its new value stands, which is no work where that is the state's own
//! place, and the values are stored by index.

use super::homes::{Home, axis_of};
use super::layout::{KernelArgs, Layout};
use super::prepare::reshape_base;
use super::steps::Routine;
use crate::kernel::Elem;
use crate::spec::{Access, At, Dag, Spec, Step as Pure, Store, Template};
use ir::{Bin, DType, Func, NodeId, Op};

/// The kernels of an update.
pub(crate) fn emit_update(b: &mut Layout, id: NodeId, axis: i8) {
    let node = b.func.node(id).clone();
    let [state, values, start] = node.args[..] else { unreachable!("an update has three operands") };
    let (from, to) = (b.home(state), b.home(id));
    b.copy(&from, &to, node.ty.dtype);
    let (values, start) = (b.home(values), b.home(start));
    store_by_index(b, &to, axis_of(&node.ty, axis), (&values, &start), node.ty.dtype);
}

/// A kernel over the values: each is stored at its start plus its place along the axis.
fn store_by_index(b: &mut Layout, to: &Home, axis: usize, (values, start): (&Home, &Home), dtype: DType) {
    let elem = Elem::of(dtype);
    let mut k = KernelArgs::default();
    let along = |stride: i64| (0..to.dims.len()).map(|d| if d == axis { stride } else { 0 }).collect::<Vec<i64>>();
    let value = Access { arg: k.push(values.buffer, elem, false), offset: values.offset, strides: values.strides.clone() };
    let begin = Access { arg: k.push(start.buffer, Elem::I32, false), offset: start.offset, strides: aligned(start, to.dims.len()) };
    let steps = vec![
        (Pure::Load(value), elem),
        (Pure::Load(begin), Elem::I32),
        (Pure::Index { offset: 0, strides: along(1) }, Elem::I32),
        (Pure::Bin(Bin::Add, 1, 2), Elem::I32),
    ];
    let strides = to.strides.iter().enumerate().map(|(d, s)| if d == axis { 0 } else { *s }).collect();
    let access = Access { arg: k.push(to.buffer, elem, true), offset: to.offset, strides };
    let at = Some(At { index: 3, row: to.strides[axis], rows: to.dims[axis] as i64 });
    let stores = vec![Store { step: 0, access, at }];
    b.step(Spec { template: Template::Rows { tail: 0 }, dims: values.dims.clone(), params: k.params, dag: Dag { steps }, stores }, k.buffers);
}

/// Strides of a value that is broadcast over so many dims.
fn aligned(home: &Home, rank: usize) -> Vec<i64> {
    let own = home.dims.iter().zip(&home.strides).map(|(d, s)| if *d == 1 { 0 } else { *s });
    std::iter::repeat_n(0, rank - home.dims.len()).chain(own).collect()
}

/// The operand of a function of which a value is what updates have made.
pub(crate) fn updated(func: &Func, value: NodeId, routines: &[Routine]) -> Option<usize> {
    let mut at = reshape_base(func, value);
    while let Some(from) = updates(func, at, routines) {
        at = reshape_base(func, from);
    }
    if let Op::Input(i, _) = func.node(at).op { Some(i as usize) } else { None }
}

/// The state of an update, or of a loop that makes them in place.
fn updates(func: &Func, value: NodeId, routines: &[Routine]) -> Option<NodeId> {
    let node = func.node(value);
    if let Op::Update(_) = node.op {
        return Some(node.args[0]);
    }
    let Op::Get(i) = node.op else { return None };
    let made = func.node(node.args[0]);
    let Op::Repeat(l) = &made.op else { return None };
    routines[l.func as usize].operand_of(i as usize).map(|operand| made.args[operand])
}
