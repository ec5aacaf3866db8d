//! A good plan by climbing, where the integer program is too large.

use crate::choose::{Choices, Plan};

/// Choices that are looked at before climbing stops, so that its time is bounded whatever the problem.
const LOOKS_MAX: usize = 5_000_000;

struct Climber<'a> {
    problem: &'a Choices,
    plan: Plan,
    cost: f64,
    looks: usize,
}

/// Starts bottom-up. Then tries every other choice of every used class with what is already there free, and every unused shared class
/// as if it were free, until nothing gets better.
pub(crate) fn climb(problem: &Choices) -> Plan {
    let none = vec![usize::MAX; problem.classes.len()];
    let mut looks = 0;
    let plan = refit(problem, &none, &|_, _| None, 1.0, &mut looks);
    let mut c = Climber { problem, cost: problem.cost(&plan), plan, looks };
    while c.looks < LOOKS_MAX && c.round() {}
    c.plan
}

impl Climber<'_> {
    /// One round; whether the plan got better.
    fn round(&mut self) -> bool {
        let problem = self.problem;
        let mut improved = false;
        for c in problem.order(&self.plan).unwrap_or_default() {
            for i in 0..problem.classes[c].len() {
                if i != self.plan[c] && self.looks < LOOKS_MAX {
                    let plan = refit(problem, &self.plan, &only(c, i), 0.0, &mut self.looks);
                    improved |= self.keep(plan);
                }
            }
        }
        for seed in shared(problem) {
            if self.looks < LOOKS_MAX {
                let plan = refit(problem, &self.plan, &|k, _| (k == seed).then_some(0.0), 1.0, &mut self.looks);
                improved |= self.keep(plan);
            }
        }
        improved
    }

    /// Keeps a plan that is cheaper.
    fn keep(&mut self, plan: Plan) -> bool {
        let cost = self.problem.cost(&plan);
        let better = cost < self.cost * (1.0 - 1e-9);
        if better {
            (self.plan, self.cost) = (plan, cost);
        }
        better
    }
}

/// Prices that leave a class one choice.
fn only(c: usize, i: usize) -> impl Fn(usize, usize) -> Option<f64> {
    move |k, j| (k == c && j != i).then_some(f64::INFINITY)
}

/// The plan with another choice for a class, and what that needs besides.
pub(crate) fn with_choice(problem: &Choices, plan: &Plan, c: usize, i: usize) -> Plan {
    refit(problem, plan, &only(c, i), 0.0, &mut 0)
}

/// The cheapest choice of every class bottom-up, where `forced` may fix a price and choices of `plan` cost `discount` of theirs.
fn refit(p: &Choices, plan: &Plan, forced: &dyn Fn(usize, usize) -> Option<f64>, discount: f64, looks: &mut usize) -> Plan {
    let n = p.classes.len();
    let (mut best, mut out) = (vec![f64::INFINITY; n], vec![usize::MAX; n]);
    loop {
        let mut changed = false;
        // needs come first, so that one round is enough where there is no cycle
        for c in 0..n {
            for (i, choice) in p.classes[c].iter().enumerate() {
                *looks += 1;
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

/// Classes that the choices of at least two others need, where there is something to choose.
fn shared(p: &Choices) -> Vec<usize> {
    let mut users = vec![0; p.classes.len()];
    for choices in p.classes.iter().filter(|cs| cs.len() > 1) {
        let mut needs: Vec<usize> = choices.iter().flat_map(|ch| ch.needs.iter().copied()).collect();
        needs.sort_unstable();
        needs.dedup();
        for n in needs {
            users[n] += 1;
        }
    }
    (0..users.len()).filter(|c| users[*c] > 1).collect()
}
