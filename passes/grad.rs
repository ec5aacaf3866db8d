//! Reverse mode: the pullback of every op, and the gradient of a loss through loops.
//!
//! A loop's gradient is a reverse loop. The body is differentiated into one *joint* function, forward and backward together, which
//! [`crate::pair`] cuts in two.

use crate::group::Which;
use crate::pair::{Pair, Role};
use crate::score_grad::with_derivatives;
use crate::tape::{Tape, V};
use ir::{Attn, Bin, DType, Ein, Func, Graph, Lie, Loc, Loop, NodeId, Op, Red, Row, Type, Un, definition, names};
use std::collections::HashMap;

/// The cotangent of a value: one tensor, or one a member of a tuple.
#[derive(Clone)]
enum Cotangent<'t> {
    One(V<'t>),
    Parts(Vec<Option<V<'t>>>),
}

type Cotangents<'t> = HashMap<NodeId, Cotangent<'t>>;

/// A loop of the forward program that takes part in the gradient.
struct OpenLoop {
    pair: Pair,
    /// What each input of the joint body gets from the function around it; cotangents are not known yet.
    outer: Vec<Option<NodeId>>,
    /// The operands of the original loop with their place among the backward results.
    wanted: Vec<(usize, Wanted)>,
}

#[derive(Clone, Copy)]
enum Wanted {
    Carried(usize),
    Stacked(usize),
}

/// The program with a further output `grad.<path>` for every parameter that is trained. `loss` names a scalar output.
pub fn grad(graph: &Graph, loss: &str, trainable: &[Which]) -> Result<Graph, String> {
    let at = graph.outputs.iter().position(|o| o == loss).ok_or_else(|| format!("there is no output {loss} to differentiate"))?;
    let main = graph.main();
    if !main.ty(main.results[at]).is_scalar() {
        return Err(format!("{loss} is {}, expected a scalar", main.ty(main.results[at])));
    }
    let params: Vec<NodeId> =
        main.ids().filter(|id| matches!(&main.node(*id).op, Op::Param(path, ty) if trainable.iter().any(|w| w.holds(path, ty)))).collect();
    let mut funcs = graph.funcs[..graph.funcs.len() - 1].to_vec();
    let mut d = Differentiation::new(main, &params, &mut funcs)?;
    let tape = Tape::new(std::mem::take(&mut d.forward));
    let mut cotangents = Cotangents::new();
    let loss_at = d.new[main.results[at].index()];
    cotangents.insert(loss_at, Cotangent::One(tape.num(1.0).broadcast(main.ty(main.results[at]))));
    let order: Vec<NodeId> = tape.func.borrow().ids().filter(|id| *id <= loss_at).collect();
    d.reverse(&tape, &order, &mut cotangents)?;
    let mut outputs = graph.outputs.clone();
    let mut results: Vec<NodeId> = main.results.iter().map(|r| d.new[r.index()]).collect();
    for p in params {
        let Op::Param(name, ty) = &main.node(p).op else { unreachable!("params are parameters") };
        let g = match cotangents.get(&d.new[p.index()]) {
            Some(Cotangent::One(g)) => *g,
            _ => tape.zeros(ty),
        };
        outputs.push(names::gradient(name));
        results.push(g.id);
    }
    let mut func = tape.func.into_inner();
    func.results = results;
    funcs.push(func);
    Ok(Graph { funcs, inputs: graph.inputs.clone(), outputs }.sweep())
}

/// The state of differentiating one function.
struct Differentiation<'f> {
    funcs: &'f mut Vec<Func>,
    /// The forward program, its loops replaced by ones that save residuals.
    forward: Func,
    /// Where each node of the original function stands in it.
    new: Vec<NodeId>,
    /// Whether a node of the tape depends on what is differentiated for.
    active: Vec<bool>,
    loops: HashMap<NodeId, OpenLoop>,
}

impl<'f> Differentiation<'f> {
    fn new(func: &Func, wrt: &[NodeId], funcs: &'f mut Vec<Func>) -> Result<Differentiation<'f>, String> {
        let mut d = Differentiation { funcs, forward: Func::new(&func.name), new: vec![], active: vec![], loops: HashMap::new() };
        for id in func.ids() {
            let node = func.node(id);
            let args: Vec<NodeId> = node.args.iter().map(|a| d.new[a.index()]).collect();
            let active = wrt.contains(&id) || args.iter().any(|a| d.active[a.index()]);
            let at = if let Op::Repeat(l) = &node.op
                && active
            {
                d.open_loop(l, &args)?
            } else {
                d.forward.push(ir::Node { args, ..node.clone() })
            };
            d.active.resize(d.forward.nodes.len(), false);
            d.active[at.index()] = active;
            d.new.push(at);
        }
        Ok(d)
    }

    /// Differentiates a loop's body and emits the forward loop. Its tuple keeps its members, and residuals follow them.
    fn open_loop(&mut self, l: &Loop, args: &[NodeId]) -> Result<NodeId, String> {
        let body = self.funcs[l.func as usize].clone();
        let (carried, stacked) = (l.carried as usize, l.stacked as usize);
        let wanted: Vec<usize> = (0..args.len()).filter(|i| *i < carried || self.active[args[*i].index()]).collect();
        let (func, roles, wanted) = joint_body(&body, l, &wanted, self.funcs)?;
        let pair = Pair { func, roles, trip: l.trip, reverse: l.reverse, carried, results: body.results.len() };
        let outer: Vec<Option<NodeId>> = (0..pair.roles.len()).map(|i| args.get(i).copied()).collect();
        debug_assert!(pair.roles.iter().take(args.len()).enumerate().all(|(i, r)| match r {
            Role::Carried => i < carried,
            Role::Stacked => i < carried + stacked,
            Role::Invariant | Role::BackwardCarried | Role::BackwardStacked => true,
        }));
        let split = pair.split();
        let at = pair.emit_forward(&split, &outer, self.funcs, &mut self.forward);
        self.loops.insert(at, OpenLoop { pair, outer, wanted });
        Ok(at)
    }

    /// Walks `order` backwards, adding to the cotangents of operands.
    fn reverse<'t>(&mut self, tape: &'t Tape, order: &[NodeId], cotangents: &mut Cotangents<'t>) -> Result<(), String> {
        for id in order.iter().rev() {
            let Some(g) = cotangents.get(id).cloned() else { continue };
            let (op, args, loc) = {
                let func = tape.func.borrow();
                let node = func.node(*id);
                (node.op.clone(), node.args.clone(), node.loc)
            };
            let wants: Vec<bool> = args.iter().map(|a| self.wants(tape, *a)).collect();
            if !wants.contains(&true) {
                continue;
            }
            let parts = self.pull(tape, *id, &op, &args, &wants, &g).map_err(|why| located(loc, why))?;
            for ((arg, part), _) in args.iter().zip(parts).zip(&wants).filter(|(_, w)| **w) {
                match (part, &op) {
                    (Some(part), Op::Get(i)) => add_part(tape, cotangents, *arg, *i as usize, part),
                    (Some(part), _) => {
                        let part = part.sum_to(&tape.at(*arg).ty());
                        add_one(cotangents, *arg, part);
                    }
                    (None, _) => {}
                }
            }
        }
        Ok(())
    }

    fn wants(&self, tape: &Tape, id: NodeId) -> bool {
        let dtype = tape.at(id).ty().dtype;
        // nodes past the forward program belong to an inlined definition
        matches!(dtype, DType::F32 | DType::Tuple) && self.active.get(id.index()).copied().unwrap_or(true)
    }

    fn pull<'t>(
        &mut self,
        tape: &'t Tape,
        id: NodeId,
        op: &Op,
        args: &[NodeId],
        wants: &[bool],
        g: &Cotangent<'t>,
    ) -> Result<Vec<Option<V<'t>>>, String> {
        let values: Vec<V> = args.iter().map(|a| tape.at(*a)).collect();
        match (op, g) {
            (Op::Repeat(_), Cotangent::Parts(parts)) => self.pull_loop(tape, id, parts),
            (Op::Attention(a), Cotangent::Parts(parts)) => match (&parts[..], wants) {
                ([Some(g), None], [_, _, _, false, ..]) => Ok(attention(tape.at(id), a, *g, &values, wants)),
                _ => self.through_body(tape, op, args, g),
            },
            (op, Cotangent::One(g)) => match pullback(op, *g, tape.at(id), &values, wants) {
                Some(parts) => Ok(parts),
                None => self.through_body(tape, op, args, &Cotangent::One(*g)),
            },
            (op, Cotangent::Parts(_)) => self.through_body(tape, op, args, g),
        }
    }

    /// Writes a composite's definition at the end of the tape and differentiates that.
    fn through_body<'t>(&mut self, tape: &'t Tape, op: &Op, args: &[NodeId], g: &Cotangent<'t>) -> Result<Vec<Option<V<'t>>>, String> {
        let types: Vec<Type> = args.iter().map(|a| tape.at(*a).ty()).collect();
        let body = definition(op, &types.iter().collect::<Vec<_>>()).ok_or_else(|| format!("{op} has no derivative"))?;
        let mut new: Vec<NodeId> = vec![];
        let mut order = vec![];
        for node in &body.nodes {
            let at = if let Op::Input(i, _) = &node.op {
                // a stand-in of its own, so that cotangents of this use alone are collected
                tape.at(args[*i as usize]).op(Op::StopGradient, &[]).id
            } else {
                tape.add(node.op.clone(), &node.args.iter().map(|a| new[a.index()]).collect::<Vec<_>>()).id
            };
            if !matches!(node.op, Op::Input(..)) {
                order.push(at);
            }
            new.push(at);
        }
        let mut cotangents = Cotangents::new();
        for (i, r) in body.results.iter().enumerate() {
            let g = match g {
                Cotangent::One(g) => Some(*g),
                Cotangent::Parts(parts) => parts[i],
            };
            if let Some(g) = g {
                cotangents.insert(new[r.index()], Cotangent::One(g));
            }
        }
        self.reverse(tape, &order, &mut cotangents)?;
        let input = |i: usize| body.ids().find(|id| matches!(body.node(*id).op, Op::Input(j, _) if j as usize == i)).map(|id| new[id.index()]);
        let of = |i: usize| match input(i).and_then(|id| cotangents.get(&id)) {
            Some(Cotangent::One(g)) => Some(*g),
            _ => None,
        };
        Ok((0..args.len()).map(of).collect())
    }

    /// Emits the reverse loop; the cotangents of the operands of the forward one, which lacks those that its body does not read.
    fn pull_loop<'t>(&mut self, tape: &'t Tape, id: NodeId, parts: &[Option<V<'t>>]) -> Result<Vec<Option<V<'t>>>, String> {
        let open = self.loops.remove(&id).expect("an active loop was opened");
        let mut outer = open.outer.clone();
        let operands = outer.iter().flatten().count();
        let ty = tape.at(id).ty();
        let mut result = 0;
        for i in operands..open.pair.roles.len() {
            // cotangents of the body's f32 results come first, then accumulators for what every iteration reads
            while result < open.pair.results && ty.parts[result].dtype != DType::F32 {
                result += 1;
            }
            let zeros = || if result < open.pair.results { ty.parts[result].clone() } else { open.pair.func.inputs()[i].clone() };
            let value = parts.get(result).copied().flatten().filter(|_| result < open.pair.results).unwrap_or_else(|| tape.zeros(&zeros()));
            outer[i] = Some(value.id);
            result += 1;
        }
        let split = open.pair.split();
        let at = open.pair.emit_backward(&split, &outer, id, self.funcs, &mut tape.func.borrow_mut());
        let carried = open.pair.backward_carried() as u32;
        let mut out: Vec<Option<V>> = vec![None; operands];
        for (operand, wanted) in open.wanted {
            let member = match wanted {
                Wanted::Carried(i) => i as u32,
                Wanted::Stacked(i) => carried + i as u32,
            };
            out[operand] = Some(tape.at(at).op(Op::Get(member), &[]));
        }
        Ok(split.forward_inputs.iter().map(|i| out[*i]).collect())
    }
}

/// The cotangents of attention's operands for that of its output.
fn attention<'t>(y: V<'t>, a: &Attn, g: V<'t>, operands: &[V<'t>], wants: &[bool]) -> Vec<Option<V<'t>>> {
    let (o, lse) = (y.op(Op::Get(0), &[]), y.op(Op::Get(1), &[]));
    let [q, k, v, scale, captured @ ..] = operands else { unreachable!("attention has four operands, and what it captures") };
    let scores = ir::score_dims(a, &q.ty(), &k.ty(), &v.ty()).expect("the attention is well-typed");
    let types: Vec<Type> = captured.iter().map(|x| x.ty()).collect();
    let a = with_derivatives(a, &scores, &types, &wants[4..]);
    let rest: Vec<V> = [*k, *v, o, lse, g, *scale].into_iter().chain(captured.iter().copied()).collect();
    let of: Vec<u8> = a.f.dcaptured.iter().map(|d| d.0).collect();
    let bwd = q.op(Op::AttentionBwd(a.clone()), &rest);
    let member = |i: usize| Some(bwd.op(Op::Get(i as u32), &[]));
    let sink = a.f.sink.map(usize::from).filter(|i| wants[4 + i]).map(|i| (i, sink_gradient(&a, captured[i], (o, lse, g))));
    let of_captured = |i: usize| match sink {
        Some((at, g)) if at == i => Some(g),
        _ => of.iter().position(|c| usize::from(*c) == i).and_then(|at| member(3 + at)),
    };
    (0..3).map(member).chain([None]).chain((0..captured.len()).map(of_captured)).collect()
}

/// The cotangent of a sink: its probability, exp(z − L), times −Σ dO ∘ O.
fn sink_gradient<'t>(a: &Attn, z: V<'t>, (o, lse, g): (V<'t>, V<'t>, V<'t>)) -> V<'t> {
    let rows = |x: V<'t>| x.op(Op::Reshape(x.ty().dims.iter().copied().chain([ir::Dim::ONE]).collect()), &[]);
    let d = g.ein(Ein::new(&a.o, &a.o, &a.rows()), o);
    -((z - rows(lse)).un(Un::Exp) * rows(d))
}

/// The cotangents of inputs of a pointwise function whose result has one that is an input, too: the function with them at its end. None of
/// an input that the result does not depend on.
pub(crate) fn pointwise_gradients(func: &Func, wrt: &[NodeId], result: NodeId, cotangent: NodeId) -> (Func, Vec<Option<NodeId>>) {
    let mut funcs = vec![];
    let mut d = Differentiation::new(func, wrt, &mut funcs).expect("there is no loop");
    let tape = Tape::new(std::mem::take(&mut d.forward));
    let mut cotangents = Cotangents::new();
    cotangents.insert(d.new[result.index()], Cotangent::One(tape.at(d.new[cotangent.index()])));
    let order: Vec<NodeId> = tape.func.borrow().ids().collect();
    d.reverse(&tape, &order, &mut cotangents).expect("every pointwise op has a derivative");
    let of = |id: &NodeId| if let Some(Cotangent::One(g)) = cotangents.get(&d.new[id.index()]) { Some(g.id) } else { None };
    let found = wrt.iter().map(of).collect();
    (tape.func.into_inner(), found)
}

/// The body of a loop, forward and backward in one function; the role of each of its inputs; and where the cotangent of each wanted
/// operand is among its results.
fn joint_body(body: &Func, l: &Loop, wanted: &[usize], funcs: &mut Vec<Func>) -> Result<(Func, Vec<Role>, Vec<(usize, Wanted)>), String> {
    let (carried, stacked) = (l.carried as usize, l.stacked as usize);
    let inputs = body.inputs();
    let float = |ty: &Type| ty.dtype == DType::F32;
    let input_at = |i: usize| body.ids().find(|id| matches!(body.node(*id).op, Op::Input(j, _) if j as usize == i)).expect("inputs are numbered");
    let wrt: Vec<NodeId> = wanted.iter().filter(|i| float(&inputs[**i])).map(|i| input_at(*i)).collect();
    let mut d = Differentiation::new(body, &wrt, funcs)?;
    let tape = Tape::new(std::mem::take(&mut d.forward));
    let mut roles: Vec<Role> = (0..inputs.len())
        .map(|i| {
            if i < carried {
                Role::Carried
            } else if i < carried + stacked {
                Role::Stacked
            } else {
                Role::Invariant
            }
        })
        .collect();
    let forward_end = tape.func.borrow().nodes.len();
    let mut cotangents = Cotangents::new();
    for (i, r) in body.results.iter().enumerate().filter(|(_, r)| float(body.ty(**r))) {
        let ty = body.ty(*r).clone();
        let g = tape.add(Op::Input(roles.len() as u32, ty), &[]);
        roles.push(if i < carried { Role::BackwardCarried } else { Role::BackwardStacked });
        add_one(&mut cotangents, d.new[r.index()], g);
    }
    let order: Vec<NodeId> = (0..forward_end as u32).map(NodeId).collect();
    d.reverse(&tape, &order, &mut cotangents)?;
    let cotangent = |i: usize| match cotangents.get(&d.new[input_at(i).index()]) {
        Some(Cotangent::One(g)) => *g,
        _ => tape.zeros(&inputs[i]),
    };
    let (mut back_carried, mut back_stacked, mut places) = (vec![], vec![], vec![]);
    for i in wanted.iter().copied().filter(|i| float(&inputs[*i])) {
        let g = cotangent(i);
        match roles[i] {
            Role::Carried => {
                places.push((i, Wanted::Carried(back_carried.len())));
                back_carried.push(g.id);
            }
            Role::Stacked => {
                places.push((i, Wanted::Stacked(back_stacked.len())));
                back_stacked.push(g.id);
            }
            Role::Invariant | Role::BackwardCarried | Role::BackwardStacked => {
                let sum = tape.add(Op::Input(roles.len() as u32, inputs[i].clone()), &[]);
                roles.push(Role::BackwardCarried);
                places.push((i, Wanted::Carried(back_carried.len())));
                back_carried.push((sum + g).id);
            }
        }
    }
    let results: Vec<NodeId> = body.results.iter().map(|r| d.new[r.index()]).chain(back_carried).chain(back_stacked).collect();
    let mut func = tape.func.into_inner();
    func.results = results;
    Ok((func.sweep(), roles, places))
}

fn located(loc: Option<Loc>, why: String) -> String {
    loc.map_or(why.clone(), |loc| format!("{loc}: {why}"))
}

fn add_one<'t>(cotangents: &mut Cotangents<'t>, id: NodeId, g: V<'t>) {
    let sum = match cotangents.remove(&id) {
        None => g,
        Some(Cotangent::One(have)) => have + g,
        Some(Cotangent::Parts(_)) => unreachable!("a tensor has one cotangent"),
    };
    cotangents.insert(id, Cotangent::One(sum));
}

fn add_part<'t>(tape: &'t Tape, cotangents: &mut Cotangents<'t>, id: NodeId, i: usize, g: V<'t>) {
    let members = tape.at(id).ty().parts.len();
    let entry = cotangents.entry(id).or_insert_with(|| Cotangent::Parts(vec![None; members]));
    let Cotangent::Parts(parts) = entry else { unreachable!("a tuple has a cotangent a member") };
    parts[i] = Some(parts[i].map_or(g, |have| have + g));
}

/// The pullback of `y = op(args)`: the cotangent `g` of `y` to the cotangents of `args`, before what was broadcast is summed.
/// `None` for composites that are differentiated through their definitions.
#[rustfmt::skip]
fn pullback<'t>(op: &Op, g: V<'t>, y: V<'t>, args: &[V<'t>], wants: &[bool]) -> Option<Vec<Option<V<'t>>>> {
    let zero = || g.num(0.0);
    let some = |parts: Vec<V<'t>>| Some(parts.into_iter().map(Some).collect());
    match (op, args) {
        (Op::Bin(Bin::Add), &[_, _])     => some(vec![g, g]),
        (Op::Bin(Bin::Sub), &[_, _])     => some(vec![g, -g]),
        (Op::Bin(Bin::Mul), &[a, b])     => Some(vec![wants[0].then(|| g * b), wants[1].then(|| g * a)]),
        (Op::Bin(Bin::Div), &[_, b])     => Some(vec![wants[0].then(|| g / b), wants[1].then(|| -(g * (y / b)))]),
        (Op::Bin(Bin::Maximum), &[a, b]) => some(shares(g, [a, b], [a.bin(Bin::Lt, b), b.bin(Bin::Lt, a)])),
        (Op::Bin(Bin::Minimum), &[a, b]) => some(shares(g, [a, b], [b.bin(Bin::Lt, a), a.bin(Bin::Lt, b)])),
        (Op::Bin(Bin::Pow), &[x, a])     => Some(vec![wants[0].then(|| power_base(g, x, a)), wants[1].then(|| power_exponent(g, x, a, y))]),
        (Op::Bin(Bin::Lt | Bin::Le | Bin::Eq | Bin::And | Bin::Shr), _) => Some(vec![None, None]),
        (Op::Un(Un::Exp), &[_])          => some(vec![g * y]),
        (Op::Un(Un::Log), &[x])          => some(vec![g / x]),
        (Op::Un(Un::Neg), &[_])          => some(vec![-g]),
        (Op::Un(Un::Sqrt), &[_])         => some(vec![g / (y * 2.0)]),
        (Op::Un(Un::Rsqrt), &[_])        => some(vec![g * (y * y * y) * -0.5]),
        (Op::Un(Un::Recip), &[_])        => some(vec![-(g * (y * y))]),
        (Op::Un(Un::Tanh), &[_])         => some(vec![g * (-(y * y) + 1.0)]),
        (Op::Un(Un::Sin), &[x])          => some(vec![g * x.un(Un::Cos)]),
        (Op::Un(Un::Cos), &[x])          => some(vec![-(g * x.un(Un::Sin))]),
        (Op::Un(Un::Abs), &[x])          => some(vec![g * sign(x)]),
        (Op::Un(Un::Erf), &[x])          => some(vec![g * (-(x * x)).un(Un::Exp) * std::f64::consts::FRAC_2_SQRT_PI]),
        (Op::Select, &[p, _, _])         => Some(vec![None, wants[1].then(|| p.select(g, zero())), wants[2].then(|| p.select(zero(), g))]),
        (Op::Cast(_), &[x])              => Some(vec![(x.ty().dtype == DType::F32 && y.ty().dtype == DType::F32).then_some(g)]),
        (Op::Reduce(Red::Sum, _), &[x])  => some(vec![g.broadcast(&x.ty())]),
        // equal maxima share the cotangent
        (Op::Reduce(Red::Max, axes), &[x]) => { let hit = x.bin(Bin::Eq, y).as_f32(); some(vec![hit * (g / hit.sum(axes))]) }
        (Op::Contract(e), &[a, b])       => Some(vec![wants[0].then(|| g.ein(Ein::new(&e.outs(), &e.b, &e.a), b)), wants[1].then(|| g.ein(Ein::new(&e.outs(), &e.a, &e.b), a))]),
        (Op::Grouped(lie), &[a, w, group]) => { let groups = w.ty().dim(-3); let [x, y] = if *lie == Lie::Plain { [a, g] } else { [g, a] }; Some(vec![wants[0].then(|| g.op(Op::Grouped(lie.turned()), &[w, group])), wants[1].then(|| x.op(Op::GroupedSum(groups), &[y, group])), None]) }
        (Op::GroupedSum(_), &[a, b, group]) => Some(vec![wants[0].then(|| b.op(Op::Grouped(Lie::Turned), &[g, group])), wants[1].then(|| a.op(Op::Grouped(Lie::Plain), &[g, group])), None]),
        (Op::Reshape(_), &[x])           => some(vec![g.reshape(&x.ty())]),
        (Op::Transpose(p), &[_])         => { let mut back = p.clone(); for (i, j) in p.iter().enumerate() { back[usize::from(*j)] = i as u8; } some(vec![g.op(Op::Transpose(back), &[])]) }
        (Op::Broadcast(_), &[_])         => some(vec![g]),
        (Op::Slice(axis, lo, hi), &[x])  => { let n = x.ty().dim(*axis).size() as u32; some(vec![g.op(Op::Pad(*axis, *lo, n - hi), &[])]) }
        (Op::Pad(axis, before, _), &[x]) => { let n = x.ty().dim(*axis).size() as u32; some(vec![g.op(Op::Slice(*axis, *before, before + n), &[])]) }
        (Op::Concat(axis), parts)        => { let mut at = 0; some(parts.iter().map(|p| { let n = p.ty().dim(*axis).size() as u32; at += n; g.op(Op::Slice(*axis, at - n, at), &[]) }).collect()) }
        (Op::Gather, &[table, index])    => { let base = g.num(0.0).broadcast(&table.ty()); Some(vec![Some(base.op(Op::ScatterAdd, &[index, g])), None]) }
        (Op::ScatterAdd, &[_, index, _]) => Some(vec![Some(g), None, wants[2].then(|| g.op(Op::Gather, &[index]))]),
        (Op::Update(axis), &[_, values, start]) => { let gone = || g.num(0.0).broadcast(&values.ty()); Some(vec![wants[0].then(|| g.op(Op::Update(*axis), &[gone(), start])), wants[1].then(|| written(g, *axis, values, start)), None]) }
        (Op::StopGradient | Op::RandomBits(_), _) => Some(vec![None]),
        (Op::Get(_), _)                  => some(vec![g]),
        (Op::Row(Row::Softmax), &[_])    => some(vec![y.row(Row::SoftmaxBwd, &[g])]),
        (Op::Row(Row::LogSumExp), &[x])  => some(vec![exp_share(x) * g]),
        (Op::Row(Row::LayerNorm), &[x, eps]) if !wants[1] => Some(vec![Some(x.row(Row::LayerNormBwd, &[eps, g])), None]),
        (Op::Row(Row::RmsNorm), &[x, eps])   if !wants[1] => Some(vec![Some(x.row(Row::RmsNormBwd, &[eps, g])), None]),
        (Op::Row(Row::Sigmoid), &[_])    => some(vec![g * (y * (-y + 1.0))]),
        (Op::Row(Row::Gelu), &[x])       => some(vec![g * x.row(Row::GeluGrad, &[])]),
        (Op::Row(Row::Silu), &[x])       => some(vec![g * silu_slope(x, y)]),
        (Op::Row(Row::Swiglu), &[a, b])  => { let s = a.row(Row::Silu, &[]); some(vec![g * b * silu_slope(a, s), g * s]) }
        (Op::Row(Row::Rope), &[_, cos, sin]) if !wants[1] && !wants[2] => Some(vec![Some(g.row(Row::Rope, &[cos, -sin])), None, None]),
        (Op::Row(Row::CrossEntropy), &[x, labels]) => Some(vec![Some(x.row(Row::CrossEntropyBwd, &[labels, g])), None]),
        (Op::Row(Row::SoftmaxBwd | Row::LayerNorm | Row::LayerNormBwd | Row::RmsNorm | Row::RmsNormBwd | Row::GeluGrad | Row::Rope | Row::CrossEntropyBwd), _)
        | (Op::Attention(_) | Op::AttentionBwd(_), _) => None,
        _ => unreachable!("{op} with {} operands has no cotangent", args.len()),
    }
}

/// The elements of `x` where an update along an axis writes `values`, and 0 for those it leaves away: gathered by number, for a slice at
/// a run-time position may begin elsewhere in each row.
fn written<'t>(x: V<'t>, axis: i8, values: V<'t>, start: V<'t>) -> V<'t> {
    let (ty, none) = (x.ty(), x.whole(-1));
    let row = start.bin(Bin::Add, x.iota(axis, values.ty().dim(axis)));
    let axes = || (1..=ty.rank() as i8).map(|a| -a);
    let step = |a: i8| x.whole(axes().take_while(|b| *b > a).map(|b| ty.dim(b).size() as i32).product());
    let place = |a: i8| if a == axis { row } else { x.iota(a, ty.dim(a)) };
    let at = axes().map(|a| place(a).bin(Bin::Mul, step(a))).reduce(|sum, x| sum.bin(Bin::Add, x)).expect("an update has an axis");
    let inside = row.bin(Bin::Lt, x.whole(ty.dim(axis).size() as i32)).select(at, none);
    let at = row.bin(Bin::Lt, x.whole(0)).select(none, inside);
    x.reshape(&Type::f32([ty.count()])).op(Op::Gather, &[at.broadcast(&values.ty())])
}

/// The cotangents of two operands of which one is taken: it gets all, the one that loses nothing; equal ones get half each, as in PyTorch.
/// Beside NaN nobody loses.
fn shares<'t>(g: V<'t>, [a, b]: [V<'t>; 2], loses: [V<'t>; 2]) -> Vec<V<'t>> {
    let (tie, zero) = (a.bin(Bin::Eq, b), g.num(0.0));
    loses.map(|loses| tie.select(g * 0.5, loses.select(zero, g))).to_vec()
}

/// g a xᵃ⁻¹, and 0 where a is 0, whatever x: ∞ · 0 would be NaN.
fn power_base<'t>(g: V<'t>, x: V<'t>, a: V<'t>) -> V<'t> {
    let zero = g.num(0.0);
    match a.number() {
        Some(0.0) => zero,
        Some(n) => g * (x.bin(Bin::Pow, g.num(n - 1.0)) * n),
        None => a.bin(Bin::Eq, zero).select(zero, g * (x.bin(Bin::Pow, a - 1.0) * a)),
    }
}

/// g xᵃ ln x, and 0 where x is 0 and a is not negative: 0ᵃ stays 0 or 1 to the right of a.
fn power_exponent<'t>(g: V<'t>, x: V<'t>, a: V<'t>, y: V<'t>) -> V<'t> {
    let (zero, slope) = (g.num(0.0), y * x.un(Un::Log));
    g * x.bin(Bin::Eq, zero).select(zero.bin(Bin::Le, a).select(zero, slope), slope)
}

/// 1, −1, and 0 for zeros and NaN.
fn sign(x: V) -> V {
    let zero = x.num(0.0);
    zero.bin(Bin::Lt, x).select(x.num(1.0), x.bin(Bin::Lt, zero).select(x.num(-1.0), zero))
}

/// What each element of a row has in Σ exp x, exact whatever is common to the row: exp(x − log Σ exp x) is not. Beside ∞ it is 0.
fn exp_share(x: V) -> V {
    let m = x.op(Op::Reduce(Red::Max, ir::Axes::from_slice(&[-1])), &[]);
    let finite = m.un(Un::Abs).bin(Bin::Lt, x.num(f64::INFINITY)).select(m, x.num(0.0));
    let e = (x - finite).un(Un::Exp);
    e / e.sum(&[-1])
}

/// silu′(x) = σ(x) + silu(x) (1 − σ(x))
fn silu_slope<'t>(x: V<'t>, silu: V<'t>) -> V<'t> {
    let s = x.row(Row::Sigmoid, &[]);
    s + silu * (-s + 1.0)
}
