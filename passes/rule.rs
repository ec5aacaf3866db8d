//! Rules as equations over ops with attributes, their matcher, and the two ways to apply them: saturation and plain rewriting.
//!
//! In a pattern `?x` binds a value, `contract[?e]` binds an op with its attributes, `?..` the operands that are left, and anything else is
//! an op as it prints. A condition may look further down than its left side, and bind what it finds there: a procedure.
//! Commutative ops match in both orders; so does `contract`, with its labels exchanged. egg keeps the e-graph, congruence, the
//! analysis and explanations; the rest is here, because egg's patterns cannot bind attributes and its runner stops by the clock.

use crate::term::{EGraph, Term, Terms, World, with_op};
use egg::{ENodeOrVar, Id, PatternAst, Subst, Var};
use ir::{Attn, Ein, Func, Op, Type, infer};
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};

/// What a rule may do to the bits; each allows what stands before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Legality {
    /// Both sides have the same bits in `f32`, whatever the values: ±0, denormals, ∞ and NaN (whose payload and sign are not looked at).
    Exact,
    /// Equal over the reals; `f32` may round otherwise. No constant is folded or moved where `f32` would over- or underflow because of it.
    Reassociates,
    /// Equal up to the error of a function that processors do not round correctly, as `pow`.
    Approximate,
}

ir::spell!(Legality, "class of rules", [Exact "exact", Reassociates "reassociates", Approximate "approximate" | "all"]);

#[derive(Clone, Debug)]
enum Head {
    Op(Op),
    Bind(&'static str, u8),
}

#[derive(Clone, Debug)]
enum Pattern {
    Var(u8),
    /// The operands that are left, as many as there are.
    Rest,
    Node(Head, Vec<Pattern>),
}

/// What a match has bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Bindings {
    ids: SmallVec<[Option<Id>; 8]>,
    ops: SmallVec<[Option<Op>; 2]>,
    rest: SmallVec<[Id; 4]>,
}

/// The matched term as it stands, operand order included: the left side of a proof step.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    Var(u8),
    /// One of the operands that were left.
    Rest(u8),
    Node(Op, Vec<Seen>),
}

impl Seen {
    /// The same term with another for a variable.
    fn with(self, v: u8, term: &Seen) -> Seen {
        match self {
            Seen::Var(have) if have == v => term.clone(),
            Seen::Node(op, args) => Seen::Node(op, args.into_iter().map(|a| a.with(v, term)).collect()),
            Seen::Var(_) | Seen::Rest(_) => self,
        }
    }
}

/// An equation with a name, a legality and a condition, which also computes attributes of the right side.
pub struct Rule {
    /// The name, as proofs print it.
    pub name: &'static str,
    /// What it does to the bits.
    pub legality: Legality,
    /// Left and right side as written.
    pub text: (&'static str, &'static str),
    lhs: Pattern,
    rhs: Pattern,
    vars: Vec<String>,
    ops: Vec<String>,
    when: fn(&mut Match) -> Option<()>,
}

/// What a rule's condition sees.
pub struct Match<'a> {
    rule: &'a Rule,
    world: &'a dyn World,
    bound: Bindings,
    seen: Seen,
}

impl<'a> Match<'a> {
    fn slot(&self, table: &[String], v: &str) -> usize {
        table.iter().position(|x| x == v).unwrap_or_else(|| panic!("rule {}: there is no ?{v}", self.rule.name))
    }
    /// The class of `?v`.
    pub fn id(&self, v: &str) -> Id {
        self.bound.ids[self.slot(&self.rule.vars, v)].expect("the left side binds every variable")
    }
    /// The type of `?v`.
    pub fn ty(&self, v: &str) -> &Type {
        &self.world.fact(self.id(v)).ty
    }
    /// The number `?v` is, if it is one.
    pub fn number(&self, v: &str) -> Option<f64> {
        self.world.fact(self.id(v)).number.map(f64::from_bits)
    }
    /// The op bound by `[?v]`.
    pub fn op(&self, v: &str) -> &Op {
        self.bound.ops[self.slot(&self.rule.ops, v)].as_ref().expect("the left side binds every op")
    }
    /// The labels of the contraction `[?v]`.
    pub fn ein(&self, v: &str) -> &Ein {
        if let Op::Contract(e) = self.op(v) { e } else { panic!("rule {}: [?{v}] is not a contraction", self.rule.name) }
    }
    /// The labels of the attention `[?v]`.
    pub fn attn(&self, v: &str) -> &Attn {
        if let Op::Attention(a) | Op::AttentionBwd(a) = self.op(v) { a } else { panic!("rule {}: [?{v}] is not an attention", self.rule.name) }
    }
    /// Sets an op of the right side.
    pub fn set(&mut self, v: &str, op: Op) -> Option<()> {
        let i = self.slot(&self.rule.ops, v);
        self.bound.ops[i] = Some(op);
        Some(())
    }
    /// The world the match stands in.
    pub fn world(&self) -> &'a dyn World {
        self.world
    }
    /// The variable `?v` as part of a term.
    pub(crate) fn var(&self, v: &str) -> Seen {
        Seen::Var(self.slot(&self.rule.vars, v) as u8)
    }
    /// Binds a variable of the right side.
    pub(crate) fn bind(&mut self, v: &str, id: Id) {
        let i = self.slot(&self.rule.vars, v);
        self.bound.ids[i] = Some(self.world.find(id));
    }
    /// Binds `?..`.
    pub(crate) fn bind_rest(&mut self, ids: impl IntoIterator<Item = Id>) {
        self.bound.rest = ids.into_iter().map(|id| self.world.find(id)).collect();
    }
    /// Says what stands at `?v`, down to other variables: the left side reaches as far as the condition has looked.
    pub(crate) fn expand(&mut self, v: &str, term: &Seen) {
        let i = self.slot(&self.rule.vars, v) as u8;
        self.seen = std::mem::replace(&mut self.seen, Seen::Rest(0)).with(i, term);
    }
}

/// A rule from its text. Panics where the text does not read: rules are part of the program.
pub fn rule(name: &'static str, legality: Legality, lhs: &'static str, rhs: &'static str, when: fn(&mut Match) -> Option<()>) -> Rule {
    let rule = procedure(name, legality, lhs, rhs, when);
    let mut left = Reader { rule: name, vars: vec![], ops: vec![] };
    left.read(lhs);
    assert_eq!(left.vars, rule.vars, "rule {name}: the right side has a variable the left side lacks");
    rule
}

/// A rule whose condition binds variables that the right side has and the left side lacks.
pub fn procedure(name: &'static str, legality: Legality, lhs: &'static str, rhs: &'static str, when: fn(&mut Match) -> Option<()>) -> Rule {
    let mut reader = Reader { rule: name, vars: vec![], ops: vec![] };
    let (left, right) = (reader.read(lhs), reader.read(rhs));
    Rule { name, legality, text: (lhs, rhs), lhs: left, rhs: right, vars: reader.vars, ops: reader.ops, when }
}

struct Reader {
    rule: &'static str,
    vars: Vec<String>,
    ops: Vec<String>,
}

fn slot(table: &mut Vec<String>, v: &str) -> u8 {
    let i = table.iter().position(|x| x == v).unwrap_or_else(|| {
        table.push(v.into());
        table.len() - 1
    });
    i as u8
}

/// Names of ops with attributes, which patterns may bind.
const BINDABLE: [&str; 15] = [
    "contract",
    "reshape",
    "transpose",
    "broadcast",
    "slice",
    "concat",
    "pad",
    "iota",
    "cast",
    "sum",
    "max",
    "const",
    "attention",
    "attention_bwd",
    "grouped",
];

impl Reader {
    fn read(&mut self, text: &str) -> Pattern {
        let tokens: Vec<String> = text.replace('(', " ( ").replace(')', " ) ").split_whitespace().map(str::to_string).collect();
        let mut at = 0;
        let pattern = self.pattern(&tokens, &mut at);
        assert_eq!(at, tokens.len(), "rule {}: something follows the pattern {text}", self.rule);
        pattern
    }

    fn pattern(&mut self, tokens: &[String], at: &mut usize) -> Pattern {
        let open = tokens[*at] == "(";
        *at += usize::from(open);
        let word = tokens[*at].clone();
        *at += 1;
        if word == "?.." {
            return Pattern::Rest;
        }
        if let Some(v) = word.strip_prefix('?') {
            return Pattern::Var(slot(&mut self.vars, v));
        }
        let head = match word.split_once("[?") {
            Some((name, v)) => {
                let name = BINDABLE.into_iter().find(|n| *n == name).unwrap_or_else(|| panic!("rule {}: {name} has no attributes", self.rule));
                Head::Bind(name, slot(&mut self.ops, v.trim_end_matches(']')))
            }
            None => Head::Op(word.parse().unwrap_or_else(|why| panic!("rule {}: {why}", self.rule))),
        };
        let mut args = vec![];
        if open {
            while tokens[*at] != ")" {
                args.push(self.pattern(tokens, at));
            }
            *at += 1;
        }
        Pattern::Node(head, args)
    }
}

/// A node as it stands and, where operands may be exchanged, with them exchanged.
fn orientations(n: &Term) -> SmallVec<[(Op, SmallVec<[Id; 3]>, bool); 2]> {
    let mut out = SmallVec::new();
    out.push((n.op.clone(), n.args.clone(), false));
    if n.args.len() != 2 {
        return out;
    }
    let swapped: SmallVec<[Id; 3]> = [n.args[1], n.args[0]].into_iter().collect();
    if let Op::Contract(e) = &n.op {
        if n.args[0] != n.args[1] || e.swap() != *e {
            out.push((Op::Contract(e.swap()), swapped, true));
        }
    } else if n.op.commutes() && n.args[0] != n.args[1] {
        out.push((n.op.clone(), swapped, true));
    }
    out
}

impl Rule {
    fn matches(&self, world: &dyn World, p: &Pattern, id: Id, bound: &Bindings) -> Vec<(Bindings, Seen)> {
        match p {
            Pattern::Var(v) => {
                let mut bound = bound.clone();
                match bound.ids[usize::from(*v)] {
                    Some(b) if world.find(b) != world.find(id) => vec![],
                    _ => {
                        bound.ids[usize::from(*v)] = Some(world.find(id));
                        vec![(bound, Seen::Var(*v))]
                    }
                }
            }
            Pattern::Rest => unreachable!("what is left is bound with the node it belongs to"),
            Pattern::Node(head, ps) => {
                let mut out: Vec<(Bindings, Seen)> = vec![];
                for n in world.nodes(id).iter().filter(|n| takes(ps, n.args.len()) && fits(head, &n.op)) {
                    for (bound, seen) in orientations(n).into_iter().flat_map(|o| self.matches_node(world, head, ps, n, o, bound)) {
                        if !out.iter().any(|o| o.0 == bound) {
                            out.push((bound, seen));
                        }
                    }
                }
                out
            }
        }
    }

    fn matches_node(
        &self,
        world: &dyn World,
        head: &Head,
        ps: &[Pattern],
        n: &Term,
        (op, args, swapped): (Op, SmallVec<[Id; 3]>, bool),
        bound: &Bindings,
    ) -> Vec<(Bindings, Seen)> {
        let mut bound = bound.clone();
        if let Head::Bind(_, s) = head {
            match &bound.ops[usize::from(*s)] {
                Some(have) if *have != op => return vec![],
                _ => bound.ops[usize::from(*s)] = Some(op),
            }
        }
        let named = ps.len() - usize::from(has_rest(ps));
        if has_rest(ps) {
            bound.rest = args[named..].iter().map(|a| world.find(*a)).collect();
        }
        let mut partial: Vec<(Bindings, Vec<Seen>)> = vec![(bound, vec![])];
        for (p, a) in ps[..named].iter().zip(&args) {
            let extend = |(b, seen): (Bindings, Vec<Seen>)| {
                self.matches(world, p, *a, &b).into_iter().map(move |(b, s)| (b, seen.iter().cloned().chain([s]).collect()))
            };
            partial = partial.into_iter().flat_map(extend).collect();
        }
        let in_order = |(b, mut seen): (Bindings, Vec<Seen>)| {
            seen.extend((0..args.len() - named).map(|i| Seen::Rest(i as u8)));
            if swapped {
                seen.reverse();
            }
            (b, Seen::Node(n.op.clone(), seen))
        };
        partial.into_iter().map(in_order).collect()
    }

    /// The type of a pattern, where it has one.
    fn type_of(&self, p: &Pattern, world: &dyn World, bound: &Bindings) -> Option<Type> {
        match p {
            Pattern::Var(v) => Some(world.fact(bound.ids[usize::from(*v)]?).ty.clone()),
            Pattern::Rest => unreachable!("what is left is read with the node it belongs to"),
            Pattern::Node(head, ps) => {
                let mut types: Vec<Type> = named(ps).map(|p| self.type_of(p, world, bound)).collect::<Option<_>>()?;
                if has_rest(ps) {
                    types.extend(bound.rest.iter().map(|id| world.fact(*id).ty.clone()));
                }
                infer(&self.op_of(head, bound), &types.iter().collect::<Vec<_>>()).ok()
            }
        }
    }

    /// Every way the left side matches at a class, the condition holds and the right side has the type of the left.
    fn at(&self, world: &dyn World, root: Id) -> Vec<(Bindings, Seen)> {
        let (ids, ops) = (smallvec::smallvec![None; self.vars.len()], smallvec::smallvec![None; self.ops.len()]);
        let empty = Bindings { ids, ops, rest: SmallVec::new() };
        let holds = |(bound, seen)| {
            let mut m = Match { rule: self, world, bound, seen };
            (self.when)(&mut m)?;
            let same = self.type_of(&self.rhs, world, &m.bound).is_some_and(|ty| ty == world.fact(root).ty);
            same.then_some((m.bound, m.seen))
        };
        self.matches(world, &self.lhs, root, &empty).into_iter().filter_map(holds).collect()
    }

    fn root_name(&self) -> &'static str {
        match &self.lhs {
            Pattern::Node(Head::Op(op), _) => op.name(),
            Pattern::Node(Head::Bind(name, _), _) => name,
            Pattern::Var(_) | Pattern::Rest => panic!("rule {}: the left side is only a variable", self.name),
        }
    }

    fn search(&self, eg: &EGraph) -> Vec<(Id, Bindings, Seen)> {
        with_op(eg, self.root_name()).into_iter().flat_map(|root| self.at(eg, root).into_iter().map(move |(b, s)| (root, b, s))).collect()
    }

    fn build(&self, p: &Pattern, bound: &Bindings, terms: &mut Terms) -> Result<Id, String> {
        match p {
            Pattern::Var(v) => bound.ids[usize::from(*v)].ok_or_else(|| format!("rule {}: a variable is unbound", self.name)),
            Pattern::Rest => Err(format!("rule {}: what is left belongs to a node", self.name)),
            Pattern::Node(head, ps) => {
                let mut args: SmallVec<[Id; 3]> = named(ps).map(|p| self.build(p, bound, terms)).collect::<Result<_, _>>()?;
                if has_rest(ps) {
                    args.extend(bound.rest.iter().copied());
                }
                terms.try_add(Term { op: self.op_of(head, bound), args })
            }
        }
    }

    fn op_of(&self, head: &Head, bound: &Bindings) -> Op {
        match head {
            Head::Op(op) => op.clone(),
            Head::Bind(name, s) => bound.ops[usize::from(*s)].clone().unwrap_or_else(|| panic!("rule {}: {name}[?] is not set", self.name)),
        }
    }

    /// What the rule makes of a plain term, if it applies.
    pub fn rewrite(&self, terms: &mut Terms, root: Id) -> Option<Id> {
        if terms.term(root).op.name() != self.root_name() {
            return None;
        }
        let (bound, _) = self.at(terms, root).into_iter().next()?;
        Some(self.build(&self.rhs, &bound, terms).unwrap_or_else(|why| panic!("rule {}: {why}", self.name)))
    }

    /// What the rule claims where it applies to a term, apart from what stands below: a function of the rule's variables, constants kept,
    /// whose two results are its two sides.
    pub fn claim(&self, world: &Terms, root: Id) -> Option<Func> {
        let (mut bound, seen) = self.at(world, root).into_iter().next()?;
        let (mut terms, mut inputs) = (Terms::new(&[]), vec![]);
        for id in bound.ids.iter_mut().flatten().chain(&mut bound.rest) {
            let op = if let constant @ Op::Const(..) = &world.term(*id).op {
                constant.clone()
            } else {
                inputs.push(world.fact(*id).ty.clone());
                Op::Input(inputs.len() as u32 - 1, world.fact(*id).ty.clone())
            };
            *id = terms.add(Term { op, args: SmallVec::new() });
        }
        let left = Self::rebuild(&seen, &bound, &mut terms);
        let right = self.build(&self.rhs, &bound, &mut terms).unwrap_or_else(|why| panic!("rule {}: {why}", self.name));
        Some(terms.to_func(self.name, &[left, right], &inputs))
    }

    fn rebuild(seen: &Seen, bound: &Bindings, terms: &mut Terms) -> Id {
        match seen {
            Seen::Var(v) => bound.ids[usize::from(*v)].expect("the left side binds every variable"),
            Seen::Rest(i) => bound.rest[usize::from(*i)],
            Seen::Node(op, args) => {
                let args = args.iter().map(|a| Self::rebuild(a, bound, terms)).collect();
                terms.add(Term { op: op.clone(), args })
            }
        }
    }

    /// Whether this rule, at the root of `from`, gives `to`.
    pub fn gives(&self, terms: &mut Terms, from: Id, to: Id) -> bool {
        self.at(terms, from).into_iter().any(|(bound, _)| self.build(&self.rhs, &bound, terms) == Ok(to))
    }

    fn var(v: u8) -> Var {
        Var::from_u32(u32::from(v))
    }

    /// The variable of an operand that was left.
    fn rest_var(&self, i: usize) -> Var {
        Var::from_u32((self.vars.len() + i) as u32)
    }

    fn seen_ast(&self, seen: &Seen, ast: &mut PatternAst<Term>) -> Id {
        match seen {
            Seen::Var(v) => ast.add(ENodeOrVar::Var(Self::var(*v))),
            Seen::Rest(i) => ast.add(ENodeOrVar::Var(self.rest_var(usize::from(*i)))),
            Seen::Node(op, args) => {
                let args = args.iter().map(|a| self.seen_ast(a, ast)).collect();
                ast.add(ENodeOrVar::ENode(Term { op: op.clone(), args }))
            }
        }
    }

    fn pattern_ast(&self, p: &Pattern, bound: &Bindings, ast: &mut PatternAst<Term>) -> Id {
        match p {
            Pattern::Var(v) => ast.add(ENodeOrVar::Var(Self::var(*v))),
            Pattern::Rest => unreachable!("what is left is added with the node it belongs to"),
            Pattern::Node(head, ps) => {
                let mut args: SmallVec<[Id; 3]> = named(ps).map(|p| self.pattern_ast(p, bound, ast)).collect();
                if has_rest(ps) {
                    args.extend((0..bound.rest.len()).map(|i| ast.add(ENodeOrVar::Var(self.rest_var(i)))));
                }
                ast.add(ENodeOrVar::ENode(Term { op: self.op_of(head, bound), args }))
            }
        }
    }

    fn apply(&self, eg: &mut EGraph, root: Id, bound: &Bindings, seen: &Seen) -> bool {
        let (mut left, mut right) = (PatternAst::default(), PatternAst::default());
        self.pattern_ast(&self.rhs, bound, &mut right);
        let mut subst = Subst::with_capacity(self.vars.len());
        for (i, id) in bound.ids.iter().enumerate() {
            if let Some(id) = id {
                subst.insert(Self::var(i as u8), *id);
            }
        }
        for (i, id) in bound.rest.iter().enumerate() {
            subst.insert(self.rest_var(i), *id);
        }
        if eg.are_explanations_enabled() {
            self.seen_ast(seen, &mut left);
            eg.union_instantiations(&left, &right, &subst, self.name).1
        } else {
            let id = eg.add_instantiation(&right, &subst);
            eg.union(root, id)
        }
    }
}

/// Whether operands that are left are taken, too.
fn has_rest(ps: &[Pattern]) -> bool {
    matches!(ps.last(), Some(Pattern::Rest))
}

/// The operands that a pattern names one by one.
fn named(ps: &[Pattern]) -> impl Iterator<Item = &Pattern> {
    ps.iter().filter(|p| !matches!(p, Pattern::Rest))
}

/// Whether a pattern of these operands takes so many.
fn takes(ps: &[Pattern], n: usize) -> bool {
    if has_rest(ps) { n + 1 >= ps.len() } else { n == ps.len() }
}

fn fits(head: &Head, op: &Op) -> bool {
    match head {
        Head::Op(want) => op == want,
        Head::Bind(name, _) => op.name() == *name,
    }
}

/// How a saturation went.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Rounds until nothing changed.
    pub rounds: usize,
    /// E-nodes at the end.
    pub nodes: usize,
    /// Matches found, in all rounds: what the work is proportional to.
    pub matches: usize,
    /// Whether nothing was left to do; false where a cap was hit, which callers must say.
    pub saturated: bool,
    /// How often each rule changed something.
    pub fired: Vec<(&'static str, usize)>,
}

/// Most rounds and e-nodes of one saturation.
pub const ROUNDS_MAX: usize = 30;
/// Most e-nodes of one saturation, where the program has not more than a quarter of them.
pub const NODES_MAX: usize = 20_000;

/// Applies every rule, once a round, in order, until nothing changes or a cap is hit.
pub fn saturate(eg: &mut EGraph, rules: &[Rule]) -> Report {
    let mut report = Report { fired: rules.iter().map(|r| (r.name, 0)).collect(), ..Report::default() };
    // only asked whether it holds a match: its order reaches nothing
    let mut done: HashSet<(usize, Id, Bindings)> = HashSet::new();
    eg.rebuild();
    let most = NODES_MAX.max(4 * eg.total_size());
    while report.rounds < ROUNDS_MAX && !report.saturated && eg.total_size() < most {
        report.rounds += 1;
        let found: Vec<_> = rules.iter().enumerate().flat_map(|(i, rule)| rule.search(eg).into_iter().map(move |m| (i, m))).collect();
        report.matches += found.len();
        let mut changed = false;
        for (i, (root, bound, seen)) in found {
            if eg.total_size() >= most || !done.insert((i, root, bound.clone())) {
                continue;
            }
            if rules[i].apply(eg, root, &bound, &seen) {
                changed = true;
                report.fired[i].1 += 1;
            }
        }
        eg.rebuild();
        report.saturated = !changed;
    }
    report.nodes = eg.total_size();
    report.fired.retain(|f| f.1 > 0);
    report
}

/// Innermost rewriting: operands first, then the first rule that applies, until none does.
pub struct Rewriter<'a> {
    rules: &'a [&'a Rule],
    done: HashMap<Id, Id>,
    /// Rewrites so far; a cap on it turns an endless rule set into a loud error.
    pub steps: usize,
}

/// Rewrites a term that is to be looked at, by the number of terms it is at most allowed: a rule set that ends needs few of them.
const STEPS_A_TERM: usize = 1000;

impl<'a> Rewriter<'a> {
    /// A rewriter by these rules, in order of preference.
    pub fn new(rules: &'a [&'a Rule]) -> Rewriter<'a> {
        Rewriter { rules, done: HashMap::new(), steps: 0 }
    }

    /// The normal form of a term. What waits for others stands on a stack of its own, as a program may be deeper than a thread's.
    pub fn rewrite(&mut self, terms: &mut Terms, id: Id) -> Id {
        let limit = (terms.len() + 100) * STEPS_A_TERM;
        let mut stack = vec![Wait { ids: vec![], next: id }];
        while let Some(Wait { ids, next }) = stack.pop() {
            if let Some(to) = self.done.get(&next).copied() {
                self.done.extend(ids.into_iter().map(|id| (id, to)));
                continue;
            }
            let open: Vec<Id> = terms.term(next).args.iter().copied().filter(|a| !self.done.contains_key(a)).collect();
            if !open.is_empty() {
                stack.push(Wait { ids, next });
                stack.extend(open.into_iter().rev().map(|next| Wait { ids: vec![], next }));
                continue;
            }
            let mut term = terms.term(next).clone();
            for a in &mut term.args {
                *a = self.done[a];
            }
            let here = terms.add(term);
            let ids: Vec<Id> = ids.into_iter().chain([next, here]).collect();
            match self.rules.iter().find_map(|r| r.rewrite(terms, here).filter(|to| *to != here)) {
                None => self.done.extend(ids.into_iter().map(|id| (id, here))),
                Some(to) => {
                    self.steps += 1;
                    assert!(self.steps < limit, "the rewriting rules do not end");
                    stack.push(Wait { ids, next: to });
                }
            }
        }
        self.done[&id]
    }
}

/// A term to be rewritten, and those that become the same.
struct Wait {
    ids: Vec<Id>,
    next: Id,
}
