//! What each toolchain says of every kernel's text: naga of WGSL, NVRTC of CUDA C++. Only what they accept is kept as a snapshot.

use crate::gpu::{HOPPER, TARGETS, TENSOR, grouped_programs, programs, read, tensor_attention, tensor_programs};
use codegen::gpu::{BINDING, Dialect, Source};
use codegen::{Gpu, Program, Target};
use ir::Graph;
use models::Model;
#[cfg(feature = "cuda")]
use {
    crate::ptx::{self, Landing, Launch},
    crate::running::by_kernel,
};

/// Every kernel of a program for a device.
fn sources(graph: &Graph, target: &Target, dialect: Dialect) -> Vec<(String, Source)> {
    let program = Program::new(graph, target);
    let offsets = program.aligned(BINDING);
    let each = |(i, k): (usize, &codegen::Kernel)| (k.name.clone(), Source::new(k, &offsets[i].iter().map(|a| !a).collect::<Vec<_>>(), dialect));
    program.kernels.iter().enumerate().map(each).collect()
}

/// The training steps of both models, small but in every kind of kernel as the large ones.
fn training_steps() -> Vec<(&'static str, Graph)> {
    training_steps_in(llm::Precision::F32)
}

fn training_steps_in(precision: llm::Precision) -> Vec<(&'static str, Graph)> {
    let gpt =
        Model::from(models::Gpt { vocab_size: 512, n_positions: 64, n_layer: 2, n_head: 4, n_embd: 128, dropout: 0.1, ..models::Gpt::default() });
    let llama = Model::from(models::Llama {
        vocab_size: 512,
        max_position_embeddings: 64,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        hidden_size: 128,
        intermediate_size: 344,
        ..models::Llama::default()
    });
    let step = |model: &Model| {
        let train = llm::TrainConfig { batch: 2, context: 64, precision, ..llm::TrainConfig::default() };
        let config = llm::Config { train, ..llm::Config::of(model.clone()) };
        let options = passes::Options { precision: precision.dtype(), ..passes::Options::default() };
        llm::step_program(&config, &options).unwrap().whole
    };
    vec![("gpt", step(&gpt)), ("llama", step(&llama))]
}

fn all(dialect: Dialect) -> Vec<(String, Source)> {
    let of = |(name, graph): (String, Graph)| {
        let prefix = move |(k, s): (String, Source)| (format!("{name}: {k}"), s);
        TARGETS.iter().flat_map(|t| sources(&graph, t, dialect)).map(prefix).collect::<Vec<_>>()
    };
    // WebGPU's language has no bfloat16
    let said = |t: &str| dialect == Dialect::Cuda || !t.contains("bf16");
    let templates = programs().into_iter().filter(|(_, t)| said(t)).map(|(n, t)| (n, read(&t)));
    let steps = training_steps().into_iter().map(|(n, g)| (n.to_string(), g));
    templates.chain(steps).flat_map(of).collect()
}

#[cfg(feature = "wgpu")]
pub fn naga(text: &str) -> Result<(), String> {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    Validator::new(ValidationFlags::all(), Capabilities::default() | Capabilities::SHADER_FLOAT16)
        .validate(&module)
        .map(drop)
        .map_err(|e| e.emit_to_string(text))
}

#[cfg(feature = "wgpu")]
#[test]
fn naga_accepts_every_kernel() {
    for (name, source) in all(Dialect::Wgsl) {
        let text = source.text().unwrap_or_else(|e| panic!("{name}: {e}"));
        naga(&text).unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
    }
    assert!(naga("fn f() { let x = y; }").is_err(), "a text that is wrong is refused");
}

/// Compiled by threads as many as there are; equal texts once.
#[cfg(feature = "cuda")]
#[test]
fn nvrtc_accepts_every_kernel() {
    use std::collections::{BTreeMap, BTreeSet};
    if !crate::nvrtc::present() {
        return;
    }
    let steps = training_steps().into_iter().flat_map(|(n, g)| {
        TARGETS.iter().flat_map(move |t| sources(&g, t, Dialect::Cuda)).map(move |(k, s)| (format!("{n}: {k}"), s)).collect::<Vec<_>>()
    });
    // of the templates' programs, one in each shape of tile
    let templates = programs()
        .into_iter()
        .step_by(5)
        .flat_map(|(n, t)| sources(&read(&t), &TARGETS[1], Dialect::Cuda).into_iter().map(move |(k, s)| (format!("{n}: {k}"), s)));
    let products = tensor_programs()
        .into_iter()
        .chain(tensor_attention())
        .flat_map(|t| TENSOR.iter().flat_map(move |g| sources(&read(&t), g, Dialect::Cuda)).collect::<Vec<_>>());
    let grouped = grouped_programs().into_iter().flat_map(|t| sources(&read(&t), &HOPPER, Dialect::Cuda));
    let texts: BTreeMap<String, String> =
        steps.chain(templates).chain(products).chain(grouped).map(|(name, s)| (s.text().unwrap_or_else(|e| panic!("{name}: {e}")), name)).collect();
    let texts: Vec<(&String, &String)> = texts.iter().collect();
    std::thread::scope(|s| {
        for half in 0..2 {
            let texts = &texts;
            s.spawn(move || {
                for (text, name) in texts.iter().skip(half).step_by(2) {
                    for architecture in BTreeSet::from([architecture(text), "sm_90a"]) {
                        let made = crate::nvrtc::compile(text, architecture).unwrap_or_else(|e| panic!("{name} for {architecture}: {e}\n{text}"));
                        assert!(made.cubin.len() > 1000 && made.ptx.contains(".entry"), "{name}: machine code");
                    }
                }
            });
        }
    });
    assert!(crate::nvrtc::compile("__global__ void f() { x = 1; }", "sm_90a").is_err(), "a text that is wrong is refused");
}

const SNAPSHOT: Target = Target::Gpu(Gpu { processors: 100, shared: 16 << 10, tensor: false, hopper: false });

/// Graph, spec, kernel and both texts of each template in one file.
#[cfg(all(feature = "wgpu", feature = "cuda"))]
#[test]
fn templates_as_text() {
    let cases = [
        ("map", "main(%0 x: f32[6,12], %1 b: f32[12]) {\n  %2 = add %0, %1 : f32[6,12]\n  %3 = gelu %2 : f32[6,12]\n  return y=%3\n}\n"),
        ("rows", "main(%0 x: f32[6,12]) {\n  %1 = softmax %0 : f32[6,12]\n  return y=%1\n}\n"),
        ("cols", "main(%0 x: f32[60,12]) {\n  %1 = sum[-2] %0 : f32[1,12]\n  return y=%1\n}\n"),
        (
            "contract",
            "main(%0 a: f32[70,20], %1 b: f32[20,32], %2 c: f32[32]) {\n  %3 = contract[ac,cb->ab] %0, %1 : f32[70,32]\n  %4 = add %3, %2 : f32[70,32]\n  return y=%4\n}\n",
        ),
        (
            "attention",
            "main(%0 q: f32[1,5,2,4], %1 k: f32[1,5,1,4], %2 v: f32[1,5,1,4]) {\n  %3 = attention[acbe,adbe,adbf->acbf|4|causal|bx2] %0, %1, %2, 0.5 : (f32[1,5,2,4],f32[1,2,5])\n  %4 = get[0] %3 : f32[1,5,2,4]\n  return y=%4\n}\n",
        ),
        (
            "attention_bwd",
            "main(%0 q: f32[1,3,1,4], %1 k: f32[1,3,1,4], %2 v: f32[1,3,1,4], %3 o: f32[1,3,1,4], %4 l: f32[1,1,3], %5 g: f32[1,3,1,4]) {\n  %6 = attention_bwd[acbe,adbe,adbf->acbf|4|causal] %0, %1, %2, %3, %4, %5, 0.5 : (f32[1,3,1,4],f32[1,3,1,4],f32[1,3,1,4])\n  %7 = get[0] %6 : f32[1,3,1,4]\n  %8 = get[1] %6 : f32[1,3,1,4]\n  %9 = get[2] %6 : f32[1,3,1,4]\n  return dq=%7, dk=%8, dv=%9\n}\n",
        ),
        (
            "gather_scatter",
            "main(%0 table: f32[9,6], %1 index: i32[4]) {\n  %2 = gather %0, %1 : f32[4,6]\n  %3 = scatter_add %0, %1, %2 : f32[9,6]\n  return y=%2, z=%3\n}\n",
        ),
    ];
    for (name, text) in cases {
        let graph = read(text);
        let program = Program::new(&graph, &SNAPSHOT);
        let mut out = format!("----- IR\n{graph}");
        let [wgsl, cuda] = [Dialect::Wgsl, Dialect::Cuda].map(|d| sources(&graph, &SNAPSHOT, d));
        for (i, (spec, kernel)) in program.specs.iter().zip(&program.kernels).enumerate() {
            let (wgsl, cuda) = (wgsl[i].1.text().unwrap(), cuda[i].1.text().unwrap());
            naga(&wgsl).unwrap_or_else(|e| panic!("{name}: {e}\n{wgsl}"));
            if crate::nvrtc::present() {
                crate::nvrtc::compile(&cuda, "sm_90a").unwrap_or_else(|e| panic!("{name}: {e}\n{cuda}"));
            }
            out += &format!("\n----- spec\n{spec}\n----- kernel\n{kernel}\n----- WGSL\n{wgsl}\n----- CUDA\n{cuda}\n");
        }
        insta::assert_snapshot!(format!("gpu.{name}"), out);
    }
}

/// The kernels for tensor cores, as CUDA alone has them.
#[cfg(feature = "cuda")]
#[test]
fn tensor_cores_as_text() {
    let contract = "main(%0 x: f32[32,32], %1 w: f32[32,32], %2 b: f32[32]) {\n  %3 = cast[bf16] %0 : bf16[32,32]\n  %4 = cast[bf16] %1 : bf16[32,32]\n  %5 = contract[ac,cb->ab] %3, %4 : f32[32,32]\n  %6 = add %5, %2 : f32[32,32]\n  return y=%6\n}\n";
    let attention = "main(%0 q: f32[1,16,1,16]) {\n  %1 = cast[bf16] %0 : bf16[1,16,1,16]\n  %2 = attention[acbe,adbe,adbf->acbf|4|causal] %1, %1, %1, 0.25 : (bf16[1,16,1,16],f32[1,1,16])\n  %3 = get[0] %2 : bf16[1,16,1,16]\n  %4 = cast[f32] %3 : f32[1,16,1,16]\n  return y=%4\n}\n";
    for (name, text, target) in [("tensor_contract", contract, TENSOR[2]), ("tensor_attention", attention, TENSOR[0])] {
        let graph = read(text);
        let program = Program::new(&graph, &target);
        let at = program.kernels.iter().position(|k| k.name.contains("_tensor")).expect("a kernel is on tensor cores");
        let cuda = sources(&graph, &target, Dialect::Cuda)[at].1.text().unwrap();
        if crate::nvrtc::present() {
            crate::nvrtc::compile(&cuda, "sm_80").unwrap_or_else(|e| panic!("{name}: {e}\n{cuda}"));
        }
        let (spec, kernel) = (&program.specs[at], &program.kernels[at]);
        insta::assert_snapshot!(
            format!("gpu.{name}"),
            format!("----- IR\n{graph}\n----- spec\n{spec}\n----- kernel\n{kernel}\n----- CUDA\n{cuda}\n")
        );
    }
}

/// No kernel is given one place as two operands of which it writes one: compilers take it that operands do not overlap.
#[test]
fn operands_do_not_overlap() {
    for (name, graph) in training_steps() {
        let program = Program::new(&graph, &SNAPSHOT);
        for call in program.calls() {
            let params = &program.specs[call.kernel].params;
            if program.specs[call.kernel].name().starts_with("attention") {
                // heads of one buffer lie between one another
                continue;
            }
            for (i, a) in call.args.iter().enumerate() {
                for (j, b) in call.args.iter().enumerate().filter(|(j, _)| *j != i && params[*j].written) {
                    let apart = a.region != b.region || a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
                    assert!(apart, "{name}: {} has operands {i} and {j} in one place", program.kernels[call.kernel].name);
                }
            }
        }
    }
}

/// The oldest architecture that has what a text asks for.
#[cfg(feature = "cuda")]
fn architecture(text: &str) -> &'static str {
    if text.contains("wgmma") { "sm_90a" } else { "sm_80" }
}

/// Runs a program by the PTX of each of its kernels, after `edit` has had its way with it.
#[cfg(feature = "cuda")]
fn by_ptx(graph: &Graph, env: &ir::Env, target: &Target, how: (Landing, bool), edit: &mut dyn FnMut(String) -> String) -> Vec<ir::Value> {
    by_kernel(graph, env, target, &mut |kernel, buffers| {
        if kernel.units == 0 {
            return;
        }
        let text = Source::new(kernel, &vec![false; kernel.params.len()], Dialect::Cuda).text().unwrap();
        let made = crate::nvrtc::compile(&text, architecture(&text)).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let program = ptx::Program::parse(&edit(made.ptx));
        let shared = kernel.shared_bytes().next_multiple_of(16) + 16 * kernel.shared.len();
        let launch = &mut Launch { buffers, grid: (kernel.units, 1), threads: kernel.cube.unwrap(), shared, landing: how.0, reverse: how.1 };
        ptx::run(&program, launch);
    })
}

/// The numbers of what NVRTC makes of our kernels: products on tensor cores in every layout, whenever copies land and whichever plane
/// goes first; and one of each other template.
#[cfg(feature = "cuda")]
#[test]
fn kernels_as_nvrtc_compiles_them_are_as_evaluated() {
    if !crate::nvrtc::present() {
        return;
    }
    let products = tensor_programs().into_iter().enumerate().map(|(i, t)| (t, TENSOR[i % TENSOR.len()]));
    let others = programs().into_iter().step_by(3).map(|(_, t)| (t, TARGETS[1]));
    let attention = tensor_attention().into_iter().map(|t| (t, TENSOR[0]));
    let grouped = grouped_programs().into_iter().map(|t| (t, HOPPER));
    for (i, (text, target)) in products.chain(grouped).chain(attention).chain(others).enumerate() {
        let graph = read(&text);
        let env = crate::common::environment(&graph, i as u32, 3);
        let want = ir::eval(&graph, &env).unwrap();
        let how = [(Landing::Late, false), (Landing::Late, true), (Landing::Early, false)][i % 3];
        for (output, have) in graph.outputs.iter().zip(by_ptx(&graph, &env, &target, how, &mut |p| p)) {
            let d = if output == "z" && text.contains("tanh") { 0.0 } else { crate::gpu::error(&have, &want[output]) };
            assert!(d < crate::gpu::tolerance(&text), "{output} differs by {d}, {how:?}\n{text}");
        }
    }
}

/// A wait or a barrier that is taken out of the PTX changes the numbers.
#[cfg(feature = "cuda")]
#[test]
fn a_removed_wait_or_barrier_in_ptx_is_caught() {
    if !crate::nvrtc::present() {
        return;
    }
    let text = crate::gpu::product("mk", "kn", "mn", [72, 80, 200], "bf16");
    let graph = read(&text);
    let env = crate::common::environment(&graph, 1, 3);
    let want = &ir::eval(&graph, &env).unwrap()["y"];
    let off = |reverse: bool, edit: &mut dyn FnMut(String) -> String| {
        crate::gpu::error(&by_ptx(&graph, &env, &TENSOR[2], (Landing::Late, reverse), edit)[0], want)
    };
    assert!(off(false, &mut |p| p) < 1e-5);
    let mut changed = false;
    let mut without = |what: &str, p: String| {
        let out: Vec<&str> = p.lines().filter(|l| !l.contains(what)).collect();
        changed |= out.len() < p.lines().count();
        out.join("\n")
    };
    let waits = off(false, &mut |p| without("cp.async.wait_group", p));
    assert!(waits.is_nan() || waits > 0.01, "no wait: {waits}");
    let barriers = [false, true].map(|reverse| off(reverse, &mut |p| without("bar.sync", p)));
    assert!(barriers.iter().any(|d| d.is_nan() || *d > 0.01), "no barrier: {barriers:?}");
    assert!(changed);
}

/// Both models' training steps in both precisions, launched on a device that compiles and runs nothing: every launch has a text, and
/// NVRTC accepts it.
#[cfg(feature = "cuda")]
#[test]
fn a_compile_only_device_compiles_every_launch() {
    use codegen::gpu::{compile_only, take_launched};
    use std::collections::BTreeSet;
    let device = runtime::Device::Gpu(std::sync::Arc::new(compile_only()));
    let mut texts = BTreeSet::new();
    for precision in [llm::Precision::F32, llm::Precision::Bf16] {
        for (name, graph) in training_steps_in(precision) {
            let mut session = runtime::Session::new(&graph, device.clone()).unwrap();
            take_launched();
            session.run().unwrap();
            let launched = take_launched();
            let program = session.program();
            let calls: Vec<_> = program.calls().into_iter().filter(|c| program.kernels[c.kernel].units > 0).collect();
            assert_eq!(launched.len(), calls.len(), "{name}: every call is a launch");
            for (l, c) in launched.into_iter().zip(calls) {
                assert_eq!(l.buffers, program.kernels[c.kernel].params.len(), "{name}: {}", l.kernel);
                texts.insert(l.text.unwrap_or_else(|e| panic!("{name}: {e}")));
            }
            let tensor = program.kernels.iter().filter(|k| k.name.contains("_tensor")).count();
            assert_eq!(tensor > 0, precision == llm::Precision::Bf16, "{name}: tensor cores are for 16 bits");
        }
    }
    if crate::nvrtc::present() {
        for text in texts {
            crate::nvrtc::compile(&text, "sm_90a").unwrap_or_else(|e| panic!("{e}\n{text}"));
        }
    }
}
