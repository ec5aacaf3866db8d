//! What a program may cost: loops are unrolled to calls and values get memory, so both are counted before either is made.

use crate::define::definition;
use crate::graph::{Func, Graph};
use crate::op::Op;
use crate::types::Type;

/// The most ops a program may have, those of a loop counted once an iteration.
pub const OPS_MAX: u64 = 1 << 22;
/// The most bytes all values of a program may have, so that sums of sizes do not overflow. No machine has as many.
const BYTES_MAX: u64 = 1 << 50;
/// The most elements evaluation holds at once: 8 GiB of them.
const EVALUATED_MAX: u64 = 1 << 30;

/// Ops of a function with its loops unrolled; `before` has those of the functions it may call.
pub(crate) fn unrolled(func: &Func, before: &[u64]) -> u64 {
    func.nodes.iter().fold(0, |n, node| n.saturating_add(unrolled_op(&node.op, before)))
}

/// Ops that one op is, unrolled.
pub(crate) fn unrolled_op(op: &Op, before: &[u64]) -> u64 {
    match op {
        Op::Repeat(l) => before.get(l.func as usize).map_or(1, |body| body.saturating_mul(l.trip.into()).saturating_add(1)),
        _ => 1,
    }
}

/// Refuses so many ops.
pub(crate) fn check_ops(ops: u64) -> Result<(), String> {
    if ops <= OPS_MAX { Ok(()) } else { Err(format!("loops unroll to {ops} ops, and at most {OPS_MAX} are possible: fewer iterations are needed")) }
}

/// Elements of a type whose sizes are known; 0 for one that is not bound yet.
fn elements(ty: &Type) -> u64 {
    if ty.is_tensor() {
        return ty.checked_count().ok().and_then(|n| n.value()).unwrap_or(0);
    }
    ty.parts.iter().map(elements).fold(0, u64::saturating_add)
}

/// Bytes of all values of a function, and of what its loops keep.
fn bytes(func: &Func, before: &[u64]) -> u64 {
    func.nodes.iter().fold(0, |sum, node| {
        let own = elements(&node.ty).saturating_mul(4);
        let body = match &node.op {
            // a loop may keep what goes round of every iteration
            Op::Repeat(l) => before.get(l.func as usize).map_or(0, |b| b.saturating_add(own.saturating_mul(u64::from(l.trip) + 1))),
            _ => 0,
        };
        sum.saturating_add(own).saturating_add(body)
    })
}

/// Folds the functions in order, each with the figures of those before it; the last figure is the program's.
fn total(graph: &Graph, one: impl Fn(&Func, &[u64]) -> u64) -> u64 {
    let mut all: Vec<u64> = vec![];
    for f in &graph.funcs {
        let n = one(f, &all);
        all.push(n);
    }
    all.last().copied().unwrap_or(0)
}

/// Refuses a program that unrolls to too many ops, or whose values no machine can hold.
pub fn check_limits(graph: &Graph) -> Result<(), String> {
    check_ops(total(graph, unrolled))?;
    let bytes = total(graph, bytes);
    if bytes <= BYTES_MAX { Ok(()) } else { Err(format!("the program's values have {bytes} bytes, and at most {BYTES_MAX} are possible")) }
}

/// Refuses a program with a named size.
pub fn check_bound(graph: &Graph) -> Result<(), String> {
    match graph.symbols().first() {
        Some(s) => Err(format!("dim {s} has no size: name it, as in --dim {s}=64")),
        None => Ok(()),
    }
}

/// Refuses a program that evaluation has no memory for, or whose dims are not bound.
pub(crate) fn check_evaluated(graph: &Graph) -> Result<(), String> {
    check_bound(graph)?;
    check_limits(graph)?;
    let n = total(graph, held);
    if n <= EVALUATED_MAX { Ok(()) } else { Err(format!("evaluation would hold {n} numbers at once, and at most {EVALUATED_MAX} are possible")) }
}

/// Elements evaluation of a function holds at once: every value, and the largest of the bodies it goes through.
fn held(func: &Func, before: &[u64]) -> u64 {
    let mut body = 0u64;
    let mut own = 0u64;
    for node in &func.nodes {
        own = own.saturating_add(elements(&node.ty));
        body = body.max(match &node.op {
            Op::Repeat(l) => before.get(l.func as usize).copied().unwrap_or(0).saturating_add(elements(&node.ty)),
            op if op.is_composite() => {
                let types: Vec<&Type> = node.args.iter().map(|a| func.ty(*a)).collect();
                definition(op, &types).map_or(0, |f| f.nodes.iter().map(|n| elements(&n.ty)).fold(0, u64::saturating_add))
            }
            _ => 0,
        });
    }
    own.saturating_add(body)
}
