//! Linear layers of a program, wherever they are in its loops: found by their matrices, and each given something beside it.

use super::lora::{self, Low};
use super::packed::unpacked;
use crate::weights::packed::Packed;
use ir::{Bin, DType, Dim, Ein, Func, Graph, Loc, Loop, Node, NodeId, Op, Type, names, num};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A product of something with a matrix that is a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linear {
    /// What the layer is called: the matrix's path without `.weight`; of one that is an embedding too, what the head is called.
    pub module: String,
    /// The matrix's path.
    pub path: String,
    /// Its type, stacked where layers are.
    pub ty: Type,
    /// Width of what goes in.
    pub inputs: usize,
    /// Width of what comes out.
    pub outputs: usize,
    /// Whether the matrix lies `[in, out]`, as GPT-2's do, and not `[out, in]`.
    pub turned: bool,
    /// Whether the matrix is read as it is, and not as a part of something else that is made of it first.
    pub plain: bool,
}

/// What a head is called whose matrix is the embedding.
const HEAD: &str = "lm_head";
/// The input that seeds what is dropped.
const KEY: &str = "key";
/// Inputs that are added have these numbers and the next ones until all are known.
const ADDED: u32 = 1 << 24;
/// How far apart the keys are of an iteration's places, of iterations, and of loops, and how far all are from a model's own.
const STEPS: [u32; 3] = [1, 1 << 8, 1 << 20];
const OWN: u32 = 1 << 30;

/// What becomes of a layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// How its matrix is held, if not as it is.
    pub packed: Option<Packed>,
    /// What stands beside it.
    pub beside: Vec<Low>,
}

/// The linear layers of a program, in its order.
pub fn linears(graph: &Graph) -> Vec<Linear> {
    let mut weaver = Weaver::new(graph, &|_| Change::default());
    weaver.main();
    weaver.found
}

/// The program with what is said of its layers.
pub fn weave(graph: &Graph, change: &dyn Fn(&Linear) -> Change) -> Graph {
    let mut weaver = Weaver::new(graph, change);
    let (main, inputs) = weaver.main();
    let mut funcs = weaver.funcs;
    funcs.push(main);
    Graph { funcs, inputs, outputs: graph.outputs.clone() }.sweep()
}

/// A matrix that a function has, as a parameter or as an input that is one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Known {
    path: String,
    /// The parameter's own type.
    ty: Type,
    /// How many of its leading axes loops have taken off.
    taken: usize,
    /// Whether the last of them did, or had it whole in every iteration.
    stacked: bool,
}

/// What a function is given besides.
#[derive(Clone, Debug)]
struct Extra {
    what: Wanted,
    /// Whether each iteration has its own.
    stacked: bool,
    at: NodeId,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Wanted {
    /// A parameter, as the matrix of a path comes.
    Parameter { path: String, ty: Type, of: String },
    /// A number that seeds what is dropped.
    Key,
}

/// A function that is written anew.
pub(super) struct Frame {
    pub(super) func: Func,
    new: Vec<NodeId>,
    /// Matrices by the old node.
    at: HashMap<NodeId, Known>,
    extras: Vec<Extra>,
    is_main: bool,
    /// The number of main's input that seeds.
    key: u32,
    /// Places where something is dropped, and loops, so far.
    places: u32,
    loops: u32,
    loc: Option<Loc>,
}

impl Frame {
    /// An op, where the model has what is being written anew.
    pub(super) fn add(&mut self, op: Op, args: &[NodeId]) -> NodeId {
        let id = self.func.add(op, args);
        self.func.nodes[id.index()].loc = self.loc;
        id
    }

    /// A number that seeds.
    pub(super) fn uint(&mut self, n: u32) -> NodeId {
        self.add(Op::Const(f64::from(n).to_bits(), DType::U32), &[])
    }

    /// A parameter, whose whole type is given, one an iteration where the matrix of a path is.
    pub(super) fn param(&mut self, path: &str, ty: &Type, of: &str) -> NodeId {
        let what = Wanted::Parameter { path: path.into(), ty: ty.clone(), of: of.into() };
        let matrix = self.at.values().find(|k| k.path == of).expect("what is beside a matrix is asked for where that is");
        let here = Type::of(ty.dtype, ty.dims[matrix.taken..].iter().copied());
        let stacked = matrix.stacked;
        self.extra(what, stacked, Op::Param(path.into(), here.clone()), here)
    }

    fn extra(&mut self, what: Wanted, stacked: bool, in_main: Op, ty: Type) -> NodeId {
        if let Some(known) = self.extras.iter().find(|e| e.what == what) {
            return known.at;
        }
        let op = if self.is_main { in_main } else { Op::Input(ADDED + self.extras.len() as u32, ty) };
        let at = self.add(op, &[]);
        self.extras.push(Extra { what, stacked, at });
        at
    }

    /// What seeds the function's places.
    fn seed(&mut self) -> NodeId {
        let ty = Type::scalar(DType::U32);
        self.extra(Wanted::Key, true, Op::Input(self.key, ty.clone()), ty)
    }

    /// What seeds a further place.
    pub(super) fn key(&mut self) -> NodeId {
        self.places += 1;
        let (seed, place) = (self.seed(), self.uint(OWN + self.places * STEPS[0]));
        self.add(Op::Bin(Bin::Add), &[seed, place])
    }

    /// What seeds each of a further loop's iterations.
    fn keys(&mut self, trip: u32) -> NodeId {
        self.loops += 1;
        let (seed, first, step) = (self.seed(), self.uint(self.loops * STEPS[2]), self.uint(STEPS[1]));
        let number = self.add(Op::Iota(-1, Dim::from(trip)), &[]);
        let number = self.add(Op::Cast(DType::U32), &[number]);
        let number = self.add(Op::Bin(Bin::Mul), &[number, step]);
        let first = self.add(Op::Bin(Bin::Add), &[seed, first]);
        self.add(Op::Bin(Bin::Add), &[number, first])
    }

    /// The node as it was, of these of the old nodes.
    fn copy(&mut self, node: &Node) -> NodeId {
        self.copy_of(node, |_| None)
    }

    /// The same, where some operands are others.
    fn copy_of(&mut self, node: &Node, other: impl Fn(NodeId) -> Option<NodeId>) -> NodeId {
        let args = node.args.iter().map(|a| other(*a).unwrap_or(self.new[a.index()])).collect();
        self.func.push(Node { args, ..node.clone() })
    }

    /// A layer's matrix, as it is held.
    fn matrix(&mut self, old: NodeId, linear: &Linear, change: &Change) -> NodeId {
        change.packed.map_or(self.new[old.index()], |packed| unpacked(self, linear, packed))
    }

    /// Whether anything reads an input.
    fn reads(&self, input: u32) -> bool {
        let own = |id: &NodeId| matches!(self.func.node(*id).op, Op::Input(i, _) if i == input);
        self.func.nodes.iter().flat_map(|n| &n.args).chain(&self.func.results).any(own)
    }

    /// The numbers of the inputs, once all are known: those that are stacked stand behind the first so many, the others at the end, and those
    /// that nothing reads are none.
    fn settle(&mut self, before: u32, unread: &BTreeSet<u32>) {
        let per = self.extras.iter().filter(|e| e.stacked).count() as u32;
        for node in &mut self.func.nodes {
            match &mut node.op {
                Op::Input(i, _) if unread.contains(i) => (node.op, node.ty) = (num(0.0), Type::scalar(DType::F32)),
                Op::Input(i, _) if *i < ADDED => *i -= unread.range(..*i).count() as u32,
                _ => {}
            }
        }
        let before = before - unread.range(..before).count() as u32;
        let own = self.func.nodes.iter().filter(|n| matches!(n.op, Op::Input(i, _) if i < ADDED)).count() as u32;
        let place = |e: usize| {
            let alike = self.extras[..e].iter().filter(|x| x.stacked == self.extras[e].stacked).count() as u32;
            if self.extras[e].stacked { before + alike } else { own + per + alike }
        };
        let places: Vec<u32> = (0..self.extras.len()).map(place).collect();
        for node in &mut self.func.nodes {
            if let Op::Input(i, _) = &mut node.op {
                *i = match i.checked_sub(ADDED) {
                    Some(e) => places[e as usize],
                    None if *i < before => *i,
                    None => *i + per,
                };
            }
        }
    }
}

/// A body that is written: its number, what it is given besides, and which of its old inputs nothing reads any more.
type Body = (u32, Vec<Extra>, BTreeSet<u32>);

struct Weaver<'a> {
    graph: &'a Graph,
    funcs: Vec<Func>,
    /// Bodies that were written already, by number and matrices.
    done: BTreeMap<(u32, Vec<(u32, Known)>), Body>,
    embeddings: BTreeSet<String>,
    change: &'a dyn Fn(&Linear) -> Change,
    found: Vec<Linear>,
}

impl<'a> Weaver<'a> {
    fn new(graph: &'a Graph, change: &'a dyn Fn(&Linear) -> Change) -> Weaver<'a> {
        let main = graph.main();
        let table = |n: &Node| {
            let Op::Gather = n.op else { return None };
            if let Op::Param(path, _) = &main.node(n.args[0]).op { Some(path.to_string()) } else { None }
        };
        let embeddings = main.nodes.iter().filter_map(table).collect();
        Weaver { graph, funcs: vec![], done: BTreeMap::new(), embeddings, change, found: vec![] }
    }

    /// Main, and the names of its inputs.
    fn main(&mut self) -> (Func, Vec<String>) {
        let frame = self.function(self.graph.main(), &BTreeMap::new(), true);
        let mut inputs = self.graph.inputs.clone();
        if frame.key as usize == inputs.len() && frame.extras.iter().any(|e| e.what == Wanted::Key) {
            inputs.push(KEY.into());
        }
        (frame.func, inputs)
    }

    /// A function with what is beside its products; which of its inputs are matrices is known.
    fn function(&mut self, func: &Func, known: &BTreeMap<u32, Known>, is_main: bool) -> Frame {
        let inputs = &self.graph.inputs;
        let key = inputs.iter().position(|i| i == KEY).unwrap_or(inputs.len()) as u32;
        let (new, at) = (vec![], HashMap::new());
        let mut frame = Frame { func: Func::new(&func.name), new, at, extras: vec![], is_main, key, places: 0, loops: 0, loc: None };
        let multiplied = multiplied(func);
        for (id, node) in func.ids().zip(&func.nodes) {
            frame.loc = node.loc;
            let matrix = match &node.op {
                Op::Param(path, ty) => Some(Known { path: path.to_string(), ty: ty.clone(), taken: 0, stacked: false }),
                Op::Input(i, _) => known.get(i).cloned(),
                _ => None,
            };
            frame.at.extend(matrix.map(|k| (id, k)));
            let new = match &node.op {
                Op::Contract(ein) => self.contract(&mut frame, node, ein),
                Op::Repeat(l) => self.repeat(&mut frame, node, l),
                Op::Reshape(_) | Op::Transpose(_) | Op::Slice(..) if multiplied[id.index()] => self.made(&mut frame, node),
                _ => frame.copy(node),
            };
            frame.new.push(new);
        }
        frame.func.results = func.results.iter().map(|r| frame.new[r.index()]).collect();
        frame
    }

    /// A product, and what is beside it where one of its operands is a matrix.
    fn contract(&mut self, frame: &mut Frame, node: &Node, ein: &Ein) -> NodeId {
        let [a, b] = [node.args[0], node.args[1]];
        let (x, at, ein) = match (frame.at.contains_key(&a), frame.at.contains_key(&b)) {
            (false, true) => (a, b, ein.clone()),
            (true, false) => (b, a, ein.swap()),
            (false, false) | (true, true) => return frame.copy(node),
        };
        let w = frame.at[&at].clone();
        let sums = |l: &u8| *l >= ein.out;
        let inside = match ein.b[..] {
            [one, other] if sums(&one) && !sums(&other) && !ein.a.contains(&other) => 0,
            [one, other] if sums(&other) && !sums(&one) && !ein.a.contains(&one) => 1,
            _ => return frame.copy(node),
        };
        let Some(linear) = self.linear(&w, inside, true) else { return frame.copy(node) };
        let change = (self.change)(&linear);
        let (x, w) = (frame.new[x.index()], frame.matrix(at, &linear, &change));
        let product = frame.copy_of(node, |arg| if arg == at { Some(w) } else { None });
        let site = lora::Site { x, w, ein, linear: &linear };
        change.beside.iter().fold(product, |sum, part| lora::beside(frame, &site, sum, part))
    }

    /// What is made of a matrix, [out, in] as PyTorch has it, of which a part is read: made of it with what is added.
    fn made(&mut self, frame: &mut Frame, node: &Node) -> NodeId {
        let matrix = frame.at.get(&node.args[0]).filter(|k| !self.embeddings.contains(&k.path)).cloned();
        let Some(linear) = matrix.and_then(|k| self.linear(&k, 1, false)) else { return frame.copy(node) };
        let change = (self.change)(&linear);
        let w = frame.matrix(node.args[0], &linear, &change);
        let whole = change.beside.iter().fold(w, |sum, part| lora::within(frame, &linear, sum, part));
        frame.add(node.op.clone(), &[whole])
    }

    /// The layer of a matrix, noted: `inside` is the axis that its products sum over.
    fn linear(&mut self, matrix: &Known, inside: usize, plain: bool) -> Option<Linear> {
        let loops = matrix.ty.rank().checked_sub(2)?;
        let [one, other] = [matrix.ty.dim(-2).value()? as usize, matrix.ty.dim(-1).value()? as usize];
        if names::loops(&matrix.path) != loops || matrix.taken != loops {
            return None;
        }
        let (inputs, outputs) = if inside == 0 { (one, other) } else { (other, one) };
        let module = matrix.path.strip_suffix(".weight").unwrap_or(&matrix.path);
        let module = if self.embeddings.contains(&matrix.path) { HEAD } else { module }.to_string();
        let linear = Linear { module, path: matrix.path.clone(), ty: matrix.ty.clone(), inputs, outputs, turned: inside == 0, plain };
        if self.found.iter().all(|l| l.module != linear.module) {
            self.found.push(linear.clone());
        }
        Some(linear)
    }

    /// A loop, whose body may have products with matrices that it is given.
    fn repeat(&mut self, frame: &mut Frame, node: &Node, l: &Loop) -> NodeId {
        let (carried, stacked) = (l.carried as usize, (l.carried + l.stacked) as usize);
        let inside = |i: usize, k: &Known| Known { taken: k.taken + usize::from(i < stacked), stacked: i < stacked, ..k.clone() };
        let given = node.args.iter().enumerate().skip(carried);
        let known: BTreeMap<u32, Known> = given.filter_map(|(i, a)| Some((i as u32, inside(i, frame.at.get(a)?)))).collect();
        let (func, extras, unread) = self.body(l, &known);
        let (mut per, mut same) = (vec![], vec![]);
        for extra in &extras {
            let operand = match &extra.what {
                Wanted::Parameter { path, ty, of } => frame.param(path, ty, of),
                Wanted::Key => frame.keys(l.trip),
            };
            if extra.stacked { per.push(operand) } else { same.push(operand) }
        }
        let old = |places: std::ops::Range<usize>| -> Vec<NodeId> {
            places.filter(|i| !unread.contains(&(*i as u32))).map(|i| frame.new[node.args[i].index()]).collect()
        };
        let (first, rest) = (old(0..stacked), old(stacked..node.args.len()));
        let l = Loop { func, stacked: (first.len() - carried + per.len()) as u32, ..l.clone() };
        let args = [first, per, rest, same].concat();
        let types: Vec<&Type> = args.iter().map(|a| frame.func.ty(*a)).collect();
        let ty = Graph::repeat_type(&self.funcs, &l, &types).unwrap_or_else(|why| panic!("what is beside a layer does not fit its loop: {why}"));
        frame.func.push(Node { op: Op::Repeat(l), args, ty, loc: node.loc })
    }

    /// The body of a loop, written anew.
    fn body(&mut self, l: &Loop, known: &BTreeMap<u32, Known>) -> Body {
        let key = (l.func, known.clone().into_iter().collect::<Vec<_>>());
        if let Some(done) = self.done.get(&key) {
            return done.clone();
        }
        let func = &self.graph.funcs[l.func as usize];
        let mut frame = self.function(func, known, false);
        // a matrix that is held otherwise is no operand any more
        let unread: BTreeSet<u32> = known.keys().copied().filter(|i| !frame.reads(*i)).collect();
        frame.settle(l.carried + l.stacked, &unread);
        self.funcs.push(frame.func);
        let body = (self.funcs.len() as u32 - 1, frame.extras, unread);
        self.done.insert(key, body.clone());
        body
    }
}

/// Which nodes are an operand of a product or of a loop, or become one in parts: of a table a row of which is added there is no layer.
fn multiplied(func: &Func) -> Vec<bool> {
    let mut all = vec![false; func.nodes.len()];
    for (i, node) in func.nodes.iter().enumerate().rev() {
        let passes_on = matches!(node.op, Op::Reshape(_) | Op::Transpose(_) | Op::Slice(..)) && all[i];
        if passes_on || matches!(node.op, Op::Contract(_) | Op::Repeat(_)) {
            node.args.iter().for_each(|a| all[a.index()] = true);
        }
    }
    all
}
