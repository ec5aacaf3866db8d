//! Values written at a position that is known only as a program runs: what is written, in place where that is proven safe, and what it
//! costs to keep keys and values.

use crate::common::{Random, environment, gpt, llama};
use crate::running::{run_steps, state_mismatch};
use codegen::{BufferKind, Call, Program, Region, Step, Target};
use ir::{DType, Env, Graph, Type, Value, eval};
use runtime::Pool;
use std::sync::Arc;

fn host() -> Target {
    Target::Cpu(codegen::llvm::host().target)
}

/// Three steps are as evaluated, and the same bits on one, two and three threads.
fn check(text: &str) -> Program {
    let graph: Graph = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    let env = environment(&graph, 7, 6);
    assert_eq!(state_mismatch(&graph, &env, Arc::new(Pool::new(2)), &host()), None, "{text}");
    let have = run_steps(&graph, &env, 3, Arc::new(Pool::new(2)), &host());
    for threads in [1, 3] {
        assert_eq!(run_steps(&graph, &env, 3, Arc::new(Pool::new(threads)), &host()), have, "{threads} threads\n{text}");
    }
    Program::new(&graph, &host())
}

/// Bytes that a call writes, those by index as many as there are values.
fn written(program: &Program, call: &Call) -> usize {
    let spec = &program.specs[call.kernel];
    let values: usize = spec.dims.iter().product();
    let all = |arg: usize| spec.touches().iter().filter(|t| t.written && t.arg == arg).map(|t| t.elements().count()).sum::<usize>();
    let by_index = |arg: usize| spec.stores.iter().any(|s| s.access.arg == arg && s.at.is_some());
    let bytes = |arg: usize| spec.params[arg].elem.bytes() * if by_index(arg) { values } else { all(arg) };
    (0..spec.params.len()).filter(|arg| spec.params[*arg].written).map(bytes).sum()
}

/// The most bytes a call writes that touches the state.
fn most_written(program: &Program) -> usize {
    let of_state = |c: &Call| c.args.iter().any(|a| matches!(a.region, Region::Param(_)));
    program.calls().iter().filter(|c| of_state(c)).map(|c| written(program, c)).max().unwrap_or(0)
}

/// Plainly: row `start + i` of each of the state's columns.
fn plain(state: &[f64], rows: usize, width: usize, values: &[f64], start: impl Fn(usize) -> i64) -> Vec<f64> {
    let mut out = state.to_vec();
    for (i, v) in values.iter().enumerate() {
        let (row, column) = ((i / width) as i64, i % width);
        let at = start(column) + row;
        if (0..rows as i64).contains(&at) {
            out[at as usize * width + column] = *v;
        }
    }
    out
}

#[test]
fn what_is_inside_is_written() {
    let (rows, width) = (7, 3);
    let mut r = Random(5);
    for (count, starts) in [(1, vec![3]), (2, vec![0]), (3, vec![-2]), (4, vec![5]), (9, vec![-1]), (2, vec![7]), (2, vec![-3]), (0, vec![1])] {
        let starts = [starts.clone(), vec![starts[0], starts[0] + 1, starts[0] - 1]];
        for starts in starts {
            let dims: &[usize] = if starts.len() == 1 { &[] } else { &[1, 3] };
            let text = format!(
                "main(%0 s: f32[{rows},{width}], %1 v: f32[{count},{width}], %2 p: {}) {{\n  %3 = update[-2] %0, %1, %2 : f32[{rows},{width}]\n  return y=%3\n}}\n",
                Type::of(DType::I32, dims.to_vec())
            );
            let graph: Graph = text.parse().unwrap();
            let value = |r: &mut Random, n: usize| r.value(&Type::f32([n, width]), 1);
            let start = Value::new(dims.to_vec(), starts.iter().map(|s| *s as f64).collect());
            let env: Env = [("s".into(), value(&mut r, rows)), ("v".into(), value(&mut r, count)), ("p".into(), start)].into();
            let want = plain(&env["s"].data, rows, width, &env["v"].data, |column| starts[if starts.len() == 1 { 0 } else { column }]);
            assert_eq!(eval(&graph, &env).unwrap()["y"].data, want, "{text} from {starts:?}");
            assert_eq!(run_steps(&graph, &env, 1, Arc::new(Pool::new(2)), &host())[0]["y"].data, want, "{text} from {starts:?}");
        }
    }
}

/// A start beyond what an i32 counts with the values' places is outside, not around.
#[test]
fn starts_do_not_wrap() {
    let text = "main(%0 v: f32[4], %1 p: i32[]) {\n  @s : f32[5]\n  %2 = update[-1] @s, %0, %1 : f32[5]\n  return @s=%2\n}\n";
    let graph: Graph = text.parse().unwrap();
    for start in [i32::MAX, i32::MAX - 1, i32::MIN, i32::MIN + 3] {
        let mut env = environment(&graph, 3, 5);
        env.insert("p".into(), Value::scalar(start.into()));
        let have = run_steps(&graph, &env, 1, Arc::new(Pool::new(1)), &host());
        assert_eq!(have[0]["@s"], env["s"], "{start}");
        assert_eq!(eval(&graph, &env).unwrap()["@s"], env["s"], "{start}");
    }
}

/// Every axis, every type, starts of every shape; widths of less than a vector, of several, and with a rest.
#[test]
fn every_shape_is_written() {
    for (state, axis, count) in [
        ("5", 1, 2),
        ("5,4", 1, 3),
        ("5,4", 2, 2),
        ("2,5,33", 2, 3),
        ("2,5,4", 3, 1),
        ("3,2,5,40", 2, 2),
        ("3,1,5,1", 2, 4),
        ("0,4", 1, 1),
        ("4,0", 2, 1),
        ("0", 1, 1),
    ] {
        let dims: Vec<usize> = state.split(',').map(|d| d.parse().unwrap()).collect();
        let with = |n: usize| -> Vec<usize> { dims.iter().enumerate().map(|(i, d)| if i + axis == dims.len() { n } else { *d }).collect() };
        let leading: Vec<usize> = with(1).iter().enumerate().map(|(i, d)| if i == 0 { *d } else { 1 }).collect();
        for dtype in [DType::F32, DType::I32, DType::U32, DType::Bool] {
            let (ty, values) = (Type::of(dtype, dims.clone()), Type::of(dtype, with(count)));
            for start in [vec![], vec![1], leading.clone(), with(1)] {
                let start = Type::of(DType::I32, start);
                check(&format!(
                    "main(%0 v: {values}, %1 p: {start}) {{\n  @s : {ty}\n  %2 = update[-{axis}] @s, %0, %1 : {ty}\n  return @s=%2\n}}\n"
                ));
            }
        }
    }
    for ty in ["bf16", "f16"] {
        check(&format!(
            "main(%0 v: f32[2,70], %1 p: i32[]) {{\n  @s : {ty}[5,70]\n  %2 = cast[{ty}] %0 : {ty}[2,70]\n  %3 = update[-2] @s, %2, %1 : {ty}[5,70]\n  return @s=%3\n}}\n"
        ));
    }
}

/// Operands that are numbers, views, parts of the state, and what has another user.
#[test]
fn operands_of_every_kind() {
    for text in [
        "main() {\n  @s : f32[5,4]\n  %0 = broadcast[2,4] 1.5 : f32[2,4]\n  %1 = update[-2] @s, %0, 3 : f32[5,4]\n  return @s=%1\n}\n",
        "main(%0 v: f32[4,2], %1 p: i32[3]) {\n  @s : f32[5,4]\n  %2 = transpose[1,0] %0 : f32[2,4]\n  %3 = slice[-1,1,2] %1 : i32[1]\n  %4 = update[-2] @s, %2, %3 : f32[5,4]\n  return @s=%4\n}\n",
        "main(%0 p: i32[]) {\n  @s : f32[5,4]\n  %1 = slice[-2,1,3] @s : f32[2,4]\n  %2 = update[-2] @s, %1, %0 : f32[5,4]\n  return @s=%2\n}\n",
        "main(%0 p: i32[]) {\n  @s : f32[5,4]\n  %1 = transpose[1,0] @s : f32[4,5]\n  %2 = slice[-2,0,2] %1 : f32[2,5]\n  %3 = update[-2] %1, %2, %0 : f32[4,5]\n  %4 = transpose[1,0] %3 : f32[5,4]\n  return @s=%4\n}\n",
        "main(%0 p: i32[], %1 v: f32[2,4]) {\n  @s : f32[5,4]\n  %2 = update[-2] @s, %1, %0 : f32[5,4]\n  %3 = update[-2] %2, %1, 0 : f32[5,4]\n  %4 = add %2, %3 : f32[5,4]\n  return @s=%3, y=%4\n}\n",
        "main(%0 p: i32[], %1 v: f32[1,4], %2 i: i32[2]) {\n  @s : f32[5,4]\n  %3 = update[-2] @s, %1, %0 : f32[5,4]\n  %4 = gather %3, %2 : f32[2,4]\n  %5 = tanh %3 : f32[5,4]\n  return @s=%3, y=%4, z=%5\n}\n",
        // an empty range of values, and a start that is computed
        "main(%0 p: i32[], %1 v: f32[0,4]) {\n  @s : f32[5,4]\n  %2 = add %0, 1 : i32[]\n  %3 = update[-2] @s, %1, %2 : f32[5,4]\n  return @s=%3\n}\n",
    ] {
        check(text);
    }
}

/// Only the values are written where nothing reads the old state after; else it is copied aside.
#[test]
fn state_is_updated_in_place() {
    let (state, value) = (4 * 50 * 40, 4 * 40);
    let update = "main(%0 v: f32[1,40], %1 p: i32[]) {\n  @s : f32[50,40]\n";
    for (body, in_place) in [
        ("  %2 = update[-2] @s, %0, %1 : f32[50,40]\n  return @s=%2\n", true),
        // what is read of it before, and of its new value after
        (
            "  %2 = sum[-1,-2] @s : f32[1,1]\n  %3 = add %0, %2 : f32[1,40]\n  %4 = update[-2] @s, %3, %1 : f32[50,40]\n  %5 = sum[-2] %4 : f32[1,40]\n  return @s=%4, y=%5\n",
            true,
        ),
        // the old value is a result, too
        (
            "  %2 = update[-2] @s, %0, %1 : f32[50,40]\n  %3 = sum[-2] %2 : f32[1,40]\n  %4 = sum[-2] @s : f32[1,40]\n  %5 = sub %3, %4 : f32[1,40]\n  return @s=%2, y=%5\n",
            false,
        ),
    ] {
        let program = check(&format!("{update}{body}}}\n"));
        let most = most_written(&program);
        assert!(if in_place { most <= value } else { most >= state }, "{most} bytes\n{body}");
    }
}

/// A body that updates its iteration's piece of a stack, and attends to it.
fn looped(body: &str, main: &str) -> String {
    format!("f0 layer(%0: f32[1,8], %1: f32[40,8], %2: i32[]) {{\n{body}}}\n\nmain(%0 x: f32[1,8], %1 p: i32[]) {{\n  @s : f32[3,40,8]\n{main}}}\n")
}

const ATTENDS: &str = "  %3 = update[-2] %1, %0, %2 : f32[40,8]\n  %4 = contract[ac,bc->ab] %0, %3 : f32[1,40]\n  %5 = softmax %4 : f32[1,40]\n  %6 = contract[ab,bc->ac] %5, %3 : f32[1,8]\n";

/// The stack of a loop's iterations is updated where it stands: a row of each is written, and the rest stays.
#[test]
fn a_stack_is_updated_in_place() {
    let run = "  %2 = repeat[f0,3,1,1] %0, @s, %1 : (f32[1,8],f32[3,40,8])\n  %3 = get[0] %2 : f32[1,8]\n  %4 = get[1] %2 : f32[3,40,8]\n";
    let (plain, piece) = ("  return %6, %3\n", 4 * 40 * 8);
    for (body, main, in_place) in [
        (plain, format!("{run}  return y=%3, @s=%4\n"), true),
        (plain, format!("{}  return y=%3, @s=%4\n", run.replace("1,1]", "1,1,reverse]")), true),
        // the new value is read
        (plain, format!("{run}  %5 = sum[-1,-2,-3] %4 : f32[1,1,1]\n  return y=%3, @s=%4, z=%5\n"), true),
        // the old value is: by the body after its update, by the program after the loop
        ("  %7 = sum[-2] %1 : f32[1,8]\n  %8 = add %6, %7 : f32[1,8]\n  return %8, %3\n", format!("{run}  return y=%3, @s=%4\n"), false),
        (plain, format!("{run}  %5 = sub %4, @s : f32[3,40,8]\n  return y=%3, @s=%4, z=%5\n"), false),
        // the new stack is no state
        (plain, format!("{run}  return y=%3, k=%4\n"), false),
        // two results of one piece
        (
            "  %7 = update[-2] %1, %6, 0 : f32[40,8]\n  return %6, %3, %7\n",
            format!("{}  %5 = get[2] %2 : f32[3,40,8]\n  return y=%3, @s=%4, z=%5\n", run.replace("[3,40,8])", "[3,40,8],f32[3,40,8])")),
            false,
        ),
        // an update of what another has made
        ("  %7 = update[-2] %3, %6, 0 : f32[40,8]\n  return %6, %7\n", format!("{run}  return y=%3, @s=%4\n"), false),
    ] {
        let text = looped(&format!("{ATTENDS}{body}"), &main);
        let most = most_written(&check(&text));
        assert!(if in_place { most <= 4 * 40 } else { most >= piece }, "{most} bytes\n{text}");
    }
}

/// One loop in another, both of whose stacks are the state's.
#[test]
fn stacks_of_stacks_are_updated_in_place() {
    let inner = format!("f0 layer(%0: f32[1,8], %1: f32[40,8], %2: i32[]) {{\n{ATTENDS}  return %6, %3\n}}\n\n");
    let outer = "f1 outer(%0: f32[1,8], %1: f32[3,40,8], %2: i32[]) {\n  %3 = repeat[f0,3,1,1] %0, %1, %2 : (f32[1,8],f32[3,40,8])\n  %4 = get[0] %3 : f32[1,8]\n  %5 = get[1] %3 : f32[3,40,8]\n  return %4, %5\n}\n\n";
    let program = check(&format!(
        "{inner}{outer}main(%0 x: f32[1,8], %1 p: i32[]) {{\n  @s : f32[2,3,40,8]\n  %2 = repeat[f1,2,1,1] %0, @s, %1 : (f32[1,8],f32[2,3,40,8])\n  %3 = get[0] %2 : f32[1,8]\n  %4 = get[1] %2 : f32[2,3,40,8]\n  return y=%3, @s=%4\n}}\n"
    ));
    assert!(most_written(&program) <= 4 * 40);
}

/// Two loops over one body, one of which has the state and one what is read after.
#[test]
fn bodies_that_are_shared() {
    let main = "  %2 = repeat[f0,3,1,1] %0, @s, %1 : (f32[1,8],f32[3,40,8])\n  %3 = get[0] %2 : f32[1,8]\n  %4 = get[1] %2 : f32[3,40,8]\n  %5 = repeat[f0,3,1,1] %3, %4, %1 : (f32[1,8],f32[3,40,8])\n  %6 = get[1] %5 : f32[3,40,8]\n  %7 = sub %6, %4 : f32[3,40,8]\n  return @s=%6, y=%7\n";
    check(&looped(&format!("{ATTENDS}  return %6, %3\n"), main));
    // carried in one, stacked in the other
    let body = "f0 layer(%0: f32[3,8], %1: f32[3,8], %2: i32[]) {\n  %3 = slice[-2,0,1] %0 : f32[1,8]\n  %4 = update[-2] %1, %3, %2 : f32[3,8]\n  %5 = update[-2] %0, %3, %2 : f32[3,8]\n  return %5, %4\n}\n\n";
    check(&format!(
        "{body}main(%0 p: i32[]) {{\n  @s : f32[2,3,8]\n  @c : f32[3,8]\n  %1 = repeat[f0,2,1,1] @c, @s, %0 : (f32[3,8],f32[2,3,8])\n  %2 = repeat[f0,2,1,0] @c, @c, %0 : (f32[3,8],f32[2,3,8])\n  %3 = get[1] %1 : f32[2,3,8]\n  %4 = get[1] %2 : f32[2,3,8]\n  %5 = get[0] %1 : f32[3,8]\n  return @s=%3, y=%4, @c=%5\n}}\n"
    ));
}

/// What a model keeps of a token costs what the token's keys and values are, whatever the context; nothing copies the cache.
#[test]
fn keys_and_values_cost_what_a_token_writes() {
    for model in [gpt(), llama(false)] {
        for t in [1, 3] {
            let graph = model.step_graph().unwrap().bind(&|s| Some(if s == 'B' { 2 } else { t })).unwrap();
            let options = passes::Options::default();
            let stages = passes::compile(&graph, passes::Goal::Results, &options).unwrap();
            let program = Program::new(stages.last(), &host());
            let main = program.routines.last().unwrap();
            let state = |b: &usize| matches!(&main.buffers[*b].kind, BufferKind::Param(n) if n.starts_with("past."));
            let kernels = main.steps.iter().filter(|s| matches!(s, Step::Kernel { args, .. } if args.iter().any(&state))).count();
            assert_eq!(kernels, 0, "no kernel outside of the layers touches what is kept");
            let past = |a: &codegen::Address| matches!(a.region, Region::Param(i) if program.params[i].0.starts_with("past."));
            let calls = program.calls();
            let writes: Vec<&Call> =
                calls.iter().filter(|c| c.args.iter().zip(&program.specs[c.kernel].params).any(|(a, p)| p.written && past(a))).collect();
            assert_eq!(writes.len(), 2 * 2, "one of keys, one of values, a layer");
            let kept: usize = program.params.iter().filter(|p| p.0.starts_with("past.")).map(|p| p.1.bytes()).sum();
            let token = kept / model.context() * t as usize;
            assert_eq!(writes.iter().map(|c| written(&program, c)).sum::<usize>(), token, "{t} tokens");
        }
    }
}
