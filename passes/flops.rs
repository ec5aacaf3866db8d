//! The arithmetic of a program's products, counted: what a model costs whatever computes it.

use ir::{Graph, Op, Type};

/// Floating-point operations of all products of one run, those of attention among them over every pair of a query and a key, masked or
/// not, as is usual (Kaplan et al. 2020; Chowdhery et al. 2022, appendix B). A product and its addition are two; nothing else counts.
/// Dims must be bound.
pub fn flops(graph: &Graph) -> f64 {
    let mut runs = vec![0.0; graph.funcs.len()];
    let mut total = 0.0;
    *runs.last_mut().expect("a program has a main function") = 1.0;
    for (number, func) in graph.funcs.iter().enumerate().rev() {
        for node in &func.nodes {
            let args: Vec<&Type> = node.args.iter().map(|a| func.ty(*a)).collect();
            if let Op::Repeat(l) = &node.op {
                runs[l.func as usize] += runs[number] * f64::from(l.trip);
            } else {
                total += runs[number] * products(&node.op, &args, &node.ty);
            }
        }
    }
    total
}

/// Operations of one op's products.
fn products(op: &Op, args: &[&Type], ty: &Type) -> f64 {
    if let Op::Contract(e) = op {
        let inner: f64 = e.a.iter().zip(&args[0].dims).filter(|(l, _)| **l >= e.out).map(|(_, d)| d.size() as f64).product();
        return 2.0 * ty.count() as f64 * inner;
    }
    if let Op::Grouped(_) | Op::GroupedSum(_) = op {
        let (widths, along) = (args[0].count() as f64, if matches!(op, Op::Grouped(_)) { ty.dim(-1) } else { args[1].dim(-1) });
        return 2.0 * widths * along.size() as f64;
    }
    let (Op::Attention(a) | Op::AttentionBwd(a)) = op else { return 0.0 };
    let sizes = ir::attention_sizes(a, args[0], args[1], args[2]).expect("the type rule has checked the labels");
    let size = |l: &u8| sizes[usize::from(*l)].map_or(1.0, |d| d.size() as f64);
    let scores: f64 = (0..a.scores).map(|l| size(&l)).product();
    let [depth, value_depth] = [&a.q, &a.v].map(|x| x.iter().filter(|l| **l >= a.scores).map(size).product::<f64>());
    // the scores and the output; or the scores again, the gradients of the weights, of q and of k, and those of v
    let sums = if matches!(op, Op::Attention(_)) { depth + value_depth } else { 3.0 * depth + 2.0 * value_depth };
    2.0 * scores * sums
}
