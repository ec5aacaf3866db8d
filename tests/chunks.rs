//! Prompts read in chunks, and rows at once: the same as one token after the other, and as the whole sequence without what is kept.

use ir::{Env, Value, eval};
use llm::{Generator, Sampling, bound};
use models::{Deepseek, Gpt, Llama, Mixtral, Model};
use passes::{Goal, Options, compile};
use runtime::{Pool, Session};
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;

const CONTEXT: usize = 44;

fn gpt() -> Model {
    Model::from(Gpt { vocab_size: 11, n_positions: CONTEXT, n_layer: 2, n_head: 2, n_embd: 8, ..Gpt::default() })
}

fn llama() -> Model {
    Model::from(Llama {
        vocab_size: 13,
        max_position_embeddings: CONTEXT,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        hidden_size: 16,
        intermediate_size: 10,
        ..Llama::default()
    })
}

fn mixtral() -> Model {
    Model::from(Mixtral {
        vocab_size: 13,
        max_position_embeddings: CONTEXT,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        hidden_size: 16,
        intermediate_size: 10,
        num_experts: 4,
        ..Mixtral::default()
    })
}

/// It keeps a latent, which queries meet in another form than keys are made of it.
fn deepseek() -> Model {
    Model::from(Deepseek {
        vocab_size: 13,
        max_position_embeddings: CONTEXT,
        num_hidden_layers: 3,
        num_attention_heads: 2,
        hidden_size: 16,
        intermediate_size: 10,
        moe_intermediate_size: 6,
        n_routed_experts: 4,
        num_experts_per_tok: 2,
        kv_lora_rank: 6,
        qk_nope_head_dim: 4,
        qk_rope_head_dim: 2,
        v_head_dim: 3,
        q_lora_rank: 5,
        ..Deepseek::default()
    })
}

/// Weights large enough that what was read matters.
fn fill(session: &mut Session, model: &Model, by: f32) {
    llm::initialise(session, model, 5).unwrap();
    let names: Vec<String> = session.params().map(|p| p.0.to_string()).filter(|n| !n.starts_with("past.") && n.ends_with("weight")).collect();
    for name in names {
        let bytes = session.param(&name).unwrap();
        let large: Vec<u8> = bytes.chunks(4).flat_map(|b| (by * f32::from_le_bytes(b.try_into().unwrap())).to_le_bytes()).collect();
        session.set_param(&name, &large).unwrap();
    }
}

fn rows(model: &Model, rows: usize, chunks: &[usize]) -> Generator {
    let mut g = Generator::batched(model, Arc::new(Pool::new(2)), &Options::default(), rows).unwrap();
    fill(g.session_mut(), model, 8.0);
    g.set_chunks(chunks).unwrap();
    g
}

fn tokens(model: &Model, n: usize, seed: u64) -> Vec<i32> {
    (0..n as u64).map(|i| (llm::random(seed, i) % model.vocab_size() as u64) as i32).collect()
}

/// The logits after each token of a sequence, by evaluation of the whole program.
fn whole(model: &Model, weights: &Session, text: &[i32]) -> Vec<Vec<f64>> {
    let graph = bound(model, 1, text.len()).unwrap().keep_outputs(&["logits"]);
    let value = |bytes: Vec<u8>| bytes.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect();
    let param = |(n, t): (ir::Name, ir::Type)| (n.to_string(), Value::new(t.sizes(), value(weights.param(&n).unwrap())));
    let mut env: Env = graph.params().into_iter().map(param).collect();
    env.insert("input_ids".into(), Value::new(vec![1, text.len()], text.iter().map(|t| f64::from(*t)).collect()));
    env.insert("labels".into(), Value::new(vec![1, text.len()], vec![0.0; text.len()]));
    eval(&graph, &env).unwrap().remove("logits").unwrap().data.chunks(model.vocab_size()).map(<[f64]>::to_vec).collect()
}

/// The same as the whole program runs, with nothing kept.
fn uncached(model: &Model, weights: &Session, text: &[i32]) -> Vec<Vec<f64>> {
    let graph = bound(model, 1, text.len()).unwrap().keep_outputs(&["logits"]);
    let program = compile(&graph, Goal::Results, &Options::default()).unwrap();
    let mut session = Session::sharing(program.last(), Arc::new(Pool::new(2)), None, weights).unwrap();
    session.set_i32("input_ids", text).unwrap();
    session.run().unwrap();
    let n = model.vocab_size();
    session.output("logits").unwrap().f32s()[..n * text.len()].chunks(n).map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect()
}

/// Sums in another order, through two layers of large weights: some ulps of the largest.
fn near(have: &[f32], want: &[f64], what: &str) {
    let scale = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let worst = have.iter().zip(want).map(|(h, w)| (f64::from(*h) - w).abs()).fold(0.0, f64::max);
    assert!(have.len() == want.len() && worst < 1e-4 * scale, "{what}: off by {worst} at scale {scale}");
}

/// Prompts of every length, in chunks of every kind: exact at the seams, filled up at the end.
#[test]
fn chunks_read_as_the_whole() {
    for model in [gpt(), llama(), mixtral(), deepseek()] {
        let text = tokens(&model, 40, 1);
        for chunks in [&[1][..], &[1, 4], &[1, 3, 8], &[1, 16], &[1, 50], &[1, 16, 256]] {
            let mut g = rows(&model, 1, chunks);
            let (want, have) = (whole(&model, g.session(), &text), uncached(&model, g.session(), &text));
            for n in 1..=40 {
                g.forget();
                let logits = g.read_all(&text[..n]).unwrap();
                near(logits, &want[n - 1], &format!("{} {n} tokens in {chunks:?}", model.name()));
                near(logits, &have[n - 1], &format!("{} {n} tokens in {chunks:?}, as the whole runs", model.name()));
            }
        }
    }
}

/// Chunks at an offset: after single tokens, after one another, in any pieces.
#[test]
fn chunks_go_on_where_the_last_ended() {
    for model in [gpt(), llama()] {
        let text = tokens(&model, 40, 2);
        let mut g = rows(&model, 1, &[1, 3, 8]);
        let want = whole(&model, g.session(), &text);
        for pieces in [&[1, 8, 1, 3, 9][..], &[2, 2, 2, 20], &[5, 1, 1, 1, 7, 11], &[0, 1, 0, 39]] {
            g.forget();
            let mut at = 0;
            for n in pieces {
                at += n;
                let logits = g.read_all(&text[at - n..at]).unwrap();
                if at > 0 {
                    near(logits, &want[at - 1], &format!("{} {pieces:?}", model.name()));
                }
            }
        }
    }
}

/// When the context is full its later half is read again, in chunks as one by one: what is seen is what a window of the text would be.
#[test]
fn a_full_context_is_read_again_in_chunks() {
    for model in [gpt(), llama()] {
        let text = tokens(&model, 3 * CONTEXT, 3);
        let mut g = rows(&model, 1, &[1, 3, 8]);
        for piece in [1, 7, 30, 50, 100] {
            g.forget();
            let mut window: Vec<i32> = vec![];
            for part in text.chunks(piece) {
                for t in part {
                    if window.len() == CONTEXT {
                        window.drain(..CONTEXT - CONTEXT / 2);
                    }
                    window.push(*t);
                }
                let last = g.read_all(part).unwrap().to_vec();
                if piece > 7 || window.len().is_multiple_of(9) {
                    let want = whole(&model, g.session(), &window);
                    near(&last, want.last().unwrap(), &format!("{} in pieces of {piece}, {} seen", model.name(), window.len()));
                }
            }
        }
    }
}

/// Rows of different lengths, each at its own position: each as alone; and no bit of one depends on what stands in another.
#[test]
fn rows_are_as_alone() {
    for model in [gpt(), llama(), mixtral(), deepseek()] {
        let texts: Vec<Vec<i32>> = [5, 1, 40, 17].iter().map(|n| tokens(&model, *n, *n as u64)).collect();
        let mut g = rows(&model, 4, &[1, 3, 8]);
        let read = |g: &mut Generator, texts: &[Vec<i32>]| g.read_rows(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        read(&mut g, &texts);
        let mut all = texts.clone();
        // some rows go on, some do not
        for further in [[0, 2, 0, 1], [1, 1, 1, 1], [0, 0, 6, 0], [9, 0, 1, 3]] {
            let next: Vec<Vec<i32>> = further.iter().map(|n| tokens(&model, *n, 77)).collect();
            all.iter_mut().zip(&next).for_each(|(a, n)| a.extend(n));
            read(&mut g, &next);
            for (row, text) in all.iter().enumerate().filter(|(_, t)| t.len() <= CONTEXT) {
                let want = whole(&model, g.session(), text);
                near(g.logits(row), want.last().unwrap(), &format!("{} row {row} of {further:?}", model.name()));
            }
        }
        let logits = |g: &mut Generator, other: &[i32]| {
            g.forget();
            g.read_rows(&[other, &texts[3], other, other]).unwrap();
            g.logits(1).to_vec()
        };
        assert_eq!(logits(&mut g, &texts[0]), logits(&mut g, &tokens(&model, 5, 99)), "{}", model.name());
    }
}

/// What several rows write is what each would alone, whenever others end.
#[test]
fn rows_write_as_alone() {
    for model in [gpt(), llama()] {
        let prompts: Vec<Vec<i32>> = [3, 20, 60].iter().map(|n| tokens(&model, *n, *n as u64)).collect();
        let sampling = |seed: u64| Sampling { temperature: 0.7, top_p: 0.95, repetition_penalty: 1.1, seed, ..Sampling::default() };
        let texts: Vec<(&[i32], Sampling)> = prompts.iter().enumerate().map(|(i, p)| (&p[..], sampling(i as u64))).collect();
        let mut alone = rows(&model, 1, &[1, 8]);
        let want: Vec<Vec<i32>> = texts.iter().map(|(p, s)| alone.generate(p, 30, s, &mut |_| Ok(Continue(()))).unwrap()).collect();
        assert!(want[0] != want[1] && want.iter().all(|w| w.len() == 30));
        let mut g = rows(&model, 3, &[1, 8]);
        let mut shown = vec![vec![]; 3];
        let out = g
            .generate_rows(&texts, 30, &mut |c| {
                shown[c.row].push(c.token);
                // the second ends early
                Ok(if c.row == 1 && shown[1].len() == 4 { Break(()) } else { Continue(()) })
            })
            .unwrap();
        assert_eq!(out, shown);
        assert_eq!((&out[0], &out[1][..], &out[2]), (&want[0], &want[1][..4], &want[2]), "{}", model.name());
    }
}

/// Plainly: at each token the likeliest of all continuations of all beams, by the whole program.
fn plain_beams(model: &Model, weights: &Session, prompt: &[i32], n: usize, width: usize) -> Vec<(Vec<i32>, f64)> {
    let mut beams: Vec<(Vec<i32>, f64)> = vec![(vec![], 0.0)];
    for _ in 0..n {
        let mut all = vec![];
        for (tokens, p) in &beams {
            let text: Vec<i32> = prompt.iter().chain(tokens).copied().collect();
            let logits = whole(model, weights, &text).pop().unwrap();
            let sum = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
            all.extend(logits.iter().enumerate().map(|(t, x)| (tokens.iter().copied().chain([t as i32]).collect::<Vec<i32>>(), p + x - sum)));
        }
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(width);
        beams = all;
    }
    beams
}

/// The beams of any width are those of plain search; all of them where every one is kept; the likeliest token where one is.
#[test]
fn beams_are_those_of_plain_search() {
    for model in [gpt(), llama()] {
        let prompt = tokens(&model, 9, 8);
        for (width, n) in [(1, 6), (2, 7), (5, 6), (model.vocab_size(), 2), (200, 2)] {
            let mut g = rows(&model, width, &[1, 8]);
            let have = g.beams(&prompt, n).unwrap();
            let want = plain_beams(&model, g.session(), &prompt, n, width);
            assert_eq!(have.len(), want.len().min(width));
            for (h, w) in have.iter().zip(&want) {
                assert!((h.log_probability - w.1).abs() < 1e-3, "{} {width} beams: {h:?} and {w:?}", model.name());
            }
            // what is nearly as likely may stand in another order
            assert_eq!(have[0].tokens, want[0].0, "{} {width} beams", model.name());
            assert_eq!(g.beams(&prompt, n).unwrap(), have, "what was read before is forgotten");
            assert!(have.windows(2).all(|w| w[0].log_probability >= w[1].log_probability && w[0].tokens != w[1].tokens));
        }
        let mut one = rows(&model, 1, &[1, 8]);
        let greedy = one.generate(&prompt, 12, &Sampling::greedy(), &mut |_| Ok(Continue(()))).unwrap();
        assert_eq!(one.beams(&prompt, 12).unwrap()[0].tokens, greedy);
        assert!(one.beams(&[], 3).is_err() && one.beams(&prompt, 0).unwrap()[0].tokens.is_empty());
    }
}

/// Rows that go on from others, more than once, past a full context; and orders that are none.
#[test]
fn rows_change_places() {
    let model = llama();
    let mut texts: Vec<Vec<i32>> = [5, 30, 1].iter().map(|n| tokens(&model, *n, *n as u64)).collect();
    let mut g = rows(&model, 3, &[1, 8]);
    g.read_rows(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    for from in [[1, 0, 2], [0, 1, 2], [2, 2, 0], [1, 1, 1], [2, 0, 1]] {
        g.reorder(&from).unwrap();
        texts = from.iter().map(|r| texts[*r].clone()).collect();
        for row in 0..3 {
            near(g.logits(row), whole(&model, g.session(), &texts[row]).last().unwrap(), &format!("{from:?}, row {row}"));
        }
        let next = tokens(&model, 3, 55);
        texts.iter_mut().enumerate().for_each(|(row, t)| t.push(next[row]));
        g.read_rows(&[&next[..1], &next[1..2], &next[2..]]).unwrap();
        for row in 0..3 {
            near(g.logits(row), whole(&model, g.session(), &texts[row]).last().unwrap(), &format!("after {from:?}, row {row}"));
        }
    }
    for bad in [&[0, 1][..], &[0, 1, 3], &[0; 4]] {
        assert!(g.reorder(bad).unwrap_err().to_string().contains("a row for each of 3"), "{bad:?}");
    }
}

/// Programs for more tokens see weights that are set, or taken over, after they were made.
#[test]
fn weights_may_change_between_texts() {
    let model = gpt();
    let text = tokens(&model, 20, 4);
    let mut g = rows(&model, 1, &[1, 8]);
    let before = g.read_all(&text).unwrap().to_vec();
    fill(g.session_mut(), &model, 5.0);
    g.forget();
    let changed = g.read_all(&text).unwrap().to_vec();
    assert_ne!(before, changed);
    let want = whole(&model, g.session(), &text);
    near(&changed, want.last().unwrap(), "weights that were set");
    let other = rows(&model, 1, &[1]).session_mut().program().param_bytes();
    assert_eq!(other, g.session_mut().program().param_bytes());
    let mut from = rows(&model, 1, &[1]);
    g.session_mut().adopt_params(from.session_mut()).unwrap();
    g.forget();
    assert_eq!(g.read_all(&text).unwrap(), before, "weights of another session");
}

/// Large chunks first; one that is mostly full instead of many small ones, and a single token alone.
#[test]
fn chunks_cost_little() {
    let mut g = Generator::new(&gpt(), Arc::new(Pool::new(1))).unwrap();
    assert_eq!([0, 1, 2, 15, 16].map(|n| g.chunks(n)), [vec![], vec![1], vec![16], vec![16], vec![16]]);
    assert_eq!([17, 18, 100, 255].map(|n| g.chunks(n)), [vec![16, 1], vec![16, 16], vec![16; 7], vec![256]]);
    assert_eq!([256, 257, 512 + 31].map(|n| g.chunks(n)), [vec![256], vec![256, 1], vec![256, 256, 16, 16]]);
    g.set_chunks(&[1]).unwrap();
    assert_eq!(g.chunks(3), [1, 1, 1]);
    g.set_chunks(&[1, 3, 8]).unwrap();
    assert_eq!([3, 4, 22].map(|n| g.chunks(n)), [vec![3], vec![8], vec![8, 8, 8]]);
}

/// What is refused is refused before anything is read.
#[test]
fn bad_tokens_and_sizes_are_refused() {
    let model = gpt();
    let text = tokens(&model, 12, 5);
    let mut g = rows(&model, 1, &[1, 8]);
    let want = g.read_all(&text).unwrap().to_vec();
    g.forget();
    g.read_all(&text[..5]).unwrap();
    for bad in [-1, 11, i32::MAX, i32::MIN] {
        let error = g.read_all(&[1, 2, bad, 3]).unwrap_err().to_string();
        assert!(error.contains(&format!("no token {bad}")) && error.contains("0 to 10"), "{error}");
    }
    near(g.read_all(&text[5..]).unwrap(), &want.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(), "after refusals");
    for sizes in [&[][..], &[0, 1], &[2], &[1, 1], &[1, 8, 4]] {
        let error = g.set_chunks(sizes).unwrap_err().to_string();
        assert!(error.contains("rise from 1"), "{error}");
    }
    assert!(g.read_rows(&[&[1], &[2]]).unwrap_err().to_string().contains("2 texts for 1 rows"));
    assert!(Generator::batched(&model, Arc::new(Pool::new(1)), &Options::default(), 0).err().unwrap().to_string().contains("at least one"));
}

/// Where a budget has no room for the program of a large chunk, smaller ones read.
#[test]
fn a_budget_takes_small_chunks() {
    let model = gpt();
    let text = tokens(&model, 40, 6);
    let need = rows(&model, 1, &[1]).session_mut().program().bytes();
    let options = Options { budget: Some(need + 1000), ..Options::default() };
    let mut g = Generator::compiled(&model, Arc::new(Pool::new(1)), &options).unwrap();
    fill(g.session_mut(), &model, 8.0);
    g.set_chunks(&[1, 40]).unwrap();
    let logits = g.read_all(&text).unwrap().to_vec();
    near(&logits, whole(&model, g.session(), &text).last().unwrap(), "within the budget");
    let options = Options { budget: Some(need - 1), ..Options::default() };
    assert!(Generator::compiled(&model, Arc::new(Pool::new(1)), &options).err().unwrap().to_string().contains("--max-memory"));
}
