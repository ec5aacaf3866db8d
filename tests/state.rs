//! State is always written: each program with results named `@path` runs three steps against evaluation, and what it does in place is
//! what the plan says.

use crate::common::{bound, environment, gpt, llama};
use crate::running::{TOLERANCE, interpreted_calls, mismatch, run_steps, state_mismatch};
use codegen::{BufferKind, Program, Step, Target};
use ir::names::{LOSS, LOSS_SUM};
use ir::{Graph, eval};
use passes::{Opt, Update, optimize, train_step};
use runtime::Pool;
use std::sync::Arc;

fn read(text: &str) -> Graph {
    text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn host() -> Target {
    Target::Cpu(codegen::llvm::host().target)
}

/// Three steps are as evaluated, and the same bits on one, two and three threads. Interpreted, each operand has but one type.
fn check(text: &str) -> Graph {
    let graph = read(text);
    let env = environment(&graph, 7, 3);
    let wrong = mismatch(&eval(&graph, &env).unwrap(), &interpreted_calls(&Program::new(&graph, &host()), &env), TOLERANCE);
    assert_eq!(wrong, None, "interpreted\n{text}");
    let wrong = state_mismatch(&graph, &env, Arc::new(Pool::new(2)), &host());
    assert_eq!(wrong, None, "{text}");
    let have = run_steps(&graph, &env, 3, Arc::new(Pool::new(2)), &host());
    for threads in [1, 3] {
        assert_eq!(run_steps(&graph, &env, 3, Arc::new(Pool::new(threads)), &host()), have, "{threads} threads\n{text}");
    }
    graph
}

/// How many bytes of new values of state the main routine holds beside the state.
fn aside(graph: &Graph) -> usize {
    let program = Program::new(graph, &host());
    copies(&program).iter().map(|(_, bytes)| bytes).sum()
}

/// Kernels that copy a temporary over a parameter, at the end: paths and bytes.
fn copies(program: &Program) -> Vec<(String, usize)> {
    let main = program.routines.last().unwrap();
    let copied = |step: &Step| {
        let Step::Kernel { kernel, args } = step else { return None };
        let [from, to] = args[..] else { return None };
        let BufferKind::Param(name) = &main.buffers[to].kind else { return None };
        let plain = program.specs[*kernel].dag.steps.len() == 1;
        let temp = matches!(main.buffers[from].kind, BufferKind::Temp(_));
        (plain && temp).then(|| (name.to_string(), main.buffers[to].bytes))
    };
    main.steps.iter().filter_map(copied).collect()
}

/// The new value is computed from other places of the old one than it is written to.
#[test]
fn what_reads_across_is_computed_aside() {
    let turned = "main() {\n  @w : f32[5,5]\n  %0 = transpose[1,0] @w : f32[5,5]\n  %1 = add @w, %0 : f32[5,5]\n  return @w=%1\n}\n";
    let plain = "main() {\n  @w : f32[5,5]\n  %0 = transpose[1,0] @w : f32[5,5]\n  return @w=%0\n}\n";
    let rows = "main() {\n  @w : f32[4,1]\n  %0 = transpose[1,0] @w : f32[1,4]\n  %1 = mul @w, %0 : f32[4,4]\n  %2 = max[-1] %1 : f32[4,1]\n  return @w=%2\n}\n";
    let moved = "main() {\n  @w : f32[6]\n  %0 = slice[-1,0,3] @w : f32[3]\n  %1 = slice[-1,3,6] @w : f32[3]\n  %2 = concat[-1] %1, %0 : f32[6]\n  return @w=%2\n}\n";
    let shifted = "main() {\n  @w : f32[6]\n  %0 = slice[-1,0,5] @w : f32[5]\n  %1 = pad[-1,1,0] %0 : f32[6]\n  return @w=%1\n}\n";
    let flat = "main() {\n  @w : f32[4,3]\n  %0 = transpose[1,0] @w : f32[3,4]\n  %1 = reshape[4,3] %0 : f32[4,3]\n  %2 = sub %1, @w : f32[4,3]\n  return @w=%2\n}\n";
    let gathered = "main(%0 i: i32[4]) {\n  @w : f32[4,3]\n  %1 = gather @w, %0 : f32[4,3]\n  %2 = mul %1, 0.5 : f32[4,3]\n  return @w=%2\n}\n";
    let shuffled = "main(%0 i: i32[4]) {\n  @w : f32[4,3]\n  %1 = gather @w, %0 : f32[4,3]\n  %2 = add %1, @w : f32[4,3]\n  return @w=%2\n}\n";
    for text in [turned, plain, rows, moved, shifted, gathered, shuffled] {
        let graph = check(text);
        assert!(aside(&graph) > 0, "{text}");
    }
    // a view that strides cannot say is copied before anything is written
    assert_eq!(aside(&check(flat)), 0);
}

/// Every template can make a new value of state.
#[test]
fn every_template_writes_state() {
    for text in [
        // a product of the state, its epilogue reads it
        "main(%0 a: f32[7,20], %1 b: f32[20,9]) {\n  @w : f32[7,9]\n  %2 = contract[ac,cb->ab] %0, %1 : f32[7,9]\n  %3 = mul %2, 0.1 : f32[7,9]\n  %4 = sub @w, %3 : f32[7,9]\n  return @w=%4\n}\n",
        // long sums are kept in the result between blocks
        "main(%0 a: f32[7,2100], %1 b: f32[2100,33]) {\n  @w : f32[7,33]\n  %2 = contract[ac,cb->ab] %0, %1 : f32[7,33]\n  %3 = mul %2, 0.01 : f32[7,33]\n  %4 = sub @w, %3 : f32[7,33]\n  return @w=%4, y=%2\n}\n",
        "main() {\n  @w : f32[5,5]\n  %0 = contract[ac,cb->ab] @w, @w : f32[5,5]\n  %1 = tanh %0 : f32[5,5]\n  return @w=%1\n}\n",
        // reductions
        "main(%0 x: f32[9,4]) {\n  @w : f32[1,4]\n  %1 = mul %0, @w : f32[9,4]\n  %2 = sum[-2] %1 : f32[1,4]\n  return @w=%2\n}\n",
        "main(%0 x: f32[9,4]) {\n  @w : f32[9,1]\n  %1 = mul %0, @w : f32[9,4]\n  %2 = sum[-1] %1 : f32[9,1]\n  %3 = add @w, %2 : f32[9,1]\n  return @w=%3, y=%1\n}\n",
        "main() {\n  @w : f32[6,40]\n  %0 = softmax @w : f32[6,40]\n  return @w=%0\n}\n",
        // by index
        "main(%0 i: i32[4], %1 u: f32[4,3]) {\n  @w : f32[5,3]\n  %2 = scatter_add @w, %0, %1 : f32[5,3]\n  return @w=%2\n}\n",
        "main(%0 i: i32[4]) {\n  @w : f32[4,3]\n  %1 = scatter_add @w, %0, @w : f32[4,3]\n  %2 = tanh %1 : f32[4,3]\n  return @w=%1, y=%2\n}\n",
        "main(%0 i: i32[5], %1 u: f32[5,3]) {\n  @w : f32[5,3]\n  %2 = scatter_add %1, %0, @w : f32[5,3]\n  return @w=%2\n}\n",
        // parts, some of the state where they stand
        "main(%0 x: f32[2,3]) {\n  @w : f32[5,3]\n  %1 = slice[-2,0,3] @w : f32[3,3]\n  %2 = tanh %1 : f32[3,3]\n  %3 = concat[-2] %2, %0 : f32[5,3]\n  return @w=%3\n}\n",
        "main(%0 x: f32[5,1]) {\n  @w : f32[5,3]\n  %1 = slice[-1,1,3] @w : f32[5,2]\n  %2 = concat[-1] %1, %0 : f32[5,3]\n  return @w=%2\n}\n",
        "main(%0 x: f32[2,3]) {\n  @w : f32[5,3]\n  %1 = slice[-2,2,5] @w : f32[3,3]\n  %2 = concat[-2] %0, %1 : f32[5,3]\n  %3 = sum[-1,-2] @w : f32[1,1]\n  return @w=%2, y=%3\n}\n",
        "main() {\n  @w : f32[5,3]\n  %0 = slice[-2,1,4] @w : f32[3,3]\n  %1 = pad[-2,1,1] %0 : f32[5,3]\n  return @w=%1\n}\n",
        // random numbers
        "main() {\n  @key : u32[]\n  %0 = random_bits[4,3] @key : u32[4,3]\n  %1 = cast[f32] %0 : f32[4,3]\n  %2 = mul %1, 0.000000001 : f32[4,3]\n  %3 = add @key, 1u : u32[]\n  return y=%2, @key=%3\n}\n",
    ] {
        check(text);
    }
}

/// Attention writes state that it reads, and its log-sum-exp.
#[test]
fn attention_writes_state() {
    let (ty, rows) = ("f32[1,6,2,4]", "f32[1,2,6]");
    for causal in ["", "|causal"] {
        check(&format!(
            "main() {{\n  @w : {ty}\n  @k : {ty}\n  @l : {rows}\n  %0 = attention[acbe,adbe,adbf->acbf|4{causal}] @w, @k, @w, 0.5 : ({ty},{rows})\n  %1 = get[0] %0 : {ty}\n  %2 = get[1] %0 : {rows}\n  %3 = add @l, %2 : {rows}\n  return @w=%1, @l=%2, y=%3\n}}\n"
        ));
    }
}

/// Attention over one packed state, whose gradients are packed the same way: as its new value, and as a step down it.
fn packed(results: &str) -> String {
    let (all, one, ty, rows) = ("f32[1,6,24]", "f32[1,6,8]", "f32[1,6,2,4]", "f32[1,2,6]");
    let part = |n: usize, i: usize| {
        let (lo, hi) = (8 * i, 8 * i + 8);
        format!("  %{} = slice[-1,{lo},{hi}] @w : {one}\n  %{} = reshape[1,6,2,4] %{} : {ty}\n", n, n + 1, n)
    };
    let parts = [part(1, 0), part(3, 1), part(5, 2)].concat();
    let back = |n: usize, i: usize| format!("  %{n} = get[{i}] %10 : {ty}\n  %{} = reshape[1,6,8] %{n} : {one}\n", n + 1);
    let gradients = [back(11, 0), back(13, 1), back(15, 2)].concat();
    format!(
        "main(%0 g: {ty}) {{\n  @w : {all}\n{parts}  %7 = attention[acbe,adbe,adbf->acbf|4|causal] %2, %4, %6, 0.5 : ({ty},{rows})\n  %8 = get[0] %7 : {ty}\n  %9 = get[1] %7 : {rows}\n  %10 = attention_bwd[acbe,adbe,adbf->acbf|4|causal] %2, %4, %6, %8, %9, %0, 0.5 : ({ty},{ty},{ty})\n{gradients}  %17 = concat[-1] %12, %14, %16 : {all}\n  %18 = mul %17, 0.1 : {all}\n  %19 = sub @w, %18 : {all}\n  return {results}\n}}\n"
    )
}

#[test]
fn packed_gradients_are_one_operand() {
    for results in ["@w=%17", "@w=%19, g=%17", "@w=%19", "y=%8, @w=%17"] {
        let graph = check(&packed(results));
        let program = Program::new(&graph, &host());
        let backward = program.specs.iter().find(|s| s.name() == "attention_bwd").unwrap();
        let written = backward.params.iter().filter(|p| p.written).count();
        assert_eq!(written, 1, "dq, dk and dv are parts of one buffer: {backward}");
    }
}

/// Who reads the old value is asked of the kernels as they run: here one that is computed again inside a later kernel.
#[test]
fn what_is_computed_again_reads_the_old_value() {
    let text = "main() {
  @w : f32[6,40]
  %0 = mul @w, @w : f32[6,40]
  %1 = sum[-1,-2] %0 : f32[1,1]
  %2 = mul @w, 0.9 : f32[6,40]
  %3 = sum[-2] %0 : f32[1,40]
  return loss=%1, @w=%2, stat=%3
}
";
    check(text);
    check(&text.replace("return loss=%1, @w=%2, stat=%3", "return @w=%2, stat=%3, loss=%1"));
}

/// One state's new value is another's old one.
#[test]
fn states_change_places() {
    for n in ["[]", "[1]", "[1,1]", "[7]", "[3,5]", "[1,4100]", "[9000]", "[0,3]"] {
        check(&format!("main() {{\n  @a : f32{n}\n  @b : f32{n}\n  return @a=@b, @b=@a\n}}\n"));
        check(&format!("main() {{\n  @a : f32{n}\n  @b : f32{n}\n  @c : f32{n}\n  return @c=@b, @a=@c, @b=@a, y=@a\n}}\n"));
        check(&format!(
            "main() {{\n  @a : f32{n}\n  @b : f32{n}\n  %0 = add @a, @b : f32{n}\n  %1 = sub @b, @a : f32{n}\n  return @a=%1, @b=%0, s=%0\n}}\n"
        ));
    }
}

/// The plainest results: the state itself, a number, an input, a value that is also a result, two states of one value.
#[test]
fn plain_results_are_written() {
    for ty in ["f32[3,5]", "f32[]", "f32[1]", "f32[0]", "i32[4]", "u32[4]", "bool[4]", "bf16[3,70]", "f16[6]"] {
        let param = |rest: &str| format!("main() {{\n  @a : {ty}\n  @b : {ty}\n{rest}\n}}\n");
        check(&param("  return @a=@a, y=@b"));
        check(&param("  return @a=@b, y=@a"));
        check(&param("  return @a=@b, @b=@b"));
        check(&param("  return @b=@a, @a=@a"));
    }
    check("main(%0 x: f32[3,5]) {\n  @a : f32[3,5]\n  %1 = add @a, %0 : f32[3,5]\n  return @a=%0, y=%1\n}\n");
    check(
        "main(%0 x: f32[3,5]) {\n  @a : f32[3,5]\n  @b : f32[3,5]\n  %1 = add @a, %0 : f32[3,5]\n  %2 = sub @b, %1 : f32[3,5]\n  return @a=%1, y=%1, @b=%1, z=%1, d=%2\n}\n",
    );
    check("main() {\n  @a : f32[3,5]\n  %0 = broadcast[3,5] 2.5 : f32[3,5]\n  %1 = add @a, %0 : f32[3,5]\n  return y=%1, @a=%0\n}\n");
    check("main() {\n  @a : i32[5]\n  %0 = iota[-1,5] : i32[5]\n  %1 = add @a, %0 : i32[5]\n  return y=%1, @a=%0\n}\n");
    check(
        "main() {\n  @a : i32[5]\n  %0 = iota[-1,5] : i32[5]\n  %1 = lt @a, %0 : bool[5]\n  @f : bool[5]\n  %2 = select @f, @a, %0 : i32[5]\n  return @f=%1, @a=%2\n}\n",
    );
}

/// State that a program only writes is state all the same.
#[test]
fn state_that_is_only_written() {
    let graph = check(
        "main(%0 x: f32[3,5]) {\n  @new : f32[3,5]\n  @other : f32[3,5]\n  @none : f32[]\n  %1 = tanh %0 : f32[3,5]\n  return @new=%1, @other=%0, @none=1.5\n}\n",
    );
    let program = Program::new(&graph, &host());
    let names: Vec<&str> = program.params.iter().map(|p| p.0.as_ref()).collect();
    assert_eq!(names, ["new", "other", "none"]);
    assert_eq!((0..3).map(|i| program.output_state(i)).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
    assert_eq!(program.output_bytes(), 0);
}

/// Many units of one kernel read a number that it changes: a result that has fewer elements than the iteration has points is not written
/// over what the others still read.
#[test]
fn what_every_unit_reads_is_not_written_by_one() {
    for n in [5, 4100, 20000] {
        check(&format!(
            "main(%0 x: f32[1,{n}]) {{\n  @s : f32[1,1]\n  %1 = mul @s, 2.0 : f32[1,1]\n  %2 = mul %0, %1 : f32[1,{n}]\n  return @s=%1, y=%2\n}}\n"
        ));
        check(&format!(
            "main(%0 x: f32[3,{n}]) {{\n  @s : f32[3,1]\n  %1 = add @s, 0.25 : f32[3,1]\n  %2 = mul %0, %1 : f32[3,{n}]\n  %3 = sum[-1] %2 : f32[3,1]\n  %4 = mul %3, 0.0001 : f32[3,1]\n  %5 = add %4, %1 : f32[3,1]\n  return @s=%5, y=%2\n}}\n"
        ));
    }
}

/// What is written over what, one condition at a time.
#[test]
fn what_may_not_share_memory_does_not() {
    for text in [
        // one part written from another place of the old value, and one from its own
        "main() {\n  @w : f32[6]\n  %0 = slice[-1,3,6] @w : f32[3]\n  %1 = concat[-1] %0, %0 : f32[6]\n  return @w=%1\n}\n",
        // whole numbers are read where floats are written, by a kernel that nothing reads them after
        "main() {\n  @w : f32[3,4]\n  %0 = mul @w, 9.0 : f32[3,4]\n  %1 = cast[i32] %0 : i32[3,4]\n  %2 = reshape[12] %1 : i32[12]\n  %3 = cast[f32] %2 : f32[12]\n  %4 = reshape[3,4] %3 : f32[3,4]\n  %5 = transpose[1,0] %4 : f32[4,3]\n  %6 = tanh %5 : f32[4,3]\n  return y=%6, @w=%0\n}\n",
        // the state is read after its new value, by what only it keeps waiting
        "main() {\n  @w : f32[5,4]\n  %0 = mul @w, 0.5 : f32[5,4]\n  %1 = sum[-2] %0 : f32[1,4]\n  %2 = mul @w, %1 : f32[5,4]\n  return @w=%0, y=%2\n}\n",
        // all but one element move by one place, and that one is written last
        "main(%0 x: f32[1]) {\n  @w : f32[101]\n  %1 = slice[-1,0,100] @w : f32[100]\n  %2 = mul %1, 0.5 : f32[100]\n  %3 = tanh %0 : f32[1]\n  %4 = concat[-1] %3, %2 : f32[101]\n  return @w=%4\n}\n",
        // updates that begin inside a buffer, and a scale that does
        "main(%0 i: i32[2]) {\n  @w : f32[5,3]\n  %1 = slice[-2,1,3] @w : f32[2,3]\n  %2 = scatter_add @w, %0, %1 : f32[5,3]\n  return @w=%2\n}\n",
        "main() {\n  @s : f32[3]\n  @w : f32[1,6,2,4]\n  %0 = slice[-1,2,3] @s : f32[1]\n  %1 = reshape[] %0 : f32[]\n  %2 = attention[acbe,adbe,adbf->acbf|4] @w, @w, @w, %1 : (f32[1,6,2,4],f32[1,2,6])\n  %3 = get[0] %2 : f32[1,6,2,4]\n  %4 = mul @s, 0.5 : f32[3]\n  return @w=%3, @s=%4\n}\n",
    ] {
        check(text);
    }
}

/// The sum of an empty row is written, and what does not step along the row is read.
#[test]
fn empty_rows_are_written() {
    check(
        "main(%0 x: f32[4,0]) {\n  @s : f32[4,1]\n  @f : bool[4,1]\n  %1 = mul %0, @s : f32[4,0]\n  %2 = sum[-1] %1 : f32[4,1]\n  %3 = add @s, 1.0 : f32[4,1]\n  %4 = add %3, %2 : f32[4,1]\n  %5 = select @f, %4, @s : f32[4,1]\n  %6 = lt 1.0, %5 : bool[4,1]\n  return @s=%5, @f=%6\n}\n",
    );
    // though the row has no points, its kernel reads the state elsewhere than it writes it
    check(
        "main(%0 x: f32[3,3,0]) {\n  @s : f32[3,3,1]\n  %1 = transpose[1,0,2] @s : f32[3,3,1]\n  %2 = sum[-1] %0 : f32[3,3,1]\n  %3 = add %2, %1 : f32[3,3,1]\n  %4 = mul %3, 0.5 : f32[3,3,1]\n  return @s=%4\n}\n",
    );
    check("main(%0 x: f32[0,4]) {\n  @s : f32[1,4]\n  %1 = mul %0, @s : f32[0,4]\n  %2 = sum[-2] %1 : f32[1,4]\n  return @s=%2\n}\n");
}

/// A loop reads the state as what goes round, as its iteration's piece and as the same each time, and makes its new value.
#[test]
fn loops_read_and_write_state() {
    let body = "f0 step(%0: f32[3], %1: f32[3], %2: f32[4,3]) {\n  %3 = sum[-2] %2 : f32[1,3]\n  %4 = reshape[3] %3 : f32[3]\n  %5 = mul %0, %1 : f32[3]\n  %6 = add %5, %4 : f32[3]\n  %7 = tanh %6 : f32[3]\n  return %7, %0, %6\n}\n\n";
    for (start, reverse, results) in [
        ("slice[-2,0,1] @w : f32[1,3]", "", "@w=%4, last=%3"),
        ("slice[-2,2,3] @w : f32[1,3]", "", "@w=%5, last=%3, rounds=%4"),
        ("sum[-2] @w : f32[1,3]", ",reverse", "@w=%5, rounds=%4"),
        ("sum[-2] @w : f32[1,3]", "", "y=%5, @w=%6, @v=%3"),
    ] {
        check(&format!(
            "{body}main() {{\n  @w : f32[4,3]\n  @v : f32[3]\n  %0 = {start}\n  %1 = reshape[3] %0 : f32[3]\n  %2 = repeat[f0,4,1,1{reverse}] %1, @w, @w : (f32[3],f32[4,3],f32[4,3])\n  %3 = get[0] %2 : f32[3]\n  %4 = get[1] %2 : f32[4,3]\n  %5 = get[2] %2 : f32[4,3]\n  %6 = mul @w, 0.5 : f32[4,3]\n  return {results}\n}}\n"
        ));
    }
    // the state itself goes round, and one loop stands in another
    let outer = "f1 outer(%0: f32[3], %1: f32[4,3]) {\n  %2 = repeat[f0,4,1,1] %0, %1, %1 : (f32[3],f32[4,3],f32[4,3])\n  %3 = get[0] %2 : f32[3]\n  %4 = get[2] %2 : f32[4,3]\n  return %3, %4\n}\n\n";
    for reverse in ["", ",reverse"] {
        check(&format!(
            "{body}{outer}main() {{\n  @v : f32[3]\n  @w : f32[2,4,3]\n  %0 = repeat[f1,2,1,1{reverse}] @v, @w : (f32[3],f32[2,4,3])\n  %1 = get[0] %0 : f32[3]\n  %2 = get[1] %0 : f32[2,4,3]\n  return @v=%1, @w=%2\n}}\n"
        ));
    }
}

/// A step of training writes parameters and moments where they are: everything has read a parameter when its gradient is known, for the
/// norm of all gradients is known before any parameter changes.
#[test]
fn training_updates_in_place() {
    for (model, t) in [(gpt(), 9), (llama(true), 8), (llama(false), 8)] {
        for (grad_clip, accumulate) in [(1.0, 1), (0.0, 1), (1.0, 2)] {
            let built = bound(&model, 2, t);
            let joint = optimize(&built.keep_outputs(&LOSS), Some(LOSS_SUM), Opt::Egg).unwrap().joint.unwrap();
            let step = train_step(&joint, &Update { grad_clip, accumulate, ..Update::default() }).unwrap();
            let program = Program::new(&step, &host());
            assert_eq!(copies(&program), [], "clip {grad_clip}, {accumulate} micro-batches");
            let states = step.outputs.iter().filter(|o| o.starts_with('@')).count();
            assert_eq!(states, 3 * built.params().len(), "each parameter and its moments");
            assert!((0..step.outputs.len()).all(|i| program.output_state(i).is_some() == step.outputs[i].starts_with('@')));
        }
    }
}

/// The copy of a new value is seen by those who ask for copies: else the test above says nothing.
#[test]
fn copies_are_found() {
    let graph = read("main() {\n  @w : f32[5,5]\n  %0 = transpose[1,0] @w : f32[5,5]\n  return @w=%0\n}\n");
    assert_eq!(copies(&Program::new(&graph, &host())), [("w".to_string(), 100)]);
}

/// Where a new value is written over the old one, nothing is held beside it and no kernel copies.
#[test]
fn what_is_proven_safe_is_in_place() {
    for text in [
        "main(%0 x: f32[4,3]) {\n  @w : f32[4,3]\n  %1 = sub @w, %0 : f32[4,3]\n  return @w=%1\n}\n",
        "main() {\n  @w : f32[6,40]\n  %0 = softmax @w : f32[6,40]\n  return @w=%0\n}\n",
        // a reader before it
        "main() {\n  @w : f32[4,3]\n  %0 = sum[-2] @w : f32[1,3]\n  %1 = sub @w, %0 : f32[4,3]\n  return @w=%1, y=%0\n}\n",
        "main(%0 i: i32[4], %1 u: f32[4,3]) {\n  @w : f32[5,3]\n  %2 = scatter_add @w, %0, %1 : f32[5,3]\n  return @w=%2\n}\n",
        // parts that stand where they stood
        "main(%0 x: f32[2,3]) {\n  @w : f32[5,3]\n  %1 = slice[-2,0,3] @w : f32[3,3]\n  %2 = concat[-2] %1, %0 : f32[5,3]\n  return @w=%2\n}\n",
        "main() {\n  @w : f32[4,3]\n  return @w=@w\n}\n",
    ] {
        let graph = check(text);
        assert_eq!(aside(&graph), 0, "{text}");
    }
}
