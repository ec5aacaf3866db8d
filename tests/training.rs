//! Training: resuming is as if nothing had happened, and nothing T×T is ever in memory.

use codegen::{Cpu, Program, Target};
use ir::names::{LOSS, LOSS_SUM};
use ir::{Graph, Op};
use llm::{Config, Outcome, TrainConfig, Trainer};
use models::{Gpt, Model};
use passes::{Opt, optimize};
use runtime::Pool;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn config(dropout: f64, accumulate: u32) -> Config {
    let model = Model::from(Gpt { vocab_size: 20, n_positions: 8, n_layer: 2, n_head: 2, n_embd: 12, dropout, ..Gpt::default() });
    let train = TrainConfig { steps: 8, batch: 3, context: 8, accumulate, warmup: 2.0, eval_every: 100, save_every: 100, ..TrainConfig::default() };
    Config { train, ..Config::of(model) }
}

fn tokens() -> Vec<i32> {
    (0..2000u64).map(|i| (llm::random(3, i / 3) % 20) as i32).collect()
}

fn trainer(config: &Config, threads: usize) -> Trainer {
    Trainer::new(config.clone(), tokens(), Arc::new(Pool::new(threads))).unwrap()
}

fn state(t: &Trainer) -> Vec<(String, Vec<u8>)> {
    t.session().params().map(|(n, _)| (n.to_string(), t.session().param(n).unwrap().to_vec())).collect()
}

/// A directory of one test.
fn directory(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("eggcorn-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn resuming_is_bit_identical_whatever_the_threads() {
    for (dropout, accumulate) in [(0.0, 1), (0.2, 1), (0.0, 3), (0.1, 2)] {
        let c = config(dropout, accumulate);
        let dir = directory("resume");
        let mut whole = trainer(&c, 1);
        let never = AtomicBool::new(false);
        assert!(matches!(whole.run(None, &never, &mut |_| Ok(())).unwrap(), Outcome::Finished(_)));
        let mut first = trainer(&c, 2);
        // asked to stop after the third step, which is saved
        let stop = AtomicBool::new(false);
        let outcome = first
            .run(Some(&dir), &stop, &mut |e| {
                if matches!(e, llm::Event::Step { step: 3, .. }) {
                    stop.store(true, std::sync::atomic::Ordering::Relaxed);
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(outcome, Outcome::Stopped(3));
        let mut second = trainer(&c, 3);
        assert_eq!(second.resume(&dir).unwrap(), 3);
        second.run(Some(&dir), &never, &mut |_| Ok(())).unwrap();
        assert!(state(&second) == state(&whole), "dropout {dropout}, {accumulate} micro-batches");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// Accumulating over micro-batches is one step on their mean gradient.
#[test]
fn accumulation_is_a_larger_batch() {
    let (small, mut large) = (config(0.0, 4), config(0.0, 1));
    large.train.batch = 12;
    let (mut a, mut b) = (trainer(&small, 2), trainer(&large, 2));
    for _ in 0..3 {
        let ((la, na), (lb, nb)) = (a.one_step().unwrap(), b.one_step().unwrap());
        assert!((la - lb).abs() < 1e-5 && (na - nb).abs() < 1e-4 * nb, "{la} {lb}, norms {na} {nb}");
    }
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let c = config(0.0, 1);
    let dir = directory("damaged");
    trainer(&c, 1).run(Some(&dir), &AtomicBool::new(true), &mut |_| Ok(())).unwrap();
    let manifest = llm::read_manifest(&dir).unwrap().unwrap();
    let path = dir.join(&manifest.tensors);
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    for bad in [&good[..good.len() - 1], &good[..10], &flipped, b"not tensors"] {
        std::fs::write(&path, bad).unwrap();
        let error = trainer(&c, 1).resume(&dir).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains(&manifest.tensors), "{error}");
    }
    std::fs::write(dir.join("checkpoint.json"), "{\"format\": 1").unwrap();
    assert!(trainer(&c, 1).resume(&dir).unwrap_err().to_string().contains("manifest is damaged"));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_loss_that_is_not_finite_stops_and_names_the_step_and_the_kernel() {
    let mut c = config(0.0, 1);
    (c.train.lr, c.train.min_lr, c.train.warmup, c.train.grad_clip) = (1e30, Some(1e30), 0.0, 0.0);
    for check in [false, true] {
        let mut t = trainer(&c, 1);
        t.step.check_finite = check;
        let error = (0..20).find_map(|_| t.one_step().err()).expect("it diverges").to_string();
        assert!(error.starts_with("step ") && error.contains(if check { "kernel " } else { "the loss is" }), "{error}");
        // what it computes, of what, and where in the model
        let words = ["it computes ", "wrote ", "read ", " NaN, ", "mean ", "at or after transformer.", "is declared at models/gpt.rs:"];
        words.iter().for_each(|w| assert_eq!(error.contains(w), check, "'{w}': {error}"));
    }
}

/// No value of GPT-2's joint graph has two axes of the length of the sequence, and no buffer of its plan has room for scores.
#[test]
fn nothing_quadratic_is_materialised() {
    let (batch, t) = (2usize, 640usize);
    let model = models::by_name("gpt2").unwrap();
    let graph = llm::bound(&model, batch, t).unwrap().keep_outputs(&LOSS);
    let joint = optimize(&graph, Some(LOSS_SUM), Opt::Egg).unwrap().joint.unwrap();
    let quadratic = |ty: &ir::Type| ty.dims.iter().filter(|d| d.size() == t).count() > 1;
    for f in &joint.funcs {
        for n in &f.nodes {
            assert!(!quadratic(&n.ty) && !n.ty.parts.iter().any(quadratic), "{}: {} : {}", f.name, n.op, n.ty);
        }
    }
    let count = |name: &str| joint.funcs.iter().flat_map(|f| &f.nodes).filter(|n| n.op.name() == name).count();
    assert_eq!((count("attention"), count("attention_bwd")), (1, 1), "one a block, forward and backward");
    let program = Program::new(&joint, &Target::Cpu(Cpu { lanes: 16, registers: 32, cache: 1 << 20, pairs: false }));
    let (heads, vocab, width) = (12, 50257, 3072);
    let largest = batch * t * vocab.max(width) * 4 + 64;
    for r in &program.routines[..program.routines.len() - 1] {
        for b in &r.buffers {
            // inside a block nothing but parameters and activations of the widest layer
            assert!(b.bytes <= (batch * t * width * 4).max(768 * 3072 * 4), "{}: {} bytes", r.name, b.bytes);
            assert!(b.bytes < batch * heads * t * t * 4);
        }
    }
    assert!(program.kernels.iter().all(|k| k.scratch_floats() * 4 < largest / 8), "scratch holds rows of scores, not all");
}

/// Optimising and lowering cost the same at any depth, and find the same.
#[test]
fn depth_does_not_matter() {
    let lowered = |layers: usize| {
        let model = Model::from(Gpt { n_layer: layers, ..Gpt::default() });
        let graph = llm::bound(&model, 1, 128).unwrap().keep_outputs(&LOSS);
        let stages = optimize(&graph, Some(LOSS_SUM), Opt::Egg).unwrap();
        assert!(stages.reports.iter().all(|r| r.saturation.saturated && r.method == passes::Method::Exact), "no cap is hit, every plan is optimal");
        let joint = stages.joint.unwrap();
        let program = Program::new(&joint, &Target::Cpu(Cpu { lanes: 16, registers: 32, cache: 1 << 20, pairs: false }));
        (joint.to_string().lines().count(), program.kernels.len(), program.calls().len())
    };
    let (twelve, many) = (lowered(12), lowered(48));
    assert_eq!((twelve.0, twelve.1), (many.0, many.1));
    assert!(many.2 > 3 * twelve.2, "calls grow with depth, kernels do not");
}

#[test]
fn the_fused_dump_of_twelve_layers_is_short() {
    let graph = llm::bound(&models::by_name("gpt2").unwrap(), 1, 1024).unwrap();
    let fused = optimize(&graph, None, Opt::Egg).unwrap().fused;
    let lines = fused.to_string().lines().count();
    assert!(lines < 80, "{lines} lines");
    assert_eq!(parameters(&fused), 124_439_808);
}

fn parameters(graph: &Graph) -> usize {
    graph.main().nodes.iter().filter(|n| matches!(n.op, Op::Param(..))).map(|n| n.ty.count()).sum()
}

/// What the rules are for is found in the models as they are written.
#[test]
fn composites_are_found_in_both_models() {
    let count = |model: &Model, name: &str| {
        let graph = llm::bound(model, 2, 8).unwrap();
        let fused = optimize(&graph, None, Opt::Egg).unwrap().fused;
        fused.funcs.iter().flat_map(|f| &f.nodes).filter(|n| n.op.name() == name).count()
    };
    for (model, wanted) in [
        (crate::common::gpt(), &[("attention", 1), ("layer_norm", 3), ("gelu", 1), ("cross_entropy", 1), ("exp", 0), ("tanh", 0), ("max", 0)][..]),
        (
            crate::common::llama(false),
            &[("attention", 1), ("rms_norm", 3), ("rope", 2), ("swiglu", 1), ("cross_entropy", 1), ("rsqrt", 0), ("max", 0)],
        ),
    ] {
        for (name, n) in wanted {
            assert_eq!(count(&model, name), *n, "{name}");
        }
    }
}

/// A token at a time with keys and values kept gives the logits of the whole sequence at once.
#[test]
fn generation_agrees_with_the_whole_sequence() {
    for model in [crate::common::gpt(), crate::common::llama(false)] {
        let pool = Arc::new(Pool::new(2));
        let t = 7;
        let forward = llm::bound(&model, 1, t).unwrap().keep_outputs(&["logits"]);
        let mut whole = runtime::Session::new(optimize(&forward, None, Opt::Egg).unwrap().last(), pool.clone()).unwrap();
        llm::initialise(&mut whole, &model, 5).unwrap();
        let ids: Vec<i32> = (0..t as i32).map(|i| (i * 5 + 2) % 9).collect();
        whole.set_i32("input_ids", &ids).unwrap();
        whole.run().unwrap();
        let want = whole.output("logits").unwrap().f32s().to_vec();
        let mut generator = llm::Generator::new(&model, pool).unwrap();
        llm::initialise(generator.session_mut(), &model, 5).unwrap();
        let v = model.vocab_size();
        for (i, id) in ids.iter().enumerate() {
            let have = generator.read(*id).unwrap();
            for (h, w) in have.iter().zip(&want[i * v..(i + 1) * v]) {
                assert!((h - w).abs() < 1e-5, "token {i}: {h} and {w}");
            }
        }
    }
}

/// nanoGPT's recipe for a CPU learns as well as it does there. Long: only in the heavy tier, and only where the text is.
#[test]
fn the_recipe_learns() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/tinyshakespeare.txt");
    if !std::env::var("EGGCORN_FUZZ").is_ok_and(|v| v == "heavy") {
        return println!("SKIPPED the_recipe_learns: long; run ./x fuzz");
    }
    let Ok(text) = llm::read_text(&path) else { return println!("SKIPPED the_recipe_learns: {} is not there", path.display()) };
    let tokenizer = llm::Tokenizer::of(llm::Kind::Char, &text).unwrap();
    let losses: Vec<f64> = (1..=3)
        .map(|seed| {
            let mut c = llm::recipe("shakespeare-char", &llm::Models::default()).unwrap();
            c.train.seed = seed;
            c.model = c.model.with_vocabulary(tokenizer.size()).unwrap();
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let mut t = Trainer::new(c, tokenizer.encode(&text).unwrap(), Arc::new(Pool::new(threads))).unwrap();
            match t.run(None, &AtomicBool::new(false), &mut |_| Ok(())).unwrap() {
                Outcome::Finished(loss) => loss,
                Outcome::Stopped(_) => unreachable!("nobody asked"),
            }
        })
        .collect();
    println!("losses over the whole validation split: {losses:?}");
    assert!(losses.iter().all(|l| *l <= 1.925) && losses.iter().sum::<f64>() / 3.0 <= 1.91, "{losses:?}");
}
