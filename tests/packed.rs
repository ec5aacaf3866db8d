//! Matrices in few bits: their levels, words of every size against plain loops, programs that take them out, what is read of files, memory.

use crate::adapters::{adapted, every, lora, merged};
use crate::common::{Random, bound, difference, environment};
use codegen::{Cpu, Program, Target};
use ir::{Env, Value, eval};
use llm::packed::{Held, NF4, Packed, Part};
use llm::{AdapterConfig, Config, TrainConfig, step_program};
use models::{Gpt, Model};
use passes::Options;

/// The normal distribution's quantile, by halving.
fn quantile(p: f64) -> f64 {
    let below = |x: f64| 0.5 * (1.0 + libm::erf(x / 2f64.sqrt())) < p;
    let (mut lo, mut hi) = (-9.0, 9.0);
    for _ in 0..80 {
        let mid = (lo + hi) / 2.0;
        if below(mid) { lo = mid } else { hi = mid }
    }
    lo
}

/// As the paper has them: quantiles at even steps from 1/2 to 1 − (1/15 + 1/16) / 4, eight above 0 and seven below, over the largest.
#[test]
fn levels_are_quantiles() {
    let far = 1.0 - 0.25 * (1.0 / 30.0 + 1.0 / 32.0) * 2.0;
    let steps = |n: usize| (1..=n).map(move |i| quantile(0.5 + (far - 0.5) * i as f64 / n as f64));
    let mut all: Vec<f64> = steps(8).chain(steps(7).map(|x| -x)).chain([0.0]).collect();
    all.sort_by(f64::total_cmp);
    let largest = all[15];
    for (have, want) in NF4.iter().zip(all) {
        assert!((f64::from(*have) - want / largest).abs() < 2e-6, "{have} {}", want / largest);
    }
}

fn matrix(sizes: [usize; 2], random: &mut Random) -> Vec<f32> {
    (0..sizes[0] * sizes[1]).map(|_| (0..4).map(|_| random.bits() as f32 / 4e9 - 0.5).sum::<f32>()).collect()
}

/// Every number is at the level nearest to it, of its own row's or block's largest.
#[test]
fn numbers_are_at_their_nearest_levels() {
    let mut random = Random(5);
    let odd = [[1, 1], [3, 5], [8, 64], [9, 65], [17, 130], [5, 63], [0, 7], [7, 0], [4, 128]];
    for packed in Packed::ALL {
        for sizes in odd {
            let own = matrix(sizes, &mut random);
            let (words, scales) = (packed.pack(sizes, &own), packed.measure(sizes, &own));
            assert_eq!(words.len(), packed.words(sizes).iter().product::<usize>(), "{packed:?} {sizes:?}");
            assert_eq!(scales.len(), packed.scales(sizes).iter().product::<usize>(), "{packed:?} {sizes:?}");
            let back = packed.unpack(sizes, &words, &scales);
            assert_eq!(back.len(), own.len());
            let block = if packed == Packed::Nf4 { 64 } else { sizes[1] };
            for (row, have) in own.chunks(sizes[1].max(1)).zip(back.chunks(sizes[1].max(1))) {
                for (numbers, have) in row.chunks(block.max(1)).zip(have.chunks(block.max(1))) {
                    let largest = numbers.iter().fold(0f32, |m, x| m.max(x.abs()));
                    let levels: Vec<f32> = match packed {
                        Packed::Int8 => (-127..=127).map(|n| n as f32 / 127.0).collect(),
                        Packed::Nf4 => NF4.to_vec(),
                    };
                    for (x, have) in numbers.iter().zip(have) {
                        let best = levels.iter().map(|l| (x - l * largest).abs()).fold(f32::INFINITY, f32::min);
                        assert!((x - have).abs() <= best + largest * 1e-6, "{packed:?} {sizes:?}: {x} became {have}");
                    }
                }
            }
            assert_eq!(packed.rounded(sizes, &back), packed.rounded(sizes, &packed.rounded(sizes, &back)), "what is at a level stays");
        }
        assert_eq!(packed.rounded([2, 3], &[0.0; 6]), [0.0; 6], "a block of nothing is nothing");
    }
}

/// An environment of a program whose matrices are in few bits, and of the one with these matrices whole, from the same numbers.
fn environments(own: &Model, plain: &Model, seed: u32) -> (Env, Env) {
    let (graph, mut whole) = (bound(own, 2, 5), environment(&bound(plain, 2, 5), seed, 11));
    let mut env = environment(&graph, seed, 11);
    for (name, ty) in graph.params() {
        let Some((path, part)) = Part::of(&name) else {
            let value = env[name.as_ref()].clone();
            whole.insert(name.to_string(), value);
            continue;
        };
        let dims = whole[path].dims.clone();
        let [.., rows, columns] = dims[..] else { panic!("{path} is a matrix") };
        let of = |matrix: &[f64]| {
            let matrix: Vec<f32> = matrix.iter().map(|x| *x as f32).collect();
            let bytes = part.bytes([rows, columns], &matrix);
            let word = |b: &[u8; 4]| if part.scales { f32::from_le_bytes(*b).into() } else { f64::from(u32::from_le_bytes(*b)) };
            bytes.as_chunks().0.iter().map(word).collect::<Vec<f64>>()
        };
        let data: Vec<f64> = whole[path].data.chunks(rows * columns).flat_map(of).collect();
        env.insert(name.to_string(), Value::new(ty.sizes(), data));
    }
    for name in &graph.inputs {
        whole.insert(name.clone(), env[name].clone());
    }
    // what the words are
    let packed: Vec<(String, Part)> = graph.params().iter().filter_map(|p| Part::of(&p.0).map(|(m, part)| (m.to_string(), part))).collect();
    for (path, part) in packed.into_iter().filter(|p| !p.1.scales) {
        let value = whole.get_mut(&path).unwrap();
        let [.., rows, columns] = value.dims[..] else { panic!("{path} is a matrix") };
        for matrix in value.data.chunks_mut(rows * columns) {
            let own: Vec<f32> = matrix.iter().map(|x| *x as f32).collect();
            matrix.iter_mut().zip(part.packed.rounded([rows, columns], &own)).for_each(|(to, x)| *to = x.into());
        }
    }
    (env, whole)
}

fn beside(base: Held, dora: bool) -> AdapterConfig {
    AdapterConfig { base, dora, ..lora(2, 3.0, &["all-linear"]) }
}

/// A model whose matrices are in few bits, with what is beside them, is the model of what these bits are; and nothing is left of the matrices.
#[test]
fn a_model_in_few_bits_is_the_model_of_its_levels() {
    for (n, model) in every().iter().enumerate() {
        for base in [Held::Int8, Held::Nf4] {
            let (own, adapter) = adapted(model, &beside(base, n % 2 == 0));
            let (env, whole) = environments(&own, model, n as u32);
            let graph = bound(&own, 2, 5);
            let have = eval(&graph, &env).unwrap();
            let want = eval(&bound(model, 2, 5), &merged(&whole, &adapter, &|_| 1.5)).unwrap();
            let worst = difference(&have["logits"], &want["logits"]);
            assert!(worst < 1e-6, "{} {base}: {worst}", model.name());
            let left = graph.params();
            assert!(adapter.layers().all(|l| left.iter().all(|p| *p.0 != *l.path)), "{} {base}: {left:?}", model.name());
        }
    }
}

/// What a step on matrices in few bits takes of memory, by its plan.
#[test]
fn memory_is_what_bits_take() {
    let train = TrainConfig { batch: 1, context: 64, ..TrainConfig::default() };
    let step = |base| {
        let config =
            Config { train: train.clone(), adapter: AdapterConfig { base, ..lora(8, 16.0, &["all-linear"]) }, ..Config::of(Gpt::default().into()) };
        Program::new(
            step_program(&config, &Options::default()).unwrap().last(),
            &Target::Cpu(Cpu { lanes: 16, registers: 32, cache: 1 << 20, pairs: false }),
        )
    };
    let [whole, int8, nf4] = [Held::Whole, Held::Int8, Held::Nf4].map(step);
    let layers = 12 * 12 * 768 * 768;
    let rows = 12 * (768 + 768 + 768 + 3072);
    assert_eq!(whole.param_bytes() - int8.param_bytes(), layers * 3 - rows * 4);
    assert_eq!(whole.param_bytes() - nf4.param_bytes(), layers * 4 - layers / 2 - layers / 64 * 4);
    // one matrix at a time is whole
    let most = 4 * 768 * 3072;
    assert!(
        nf4.arena_bytes() <= whole.arena_bytes() + most && int8.arena_bytes() <= whole.arena_bytes() + most,
        "{} {}",
        nf4.arena_bytes(),
        whole.arena_bytes()
    );
}

#[test]
fn what_cannot_be_held_says_why() {
    let model = crate::common::gpt();
    let alone = AdapterConfig { base: Held::Nf4, ..AdapterConfig::default() };
    assert!(alone.check().unwrap_err().contains("adapter.base is nf4, and nothing stands beside the model"));
    let parts = [Held::Nf4, Held::Whole].map(|base| llm::adapter::Part::from(beside(base, false)));
    let error = llm::adapter::Adapter::of_parts(&model, parts.to_vec(), &|_| true).unwrap_err();
    assert!(error.contains("nf4 and whole"), "{error}");
}
