//! Programs on devices: every template against evaluation, training against the processor. On software Vulkan wherever it can be
//! installed, and on an NVIDIA device where there is one.

use crate::common::{Random, bound, difference, environment, gpt, llama, own_share, required};
use crate::gpu::{error, programs, read, tensor_attention, tensor_programs, tolerance};
use crate::random_graphs::random_graph;
use crate::random_state::random_state_graph;
use crate::running::{cases, compare_with, run_on, state_mismatch};
use ir::eval;
use llm::{Config, Generator, Kind, OWN_TEXT, Sampling, Tokenizer, TrainConfig, Trainer};
use models::Model;
use passes::{Opt, optimize};
use runtime::{Device, Session};

/// A device, or why there is none: then its tests are skipped loudly, or fail where `REQUIRE` names it.
fn open(name: &str, tool: &str) -> Option<Device> {
    Device::open(name, 1).map_err(|e| required(tool, &e)).ok()
}

/// Each function is a test on every kind of device that this build knows.
macro_rules! on_each_device {
    ($($(#[$meta:meta])* fn $name:ident($device:ident) $body:block)*) => {
        $($(#[$meta])* fn $name($device: &Device) $body)*

        #[cfg(feature = "wgpu")]
        mod vulkan {
            static DEVICE: std::sync::LazyLock<Option<runtime::Device>> = std::sync::LazyLock::new(|| super::open("wgpu:software", "vulkan"));
            $($(#[$meta])* #[test] fn $name() {
                if let Some(device) = DEVICE.as_ref() {
                    super::$name(device);
                }
            })*
        }

        #[cfg(feature = "cuda")]
        mod cuda {
            static DEVICE: std::sync::LazyLock<Option<runtime::Device>> = std::sync::LazyLock::new(|| super::open("cuda", "cuda"));
            $($(#[$meta])* #[test] fn $name() {
                if let Some(device) = DEVICE.as_ref() {
                    super::$name(device);
                }
            })*
        }
    };
}

/// Whether a device has what a text asks for: WebGPU's language has no bfloat16.
fn holds(device: &Device, text: &str) -> bool {
    let program = read("main(%0 x: f32[8]) {\n  %1 = cast[bf16] %0 : bf16[8]\n  %2 = cast[f32] %1 : f32[8]\n  return y=%2\n}\n");
    !text.contains("bf16") || Session::new(&program, device.clone()).is_ok()
}

on_each_device! {
/// What a checked run says is the same as on a processor.
fn checked_runs(device) {
    let holds = |text: &str| holds(device, text);
    crate::finite::every_template(device, &holds);
    for half in ["bf16", "f16"] {
        if holds(&format!("cast[{half}]")) {
            crate::finite::numbers_of_16_bits(device, half);
        }
    }
    crate::finite::lowest(device);
    crate::finite::whole_numbers(device);
    crate::finite::elements(device);
}

/// Sessions of one device share parameters, and not those of a processor.
fn parameters_are_shared(device) {
    crate::sharing::what_one_writes_the_other_sees(device);
    let elsewhere = crate::sharing::writer(&Device::open("wgpu:software", 1).or_else(|_| Device::open("cuda", 1)).unwrap());
    let error = crate::sharing::reader_of(device, &elsewhere).err().expect("they are two devices");
    assert!(error.contains("another device"), "{error}");
}

fn every_template_is_as_evaluated(device) {
    for (i, (name, text)) in programs().into_iter().enumerate().filter(|(_, p)| holds(device, &p.1)) {
        let graph = read(&text);
        let env = environment(&graph, i as u32, 3);
        let want = eval(&graph, &env).unwrap();
        let have = run_on(&graph, &env, device.clone(), &device.target().unwrap());
        for output in &graph.outputs {
            let d = if output == "z" && name == "contract" { 0.0 } else { error(&have[output], &want[output]) };
            assert!(d < tolerance(&text), "{name}: {output} differs by {d}\n{text}");
        }
    }
}

/// Whole numbers, NaN, infinities and zeros: what every target gives. Devices may take subnormal numbers for 0.
fn edges_are_as_stated(device) {
    for case in crate::edges::everywhere().iter().filter(|c| holds(device, c.text())) {
        let run = |g: &ir::Graph, env: &ir::Env| run_on(g, env, device.clone(), &device.target().unwrap()).remove("y").unwrap();
        crate::edges::check(case, &device.describe(), &run);
    }
}

/// Products and attention of 16 bits: on tensor cores where the device has them.
fn products_of_16_bits_are_as_evaluated(device) {
    for (i, text) in tensor_programs().into_iter().chain(tensor_attention()).enumerate().filter(|(_, t)| holds(device, t)) {
        let graph = read(&text);
        let env = environment(&graph, i as u32, 3);
        let want = eval(&graph, &env).unwrap();
        let have = run_on(&graph, &env, device.clone(), &device.target().unwrap());
        for output in graph.outputs.iter().filter(|o| *o != "z") {
            let d = error(&have[output], &want[output]);
            assert!(d < tolerance(&text), "{output} differs by {d}\n{text}");
        }
    }
}

/// Gradients of both models, in one program with the loss.
fn models_are_as_evaluated(device) {
    for (model, t) in [(gpt(), 5), (llama(true), 5), (llama(false), 7)] {
        let built = bound(&model, 2, t);
        let env = environment(&built, 3, 9);
        let joint = optimize(&built, Some(ir::names::LOSS_SUM), Opt::Egg).unwrap().joint.unwrap();
        let (want, have) = (eval(&joint, &env).unwrap(), run_on(&joint, &env, device.clone(), &device.target().unwrap()));
        for (name, w) in &want {
            let d = difference(&have[name], w);
            assert!(d < 3e-5, "{name} differs by {d}");
        }
    }
}

fn random_programs_are_as_evaluated(device) {
    for seed in (0..cases(12, 1000)).filter(|s| own_share(*s)) {
        let mut r = Random(seed ^ 0x1234);
        let n = 3 + r.below(15);
        let graph = random_graph(&mut r, n, false, true, true);
        let env = environment(&graph, seed, 3);
        compare_with(&graph, &env, &format!("seed {seed}, on {}", device.describe()), &run_on(&graph, &env, device.clone(), &device.target().unwrap()));
    }
}

/// State, carried over three steps.
fn random_programs_with_state_are_as_evaluated(device) {
    let (count, mut wrong) = (cases(8, 2000), vec![]);
    for seed in 0..count {
        let graph = random_state_graph(&mut Random(seed.wrapping_mul(104_729)), true);
        let env = environment(&graph, seed, 3);
        if holds(device, &graph.to_string()) && let Some(what) = state_mismatch(&graph, &env, device.clone(), &device.target().unwrap()) {
            wrong.push(format!("seed {seed}: {what}\n{graph}"));
        }
    }
    println!("{count} random programs with state, three steps each, on {}: {} mismatches", device.describe(), wrong.len());
    assert!(wrong.is_empty(), "{} of {count}\n{}", wrong.len(), wrong[0]);
}

/// Whole training steps, with dropout, clipping and AdamW: the loss, the norm and the moments after a few of them. A parameter moves by
/// the learning rate times a quotient of moments, which magnifies the rounding of a gradient near 0; so parameters may differ by a part of
/// what they moved.
#[cfg(feature = "llvm")]
fn training_steps_are_the_processors(device) {
    let cpu = Device::open("cpu", 2).unwrap();
    for model in [small_gpt(), small_llama()] {
        let (mut here, mut there) = (trainer(&model, &cpu, 5), trainer(&model, device, 5));
        for step in 0..3 {
            let ((a, an), (b, bn)) = (here.one_step().unwrap(), there.one_step().unwrap());
            assert!((a - b).abs() < 2e-6 * a && (an - bn).abs() < 2e-5 * an, "step {step}: {a} {b}, {an} {bn}");
        }
        let names: Vec<String> = here.session().params().map(|p| p.0.to_string()).collect();
        for name in names {
            let read = |t: &Trainer| -> Vec<f32> {
                t.session().param(&name).unwrap().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
            };
            let (a, b) = (read(&here), read(&there));
            let scale = a.iter().fold(1e-30f32, |m, x| m.max(x.abs()));
            let moved = if name.starts_with("adamw.") { 1e-4 * scale } else { 3e-4 };
            let worst = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
            assert!(worst <= moved, "{name} differs by {worst}, its largest is {scale}");
        }
    }
}

/// Two hundred steps: rounding differs, and grows as training goes, but the curves stay together.
#[cfg(feature = "llvm")]
fn two_hundred_steps_have_the_processors_curve(device) {
    let cpu = Device::open("cpu", 2).unwrap();
    let (mut here, mut there) = (trainer(&small_gpt(), &cpu, 200), trainer(&small_gpt(), device, 200));
    let (mut first, mut last, mut worst) = (0.0, 0.0, 0.0f64);
    for step in 0..200 {
        let (a, b) = (here.one_step().unwrap().0, there.one_step().unwrap().0);
        worst = worst.max((a - b).abs());
        if step == 0 {
            first = b;
        }
        last = b;
    }
    assert!(worst < 0.02, "the curves part by {worst}");
    assert!(last < first - 1.0, "it learns: from {first} to {last}");
    let (a, b) = (here.evaluate(Some(4)).unwrap(), there.evaluate(Some(4)).unwrap());
    assert!((a - b).abs() < 0.02, "held out: {a} and {b}");
}

/// The same input gives the same bytes, and a token at a time is as on the processor.
fn runs_repeat_to_the_bit(device) {
    let state = || {
        let mut t = trainer(&small_llama(), device, 5);
        for _ in 0..2 {
            t.one_step().unwrap();
        }
        t.session().params().map(|(n, _)| t.session().param(n).unwrap().to_vec()).collect::<Vec<_>>()
    };
    assert!(state() == state(), "two runs differ");
}

#[cfg(feature = "llvm")]
fn generation_is_the_processors(device) {
    let model = small_llama().with_vocabulary(Tokenizer::of(Kind::Char, OWN_TEXT).unwrap().size()).unwrap();
    let write = |device: &Device| {
        let mut g = Generator::new(&model, device.clone()).unwrap();
        llm::initialise(g.session_mut(), &model, 5).unwrap();
        g.generate(&[3, 1, 4], 40, &Sampling::greedy(), &mut |_| Ok(std::ops::ControlFlow::Continue(()))).unwrap()
    };
    assert_eq!(write(&Device::open("cpu", 2).unwrap()), write(device));
}

/// What is too large for the device is refused with the number, before anything runs.
fn too_large_is_refused(device) {
    if !device.describe().contains("llvmpipe") {
        return;
    }
    let graph = read("main(%0 x: f32[40000,1000]) {\n  %1 = exp %0 : f32[40000,1000]\n  return y=%1\n}\n");
    let e = Session::new(&graph, device.clone()).err().expect("160 MB do not fit a binding of 128 MiB");
    assert!(e.contains("153 MiB") && e.contains("128 MiB"), "{e}");
}

fn a_device_without_a_type_is_refused(device) {
    if holds(device, "bf16") {
        return;
    }
    let graph = read("main(%0 x: f32[8]) {\n  %1 = cast[bf16] %0 : bf16[8]\n  return y=%1\n}\n");
    let e = Session::new(&graph, device.clone()).err().expect("WebGPU's language has no bfloat16");
    assert!(e.contains("no bf16") && e.contains("--device"), "{e}");
}
}

/// A small GPT of awkward sizes, or a Llama, trained on this project's own text.
fn trainer(model: &Model, device: &Device, steps: u64) -> Trainer {
    let tokenizer = Tokenizer::of(Kind::Char, OWN_TEXT).unwrap();
    let train = TrainConfig {
        steps,
        batch: 4,
        context: 32,
        warmup: 20.0_f64.min(steps as f64),
        lr: 3e-3,
        eval_every: 10_000,
        save_every: 10_000,
        ..TrainConfig::default()
    };
    let config = Config { train, ..Config::of(model.with_vocabulary(tokenizer.size()).unwrap()) };
    Trainer::new(config, tokenizer.encode(OWN_TEXT).unwrap(), device.clone()).unwrap()
}

fn small_gpt() -> Model {
    Model::from(models::Gpt { vocab_size: 0, n_positions: 32, n_layer: 2, n_head: 2, n_embd: 36, dropout: 0.1, ..models::Gpt::default() })
}

fn small_llama() -> Model {
    let llama = models::Llama {
        vocab_size: 0,
        max_position_embeddings: 32,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        hidden_size: 32,
        intermediate_size: 60,
        ..models::Llama::default()
    };
    Model::from(llama)
}

#[test]
fn devices_that_are_not_there() {
    let wgpu = if cfg!(feature = "wgpu") { "there is no device" } else { "--features wgpu" };
    for (name, says) in [("tpu", "there is no device tpu"), ("cpu:1", "there is no device"), ("wgpu:9", wgpu)] {
        let e = Device::open(name, 1).err().expect("there is no such device");
        assert!(e.contains(says), "{e}");
    }
}
