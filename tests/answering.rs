//! Models that answer texts, compiled: rows with texts of their own, beams that end, what is refused.

use ir::{Env, Value, eval};
use llm::{Generator, Objective, Sampling, Search, Stopping, initialise};
use models::{Model, T5, Transformer};
use passes::{Options, State};
use runtime::Pool;
use std::ops::ControlFlow::Continue;
use std::sync::Arc;

fn t5() -> Model {
    let sizes =
        T5 { vocab_size: 13, n_positions: 40, num_layers: 2, num_decoder_layers: 2, num_heads: 2, d_model: 8, d_kv: 3, d_ff: 10, ..T5::default() };
    Model::from(T5 { relative_attention_num_buckets: 8, relative_attention_max_distance: 12, ..sizes })
}

fn transformer() -> Model {
    Model::from(Transformer {
        vocab_size: 13,
        max_position_embeddings: 40,
        encoder_layers: 2,
        decoder_layers: 2,
        encoder_attention_heads: 2,
        decoder_attention_heads: 2,
        d_model: 8,
        encoder_ffn_dim: 10,
        decoder_ffn_dim: 10,
        ..Transformer::default()
    })
}

/// A generator of so many rows, and its weights, large enough that what was read matters.
fn rows(model: &Model, rows: usize) -> (Generator, Env) {
    let mut g = Generator::batched(model, Arc::new(Pool::new(2)), &Options::default(), rows).unwrap();
    let mut weights = Env::new();
    for session in g.sessions_mut() {
        initialise(session, model, 5).unwrap();
        let params: Vec<_> = session.params().map(|(n, t)| (n.to_string(), t.clone())).filter(|p| State::parse(&p.0).is_parameter()).collect();
        for (name, ty) in params {
            let by = if name.contains("layer_norm") { 1.0 } else { 2.0 };
            let numbers: Vec<f32> = session.param(&name).unwrap().chunks(4).map(|b| by * f32::from_le_bytes(b.try_into().unwrap())).collect();
            // what both sessions have is one memory: it is filled anew, and only then made larger
            session.set_param(&name, &numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()).unwrap();
            weights.insert(name, Value::new(ty.sizes(), numbers.into_iter().map(f64::from).collect()));
        }
    }
    g.set_chunks(&[1, 3, 8]).unwrap();
    (g, weights)
}

/// The logits after each token of an answer, by evaluation of the whole program.
fn whole(model: &Model, weights: &Env, source: &[i32], answer: &[i32]) -> Vec<Vec<f64>> {
    let graph = Objective::Answer.results(model, &["input_ids", "decoder_input_ids"]).unwrap();
    let graph = graph
        .bind(&|name| {
            Some(match name {
                'B' => 1,
                'T' => answer.len(),
                _ => source.len(),
            } as u64)
        })
        .unwrap();
    let mut env = weights.clone();
    let ids = |tokens: &[i32]| Value::new(vec![1, tokens.len()], tokens.iter().map(|t| f64::from(*t)).collect());
    env.insert("input_ids".into(), ids(source));
    env.insert("decoder_input_ids".into(), ids(answer));
    eval(&graph, &env).unwrap()["logits"].data.chunks(model.vocab_size()).map(<[f64]>::to_vec).collect()
}

fn tokens(model: &Model, n: usize, seed: u64) -> Vec<i32> {
    (0..n as u64).map(|i| (llm::random(seed, i) % model.vocab_size() as u64) as i32).collect()
}

fn near(have: &[f32], want: &[f64], what: &str) {
    let scale = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let worst = have.iter().zip(want).map(|(h, w)| (f64::from(*h) - w).abs()).fold(0.0, f64::max);
    assert!(have.len() == want.len() && worst < 1e-4 * scale, "{what}: off by {worst} at scale {scale}");
}

/// Texts of every length up to all there is room for, longer and shorter after one another, each row with its own; answers in chunks.
#[test]
fn rows_answer_their_own_texts() {
    for model in [t5(), transformer()] {
        let (mut g, weights) = rows(&model, 2);
        let answer = tokens(&model, 9, 2);
        for lengths in [[5, 1], [16, 3], [17, 33], [40, 2], [1, 6]] {
            let texts = lengths.map(|n| tokens(&model, n, n as u64));
            g.answer(&[&texts[0], &texts[1]]).unwrap();
            for (first, last) in [(0, 4), (4, 5), (5, 9)] {
                g.read_rows(&[&answer[first..last], &answer[first..last]]).unwrap();
                for (row, text) in texts.iter().enumerate() {
                    let want = whole(&model, &weights, text, &answer[..last]);
                    near(g.logits(row), want.last().unwrap(), &format!("{} {lengths:?}, row {row}, {last} tokens", model.name()));
                }
            }
        }
        assert!(g.reorder(&[1, 0]).unwrap_err().to_string().contains("the same text"));
        let same = tokens(&model, 7, 3);
        g.answer(&[&same, &same]).unwrap();
        g.read_rows(&[&answer[..3], &answer[3..5]]).unwrap();
        g.reorder(&[1, 1]).unwrap();
        near(g.logits(0), whole(&model, &weights, &same, &answer[3..5]).last().unwrap(), "a row that goes on from another");
    }
}

#[test]
fn what_cannot_be_answered() {
    let (mut g, _) = rows(&t5(), 1);
    let fails = |made: llm::Result<()>, word: &str| {
        let error = made.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    fails(g.read(1).map(|_| ()), "none was given");
    fails(g.answer(&[&[]]), "1 to 40 tokens");
    fails(g.answer(&[&[1; 41]]), "is one of 41");
    fails(g.answer(&[&[13]]), "no token 13");
    fails(g.answer(&[&[1], &[2]]), "2 texts for 1 rows");
    g.answer(&[&[1, 2]]).unwrap();
    assert!(g.read(1).is_ok());
    // weights that are changed ask for the text again
    drop(g.sessions_mut());
    fails(g.read(1).map(|_| ()), "none was given");
    let bert = Model::from(models::Bert { num_hidden_layers: 1, ..models::Bert::default() });
    let made = Generator::new(&bert, Arc::new(Pool::new(1)));
    fails(made.map(|_| ()), "writes none");
    let gpt = Model::from(models::Gpt { vocab_size: 5, n_positions: 4, n_layer: 1, n_head: 1, n_embd: 2, ..models::Gpt::default() });
    let mut g = Generator::new(&gpt, Arc::new(Pool::new(1))).unwrap();
    fails(g.answer(&[&[1]]), "answers no text");
}

/// A search written a second time, by whole programs: as transformers has it.
fn plain_search(model: &Model, weights: &Env, source: &[i32], n: usize, width: usize, search: &Search) -> Vec<(Vec<i32>, f64)> {
    let score = |p: f64, length: usize| p / (length as f64).powf(search.length_penalty);
    let (mut open, mut done): (Vec<(Vec<i32>, f64)>, Vec<(Vec<i32>, f64)>) = (vec![(vec![], 0.0)], vec![]);
    for length in 1..=n {
        let mut all = vec![];
        for (text, p) in &open {
            let answer: Vec<i32> = [0].iter().chain(text).copied().collect();
            let logits = whole(model, weights, source, &answer).pop().unwrap();
            let sum = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
            all.extend(logits.iter().enumerate().map(|(t, x)| (text.iter().copied().chain([t as i32]).collect::<Vec<i32>>(), p + x - sum)));
        }
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(width * (1 + search.end.len()).max(2));
        let ends = |text: &[i32]| length == n || search.end.contains(text.last().unwrap());
        done.extend(all.iter().take(width).filter(|(text, _)| ends(text)).map(|(text, p)| (text.clone(), score(*p, length))));
        done.sort_by(|a, b| b.1.total_cmp(&a.1));
        done.truncate(width);
        open = all.into_iter().filter(|(text, _)| !ends(text)).take(width).collect();
        let Some(best) = open.first() else { break };
        let hoped = if search.stopping == Stopping::Never && search.length_penalty > 0.0 { n } else { length };
        if done.len() == width && (search.stopping == Stopping::Full || score(best.1, hoped) <= done[width - 1].1) {
            break;
        }
    }
    done
}

/// Beams that end: of every width, with ends and none, long texts favoured and short ones.
#[test]
fn beams_end_as_in_plain_search() {
    for model in [t5(), transformer()] {
        let source = tokens(&model, 6, 9);
        let mut lengths = std::collections::BTreeSet::new();
        for width in [1, 3, 4] {
            let (mut g, weights) = rows(&model, width);
            g.answer(&vec![source.as_slice(); width]).unwrap();
            for end in [vec![], vec![1], vec![2, 5, 7]] {
                for (length_penalty, stopping) in
                    [(1.0, Stopping::Guess), (1.0, Stopping::Full), (2.0, Stopping::Never), (0.0, Stopping::Guess), (-1.0, Stopping::Never)]
                {
                    let search = Search { end: end.clone(), length_penalty, stopping };
                    let (have, want) = (g.beams(&[0], 7, &search).unwrap(), plain_search(&model, &weights, &source, 7, width, &search));
                    assert_eq!(have.len(), want.len(), "{} {search:?}", model.name());
                    for (h, w) in have.iter().zip(&want) {
                        assert!((h.score - w.1).abs() < 1e-3 && h.tokens == w.0, "{} {width} {search:?}: {h:?} and {w:?}", model.name());
                    }
                    lengths.insert(have[0].tokens.len());
                }
            }
        }
        assert!(lengths.len() > 1, "some end early, and some do not: {lengths:?}");
        let (mut g, weights) = rows(&model, 1);
        g.answer(&[&source]).unwrap();
        let greedy = g.generate(&[0], 9, &Sampling::greedy(), &mut |_| Ok(Continue(()))).unwrap();
        for i in 0..9 {
            let answer: Vec<i32> = [0].iter().chain(&greedy[..i]).copied().collect();
            let logits = whole(&model, &weights, &source, &answer).pop().unwrap();
            assert!(logits.iter().all(|x| *x <= logits[greedy[i] as usize] + 1e-4));
        }
    }
}
