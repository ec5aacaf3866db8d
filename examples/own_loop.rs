//! A training loop of one's own: define a network, look at what the compiler made of it, train 50 steps, write a sample.
//!
//! It is a small network that reads the last 8 characters and guesses the next (Bengio et al. 2003).

use eggcorn::ir::names::{LOSS, LOSS_MEAN};
use eggcorn::ir::{Builder, DType, Graph, ModelErrors};
use eggcorn::llm::{Data, Kind, OWN_TEXT, Sampling, Tokenizer, sample};
use eggcorn::models::{Init, losses::cross_entropy};
use eggcorn::passes::{Goal, Options, Update, compile};
use eggcorn::runtime::{Pool, Session};
use std::sync::Arc;

const CONTEXT: usize = 8;
const BATCH: usize = 128;

/// tanh(embed(x) W₁) W₂, for `ids` [B, 8]
fn model(vocab: usize) -> Result<Graph, ModelErrors> {
    let b = Builder::default();
    let s = b.scope();
    let (ids, labels) = (s.input("ids", DType::I32, [BATCH, CONTEXT]), s.input("labels", DType::I32, [BATCH, 1]));
    let x = s.param("embed", [vocab, 64]).gather(ids).reshape([BATCH, 1, CONTEXT * 64]);
    let h = x.contract("btc,cd->btd", s.param("hidden", [CONTEXT * 64, 256])).tanh();
    let logits = h.contract("btc,cd->btd", s.param("out", [256, vocab])); // [B, 1, V]
    b.output("logits", logits);
    cross_entropy(&s, logits, labels).output(&b);
    b.finish()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tokenizer = Tokenizer::of(Kind::Char, OWN_TEXT).expect("it has characters");
    let data = Data::split(tokenizer.encode(OWN_TEXT)?, 0.1, CONTEXT)?;
    let (graph, pool) = (model(tokenizer.size())?, Arc::new(Pool::new(2)));
    let options = Options::default();
    let training = compile(&graph.keep_outputs(&LOSS), Goal::Step(&Update::default()), &options)?;
    println!("{}", training.fused);

    let mut session = Session::new(training.last(), pool.clone())?;
    for name in ["embed", "hidden", "out"] {
        session.fill_param(name, |values| Init::Normal(0.05).fill(1, name, values))?;
    }
    for step in 0..50 {
        let batch = data.batch(1, step, BATCH, CONTEXT)?;
        session.set_i32("ids", batch.i32s("input_ids"))?;
        session.set_i32("labels", &batch.i32s("labels").chunks(CONTEXT).map(|row| row[CONTEXT - 1]).collect::<Vec<_>>())?;
        session.set_f32("lr", &[3e-3])?;
        session.set_f32("step", &[step as f32 + 1.0])?;
        session.run()?;
        if step % 10 == 9 {
            println!("step {}: loss {:.3}", step + 1, session.output(LOSS_MEAN).ok_or("loss")?.f32s()[0]);
        }
    }

    let mut forward = Session::new(compile(&graph.keep_outputs(&["logits"]), Goal::Results, &options)?.last(), pool)?;
    forward.adopt_params(&session)?;
    let mut text = tokenizer.encode("fn main(")?;
    for i in 0..80 {
        let mut window = text[text.len() - CONTEXT..].to_vec();
        window.resize(BATCH * CONTEXT, 0); // the other rows are not read
        forward.set_i32("ids", &window)?;
        forward.run()?;
        let logits = &forward.output("logits").ok_or("logits")?.f32s()[..tokenizer.size()];
        text.push(sample(logits, &Sampling { temperature: 0.7, top_k: 20, ..Sampling::default() }, &text, i)?);
    }
    println!("{}", tokenizer.decode(&text));
    Ok(())
}
