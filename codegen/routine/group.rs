//! Which ops share a kernel.
//!
//! Greedy, producer into consumer, along the order of the program: pointwise ops join the kernel of an operand where their shapes
//! agree and no cycle between kernels would arise; reductions along rows join what they reduce; what follows a product and has its
//! shape becomes its epilogue. Kernels are the nodes of a graph, and the schedule is an order of it.
//!
//! Everything that is asked once an op is answered by what is kept beside the groups: what each needs, and its level, which is above the
//! levels of those. A question whether one group runs after another looks only at levels between the two.

use super::homes::axis_of;
use super::role::{Role, immediate, in_memory, is_view, pointwise, role};
use ir::{Func, NodeId, Op};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

/// What a kernel is built around.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Rows of these dims; `tail` trailing dims are reduced, where any are.
    Rows { dims: Vec<usize>, tail: Option<usize> },
    /// A reduction of leading axes.
    Cols { dims: Vec<usize>, axes: Vec<usize> },
    /// A product and its epilogue.
    Contract { dims: Vec<usize> },
    /// An op with a template or a structure of its own.
    Single,
}

/// A kernel to be.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub kind: Kind,
    pub nodes: Vec<NodeId>,
}

/// The groups of a function, in an order in which they can run, and the group of each node.
pub(crate) struct Groups {
    pub groups: Vec<Group>,
    pub of: Vec<Option<usize>>,
}

/// The node that must have run for a value to be in memory: views are looked through.
pub(crate) fn producers(func: &Func, id: NodeId) -> Option<NodeId> {
    Some(whole(func, id)).filter(|id| in_memory(&func.node(*id).op))
}

/// What a view looks at; of anything else that itself.
fn whole(func: &Func, mut id: NodeId) -> NodeId {
    while is_view(&func.node(id).op) {
        id = func.node(id).args[0];
    }
    id
}

/// [`producers`] of every node, at once.
fn all_producers(func: &Func) -> Vec<Option<NodeId>> {
    let mut out: Vec<Option<NodeId>> = vec![];
    for (id, node) in func.ids().zip(&func.nodes) {
        out.push(if is_view(&node.op) { out[node.args[0].index()] } else { Some(id).filter(|_| in_memory(&node.op)) });
    }
    out
}

/// The axes of a reduction as indices, and whether they are the trailing ones.
fn reduced(func: &Func, id: NodeId) -> (Vec<usize>, bool) {
    let Op::Reduce(_, axes) = &func.node(id).op else { unreachable!("only reductions have axes") };
    let ty = func.ty(func.node(id).args[0]);
    let rank = ty.rank();
    let mut axes: Vec<usize> = axes.iter().map(|a| axis_of(ty, *a)).collect();
    axes.sort_unstable();
    let trailing = axes.iter().copied().eq(rank - axes.len()..rank);
    (axes, trailing)
}

/// Most ops of a kernel. Its expressions nest as deep as its ops follow each other, and its compiler walks them by recursion.
const OPS_MAX: usize = 256;

/// Most values that a kernel reads and writes in memory: drivers of graphics processors bind no more.
const VALUES_MAX: usize = 28;

/// Most reductions of leading axes in one kernel: each brings what it reads, which is computed on the way.
const COLUMNS_MAX: usize = 7;

struct Grouping<'a> {
    func: &'a Func,
    users: Vec<Vec<NodeId>>,
    producers: Vec<Option<NodeId>>,
    groups: Vec<Option<Group>>,
    of: Vec<Option<usize>>,
    /// The groups each reads, and those that read it.
    needs: Vec<BTreeSet<usize>>,
    readers: Vec<BTreeSet<usize>>,
    /// Above the level of every group that it reads.
    level: Vec<usize>,
    /// Groups that reduce leading axes, by what they reduce.
    columns: HashMap<(Vec<usize>, Vec<usize>), Vec<usize>>,
}

/// Groups a function's live ops.
pub(crate) fn group(func: &Func) -> Groups {
    let live = func.live();
    let mut users = vec![vec![]; func.nodes.len()];
    for id in func.ids().filter(|id| live[id.index()]) {
        for a in &func.node(id).args {
            users[a.index()].push(id);
        }
    }
    let mut g = Grouping {
        func,
        users,
        producers: all_producers(func),
        groups: vec![],
        of: vec![None; func.nodes.len()],
        needs: vec![],
        readers: vec![],
        level: vec![],
        columns: HashMap::new(),
    };
    for id in func.ids().filter(|id| live[id.index()]) {
        match role(&func.node(id).op) {
            Role::Pointwise => g.pointwise(id),
            Role::Reduce => g.reduce(id),
            Role::Product => g.open(Kind::Contract { dims: func.ty(id).sizes() }, id),
            Role::Alone => g.open(Kind::Single, id),
            Role::Given(_) | Role::Immediate(_) | Role::View(_) | Role::Member | Role::Tuple => {}
        }
    }
    g.schedule()
}

impl Grouping<'_> {
    fn open(&mut self, kind: Kind, id: NodeId) {
        let group = self.groups.len();
        if let Kind::Cols { dims, axes } = &kind {
            self.columns.entry((dims.clone(), axes.clone())).or_default().push(group);
        }
        self.groups.push(Some(Group { kind, nodes: vec![] }));
        self.needs.push(BTreeSet::new());
        self.readers.push(BTreeSet::new());
        self.level.push(0);
        self.join(id, group);
    }

    fn join(&mut self, id: NodeId, group: usize) {
        self.groups[group].as_mut().expect("the group stands").nodes.push(id);
        self.of[id.index()] = Some(group);
        for g in self.read_by(id) {
            self.reads(group, g);
        }
        self.raise(group);
    }

    fn get(&self, group: usize) -> &Group {
        self.groups[group].as_ref().expect("the group stands")
    }

    /// Groups that must run before an op's operands are in memory.
    fn read_by(&self, id: NodeId) -> Vec<usize> {
        self.func.node(id).args.iter().filter_map(|a| self.producers[a.index()]).filter_map(|p| self.of[p.index()]).collect()
    }

    /// Notes that a group reads another.
    fn reads(&mut self, group: usize, other: usize) {
        if group != other {
            self.needs[group].insert(other);
            self.readers[other].insert(group);
        }
    }

    /// Brings a group above what it reads, and its readers above it.
    fn raise(&mut self, group: usize) {
        let mut stack = vec![group];
        while let Some(g) = stack.pop() {
            let least = self.needs[g].iter().map(|h| self.level[*h] + 1).max().unwrap_or(0);
            if least > self.level[g] {
                self.level[g] = least;
                stack.extend(&self.readers[g]);
            }
        }
    }

    /// Whether `from` runs after `to` because of what it reads, perhaps through others.
    fn depends(&self, from: usize, to: usize) -> bool {
        let (mut seen, mut stack) = (BTreeSet::new(), vec![from]);
        while let Some(g) = stack.pop() {
            if g == to {
                return true;
            }
            if self.level[g] > self.level[to] && seen.insert(g) {
                stack.extend(&self.needs[g]);
            }
        }
        false
    }

    /// Whether an op reads what a group computes other than element by element: through a view, or by index. Then the group must have
    /// run before.
    fn reads_across(&self, id: NodeId, group: usize) -> bool {
        let node = self.func.node(id);
        node.args.iter().enumerate().any(|(i, a)| {
            let across = is_view(&self.func.node(*a).op) || (i == 0 && node.op == Op::Gather);
            across && self.producers[a.index()].is_some_and(|p| self.of[p.index()] == Some(group))
        })
    }

    fn may_join(&self, id: NodeId, group: usize) -> bool {
        self.get(group).nodes.len() < OPS_MAX
            && self.in_memory_of(&[group], Some(id)) <= VALUES_MAX
            && !self.reads_across(id, group)
            && self.read_by(id).iter().all(|h| *h == group || !self.depends(*h, group))
    }

    /// Values that groups, were they one, and perhaps one op more, would read from memory and leave there.
    fn in_memory_of(&self, groups: &[usize], more: Option<NodeId>) -> usize {
        let nodes = || groups.iter().flat_map(|g| self.get(*g).nodes.iter().copied()).chain(more);
        let inside = |id: NodeId| Some(id) == more || self.of[id.index()].is_some_and(|g| groups.contains(&g));
        let read: BTreeSet<NodeId> = nodes().flat_map(|n| &self.func.node(n).args).map(|a| whole(self.func, *a)).filter(|p| !inside(*p)).collect();
        let left = nodes().filter(|n| self.users[n.index()].iter().any(|u| !inside(*u)) || self.func.results.contains(n)).count();
        read.iter().filter(|id| immediate(&self.func.node(**id).op).is_none()).count() + left
    }

    fn may_merge(&self, a: usize, b: usize) -> bool {
        let clear = |a: usize, b: usize| self.needs[a].iter().all(|h| *h == b || !self.depends(*h, b));
        let across = |a: usize, b: usize| self.get(a).nodes.iter().any(|n| self.reads_across(*n, b));
        let few = self.get(a).nodes.len() + self.get(b).nodes.len() <= OPS_MAX && self.in_memory_of(&[a, b], None) <= VALUES_MAX;
        few && a != b && clear(a, b) && clear(b, a) && !across(a, b) && !across(b, a)
    }

    fn merge(&mut self, from: usize, into: usize) {
        let gone = self.groups[from].take().expect("the group stands");
        let (Kind::Rows { tail: a, .. }, Kind::Rows { dims, tail: b }) = (&gone.kind, &self.get(into).kind) else {
            unreachable!("rows merge with rows")
        };
        let kind = Kind::Rows { dims: dims.clone(), tail: b.or(*a) };
        for n in &gone.nodes {
            self.of[n.index()] = Some(into);
        }
        let group = self.groups[into].as_mut().expect("the group stands");
        group.kind = kind;
        group.nodes.extend(gone.nodes);
        group.nodes.sort_unstable();
        for other in std::mem::take(&mut self.needs[from]) {
            self.readers[other].remove(&from);
            self.reads(into, other);
        }
        for reader in std::mem::take(&mut self.readers[from]) {
            self.needs[reader].remove(&from);
            self.reads(reader, into);
        }
        self.raise(into);
        for reader in self.readers[into].clone() {
            self.raise(reader);
        }
    }

    /// Whether a value of these dims belongs in rows: it has their dims, or one value a row.
    fn fits(dims: &[usize], kind: &Kind) -> bool {
        let Kind::Rows { dims: whole, tail } = kind else { return false };
        let t = tail.unwrap_or(1).min(whole.len());
        dims.len() == whole.len()
            && (dims == whole || (dims[..dims.len() - t] == whole[..whole.len() - t] && dims[dims.len() - t..].iter().all(|d| *d == 1)))
    }

    fn pointwise(&mut self, id: NodeId) {
        let dims = self.func.ty(id).sizes();
        let args = self.func.node(id).args.clone();
        let mut near: Vec<usize> = args.iter().filter_map(|a| self.of[a.index()]).collect();
        near.sort_unstable();
        near.dedup();
        let rows: Vec<usize> = near.iter().copied().filter(|g| self.takes(*g, &dims) && self.may_join(id, *g)).collect();
        let epilogue = near.iter().copied().find(|g| self.is_epilogue(id, *g, &dims));
        match (epilogue, rows.last()) {
            (Some(g), _) => self.join(id, g),
            (None, Some(g)) => {
                let g = *g;
                self.widen(g, &dims);
                self.join(id, g);
                for other in rows.into_iter().rev().skip(1) {
                    if self.same_rows(other, g) && self.may_merge(other, g) {
                        self.merge(other, g);
                    }
                }
            }
            (None, None) => self.open(Kind::Rows { dims, tail: None }, id),
        }
    }

    /// Whether a group of rows can hold a value of these dims, perhaps after becoming wider.
    fn takes(&self, group: usize, dims: &[usize]) -> bool {
        let kind = &self.get(group).kind;
        Self::fits(dims, kind) || self.widened(group, dims).is_some()
    }

    /// One value a row so far, and `dims` are whole rows of it.
    fn widened(&self, group: usize, dims: &[usize]) -> Option<Kind> {
        let Kind::Rows { dims: have, tail: None } = &self.get(group).kind else { return None };
        let n = dims.len();
        let wider = n == have.len() && n > 0 && have[n - 1] == 1 && dims[..n - 1] == have[..n - 1] && dims[n - 1] > 1;
        wider.then(|| Kind::Rows { dims: dims.to_vec(), tail: None })
    }

    fn widen(&mut self, group: usize, dims: &[usize]) {
        if let Some(kind) = self.widened(group, dims) {
            self.groups[group].as_mut().expect("the group stands").kind = kind;
        }
    }

    fn same_rows(&self, a: usize, b: usize) -> bool {
        let (Kind::Rows { dims: x, tail: s }, Kind::Rows { dims: y, tail: t }) = (&self.get(a).kind, &self.get(b).kind) else { return false };
        x == y && (s.is_none() || t.is_none() || s == t) && self.all_fit(a, b)
    }

    /// Every node of both fits the rows they would share.
    fn all_fit(&self, a: usize, b: usize) -> bool {
        let (Kind::Rows { dims, tail: s }, Kind::Rows { tail: t, .. }) = (&self.get(a).kind, &self.get(b).kind) else { return false };
        let kind = Kind::Rows { dims: dims.clone(), tail: s.or(*t) };
        let fits = |g: usize| self.get(g).nodes.iter().all(|n| Self::fits(&self.func.ty(*n).sizes(), &kind));
        fits(a) && fits(b)
    }

    /// Whether an op may follow a product inside its kernel.
    fn is_epilogue(&self, id: NodeId, group: usize, dims: &[usize]) -> bool {
        let Kind::Contract { dims: whole } = &self.get(group).kind else { return false };
        let args = &self.func.node(id).args;
        if dims != whole || matches!(self.func.node(id).op, Op::Gather) || !self.may_join(id, group) {
            return false;
        }
        // a product that is needed in memory by a reduction anyway leaves the rest to the reduction's kernel
        let from = args.iter().filter(|a| self.of[a.index()] == Some(group));
        from.into_iter().all(|a| {
            let users: Vec<NodeId> = self.users[a.index()].iter().copied().filter(|u| self.of[u.index()] != Some(group)).collect();
            users.len() <= 1 || !users.iter().any(|u| self.leads_to_reduction(*u, 4))
        })
    }

    fn leads_to_reduction(&self, id: NodeId, depth: usize) -> bool {
        let op = &self.func.node(id).op;
        let follow = || self.users[id.index()].iter().any(|u| self.leads_to_reduction(*u, depth - 1));
        role(op) == Role::Reduce || (depth > 0 && pointwise(op) && follow())
    }

    fn reduce(&mut self, id: NodeId) {
        let (axes, trailing) = reduced(self.func, id);
        let x = self.func.node(id).args[0];
        let dims = self.func.ty(x).sizes();
        if !trailing {
            let alike = self.columns.get(&(dims.clone(), axes.clone()));
            let few = |g: &usize| self.get(*g).nodes.len() < COLUMNS_MAX;
            let found = alike.and_then(|gs| gs.iter().copied().find(|g| few(g) && self.may_join(id, *g)));
            return match found {
                Some(g) => self.join(id, g),
                None => self.open(Kind::Cols { dims, axes }, id),
            };
        }
        let tail = axes.len();
        let joinable = self.of[x.index()].filter(|g| match &self.get(*g).kind {
            Kind::Rows { dims: have, tail: t } => {
                let kind = Kind::Rows { dims: have.clone(), tail: Some(tail) };
                *have == dims && t.is_none_or(|t| t == tail) && self.get(*g).nodes.iter().all(|n| Self::fits(&self.func.ty(*n).sizes(), &kind))
            }
            Kind::Cols { .. } | Kind::Contract { .. } | Kind::Single => false,
        });
        match joinable {
            Some(g) => {
                self.join(id, g);
                self.groups[g].as_mut().expect("the group stands").kind = Kind::Rows { dims, tail: Some(tail) };
            }
            None => self.open(Kind::Rows { dims, tail: Some(tail) }, id),
        }
    }

    /// Where each group stands in the program. One that makes more than it reads of what others made, as a matrix taken out of few bits, stands
    /// where its first reader does, so that it is not in memory long before.
    fn places(&self) -> Vec<Option<NodeId>> {
        let mut order: Vec<usize> = (0..self.groups.len()).filter(|g| self.groups[*g].is_some()).collect();
        order.sort_by_key(|g| Reverse(self.level[*g]));
        let mut places = vec![None; self.groups.len()];
        for g in order {
            let own = self.get(g).nodes.iter().max().copied();
            let first = self.readers[g].iter().filter_map(|r| places[*r]).min();
            places[g] = first.filter(|_| self.grows(g)).max(own);
        }
        places
    }

    /// Whether a group leaves more bytes in memory than it reads of what others left there.
    fn grows(&self, group: usize) -> bool {
        let nodes = &self.get(group).nodes;
        let outside = |id: NodeId| self.of[id.index()] != Some(group);
        let read: BTreeSet<NodeId> = nodes.iter().flat_map(|n| &self.func.node(*n).args).filter_map(|a| self.producers[a.index()]).collect();
        let bytes = |id: &NodeId| self.func.ty(*id).bytes();
        let left = nodes.iter().filter(|n| self.users[n.index()].iter().any(|u| outside(*u)));
        left.map(bytes).sum::<usize>() > read.iter().filter(|id| outside(**id)).map(bytes).sum()
    }

    /// The groups in an order of the kernel graph; among those that are ready, the one earliest in the program.
    fn schedule(self) -> Groups {
        let places = self.places();
        let place = |g: usize| Reverse((places[g], g));
        let mut waiting: Vec<usize> = self.needs.iter().map(BTreeSet::len).collect();
        let standing = (0..self.groups.len()).filter(|g| self.groups[*g].is_some());
        let mut ready: BinaryHeap<_> = standing.clone().filter(|g| waiting[*g] == 0).map(place).collect();
        let mut order = vec![];
        while let Some(Reverse((_, g))) = ready.pop() {
            order.push(g);
            for after in &self.readers[g] {
                waiting[*after] -= 1;
                if waiting[*after] == 0 {
                    ready.push(place(*after));
                }
            }
        }
        assert_eq!(order.len(), standing.count(), "{}: kernels wait for each other", self.func.name);
        let mut at = vec![0; self.groups.len()];
        for (i, g) in order.iter().enumerate() {
            at[*g] = i;
        }
        let of = self.of.iter().map(|g| g.map(|g| at[g])).collect();
        let mut groups: Vec<Group> = order.iter().map(|g| self.get(*g).clone()).collect();
        for g in &mut groups {
            g.nodes.sort_unstable();
        }
        Groups { groups, of }
    }
}
