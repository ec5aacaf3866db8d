//! Forward and backward bodies of a loop, optimised as one and cut again.

use crate::fuse::{Fuser, fuse_func};
use crate::pair::{Pair, Role};
use ir::{Func, Graph, Node, NodeId, Op};
use std::collections::{HashMap, HashSet};

/// A forward loop and the reverse loop that reads its residuals.
struct Link {
    forward: NodeId,
    backward: NodeId,
}

/// Joins every pair of loops, optimises each joint body, main and every other function, and cuts the bodies again.
pub fn joint(graph: &Graph, fuser: &mut Fuser) -> Graph {
    let main = graph.main();
    let mut funcs = graph.funcs[..graph.funcs.len() - 1].to_vec();
    let links = links(main);
    let forward: HashMap<NodeId, &Link> = links.iter().map(|l| (l.forward, l)).collect();
    let backward: HashMap<NodeId, &Link> = links.iter().map(|l| (l.backward, l)).collect();
    let users = users(main);
    let mut out = Func::new(&main.name);
    let mut new: Vec<NodeId> = vec![];
    // by the old forward loop: the joint body, what its inputs get (by old ids), the new loop, and where each old result went
    let mut open: HashMap<NodeId, (Pair, Vec<NodeId>, NodeId, HashMap<u32, u32>)> = HashMap::new();
    for id in main.ids() {
        let node = main.node(id);
        if let Some(link) = forward.get(&id) {
            let (mut pair, outer, kept) = join(main, &users, link, &funcs);
            pair.func = fuse_func(&pair.func, &funcs, fuser);
            let pair = pair.lowered(fuser.precision);
            let known: Vec<Option<NodeId>> = outer.iter().map(|o| new.get(o.index()).copied()).collect();
            let at = pair.emit_forward(&pair.split(), &known, &mut funcs, &mut out);
            open.insert(id, (pair, outer, at, kept));
            new.push(at);
        } else if let Some(link) = backward.get(&id) {
            let (pair, outer, forward, _) = &open[&link.forward];
            let known: Vec<Option<NodeId>> = outer.iter().map(|o| new.get(o.index()).copied()).collect();
            new.push(pair.emit_backward(&pair.split(), &known, *forward, &mut funcs, &mut out));
        } else {
            let op = match (&node.op, node.args.first().and_then(|a| open.get(a))) {
                // a member nobody but the backward reads no longer exists: any stand-in dies in the sweep
                (Op::Get(i), Some((.., kept))) => Op::Get(kept.get(i).copied().unwrap_or(0)),
                (op, _) => op.clone(),
            };
            let args: Vec<NodeId> = node.args.iter().map(|a| new[a.index()]).collect();
            let ty = if let Op::Get(i) = op { out.ty(args[0]).parts[i as usize].clone() } else { node.ty.clone() };
            new.push(out.push(Node { op, args, ty, loc: node.loc }));
        }
    }
    out.results = main.results.iter().map(|r| new[r.index()]).collect();
    let main = fuse_func(&out.sweep(), &funcs, fuser);
    funcs.push(main);
    Graph { funcs, inputs: graph.inputs.clone(), outputs: graph.outputs.clone() }.sweep()
}

/// Pairs of loops where the second runs against the first and reads, stacked, what it stacked. A loop is in one pair at most; gradients
/// come after everything forward, so the last reader is the one. What the second reads in every iteration must be known to the first,
/// because the cut may move work there.
fn links(main: &Func) -> Vec<Link> {
    let mut out: Vec<Link> = vec![];
    let mut taken: HashSet<NodeId> = HashSet::new();
    for backward in main.ids().rev() {
        let Op::Repeat(b) = &main.node(backward).op else { continue };
        let (stacked, same) = main.node(backward).args[b.carried as usize..].split_at(b.stacked as usize);
        let feeds = |a: &NodeId| {
            let Op::Get(i) = &main.node(*a).op else { return None };
            Some(main.node(*a).args[0]).filter(|f| {
                let runs_against = matches!(&main.node(*f).op, Op::Repeat(f) if *i >= f.carried && f.trip == b.trip && f.reverse != b.reverse);
                runs_against && !taken.contains(f) && same.iter().all(|s| s < f)
            })
        };
        if let Some(forward) = stacked.iter().find_map(feeds).filter(|_| !taken.contains(&backward)) {
            taken.extend([forward, backward]);
            out.push(Link { forward, backward });
        }
    }
    out
}

/// The joint body of a pair of loops; what each of its inputs gets; and where results of the forward loop that others read now are.
fn join(main: &Func, users: &[Vec<NodeId>], link: &Link, funcs: &[Func]) -> (Pair, Vec<NodeId>, HashMap<u32, u32>) {
    let (f, b) = (main.node(link.forward), main.node(link.backward));
    let (Op::Repeat(fl), Op::Repeat(bl)) = (&f.op, &b.op) else { unreachable!("links are loops") };
    let (forward, backward) = (&funcs[fl.func as usize], &funcs[bl.func as usize]);
    let role = |i: usize, carried: u32, stacked: u32, roles: [Role; 3]| {
        if i < carried as usize {
            roles[0]
        } else if i < (carried + stacked) as usize {
            roles[1]
        } else {
            roles[2]
        }
    };
    let mut joint = Func::new(&forward.name.replace(".forward", ".joint"));
    let mut roles: Vec<Role> = (0..f.args.len()).map(|i| role(i, fl.carried, fl.stacked, [Role::Carried, Role::Stacked, Role::Invariant])).collect();
    let mut outer = f.args.clone();
    let forward_new = inline(&mut joint, forward, &|_| None);
    let results: Vec<NodeId> = forward.results.iter().map(|r| forward_new[r.index()]).collect();
    let mut bound: Vec<NodeId> = vec![];
    for (i, (arg, ty)) in b.args.iter().zip(backward.inputs()).enumerate() {
        let kind = role(i, bl.carried, bl.stacked, [Role::BackwardCarried, Role::BackwardStacked, Role::Invariant]);
        let mine = |j: &u32| main.node(*arg).args[0] == link.forward && kind == Role::BackwardStacked && *j >= fl.carried;
        let residual = if let Op::Get(j) = &main.node(*arg).op { Some(j).filter(|j| mine(j)).map(|j| results[*j as usize]) } else { None };
        let same = |k: &usize| {
            f.args[*k] == *arg
                && ((kind == Role::BackwardStacked && roles[*k] == Role::Stacked) || (kind == Role::Invariant && roles[*k] == Role::Invariant))
        };
        let shared = (0..f.args.len()).find(same).and_then(|k| input_of(&joint, k));
        bound.push(residual.or(shared).unwrap_or_else(|| {
            roles.push(kind);
            outer.push(*arg);
            joint.add(Op::Input(roles.len() as u32 - 1, ty), &[])
        }));
    }
    let backward_new = inline(&mut joint, backward, &|i| Some(bound[i]));
    let mut kept: Vec<u32> = (0..fl.carried).collect();
    for member in &users[link.forward.index()] {
        let elsewhere = main.results.contains(member) || users[member.index()].iter().any(|u| *u != link.backward);
        if let Op::Get(j) = main.node(*member).op {
            kept.extend(Some(j).filter(|j| *j >= fl.carried && elsewhere));
        }
    }
    kept.sort_unstable();
    kept.dedup();
    joint.results = kept.iter().map(|j| results[*j as usize]).chain(backward.results.iter().map(|r| backward_new[r.index()])).collect();
    let map = kept.iter().enumerate().map(|(new, old)| (*old, new as u32)).collect();
    let pair = Pair { func: joint.sweep(), roles, trip: fl.trip, reverse: fl.reverse, carried: fl.carried as usize, results: kept.len() };
    (pair, outer, map)
}

/// Who reads each value.
fn users(func: &Func) -> Vec<Vec<NodeId>> {
    let mut users = vec![vec![]; func.nodes.len()];
    for id in func.ids() {
        for a in &func.node(id).args {
            users[a.index()].push(id);
        }
    }
    users
}

fn input_of(func: &Func, k: usize) -> Option<NodeId> {
    func.ids().find(|id| matches!(func.node(*id).op, Op::Input(i, _) if i as usize == k))
}

/// Appends a function's nodes; its inputs are what `bound` says, or inputs of the same number.
fn inline(out: &mut Func, func: &Func, bound: &dyn Fn(usize) -> Option<NodeId>) -> Vec<NodeId> {
    let mut new: Vec<NodeId> = vec![];
    for node in &func.nodes {
        let at = if let Op::Input(i, _) = &node.op { bound(*i as usize) } else { None };
        let args = node.args.iter().map(|a| new[a.index()]).collect();
        new.push(at.unwrap_or_else(|| out.push(Node { args, ..node.clone() })));
    }
    new
}
