//! Copies a function needs before its values can be given places.

use super::role::{Role, immediate, in_memory, role};
use super::steps::Routine;
use ir::{Func, NodeId, Op};
use std::collections::BTreeSet;

/// Copies where memory is wanted and a value has none of its own: constants as operands of products and loops, and results that are
/// operands, views, what goes round in a loop, or one value twice. The first `carried` operands may also be results behind the carried
/// ones: the ring they go round in keeps every iteration's. `routines` are those of the functions before it.
pub(crate) fn prepare(func: &Func, carried: usize, routines: &[Routine]) -> Func {
    let mut out = Func::new(&func.name);
    let mut new: Vec<NodeId> = vec![];
    let copy = |out: &mut Func, id: NodeId| {
        let ty = out.ty(id).clone();
        out.add_typed(Op::Broadcast(ty.dims.clone()), &[id], ty)
    };
    for node in &func.nodes {
        let written_out = matches!(role(&node.op), Role::Pointwise | Role::Reduce);
        let mut args: Vec<NodeId> = node.args.iter().map(|a| new[a.index()]).collect();
        for (i, a) in args.iter_mut().enumerate() {
            let table = matches!(node.op, Op::Gather) && i == 0;
            if (!written_out || table) && immediate(&out.node(*a).op).is_some() {
                *a = copy(&mut out, *a);
            }
        }
        new.push(out.push(ir::Node { args, ..node.clone() }));
    }
    let mut taken: BTreeSet<NodeId> = BTreeSet::new();
    for (i, r) in func.results.iter().enumerate() {
        let mut id = new[r.index()];
        let alias = i >= carried && matches!(out.node(id).op, Op::Input(j, _) if (j as usize) < carried);
        let base = reshape_base(&out, id);
        let own = in_memory(&out.node(base).op) && !goes_round(&out, base, routines) && !matches!(role(&out.node(base).op), Role::View(_));
        if !alias && (!own || !taken.insert(base)) {
            id = copy(&mut out, id);
            taken.insert(id);
        }
        out.results.push(id);
    }
    out
}

/// Whether a value is a member of a loop that stands in a ring: one that is carried, or of which every iteration's is kept.
fn goes_round(func: &Func, id: NodeId, routines: &[Routine]) -> bool {
    let Op::Get(i) = func.node(id).op else { return false };
    let Op::Repeat(l) = &func.node(func.node(id).args[0]).op else { return false };
    i < l.carried || routines[l.func as usize].results[i as usize].is_err()
}

/// The value whose elements a chain of reshapes shows in the same order.
pub(crate) fn reshape_base(func: &Func, mut id: NodeId) -> NodeId {
    while let Op::Reshape(_) = func.node(id).op {
        id = func.node(id).args[0];
    }
    id
}
