//! What a run says of itself: written, cut back, read while it is written or where it is damaged.

use crate::common::Directory;
use llm::record::{BOARD, COLUMNS, From, History, METRICS, Progress, Recorder, SAMPLES, TABLE, duration, events, milliseconds, thousands};
use llm::{Cost, Event, Reads};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn ready(from_step: u64, to_step: u64) -> Event {
    let sources = vec![Reads { source: "text".into(), tokens: Some(1000), epochs: 2.5 }];
    Event::Ready { parameters: 10, bytes: 1 << 20, compile_seconds: 0.5, kernels: 3, from_step, to_step, sources, flops: 1e6, ceiling: Some(1e9) }
}

fn step(step: u64) -> Event {
    let cost = Cost { tokens: 24 * step, seconds: 0.25, waited: 0.125, mfu: Some(0.5), memory: 4096 };
    Event::Step { step, loss: 4.0 - step as f64 / 8.0, grad_norm: 0.5, lr: 1e-3, tokens_per_second: 64.0, cost }
}

fn evaluated(step: u64, loss: f64) -> Event {
    Event::Evaluated { step, loss, whole: false }
}

fn write(dir: &Path, from: From, all: &[Event]) {
    let mut record = Recorder::open(dir, from).unwrap();
    all.iter().for_each(|e| record.write(e).unwrap());
    record.finish().unwrap();
}

/// A table's lines without the hour.
fn table(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join(TABLE)).unwrap();
    assert!(text.starts_with(COLUMNS) && text.ends_with('\n'), "{text}");
    let columns = COLUMNS.trim().split(',').count();
    text.lines()
        .skip(1)
        .map(|l| {
            let cells: Vec<&str> = l.split(',').collect();
            assert_eq!(cells.len(), columns, "{l}");
            assert!(cells[1].parse::<f64>().unwrap() > 1.7e9, "seconds since 1970: {l}");
            [&cells[..1], &cells[2..]].concat().join(",")
        })
        .collect()
}

const TO_9: From = From { step: 0, to: 9 };

#[test]
fn a_table_has_a_line_a_step() {
    let d = Directory::new("record-table");
    let sampled = Event::Sampled { step: 2, text: "to be".into() };
    write(&d.0, TO_9, &[ready(0, 9), step(1), step(2), sampled, evaluated(2, 3.5), Event::Saved { step: 2 }, step(3)]);
    let line = |step: u64, held_out: &str| format!("{step},{},{},{held_out},0.001,0.5,250,125,64,0.5,4096", 24 * step, 4.0 - step as f64 / 8.0);
    let want = [line(1, ""), line(2, "3.5"), line(3, "")];
    assert_eq!(table(&d.0), want);
    assert_eq!(fs::read_to_string(d.0.join(SAMPLES)).unwrap(), "--- step 2\nto be\n\n");
    // cut back to a checkpoint, with what was evaluated after it; what follows has each step once
    write(&d.0, From { step: 2, to: 9 }, &[ready(2, 9), step(3), evaluated(3, 3.25)]);
    assert_eq!(table(&d.0), [line(1, ""), line(2, "3.5"), line(3, "3.25")]);
    // a run that ended is evaluated again when it goes on to nothing
    write(&d.0, From { step: 3, to: 3 }, &[ready(3, 3), Event::Evaluated { step: 3, loss: 3.125, whole: true }]);
    assert_eq!(table(&d.0), [line(1, ""), line(2, "3.5"), line(3, "3.125")]);
    // and what was written on the way stays with its step
    write(&d.0, From { step: 1, to: 9 }, &[ready(1, 9)]);
    assert_eq!((table(&d.0), fs::read_to_string(d.0.join(SAMPLES)).unwrap()), (vec![line(1, "")], String::new()));
    // a table that somebody damaged is made anew of the metrics
    fs::write(d.0.join(TABLE), "nonsense").unwrap();
    write(&d.0, From { step: 1, to: 9 }, &[step(2)]);
    assert_eq!(table(&d.0), [line(1, ""), line(2, "")]);
    // a new run begins with nothing
    write(&d.0, TO_9, &[]);
    assert_eq!(table(&d.0), [""; 0]);
}

/// A run that dies leaves the step whose line waits out of the table; it is there again when the run goes on.
#[test]
fn a_run_that_dies_loses_no_line() {
    let d = Directory::new("record-dies");
    let mut record = Recorder::open(&d.0, TO_9).unwrap();
    [ready(0, 9), step(1), step(2), Event::Saved { step: 2 }].iter().for_each(|e| record.write(e).unwrap());
    std::mem::forget(record);
    assert_eq!(table(&d.0).len(), 1);
    write(&d.0, From { step: 2, to: 9 }, &[step(3)]);
    assert_eq!(table(&d.0).len(), 3);
}

/// What TensorBoard's files say, decoded by the field numbers of its formats, and what it forgets when a run goes on.
#[test]
fn events_of_tensorboard() {
    let d = Directory::new("record-board");
    let sampled = Event::Sampled { step: 1, text: "to be\nor".into() };
    write(&d.0, TO_9, &[ready(0, 9), step(1), sampled, evaluated(1, 3.5)]);
    write(&d.0, From { step: 1, to: 9 }, &[ready(1, 9), step(2)]);
    let files = names(&d.0.join(BOARD));
    assert!(files.len() == 2 && files.iter().all(|f| f.starts_with("events.out.tfevents.")), "{files:?}");
    let read = |name: &str| fs::read(d.0.join(BOARD).join(name)).unwrap();
    let first = events(&read(&files[0])).unwrap();
    assert_eq!((first[0].file_version.as_deref(), first.len()), (Some("brain.Event:2"), 5));
    assert_eq!((first[1].step, first[1].session_log.unwrap().status), (1, 1));
    let values: Vec<(&str, f32)> = first[2].summary.as_ref().unwrap().value.iter().map(|v| (v.tag.as_str(), v.simple_value.unwrap())).collect();
    let want = [("loss/train", 3.875), ("grad_norm", 0.5), ("lr", 1e-3), ("tokens_per_second", 64.0), ("ms", 250.0), ("mfu", 0.5)];
    assert_eq!((first[2].step, values), (1, want.to_vec()));
    let text = &first[3].summary.as_ref().unwrap().value[0];
    let tensor = text.tensor.as_ref().unwrap();
    assert_eq!((text.tag.as_str(), tensor.dtype, tensor.string_val.concat()), ("sample", 7, b"    to be\n    or\n".to_vec()));
    assert_eq!(text.metadata.as_ref().unwrap().plugin_data.as_ref().unwrap().plugin_name, "text");
    assert_eq!(first[4].summary.as_ref().unwrap().value[0].simple_value, Some(3.5));
    // the second file voids steps from 2 on, and is read after the first
    let second = events(&read(&files[1])).unwrap();
    assert_eq!((second[1].step, second[1].session_log.unwrap().status, second[2].step), (2, 1, 2));
    // the bytes by hand: length, checksum of the length, the version as field 3, checksum of that
    let bytes = read(&files[0]);
    assert_eq!(bytes[..8], 24u64.to_le_bytes());
    assert_eq!((bytes[12], &bytes[21..23], &bytes[23..36]), (0x09, &[0x1A, 13][..], &b"brain.Event:2"[..]));
    // an end that is cut is no damage, and a bit that fell over is
    for cut in 0..bytes.len() {
        assert!(events(&bytes[..cut]).unwrap().len() < 5);
    }
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(events(&bad).is_err_and(|e| e.contains("checksum")), "byte {at}");
    }
}

/// Metrics read at every moment of their writing: what is whole is there, and the torn end is no damage.
#[test]
fn metrics_cut_anywhere() {
    let d = Directory::new("record-cut");
    write(&d.0, TO_9, &[ready(0, 9), Event::Notice("once".into()), step(1), evaluated(1, 3.5), step(2), Event::Notice("once".into())]);
    let text = fs::read(d.0.join(METRICS)).unwrap();
    let (mut before, mut rows) = (0, 0);
    for cut in 0..=text.len() {
        let h = History::of(&text[..cut]).unwrap();
        assert_eq!(h.damaged, 0, "cut at {cut}");
        assert!(h.rows.len() >= before && h.rows.iter().map(|r| r.step).eq(1..=h.rows.len() as u64));
        before = h.rows.len();
        rows = rows.max(before);
    }
    assert_eq!(rows, 2);
    let h = History::read(&d.0).unwrap();
    assert_eq!((h.best(), h.notices.len(), h.is_finished()), (Some((1, 3.5)), 1, false));
    let ready = h.ready.as_ref().unwrap();
    assert_eq!((ready.parameters, ready.to_step, ready.sources.clone()), (10, Some(9), vec![("text".to_string(), Some(1000))]));
    assert_eq!((h.last_loss(), h.seconds(), h.median(|r| r.ms)), (Some((3.875 + 3.75) / 2.0), 0.75, Some(250.0)));
    assert_eq!((h.rows[0].held_out, h.rows[1].held_out, h.rows[1].tokens), (Some(3.5), None, Some(48)));
}

/// Lines that are none, that lack what they need, or come again.
#[test]
fn damaged_metrics() {
    let read = |text: &str| History::of(text.as_bytes()).unwrap();
    let line = |n: u64| format!("{{\"event\":\"step\",\"step\":{n},\"loss\":1.5}}\n");
    let bad = "nonsense\n\"text\"\n[]\n\u{0}\n{\"event\":\"step\",\"step\":-1,\"loss\":1}\n{\"event\":\"step\",\"step\":3}\n{\"event\":\"step\",\"step\":1e3,\"loss\":1}\n{\"event\":\"evaluated\",\"loss\":1}\n{\"event\":\"sampled\",\"step\":1,\"text\":4}\n";
    let h = read(&format!("{}{bad}{}{}", line(1), line(1), line(2)));
    assert_eq!((h.damaged, h.rows.len()), (9, 2));
    // what a later version tells is no damage, nor what an earlier one did not
    let h = read("{\"event\":\"party\",\"step\":1}\n{\"event\":\"ready\",\"parameters\":1,\"bytes\":2,\"kernels\":3}\n");
    assert_eq!((h.damaged, h.ready.unwrap().to_step), (0, None));
    // a line without an end is not held
    let long = "x".repeat(3 << 20);
    let h = read(&format!("{long}\n{}", line(1)));
    assert!(h.damaged >= 3 && h.rows.len() == 1, "{}", h.damaged);
    // a run that died beyond its checkpoint, of a version that did not cut its metrics
    let again = "{\"event\":\"ready\",\"parameters\":1,\"bytes\":2,\"kernels\":3,\"from_step\":1}\n";
    let h = read(&format!("{}{}{}{again}{}", line(1), line(2), line(3), line(2)));
    assert_eq!(h.rows.iter().map(|r| r.step).collect::<Vec<_>>(), [1, 2]);
    let d = Directory::new("record-none");
    let error = History::read(&d.0).unwrap_err().to_string();
    assert!(error.contains(METRICS) && error.contains("directory of a run"), "{error}");
    fs::create_dir(d.0.join(METRICS)).unwrap();
    assert!(History::read(&d.0).is_err());
}

#[test]
fn the_line_people_read() {
    let mut p = Progress::new(0, 2000);
    let taken = |step: u64| Event::Step {
        step,
        loss: 2.1034,
        grad_norm: 0.83,
        lr: 9.4e-4,
        tokens_per_second: 18640.2,
        cost: Cost { tokens: 768 * step, seconds: 0.0412, waited: 0.0, mfu: Some(0.312), memory: 212 << 20 },
    };
    p.push(&taken(499));
    p.push(&evaluated(499, 2.1511));
    p.push(&taken(500));
    let want = "step 00500/02000 | loss 2.1034 | val 2.1511 | lr 9.4e-4 | norm 0.83 | 41.2 ms | 18,640 tok/s | mfu 31.2 % | peak 212 MiB | eta 1m02s";
    assert_eq!(p.line_after(Duration::from_secs_f64(62.0 / 3.0)), want);
    // what nobody knows is left out
    let mut p = Progress::new(7, 9);
    let cost = Cost { tokens: 80, seconds: 2.0, waited: 3.0, mfu: None, memory: 0 };
    p.push(&Event::Step { step: 8, loss: 1.0, grad_norm: 1.0, lr: 1e-3, tokens_per_second: 2.0, cost });
    assert_eq!(p.line_after(Duration::from_secs(5)), "step 00008/00009 | loss 1.0000 | lr 1.0e-3 | norm 1.00 | 2.00 s | 2 tok/s | eta 5s");
    assert_eq!([0, 7, 999, 1000, 18640, 1234567].map(thousands), ["0", "7", "999", "1,000", "18,640", "1,234,567"]);
    assert_eq!([0.4, 8.0, 62.0, 3600.0, 11100.0, 187_200.0].map(duration), ["0s", "8s", "1m02s", "1h00m", "3h05m", "2d04h"]);
    assert_eq!([0.0412, 0.9951, 3.414].map(milliseconds), ["41.2 ms", "995.1 ms", "3.41 s"]);
}
