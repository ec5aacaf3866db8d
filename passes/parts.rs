//! What must be decided together, and what can be decided apart.
//!
//! What every plan computes, and what costs nothing, is given. A class that every plan computes costs the same in all of them once it is decided, and whoever needs it gets it for nothing. Take those
//! needs away, and a program of many layers falls into small parts that share nothing: the best plan is the best of each.

use crate::choose::{Choice, Choices};
use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// Classes that are decided together.
pub(crate) struct Part {
    /// The classes in the whole problem, needs first where there is no cycle.
    pub classes: Vec<usize>,
    /// Their choices, as far as they differ here.
    pub choices: Choices,
    /// The place of each choice in the whole problem.
    pub places: Vec<Vec<usize>>,
}

/// A choice that may be part of a best plan: its place, and those of its needs that are not given.
struct Left {
    place: usize,
    needs: Vec<usize>,
}

/// Every part of a problem, with each class that a plan may use.
pub(crate) fn parts(whole: &Choices) -> Vec<Part> {
    let (order, knot) = knots(whole);
    let mut must = always_needed(whole, &order);
    for (c, choices) in whole.classes.iter().enumerate() {
        must[c] |= choices.iter().any(|ch| ch.cost == 0.0 && ch.needs.is_empty());
    }
    let left: Vec<Vec<Left>> = (0..whole.classes.len()).map(|c| undominated(whole, c, &|n| must[n] && knot[n] != knot[c])).collect();
    let used = reachable(&left, &must);
    let mut sets = Sets::new(left.len());
    for c in (0..left.len()).filter(|c| used[*c]) {
        for n in left[c].iter().flat_map(|l| &l.needs) {
            sets.join(c, *n);
        }
    }
    let mut members: Vec<Vec<usize>> = vec![vec![]; left.len()];
    for c in order.into_iter().filter(|c| used[*c]) {
        members[sets.find(c)].push(c);
    }
    let mut local = vec![0; left.len()];
    members.into_iter().filter(|m| !m.is_empty()).map(|m| part(whole, &left, &must, m, &mut local)).collect()
}

fn part(whole: &Choices, left: &[Vec<Left>], must: &[bool], classes: Vec<usize>, local: &mut [usize]) -> Part {
    for (i, c) in classes.iter().enumerate() {
        local[*c] = i;
    }
    let choice = |c: usize, l: &Left| {
        let mut needs: Vec<usize> = l.needs.iter().map(|n| local[*n]).collect();
        needs.sort_unstable();
        Choice { cost: whole.classes[c][l.place].cost, needs }
    };
    let own = Choices {
        classes: classes.iter().map(|c| left[*c].iter().map(|l| choice(*c, l)).collect()).collect(),
        wanted: (0..classes.len()).filter(|i| must[classes[*i]]).collect(),
    };
    let places = classes.iter().map(|c| left[*c].iter().map(|l| l.place).collect()).collect();
    Part { classes, choices: own, places }
}

/// The classes in an order where needs come first but within a knot, and the knot of each: classes that can need each other.
fn knots(whole: &Choices) -> (Vec<usize>, Vec<usize>) {
    let mut graph: DiGraph<(), ()> = DiGraph::new();
    for _ in &whole.classes {
        graph.add_node(());
    }
    for (c, choices) in whole.classes.iter().enumerate() {
        for n in choices.iter().flat_map(|ch| &ch.needs) {
            graph.add_edge(NodeIndex::new(c), NodeIndex::new(*n), ());
        }
    }
    // not Tarjan's, which petgraph writes as a recursion
    let components = kosaraju_scc(&graph);
    let mut knot = vec![0; whole.classes.len()];
    for (k, c) in components.iter().enumerate().flat_map(|(k, cs)| cs.iter().map(move |c| (k, c))) {
        knot[c.index()] = k;
    }
    (components.into_iter().flatten().map(NodeIndex::index).collect(), knot)
}

/// Of the classes that every plan for a class computes, as many are kept: the nearest. What is forgotten is only decided together.
const REQUIRED_MAX: usize = 128;

/// The classes that every plan computes, as far as they are known.
fn always_needed(whole: &Choices, order: &[usize]) -> Vec<bool> {
    let required = required(whole, order);
    let mut must = vec![false; whole.classes.len()];
    let mut stack = whole.wanted.clone();
    while let Some(c) = stack.pop() {
        if !std::mem::replace(&mut must[c], true) {
            stack.extend(required[c].iter().map(|at| order[*at]));
            // all of them, however many: a program may have a thousand results
            if let Some((first, rest)) = whole.classes[c].split_first() {
                stack.extend(first.needs.iter().filter(|n| rest.iter().all(|ch| ch.needs.contains(n))));
            }
        }
    }
    must
}

/// For each class, places in `order` of classes that every plan for it computes: itself, and what all its choices require. The last come
/// first.
fn required(whole: &Choices, order: &[usize]) -> Vec<Vec<usize>> {
    let mut of: Vec<Vec<usize>> = vec![vec![]; whole.classes.len()];
    for (at, c) in order.iter().enumerate() {
        let mut choices = whole.classes[*c].iter().map(|ch| {
            let mut all: Vec<usize> = ch.needs.iter().flat_map(|n| of[*n].iter().copied()).collect();
            all.sort_unstable_by(|a, b| b.cmp(a));
            all.dedup();
            all.truncate(REQUIRED_MAX);
            all
        });
        let first = choices.next().unwrap_or_default();
        let mut common = choices.fold(first, |have, next| have.into_iter().filter(|n| next.binary_search_by(|x| n.cmp(x)).is_ok()).collect());
        common.insert(0, at);
        of[*c] = common;
    }
    of
}

/// The choices of a class but for those that cost no less than an earlier one and need all that it does.
fn undominated(whole: &Choices, c: usize, given: &dyn Fn(usize) -> bool) -> Vec<Left> {
    let mut by_cost: Vec<usize> = (0..whole.classes[c].len()).collect();
    by_cost.sort_by(|a, b| whole.classes[c][*a].cost.total_cmp(&whole.classes[c][*b].cost));
    let mut kept: Vec<Left> = vec![];
    for place in by_cost {
        let needs: Vec<usize> = whole.classes[c][place].needs.iter().copied().filter(|n| !given(*n)).collect();
        if !kept.iter().any(|k| k.needs.iter().all(|n| needs.contains(n))) {
            kept.push(Left { place, needs });
        }
    }
    kept
}

fn reachable(left: &[Vec<Left>], must: &[bool]) -> Vec<bool> {
    let mut used = vec![false; left.len()];
    let mut stack: Vec<usize> = (0..left.len()).filter(|c| must[*c]).collect();
    while let Some(c) = stack.pop() {
        if !std::mem::replace(&mut used[c], true) {
            stack.extend(left[c].iter().flat_map(|l| &l.needs));
        }
    }
    used
}

/// Disjoint sets.
struct Sets(Vec<usize>);

impl Sets {
    fn new(n: usize) -> Sets {
        Sets((0..n).collect())
    }
    fn find(&mut self, mut i: usize) -> usize {
        while self.0[i] != i {
            self.0[i] = self.0[self.0[i]];
            i = self.0[i];
        }
        i
    }
    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b);
    }
}
