//! One option a class so that what is wanted can be computed and the sum of costs, each class once, is least.
//!
//! The classes fall into parts that can be decided apart ([`crate::parts`]). Each is solved exactly ([`crate::exact`]); only a part that is
//! too large for that is climbed ([`crate::climb`]). Of best plans that cost the same, one is taken in which no class alone could change
//! to an earlier option at no cost; options stand in the order of cost, number of needs, and op.

use crate::climb::{climb, with_choice};
use crate::exact::exact;
use crate::parts::parts;

/// One way to compute a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Predicted seconds.
    pub cost: f64,
    /// The classes that must be computed for it, each once, in order.
    pub needs: Vec<usize>,
}

/// Classes with their choices, and those that are wanted.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// The choices of each class, in the order in which they are preferred where costs are equal.
    pub classes: Vec<Vec<Choice>>,
    /// The classes to compute.
    pub wanted: Vec<usize>,
}

/// The place of a choice a class; `usize::MAX` where there is none.
pub type Plan = Vec<usize>;

/// How a plan was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By integer program: no plan is cheaper.
    Exact,
    /// By climbing, where the integer program is too large.
    Climb,
}

/// Choices in one part beyond which the integer program is not tried: its time grows faster than the part.
const EXACT_CHOICES_MAX: usize = 400;

/// Readers that make a class a hub.
const HUB_READERS: usize = 4;

impl Choices {
    /// The best plan that can be found, and how.
    pub fn solve(&self) -> (Plan, Method) {
        let (mut plan, mut method) = (vec![usize::MAX; self.classes.len()], Method::Exact);
        for part in parts(self) {
            let (own, how) = part.choices.solve_part();
            for (c, i) in own.into_iter().enumerate().filter(|(_, i)| *i != usize::MAX) {
                plan[part.classes[c]] = part.places[c][i];
            }
            if how == Method::Climb {
                method = how;
            }
        }
        (plan, method)
    }

    fn solve_part(&self) -> (Plan, Method) {
        let count: usize = self.classes.iter().map(Vec::len).sum();
        if self.classes.iter().all(|c| c.len() == 1) {
            return (vec![0; count], Method::Exact);
        }
        let found = if count <= EXACT_CHOICES_MAX { exact(self) } else { self.without_hubs() };
        match found {
            Some(plan) => (self.settle(plan), Method::Exact),
            None => (climb(self), Method::Climb),
        }
    }

    /// The best plan of a large part where it uses no hub: best even if hubs cost nothing, so best as they are. Without them, what only
    /// a hub held together, as the one mask of many layers, is decided apart.
    fn without_hubs(&self) -> Option<Plan> {
        let hub = self.hubs();
        let mut relaxed = self.clone();
        for choice in relaxed.classes.iter_mut().flatten() {
            choice.needs.retain(|n| !hub[*n]);
        }
        let (plan, method) = if hub.contains(&true) { relaxed.solve() } else { return None };
        (method == Method::Exact && self.order(&plan).is_some()).then_some(plan)
    }

    /// Classes that need not be computed and that many others could read.
    fn hubs(&self) -> Vec<bool> {
        let mut readers = vec![0; self.classes.len()];
        for choices in &self.classes {
            let mut needs: Vec<usize> = choices.iter().flat_map(|ch| ch.needs.iter().copied()).collect();
            needs.sort_unstable();
            needs.dedup();
            for n in needs {
                readers[n] += 1;
            }
        }
        for c in &self.wanted {
            readers[*c] = 0;
        }
        readers.into_iter().map(|n| n >= HUB_READERS).collect()
    }

    /// The plan with each class at the first choice that costs no more, whatever that needs.
    fn settle(&self, mut plan: Plan) -> Plan {
        let mut best = self.cost(&plan);
        for c in self.order(&plan).unwrap_or_default() {
            for i in 0..plan.get(c).copied().filter(|i| *i != usize::MAX).unwrap_or(0) {
                let other = with_choice(self, &plan, c, i);
                let cost = self.cost(&other);
                if cost <= best * (1.0 + 1e-12) {
                    (plan, best) = (other, cost);
                    break;
                }
            }
        }
        plan
    }

    /// The cost of a plan; infinite where it is cyclic or incomplete.
    pub fn cost(&self, plan: &Plan) -> f64 {
        self.order(plan).map_or(f64::INFINITY, |o| o.iter().map(|c| self.classes[*c][plan[*c]].cost).sum())
    }

    /// The used classes, needs first; `None` where there is a cycle or a gap.
    pub fn order(&self, plan: &Plan) -> Option<Vec<usize>> {
        match self.walk(plan) {
            Walk::Order(order) => Some(order),
            Walk::Cycle(_) | Walk::Gap => None,
        }
    }

    /// Follows a plan from what is wanted, with a stack of its own: plans may be deeper than a thread's.
    pub(crate) fn walk(&self, plan: &Plan) -> Walk {
        let (mut state, mut order, mut path) = (vec![State::New; self.classes.len()], vec![], vec![]);
        let mut stack: Vec<(usize, bool)> = self.wanted.iter().rev().map(|c| (*c, false)).collect();
        while let Some((c, leaving)) = stack.pop() {
            match (leaving, state[c]) {
                (true, _) => {
                    state[c] = State::Done;
                    path.pop();
                    order.push(c);
                }
                (false, State::Done) => {}
                (false, State::Open) => {
                    let start = path.iter().position(|x| *x == c).expect("an open class is on the path");
                    return Walk::Cycle(path[start..].to_vec());
                }
                (false, State::New) => {
                    let Some(choice) = self.classes[c].get(plan[c]) else { return Walk::Gap };
                    state[c] = State::Open;
                    path.push(c);
                    stack.push((c, true));
                    stack.extend(choice.needs.iter().rev().map(|n| (*n, false)));
                }
            }
        }
        Walk::Order(order)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Open,
    Done,
}

/// What following a plan finds.
pub(crate) enum Walk {
    /// The used classes, needs first.
    Order(Vec<usize>),
    /// Classes of which each needs the next, and the last the first.
    Cycle(Vec<usize>),
    /// A class without a choice.
    Gap,
}
