//! Adapters beside the layers of random programs: matrices of odd sizes in either layout, in loops and outside, read whole and in parts, with
//! products of any rank beside them, several at once; against plain loops, and compiled against evaluation.

use crate::common::{Random, difference, environment};
use ir::{Builder, DType, Env, Graph, Places, Scope, Tensor, eval};
use llm::adapter::{Change, Linear, Low, linears, weave};
use passes::{Opt, optimize};
use std::collections::BTreeMap;

const SIZES: [usize; 6] = [1, 2, 3, 5, 7, 9];
const CASES: u32 = 60;

fn size(r: &mut Random) -> usize {
    SIZES[r.below(SIZES.len())]
}

/// x W, where W lies one way or the other.
fn layer<'g>(s: &Scope<'g>, r: &mut Random, x: Tensor<'g>, out: usize) -> Tensor<'g> {
    match r.below(2) {
        0 => x.contract("btc,dc->btd", s.param("weight", (out, x.dim(-1)))),
        _ => x.contract("btc,cd->btd", s.param("weight", (x.dim(-1), out))),
    }
}

/// A part of a matrix, with its first rows or its last.
fn parted<'g>(s: &Scope<'g>, r: &mut Random, x: Tensor<'g>, out: usize) -> Tensor<'g> {
    let (more, first) = (1 + r.below(3), r.below(2) == 0);
    let w = s.param("weight", (out + more, x.dim(-1)));
    x.contract("btc,dc->btd", if first { w.slice(-2, 0, out) } else { w.slice(-2, more, out + more) })
}

/// Layers in a row, some of them loops of a pattern.
fn program(r: &mut Random) -> Graph {
    let b = Builder::default();
    {
        let s = b.scope();
        let mut x = s.input("x", DType::F32, [1 + r.below(3), 1 + r.below(4), size(r)]);
        for part in 0..2 + r.below(2) {
            let (own, width, out) = (s.at(&format!("part{part}")), size(r), size(r));
            x = match r.below(4) {
                0 => parted(&own, r, x, out).tanh(),
                1 => layer(&own, r, x, out).tanh(),
                _ => {
                    let same = x.dim(-1).size();
                    let places = Places { first: r.below(2), step: 1 + r.below(2), count: 1 + r.below(3) };
                    let (y, _) = own.pattern("layers", places, x, &[], |scopes, mut x, _| {
                        for s in scopes {
                            let inner = layer(&s.at("up"), r, x, width).tanh();
                            x = x + layer(&s.at("down"), r, inner, same).tanh();
                        }
                        (x, vec![])
                    });
                    y
                }
            };
        }
        b.output("y", x);
        b.output("loss", (x * x).sum_axes(&[-1, -2, -3]).reshape([] as [ir::Dim; 0]));
    }
    b.finish().unwrap()
}

/// What stands beside each layer: none, one or two products, of which one alone may have lengths.
fn chosen(r: &mut Random, graph: &Graph) -> BTreeMap<String, Vec<Low>> {
    let one = |r: &mut Random, l: &Linear, name: Option<String>, dora| {
        let rank = if r.below(3) == 0 { 1 } else { 1 + r.below(l.inputs.min(l.outputs)) };
        Low { name, rank, scale: if r.below(3) == 0 { 1.0 } else { r.unit() * 2.0 }, dropout: 0.0, dora }
    };
    let all = linears(graph).into_iter().map(|l| {
        let lows = match r.below(4) {
            0 => vec![],
            1 => vec![one(r, &l, Some("a".into()), false), one(r, &l, Some("b".into()), false)],
            n => vec![one(r, &l, None, n == 2)],
        };
        (l.module, lows)
    });
    all.collect()
}

/// W + s A B, in every layer of a loop, and its columns at their lengths, by plain loops.
fn merged(env: &Env, l: &Linear, lows: &[Low]) -> Vec<f64> {
    let Linear { inputs, outputs, turned, .. } = *l;
    let mut w = env[&l.path].data.clone();
    for (layer, w) in w.chunks_mut(inputs * outputs).enumerate() {
        let at = |i: usize, o: usize| if turned { i * outputs + o } else { o * inputs + i };
        for low in lows {
            let value = |which: &str| low.parameters(l).into_iter().find(|p| p.0 == which).map(|p| &env[&p.1].data);
            let (a, b, r) = (value("lora_A").unwrap(), value("lora_B").unwrap(), low.rank);
            for (o, i) in (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))) {
                let sum: f64 = (0..r).map(|k| b[(layer * outputs + o) * r + k] * a[(layer * r + k) * inputs + i]).sum();
                w[at(i, o)] += low.scale * sum;
            }
            if let Some(lengths) = value("lora_magnitude_vector") {
                for o in 0..outputs {
                    let have = (0..inputs).map(|i| w[at(i, o)].powi(2)).sum::<f64>().sqrt();
                    (0..inputs).for_each(|i| w[at(i, o)] *= lengths[layer * outputs + o] / have);
                }
            }
        }
    }
    w
}

#[test]
fn random_layers_and_ranks() {
    let mut woven = 0;
    for case in 0..CASES {
        let mut r = Random(case * 7919);
        let plain = program(&mut r);
        let lows = chosen(&mut r, &plain);
        let graph = weave(&plain, &|l| Change { packed: None, beside: lows[&l.module].clone() });
        ir::verify(&graph).unwrap_or_else(|e| panic!("case {case}: {e:?}\n{graph}"));
        let env = environment(&graph, case, 9);
        let mut all = env.clone();
        for l in linears(&plain) {
            woven += lows[&l.module].len();
            let w = merged(&env, &l, &lows[&l.module]);
            all.get_mut(&l.path).unwrap().data = w;
        }
        let (have, want) = (eval(&graph, &env).unwrap(), eval(&plain, &all).unwrap());
        let worst = difference(&have["y"], &want["y"]);
        assert!(worst < 1e-9, "case {case}: {worst}\n{lows:?}\n{graph}");
        // what is found in it, and its gradients, are what was written
        let (found, written) = (optimize(&graph, Some("loss"), Opt::Egg).unwrap(), optimize(&graph, Some("loss"), Opt::Off).unwrap());
        let (have, want) = (eval(found.last(), &env).unwrap(), eval(written.last(), &env).unwrap());
        for (name, want) in &want {
            let worst = difference(&have[name], want);
            assert!(worst < 1e-7, "case {case}, {name}: {worst}\n{graph}");
        }
    }
    assert!(woven > CASES as usize, "{woven}");
}
