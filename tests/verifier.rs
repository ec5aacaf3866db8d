//! Every rule of the verifier, violated alone by a program that is right but for one edit; and the text refuses what it refuses.

use ir::{DType, Dim, Func, Graph, Node, NodeId, Op, Type, verify};

/// A program with everything: two functions, a loop, a stacked parameter, state, a plain parameter.
const RIGHT: &str = "\
f0 layer(%0: f32[2], %1: f32[2]) {
  %2 = mul %0, %1 : f32[2]
  return %2
}

main(%0 x: f32[2], %1 n: i32[2]) {
  @h.{}.w : f32[3,2]
  @v : f32[2]
  %2 = repeat[f0,3,1,1] %0, @h.{}.w : (f32[2])
  %3 = get[0] %2 : f32[2]
  %4 = add %3, 1.0 : f32[2]
  %5 = mul %4, @v : f32[2]
  return y=%4, @v=%5
}
";

fn right() -> Graph {
    let graph: Graph = RIGHT.parse().unwrap();
    verify(&graph).unwrap();
    graph
}

fn main_of(g: &mut Graph) -> &mut Func {
    g.funcs.last_mut().unwrap()
}

/// The node of main that `which` picks.
fn node<'a>(g: &'a mut Graph, which: &dyn Fn(&Op) -> bool) -> &'a mut Node {
    main_of(g).nodes.iter_mut().find(|n| which(&n.op)).unwrap()
}

fn param<'a>(g: &'a mut Graph, path: &'a str) -> &'a mut Node {
    node(g, &|op| matches!(op, Op::Param(name, _) if name.as_ref() == path))
}

fn rename(g: &mut Graph, path: &str, to: &str) {
    let p = param(g, path);
    p.op = Op::Param(to.into(), p.ty.clone());
}

/// One edit that breaks one rule, and what the verifier says: all that it says.
type Case = (&'static str, fn(&mut Graph));

const CASES: &[Case] = &[
    ("there is no main function", |g| g.funcs.clear()),
    ("main: %7 = add: operand %8 does not come before it", |g| node(g, &|o| o.name() == "add").args[0] = NodeId(8)),
    ("main: %7 = add: operand %7 does not come before it", |g| node(g, &|o| o.name() == "add").args[0] = NodeId(7)),
    ("main: %7 = add: operand %4000000000 does not come before it", |g| node(g, &|o| o.name() == "add").args[0] = NodeId(4_000_000_000)),
    ("main: %6 = get[0]: has type f32[3], should have f32[2]", |g| {
        // alone: nobody reads it then
        node(g, &|o| *o == Op::Get(0)).ty = Type::f32([3u32]);
        node(g, &|o| o.name() == "add").args[0] = NodeId(0);
    }),
    ("main: %7 = add: add takes 2 operands (a, b), not 1", |g| node(g, &|o| o.name() == "add").args.truncate(1)),
    ("main: %9 = -1: -1(): this is no number of type i32", |g| {
        let ty = Type::scalar(DType::I32);
        main_of(g).nodes.push(Node { op: Op::Const((-1.5f64).to_bits(), DType::I32), args: vec![], ty, loc: None });
    }),
    ("main: %5 = repeat[f1,3,1,1]: there is no function f1 before this one", |g| set_loop(g, |l| l.func = 1)),
    ("main: %5 = repeat[f4000000000,3,1,1]: there is no function f4000000000 before this one", |g| set_loop(g, |l| l.func = 4_000_000_000)),
    ("main: %5 = repeat[f0,0,1,1]: repeat of f0: 2 operands for 2 inputs over 0 iterations", |g| set_loop(g, |l| l.trip = 0)),
    ("main: %5 = repeat[f0,4,1,1]: repeat of f0: operand 1 is f32[3,2], expected f32[4,2]", |g| set_loop(g, |l| l.trip = 4)),
    ("main: %5 = repeat[f0,3,2,1]: repeat of f0: 2 operands for 2 inputs over 3 iterations", |g| set_loop(g, |l| l.carried = 2)),
    ("main: %5 = repeat[f0,3,1,4294967295]: repeat of f0: 2 operands for 2 inputs over 3 iterations", |g| set_loop(g, |l| l.stacked = u32::MAX)),
    ("main: inputs are not numbered 0..2", |g| node(g, &|o| matches!(o, Op::Input(1, _))).op = Op::Input(2, Type::of(DType::I32, [2u32]))),
    ("layer: inputs are not numbered 0..2", |g| g.funcs[0].nodes.swap(0, 1)),
    ("layer: it returns nothing", |g| {
        // alone: nobody calls it then
        g.funcs[0].results.clear();
        call_nobody(g);
    }),
    ("main: result %99 does not exist", |g| main_of(g).results[0] = NodeId(99)),
    ("main: result %5 is (f32[2]), which is no tensor", |g| main_of(g).results[0] = NodeId(5)),
    ("function a name is empty", |g| g.funcs[0].name.clear()),
    ("function \"a b\" is no name, for ' ' is in it: use letters, digits, '_', '-', '.', '/' and '{}'", |g| g.funcs[0].name = "a b".into()),
    ("last: the last function must be main", |g| main_of(g).name = "last".into()),
    ("layer: a parameter in a function that is not main: pass it in", |g| {
        let ty = Type::f32([2u32]);
        g.funcs[0].nodes.push(Node { op: Op::Param("u".into(), ty.clone()), args: vec![], ty, loc: None });
    }),
    ("main returns 2 values under 1 names", |g| g.outputs.truncate(1)),
    ("main has 2 inputs and 1 names for them", |g| g.inputs.truncate(1)),
    ("parameter v is f32[2] and f32[5]", |g| {
        let ty = Type::f32([5u32]);
        let at = main_of(g).nodes.iter().position(|n| matches!(&n.op, Op::Param(name, _) if name.as_ref() == "v")).unwrap();
        let p = Node { op: Op::Param("v".into(), ty.clone()), args: vec![], ty, loc: None };
        // before the one of the state's type, so that the state's type is right
        insert(main_of(g), at, p);
    }),
    ("parameter v stands twice", |g| {
        let p = param(g, "v").clone();
        insert(main_of(g), 3, p);
    }),
    ("parameter \"v w\" is no name, for ' ' is in it: use letters, digits, '_', '-', '.', '/' and '{}'", |g| {
        g.outputs[1] = "u".into();
        rename(g, "v", "v w");
    }),
    ("parameter v.{}.{} is f32[2], which has no axis for each {}", |g| {
        g.outputs[1] = "u".into();
        rename(g, "v", "v.{}.{}");
    }),
    ("parameter h.{}.v is for 2 iterations, and h.{}.w for 3: one of the loops needs another name", |g| {
        g.outputs[1] = "u".into();
        rename(g, "v", "h.{}.v");
    }),
    ("parameter h.2.w is in files what iteration of h.{}.w is: one of them needs another name", |g| {
        g.outputs[1] = "u".into();
        rename(g, "v", "h.2.w");
    }),
    ("input a name is empty", |g| g.inputs[1].clear()),
    ("two inputs are named x", |g| g.inputs[1] = "x".into()),
    ("v names an input and a parameter", |g| g.inputs[1] = "v".into()),
    ("result a name is empty", |g| g.outputs[0].clear()),
    ("two results are named y", |g| g.outputs[1] = "y".into()),
    ("result @u is the new value of a parameter that main does not have", |g| g.outputs[1] = "@u".into()),
    ("result @v is i32[2], and the parameter is f32[2]", |g| main_of(g).results[1] = NodeId(1)),
    ("result @v is f32[3,2], and the parameter is f32[2]", |g| main_of(g).results[1] = NodeId(2)),
    ("loops unroll to 6000009 ops, and at most 4194304 are possible: fewer iterations are needed", |g| {
        param(g, "h.{}.w").ty = Type::f32([2_000_000u32, 2]);
        param(g, "h.{}.w").op = Op::Param("h.{}.w".into(), Type::f32([2_000_000u32, 2]));
        set_loop(g, |l| l.trip = 2_000_000);
    }),
    ("the program's values have 1794402976532204 bytes, and at most 1125899906842624 are possible", |g| {
        for _ in 0..408 {
            let dims = Type::f32([1u64 << 40].map(Dim::num));
            let at = main_of(g).nodes.len() as u32;
            main_of(g).nodes.push(Node { op: Op::Const(0, DType::F32), args: vec![], ty: Type::scalar(DType::F32), loc: None });
            main_of(g).nodes.push(Node { op: Op::Broadcast(dims.dims.clone()), args: vec![NodeId(at)], ty: dims, loc: None });
        }
    }),
];

fn set_loop(g: &mut Graph, edit: fn(&mut ir::Loop)) {
    let Op::Repeat(l) = &mut node(g, &|o| matches!(o, Op::Repeat(_))).op else { unreachable!("it is a loop") };
    edit(l);
}

/// Replaces the loop by values of its type.
fn call_nobody(g: &mut Graph) {
    let n = node(g, &|o| matches!(o, Op::Repeat(_)));
    (n.op, n.args) = (Op::Tuple, vec![NodeId(0)]);
}

/// Puts a node before others, whose operands move with them.
fn insert(f: &mut Func, at: usize, node: Node) {
    let moved = |id: &mut NodeId| id.0 += u32::from(id.index() >= at);
    f.nodes.iter_mut().flat_map(|n| &mut n.args).for_each(moved);
    f.results.iter_mut().for_each(moved);
    f.nodes.insert(at, node);
}

#[test]
fn each_rule_alone() {
    let mut wrong = vec![];
    for (want, edit) in CASES {
        let mut g = right();
        edit(&mut g);
        let have = verify(&g).expect_err(want);
        wrong.extend((have != [*want]).then(|| format!("{have:?}\n    {want}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the verifier refuses and can be written is refused as text, too; and printing never panics.
#[test]
fn what_is_refused_does_not_read() {
    for (want, edit) in CASES.iter().filter(|c| !c.0.contains("operand %") && !c.0.contains("does not exist") && !c.0.contains("no main")) {
        let mut g = right();
        edit(&mut g);
        // values nobody reads are not read either
        if g.inputs.len() < 2
            || g.outputs.len() < 2
            || want.contains("last function")
            || want.contains("numbered")
            || want.contains("twice")
            || want.contains("values have")
        {
            continue;
        }
        let text = g.to_string();
        let error = text.parse::<Graph>().err().filter(|e| e.line > 0 && e.column > 0);
        // a constant is written in the one form it has
        assert!(error.is_some() || want.contains("no number"), "{want}\n{text}");
    }
}

/// Every message of the verifier is one of the cases above.
#[test]
fn no_rule_is_without_its_case() {
    let source = include_str!("../ir/verify.rs");
    let mut rules = 0;
    for line in source.lines().filter(|l| !l.trim().starts_with("//")) {
        for literal in line.split('"').skip(1).step_by(2).filter(|l| l.contains(' ')) {
            let fixed: Vec<&str> = literal.split('{').map(|p| p.split_once('}').map_or(p, |r| r.1)).filter(|p| p.trim().len() > 2).collect();
            let holds = |m: &str| fixed.iter().all(|f| m.contains(f));
            assert!(CASES.iter().any(|c| holds(c.0)), "no case says {literal:?}");
            rules += 1;
        }
    }
    assert!(rules > 20, "the rules are found: {rules}");
}
