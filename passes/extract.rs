//! Extraction: choose one node a class so that the roots can be computed and the sum of costs, each class once, is least.

use crate::cost::Machine;
use crate::term::{EGraph, Term, Terms};
use egg::Id;
use good_lp::{Expression, ProblemVariables, Solution, SolverModel, Variable, microlp, variable};
use ir::Type;
use std::collections::{BTreeMap, HashMap};

/// One way to compute a class.
#[derive(Clone, Debug)]
struct Choice {
    cost: f64,
    needs: Vec<usize>,
    node: usize,
}

/// Classes with their choices; the root is class 0.
#[derive(Clone, Debug)]
pub struct Problem {
    classes: Vec<Vec<Choice>>,
    terms: Vec<Vec<Term>>,
    ids: Vec<Id>,
}

/// A choice a class; `usize::MAX` where there is none.
pub type Plan = Vec<usize>;

/// How a plan was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By integer program: no plan is cheaper.
    Exact,
    /// By climbing, where the integer program is too large.
    Climb,
}

/// Choices beyond which the integer program is not tried: its time grows faster than the e-graph.
const EXACT_CHOICES_MAX: usize = 900;

impl Problem {
    /// The problem of computing one class.
    pub fn new(eg: &EGraph, root: Id, machine: &Machine) -> Problem {
        let mut index: HashMap<Id, usize> = HashMap::from([(eg.find(root), 0)]);
        let mut p = Problem { classes: vec![], terms: vec![], ids: vec![eg.find(root)] };
        let mut i = 0;
        while i < p.ids.len() {
            let (mut choices, mut terms) = (vec![], vec![]);
            for term in &eg[p.ids[i]].nodes {
                let mut needs: Vec<usize> = vec![];
                for a in &term.args {
                    let a = eg.find(*a);
                    needs.push(*index.entry(a).or_insert_with(|| {
                        p.ids.push(a);
                        p.ids.len() - 1
                    }));
                }
                needs.sort_unstable();
                needs.dedup();
                if needs.contains(&i) {
                    continue;
                }
                let types: Vec<&Type> = term.args.iter().map(|a| &eg[*a].data.ty).collect();
                choices.push(Choice { cost: machine.seconds(&term.op, &types, &eg[p.ids[i]].data.ty), needs, node: terms.len() });
                terms.push(term.clone());
            }
            p.classes.push(choices);
            p.terms.push(terms);
            i += 1;
        }
        p.prune();
        p
    }

    /// Drops choices that cost more than another whose needs they include.
    fn prune(&mut self) {
        for (choices, terms) in self.classes.iter_mut().zip(&self.terms) {
            choices.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(a.needs.len().cmp(&b.needs.len())).then_with(|| terms[a.node].cmp(&terms[b.node])));
            let mut kept: Vec<Choice> = vec![];
            for c in choices.drain(..) {
                if !kept.iter().any(|k| k.needs.iter().all(|n| c.needs.contains(n))) {
                    kept.push(c);
                }
            }
            *choices = kept;
        }
    }

    /// The best plan that can be found, and how.
    pub fn solve(&self) -> (Plan, Method) {
        let climbed = self.climb(self.tree());
        if self.classes.iter().map(Vec::len).sum::<usize>() <= EXACT_CHOICES_MAX
            && let Some(exact) = self.exact().filter(|p| self.cost(p) <= self.cost(&climbed) * (1.0 + 1e-9))
        {
            return (exact, Method::Exact);
        }
        (climbed, Method::Climb)
    }

    /// The cost of a plan; infinite where it is cyclic or incomplete.
    pub fn cost(&self, plan: &Plan) -> f64 {
        let order = self.order(plan);
        order.map_or(f64::INFINITY, |o| o.iter().map(|c| self.classes[*c][plan[*c]].cost).sum())
    }

    /// The used classes, needs first; `None` where there is a cycle or a gap.
    fn order(&self, plan: &Plan) -> Option<Vec<usize>> {
        let (mut state, mut order) = (vec![0u8; self.classes.len()], vec![]);
        let mut stack = vec![(0usize, false)];
        while let Some((c, leaving)) = stack.pop() {
            if leaving {
                state[c] = 2;
                order.push(c);
                continue;
            }
            match state[c] {
                2 => continue,
                1 => return None,
                _ => {}
            }
            let choice = self.classes[c].get(plan[c])?;
            state[c] = 1;
            stack.push((c, true));
            for n in &choice.needs {
                match state[*n] {
                    0 => stack.push((*n, false)),
                    1 => return None,
                    _ => {}
                }
            }
        }
        Some(order)
    }

    /// Bottom-up, shared work counted once for each use: where climbing starts.
    fn tree(&self) -> Plan {
        self.refit(&vec![usize::MAX; self.classes.len()], &|_, _| None, 1.0)
    }

    /// The cheapest choice of every class bottom-up, where `forced` may fix a class and choices of `plan` cost `discount` of their price.
    fn refit(&self, plan: &Plan, forced: &dyn Fn(usize, usize) -> Option<f64>, discount: f64) -> Plan {
        let n = self.classes.len();
        let (mut best, mut out) = (vec![f64::INFINITY; n], vec![usize::MAX; n]);
        loop {
            let mut changed = false;
            for c in (0..n).rev() {
                for (i, choice) in self.classes[c].iter().enumerate() {
                    let price = forced(c, i).unwrap_or(choice.cost * if plan[c] == i { discount } else { 1.0 });
                    let total = price + choice.needs.iter().map(|k| best[*k]).sum::<f64>() + 1e-13;
                    if total < best[c] - 1e-15 {
                        best[c] = total;
                        out[c] = i;
                        changed = true;
                    }
                }
            }
            if !changed {
                return out;
            }
        }
    }

    /// Tries every other choice of every used class with what is already there free, and every unused shared class as if it were free.
    fn climb(&self, mut plan: Plan) -> Plan {
        let mut best = self.cost(&plan);
        for _ in 0..50 {
            let mut improved = false;
            for c in self.order(&plan).unwrap_or_default() {
                for i in (0..self.classes[c].len()).filter(|i| *i != plan[c]).collect::<Vec<_>>() {
                    let force = |k: usize, j: usize| (k == c && j != i).then_some(f64::INFINITY);
                    improved |= self.keep_if_better(self.refit(&plan, &force, 0.0), &mut plan, &mut best);
                }
            }
            for seed in (0..self.classes.len()).filter(|c| self.shared(*c)) {
                let force = |k: usize, _| (k == seed).then_some(0.0);
                improved |= self.keep_if_better(self.refit(&plan, &force, 1.0), &mut plan, &mut best);
            }
            if !improved {
                break;
            }
        }
        plan
    }

    fn keep_if_better(&self, candidate: Plan, plan: &mut Plan, best: &mut f64) -> bool {
        let cost = self.cost(&candidate);
        let better = cost < *best * (1.0 - 1e-9);
        if better {
            (*plan, *best) = (candidate, cost);
        }
        better
    }

    fn shared(&self, c: usize) -> bool {
        self.classes.iter().filter(|cs| cs.len() > 1 && cs.iter().any(|ch| ch.needs.contains(&c))).take(2).count() > 1
    }

    /// One 0/1 variable a choice; cycles are cut when met.
    fn exact(&self) -> Option<Plan> {
        let mut cuts: Vec<Vec<(usize, usize)>> = vec![];
        for _ in 0..20 {
            let plan = self.solve_integer(&cuts)?;
            match self.cycle(&plan) {
                None => return Some(plan),
                Some(cut) => cuts.push(cut),
            }
        }
        None
    }

    fn solve_integer(&self, cuts: &[Vec<(usize, usize)>]) -> Option<Plan> {
        let mut vars = ProblemVariables::new();
        let x: Vec<Vec<Variable>> = self.classes.iter().map(|cs| cs.iter().map(|_| vars.add(variable().binary())).collect()).collect();
        let all = || self.classes.iter().enumerate().flat_map(|(c, cs)| cs.iter().enumerate().map(move |(i, ch)| (c, i, ch)));
        let objective: Expression = all().map(|(c, i, ch)| x[c][i] * (ch.cost * 1e6)).sum();
        let chosen = |c: usize| x[c].iter().copied().sum::<Expression>();
        let mut model = vars.minimise(objective).using(microlp).with(chosen(0).eq(1.0));
        for (c, choices) in self.classes.iter().enumerate() {
            if c > 0 {
                model = model.with(chosen(c).leq(1.0));
            }
            let mut needed_by: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for (i, choice) in choices.iter().enumerate() {
                for k in &choice.needs {
                    needed_by.entry(*k).or_default().push(i);
                }
            }
            for (k, users) in needed_by {
                let users: Expression = users.iter().map(|i| x[c][*i]).sum();
                model = model.with((users - chosen(k)).leq(0.0));
            }
        }
        for cut in cuts {
            model = model.with(cut.iter().map(|(c, i)| x[*c][*i]).sum::<Expression>().leq(cut.len() as f64 - 1.0));
        }
        let solution = model.solve().ok()?;
        Some(x.iter().map(|v| v.iter().position(|v| solution.value(*v) > 0.5).unwrap_or(usize::MAX)).collect())
    }

    fn cycle(&self, plan: &Plan) -> Option<Vec<(usize, usize)>> {
        fn visit(p: &Problem, plan: &Plan, c: usize, state: &mut [u8], path: &mut Vec<usize>) -> Option<Vec<(usize, usize)>> {
            match state[c] {
                1 => {
                    let start = path.iter().position(|x| *x == c).expect("an open class is on the path");
                    return Some(path[start..].iter().map(|c| (*c, plan[*c])).collect());
                }
                2 => return None,
                _ => {}
            }
            state[c] = 1;
            path.push(c);
            let found = p.classes[c].get(plan[c])?.needs.iter().find_map(|k| visit(p, plan, *k, state, path));
            state[c] = 2;
            path.pop();
            found
        }
        visit(self, plan, 0, &mut vec![0; self.classes.len()], &mut vec![])
    }

    /// Any acyclic plan, by a seed: if a rule is wrong, some plan computes something else.
    pub fn chaos(&self, mut seed: u64) -> Plan {
        let mut next = |n: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % n
        };
        let mut plan = vec![usize::MAX; self.classes.len()];
        loop {
            let ready = |c: usize| -> Vec<usize> {
                (0..self.classes[c].len()).filter(|i| self.classes[c][*i].needs.iter().all(|k| plan[*k] != usize::MAX)).collect()
            };
            let open: Vec<(usize, Vec<usize>)> =
                (0..plan.len()).filter(|c| plan[*c] == usize::MAX).map(|c| (c, ready(c))).filter(|o| !o.1.is_empty()).collect();
            if open.is_empty() {
                return plan;
            }
            let (c, choices) = &open[next(open.len())];
            plan[*c] = choices[next(choices.len())];
        }
    }

    /// The chosen terms, and the id of the root among them.
    pub fn terms(&self, plan: &Plan, find: &dyn Fn(Id) -> Id, terms: &mut Terms) -> (Id, HashMap<Id, Id>) {
        let mut done: HashMap<Id, Id> = HashMap::new();
        for c in self.order(plan).expect("the plan is acyclic") {
            let mut term = self.terms[c][self.classes[c][plan[c]].node].clone();
            for a in &mut term.args {
                *a = done[&find(*a)];
            }
            done.insert(self.ids[c], terms.add(term));
        }
        (done[&self.ids[0]], done)
    }
}
