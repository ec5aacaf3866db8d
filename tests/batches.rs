//! Batches: what is asked follows what is read, nothing held out is learned, everything held out is asked once.

use llm::{Batch, Data, random};
use std::collections::{BTreeMap, BTreeSet};

/// What a batch reads and asks, row by row.
fn columns(b: &Batch, rows: usize, context: usize) -> (&[i32], &[i32]) {
    let shape = |name: &str| b.column(name).map(|c| c.shape.clone());
    assert_eq!((b.columns.len(), shape("input_ids"), shape("labels")), (2, Some(vec![rows, context]), Some(vec![rows, context])));
    (b.i32s("input_ids"), b.i32s("labels"))
}

/// Tokens that say where they stand.
fn places(n: usize) -> Vec<i32> {
    (0..n as i32).collect()
}

fn split(n: usize, held_out: f64, context: usize) -> Data {
    Data::split(places(n), held_out, context).unwrap()
}

#[test]
fn the_last_part_is_held_out() {
    let d = split(1000, 0.1, 8);
    assert_eq!((d.train, d.held_out), (places(900), places(1000)[900..].to_vec()));
    let d = split(1003, 0.25, 8);
    assert_eq!((d.train.len(), d.held_out.len()), (752, 251));
}

/// Each part needs one window and the token after it.
#[test]
fn parts_as_long_as_one_window() {
    let context = 5;
    let d = split(12, 0.5, context);
    assert_eq!((d.train.len(), d.held_out.len()), (6, 6));
    let batch = d.batch(1, 0, 3, context);
    assert_eq!(columns(&batch, 3, context), (&[0, 1, 2, 3, 4].repeat(3)[..], &[1, 2, 3, 4, 5].repeat(3)[..]));
    let held = d.held_out_batches(1, context);
    assert_eq!((held.len(), columns(&held[0], 1, context)), (1, (&[6, 7, 8, 9, 10][..], &[7, 8, 9, 10, 11][..])));
    for (n, part) in [(11, "training part of the text has 5 tokens"), (0, "training part of the text has 0 tokens")] {
        let error = Data::split(places(n), 0.5, context).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("needs 6") && error.contains("context 5"), "{error}");
    }
    let error = Data::split(places(50), 0.1, context).unwrap_err().to_string();
    assert!(error.contains("held-out part of the text has 5 tokens"), "{error}");
    assert!(Data::split(places(60), 0.1, context).is_ok());
}

/// Every label is the token after its input, and stands in the training part.
#[test]
fn labels_are_what_follows() {
    let (rows, context) = (6, 7);
    let d = split(100, 0.2, context);
    for step in 0..200 {
        let b = d.batch(3, step, rows, context);
        let (ids, labels) = columns(&b, rows, context);
        for (ids, labels) in ids.chunks(context).zip(labels.chunks(context)) {
            assert!((0..context).all(|i| ids[i] == ids[0] + i as i32 && labels[i] == ids[i] + 1), "{ids:?} {labels:?}");
            assert!(ids[0] >= 0 && labels[context - 1] < 80, "nothing held out is learned, not even as the last label");
        }
    }
}

/// Where windows begin.
fn starts(d: &Data, seed: u64, step: u64, rows: usize, context: usize) -> Vec<i32> {
    columns(&d.batch(seed, step, rows, context), rows, context).0.chunks(context).map(|w| w[0]).collect()
}

/// Every window of the training part is as likely as any other, the first and the last included.
#[test]
fn windows_cover_the_training_part_uniformly() {
    let (rows, context) = (5, 4);
    let d = split(40, 0.4, context);
    assert_eq!(d.train.len(), 24);
    let mut seen: BTreeMap<i32, u64> = BTreeMap::new();
    let steps = 2000;
    (0..steps).flat_map(|s| starts(&d, 9, s, rows, context)).for_each(|s| *seen.entry(s).or_default() += 1);
    let places = d.train.len() - context;
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), (0..places as i32).collect::<Vec<_>>());
    let expected = (steps * rows as u64) as f64 / places as f64;
    let x: f64 = seen.values().map(|n| (*n as f64 - expected).powi(2) / expected).sum();
    // χ² with 19 degrees of freedom: mean and 5 standard deviations
    assert!(x < 19.0 + 5.0 * 38f64.sqrt(), "χ² is {x}");
}

#[test]
fn a_batch_is_a_function_of_seed_and_step() {
    let (rows, context) = (8, 6);
    let d = split(100_000, 0.1, context);
    let at = |seed, step| starts(&d, seed, step, rows, context);
    assert_eq!(at(1, 5), at(1, 5));
    // no two windows of many steps, rows and seeds are often the same
    let all: Vec<i32> = (0..20).flat_map(|step| at(1, step)).chain((2..10).flat_map(|seed| at(seed, 0))).collect();
    let distinct: BTreeSet<i32> = all.iter().copied().collect();
    assert!(distinct.len() >= all.len() - 3, "{} of {}", distinct.len(), all.len());
    // as accumulated steps read them: one batch of twice the rows is two in a row
    let twice = starts(&d, 1, 3, 2 * rows, context);
    assert_eq!(twice, [at(1, 6), at(1, 7)].concat());
}

#[test]
fn held_out_tokens_are_asked_once() {
    for (n, context, rows) in [(200, 7, 3), (200, 8, 4), (60, 5, 1), (1000, 16, 64), (44, 1, 2), (64, 3, 9)] {
        let d = split(n, 0.5, context);
        let batches = d.held_out_batches(rows, context);
        let mut asked: Vec<i32> = vec![];
        for b in &batches {
            let (ids, labels) = columns(b, rows, context);
            for (id, label) in ids.iter().zip(labels) {
                assert!(*label == -100 || *label == id + 1, "what is asked follows what is read");
            }
            asked.extend(labels.iter().filter(|l| **l != -100));
            // a row is asked to some length and not beyond
            for row in labels.chunks(context) {
                let n = row.iter().filter(|l| **l != -100).count();
                assert!(row[..n].iter().all(|l| *l != -100));
            }
        }
        // all but the first, before which nothing is read
        assert_eq!(asked, d.held_out[1..], "{n} tokens, context {context}, {rows} rows");
        assert_eq!(batches.len(), (d.held_out.len() - 1).div_ceil(context).div_ceil(rows));
        // unasked inputs are ids of the vocabulary, whatever it is
        assert!(batches.iter().flat_map(|b| columns(b, rows, context).0).all(|i| *i == 0 || d.held_out.contains(i)));
    }
    let empty = Data { train: vec![], held_out: vec![] };
    assert!(empty.held_out_batches(2, 3).is_empty());
}

/// SplitMix64 as its authors print it: the first outputs for seed 1234567.
#[test]
fn random_bits_are_splitmix() {
    let wanted = [6457827717110365317u64, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821];
    assert_eq!((0..5).map(|i| random(1234567, i)).collect::<Vec<_>>(), wanted);
}
