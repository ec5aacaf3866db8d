//! Why this became that: egg's proof as steps over shared, numbered terms, and a checker that has rules and terms but no e-graph.

use crate::cost::Machine;
use crate::extract::Problem;
use crate::rule::{Rule, saturate};
use crate::term::{EGraph, Term, Terms, World, add_func, egraph};
use egg::{Id, RecExpr, Symbol, TreeTerm};
use ir::{Func, Op};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::{self, Write};
use std::rc::Rc;

/// One use of a rule: `from` became `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProofStep {
    /// Index of the rule in the list that was given.
    pub rule: usize,
    /// The term before.
    pub from: Id,
    /// The term after.
    pub to: Id,
}

/// A proof that two terms are equal.
pub struct Proof {
    /// The terms.
    pub terms: Terms,
    /// The steps, in the order they are needed.
    pub steps: Vec<ProofStep>,
    /// What was written.
    pub from: Id,
    /// What was chosen.
    pub to: Id,
    rules: Vec<(&'static str, String)>,
}

/// Bytes of stack for each op of a program that is explained: egg walks a proof by recursion.
const STACK_AN_OP: usize = 8 << 10;

/// Proofs of every value of a function that became the op of this name.
pub fn explain(func: &Func, funcs: &[Func], rules: &[Rule], name: &str) -> Result<Vec<Proof>, String> {
    let stack = (2 << 20) + func.nodes.len() * STACK_AN_OP;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, || proofs(func, funcs, rules, name));
        let thread = thread.map_err(|e| format!("no thread with a stack of {stack} bytes for a proof of {} ops: {e}", func.nodes.len()))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn proofs(func: &Func, funcs: &[Func], rules: &[Rule], name: &str) -> Result<Vec<Proof>, String> {
    let mut eg = egraph(funcs).with_explanations_enabled();
    let (ids, root) = add_func(&mut eg, func);
    saturate(&mut eg, rules);
    let problem = Problem::new(&eg, root, &Machine::CPU);
    let (plan, _) = problem.solve();
    let mut chosen = Terms::new(funcs);
    let (_, by_class) = problem.terms(&plan, &|id| eg.find(id), &mut chosen);
    let mut written = Terms::new(funcs);
    let originals = written.add_func(func);
    let is = |id: Id| {
        let term = chosen.term(id);
        term.op.name() == name || (matches!(term.op, Op::Get(_)) && chosen.term(term.args[0]).op.name() == name)
    };
    let mut proofs = vec![];
    let mut seen = BTreeSet::new();
    for ((node, id), from) in func.nodes.iter().zip(&ids).zip(originals).rev() {
        let class = eg.find(*id);
        let Some(to) = by_class.get(&class).copied().filter(|t| is(*t)) else { continue };
        if node.op.name() == name || !seen.insert(class) {
            continue;
        }
        proofs.push(prove(&mut eg, (&written, from), (&chosen, to), funcs, rules)?);
    }
    proofs.reverse();
    Ok(proofs)
}

fn expr(terms: &Terms, id: Id) -> RecExpr<Term> {
    let (mut out, mut done) = (RecExpr::default(), HashMap::new());
    for id in terms.order(&[id]) {
        let mut term = terms.term(id).clone();
        for a in &mut term.args {
            *a = done[a];
        }
        done.insert(id, out.add(term));
    }
    out
}

fn add_expr(terms: &mut Terms, e: &RecExpr<Term>) -> Id {
    let mut ids: Vec<Id> = vec![];
    for t in e.as_ref() {
        let args = t.args.iter().map(|a| ids[usize::from(*a)]).collect();
        ids.push(terms.add(Term { op: t.op.clone(), args }));
    }
    *ids.last().expect("an expression has a term")
}

fn prove(eg: &mut EGraph, from: (&Terms, Id), to: (&Terms, Id), funcs: &[Func], rules: &[Rule]) -> Result<Proof, String> {
    let (from, to) = (expr(from.0, from.1), expr(to.0, to.1));
    let explanation = eg.explain_equivalence(&from, &to);
    let mut reader = TreeReader { terms: Terms::new(funcs), steps: vec![], known: HashSet::new(), seen: HashMap::new(), held: vec![], rules };
    let read = reader.read(&explanation.explanation_trees);
    drop(explanation);
    while reader.held.pop().is_some() {}
    read?;
    let mut terms = reader.terms;
    let (from, to) = (add_expr(&mut terms, &from), add_expr(&mut terms, &to));
    let names = rules.iter().map(|r| (r.name, r.legality.to_string())).collect();
    Ok(Proof { terms, steps: reader.steps, from, to, rules: names })
}

/// Reads steps off egg's shared proof tree. Flattening it first would copy every term at every step.
struct TreeReader<'a> {
    terms: Terms,
    steps: Vec<ProofStep>,
    /// The steps again, to be asked for one.
    known: HashSet<ProofStep>,
    seen: HashMap<*const TreeTerm<Term>, (Id, Id)>,
    /// The terms read, operands first. Let go of from the end, none brings its operands down with it, which would be a recursion.
    held: Vec<Rc<TreeTerm<Term>>>,
    rules: &'a [Rule],
}

/// What is left to read, on a stack of its own: proofs are as deep as programs.
enum Left<'t> {
    /// A chain of terms, each the one before rewritten by a rule.
    Chain(&'t [Rc<TreeTerm<Term>>]),
    /// The steps of a chain whose terms are known.
    Steps(&'t [Rc<TreeTerm<Term>>]),
    /// A term.
    Tree(&'t Rc<TreeTerm<Term>>),
    /// A term whose operands are known.
    Ends(&'t Rc<TreeTerm<Term>>),
}

impl TreeReader<'_> {
    fn read(&mut self, trees: &[Rc<TreeTerm<Term>>]) -> Result<(), String> {
        let mut stack = vec![Left::Chain(trees)];
        while let Some(left) = stack.pop() {
            match left {
                Left::Chain(trees) => {
                    stack.push(Left::Steps(trees));
                    stack.extend(trees.iter().rev().map(Left::Tree));
                }
                Left::Steps(trees) => self.steps(trees)?,
                Left::Tree(tree) if self.seen.contains_key(&Rc::as_ptr(tree)) => {}
                Left::Tree(tree) => {
                    stack.push(Left::Ends(tree));
                    stack.extend(tree.child_proofs.iter().rev().map(|c| Left::Chain(c)));
                }
                Left::Ends(tree) => self.ends(tree),
            }
        }
        Ok(())
    }

    fn steps(&mut self, trees: &[Rc<TreeTerm<Term>>]) -> Result<(), String> {
        for pair in trees.windows(2) {
            let (before, after) = (self.seen[&Rc::as_ptr(&pair[0])], self.seen[&Rc::as_ptr(&pair[1])]);
            let (rule, from, to) = match (pair[1].forward_rule, pair[1].backward_rule) {
                (Some(rule), _) => (rule, before.1, after.0),
                (None, Some(rule)) => (rule, after.0, before.1),
                (None, None) => continue,
            };
            let step = ProofStep { rule: self.rule(rule)?, from, to };
            if self.known.insert(step) {
                self.steps.push(step);
            }
        }
        Ok(())
    }

    fn rule(&self, name: Symbol) -> Result<usize, String> {
        self.rules.iter().position(|r| r.name == name.as_str()).ok_or_else(|| format!("the proof uses {name}, which is no rule"))
    }

    /// Notes a term before and after what its operands went through.
    fn ends(&mut self, tree: &Rc<TreeTerm<Term>>) {
        let of = |t: &Rc<TreeTerm<Term>>| self.seen[&Rc::as_ptr(t)];
        let operands: Vec<(Id, Id)> = tree.child_proofs.iter().map(|c| (of(&c[0]).0, of(&c[c.len() - 1]).1)).collect();
        let mut side = |pick: fn(&(Id, Id)) -> Id| self.terms.add(Term { op: tree.node.op.clone(), args: operands.iter().map(pick).collect() });
        let ends = (side(|e| e.0), side(|e| e.1));
        self.seen.insert(Rc::as_ptr(tree), ends);
        self.held.push(tree.clone());
    }
}

/// Checks a proof without the e-graph: each step is what its rule gives, and the steps with congruence join the two ends.
pub fn replay(proof: &Proof, rules: &[Rule]) -> Result<(), String> {
    let mut terms = proof.terms.clone();
    for s in &proof.steps {
        let rule = rules.get(s.rule).ok_or("a step names no rule")?;
        if !rule.gives(&mut terms, s.from, s.to) {
            return Err(format!("{} does not turn t{} into t{}", rule.name, s.from, s.to));
        }
    }
    let mut parent: Vec<usize> = (0..terms.len()).collect();
    fn find(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    for s in &proof.steps {
        let (a, b) = (find(&mut parent, s.from.into()), find(&mut parent, s.to.into()));
        parent[a] = b;
    }
    loop {
        let mut changed = false;
        let mut seen: HashMap<(Op, Vec<usize>), usize> = HashMap::new();
        for i in 0..terms.len() {
            let term = terms.term(Id::from(i)).clone();
            let key = (term.op, term.args.iter().map(|a| find(&mut parent, (*a).into())).collect());
            let other = *seen.entry(key).or_insert(i);
            let (a, b) = (find(&mut parent, i), find(&mut parent, other));
            if a != b {
                parent[a] = b;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let joined = find(&mut parent, proof.from.into()) == find(&mut parent, proof.to.into());
    if joined { Ok(()) } else { Err("the steps do not join the two ends".into()) }
}

impl Proof {
    fn used(&self) -> BTreeSet<Id> {
        let mut out = BTreeSet::new();
        let mut stack: Vec<Id> = self.steps.iter().flat_map(|s| [s.from, s.to]).chain([self.from, self.to]).collect();
        while let Some(id) = stack.pop() {
            if out.insert(id) {
                stack.extend(&self.terms.term(id).args);
            }
        }
        out
    }

    /// Constants, inputs and parameters are written out; other terms by number.
    fn name(&self, id: Id) -> String {
        let term = self.terms.term(id);
        if term.args.is_empty() { term.op.to_string() } else { format!("t{id}") }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let shown = |id: Id| {
            let term = self.terms.term(id);
            let args: Vec<String> = term.args.iter().map(|a| self.name(*a)).collect();
            format!("{} {}", term.op, args.join(", "))
        };
        writeln!(f, "; terms")?;
        for id in self.used().into_iter().filter(|id| !self.terms.term(*id).args.is_empty()) {
            let mut line = format!("  t{id} = {}", shown(id));
            let _ = write!(line, " : {}", self.terms.fact(id).ty);
            writeln!(f, "{line}")?;
        }
        writeln!(f, "; {} steps from {} to {}", self.steps.len(), self.name(self.from), self.name(self.to))?;
        for (i, s) in self.steps.iter().enumerate() {
            let (rule, legality) = &self.rules[s.rule];
            writeln!(f, "  {:2}. {rule:<26} {legality:<13} {} = {}", i + 1, self.name(s.from), self.name(s.to))?;
        }
        Ok(())
    }
}
