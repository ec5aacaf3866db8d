//! Snapshots: one block of each model at every stage, and each kernel template with the LLVM text LLVM's verifier has accepted.

use codegen::{Cpu, Program, Target, llvm};
use ir::Graph;
use ir::names::{LOSS, LOSS_SUM};
use llm::{Mode, Objective};
use models::{Gpt, Llama, Model};
use passes::{Opt, optimize};

fn block(name: &str, model: &Model) {
    let built = Objective::NextToken.graph(model, Mode::Train).unwrap();
    insta::assert_snapshot!(format!("{name}.built"), built);
    let graph = llm::bound(model, 2, 16).unwrap().keep_outputs(&LOSS);
    let stages = optimize(&graph, Some(LOSS_SUM), Opt::Egg).unwrap();
    insta::assert_snapshot!(format!("{name}.fused"), stages.fused);
    insta::assert_snapshot!(format!("{name}.grad"), stages.grad.unwrap());
    insta::assert_snapshot!(format!("{name}.joint"), stages.joint.unwrap());
}

#[test]
fn gpt_block() {
    block("gpt", &Model::from(Gpt { vocab_size: 50, n_positions: 16, n_layer: 1, n_head: 2, n_embd: 32, ..Gpt::default() }));
}

#[test]
fn llama_block() {
    let llama = Llama {
        vocab_size: 50,
        max_position_embeddings: 16,
        num_hidden_layers: 1,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        hidden_size: 32,
        intermediate_size: 40,
        ..Llama::default()
    };
    block("llama", &Model::from(llama));
}

/// A machine with short vectors, so that texts can be read.
const TARGET: Cpu = Cpu { lanes: 4, registers: 16, cache: 1 << 16, pairs: false };

#[track_caller]
fn kernels(name: &str, text: &str) {
    let graph: Graph = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    let program = Program::new(&graph, &Target::Cpu(TARGET));
    let mut out = format!("----- IR\n{graph}");
    for (spec, kernel) in program.specs.iter().zip(&program.kernels) {
        let llvm = llvm::text(kernel, &TARGET).expect("LLVM's verifier accepts it");
        out += &format!("\n----- spec\n{spec}\n----- kernel\n{kernel}\n----- LLVM\n{llvm}\n");
    }
    insta::assert_snapshot!(name, out);
}

#[test]
fn map() {
    kernels("map", "main(%0 x: f32[6,10], %1 b: f32[10]) {\n  %2 = add %0, %1 : f32[6,10]\n  %3 = gelu %2 : f32[6,10]\n  return y=%3\n}\n");
}

#[test]
fn rows() {
    kernels("rows", "main(%0 x: f32[6,10]) {\n  %1 = softmax %0 : f32[6,10]\n  return y=%1\n}\n");
}

#[test]
fn cols() {
    kernels("cols", "main(%0 x: f32[6,10]) {\n  %1 = sum[-2] %0 : f32[1,10]\n  return y=%1\n}\n");
}

#[test]
fn contract() {
    kernels(
        "contract",
        "main(%0 a: f32[7,5], %1 b: f32[5,10], %2 c: f32[10]) {\n  %3 = contract[ac,cb->ab] %0, %1 : f32[7,10]\n  %4 = add %3, %2 : f32[7,10]\n  return y=%4\n}\n",
    );
}

/// Products of `bfloat16` two at a time: of which there is an odd number, of operands that lie along their sum and of one that does not.
#[test]
fn contract_pairs() {
    let target = Target::Cpu(Cpu { pairs: true, ..TARGET });
    let mut out = String::new();
    for text in [
        "main(%0 a: bf16[40,5], %1 b: bf16[5,10]) {\n  %2 = contract[ac,cb->ab] %0, %1 : f32[40,10]\n  return y=%2\n}\n",
        "main(%0 a: bf16[6,40], %1 b: bf16[10,6]) {\n  %2 = contract[ca,bc->ab] %0, %1 : f32[40,10]\n  return y=%2\n}\n",
    ] {
        let graph: Graph = text.parse().unwrap();
        let program = Program::new(&graph, &target);
        program.kernels.iter().for_each(|kernel| out += &format!("----- IR\n{graph}\n----- kernel\n{kernel}\n"));
    }
    insta::assert_snapshot!("contract_pairs", out);
}

#[test]
fn attention() {
    kernels(
        "attention",
        "main(%0 q: f32[1,5,2,4], %1 k: f32[1,5,1,4], %2 v: f32[1,5,1,4]) {\n  %3 = attention[acbe,adbe,adbf->acbf|4|causal|bx2] %0, %1, %2, 0.5 : (f32[1,5,2,4],f32[1,2,5])\n  %4 = get[0] %3 : f32[1,5,2,4]\n  return y=%4\n}\n",
    );
}

#[test]
fn attention_backward() {
    kernels(
        "attention_bwd",
        "main(%0 q: f32[1,3,1,4], %1 k: f32[1,3,1,4], %2 v: f32[1,3,1,4], %3 o: f32[1,3,1,4], %4 l: f32[1,1,3], %5 g: f32[1,3,1,4]) {\n  %6 = attention_bwd[acbe,adbe,adbf->acbf|4|causal] %0, %1, %2, %3, %4, %5, 0.5 : (f32[1,3,1,4],f32[1,3,1,4],f32[1,3,1,4])\n  %7 = get[0] %6 : f32[1,3,1,4]\n  %8 = get[1] %6 : f32[1,3,1,4]\n  %9 = get[2] %6 : f32[1,3,1,4]\n  return dq=%7, dk=%8, dv=%9\n}\n",
    );
}

#[test]
fn gather_and_scatter() {
    kernels(
        "gather_scatter",
        "main(%0 table: f32[9,6], %1 index: i32[4]) {\n  %2 = gather %0, %1 : f32[4,6]\n  %3 = scatter_add %0, %1, %2 : f32[9,6]\n  return y=%2, z=%3\n}\n",
    );
}
