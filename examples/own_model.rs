//! A model of one's own: define it, look at what the compiler made of it, train 50 steps, write a sample.
//!
//! It is a small network that reads the last 8 characters and guesses the next (Bengio et al. 2003).

use eggcorn::ir::{Builder, DType, Scope, Tensor};
use eggcorn::llm::{Data, Kind, OWN_TEXT, Sampling, Tokenizer, sample};
use eggcorn::models::{Init, layers::cross_entropy};
use eggcorn::passes::{Opt, Optimizer, optimize, train_step};
use eggcorn::runtime::{Pool, Session};
use std::sync::Arc;

const CONTEXT: usize = 8;
const WIDTH: usize = 64;
const BATCH: usize = 128;

/// tanh(embed(x) W₁) W₂, for `ids` [B, 8]
fn logits<'g>(s: &Scope<'g>, ids: Tensor<'g>, vocab: usize) -> Tensor<'g> {
    let x = s.param("embed", [vocab, WIDTH]).gather(ids).reshape([BATCH, 1, CONTEXT * WIDTH]);
    let h = x.contract("btc,cd->btd", s.param("hidden", [CONTEXT * WIDTH, 4 * WIDTH])).tanh();
    h.contract("btc,cd->btd", s.param("out", [4 * WIDTH, vocab])) // [B, 1, V]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tokenizer = Tokenizer::of(Kind::Char, OWN_TEXT);
    let data = Data::split(tokenizer.encode(OWN_TEXT)?, 0.1, CONTEXT)?;
    let vocab = tokenizer.size();
    let b = Builder::default();
    let s = b.scope();
    let (ids, labels) = (s.input("ids", DType::I32, [BATCH, CONTEXT]), s.input("labels", DType::I32, [BATCH, 1]));
    let y = logits(&s, ids, vocab);
    b.output("logits", y);
    b.output("loss", cross_entropy(&s, y, labels));
    let graph = b.finish()?;

    let stages = optimize(&graph, Some("loss"), Opt::Egg)?;
    println!("{}", stages.fused);
    let mut session = Session::new(
        &train_step(
            &stages.joint.ok_or("a loss was named")?.keep_outputs(&["loss", "grad.embed", "grad.hidden", "grad.out"]),
            &Optimizer::default(),
        )?,
        Arc::new(Pool::new(2)),
    )?;
    for name in ["embed", "hidden", "out"] {
        Init::Normal(0.05).fill(1, name, session.param_mut(name).ok_or("declared above")?.f32s_mut());
    }
    for step in 0..50 {
        let batch = data.batch(1, step, BATCH, CONTEXT);
        let last: Vec<i32> = batch.labels.chunks(CONTEXT).map(|row| row[CONTEXT - 1]).collect();
        session.set_i32("ids", &batch.ids)?;
        session.set_i32("labels", &last)?;
        session.set_f32("lr", &[3e-3])?;
        session.set_f32("step", &[step as f32 + 1.0])?;
        session.run();
        if step % 10 == 9 {
            println!("step {}: loss {:.3}", step + 1, session.output("loss").ok_or("kept above")?.f32s()[0]);
        }
    }

    let mut forward = Session::new(optimize(&graph.keep_outputs(&["logits"]), None, Opt::Egg)?.last(), Arc::new(Pool::new(2)))?;
    forward.copy_params(&session);
    let mut text = tokenizer.encode("fn main(")?;
    for i in 0..80 {
        let mut window = text[text.len() - CONTEXT..].to_vec();
        window.resize(BATCH * CONTEXT, 0);
        forward.set_i32("ids", &window)?;
        forward.run();
        let row = &forward.output("logits").ok_or("kept above")?.f32s()[..vocab];
        text.push(sample(row, &Sampling { temperature: 0.7, top_k: 20, seed: 1 }, i));
    }
    println!("{}", tokenizer.decode(&text));
    Ok(())
}
