//! Extraction: from an e-graph to a problem of choices, and from a plan back to terms.

use crate::choose::{Choice, Choices, Method, Plan};
use crate::cost::Machine;
use crate::term::{EGraph, Term, Terms};
use egg::Id;
use ir::Type;
use std::collections::HashMap;

/// The choices of an e-graph; the root is class 0.
#[derive(Clone, Debug)]
pub struct Problem {
    choices: Choices,
    /// The term of each choice.
    terms: Vec<Vec<Term>>,
    ids: Vec<Id>,
}

impl Problem {
    /// The problem of computing one class.
    pub fn new(eg: &EGraph, root: Id, machine: &Machine) -> Problem {
        let mut index: HashMap<Id, usize> = HashMap::from([(eg.find(root), 0)]);
        let mut p = Problem { choices: Choices { classes: vec![], wanted: vec![0] }, terms: vec![], ids: vec![eg.find(root)] };
        let mut i = 0;
        while i < p.ids.len() {
            let mut found: Vec<(Choice, &Term)> = vec![];
            for term in &eg[p.ids[i]].nodes {
                let mut class = |a: &Id| {
                    let a = eg.find(*a);
                    *index.entry(a).or_insert_with(|| {
                        p.ids.push(a);
                        p.ids.len() - 1
                    })
                };
                let mut needs: Vec<usize> = term.args.iter().map(&mut class).collect();
                needs.sort_unstable();
                needs.dedup();
                if !needs.contains(&i) {
                    let types: Vec<&Type> = term.args.iter().map(|a| &eg[*a].data.ty).collect();
                    found.push((Choice { cost: machine.seconds(&term.op, &types, &eg[p.ids[i]].data.ty), needs }, term));
                }
            }
            found.sort_by(|(a, s), (b, t)| a.cost.total_cmp(&b.cost).then(a.needs.len().cmp(&b.needs.len())).then_with(|| s.cmp(t)));
            p.terms.push(found.iter().map(|f| f.1.clone()).collect());
            p.choices.classes.push(found.into_iter().map(|f| f.0).collect());
            i += 1;
        }
        p
    }

    /// The best plan that can be found, and how.
    pub fn solve(&self) -> (Plan, Method) {
        self.choices.solve()
    }

    /// The cost of a plan; infinite where it is cyclic or incomplete.
    pub fn cost(&self, plan: &Plan) -> f64 {
        self.choices.cost(plan)
    }

    /// Any acyclic plan, by a seed: if a rule is wrong, some plan computes something else.
    pub fn chaos(&self, mut seed: u64) -> Plan {
        let mut next = |n: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % n
        };
        let classes = &self.choices.classes;
        let mut missing: Vec<Vec<usize>> = classes.iter().map(|cs| cs.iter().map(|ch| ch.needs.len()).collect()).collect();
        let mut users: Vec<Vec<(usize, usize)>> = vec![vec![]; classes.len()];
        for (c, i, n) in
            classes.iter().enumerate().flat_map(|(c, cs)| cs.iter().enumerate().flat_map(move |(i, ch)| ch.needs.iter().map(move |n| (c, i, *n))))
        {
            users[n].push((c, i));
        }
        let mut plan = vec![usize::MAX; classes.len()];
        let mut open: Vec<usize> = (0..classes.len()).filter(|c| missing[*c].contains(&0)).collect();
        let mut seen: Vec<bool> = missing.iter().map(|m| m.contains(&0)).collect();
        while !open.is_empty() {
            let c = open.swap_remove(next(open.len()));
            let ready: Vec<usize> = (0..classes[c].len()).filter(|i| missing[c][*i] == 0).collect();
            plan[c] = ready[next(ready.len())];
            for (d, i) in &users[c] {
                missing[*d][*i] -= 1;
                if missing[*d][*i] == 0 && !std::mem::replace(&mut seen[*d], true) {
                    open.push(*d);
                }
            }
        }
        plan
    }

    /// The chosen terms, and the id of the root among them.
    pub fn terms(&self, plan: &Plan, find: &dyn Fn(Id) -> Id, terms: &mut Terms) -> (Id, HashMap<Id, Id>) {
        let mut done: HashMap<Id, Id> = HashMap::new();
        for c in self.choices.order(plan).expect("the plan is acyclic") {
            let mut term = self.terms[c][plan[c]].clone();
            for a in &mut term.args {
                *a = done[&find(*a)];
            }
            done.insert(self.ids[c], terms.add(term));
        }
        (done[&self.ids[0]], done)
    }
}
