//! Decoding: text as it comes, tokens drawn by their distribution, and generation past the context against the whole sequence.

use crate::common::{bound, gpt, llama};
use ir::{Env, Value, eval};
use llm::{Decoder, Generator, Kind, Sampling, Tokenizer, sample};
use models::Model;
use proptest::prelude::*;
use runtime::Pool;
use std::ops::ControlFlow::Continue;
use std::sync::Arc;

/// What a decoder gives for ids, piece by piece, and at the end.
fn pieces(tokenizer: &Tokenizer, ids: &[i32]) -> Vec<String> {
    let mut decoder = Decoder::new(tokenizer);
    let mut pieces: Vec<String> = ids.iter().map(|id| decoder.push(*id)).collect();
    pieces.push(decoder.finish());
    pieces
}

fn check_bytes(bytes: &[u8]) {
    let ids: Vec<i32> = bytes.iter().map(|b| i32::from(*b)).collect();
    let all = pieces(&Tokenizer::Byte, &ids);
    assert_eq!(all.concat(), String::from_utf8_lossy(bytes), "{bytes:?}");
    assert_eq!(Tokenizer::Byte.decode(&ids), String::from_utf8_lossy(bytes));
    // at each moment all is shown but a character that is not whole
    for n in 0..=bytes.len() {
        let shown = all[..n].concat();
        let whole = String::from_utf8_lossy(&bytes[..n]);
        assert!(whole.starts_with(&shown) && whole.len() - shown.len() <= 3, "{bytes:?}, {n}: {shown:?} of {whole:?}");
        if std::str::from_utf8(&bytes[..n]).is_ok() {
            assert_eq!(shown, whole, "nothing is held back of what is whole");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn bytes_come_as_text(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
        check_bytes(&bytes);
    }

    /// Mostly text, cut and damaged.
    #[test]
    fn damaged_text_comes_as_text(text in "[a\u{E9}\u{20AC}\u{1F95A}\u{10FFFF}]{0,8}", at in 0usize..32, bad: u8) {
        let mut bytes = text.into_bytes();
        if let Some(b) = bytes.get_mut(at) {
            *b = bad;
        }
        check_bytes(&bytes);
    }
}

#[test]
fn characters_are_held_back_until_they_are_whole() {
    let ids: Vec<i32> = "é🥚\u{FFFD}x".bytes().map(i32::from).collect();
    assert_eq!(pieces(&Tokenizer::Byte, &ids), ["", "é", "", "", "", "🥚", "", "", "\u{FFFD}", "x", ""]);
    // the start of a character and then another: one U+FFFD for what was cut
    assert_eq!(pieces(&Tokenizer::Byte, &[0xF0, 0x9F, 0x41]), ["", "", "\u{FFFD}A", ""]);
    assert_eq!(pieces(&Tokenizer::Byte, &[0xE2, 0x82]), ["", "", "\u{FFFD}"]);
    // ids that are none
    assert_eq!(pieces(&Tokenizer::Byte, &[65, -1, 256, 0xC3, i32::MAX, 255]), ["A", "\u{FFFD}", "\u{FFFD}", "", "\u{FFFD}\u{FFFD}", "\u{FFFD}", ""]);
    let t = Tokenizer::of(Kind::Char, "aé").unwrap();
    assert_eq!(pieces(&t, &[0, 1, 2, -1, 0]), ["a", "é", "\u{FFFD}", "\u{FFFD}", "a", ""]);
    assert_eq!(t.decode(&[1, i32::MIN, 0]), "é\u{FFFD}a");
}

/// Each token costs the same, wherever in the text it stands.
#[test]
fn decoding_is_linear() {
    let seconds = |n: usize| {
        let start = std::time::Instant::now();
        let mut decoder = Decoder::new(&Tokenizer::Byte);
        let n = (0..n).map(|i| decoder.push(b"caf\xC3\xA9 "[i % 6].into()).len()).sum::<usize>();
        assert!(n > 0);
        start.elapsed().as_secs_f64()
    };
    // decoding all text anew would take 10¹¹ steps here
    assert!(seconds(300_000) < 5.0);
}

#[test]
fn a_text_begins_with_what_the_tokenizer_has() {
    let start = |text: &str| Tokenizer::of(Kind::Char, text).unwrap().start();
    assert_eq!((start("a \n"), start("b a"), start("zbc")), ("\n".to_string(), " ".to_string(), "b".to_string()));
    assert_eq!(Tokenizer::Byte.start(), "\n");
}

fn sampling(temperature: f64, top_k: usize) -> Sampling {
    Sampling { temperature, top_k, seed: 7, ..Sampling::default() }
}

/// How often each token is drawn.
fn counts(logits: &[f32], s: &Sampling, draws: u64) -> Vec<u64> {
    let mut counts = vec![0; logits.len()];
    (0..draws).for_each(|n| counts[sample(logits, s, &[], n).unwrap() as usize] += 1);
    counts
}

/// Pearson's statistic of draws against the softmax of logits over a temperature, over the `k` likeliest, computed plainly; and its degrees
/// of freedom. Tokens beyond must not be drawn at all.
fn pearson(logits: &[f32], s: &Sampling, k: usize, draws: u64) -> (f64, usize) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].partial_cmp(&logits[*a]).unwrap());
    let share = |i: usize| (f64::from(logits[i]) / s.temperature).exp();
    let total: f64 = order[..k].iter().map(|i| share(*i)).sum();
    let counts = counts(logits, s, draws);
    assert!(order[k..].iter().all(|i| counts[*i] == 0), "{s:?}: {counts:?}");
    let term = |i: &usize| {
        let expected = share(*i) / total * draws as f64;
        (counts[*i] as f64 - expected).powi(2) / expected
    };
    (order[..k].iter().map(term).sum(), k - 1)
}

#[test]
fn tokens_are_drawn_by_their_distribution() {
    let logits = [0.3f32, -1.0, 2.0, 0.0, 1.5, -0.5, 0.9, 1.1];
    for temperature in [0.5, 0.8, 1.0, 1.7] {
        for (top_k, k) in [(0, 8), (2, 2), (3, 3), (5, 5), (7, 7), (8, 8), (100, 8)] {
            let s = sampling(temperature, top_k);
            let (x, freedom) = pearson(&logits, &s, k, 8000);
            // mean + 5 standard deviations of the χ² distribution
            assert!(x < freedom as f64 + 5.0 * (2.0 * freedom as f64).sqrt(), "{s:?}: χ² is {x} with {freedom} degrees of freedom");
            assert_eq!(counts(&logits, &s, 8000).iter().filter(|c| **c > 0).count(), k, "{s:?}: all of the likeliest are drawn");
        }
    }
}

#[test]
fn draws_depend_on_seed_and_number_alone() {
    let logits = [0.0f32; 50];
    let draws = |seed: u64| (0..100).map(|n| sample(&logits, &Sampling { seed, ..Sampling::default() }, &[], n).unwrap()).collect::<Vec<_>>();
    assert_eq!(draws(1), draws(1));
    let same = |a: &[i32], b: &[i32]| a.iter().zip(b).filter(|(a, b)| a == b).count();
    assert!(same(&draws(1), &draws(2)) < 12 && same(&draws(1)[1..], &draws(1)) < 12, "a fiftieth by chance");
}

#[test]
fn edges_of_sampling() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let pick = |logits: &[f32], t: f64, k: usize| sample(logits, &sampling(t, k), &[], 3).map_err(|e| e.to_string());
    // the likeliest: at temperature 0, of one, at temperatures that are next to nothing
    for (t, k) in [(0.0, 0), (0.0, 3), (0.9, 1), (1e-6, 0), (1e-320, 0), (f64::MIN_POSITIVE, 2)] {
        assert_eq!(pick(&[0.0, 3.0, -1.0, 2.9], t, k), Ok(1), "temperature {t}, {k}");
        // of equals the first, and zeros are equal
        assert_eq!(pick(&[1.0, 2.0, 2.0, 0.0], 0.0, 0), Ok(1));
        assert_eq!((pick(&[-0.0, 0.0], 0.0, 0), pick(&[0.0, -0.0], 0.9, 1), pick(&[-0.0, 0.0], 0.9, 1)), (Ok(0), Ok(0), Ok(0)));
    }
    assert_eq!(counts(&[5.0, 5.0, 5.0, 5.0], &sampling(1.0, 2), 100)[2..], [0, 0]);
    // at one that is huge all are alike, but what cannot be is not drawn
    let many = counts(&[-inf, 3.0, -3e38, 3e38, -inf, 0.0], &sampling(1e308, 0), 4000);
    assert!(many[0] == 0 && many[4] == 0 && [1, 2, 3, 5].iter().all(|i| (800..1200).contains(&many[*i])), "{many:?}");
    assert_eq!(counts(&[-inf, 0.0, -inf], &sampling(5.0, 3), 500), [0, 500, 0]);
    assert_eq!(counts(&[3e38, -3e38, 3.1e38], &sampling(1.0, 0), 100), [0, 0, 100]);
    // +∞ is the only possible token, if it is one
    for t in [0.0, 0.8, 1e308] {
        assert_eq!(pick(&[9.0, -inf, inf, 9.0], t, 2), Ok(2));
        let two = pick(&[0.0, inf, 0.0, inf], t, 0).unwrap_err();
        assert!(two.contains("token 1 is inf") && two.contains("token 3 too"), "{two}");
        for logits in [&[0.0, inf, nan][..], &[0.0, 1.0, nan], &[-inf, -inf, -nan]] {
            let error = pick(logits, t, 0).unwrap_err();
            assert!(error.contains("token 2 is NaN") && error.contains("--check-finite"), "{error}");
        }
        assert!(pick(&[-inf, -inf], t, 0).unwrap_err().contains("all 2 logits are -inf"));
        assert!(pick(&[], t, 0).unwrap_err().contains("all 0 logits"));
    }
    for t in [-1.0, -1e-300, f64::NAN, f64::INFINITY] {
        let error = pick(&[0.0, 1.0], t, 0).unwrap_err();
        assert!(error.contains("--temperature") && error.contains("at least 0"), "{error}");
    }
}

fn weights(generator: &mut Generator) -> Env {
    let params: Vec<(String, Vec<usize>)> = generator.session_mut().params().map(|(n, t)| (n.to_string(), t.sizes())).collect();
    let value = |bytes: &[u8]| bytes.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect();
    params.into_iter().map(|(n, dims)| (n.clone(), Value::new(dims, value(&generator.session_mut().param(&n).unwrap())))).collect()
}

/// The logits after a window of tokens, by evaluation of the whole model.
fn whole(model: &Model, env: &Env, window: &[i32]) -> Vec<f64> {
    let graph = bound(model, 1, window.len() as u64).keep_outputs(&["logits"]);
    let mut env = env.clone();
    env.insert("input_ids".into(), Value::new(vec![1, window.len()], window.iter().map(|t| f64::from(*t)).collect()));
    env.insert("labels".into(), Value::new(vec![1, window.len()], vec![0.0; window.len()]));
    let logits = eval(&graph, &env).unwrap().remove("logits").unwrap().data;
    logits[logits.len() - model.vocab_size()..].to_vec()
}

fn generator(model: &Model) -> Generator {
    let mut g = Generator::new(model, Arc::new(Pool::new(1))).unwrap();
    llm::initialise(g.session_mut(), model, 5).unwrap();
    // larger weights, so that what was read matters
    let names: Vec<String> = g.session_mut().params().map(|p| p.0.to_string()).filter(|n| !n.starts_with("past.") && n.ends_with("weight")).collect();
    for name in names {
        let bytes = g.session_mut().param(&name).unwrap();
        let large = bytes.chunks(4).map(|b| 8.0 * f32::from_le_bytes(b.try_into().unwrap()));
        let large: Vec<u8> = large.flat_map(f32::to_le_bytes).collect();
        g.session_mut().set_param(&name, &large).unwrap();
    }
    g
}

/// Contexts odd and even, filled three times over: after each token the logits are those of the window it stands in, read whole. When the
/// context is full, its later half stays, rounded down.
#[test]
fn generation_past_the_context_agrees_with_the_whole_window() {
    for model in [gpt(), llama(false)] {
        let (mut g, context) = (generator(&model), model.context());
        assert_eq!(g.context(), context);
        let env = weights(&mut g);
        let mut window: Vec<i32> = vec![];
        for i in 0..3 * context as i32 {
            let token = (i * i + 3 * i) % model.vocab_size() as i32;
            if window.len() == context {
                window = window[window.len() - context / 2..].to_vec();
            }
            window.push(token);
            let want = whole(&model, &env, &window);
            let scale = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            for (h, w) in g.read(token).unwrap().iter().zip(&want) {
                assert!((f64::from(*h) - w).abs() < 1e-4 * scale, "token {i}: {h} and {w}, window {window:?}");
            }
        }
    }
}

/// A context of one token has no half to keep.
#[test]
fn a_context_of_one_token() {
    let model = Model::from(models::Gpt { vocab_size: 5, n_positions: 1, n_layer: 1, n_head: 1, n_embd: 4, ..models::Gpt::default() });
    let mut g = generator(&model);
    let env = weights(&mut g);
    for token in [0, 3, 3, 4] {
        let want = whole(&model, &env, &[token]);
        assert!(g.read(token).unwrap().iter().zip(&want).all(|(h, w)| (f64::from(*h) - w).abs() < 1e-4));
    }
}

#[test]
fn what_is_written_follows_the_prompt() {
    let model = gpt();
    let mut g = generator(&model);
    let env = weights(&mut g);
    let greedy = Sampling::greedy();
    let mut shown = vec![];
    let mut write = |prompt: &[i32], n| {
        shown.clear();
        let out = g.generate(prompt, n, &greedy, &mut |choice| {
            shown.push(choice.token);
            Ok(Continue(()))
        })?;
        assert_eq!(out, shown, "each token is shown as it comes");
        Ok::<_, llm::Error>(out)
    };
    let likeliest = |window: &[i32]| {
        let logits = whole(&model, &env, window);
        (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as i32
    };
    let out = write(&[1, 2, 3], 6).unwrap();
    let mut window = vec![1, 2, 3];
    for token in &out {
        assert_eq!(*token, likeliest(&window));
        window.push(*token);
    }
    // a prompt of the context's length is read whole, of a longer one the last part; what was read before is forgotten
    let long: Vec<i32> = (0..23).map(|i| i * 7 % 11).collect();
    for n in [9, 10, 22, 23] {
        assert_eq!(write(&long[..n], 1).unwrap(), [likeliest(&long[n - 9..n])], "{n} tokens");
    }
    assert_eq!(write(&[1, 2, 3], 6).unwrap(), out);
    assert_eq!(write(&[4], 0).unwrap(), [0i32; 0]);
    assert!(write(&[], 1).unwrap_err().to_string().contains("the prompt is empty"));
    for bad in [-1, 11, i32::MAX] {
        let error = write(&[1, bad], 1).unwrap_err().to_string();
        assert!(error.contains(&format!("no token {bad}")) && error.contains("0 to 10"), "{error}");
    }
    assert!(g.read(i32::MIN).is_err() && g.read(10).is_ok());
}

/// An error of whoever shows the text ends the writing.
#[test]
fn writing_stops_when_it_cannot_be_shown() {
    let mut g = generator(&gpt());
    let mut calls = 0;
    let result = g.generate(&[1], 5, &sampling(1.0, 0), &mut |_| {
        calls += 1;
        if calls == 2 { Err(llm::Error("full".into())) } else { Ok(Continue(())) }
    });
    assert!(result.is_err() && calls == 2);
}
