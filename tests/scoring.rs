//! The loss of texts: trees of texts in rows against each alone, windows, n-grams.

use crate::common::{Random, environment, gpt, llama};
use ir::{Env, Value, eval};
use llm::evaluate::{Counted, Request, TextLoss, Windows, rows, score_graph, text_loss};
use llm::{Kind, Source, Tokenizer};
use models::{Gemma, Llama, Model};

/// What a program says of the requests in rows, by evaluation: log-probability and whether it is the likeliest.
pub fn scored(model: &Model, weights: &Env, requests: &[Request], most: usize, trees: bool) -> Vec<(f64, bool)> {
    let all = rows(requests, most, trees);
    let tokens = all.iter().map(|r| r.tokens.len()).max().unwrap();
    let asked: Vec<_> = all.iter().enumerate().flat_map(|(i, r)| r.asked.iter().map(move |a| (i * tokens + a.place, *a))).collect();
    let size = |s| {
        Some(if s == 'B' {
            all.len()
        } else if s == 'T' {
            tokens
        } else {
            asked.len()
        } as u64)
    };
    let graph = score_graph(model, trees).unwrap().bind(&size).unwrap();
    let mut env = weights.clone();
    let column = |of: &dyn Fn(&llm::evaluate::Row) -> Vec<i32>, fill: i32| {
        let row = |r| {
            let mut ids = of(r);
            ids.resize(tokens, fill);
            ids
        };
        Value::new(vec![all.len(), tokens], all.iter().flat_map(row).map(f64::from).collect())
    };
    env.insert("input_ids".into(), column(&|r| r.tokens.clone(), 0));
    env.insert("until_ids".into(), column(&|r| r.until.clone(), i32::MAX));
    env.insert("position_ids".into(), column(&|r| r.positions.clone(), 0));
    env.insert("at".into(), Value::new(vec![asked.len()], asked.iter().map(|a| a.0 as f64).collect()));
    env.insert("labels".into(), Value::new(vec![asked.len()], asked.iter().map(|a| f64::from(a.1.label)).collect()));
    let out = eval(&graph, &env).unwrap();
    let mut sums = vec![(0.0, true); requests.len()];
    for ((_, a), (p, greedy)) in asked.iter().zip(out["log_probabilities"].data.iter().zip(&out["greedy"].data)) {
        sums[a.request].0 += p;
        sums[a.request].1 &= *greedy == 1.0;
    }
    sums
}

/// The same by the whole program for each text alone.
pub fn alone(model: &Model, weights: &Env, request: &Request) -> (f64, bool) {
    let (read, v) = (request.read(), model.vocab_size());
    let graph = crate::common::bound(model, 1, read.len() as u64).keep_outputs(&["logits"]);
    let mut env = weights.clone();
    let ids = |w: &[i32]| Value::new(vec![1, w.len()], w.iter().map(|t| f64::from(*t)).collect());
    env.insert("input_ids".into(), ids(read));
    env.insert("labels".into(), ids(read));
    let logits = eval(&graph, &env).unwrap().remove("logits").unwrap().data;
    let n = request.tokens.len();
    (n - request.asked..n).fold((0.0, true), |(sum, greedy), i| {
        let (row, label) = (&logits[(i - 1) * v..i * v], request.tokens[i] as usize);
        let total = row.iter().map(|x| x.exp()).sum::<f64>().ln();
        let first = (0..v).find(|k| row.iter().all(|x| *x <= row[*k])).unwrap();
        (sum + row[label] - total, greedy && first == label)
    })
}

/// Models that place tokens in every way: by a table, by turning, by slopes, in windows.
fn placed() -> Vec<Model> {
    let llama = llama(true).settings().clone();
    let with = |key: &str, value: toml::Value| {
        let mut settings = llama.clone();
        settings.insert(key.into(), value);
        crate::common::llama(true).with(settings).unwrap()
    };
    let gemma = Gemma { vocab_size: 11, max_position_embeddings: 16, num_hidden_layers: 3, hidden_size: 8, intermediate_size: 6, ..Gemma::default() };
    let gemma = Gemma { num_attention_heads: 2, num_key_value_heads: 1, head_dim: 4, sliding_window: 3, ..gemma };
    vec![
        gpt(),
        with("positions", "alibi".into()),
        with("sliding_window", 3.into()),
        Model::from(Llama { vocab_size: 13, ..small() }),
        Model::from(gemma),
    ]
}

fn small() -> Llama {
    Llama {
        max_position_embeddings: 16,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        hidden_size: 8,
        intermediate_size: 6,
        ..Llama::default()
    }
}

/// Questions with several answers, questions that begin alike, the same twice, one token alone: read as trees, in rows of several sizes, and
/// a text a row, everything is as if each text stood alone.
#[test]
fn trees_of_texts_are_read_as_each_alone() {
    for (seed, model) in (1..).zip(placed()) {
        let graph = crate::common::bound(&model, 1, 2);
        let weights = environment(&graph, seed, model.vocab_size());
        let mut random = Random(seed);
        let mut tokens = |n: usize| (0..n).map(|_| random.below(model.vocab_size()) as i32).collect::<Vec<_>>();
        let (start, other) = (tokens(4), tokens(2));
        let mut requests = vec![];
        for (question, answers) in [(vec![], vec![1, 3, 1]), (tokens(2), vec![2, 1]), (tokens(1), vec![4]), (other, vec![1])] {
            for n in answers {
                requests.push(Request { tokens: [start.clone(), question.clone(), tokens(n)].concat(), asked: n });
            }
        }
        requests.push(requests[1].clone());
        requests.push(Request { tokens: tokens(2), asked: 1 });
        requests.push(Request { tokens: tokens(9), asked: 8 });
        let want: Vec<(f64, bool)> = requests.iter().map(|r| alone(&model, &weights, r)).collect();
        for (most, trees) in [(1000, true), (12, true), (9, true), (9, false)] {
            let have = scored(&model, &weights, &requests, most, trees);
            for (i, (have, want)) in have.iter().zip(&want).enumerate() {
                let what = format!("{} {seed}, request {i}, rows of {most}, trees {trees}", model.name());
                assert!((have.0 - want.0).abs() < 1e-9 * want.0.abs().max(1.0) && have.1 == want.1, "{what}: {have:?} and {want:?}");
            }
        }
        let (shared, apart) = (rows(&requests, 1000, true), requests.iter().map(|r| r.read().len()).sum::<usize>());
        assert!(shared.len() == 1 && shared[0].tokens.len() + 3 * 8 < apart, "what is shared is read once: {} of {apart}", shared[0].tokens.len());
    }
}

/// Of equally likely tokens the first is the one that is chosen.
#[test]
fn the_first_of_equals_is_the_likeliest() {
    let model = gpt();
    let graph = crate::common::bound(&model, 1, 2);
    let zero: Env = graph.params().into_iter().map(|(n, t)| (n.to_string(), Value::new(t.sizes(), vec![0.0; t.count()]))).collect();
    let ask = |label: i32| Request { tokens: vec![3, label], asked: 1 };
    let have = scored(&model, &zero, &[ask(0), ask(1), ask(10)], 100, true);
    let uniform = -(11f64.ln());
    assert!(have.iter().all(|h| (h.0 - uniform).abs() < 1e-12));
    assert_eq!(have.iter().map(|h| h.1).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn encoders_are_not_asked() {
    let bert = Model::from(models::Bert { num_hidden_layers: 1, ..models::Bert::default() });
    assert!(score_graph(&bert, true).unwrap_err().to_string().contains("try a decoder"));
}

/// Every token once, each with as much before it as the stride leaves, as lm-evaluation-harness's `get_rolling_token_windows` has it.
#[test]
fn windows_ask_every_token_once() {
    for (tokens, context, stride, begins) in (0..400).map(|i| (i % 23, 1 + i / 3 % 7, 1 + i % (1 + i / 3 % 7), i % 2 == 0)) {
        let w = Windows::new(tokens as u64, context, stride, begins).unwrap();
        let mut next = u64::from(!begins);
        for k in 0..w.count() {
            let (range, asked) = w.nth(k);
            assert_eq!(range.end - asked, next, "the first that is asked follows the last that was");
            next = range.end;
            assert!(asked >= 1 && asked <= if k == 0 { context } else { stride } as u64);
            // as many are read as the model takes, but where the text begins
            let before = u64::from(begins && range.start == 0 && range.end <= context as u64);
            let read = range.end - range.start + before - 1;
            assert!(read == context as u64 || (read < context as u64 && range.start == 0), "{w:?} {k}: {read}");
        }
        assert_eq!(next, (tokens as u64).max(u64::from(!begins)), "{w:?}");
        assert_eq!(w.asked(), next - u64::from(!begins));
    }
    for stride in [0, 8] {
        let error = Windows::new(10, 7, stride, false).unwrap_err().to_string();
        assert!(error.contains("expected 1 to 7"), "{error}");
    }
}

/// The requests of a text, one token after another, and its bytes.
#[test]
fn the_loss_of_a_text_counts_tokens_and_bytes() {
    let text = "naïve — x".repeat(40);
    let tokenizer = Tokenizer::of(Kind::Char, &text).unwrap();
    let ids = tokenizer.encode(&text).unwrap();
    for (begin, context, stride) in [(None, 5, 2), (Some(3), 5, 5), (Some(0), 1, 1), (None, 400, 1)] {
        let w = Windows::new(ids.len() as u64, context, stride, begin.is_some()).unwrap();
        let mut seen: Vec<i32> = vec![];
        let loss = text_loss(&w, begin, &tokenizer, &|r| Ok(ids[r.start as usize..r.end as usize].to_vec()), &mut |requests| {
            for r in requests {
                assert!(r.read().len() <= context);
                let (before, asked) = r.tokens.split_at(r.tokens.len() - r.asked);
                let whole: Vec<i32> = begin.into_iter().chain(seen.iter().copied()).collect();
                let start = if begin.is_some() { whole } else { [&ids[..1], &seen].concat() };
                assert!(start.ends_with(before), "what stands before is what was there");
                seen.extend(asked);
            }
            Ok(-2.0 * requests.iter().map(|r| r.asked as f64).sum::<f64>())
        });
        let loss = loss.unwrap();
        let first = usize::from(begin.is_none());
        assert_eq!(seen, ids[first..]);
        // the first character is n
        assert_eq!((loss.tokens, loss.bytes), ((ids.len() - first) as u64, (text.len() - first) as u64));
        assert!((loss.loss() - 2.0).abs() < 1e-12 && (loss.perplexity() - 2f64.exp()).abs() < 1e-9);
        assert!((loss.bits_per_byte() - 2.0 * loss.tokens as f64 / 2f64.ln() / loss.bytes as f64).abs() < 1e-12);
    }
}

/// n-grams by plain loops over the text.
fn plain(train: &[i32], asked: &[i32], order: usize, first: usize, symbols: usize) -> f64 {
    let one = |i: usize| {
        let h = &asked[(i + 1).saturating_sub(order)..i];
        let at = |n: &[i32]| train.windows(n.len()).filter(|w| *w == n).count() as f64;
        let goes_on = if h.is_empty() { train.len() as f64 } else { at(h) - f64::from(u8::from(train.ends_with(h))) };
        -((at(&[h, &asked[i..=i]].concat()) + 0.1) / (goes_on + 0.1 * symbols as f64)).ln()
    };
    (first..asked.len()).map(one).sum()
}

#[test]
fn n_grams_are_those_of_plain_loops() {
    for (n, held_out, begins) in [(300, 0.3, false), (40, 0.5, true), (9, 0.4, false)] {
        let tokens: Vec<i32> = (0..n).map(|i| (llm::random(3, i) % 5 * (i % 3) % 4) as i32).collect();
        let tokenizer = Tokenizer::Char { characters: "abcd".chars().collect() };
        let source = Source::text("x", tokens, held_out);
        let (train, asked) = (source.train.read(0..source.train.count()).unwrap(), source.held_out.read(0..source.held_out.count()).unwrap());
        let w = Windows::new(asked.len() as u64, 4, 4, begins).unwrap();
        let counted = Counted::new(&w, &tokenizer, &source.held_out, &[&source.train]).unwrap();
        for order in 1..=6 {
            let loss = counted.loss(order);
            let want = plain(&train, &asked, order, usize::from(!begins), 4);
            assert!((loss.nats - want).abs() < 1e-9, "order {order}: {} and {want}", loss.nats);
            assert_eq!((loss.tokens, loss.bytes), (w.asked(), w.asked()));
        }
    }
}

/// The numbers of the project's notes, computed there by another program.
#[test]
fn n_grams_of_tiny_shakespeare() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/tinyshakespeare.txt");
    let Ok(text) = std::fs::read_to_string(&file) else {
        return crate::common::required("data", &format!("{} is not there", file.display()));
    };
    let tokenizer = Tokenizer::of(Kind::Char, &text).unwrap();
    let source = Source::text("x", tokenizer.encode(&text).unwrap(), 0.1);
    let w = Windows::new(source.held_out.count(), 64, 64, false).unwrap();
    let counted = Counted::new(&w, &tokenizer, &source.held_out, &[&source.train]).unwrap();
    for (order, want) in (1..).zip([3.347, 2.484, 2.046, 1.784, 1.788, 2.051]) {
        let TextLoss { tokens, bytes, .. } = counted.loss(order);
        assert_eq!((tokens, bytes), (111_539, 111_539));
        let have = counted.loss(order).loss();
        assert!((have - want).abs() < 6e-4, "{order}-grams: {have}");
    }
}

/// Of tokens that are parts of words, bytes are counted: the same bits a byte as of the bytes.
#[test]
fn n_grams_of_words_are_those_of_their_bytes() {
    let text = "the cat sat on the mat, the cat ate. ".repeat(30) + "the dog sat on the cat";
    let bpe = Tokenizer::of(Kind::Bpe, &text).unwrap();
    let counted = |t: &Tokenizer, held_out: f64| {
        let source = Source::text("x", t.encode(&text).unwrap(), held_out);
        let w = Windows::new(source.held_out.count(), 8, 8, true).unwrap();
        (Counted::new(&w, t, &source.held_out, &[&source.train]).unwrap(), w)
    };
    let (words, w) = counted(&bpe, 0.2);
    let bytes = words.loss(1).bytes;
    let (plain, v) = counted(&Tokenizer::Byte, (bytes as f64 - 0.5) / text.len() as f64);
    assert_eq!((bytes, words.loss(1).tokens), (v.asked(), w.asked()));
    for order in 1..=6 {
        assert!((words.loss(order).bits_per_byte() - plain.loss(order).bits_per_byte()).abs() < 1e-12);
    }
}

/// Compiled, in rows and runs of every size: what evaluation of each text alone says.
#[cfg(feature = "llvm")]
#[test]
fn a_scorer_says_what_each_text_alone_would() {
    use llm::evaluate::{Fill, Scorer};
    use std::sync::Arc;
    let model = gpt();
    let weights = environment(&crate::common::bound(&model, 1, 2), 3, 11);
    let mut random = Random(9);
    let mut tokens = |n: usize| (0..n).map(|_| random.below(11) as i32).collect::<Vec<_>>();
    let start = tokens(3);
    let request = |i: usize, rest: Vec<i32>| Request { asked: 1 + i % rest.len(), tokens: [start.clone(), rest].concat() };
    let requests: Vec<Request> = (0..40).map(|i| request(i, tokens(1 + i % 7))).collect();
    let want: Vec<(f64, bool)> = requests.iter().map(|r| alone(&model, &weights, r)).collect();
    for batch in [1, 9, 16, 40, 1024] {
        let fill: Fill = Box::new(|session| {
            for (name, value) in &weights {
                if session.params().any(|p| p.0 == name) {
                    let bytes: Vec<u8> = value.data.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect();
                    session.set_param(name, &bytes)?;
                }
            }
            Ok(())
        });
        let device = runtime::Device::Cpu(Arc::new(runtime::Pool::new(2)));
        let mut scorer = Scorer::new(&model, device, &passes::Options::default(), batch, fill).unwrap();
        let mut told = vec![];
        for part in [&requests[..], &requests[5..9], &requests[..1]] {
            let have = scorer.score(part, &mut |done, of| told.push((done, of))).unwrap();
            let from = requests.iter().position(|r| r == &part[0]).unwrap();
            for (i, (have, want)) in have.iter().zip(&want[from..]).enumerate() {
                let near = (have.log_probability - want.0).abs() < 1e-4 * want.0.abs().max(1.0);
                assert!(near && have.greedy == want.1, "batch {batch}, request {i}: {have:?} and {want:?}");
            }
            assert!(told.last().is_some_and(|(done, of)| done == of));
        }
        let mut error = |tokens: Vec<i32>, asked| scorer.score(&[Request { tokens, asked }], &mut |_, _| ()).unwrap_err().to_string();
        assert!(error(vec![1, 2], 0).contains("0 of 2 tokens are asked"));
        assert!(error(vec![1, 2], 2).contains("one before it"));
        assert!(error(vec![1; 11], 1).contains("9 before the last at most"));
        assert!(error(vec![1, 11], 1).contains("no token 11"));
    }
}
