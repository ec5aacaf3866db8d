//! The choice of a token against plain sorting, log-probabilities, and strings that end a text.

use crate::common::Random;
use llm::{Sampling, Stop, likeliest, log_probabilities, random, sample};

/// Each token's share, by sorting all of them.
fn shares(logits: &[f32], s: &Sampling, text: &[i32]) -> Vec<f64> {
    let mut x: Vec<f32> = logits.to_vec();
    s.bias.iter().for_each(|(t, b)| x[*t as usize] += b);
    for t in 0..x.len() {
        if text.contains(&(t as i32)) {
            let l = f64::from(x[t]);
            x[t] = (if l > 0.0 { l / s.repetition_penalty } else { l * s.repetition_penalty } - s.presence_penalty) as f32;
        }
    }
    let mut order: Vec<usize> = (0..x.len()).filter(|i| x[*i] > f32::NEG_INFINITY).collect();
    order.sort_by(|a, b| x[*b].partial_cmp(&x[*a]).unwrap());
    if s.temperature == 0.0 {
        return (0..x.len()).map(|i| f64::from(u8::from(i == order[0]))).collect();
    }
    let top = f64::from(x[order[0]]);
    let share = |i: &usize| ((f64::from(x[*i]) - top) / s.temperature).exp();
    if s.top_k > 0 {
        order.truncate(s.top_k);
    }
    let all: f64 = order.iter().map(share).sum();
    let mut sum = 0.0;
    let before = |i: &usize| {
        sum += share(i);
        sum - share(i) < s.top_p * all * (1.0 - 1e-12)
    };
    let order: Vec<usize> = order
        .into_iter()
        .filter({
            let mut before = before;
            move |i| before(i)
        })
        .filter(|i| share(i) >= s.min_p)
        .collect();
    let all: f64 = order.iter().map(share).sum();
    (0..x.len()).map(|i| if order.contains(&i) { share(&i) / all } else { 0.0 }).collect()
}

/// Logits with many ties, some that are impossible.
fn logits(r: &mut Random, n: usize, steps: f64) -> Vec<f32> {
    let one = |r: &mut Random| if r.below(9) == 0 { f32::NEG_INFINITY } else { ((r.unit() * steps).round() / 3.0) as f32 };
    let mut all: Vec<f32> = (0..n).map(|_| one(r)).collect();
    all[r.below(n)] = 0.0;
    all
}

fn settings(r: &mut Random, n: usize) -> Sampling {
    let pick = |r: &mut Random, of: &[f64]| of[r.below(of.len())];
    let bias = (0..r.below(3)).map(|_| (r.below(n) as i32, if r.below(3) == 0 { f32::NEG_INFINITY } else { r.unit() as f32 })).collect();
    Sampling {
        bias,
        repetition_penalty: pick(r, &[1.0, 1.0, 1.3, 0.8]),
        presence_penalty: pick(r, &[0.0, 0.0, 0.7, -0.4]),
        temperature: pick(r, &[0.0, 0.3, 1.0, 1.7]),
        top_k: [0, 1, 2, 5, n / 2, n, 10 * n][r.below(7)],
        top_p: pick(r, &[1.0, 0.999, 0.83, 0.5, 0.11, 1e-9]),
        min_p: pick(r, &[0.0, 0.0, 0.03, 0.4, 1.0]),
        seed: u64::from(r.bits()),
    }
}

/// The same token for the same number of the generator, whatever is set: shares are laid side by side in the order of tokens.
#[test]
fn the_choice_is_that_of_sorting() {
    let mut r = Random(17);
    let (mut cases, mut distinct) = (0, std::collections::BTreeSet::new());
    for case in 0..6000u64 {
        let n = 1 + r.below(60);
        let steps = [3.0, 12.0, 1e4][r.below(3)];
        let x = logits(&mut r, n, steps);
        let s = settings(&mut r, n);
        let text: Vec<i32> = (0..r.below(8)).map(|_| r.below(n + 2) as i32 - 1).collect();
        let Ok(have) = sample(&x, &s, &text, case) else {
            assert!((0..n).all(|i| x[i] == f32::NEG_INFINITY || s.bias.iter().any(|b| b.0 == i as i32 && b.1 == f32::NEG_INFINITY)));
            continue;
        };
        let share = shares(&x, &s, &text);
        let unit = (random(s.seed, case) >> 11) as f64 / (1u64 << 53) as f64;
        let mut sum = 0.0;
        let want = share.iter().position(|p| {
            sum += p;
            sum > unit && *p > 0.0
        });
        let want = want.or_else(|| share.iter().rposition(|p| *p > 0.0)).unwrap() as i32;
        assert_eq!(have, want, "case {case}: {s:?} of {x:?} after {text:?}: {share:?}");
        cases += 1;
        distinct.insert(share.iter().filter(|p| **p > 0.0).count());
    }
    assert!(cases > 5500 && distinct.len() > 20, "{cases} cases, {distinct:?} tokens to choose from");
}

/// Draws have the distribution: Pearson's statistic against the shares.
#[test]
fn draws_have_the_shares() {
    let mut r = Random(4);
    for _ in 0..40 {
        let x = logits(&mut r, 30, 8.0);
        let s = Sampling { temperature: 0.9, ..settings(&mut r, 30) };
        if sample(&x, &s, &[3, 4], 0).is_err() {
            continue;
        }
        let share = shares(&x, &s, &[3, 4]);
        let draws = 6000;
        let mut counts = vec![0u64; 30];
        (0..draws).for_each(|n| counts[sample(&x, &s, &[3, 4], n).unwrap() as usize] += 1);
        let term = |(c, p): (&u64, &f64)| if *p > 0.0 { (*c as f64 - p * draws as f64).powi(2) / (p * draws as f64) } else { 1e9 * *c as f64 };
        let (x2, freedom) = (counts.iter().zip(&share).map(term).sum::<f64>(), share.iter().filter(|p| **p > 0.0).count() as f64 - 1.0);
        assert!(x2 <= freedom + 6.0 * (2.0 * freedom.max(1.0)).sqrt() + 6.0, "{s:?}: χ² is {x2} with {freedom} degrees of freedom");
    }
}

/// Penalties are for what the text has, once each; tokens that are none are no matter.
#[test]
fn penalties_and_bias() {
    let x = [1.0f32, 0.9, -1.0, 0.5];
    let pick = |s: Sampling, text: &[i32]| sample(&x, &Sampling { temperature: 0.0, ..s }, text, 0).unwrap();
    let repeated = |p: f64| Sampling { repetition_penalty: p, ..Sampling::default() };
    let present = |p: f64| Sampling { presence_penalty: p, ..Sampling::default() };
    assert_eq!((pick(repeated(1.2), &[]), pick(repeated(1.2), &[0]), pick(repeated(1.2), &[0, 1, 0, 0])), (0, 1, 0));
    assert_eq!((pick(repeated(3.0), &[0, 1]), pick(repeated(0.5), &[1]), pick(repeated(1.1), &[0])), (3, 1, 0));
    assert_eq!((pick(present(0.2), &[0]), pick(present(0.05), &[0, 0, 0]), pick(present(0.6), &[0, 1, -5, 99])), (1, 0, 3));
    assert_eq!(pick(present(-3.0), &[2]), 2);
    let biased = |b: &[(i32, f32)]| Sampling { bias: b.to_vec(), ..Sampling::default() };
    assert_eq!((pick(biased(&[(1, 0.2)]), &[]), pick(biased(&[(0, f32::NEG_INFINITY)]), &[]), pick(biased(&[(2, 1.0), (2, 1.5)]), &[])), (1, 1, 2));
    // what is certain can be forbidden
    let sure = [0.0, f32::INFINITY, 3.0];
    assert_eq!(sample(&sure, &biased(&[(1, f32::NEG_INFINITY)]), &[], 0).map(|t| t != 1), Ok(true));
    for t in [-1, 4, i32::MAX] {
        let error = sample(&x, &biased(&[(t, 1.0)]), &[], 0).unwrap_err().to_string();
        assert!(error.contains(&format!("no token {t}")) && error.contains("0 to 3"), "{error}");
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let d = Sampling::default;
    for (s, word) in [
        (Sampling { temperature: -0.1, ..d() }, "--temperature is -0.1"),
        (Sampling { temperature: f64::NAN, ..d() }, "--temperature is NaN"),
        (Sampling { top_p: 0.0, ..d() }, "--top-p is 0"),
        (Sampling { top_p: 1.5, ..d() }, "--top-p is 1.5"),
        (Sampling { top_p: f64::NAN, ..d() }, "--top-p is NaN"),
        (Sampling { min_p: -0.1, ..d() }, "--min-p is -0.1"),
        (Sampling { min_p: 1.1, ..d() }, "--min-p is 1.1"),
        (Sampling { repetition_penalty: 0.0, ..d() }, "--repetition-penalty is 0"),
        (Sampling { repetition_penalty: f64::INFINITY, ..d() }, "--repetition-penalty is inf"),
        (Sampling { presence_penalty: f64::NAN, ..d() }, "--presence-penalty is NaN"),
        (Sampling { bias: vec![(3, f32::NAN)], ..d() }, "token 3 is NaN"),
        (Sampling { bias: vec![(3, f32::INFINITY)], ..d() }, "token 3 is inf"),
    ] {
        for error in [s.check().unwrap_err(), sample(&[0.0, 1.0], &s, &[], 0).unwrap_err()] {
            assert!(error.to_string().contains(word), "{error} should have {word}");
        }
    }
    for s in [Sampling { top_p: 1.0, min_p: 1.0, ..d() }, Sampling { top_p: 1e-300, presence_penalty: -9.0, ..d() }, Sampling::greedy()] {
        s.check().unwrap();
    }
}

/// A vocabulary a hundred times as large costs about a hundred times as much, sorted or not.
#[test]
fn sampling_is_linear() {
    let seconds = |n: usize| {
        let x: Vec<f32> = (0..n).map(|i| (random(1, i as u64) % 1000) as f32 / 100.0).collect();
        let s = Sampling { top_k: n / 2, top_p: 0.9, min_p: 1e-4, ..Sampling::default() };
        let start = std::time::Instant::now();
        (0..3).for_each(|i| assert!(sample(&x, &s, &[1, 2], i).is_ok()));
        start.elapsed().as_secs_f64()
    };
    assert!(seconds(1 << 20) < 5.0);
}

#[test]
fn log_probabilities_are_the_models() {
    let mut r = Random(9);
    for _ in 0..200 {
        let n = 1 + r.below(40);
        let x = logits(&mut r, n, 20.0);
        let have = log_probabilities(&x).unwrap();
        let all: f64 = x.iter().map(|l| f64::from(*l).exp()).sum();
        for (h, l) in have.iter().zip(&x) {
            assert!((h.exp() - f64::from(*l).exp() / all).abs() < 1e-12, "{h} of {l}");
        }
        assert!((have.iter().map(|h| h.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
        // of equal ones the first
        let mut order: Vec<i32> = (0..n as i32).collect();
        order.sort_by(|a, b| have[*b as usize].total_cmp(&have[*a as usize]));
        for k in [0, 1, n / 2, n, n + 3] {
            assert_eq!(likeliest(&have, k), order[..k.min(n)], "{k} of {have:?}");
        }
    }
    assert_eq!(log_probabilities(&[3e38, -3e38]).unwrap()[0], 0.0);
    assert_eq!(log_probabilities(&[0.0, f32::INFINITY]).unwrap(), [f64::NEG_INFINITY, 0.0]);
    for bad in [&[f32::NAN, 0.0][..], &[f32::INFINITY; 2], &[f32::NEG_INFINITY], &[]] {
        assert!(log_probabilities(bad).is_err(), "{bad:?}");
    }
}

/// What is shown of a text that comes in pieces, and whether it stopped.
fn shown(text: &[&str], strings: &[&str]) -> (String, bool) {
    let mut stop = Stop::new(&strings.iter().map(|s| s.to_string()).collect::<Vec<_>>()).unwrap();
    let mut out: String = text.iter().map(|piece| stop.push(piece)).collect();
    out.push_str(&stop.finish());
    (out, stop.stopped())
}

#[test]
fn a_text_ends_before_a_stop_string() {
    for (text, strings, want, stopped) in [
        (&["to be", " or"][..], &[][..], "to be or", false),
        (&["to b", "e or no", "t"], &["e o"], "to b", true),
        (&["a", "a", "a", "b", "c"], &["aab"], "a", true),
        (&["aabaa", "bx"], &["aabx"], "aab", true),
        (&["x<", "en", "d"], &["<end>"], "x<end", false),
        (&["x<", "en", "d", ">y"], &["<end>", "\n"], "x", true),
        (&["é🥚", "🥚b"], &["🥚🥚", "🥚b"], "é", true),
        // the one that ends first; of two that end together the longer
        (&["abcd"], &["abcd", "bc"], "a", true),
        (&["abcd"], &["cd", "bcd"], "a", true),
        (&["stop"], &["stop"], "", true),
    ] {
        assert_eq!(shown(text, strings), (want.to_string(), stopped), "{text:?} until {strings:?}");
    }
    let error = Stop::new(&["a".into(), String::new()]).unwrap_err().to_string();
    assert!(error.contains("--stop is empty"), "{error}");
}

/// It does not matter in which pieces a text comes, and nothing is held back that cannot begin a stop string.
#[test]
fn pieces_do_not_matter() {
    let mut r = Random(31);
    let word = |r: &mut Random, n: usize| (0..n).map(|_| ["a", "b", "é"][r.below(3)]).collect::<String>();
    for _ in 0..2000 {
        let length = r.below(14);
        let text = word(&mut r, length);
        let strings: Vec<String> = (0..r.below(3))
            .map(|_| {
                let n = 1 + r.below(4);
                word(&mut r, n)
            })
            .collect();
        let strings: Vec<&str> = strings.iter().map(String::as_str).collect();
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let mut pieces: Vec<String> = vec![];
        for l in letters {
            match pieces.last_mut() {
                Some(p) if r.below(2) == 0 => p.push_str(&l),
                _ => pieces.push(l),
            }
        }
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let found = strings.iter().filter_map(|s| text.find(s).map(|at| (at + s.len(), at))).min();
        let want = (text[..found.map_or(text.len(), |f| f.1)].to_string(), found.is_some());
        assert_eq!(shown(&pieces, &strings), want, "{pieces:?} until {strings:?}");
        assert_eq!(shown(&[&text], &strings), want);
    }
}
