//! Which values need memory: those that something outside their kernel reads.

use super::group::{Groups, Kind, producers};
use super::role::{is_view, pointwise};
use ir::{Func, NodeId, Op};
use std::collections::BTreeSet;

/// A function's groups, and the values that need memory.
pub(crate) struct Needed<'a> {
    func: &'a Func,
    pub groups: &'a Groups,
    written: BTreeSet<NodeId>,
}

impl<'a> Needed<'a> {
    pub(crate) fn new(func: &'a Func, groups: &'a Groups) -> Needed<'a> {
        let mut out = Needed { func, groups, written: func.results.iter().filter_map(|r| producers(func, *r)).collect() };
        let live = func.live();
        for id in func.ids().filter(|id| live[id.index()]) {
            out.operands(id);
        }
        // what a reduction reads may be computed inside it; its own operands are then needed instead
        for id in func.ids().filter(|id| live[id.index()] && matches!(func.node(*id).op, Op::Reduce(..))) {
            let x = func.node(id).args[0];
            if groups.of[x.index()].is_none() || groups.of[x.index()] != groups.of[id.index()] {
                out.need(x, groups.of[id.index()]);
            }
        }
        out
    }

    /// What a node reads of other kernels, or as another shows it.
    fn operands(&mut self, id: NodeId) {
        let node = self.func.node(id);
        if is_view(&node.op) || node.op == Op::Tuple || matches!(node.op, Op::Reduce(..)) {
            return;
        }
        let own = self.groups.of[id.index()];
        for a in &node.args {
            let Some(p) = producers(self.func, *a) else { continue };
            if self.groups.of[p.index()] != own || is_view(&self.func.node(*a).op) {
                self.written.insert(p);
            }
        }
    }

    fn need(&mut self, x: NodeId, reader: Option<usize>) {
        let mut wanted = vec![x];
        while let Some(x) = wanted.pop() {
            if self.inlined(x, reader) {
                wanted.extend(&self.func.node(x).args);
            } else if let Some(p) = producers(self.func, x)
                && self.groups.of[p.index()] != reader
            {
                self.written.insert(p);
            }
        }
    }

    /// Whether a value needs memory.
    pub(crate) fn is_written(&self, id: NodeId) -> bool {
        self.written.contains(&id)
    }

    /// Whether a reduction along columns computes this operand again instead of reading it: cheap work of a rows kernel that nothing
    /// else wants in memory.
    pub(crate) fn inlined(&self, x: NodeId, reader: Option<usize>) -> bool {
        let in_rows = |g: usize| matches!(self.groups.groups[g].kind, Kind::Rows { .. });
        let cols = reader.is_some_and(|g| matches!(self.groups.groups[g].kind, Kind::Cols { .. }));
        let node = self.func.node(x);
        cols && pointwise(&node.op)
            && !matches!(node.op, Op::Gather)
            && !self.is_written(x)
            && self.groups.of[x.index()].is_some_and(in_rows)
            && self.func.ty(x).dims.last().is_some_and(|d| d.size() > 1)
    }
}
