//! An IR op as an e-node, what is known of a class, and the two worlds rules look at: an e-graph and plain terms.

use egg::{DidMerge, Id, Language};
use ir::{Func, Graph, NodeId, Op, Type, infer};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// An op with operand classes. There is no second list of ops.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Term {
    /// The op.
    pub op: Op,
    /// Its operands.
    pub args: SmallVec<[Id; 3]>,
}

impl Language for Term {
    type Discriminant = &'static str;
    fn discriminant(&self) -> &'static str {
        self.op.name()
    }
    fn matches(&self, other: &Term) -> bool {
        self.op == other.op && self.args.len() == other.args.len()
    }
    fn children(&self) -> &[Id] {
        &self.args
    }
    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.args
    }
}

impl std::fmt::Display for Term {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.op.fmt(f)
    }
}

/// What is known of a class: its type, and its number where it is a constant.
#[derive(Clone, PartialEq, Debug)]
pub struct Fact {
    /// The type.
    pub ty: Type,
    /// Bits of the `f64`.
    pub number: Option<u64>,
}

/// The analysis. It holds the functions that `repeat` may name.
#[derive(Clone, Default)]
pub struct Typed {
    funcs: Arc<Vec<Func>>,
}

/// The e-graph.
pub type EGraph = egg::EGraph<Term, Typed>;

/// An e-graph whose terms may call these functions.
pub fn egraph(funcs: &[Func]) -> EGraph {
    EGraph::new(Typed { funcs: Arc::new(funcs.to_vec()) })
}

/// Adds a function's values to an e-graph: their classes, and that of the tuple of its results.
pub fn add_func(eg: &mut EGraph, func: &Func) -> (Vec<Id>, Id) {
    let mut ids: Vec<Id> = vec![];
    for node in &func.nodes {
        let args = node.args.iter().map(|a| ids[a.index()]).collect();
        ids.push(eg.add(Term { op: node.op.clone(), args }));
    }
    let root = eg.add(Term { op: Op::Tuple, args: func.results.iter().map(|r| ids[r.index()]).collect() });
    (ids, root)
}

fn type_of(funcs: &[Func], op: &Op, types: &[&Type]) -> Result<Type, String> {
    if let Op::Repeat(l) = op { Graph::repeat_type(funcs, l, types) } else { infer(op, types) }
}

impl egg::Analysis<Term> for Typed {
    type Data = Fact;
    fn make(eg: &mut EGraph, term: &Term, _: Id) -> Fact {
        let types: Vec<&Type> = term.args.iter().map(|a| &eg[*a].data.ty).collect();
        let ty = type_of(&eg.analysis.funcs, &term.op, &types).unwrap_or_else(|why| panic!("a rule built an ill-typed term: {why}"));
        Fact { ty, number: term.op.number().map(f64::to_bits) }
    }
    fn merge(&mut self, a: &mut Fact, b: Fact) -> DidMerge {
        assert_eq!(a.ty, b.ty, "a rule changed a type");
        match (a.number, b.number) {
            (None, Some(_)) => {
                a.number = b.number;
                DidMerge(true, false)
            }
            // two routes of constant folding may differ in the last bit: keep the smaller, whatever the order of merging
            (Some(x), Some(y)) if x != y => {
                assert!(close(f64::from_bits(x), f64::from_bits(y)), "a rule made {} equal {}", f64::from_bits(x), f64::from_bits(y));
                a.number = Some(x.min(y));
                DidMerge(x > y, y > x)
            }
            (x, y) => DidMerge(false, x != y),
        }
    }
}

/// Equal up to rounding of a few operations in `f64`.
pub fn close(x: f64, y: f64) -> bool {
    x == y || (x - y).abs() <= 1e-12 * x.abs().max(y.abs())
}

/// What a rule may look at.
pub trait World {
    /// The representative of a class.
    fn find(&self, id: Id) -> Id;
    /// The nodes of a class.
    fn nodes(&self, id: Id) -> &[Term];
    /// What is known of a class.
    fn fact(&self, id: Id) -> &Fact;
}

/// The classes with a node of this name, in order.
pub(crate) fn with_op(eg: &EGraph, name: &'static str) -> Vec<Id> {
    let mut ids: Vec<Id> = eg.classes_for_op(&name).map(Iterator::collect).unwrap_or_default();
    ids.sort_unstable();
    ids
}

impl World for EGraph {
    fn find(&self, id: Id) -> Id {
        EGraph::find(self, id)
    }
    fn nodes(&self, id: Id) -> &[Term] {
        &self[id].nodes
    }
    fn fact(&self, id: Id) -> &Fact {
        &self[id].data
    }
}

/// Hash-consed terms with their types: a world where every class is one term.
#[derive(Clone, Default)]
pub struct Terms {
    all: Vec<Term>,
    facts: Vec<Fact>,
    memo: HashMap<Term, Id>,
    funcs: Arc<Vec<Func>>,
}

impl Terms {
    /// No terms yet; those to come may call these functions.
    pub fn new(funcs: &[Func]) -> Terms {
        Terms { funcs: Arc::new(funcs.to_vec()), ..Terms::default() }
    }

    /// The id of a term, new or known. Fails where it is ill-typed.
    pub fn try_add(&mut self, term: Term) -> Result<Id, String> {
        if let Some(id) = self.memo.get(&term) {
            return Ok(*id);
        }
        let types: Vec<&Type> = term.args.iter().map(|a| &self.facts[usize::from(*a)].ty).collect();
        let ty = type_of(&self.funcs, &term.op, &types)?;
        self.facts.push(Fact { ty, number: term.op.number().map(f64::to_bits) });
        let id = Id::from(self.all.len());
        self.all.push(term.clone());
        self.memo.insert(term, id);
        Ok(id)
    }

    /// The id of a well-typed term.
    pub fn add(&mut self, term: Term) -> Id {
        self.try_add(term).unwrap_or_else(|why| panic!("a rule built an ill-typed term: {why}"))
    }

    /// The term of an id.
    pub fn term(&self, id: Id) -> &Term {
        &self.all[usize::from(id)]
    }

    /// Number of terms.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All the values of a function, in order.
    pub fn add_func(&mut self, func: &Func) -> Vec<Id> {
        let mut ids: Vec<Id> = vec![];
        for node in &func.nodes {
            let args = node.args.iter().map(|a| ids[a.index()]).collect();
            ids.push(self.add(Term { op: node.op.clone(), args }));
        }
        ids
    }

    /// These terms and what they are made of, operands first. A program may be deeper than a thread's stack, so this keeps its own.
    pub fn order(&self, roots: &[Id]) -> Vec<Id> {
        let (mut out, mut seen) = (vec![], vec![false; self.all.len()]);
        let mut stack: Vec<(Id, bool)> = roots.iter().rev().map(|r| (*r, false)).collect();
        while let Some((id, leaving)) = stack.pop() {
            if leaving {
                out.push(id);
            } else if !std::mem::replace(&mut seen[usize::from(id)], true) {
                stack.push((id, true));
                stack.extend(self.term(id).args.iter().rev().map(|a| (*a, false)));
            }
        }
        out
    }

    /// The function that computes these terms.
    pub fn to_func(&self, name: &str, roots: &[Id], inputs: &[Type]) -> Func {
        let mut func = Func::new(name);
        for (i, ty) in inputs.iter().enumerate() {
            func.add(Op::Input(i as u32, ty.clone()), &[]);
        }
        let mut done: HashMap<Id, NodeId> = HashMap::new();
        for id in self.order(roots) {
            let term = self.term(id);
            let args: Vec<NodeId> = term.args.iter().map(|a| done[a]).collect();
            let node = if let Op::Input(i, _) = &term.op {
                NodeId(*i)
            } else {
                func.add_typed(term.op.clone(), &args, self.facts[usize::from(id)].ty.clone())
            };
            done.insert(id, node);
        }
        func.results = roots.iter().map(|r| done[r]).collect();
        func.sweep()
    }
}

impl World for Terms {
    fn find(&self, id: Id) -> Id {
        id
    }
    fn nodes(&self, id: Id) -> &[Term] {
        std::slice::from_ref(&self.all[usize::from(id)])
    }
    fn fact(&self, id: Id) -> &Fact {
        &self.facts[usize::from(id)]
    }
}
