//! Which ops share a kernel: for each condition of the grouping a program that meets it, and one that violates it alone. Both are as
//! evaluated; how many kernels run says which is which.

use crate::common::{difference, environment};
use crate::compiled::run;
use codegen::{Program, Target};
use ir::{Graph, eval};

/// A program of inputs x, y: f32[4,3], u: f32[3], w: f32[3,4] and i: i32[4].
fn read(body: &str) -> Graph {
    let text = format!("main(%0 x: f32[4,3], %1 y: f32[4,3], %2 u: f32[3], %3 w: f32[3,4], %4 i: i32[4]) {{\n{body}\n}}\n");
    text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn program(body: &str) -> Program {
    Program::new(&read(body), &Target::Cpu(codegen::llvm::host().target))
}

/// Checks such a program, and counts its kernels.
fn kernels(body: &str) -> usize {
    let graph = read(body);
    let env = environment(&graph, 5, 4);
    let (want, have) = (eval(&graph, &env).unwrap(), run(&graph, &env, 2));
    for name in &graph.outputs {
        let d = difference(&have[name], &want[name]);
        assert!(d < 1e-5, "{name} differs by {d}\n{graph}");
    }
    program(body).calls().len()
}

#[test]
fn pointwise_ops_share_a_kernel_unless_one_reads_across() {
    let tanh = "  %5 = tanh %0 : f32[4,3]\n";
    assert_eq!(kernels(&format!("{tanh}  %6 = add %5, %1 : f32[4,3]\n  return a=%6, b=%5")), 1);
    // through a view of what the kernel makes
    let turned = "  %6 = transpose[1,0] %5 : f32[3,4]\n  %7 = mul %6, %3 : f32[3,4]\n";
    assert_eq!(kernels(&format!("{tanh}{turned}  return a=%7")), 2);
    let flat = "  %6 = reshape[3,4] %5 : f32[3,4]\n  %7 = reshape[4,3] %6 : f32[4,3]\n  %8 = add %7, %5 : f32[4,3]\n";
    assert_eq!(kernels(&format!("{tanh}{flat}  return a=%8")), 2);
    // by index: the table is made before, the index may be made beside
    let gathered = "  %6 = gather %5, %4 : f32[4,3]\n  %7 = add %5, %6 : f32[4,3]\n";
    assert_eq!(kernels(&format!("{tanh}{gathered}  return a=%7")), 2);
    assert_eq!(kernels("  %5 = gather %0, %4 : f32[4,3]\n  %6 = add %5, %1 : f32[4,3]\n  return a=%6"), 1);
    assert_eq!(
        kernels(
            "  %5 = reshape[4,1] %4 : i32[4,1]\n  %6 = tanh %0 : f32[4,3]\n  %7 = gather %6, %4 : f32[4,3]\n  %8 = gather %7, %4 : f32[4,3]\n  %9 = add %8, %7 : f32[4,3]\n  return a=%9, b=%5"
        ),
        4
    );
}

#[test]
fn kernels_do_not_wait_for_each_other() {
    // what a reduction of the kernel's own value makes comes later
    let sum = "  %5 = tanh %0 : f32[4,3]\n  %6 = sum[-2] %5 : f32[1,3]\n";
    assert_eq!(kernels(&format!("{sum}  %7 = mul %5, %6 : f32[4,3]\n  return a=%7")), 3);
    // two kernels become one, unless one waits for the other through a third
    assert_eq!(kernels("  %5 = tanh %0 : f32[4,3]\n  %6 = exp %1 : f32[4,3]\n  %7 = add %5, %6 : f32[4,3]\n  return a=%7"), 1);
    assert_eq!(kernels(&format!("{sum}  %7 = add %1, %6 : f32[4,3]\n  %8 = add %5, %7 : f32[4,3]\n  return a=%8")), 3);
    let both =
        "  %7 = exp %1 : f32[4,3]\n  %8 = mul %7, %6 : f32[4,3]\n  %9 = add %8, %5 : f32[4,3]\n  %10 = sum[-2] %7 : f32[1,3]\n  return a=%9, b=%10";
    assert_eq!(kernels(&format!("{sum}{both}")), 4);
}

#[test]
fn rows_and_their_reductions_share_a_kernel() {
    // a value a row, and rows computed from it
    assert_eq!(kernels("  %5 = max[-1] %0 : f32[4,1]\n  %6 = sub %0, %5 : f32[4,3]\n  %7 = exp %6 : f32[4,3]\n  return a=%7, m=%5"), 1);
    // reductions of one axis and of two, of one value
    let two = "  %5 = tanh %0 : f32[4,3]\n  %6 = sum[-1] %5 : f32[4,1]\n  %7 = sum[-1,-2] %5 : f32[1,1]\n  return a=%6, b=%7";
    assert_eq!(kernels(two), 2);
    // one value a row becomes whole rows
    assert_eq!(kernels("  %5 = sum[-1] %0 : f32[4,1]\n  %6 = tanh %5 : f32[4,1]\n  %7 = mul %6, %1 : f32[4,3]\n  return a=%7, b=%6"), 1);
    // a sum of columns does not stand in rows
    assert_eq!(kernels("  %5 = sum[-2] %0 : f32[1,3]\n  %6 = mul %5, %1 : f32[4,3]\n  return a=%6"), 2);
}

#[test]
fn sums_of_columns_share_a_kernel() {
    assert_eq!(kernels("  %5 = sum[-2] %0 : f32[1,3]\n  %6 = mul %0, %1 : f32[4,3]\n  %7 = sum[-2] %6 : f32[1,3]\n  return a=%5, b=%7"), 1);
    // unless one is computed from the other, or they are sums of other axes
    assert_eq!(kernels("  %5 = sum[-2] %0 : f32[1,3]\n  %6 = mul %1, %5 : f32[4,3]\n  %7 = sum[-2] %6 : f32[1,3]\n  return a=%5, b=%7"), 2);
    assert_eq!(kernels("  %5 = sum[-2] %0 : f32[1,3]\n  %6 = sum[-2] %3 : f32[1,4]\n  return a=%5, b=%6"), 2);
    // what only the sum reads is computed inside it; what others read as well is read
    assert_eq!(kernels("  %5 = tanh %0 : f32[4,3]\n  %6 = sum[-2] %5 : f32[1,3]\n  return a=%6"), 1);
    assert_eq!(kernels("  %5 = tanh %0 : f32[4,3]\n  %6 = sum[-2] %5 : f32[1,3]\n  return a=%6, b=%5"), 2);
    assert_eq!(kernels("  %5 = gather %0, %4 : f32[4,3]\n  %6 = sum[-2] %5 : f32[1,3]\n  return a=%6"), 2);
    let once = "  %5 = tanh %0 : f32[4,3]\n  %6 = sum[-2] %5 : f32[1,3]\n  return a=%6, b=%5";
    assert_eq!(program(once).specs.iter().filter(|s| s.to_string().contains("tanh")).count(), 1, "and not computed again");
}

#[test]
fn products_have_epilogues_of_their_own_shape() {
    let product = "  %5 = contract[ab,bc->ac] %0, %3 : f32[4,4]\n";
    assert_eq!(kernels(&format!("{product}  %6 = mul %5, 0.5 : f32[4,4]\n  %7 = tanh %6 : f32[4,4]\n  return a=%7, b=%5")), 1);
    assert_eq!(kernels(&format!("{product}  %6 = broadcast[2,4,4] %5 : f32[2,4,4]\n  return a=%6")), 2);
    // a reduction needs the product in memory anyway, and takes the rest with it
    let reduced = "  %6 = tanh %5 : f32[4,4]\n  %7 = sum[-1] %5 : f32[4,1]\n  %8 = mul %6, %7 : f32[4,4]\n  return a=%8";
    assert_eq!(kernels(&format!("{product}{reduced}")), 2);
    // what reads the product through a view is no epilogue of it
    assert_eq!(kernels(&format!("{product}  %6 = transpose[1,0] %5 : f32[4,4]\n  %7 = add %5, %6 : f32[4,4]\n  return a=%7")), 2);
    // nor what waits for a kernel that reads it
    assert_eq!(kernels(&format!("{product}  %6 = sum[-2] %5 : f32[1,4]\n  %7 = add %5, %6 : f32[4,4]\n  return a=%7")), 3);
}
