//! Mixtures of experts against plain loops: who goes where, what comes of it, the routers' losses; that cost follows the active; and a latent
//! that is kept in one form and read in another.

use crate::common::environment;
use ir::{Builder, DType, Env, Func, Graph, Op, Value, eval};
use models::moe::{Experts, Routers};
use models::{Deepseek, Mixtral, Model};
use passes::{Goal, Options, compile};

const PLAIN: Experts = Experts {
    count: 5,
    chosen: 2,
    groups: 1,
    chosen_groups: 1,
    width: 3,
    normalised: true,
    scale: 1.0,
    names: ["gate_proj", "up_proj", "down_proj"],
};

/// A layer of experts over rows of tokens, and its router's losses.
fn layer(experts: &Experts, [b, t, c]: [usize; 3], masked: bool) -> Graph {
    let builder = Builder::default();
    let s = builder.scope();
    let (y, logits) = experts.apply(&s, s.input("x", DType::F32, [b, t, c]));
    builder.output("y", y);
    let mask = masked.then(|| s.input("mask", DType::I32, [b, t]));
    // as two layers note them
    let noted = [logits.reshape([1, b, t, experts.count]), (logits * 0.5).reshape([1, b, t, experts.count])];
    let routers = Routers::new(&s, &noted, mask).unwrap();
    builder.output("imbalance", routers.imbalance(&s, experts.chosen));
    builder.output("size", routers.size());
    builder.finish().unwrap()
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let e: Vec<f64> = x.iter().map(|x| x.exp()).collect();
    e.iter().map(|x| x / e.iter().sum::<f64>()).collect()
}

/// The numbers of the k largest, the first of equal ones.
fn top(x: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|a, b| x[*b].total_cmp(&x[*a]));
    order.truncate(k);
    order
}

fn rows(v: &Value) -> Vec<&[f64]> {
    v.data.chunks(*v.dims.last().unwrap()).collect()
}

fn times(w: &[&[f64]], x: &[f64]) -> Vec<f64> {
    w.iter().map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
}

/// What the router makes of a token: its logits, and its experts with their weights.
fn routed(e: &Experts, env: &Env, x: &[f64]) -> (Vec<f64>, Vec<(usize, f64)>) {
    let logits = times(&rows(&env["gate.weight"]), x);
    let mut p = softmax(&logits);
    let each = e.count / e.groups;
    let best: Vec<f64> = p.chunks(each).map(|g| g.iter().copied().fold(f64::MIN, f64::max)).collect();
    let groups = top(&best, e.chosen_groups);
    p.iter_mut().enumerate().filter(|(i, _)| !groups.contains(&(i / each))).for_each(|(_, p)| *p = 0.0);
    let chosen = top(&p, e.chosen);
    let sum = if e.normalised { chosen.iter().map(|i| p[*i]).sum() } else { 1.0 };
    (logits, chosen.into_iter().map(|i| (i, p[i] / sum * e.scale)).collect())
}

fn expert(e: &Experts, env: &Env, i: usize, x: &[f64]) -> Vec<f64> {
    let matrix = |name: &str| {
        let w = &env[&format!("experts.{{}}.{name}.weight")];
        rows(w)[i * w.dims[1]..(i + 1) * w.dims[1]].to_vec()
    };
    let [gate, up, down] = e.names;
    let inside: Vec<f64> = times(&matrix(gate), x).iter().zip(times(&matrix(up), x)).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
    times(&matrix(down), &inside)
}

fn near(have: &[f64], want: &[f64], what: &str) {
    let worst = have.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(have.len() == want.len() && worst < 1e-9, "{what}: off by {worst}");
}

/// Large enough that softmax is not flat; and, of `alike`, every expert the same to the router.
fn values(graph: &Graph, seed: u32, alike: bool) -> Env {
    let mut env = environment(graph, seed, 2);
    let gate = env.get_mut("gate.weight").unwrap();
    gate.data.iter_mut().for_each(|x| *x = if alike { 0.0 } else { *x * 3.0 });
    env
}

#[test]
fn tokens_go_to_their_experts() {
    let kinds = [
        PLAIN,
        Experts { count: 1, chosen: 1, ..PLAIN },
        Experts { count: 3, chosen: 3, normalised: false, scale: 2.5, names: ["w1", "w3", "w2"], ..PLAIN },
        Experts { count: 6, chosen: 2, groups: 3, chosen_groups: 1, normalised: false, ..PLAIN },
        Experts { count: 8, chosen: 3, groups: 4, chosen_groups: 2, ..PLAIN },
    ];
    for (seed, e) in kinds.into_iter().enumerate() {
        for (dims, alike) in [([2, 7, 4], false), ([1, 1, 3], false), ([3, 5, 1], false), ([2, 4, 3], true)] {
            e.check("num_experts", "num_experts_per_tok").unwrap();
            let graph = layer(&e, dims, false);
            let env = values(&graph, seed as u32 + 1, alike);
            let have = eval(&graph, &env).unwrap();
            let mut want = vec![];
            for x in rows(&env["x"]) {
                let mut y = vec![0.0; dims[2]];
                for (i, weight) in routed(&e, &env, x).1 {
                    y.iter_mut().zip(expert(&e, &env, i, x)).for_each(|(y, v)| *y += weight * v);
                }
                want.extend(y);
            }
            near(&have["y"].data, &want, &format!("{e:?} of {dims:?}"));
        }
    }
}

#[test]
fn routers_losses_are_over_all_layers_and_tokens() {
    for (masked, alike) in [(false, false), (true, false), (false, true)] {
        let graph = layer(&PLAIN, [3, 6, 4], masked);
        let env = values(&graph, 4, alike);
        let counts: Vec<f64> = env.get("mask").map_or(vec![1.0; 18], |m| m.data.clone());
        let (mut chosen, mut p, mut size, mut n) = (vec![0.0; 5], vec![0.0; 5], 0.0, 0.0);
        for (x, count) in rows(&env["x"]).into_iter().zip(&counts) {
            for factor in [1.0, 0.5] {
                let logits: Vec<f64> = routed(&PLAIN, &env, x).0.iter().map(|x| x * factor).collect();
                top(&softmax(&logits), 2).into_iter().for_each(|i| chosen[i] += count);
                softmax(&logits).iter().zip(&mut p).for_each(|(q, p)| *p += q * count);
                size += count * logits.iter().map(|x| x.exp()).sum::<f64>().ln().powi(2);
                n += count;
            }
        }
        let imbalance = 5.0 * chosen.iter().zip(&p).map(|(f, p)| f / n * (p / n)).sum::<f64>();
        let have = eval(&graph, &env).unwrap();
        near(&have["imbalance"].data, &[imbalance], "imbalance");
        near(&have["size"].data, &[size / n], "size");
        assert!(!alike || (imbalance - 2.0).abs() < 1e-9, "experts that are alike are as many as are chosen");
    }
}

fn small() -> Mixtral {
    Mixtral {
        vocab_size: 13,
        max_position_embeddings: 64,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        hidden_size: 8,
        intermediate_size: 24,
        num_experts: 16,
        ..Mixtral::default()
    }
}

fn small_deepseek() -> Deepseek {
    Deepseek {
        vocab_size: 13,
        max_position_embeddings: 64,
        num_hidden_layers: 3,
        num_attention_heads: 2,
        hidden_size: 8,
        intermediate_size: 10,
        moe_intermediate_size: 24,
        kv_lora_rank: 6,
        qk_nope_head_dim: 4,
        qk_rope_head_dim: 2,
        v_head_dim: 3,
        ..Deepseek::default()
    }
}

fn count(funcs: &[Func], wanted: impl Fn(&Op) -> bool) -> usize {
    funcs.iter().flat_map(|f| &f.nodes).filter(|n| wanted(&n.op)).count()
}

/// Forward three products a layer, backward those by rows again and three sums, and no value has every token at every expert's width.
#[test]
fn cost_follows_the_active_experts() {
    // of the second, the dense layer stands by itself
    for (model, chosen, bodies) in [(Model::from(small()), 2, 1), (Model::from(small_deepseek()), 4, 2)] {
        let graph = llm::bound(&model, 2, 32).unwrap();
        let stages = compile(&graph, Goal::MeanGradient, &Options::default()).unwrap();
        let funcs = &stages.last().funcs;
        let (rows, sums) = (count(funcs, |op| matches!(op, Op::Grouped(_))), count(funcs, |op| matches!(op, Op::GroupedSum(_))));
        assert_eq!(sums, 3, "{}: a gradient of each matrix", model.name());
        assert!((6..=9).contains(&rows), "{}: {rows} products", model.name());
        let largest = funcs.iter().flat_map(|f| &f.nodes).filter(|n| n.ty.is_tensor() && !matches!(n.op, Op::Param(..))).map(|n| n.ty.count());
        // what is stacked has the layers before
        let (tokens, width) = (64 * chosen, 24);
        assert!(largest.max().unwrap() < tokens * 16 * width, "{}: some value is of all experts", model.name());
        assert_eq!(count(funcs, |op| matches!(op, Op::Attention(_))), bodies, "{}", model.name());
    }
}
