//! Products in 16 bits: the operands of contractions and attention are rounded where they are read, sums and all else stay in 32 bits.
//!
//! Of a loop's body this is done before it is cut in two, so that what the backward only multiplies is kept in 16 bits, too. Of the rest that
//! is kept, what only elementwise functions read is rounded where it is made, for both directions: gates and what goes into GELU, as a
//! layer's output is rounded elsewhere. What norms and softmax read, the stream of residuals above all, is kept whole.
//!
//! Parameters, moments and gradients keep 32 bits, so that small updates are not lost (Micikevicius et al. 2018); bfloat16 has the range
//! of a 32-bit float, so that no loss is scaled.

use ir::{Class, DType, Func, Graph, Node, NodeId, Op, Row};
use std::collections::HashMap;

/// The graph with its products in a float of 16 bits; unchanged for `f32`.
pub fn lower_precision(graph: &Graph, dtype: DType) -> Graph {
    if !dtype.is_half() {
        return graph.clone();
    }
    let funcs = graph.funcs.iter().map(|f| Lowering::new(f, dtype).run()).collect();
    Graph { funcs, ..graph.clone() }.sweep()
}

/// The same of one function.
pub(crate) fn lower_func(func: &Func, dtype: DType) -> Func {
    if dtype.is_half() { Lowering::new(func, dtype).run() } else { func.clone() }
}

/// Of values those that may be held in 16 bits: floats that a function makes for elementwise functions alone, or views for such.
pub(crate) fn held_in_half(func: &Func, values: &[NodeId]) -> Vec<NodeId> {
    let mut elementwise = vec![true; func.nodes.len()];
    for r in &func.results {
        elementwise[r.index()] = false;
    }
    for id in func.ids().rev() {
        let node = func.node(id);
        let fine = match node.op.spec().class {
            Class::Pointwise => true,
            Class::View => elementwise[id.index()],
            Class::Composite => matches!(node.op, Op::Row(Row::Sigmoid | Row::Gelu | Row::GeluGrad | Row::Silu | Row::Swiglu | Row::Rope)),
            Class::Leaf | Class::Reduce | Class::Index | Class::Contract | Class::Structure => false,
        };
        if !fine {
            node.args.iter().for_each(|a| elementwise[a.index()] = false);
        }
    }
    let holds = |id: &&NodeId| elementwise[id.index()] && func.ty(**id).dtype == DType::F32 && !matches!(func.node(**id).op, Op::Input(..));
    values.iter().filter(holds).copied().collect()
}

/// The function with these values rounded to 16 bits where they are made.
pub(crate) fn hold_in_half(func: &Func, values: &[NodeId], dtype: DType) -> Func {
    let mut out = Func::new(&func.name);
    let mut new: Vec<NodeId> = vec![];
    let mut halves: HashMap<NodeId, NodeId> = HashMap::new();
    for id in func.ids() {
        let node = func.node(id);
        let known = if node.op == Op::Cast(dtype) { halves.get(&node.args[0]) } else { None };
        let args: Vec<NodeId> = node.args.iter().map(|a| new[a.index()]).collect();
        let mut made = known.copied().unwrap_or_else(|| out.push(Node { args, ..node.clone() }));
        if values.contains(&id) {
            let half = out.add(Op::Cast(dtype), &[made]);
            halves.insert(id, half);
            made = out.add(Op::Cast(DType::F32), &[half]);
        }
        new.push(made);
    }
    out.results = func.results.iter().map(|r| new[r.index()]).collect();
    out
}

struct Lowering<'a> {
    from: &'a Func,
    to: Func,
    dtype: DType,
    /// Where each value went: in 32 bits.
    new: Vec<NodeId>,
    /// Values rounded to 16 bits, by where they are in 32.
    rounded: HashMap<NodeId, NodeId>,
}

impl<'a> Lowering<'a> {
    fn new(from: &'a Func, dtype: DType) -> Lowering<'a> {
        Lowering { from, to: Func::new(&from.name), dtype, new: vec![], rounded: HashMap::new() }
    }

    fn run(mut self) -> Func {
        for node in &self.from.nodes {
            let id = self.node(node);
            self.new.push(id);
        }
        self.to.results = self.from.results.iter().map(|r| self.new[r.index()]).collect();
        self.to
    }

    fn node(&mut self, node: &Node) -> NodeId {
        let args: Vec<NodeId> = node.args.iter().map(|a| self.new[a.index()]).collect();
        let whole = node.ty.dtype == DType::F32;
        if node.op == Op::Get(0) && whole && matches!(self.from.node(node.args[0]).op, Op::Attention(_)) {
            let half = self.to.add(Op::Get(0), &args);
            let whole = self.to.add(Op::Cast(DType::F32), &[half]);
            self.rounded.insert(whole, half);
            return whole;
        }
        // how many operands are rounded: all of a product's, and of attention's those that are multiplied
        let products = match node.op.spec().class {
            Class::Contract if matches!(node.op, Op::AttentionBwd(_)) => 6,
            Class::Contract => node.args.len().min(3),
            Class::Leaf | Class::Pointwise | Class::View | Class::Reduce | Class::Index | Class::Structure | Class::Composite => 0,
        };
        if products == 0 {
            return self.to.push(Node { args, ..node.clone() });
        }
        // the log of the sum of exponentials, the backward's fifth operand, keeps its bits
        let lse = matches!(node.op, Op::AttentionBwd(_)).then_some(4);
        let rounded = |(i, a): (usize, &NodeId)| if i < products && Some(i) != lse { self.round(*a) } else { *a };
        let args: Vec<NodeId> = args.iter().enumerate().map(rounded).collect();
        self.to.add(node.op.clone(), &args)
    }

    /// The value in 16 bits: a view of one is a view of the rounded whole, which is rounded once, where it is computed.
    fn round(&mut self, x: NodeId) -> NodeId {
        if self.to.ty(x).dtype != DType::F32 {
            return x;
        }
        if let Some(known) = self.rounded.get(&x) {
            return *known;
        }
        let node = self.to.node(x).clone();
        let rounded = if matches!(node.op, Op::Reshape(_) | Op::Transpose(_) | Op::Slice(..)) {
            let whole = self.round(node.args[0]);
            self.to.add(node.op, &[whole])
        } else {
            self.to.add(Op::Cast(self.dtype), &[x])
        };
        self.rounded.insert(x, rounded);
        rounded
    }
}
