//! Composites to core ops, and the few shapes that grouping wants: what a kernel template does not do itself is written out here.

use ir::{Axes, Class, Func, NodeId, Op, definition};

/// A function whose composites are their definitions, except attention that the kernels can do.
pub(crate) fn expand(func: &Func) -> Func {
    let mut out = Func::new(&func.name);
    let mut new: Vec<NodeId> = vec![];
    for node in &func.nodes {
        let args: Vec<NodeId> = node.args.iter().map(|a| new[a.index()]).collect();
        new.push(emit(&mut out, &node.op, &args, &node.ty));
    }
    out.results = func.results.iter().map(|r| new[r.index()]).collect();
    members(&out).sweep()
}

fn emit(out: &mut Func, op: &Op, args: &[NodeId], ty: &ir::Type) -> NodeId {
    let types: Vec<ir::Type> = args.iter().map(|a| out.ty(*a).clone()).collect();
    let types: Vec<&ir::Type> = types.iter().collect();
    if let Op::Reduce(red, axes) = op {
        return reduce(out, *red, axes, args[0]);
    }
    let body = match op.spec().class {
        Class::Composite => definition(op, &types),
        Class::Contract if matches!(op, Op::Attention(_) | Op::AttentionBwd(_)) && !super::heads::supported(op, &types) => definition(op, &types),
        Class::Leaf | Class::Pointwise | Class::View | Class::Reduce | Class::Index | Class::Contract | Class::Structure => None,
    };
    let Some(body) = body else { return out.add_typed(op.clone(), args, ty.clone()) };
    let mut new: Vec<NodeId> = vec![];
    for node in &body.nodes {
        if let Op::Input(i, _) = node.op {
            new.push(args[i as usize]);
            continue;
        }
        let args: Vec<NodeId> = node.args.iter().map(|a| new[a.index()]).collect();
        new.push(emit(out, &node.op, &args, &node.ty));
    }
    let results: Vec<NodeId> = body.results.iter().map(|r| new[r.index()]).collect();
    if results.len() == 1 { results[0] } else { out.add(Op::Tuple, &results) }
}

/// Elements beyond which one sum is split in two, so that threads share it.
const WHOLE_MAX: usize = 1 << 14;

/// Reductions that are no suffix of the axes, or too long for one unit of work, go axis by axis.
fn reduce(out: &mut Func, red: ir::Red, axes: &[i8], x: NodeId) -> NodeId {
    let ty = out.ty(x).clone();
    let mut axes: Vec<i8> = axes.to_vec();
    axes.sort_unstable_by(|a, b| b.cmp(a));
    axes.dedup();
    axes.retain(|a| ty.dim(*a).size() != 1);
    // axes of size 1 between count as reduced
    let suffix = axes.iter().all(|a| (*a + 1..0).all(|b| axes.contains(&b) || ty.dim(b).size() == 1));
    let reduced: usize = axes.iter().map(|a| ty.dim(*a).size()).product();
    let long = reduced > WHOLE_MAX && ty.count() / reduced.max(1) < 16 && axes.len() > 1;
    let last = axes.first().copied();
    match last {
        None => x,
        Some(-1) if (!suffix || long) && axes.len() > 1 => {
            let first = out.add(Op::Reduce(red, Axes::from_slice(&[-1])), &[x]);
            reduce(out, red, &axes[1..], first)
        }
        Some(_) => out.add(Op::Reduce(red, Axes::from_slice(&axes)), &[x]),
    }
}

/// `get` of a tuple made here is the member.
fn members(func: &Func) -> Func {
    let mut out = func.clone();
    let mut new: Vec<NodeId> = func.ids().collect();
    for id in func.ids() {
        let args: Vec<NodeId> = func.node(id).args.iter().map(|a| new[a.index()]).collect();
        if let (Op::Get(i), Some(tuple)) = (&func.node(id).op, args.first())
            && func.node(*tuple).op == Op::Tuple
        {
            new[id.index()] = new[func.node(*tuple).args[*i as usize].index()];
        }
        out.nodes[id.index()].args = args;
    }
    out.results = func.results.iter().map(|r| new[r.index()]).collect();
    out
}
