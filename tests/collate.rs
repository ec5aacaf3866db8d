//! What objectives make of rows: nothing of the text is lost, what is asked is what is hidden, shares are those that were set, and a row
//! follows from its seed and number.

use crate::common::{Random, difference, environment};
use ir::names::{LOSS_COUNT, LOSS_SUM};
use ir::{Builder, DType, Value, eval};
use llm::{Aim, Batch, Collator, Config, Data, DataConfig, Marks, Mode, Objective, ObjectiveConfig, Packing, Piece, Source, recipe};
use models::losses::{Terms, cross_entropy_with};
use passes::{Goal, Options, State, Update, compile};
use std::collections::HashMap;

/// Words are 20 and above; what stands below is no text.
fn marks() -> Marks {
    let special: Vec<i32> = (0..20).collect();
    let within = (0..100).map(|id| id % 3 == 0).collect();
    Marks {
        size: 100,
        pad: 1,
        mask: Some(2),
        begin: Some(3),
        separator: Some(4),
        end: Some(5),
        sentinels: (6..16).collect(),
        fim: Some([16, 17, 18]),
        special,
        within,
    }
}

fn text(n: usize) -> Vec<i32> {
    let mut r = Random(7);
    (0..n).map(|_| 20 + r.below(80) as i32).collect()
}

fn data(aim: Aim, config: &ObjectiveConfig, packing: Packing, tokens: Vec<i32>, context: usize) -> Data {
    let data = DataConfig { packing, ..DataConfig::default() };
    let collator = Collator::new(aim, config, &data, &marks()).unwrap();
    Data::asking(vec![Source::text("a text", tokens, 0.5)], &data, collator, context, 100).unwrap()
}

fn rows<'b>(batch: &'b Batch, name: &str) -> Vec<&'b [i32]> {
    let width = batch.column(name).unwrap().shape[1];
    batch.i32s(name).chunks(width).collect()
}

/// Every batch of some steps and of what is held out.
fn all(data: &Data, rows: usize, context: usize) -> Vec<Batch> {
    let held_out = data.held_out(rows, context).unwrap();
    let steps = (0..6).map(|step| data.batch(3, step, rows, context).unwrap());
    steps.chain((0..held_out.count()).map(|i| held_out.batch(i).unwrap())).collect()
}

/// Hidden tokens are asked and no others; with them back in their places, rows are the text between its marks.
#[test]
fn masked_rows_are_the_text() {
    let tokens = text(4000);
    let config = ObjectiveConfig::default();
    let d = data(Aim::Masked, &config, Packing::Windows, tokens.clone(), 34);
    let (mut asked, mut hidden, mut other, mut places) = (0, 0, 0, 0);
    for batch in all(&d, 4, 34) {
        for ((ids, labels), mask) in rows(&batch, "input_ids").into_iter().zip(rows(&batch, "labels")).zip(rows(&batch, "attention_mask")) {
            let n = mask.iter().filter(|m| **m == 1).count();
            assert!(mask[..n].iter().all(|m| *m == 1) && ids[n..].iter().all(|id| *id == 1) && labels[n..].iter().all(|l| *l == -100));
            if n == 0 {
                continue;
            }
            assert_eq!((ids[0], ids[n - 1], labels[0], labels[n - 1]), (3, 4, -100, -100));
            let whole: Vec<i32> = (1..n - 1).map(|i| if labels[i] < 0 { ids[i] } else { labels[i] }).collect();
            assert!(tokens.windows(whole.len()).any(|w| w == whole), "{whole:?}");
            let row: Vec<(i32, i32)> = ids.iter().copied().zip(labels.iter().copied()).filter(|(_, l)| *l >= 0).collect();
            assert_eq!(row.len(), ((n - 2) as f64 * 0.15).round().max(1.0) as usize);
            asked += row.len();
            places += n - 2;
            hidden += row.iter().filter(|(id, _)| *id == 2).count();
            other += row.iter().filter(|(id, l)| *id != 2 && id != l).count();
            assert!(row.iter().all(|(id, _)| *id == 2 || *id >= 20), "another token is text");
        }
    }
    let share = |n: usize, of: usize| n as f64 / of as f64;
    assert!((share(asked, places) - 0.15).abs() < 0.01, "{asked} of {places}");
    assert!((share(hidden, asked) - 0.8).abs() < 0.06 && (share(other, asked) - 0.1).abs() < 0.06, "{hidden} and {other} of {asked}");
    // each token of what is held out has its place once
    let held_out = d.held_out(4, 34).unwrap();
    let whole: usize = (0..held_out.count()).map(|i| held_out.batch(i).unwrap().i32s("attention_mask").iter().sum::<i32>() as usize).sum();
    assert_eq!(whole, 2000 + 2 * 2000usize.div_ceil(32));
}

/// A word is hidden whole or not at all.
#[test]
fn words_are_hidden_whole() {
    let config = ObjectiveConfig { whole_word: true, mask_rate: 0.3, ..ObjectiveConfig::default() };
    let d = data(Aim::Masked, &config, Packing::Windows, text(4000), 34);
    let mut seen = 0;
    for batch in all(&d, 4, 34) {
        for (ids, labels) in rows(&batch, "input_ids").into_iter().zip(rows(&batch, "labels")) {
            let was = |i: usize| if labels[i] < 0 { ids[i] } else { labels[i] };
            for i in 2..33 {
                if was(i) >= 20 && was(i) % 3 == 0 && was(i - 1) >= 20 {
                    assert_eq!(labels[i] >= 0, labels[i - 1] >= 0, "{ids:?} {labels:?}");
                    seen += usize::from(labels[i] >= 0);
                }
            }
        }
    }
    assert!(seen > 20);
}

/// A source with the target's spans in place of its sentinels is the text; the target is read from what fills up.
#[test]
fn spans_are_the_text() {
    let tokens = text(5000);
    for (context, target, density, mean) in [(32, 0, 0.15, 3.0), (32, 7, 0.15, 3.0), (57, 0, 0.5, 2.0), (9, 0, 0.15, 3.0), (64, 0, 0.3, 10.0)] {
        let config = ObjectiveConfig { target, noise_density: density, mean_span: mean, ..ObjectiveConfig::default() };
        let d = data(Aim::Spans, &config, Packing::Windows, tokens.clone(), context);
        let (mut noise, mut all_tokens) = (0, 0);
        for batch in all(&d, 3, context) {
            let columns = ["input_ids", "attention_mask", "labels", "decoder_input_ids"].map(|c| rows(&batch, c));
            for (i, source) in columns[0].iter().enumerate() {
                let n = columns[1][i].iter().sum::<i32>() as usize;
                let labels: Vec<i32> = columns[2][i].iter().copied().take_while(|l| *l >= 0).collect();
                if n == 0 {
                    assert!(labels.is_empty());
                    continue;
                }
                assert_eq!(columns[3][i][0], 1);
                assert_eq!(columns[3][i][1..labels.len()], labels[..labels.len() - 1]);
                assert_eq!((source[n - 1], labels[labels.len() - 1]), (5, 5));
                let parts: HashMap<i32, Vec<i32>> =
                    labels[..labels.len() - 1].chunk_by(|_, b| !(6..16).contains(b)).map(|part| (part[0], part[1..].to_vec())).collect();
                assert!(parts.values().all(|p| !p.is_empty()) || parts.is_empty());
                let back = |id: &i32| if (6..16).contains(id) { parts[id].clone() } else { vec![*id] };
                let whole: Vec<i32> = source[..n - 1].iter().flat_map(back).collect();
                assert!(tokens.windows(whole.len()).any(|w| w == whole), "{whole:?}");
                noise += labels.len() - 1 - parts.len();
                all_tokens += whole.len();
            }
        }
        assert!((noise as f64 / all_tokens as f64 - density).abs() < 0.04, "{noise} of {all_tokens} at {context}");
        // no place of a full row is left over for nothing, but where there are no more sentinels
        let full = d.batch(1, 0, 1, context).unwrap();
        assert!(target > 0 || context == 57 || full.i32s("attention_mask").iter().sum::<i32>() as usize >= context - 2);
    }
}

/// A text whose middle is asked is that text, without as many of its last tokens as there are marks.
#[test]
fn the_middle_comes_last() {
    let tokens = text(3000);
    for (fim_rate, spm_rate) in [(1.0, 0.0), (1.0, 1.0), (0.5, 0.5), (0.0, 0.5)] {
        let config = ObjectiveConfig { fim_rate, spm_rate, ..ObjectiveConfig::default() };
        let d = data(Aim::Fim, &config, Packing::Windows, tokens.clone(), 24);
        let (mut kinds, mut n) = ([0; 3], 0);
        for step in 0..40 {
            let batch = d.batch(5, step, 3, 24).unwrap();
            for (ids, labels) in rows(&batch, "input_ids").into_iter().zip(rows(&batch, "labels")) {
                let row: Vec<i32> = ids.iter().copied().chain([labels[23]]).collect();
                assert_eq!(row[1..], *labels);
                let at = |mark: i32| row.iter().position(|id| *id == mark);
                let (kind, whole) = match (at(16), at(17), at(18)) {
                    (None, None, None) => (0, row.clone()),
                    (Some(0), Some(1), Some(m)) => (2, [&row[m + 1..24], &row[2..m]].concat()),
                    (Some(0), Some(s), Some(m)) => (1, [&row[1..s], &row[m + 1..24], &row[s + 1..m]].concat()),
                    _ => panic!("{row:?}"),
                };
                // of SPM what is asked and what was before it are one: its end is where that is in the text
                assert!(tokens.windows(whole.len()).any(|w| w == whole), "{row:?}");
                assert!(kind == 0 || (row[24] == 5 && whole.len() == 21));
                kinds[kind] += 1;
                n += 1;
            }
        }
        let share = |i: usize| f64::from(kinds[i]) / f64::from(n);
        assert!((share(0) - (1.0 - fim_rate)).abs() < 0.2 && (share(2) - fim_rate * spm_rate).abs() < 0.2, "{kinds:?}");
    }
}

/// Nothing is asked that is seen, and everything else is.
#[test]
fn prefixes_are_not_asked() {
    let d = data(Aim::Prefix, &ObjectiveConfig::default(), Packing::Windows, text(2000), 16);
    let mut lengths = std::collections::BTreeSet::new();
    for step in 0..30 {
        let batch = d.batch(5, step, 2, 16).unwrap();
        for (labels, prefix) in rows(&batch, "labels").into_iter().zip(rows(&batch, "prefix_mask")) {
            let n = prefix.iter().sum::<i32>() as usize;
            assert!(prefix[..n].iter().all(|p| *p == 1));
            assert_eq!(labels.iter().position(|l| *l >= 0), Some(n.saturating_sub(1)));
            assert!(labels[n.saturating_sub(1)..].iter().all(|l| *l >= 0));
            lengths.insert(n);
        }
    }
    assert!(lengths.len() > 10 && lengths.contains(&15));
}

/// A batch is a function of the seed and the step, rows of other seeds, steps and epochs are drawn anew, and those held out never are.
#[test]
fn rows_follow_from_seed_and_number() {
    for (aim, context) in [(Aim::Masked, 34), (Aim::Spans, 32), (Aim::Fim, 24), (Aim::Prefix, 16)] {
        let make = || data(aim, &ObjectiveConfig::default(), Packing::Windows, text(200), context);
        let (a, b) = (make(), make());
        assert_eq!(a.batch(1, 5, 3, context).unwrap(), b.batch(1, 5, 3, context).unwrap());
        assert_ne!(a.batch(1, 5, 3, context).unwrap(), a.batch(2, 5, 3, context).unwrap());
        // steps of several micro-batches have the rows of as many steps of one
        let whole = a.batch(1, 2, 4, context).unwrap();
        for column in &whole.columns {
            let parts: Vec<i32> = (0..4).flat_map(|i| a.batch(1, 8 + i, 1, context).unwrap().i32s(column.name).to_vec()).collect();
            assert_eq!(whole.i32s(column.name), parts);
        }
        let held = |d: &Data| d.held_out(2, context).unwrap().batch(0).unwrap();
        assert_eq!(held(&a), held(&b));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let models = llm::Models::default();
    let of = |model: &str, sets: &[&str]| -> Result<Config, String> {
        let config = sets.iter().try_fold(recipe(model, &models).unwrap(), |c, s| c.set(s)).map_err(|e| e.to_string())?;
        config.check().map_err(|e| e.to_string()).map(|()| config)
    };
    for (model, sets, says) in [
        ("bert", vec!["objective.kind=next-token"], vec!["objective.kind is next-token", "a decoder", "bert is an encoder", "\"masked\""]),
        ("gpt2", vec!["objective.kind=mlm"], vec!["objective.kind is masked", "\"next-token\""]),
        ("t5", vec!["objective.kind=fim"], vec!["is both", "\"answer\""]),
        ("bert", vec!["data.packing=best-fit"], vec!["best-fit", "masked", "padded"]),
        ("gpt2", vec!["objective.kind=prefix", "data.packing=best-fit"], vec!["best-fit", "prefix"]),
        ("gpt2", vec!["objective.kind=guess"], vec!["'guess' is no objective", "next-token, masked"]),
        ("bert", vec!["objective.mask_rate=0"], vec!["mask_rate is 0", "above 0", "0.15"]),
        ("bert", vec!["objective.mask_random=0.3"], vec!["mask_random is 0.3"]),
        ("t5", vec!["objective.noise_density=1"], vec!["noise_density is 1", "below 1"]),
        ("t5", vec!["objective.mean_span=0.5"], vec!["mean_span is 0.5", "at least 1"]),
        ("gpt2", vec!["objective.label_smoothing=1"], vec!["label_smoothing is 1"]),
        ("gpt2", vec!["objective.z_loss=-1"], vec!["z_loss"]),
        ("gpt2", vec!["objective.z_los=1"], vec!["objective.z_los", "did you mean objective.z_loss"]),
    ] {
        let error = of(model, &sets).unwrap_err();
        assert!(says.iter().all(|w| error.contains(w)), "{model} {sets:?}: {error}");
    }
    for (aim, mark) in [(Aim::Masked, "[MASK]"), (Aim::Spans, "<extra_id_0>"), (Aim::Fim, "<|fim_prefix|>")] {
        let error = Collator::new(aim, &ObjectiveConfig::default(), &DataConfig::default(), &Marks::default()).unwrap_err().to_string();
        assert!(error.contains(mark) && error.contains("tokenizer extend"), "{error}");
    }
    // a tokenizer that is learned has what is asked for
    for (model, sets, aim) in
        [("bert", vec![], Aim::Masked), ("t5", vec!["objective.kind=spans"], Aim::Spans), ("gpt2", vec!["objective.kind=fim"], Aim::Fim)]
    {
        for kind in ["char", "byte", "bpe", "wordpiece", "unigram"] {
            let config = of(model, &[&sets[..], &[&format!("data.tokenizer={kind}"), "data.vocabulary=400"]].concat()).unwrap();
            let words = "the middle of a text is asked after its beginning and its end ".repeat(9);
            let learning = llm::text::Learning { specials: config.specials(), ..config.data.learning() };
            let tokenizer = llm::Tokenizer::learned(config.data.tokenizer, &learning, &words).unwrap().with_specials(&config.specials()).unwrap();
            let marks = Marks::of(&tokenizer);
            assert!(Collator::new(aim, &config.objective, &config.data, &marks).is_ok(), "{model} {kind}");
            assert!(aim == Aim::Fim || tokenizer.id("[PAD]").or(tokenizer.id("<pad>")) == Some(marks.pad));
            assert_eq!((0..marks.texts()).filter(|n| !marks.is_text(marks.text(*n))).count(), 0);
            assert_eq!(tokenizer.decode(&tokenizer.encode(&words).unwrap()).trim(), words.trim(), "{kind}");
        }
    }
}

/// −log softmax with the target spread, as PyTorch has it, and log² of the sum; labels that are ignored add to neither.
#[test]
fn terms_of_the_loss() {
    let (rows, v) = (5, 7);
    let mut r = Random(11);
    let x: Vec<f64> = (0..rows * v).map(|_| r.unit() * 5.0 + 2.0).collect();
    let labels = [3.0, -100.0, 0.0, 6.0, -100.0];
    for (label_smoothing, z_loss) in [(0.0, 0.0), (0.1, 0.0), (0.0, 1e-2), (0.3, 0.5)] {
        let b = Builder::default();
        let s = b.scope();
        let (logits, asked) = (s.input("logits", DType::F32, [1, rows, v]), s.input("labels", DType::I32, [1, rows]));
        cross_entropy_with(&s, logits, asked, Terms { label_smoothing, z_loss }).output(&b);
        let graph = b.finish().unwrap();
        let env = [("logits".to_string(), Value::new(vec![1, rows, v], x.clone())), ("labels".into(), Value::new(vec![1, rows], labels.to_vec()))];
        let out = eval(&graph, &env.into()).unwrap();
        let want: f64 = x
            .chunks(v)
            .zip(labels)
            .filter(|(_, l)| *l >= 0.0)
            .map(|(x, l)| {
                let sum = x.iter().map(|x| x.exp()).sum::<f64>().ln();
                let all = x.iter().map(|x| sum - x).sum::<f64>() / v as f64;
                (1.0 - label_smoothing) * (sum - x[l as usize]) + label_smoothing * all + z_loss * sum * sum
            })
            .sum();
        assert!((out[LOSS_SUM].data[0] - want).abs() < 1e-9, "{} and {want}", out[LOSS_SUM].data[0]);
        assert_eq!(out[LOSS_COUNT].data[0], 3.0);
    }
}

/// Rows whose labels are all the likeliest, of those that are asked anything.
#[test]
fn rows_that_are_exact() {
    let (batch, time, v) = (6, 3, 4);
    let mut r = Random(5);
    for case in 0..40 {
        let mut x: Vec<f64> = (0..batch * time * v).map(|_| r.unit()).collect();
        let labels: Vec<i32> = (0..batch * time).map(|i| if i < time || r.below(3) == 0 { -100 } else { r.below(v) as i32 }).collect();
        for (i, label) in labels.iter().enumerate().filter(|(_, l)| **l >= 0) {
            // most are right, and a tie is not
            match r.below(8) {
                0 => {}
                1 => x[i * v..(i + 1) * v].fill(0.5),
                _ => x[i * v + *label as usize] = 2.0,
            }
        }
        let right = |i: usize| {
            let (row, label) = (&x[i * v..(i + 1) * v], labels[i] as usize);
            (0..v).all(|k| k == label || row[k] < row[label])
        };
        let rows = (0..batch).map(|b| (b * time..(b + 1) * time).filter(|i| labels[*i] >= 0).collect::<Vec<_>>()).filter(|row| !row.is_empty());
        let (hits, all) = rows.fold((0, 0), |(hits, all), row| (hits + usize::from(row.into_iter().all(right)), all + 1));
        let b = Builder::default();
        let s = b.scope();
        let (logits, asked) = (s.input("logits", DType::F32, [batch, time, v]), s.input("labels", DType::I32, [batch, time]));
        models::losses::exact(&s, logits, asked).output(&b);
        let labels = labels.iter().map(|l| f64::from(*l)).collect();
        let env = [("logits".to_string(), Value::new(vec![batch, time, v], x)), ("labels".into(), Value::new(vec![batch, time], labels))];
        let out = eval(&b.finish().unwrap(), &env.into()).unwrap();
        assert_eq!((out[LOSS_SUM].data[0], out[LOSS_COUNT].data[0]), (hits as f64, all as f64), "case {case}");
    }
}

fn of(model: &str, sets: &[&str]) -> Config {
    sets.iter().fold(recipe(model, &llm::Models::default()).unwrap(), |c, s| c.set(s).unwrap())
}

fn asked(config: &Config, text: &str) -> (Data, llm::Tokenizer) {
    config.check().unwrap();
    let tokenizer = llm::Tokenizer::learned(config.data.tokenizer, &config.data.learning(), text).unwrap();
    let tokenizer = tokenizer.with_specials(&config.specials()).unwrap();
    let source = Source::of("a text", text, config, &tokenizer).unwrap();
    let collator = Collator::new(config.aim(), &config.objective, &config.data, &source.marks.clone()).unwrap();
    (Data::asking(vec![source], &config.data, collator, config.train.context, config.train.rows()).unwrap(), tokenizer)
}

/// A sequence and what is made of it, of a decoder in one row and of an encoder-decoder in two; none that is held out is trained on.
#[test]
fn tasks_make_their_pairs() {
    let (sort, reverse) = (of("sort", &[]), of("seq2seq-reverse", &[]));
    let (d, _) = asked(&sort, llm::symbols(&sort));
    let (mut seen, mut held) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    let held_out = d.held_out(64, 11).unwrap();
    let batches = (0..20).map(|step| (false, d.batch(1, step, 64, 11).unwrap()));
    for (out, batch) in batches.chain((0..held_out.count()).map(|i| (true, held_out.batch(i).unwrap()))) {
        for (ids, labels) in rows(&batch, "input_ids").into_iter().zip(rows(&batch, "labels")) {
            let mut sorted = ids[..6].to_vec();
            sorted.sort_unstable();
            assert_eq!((&labels[..5], &labels[5..], &ids[6..]), (&[-100; 5][..], &sorted[..], &sorted[..5]));
            if out {
                held.insert(ids[..6].to_vec())
            } else {
                seen.insert(ids[..6].to_vec())
            };
        }
    }
    assert!(seen.is_disjoint(&held) && seen.len() > 400 && held.len() > 120 && held.len() < 240, "{} and {}", seen.len(), held.len());
    assert_eq!(held_out.count() * 64, 1024);
    let (d, tokenizer) = asked(&reverse, llm::symbols(&reverse));
    let (pad, end) = (tokenizer.id("[PAD]").unwrap(), tokenizer.end_of_text().unwrap());
    let batch = d.batch(1, 3, 5, 9).unwrap();
    for (i, source) in rows(&batch, "input_ids").into_iter().enumerate() {
        let answer: Vec<i32> = source[..8].iter().rev().copied().chain([end]).collect();
        assert_eq!((source[8], rows(&batch, "attention_mask")[i][8]), (pad, 0));
        assert_eq!(rows(&batch, "labels")[i], answer);
        assert_eq!(rows(&batch, "decoder_input_ids")[i], [&[pad], &answer[..8]].concat());
    }
    // another seed has other sequences, whose answers are right
    assert_ne!(d.batch(2, 3, 5, 9).unwrap(), batch);
}

/// Lines are documents between two ends of a line, none is cut, and each is held out or not.
#[test]
fn lines_are_documents() {
    let names: Vec<String> = (0..300).map(|i| format!("{}{}", ["ann", "bo", "cleo"][i % 3], "x".repeat(i % 7))).collect();
    let text = names.join("\n") + "\n\n";
    for packing in ["padded", "best-fit"] {
        let config = of("gpt2", &["data.documents=lines", &format!("data.packing={packing}"), "train.context=12"]);
        let (d, tokenizer) = asked(&config, &text);
        let line = tokenizer.encode("\n").unwrap()[0];
        let counts = [&d.sources()[0].train, &d.sources()[0].held_out].map(|t| t.documents());
        assert_eq!(counts, [270, 30]);
        let held_out = d.held_out(8, 12).unwrap();
        let mut all = vec![];
        for i in 0..held_out.count() {
            let batch = held_out.batch(i).unwrap();
            for (ids, labels) in rows(&batch, "input_ids").into_iter().zip(rows(&batch, "labels")) {
                // a text begins with the end of a line, and one follows its last token
                let starts: Vec<usize> = (0..12).filter(|i| ids[*i] == line && labels[*i] >= 0).collect();
                assert!(packing == "best-fit" || starts == [0] || labels.iter().all(|l| *l < 0));
                for start in starts {
                    let name: Vec<i32> = labels[start..].iter().copied().take_while(|l| *l != line && *l >= 0).collect();
                    assert_eq!(labels[start + name.len()], line);
                    all.push(tokenizer.decode(&name));
                }
            }
        }
        assert_eq!(all.len(), 30);
        assert!(all.iter().all(|name| names.contains(name)));
    }
    let error = of("gpt2", &["data.documents=lines"]).check().unwrap_err().to_string();
    assert!(error.contains("data.documents is lines") && error.contains("padded"), "{error}");
}

/// Pairs of both formats are the same; what is none is named by its line.
#[test]
fn pairs_are_read() {
    let tsv = "how are you\tfine\n\nwho is it\tme\n";
    let path = std::path::Path::new;
    let lines = llm::pairs(path("a.tsv"), tsv).unwrap();
    assert_eq!(lines, "how are you\tfine\nwho is it\tme\n");
    for keys in [["source", "target"], ["question", "answer"], ["a", "b"]] {
        let jsonl: String = ["how are you", "fine", "who is it", "me"]
            .chunks(2)
            .map(|pair| format!("{{\"id\": 7, \"{}\": \"{}\", \"{}\": \"{}\"}}\n", keys[0], pair[0], keys[1], pair[1]))
            .collect();
        assert_eq!(llm::pairs(path("a.jsonl"), &jsonl).unwrap(), lines);
    }
    for (file, text, says) in [
        ("a.tsv", "a\tb\nno tab\n", "a.tsv:2: a line has 0 tabs"),
        ("a.tsv", "a\tb\tc\n", "a.tsv:1: a line has 2 tabs"),
        ("a.tsv", "a\t\n", "a.tsv:1: the answer is empty"),
        ("a.tsv", "\n", "there is no pair"),
        ("a.jsonl", "{\"a\": 1}\n", "a.jsonl:1: an object has 0 texts"),
        ("a.jsonl", "{\"a\": \"x\", \"b\": \"y\", \"c\": \"z\"}\n", "a.jsonl:1: an object has 3 texts"),
        ("a.jsonl", "nothing\n", "a.jsonl:1: this is no JSON"),
    ] {
        let error = llm::pairs(path(file), text).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    // a decoder is asked for the answer alone, and its end
    let text = lines.repeat(9);
    for (kind, prefix) in [("next-token", false), ("prefix", true)] {
        let config = of("gpt2", &["data.documents=pairs", "train.context=18", &format!("objective.kind={kind}")]);
        let (d, tokenizer) = asked(&config, &text);
        let batch = d.batch(1, 0, 4, 18).unwrap();
        for (i, ids) in rows(&batch, "input_ids").into_iter().enumerate() {
            let labels: Vec<i32> = rows(&batch, "labels")[i].iter().copied().filter(|l| *l >= 0).collect();
            let answer = tokenizer.decode(&labels);
            assert!(["fine\n", "me\n"].contains(&answer.as_str()), "{answer:?}");
            let all = tokenizer.decode(ids);
            assert!(all.contains("\tfine") || all.contains("\tme"), "{all:?}");
            if prefix {
                let n = rows(&batch, "prefix_mask")[i].iter().sum::<i32>() as usize;
                assert!(tokenizer.decode(&ids[..n]).ends_with('\t'));
            }
        }
    }
    for (model, sets, says) in [
        ("t5", vec![], "needs texts with answers"),
        ("bert", vec!["data.documents=pairs"], "reads texts without answers"),
        ("gpt2", vec!["data.task=sort", "train.context=10"], "needs 11"),
        ("gpt2", vec!["data.task=sort", "data.task_length=2"], "there are 9 sequences"),
        ("gpt2", vec!["data.task_symbols=1"], "task_symbols is 1"),
    ] {
        let error = of(model, &sets).check().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// Rows of uneven lengths in micro-batches of one are a batch of all, in what a step gives and makes of every tensor.
#[test]
fn uneven_micro_batches_are_one_batch() {
    let text: String = (0..40).map(|i| format!("{}\n", "abc d".repeat(1 + i % 4))).collect();
    let pairs: String = (0..40).map(|i| format!("{}\t{}\n", "abc".repeat(1 + i % 3), "d".repeat(1 + i % 5))).collect();
    let bert =
        ["num_hidden_layers=1", "num_attention_heads=1", "hidden_size=4", "intermediate_size=5", "data.documents=lines", "data.packing=padded"];
    let transformer = [
        "encoder_layers=1",
        "decoder_layers=1",
        "encoder_attention_heads=1",
        "decoder_attention_heads=1",
        "d_model=4",
        "encoder_ffn_dim=5",
        "decoder_ffn_dim=5",
        "data.documents=pairs",
        "objective.target=7",
    ];
    let sentences = [&bert[..], &["pooler=true", "sentence_head=true", "objective.next_sentence=true"]].concat();
    let lines: String = (0..60).map(|i| if i % 4 == 3 { "\n".into() } else { format!("{}\n", "a".repeat(1 + i % 3)) }).collect();
    for (model, sets, text) in [("bert", &bert[..], &text), ("transformer", &transformer[..], &pairs), ("bert", &sentences[..], &lines)] {
        let terms = ["train.context=11", "objective.label_smoothing=0.1", "objective.z_loss=0.01"];
        let config = of(model, &[sets, &terms[..]].concat());
        let (d, tokenizer) = asked(&config, text);
        let config = Config { model: config.model.with_vocabulary(tokenizer.size()).unwrap(), ..config };
        let batch = d.batch(1, 0, 4, 11).unwrap();
        let lengths: Vec<i32> = rows(&batch, "attention_mask").iter().map(|m| m.iter().sum()).collect();
        assert!(lengths.iter().any(|n| *n != lengths[0]), "{lengths:?}");
        let step = |rows: usize, accumulate: u32| {
            let graph = Objective::configured(&config, Mode::Train, rows, 11).unwrap();
            let stages = compile(&graph, Goal::Step(&Update { accumulate, ..Update::default() }), &Options::default()).unwrap();
            let mut env = environment(stages.last(), 3, 4);
            for (name, ty) in stages.last().inputs.iter().zip(stages.last().main().inputs()) {
                let value = match name.as_str() {
                    "lr" | "step" => vec![if name == "lr" { 0.1 } else { 1.0 }],
                    "next_sentence_weight" => match &batch.column(name).unwrap().values {
                        llm::Values::F32(x) => x.iter().map(|x| f64::from(*x)).collect(),
                        _ => panic!("weights are floats"),
                    },
                    _ => batch.i32s(name).iter().map(|x| f64::from(*x)).collect(),
                };
                env.insert(name.clone(), Value::new(ty.sizes(), value));
            }
            for (name, value) in env.iter_mut().filter(|(name, _)| !State::parse(name).is_parameter()) {
                if name.starts_with("adamw") {
                    value.data.fill(0.0);
                }
            }
            eval(stages.last(), &env).unwrap()
        };
        let (whole, parts) = (step(4, 1), step(1, 4));
        assert!(whole["loss"].data[0] > 0.5);
        if config.objective.next_sentence {
            assert!(whole.contains_key("@cls.seq_relationship.weight"));
            // the loss is the sum of both means
            let env = |graph: &ir::Graph| {
                let mut env = environment(graph, 3, 4);
                for (name, ty) in graph.inputs.iter().zip(graph.main().inputs()) {
                    env.insert(name.clone(), Value::new(ty.sizes(), batch.i32s(name).iter().map(|x| f64::from(*x)).collect()));
                }
                env
            };
            let plain = Config { objective: ObjectiveConfig { label_smoothing: 0.0, z_loss: 0.0, ..config.objective.clone() }, ..config.clone() };
            let graph = Objective::configured(&plain, Mode::Evaluate, 4, 11).unwrap();
            let out = eval(&graph, &env(&graph)).unwrap();
            let mean = |what: &str| out[&format!("{what}.sum")].data[0] / out[&format!("{what}.count")].data[0];
            assert_eq!(out["next_sentence.count"].data[0], 4.0);
            let train = Objective::configured(&plain, Mode::Train, 4, 11).unwrap();
            let mut both = env(&graph);
            let weight = batch.column("next_sentence_weight").unwrap();
            let llm::Values::F32(weights) = &weight.values else { panic!("weights are floats") };
            both.insert("next_sentence_weight".into(), Value::new(vec![4, 1], weights.iter().map(|x| f64::from(*x)).collect()));
            let loss = eval(&train, &both).unwrap();
            let have = loss[LOSS_SUM].data[0] / loss[LOSS_COUNT].data[0];
            assert!((have - mean("loss") - mean("next_sentence")).abs() < 1e-6, "{have}");
        }
        // what is added to all scores alike has no gradient but of rounding
        for (name, want) in whole.iter().filter(|(name, _)| !name.contains("key.bias") && !name.contains("k_proj.bias")) {
            // the first step is the sign of the gradient
            let near = if name.starts_with('@') && State::parse(&name[1..]).is_parameter() { 1e-4 } else { 1e-9 };
            let d = difference(&parts[name], want);
            assert!(d < near, "{model}: {name} differs by {d}");
        }
    }
}

/// A prefix is seen by all of it, what follows sees what is before: as a mask says it, row by row.
#[test]
fn a_prefix_sees_itself_whole() {
    let model = crate::common::gpt();
    let graph = Objective::NextToken.graph_of(&model, Mode::Evaluate, &["prefix_mask"]).unwrap();
    let graph = graph.bind(&|s| Some(if s == 'B' { 1 } else { 6 })).unwrap();
    let env = environment(&graph, 3, 11);
    let logits = |prefix: usize, change: Option<usize>| {
        let mut env = env.clone();
        env.insert("prefix_mask".into(), Value::new(vec![1, 6], (0..6).map(|i| f64::from(u8::from(i < prefix))).collect()));
        if let Some(place) = change {
            let ids = &mut env.get_mut("input_ids").unwrap().data;
            ids[place] = (ids[place] + 1.0) % 11.0;
        }
        eval(&graph, &env).unwrap()["logits"].data.clone()
    };
    for prefix in 0..6 {
        let before = logits(prefix, None);
        for place in 0..6 {
            let after = logits(prefix, Some(place));
            for query in 0..6 {
                let seen = place <= query || place < prefix;
                let same = before[query * 11..(query + 1) * 11] == after[query * 11..(query + 1) * 11];
                assert_eq!(same, !seen, "prefix {prefix}, token {place}, seen from {query}");
            }
        }
    }
    // and it is one attention
    let stages = compile(&graph, Goal::Results, &Options::default()).unwrap();
    assert!(stages.last().funcs.iter().flat_map(|f| &f.nodes).any(|n| n.op.name() == "attention"));
}

/// Two segments are of one text where the second follows, and of two where it does not: each as often, no sentence is cut where there is
/// room, and what is held out is other texts.
#[test]
fn segments_follow_or_not() {
    // text i has sentences of its own letter
    let letters: Vec<char> = ('a'..='z').chain('A'..='Z').collect();
    let sentence = |text: usize, i: usize| format!("{}{}", letters[text].to_string().repeat(2 + (text + i) % 4), i % 10);
    let texts: Vec<String> = (0..52).map(|t| (0..2 + t % 7).map(|i| sentence(t, i)).collect::<Vec<_>>().join("\n")).collect();
    let sets =
        ["objective.next_sentence=true", "data.documents=lines", "data.packing=padded", "pooler=true", "sentence_head=true", "train.context=24"];
    let (d, tokenizer) = asked(&of("bert", &sets), &(texts.join("\n\n") + "\n"));
    let held_out = d.held_out(4, 24).unwrap();
    let (mut follows, mut all) = ([0, 0], [std::collections::BTreeSet::new(), std::collections::BTreeSet::new()]);
    let batches = (0..60).map(|step| (0, d.batch(1, step, 4, 24).unwrap())).chain((0..held_out.count()).map(|i| (1, held_out.batch(i).unwrap())));
    for (part, batch) in batches {
        let columns = ["input_ids", "labels", "attention_mask", "token_type_ids", "next_sentence_label"].map(|c| rows(&batch, c));
        for i in 0..4 {
            let n = columns[2][i].iter().sum::<i32>() as usize;
            if n == 0 {
                assert_eq!(columns[4][i], [-100]);
                continue;
            }
            let ids: Vec<i32> = columns[0][i].iter().zip(columns[1][i]).map(|(id, l)| if *l < 0 { *id } else { *l }).take(n).collect();
            let first = columns[3][i].iter().position(|t| *t == 1).unwrap();
            assert!(columns[3][i][first..n].iter().all(|t| *t == 1));
            let [sep, cls] = ["[SEP]", "[CLS]"].map(|t| tokenizer.id(t).unwrap());
            assert_eq!((ids[0], ids[first - 1], ids[n - 1]), (cls, sep, sep));
            let (a, b) = (tokenizer.decode(&ids[1..first - 1]), tokenizer.decode(&ids[first..n - 1]));
            let label = columns[4][i][0];
            assert_eq!(label == 0, a.chars().next() == b.chars().next(), "{a} {b} {label}");
            let joined = format!("{a}{b}");
            assert!(label == 1 || texts.iter().any(|t| t.replace('\n', "").contains(&joined)), "{joined}");
            follows[label as usize] += 1;
            all[part].insert(a.chars().next().unwrap());
        }
    }
    assert!(follows[0] > 90 && follows[1] > 90, "{follows:?}");
    assert!(all[0].is_disjoint(&all[1]) && all[0].len() > 40 && all[1].len() > 2, "{all:?}");
    let error = |text: &str| {
        let config = of("bert", &sets);
        let tokenizer = llm::Tokenizer::of(llm::Kind::Char, text).unwrap().with_specials(&config.specials()).unwrap();
        let source = Source::of("a text", text, &config, &tokenizer).unwrap();
        let collator = Collator::new(config.aim(), &config.objective, &config.data, &source.marks.clone()).unwrap();
        Data::asking(vec![source], &config.data, collator, 24, 100).unwrap().batch(1, 0, 2, 24).unwrap_err().to_string()
    };
    assert!(error("one\ntwo\nthree\n").contains("two texts of two lines"));
    for (model, sets, says) in [
        ("gpt2", vec!["objective.next_sentence=true"], "the objective is next-token"),
        ("bert", vec!["objective.next_sentence=true"], "needs sentences, a line each"),
        ("bert", vec!["objective.next_sentence=true", "type_vocab_size=1"], "type_vocab_size is 1"),
    ] {
        let error = of(model, &sets).check().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let headless = of("bert", &sets[..3]);
    let error = Objective::configured(&headless, Mode::Train, 2, 24).unwrap_err().to_string();
    assert!(error.contains("sentence_head = true"), "{error}");
}

/// Documents of which some tokens are asked, of lengths from 1 on.
fn marked(r: &mut Random) -> Vec<Piece> {
    let one = |i: usize| {
        let length = if i == 0 { 1 } else { 1 + r.below(23) };
        let ids = (0..length).map(|_| 20 + r.below(80) as i32).collect();
        Piece::marked(ids, (0..length).map(|_| r.below(3) == 0).collect()).unwrap()
    };
    (0..40).map(one).collect()
}

/// However rows are made of documents, a token that is asked is a label once an epoch, behind the token before it, and no other is; the loss
/// counts as many.
#[test]
fn what_is_asked_of_documents_are_the_tokens_with_a_mark() {
    let mut r = Random(91);
    let (documents, context) = (marked(&mut r), 9);
    let source = || Source::marked("documents", &documents, &documents);
    for packing in Packing::ALL.iter().copied() {
        let config = DataConfig { packing, ..DataConfig::default() };
        let collator = Collator::new(Aim::NextToken, &ObjectiveConfig::default(), &config, &marks()).unwrap();
        let data = Data::asking(vec![source()], &config, collator, context, 100).unwrap();
        let held_out = data.held_out(3, context).unwrap();
        let mut found = vec![];
        for batch in (0..held_out.count()).map(|i| held_out.batch(i).unwrap()) {
            let pairs = batch.i32s("input_ids").iter().zip(batch.i32s("labels"));
            found.extend(pairs.filter(|(_, label)| **label >= 0).map(|(id, label)| (*id, *label)));
        }
        // windows read over the ends of documents
        let whole: Vec<Piece> = match packing {
            Packing::Windows => {
                let all = |d: &Piece| (0..d.ids.len()).map(|i| d.asks(i)).collect::<Vec<_>>();
                let asked = documents.iter().flat_map(all).collect();
                vec![Piece::marked(documents.iter().flat_map(|d| d.ids.clone()).collect(), asked).unwrap()]
            }
            Packing::Padded | Packing::BestFit | Packing::Bucketed => documents.clone(),
        };
        let one = |d: &Piece| (1..d.ids.len()).filter(|i| d.asks(*i)).map(|i| (d.ids[i - 1], d.ids[i])).collect::<Vec<_>>();
        let mut want: Vec<(i32, i32)> = whole.iter().flat_map(one).collect();
        assert_eq!(want.len(), whole.iter().map(Piece::count).sum::<usize>());
        found.sort_unstable();
        want.sort_unstable();
        assert_eq!(found, want, "{packing}");
        if packing != Packing::Windows {
            let epoch = data.epochs(1, 1000, context).unwrap()[0];
            let rows = (1000.0 / epoch).round() as usize;
            let batch = data.rows(1, 0, rows, context).unwrap();
            assert_eq!(batch.i32s("labels").iter().filter(|l| **l >= 0).count(), want.len(), "{packing}");
        }
    }
}

/// What is asked is part of what a source is known by.
#[test]
fn marks_and_parts_are_of_the_fingerprint() {
    let one = |asked: [bool; 3]| Piece::marked(vec![20, 21, 22], asked.to_vec()).unwrap();
    let (all, some) = (one([true; 3]), one([false, true, true]));
    let print = |train: &[Piece], held_out: &[Piece]| Source::marked("a", train, held_out).fingerprint;
    let (two, other) = ([all.clone(), all.clone()], [all.clone(), some.clone()]);
    assert_eq!(print(&two, &[Piece::all(vec![20, 21, 22])]), print(&two, std::slice::from_ref(&all)));
    assert_ne!(print(&two, &[some]), print(&other, &[all]));
    assert!(Piece::marked(vec![1, 2], vec![true]).unwrap_err().to_string().contains("2 tokens and 1 marks"));
}
