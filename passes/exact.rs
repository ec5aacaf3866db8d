//! The best plan by integer program: one 0/1 variable a choice.

use crate::choose::{Choice, Choices, Plan, Walk};
use good_lp::{Expression, ProblemVariables, Solution, SolverModel, Variable, microlp, variable};
use std::collections::BTreeMap;

/// Integer programs that are solved before giving up: each cuts one more cycle.
const CUTS_MAX: usize = 20;

/// The cheapest plan, or `None` where none was found. Cycles are cut when met.
pub(crate) fn exact(p: &Choices) -> Option<Plan> {
    let mut cuts: Vec<Vec<(usize, usize)>> = vec![];
    while cuts.len() < CUTS_MAX {
        let plan = solve_integer(p, &cuts)?;
        match p.walk(&plan) {
            Walk::Order(_) => return Some(plan),
            Walk::Gap => return None,
            Walk::Cycle(classes) => cuts.push(classes.into_iter().map(|c| (c, plan[c])).collect()),
        }
    }
    None
}

fn solve_integer(p: &Choices, cuts: &[Vec<(usize, usize)>]) -> Option<Plan> {
    let mut vars = ProblemVariables::new();
    let x: Vec<Vec<Variable>> = p.classes.iter().map(|cs| cs.iter().map(|_| vars.add(variable().binary())).collect()).collect();
    // in microseconds, so that the solver's tolerances are small beside the costs
    let price = |(x, choice): (&Variable, &Choice)| *x * (choice.cost * 1e6);
    let objective: Expression = x.iter().flatten().zip(p.classes.iter().flatten()).map(price).sum();
    let chosen = |c: usize| x[c].iter().copied().sum::<Expression>();
    let mut model = vars.minimise(objective).using(microlp);
    let mut wanted = vec![false; p.classes.len()];
    for c in &p.wanted {
        wanted[*c] = true;
    }
    for (c, choices) in p.classes.iter().enumerate() {
        model = model.with(if wanted[c] { chosen(c).eq(1.0) } else { chosen(c).leq(1.0) });
        let mut needed_by: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, k) in choices.iter().enumerate().flat_map(|(i, ch)| ch.needs.iter().map(move |k| (i, *k))) {
            needed_by.entry(k).or_default().push(i);
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
