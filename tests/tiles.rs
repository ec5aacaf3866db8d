//! Large values a tile of rows at a time: what is computed stays the same, nothing larger than a tile is left, and what cannot be tiled is whole.

use crate::common::{Random, bound, difference, environment};
use crate::random_graphs::random_graph;
use ir::{DType, Ein, Func, Graph, Op, Type, eval, verify};
use passes::{Goal, Options, Tiles, compile, tile_rows};

const SMALL: Tiles = Tiles { largest: 300, fewest: 1 };

fn loops(graph: &Graph) -> Vec<&Func> {
    graph.funcs.iter().filter(|f| f.name == "rows").collect()
}

/// The same results, to the rounding of sums in another order.
fn same(graph: &Graph, tiles: Tiles, seed: u32) -> Graph {
    let tiled = tile_rows(graph, tiles);
    verify(&tiled).unwrap_or_else(|e| panic!("{e:?}\n{tiled}"));
    let env = environment(graph, seed, 5);
    let (want, have) = (eval(graph, &env).unwrap(), eval(&tiled, &env).unwrap());
    for (name, value) in &want {
        let off = difference(value, &have[name]);
        assert!(off < 1e-9 || off.is_nan(), "{name} is off by {off}\n{graph}\n{tiled}");
    }
    tiled
}

/// What stands between logits and the loss of a row, as models and objectives have it.
const LOSSES: [&str; 4] = [
    "%4 = cross_entropy %2, %1 : ONE",
    "%3 = add %2, @b : ALL\n  %4 = cross_entropy %3, %1 : ONE",
    "%3 = tanh %2 : ALL\n  %4 = cross_entropy %3, %1 : ONE",
    "%3 = logsumexp %2 : ONE\n  %5 = mul %3, %3 : ONE\n  %6 = cross_entropy %2, %1 : ONE\n  %4 = add %6, %5 : ONE",
];

/// A head over rows of any axes.
fn head(axes: &[usize], depth: usize, words: usize, loss: &str) -> Graph {
    let with = |last: usize| axes.iter().chain([&last]).map(usize::to_string).collect::<Vec<_>>().join(",");
    let labels: String = ('d'..).take(axes.len()).collect();
    let every: Vec<String> = (1..=axes.len() + 1).map(|a| format!("-{a}")).collect();
    let loss = loss.replace("ONE", &format!("f32[{}]", with(1))).replace("ALL", &format!("f32[{}]", with(words)));
    crate::gpu::read(&format!(
        "main(%0 x: f32[{}], %1 labels: i32[{}]) {{\n  @w : f32[{words},{depth}]\n  @b : f32[{words}]\n  \
         %2 = contract[{labels}x,yx->{labels}y] %0, @w : f32[{}]\n  {loss}\n  %7 = sum[{}] %4 : f32[{}]\n  \
         %8 = reshape[] %7 : f32[]\n  return loss=%8, each=%4\n}}\n",
        with(depth),
        with(1),
        with(words),
        every.join(","),
        vec!["1"; every.len()].join(","),
    ))
}

#[test]
fn heads_of_every_kind() {
    let mut random = Random(7);
    let mut tiled = 0;
    for i in 0..80 {
        let axes: Vec<usize> = (0..1 + random.below(3)).map(|_| 1 + random.below(6)).collect();
        let (depth, words) = (1 + random.below(5), 2 + random.below(40));
        let graph = head(&axes, depth, words, LOSSES[i % 4]);
        for goal in [Goal::Results, Goal::Gradient("loss")] {
            let stages = compile(&graph, goal, &Options::default()).unwrap();
            let made = same(&stages.rounded, SMALL, i as u32);
            tiled += loops(&made).len();
            let rows: usize = axes.iter().product();
            let fits = (1..=rows / 2).any(|r| rows.is_multiple_of(r) && r * words * 4 <= SMALL.largest);
            let has = rows * words * 4 > SMALL.largest && fits;
            assert_eq!(loops(&made).len(), usize::from(has), "{axes:?} rows of {words}\n{made}");
        }
    }
    assert!(tiled > 40, "{tiled} of 160 were tiled");
}

/// Rows by a matrix, then whatever goes by rows, in any order, with sums over rows and products of them; now and then what does not.
fn random_rows(r: &mut Random) -> Graph {
    let axes: Vec<usize> = (0..1 + r.below(2)).map(|_| 2 + r.below(5)).collect();
    let (depth, words) = (1 + r.below(4), 4 + r.below(20));
    let mut f = Func::new("main");
    let param = |f: &mut Func, name: &str, dims: &[usize]| f.add(Op::Param(name.into(), Type::f32(dims.iter().copied())), &[]);
    let with = |last: usize| [&axes[..], &[last]].concat();
    let (x, w, bias) = (param(&mut f, "x", &with(depth)), param(&mut f, "w", &[words, depth]), param(&mut f, "bias", &[words]));
    let (own, scale) = (param(&mut f, "own", &with(1)), param(&mut f, "scale", &vec![1; axes.len() + 1]));
    let k = axes.len() as u8;
    let rows: Vec<u8> = (0..k).collect();
    let to = |a: u8, b: &[u8], out: u8| Op::Contract(Ein::new(&[&rows[..], &[a]].concat(), b, &[&rows[..], &[out]].concat()));
    let (mut wide, mut results) = (vec![f.add(to(8, &[9, 8], 9), &[x, w])], vec![]);
    for _ in 0..2 + r.below(6) {
        let any = |r: &mut Random| r.below(usize::MAX);
        let y = wide[any(r) % wide.len()];
        let own_axes: ir::Axes = (1..=k as i8).map(|a| -1 - a).collect();
        match r.below(9) {
            0 => wide.push(f.add(Op::Un(ir::Un::Tanh), &[y])),
            1 => wide.push(f.add(Op::Bin(ir::Bin::Add), &[y, bias])),
            2 => wide.push(f.add(Op::Bin(ir::Bin::Mul), &[own, y])),
            3 => wide.push(f.add(Op::Bin(ir::Bin::Mul), &[y, scale])),
            4 => wide.push(f.add(Op::Row(ir::Row::Softmax), &[y])),
            5 => results.push(f.add(Op::Reduce(ir::Red::Sum, own_axes), &[y])),
            6 => results.push(f.add(Op::Contract(Ein::new(&[&rows[..], &[8]].concat(), &[&rows[..], &[9]].concat(), &[8, 9])), &[y, x])),
            7 => results.push(f.add(to(8, &[8, 9], 9), &[y, w])),
            _ => {
                let most = f.add(Op::Reduce(ir::Red::Max, [-1].into_iter().collect()), &[y]);
                wide.push(f.add(Op::Bin(ir::Bin::Sub), &[y, most]));
                results.push(most);
            }
        }
    }
    if results.is_empty() || r.below(8) == 0 {
        results.push(*wide.last().unwrap());
    }
    f.results = results;
    let outputs = (0..f.results.len()).map(|i| format!("y{i}")).collect();
    Graph { funcs: vec![f], inputs: vec![], outputs }.sweep()
}

#[test]
fn random_programs() {
    let mut random = Random(11);
    let mut tiled = 0;
    for seed in 0..400 {
        let graph = if seed % 4 == 0 { random_graph(&mut random, 30, true, seed % 5 == 0, seed % 3 == 0) } else { random_rows(&mut random) };
        tiled += loops(&same(&graph, Tiles { largest: 40 + random.below(200), fewest: 1 }, seed)).len();
    }
    assert!(tiled > 100, "{tiled} were tiled");
}

/// Losses of models and their gradients: one loop, around what is as large as the logits.
#[test]
fn models_losses() {
    for (model, name) in [(crate::common::gpt(), "gpt2"), (crate::common::llama(true), "tied"), (crate::common::llama(false), "llama")] {
        let graph = bound(&model, 3, 8).keep_outputs(&ir::names::LOSS);
        let stages = compile(&graph, Goal::Gradient(ir::names::LOSS_SUM), &Options::default()).unwrap();
        let logits = 3 * 8 * model.vocab_size() * 4;
        let tiles = Tiles { largest: logits / 2, fewest: 1 };
        let made = same(&stages.rounded, tiles, 3);
        assert_eq!(loops(&made).len(), 1, "{name}\n{made}");
        let of = |g: &Graph| {
            g.main().nodes.iter().filter(|n| n.ty.dtype != DType::Tuple && n.ty.dims.last() == Some(&(model.vocab_size() as u32).into())).count()
        };
        assert!(of(&made) < of(&stages.rounded), "{name}\n{made}");
        let whole = same(&stages.rounded, Tiles { largest: 4 * logits, fewest: 1 }, 3);
        assert!(loops(&whole).is_empty(), "what fits is whole");
    }
}

/// Logits that someone reads, rows that know each other, and rows of which there is no tile.
#[test]
fn what_stays_whole() {
    let all = "%4 = cross_entropy %2, %1 : ONE";
    let of = |text: &str, tiles: Tiles| loops(&same(&crate::gpu::read(text), tiles, 1)).len();
    let text = head(&[4, 6], 3, 20, all).to_string();
    assert_eq!(of(&text, SMALL), 1);
    assert_eq!(of(&text, Tiles { fewest: 13, ..SMALL }), 0, "no tile is so large and fits");
    assert_eq!(of(&text, Tiles { largest: 79, ..SMALL }), 0, "no row fits");
    assert_eq!(of(&text, Tiles { largest: 24 * 20 * 4, ..SMALL }), 0, "all fits");
    assert_eq!(of(&head(&[23], 3, 20, all).to_string(), Tiles { fewest: 2, ..SMALL }), 0, "23 has no divisor");
    let logits = text.replace("return ", "return logits=%2, ");
    assert_eq!(of(&logits, SMALL), 0, "someone reads them");
    let known = head(&[24], 3, 20, "%3 = max[-2] %2 : f32[1,20]\n  %5 = sub %2, %3 : ALL\n  %4 = cross_entropy %5, %1 : ONE").to_string();
    assert_eq!(of(&known, SMALL), 0, "each row knows all");
    let across =
        head(&[24], 3, 30, "%3 = softmax %2 : ALL\n  %5 = contract[ab,cb->ac] %3, %3 : f32[24,24]\n  %4 = cross_entropy %5, %1 : ONE").to_string();
    assert_eq!(of(&across, Tiles { largest: 2500, fewest: 1 }), 0, "rows meet rows");
}
