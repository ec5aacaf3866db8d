//! Batches: what is asked follows what is read, nothing held out is learned, everything held out is asked once.

use llm::{Batch, Data, DataConfig, Permutation, Source, random};
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

/// The tokens of both parts.
fn parts(d: &Data) -> (Vec<i32>, Vec<i32>) {
    let all = |t: &llm::Tokens| t.read(0..t.count()).unwrap();
    (all(&d.sources()[0].train), all(&d.sources()[0].held_out))
}

/// Every held-out batch.
fn held_out(d: &Data, rows: usize, context: usize) -> Vec<Batch> {
    let batches = d.held_out(rows, context).unwrap();
    (0..batches.count()).map(|i| batches.batch(i).unwrap()).collect()
}

#[test]
fn the_last_part_is_held_out() {
    let d = split(1000, 0.1, 8);
    assert_eq!(parts(&d), (places(900), places(1000)[900..].to_vec()));
    let (train, held_out) = parts(&split(1003, 0.25, 8));
    assert_eq!((train.len(), held_out.len()), (752, 251));
}

/// Each part needs one window and the token after it.
#[test]
fn parts_as_long_as_one_window() {
    let context = 5;
    let d = split(12, 0.5, context);
    assert_eq!((parts(&d).0.len(), parts(&d).1.len()), (6, 6));
    let batch = d.batch(1, 0, 3, context).unwrap();
    assert_eq!(columns(&batch, 3, context), (&[0, 1, 2, 3, 4].repeat(3)[..], &[1, 2, 3, 4, 5].repeat(3)[..]));
    let held = held_out(&d, 1, context);
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
        let b = d.batch(3, step, rows, context).unwrap();
        let (ids, labels) = columns(&b, rows, context);
        for (ids, labels) in ids.chunks(context).zip(labels.chunks(context)) {
            assert!((0..context).all(|i| ids[i] == ids[0] + i as i32 && labels[i] == ids[i] + 1), "{ids:?} {labels:?}");
            assert!(ids[0] >= 0 && labels[context - 1] < 80, "nothing held out is learned, not even as the last label");
        }
    }
}

/// Where windows begin.
fn starts(d: &Data, seed: u64, step: u64, rows: usize, context: usize) -> Vec<i32> {
    columns(&d.batch(seed, step, rows, context).unwrap(), rows, context).0.chunks(context).map(|w| w[0]).collect()
}

/// Each epoch has each of its windows once, and they are side by side; where the first begins is as likely here as there.
#[test]
fn an_epoch_has_each_window_once() {
    for (n, context, windows, over) in
        [(24, 4, 5, 3), (25, 4, 5, 4), (27, 4, 5, 6), (28, 4, 6, 3), (5, 4, 1, 0), (8, 4, 1, 3), (11, 4, 1, 6), (2, 1, 1, 0), (9, 1, 8, 0)]
    {
        let d = Data::split(places(2 * n), 0.5, context).unwrap();
        let mut phases: BTreeMap<i32, u64> = BTreeMap::new();
        let mut orders = BTreeSet::new();
        let epochs = 600;
        for epoch in 0..epochs {
            let order = starts(&d, 9, epoch, windows, context);
            let mut sorted = order.clone();
            sorted.sort();
            assert!(sorted.windows(2).all(|w| w[1] == w[0] + context as i32), "{sorted:?}");
            *phases.entry(sorted[0]).or_default() += 1;
            orders.insert(order.iter().map(|s| s - sorted[0]).collect::<Vec<_>>());
        }
        assert_eq!(phases.keys().copied().collect::<Vec<_>>(), (0..=over).collect::<Vec<_>>(), "{n} tokens");
        let expected = epochs as f64 / phases.len() as f64;
        let x: f64 = phases.values().map(|n| (*n as f64 - expected).powi(2) / expected).sum();
        // χ²: mean and 5 standard deviations
        assert!(x <= f64::from(over) + 5.0 * f64::from(2 * over).sqrt(), "χ² is {x}");
        // of 120 orders of five nearly all are met in 600 epochs
        assert!(windows != 5 || orders.len() > 100, "{} orders", orders.len());
    }
}

/// Unless epochs are staggered, each has the same windows, from the first token on, in another order.
#[test]
fn windows_stand_where_they_stood() {
    for (n, context, windows) in [(24, 4, 5), (25, 4, 6), (5, 4, 1), (8, 4, 1), (2, 1, 1), (9, 1, 8)] {
        let config = DataConfig { held_out: 0.5, stagger: false, ..DataConfig::default() };
        let d = Data::new(vec![Source::text("text", places(2 * n), 0.5)], &config, context, 0).unwrap();
        let want: Vec<i32> = (0..windows as i32).map(|w| w * context as i32).collect();
        let mut orders = BTreeSet::new();
        for epoch in 0..50 {
            let order = starts(&d, 9, epoch, windows, context);
            orders.insert(order.clone());
            let mut sorted = order;
            sorted.sort();
            assert_eq!(sorted, want, "{n} tokens");
        }
        assert!(windows < 5 || orders.len() > 30, "{} orders", orders.len());
    }
}

/// Numbers and places are matched one to one whatever the bound, and no place prefers a number.
#[test]
fn permutations_are_such_and_look_random() {
    for count in (1..70).chain([100, 255, 256, 257, 1000, 1024, 4095, 5000]) {
        for key in 0..4 {
            let p = Permutation::new(count, key);
            let all: BTreeSet<u64> = (0..count).map(|i| p.at(i)).collect();
            assert_eq!(all, (0..count).collect(), "{count} under {key}");
        }
    }
    let (count, keys) = (10u64, 20_000u64);
    let mut seen = vec![0u64; 100];
    for key in 0..keys {
        let p = Permutation::new(count, random(1, key));
        (0..count).for_each(|place| seen[(place * count + p.at(place)) as usize] += 1);
    }
    let expected = keys as f64 / count as f64;
    let x: f64 = seen.iter().map(|n| (*n as f64 - expected).powi(2) / expected).sum();
    // χ² with 81 degrees of freedom: mean and 5 standard deviations
    assert!(x < 81.0 + 5.0 * 162f64.sqrt(), "χ² is {x}");
    // neighbours do not stay together: of 10⁶ numbers about one pair of places has one
    let p = Permutation::new(1_000_000, 5);
    let together = (1..1_000_000).filter(|i| p.at(*i) == p.at(i - 1) + 1).count();
    assert!(together < 10, "{together} pairs");
    // the largest bound
    assert!(Permutation::new(u64::MAX, 3).at(u64::MAX - 1) < u64::MAX);
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
        let (batches, tokens) = (held_out(&d, rows, context), parts(&d).1);
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
        assert_eq!(asked, tokens[1..], "{n} tokens, context {context}, {rows} rows");
        assert_eq!(batches.len(), (tokens.len() - 1).div_ceil(context).div_ceil(rows));
        // unasked inputs are ids of the vocabulary, whatever it is
        assert!(batches.iter().flat_map(|b| columns(b, rows, context).0).all(|i| *i == 0 || tokens.contains(i)));
    }
}

/// SplitMix64 as its authors print it: the first outputs for seed 1234567.
#[test]
fn random_bits_are_splitmix() {
    let wanted = [6457827717110365317u64, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821];
    assert_eq!((0..5).map(|i| random(1234567, i)).collect::<Vec<_>>(), wanted);
}
