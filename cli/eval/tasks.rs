//! Questions with answers, by log-likelihood.

use super::table::table;
use super::text::bar;
use super::{Args, chart, scorer};
use crate::cli::options::tokenizer;
use crate::cli::{note, say};
use eggcorn::llm::evaluate::{self, Asked, Examples, Mean, Sample, Score, Scorer, Seam, Summary, Task, groups};
use eggcorn::llm::hub::Directory;
use eggcorn::llm::{Error, Result, write_file};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

pub fn run(args: &Args, directory: &Directory) -> Result<()> {
    let tokenizer = tokenizer(directory, args.tokenizer.as_deref())?;
    let seam = Seam::of(&tokenizer, &directory.generation()?, directory.model().context())?;
    let examples = Examples { count: args.num_fewshot, file: args.examples.clone(), seed: args.examples_seed };
    let all: Vec<Asked> = args.task.iter().map(|t| Asked::read(t, &examples, args.limit, &seam)).collect::<Result<_>>()?;
    all.iter().filter_map(Asked::notice).for_each(|notice| note!("notice: {notice}"));
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).map_err(|e| Error(format!("--out {}: the folder cannot be made: {e}", out.display())))?;
    }
    let mut model = scorer(args, directory, false)?;
    let start = Instant::now();
    let scores = scores(&all, &mut model)?;
    let took = [start.elapsed() - model.compiling(), model.compiling()];
    let random = if args.baselines { Some(self::scores(&all, &mut scorer(args, directory, true)?)?) } else { None };
    for (i, asked) in all.iter().enumerate() {
        let samples = asked.samples(&scores[i]);
        let random = random.as_ref().map(|random| asked.samples(&random[i]));
        if let Some(out) = &args.out {
            asked.write(&out.join(format!("{}.jsonl", asked.task.name)), &samples)?;
        }
        if !args.json {
            say!("{}", how(asked, args));
        }
        report(args, &samples, random.as_deref(), Some(took))?;
    }
    if !args.json {
        let [reading, compiling] = took.map(|d| d.as_secs_f64());
        let questions: usize = all.iter().map(|a| a.questions.len()).sum();
        say!("{questions} questions in {reading:.1} s, {:.1} a second; compiled in {compiling:.1} s", questions as f64 / reading.max(1e-9));
    }
    Ok(())
}

/// Figures of samples that were stored.
pub fn stored(args: &Args, path: &Path) -> Result<()> {
    let samples = Sample::read(path)?;
    let mut names: Vec<&str> = samples.iter().map(|s| s.task.as_str()).collect();
    names.dedup();
    names.sort_unstable();
    names.dedup();
    names.into_iter().try_for_each(|name| {
        let own: Vec<Sample> = samples.iter().filter(|s| s.task == name).cloned().collect();
        report(args, &own, None, None)
    })
}

/// What a model says of every task's requests.
fn scores(all: &[Asked], scorer: &mut Scorer) -> Result<Vec<Vec<Score>>> {
    let bar = bar(0);
    let scores = evaluate::scores(all, scorer, &mut |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    scores
}

/// How a task is asked.
fn how(asked: &Asked, args: &Args) -> String {
    let Task { name, text, contexts, delimiter, .. } = &asked.task;
    let prompt = text.as_ref().or(contexts.as_ref()).map_or(String::new(), |t| format!("{t:?}"));
    let examples = match (args.num_fewshot, args.examples_seed) {
        (0, _) => "no examples".into(),
        (n, None) => format!("the first {n} examples"),
        (n, Some(seed)) => format!("{n} examples by seed {seed}"),
    };
    let (tokens, read): (usize, usize) = asked.requests.iter().fold((0, 0), |n, r| (n.0 + r.asked, n.1 + r.tokens.len()));
    let cut = if asked.cut > 0 { format!("; {} questions are cut", asked.cut) } else { String::new() };
    format!(
        "{name}: {} questions, {examples}; prompt {prompt}, then {delimiter:?} and an answer; {tokens} of {read} tokens asked{cut}\n\
             acc by log-probability, acc_norm by that over characters, acc_bytes over bytes; ± the sample's standard error",
        asked.questions.len()
    )
}

/// Prints what a task comes to, and of its groups, and draws it.
fn report(args: &Args, samples: &[Sample], random: Option<&[Sample]>, took: Option<[Duration; 2]>) -> Result<()> {
    let name = samples[0].task.clone();
    let by_random = random.map(groups);
    let mut rows = vec![];
    for (group, own) in groups(samples) {
        let random = by_random.as_ref().map(|all| Summary::of(&all[group]));
        rows.push((group.to_string(), Summary::of(&own), random));
    }
    let whole = (name.clone(), Summary::of(&samples.iter().collect::<Vec<_>>()), random.map(|r| Summary::of(&r.iter().collect::<Vec<_>>())));
    let single = rows.len() == 1 && rows[0].0.is_empty();
    let rows: Vec<_> = std::iter::once(whole).chain(rows.into_iter().filter(|_| !single)).collect();
    if let Some(out) = &args.out {
        let bars: Vec<chart::Bar> = rows.iter().map(|(name, s, _)| chart::Bar { name: name.clone(), of: s.acc, chance: s.chance }).collect();
        write_file(&out.join(format!("{name}.svg")), chart::draw(&name, &bars)?.as_bytes())?;
    }
    if args.json {
        rows.iter().skip(1).for_each(|row| say!("{}", object(&name, Some(&row.0), row)));
        let mut whole = object(&name, None, &rows[0]);
        if let (Some([reading, compiling]), Value::Object(fields)) = (took, &mut whole) {
            fields.insert("seconds".into(), reading.as_secs_f64().into());
            fields.insert("compile_seconds".into(), compiling.as_secs_f64().into());
        }
        say!("{whole}");
    } else {
        print(&rows);
    }
    Ok(())
}

type Row = (String, Summary, Option<Summary>);

fn print(rows: &[Row]) {
    let mut heads = vec!["", "questions", "acc", "acc_norm", "acc_bytes", "bits/byte", "chance", "majority"];
    heads.extend(rows[0].2.as_ref().map(|_| "random weights"));
    let mean = |m: &Mean| format!("{:.4}{}", m.mean, m.error.map_or(String::new(), |e| format!(" ± {e:.4}")));
    let cells = |(name, s, random): &Row| {
        let mut cells = vec![name.clone(), s.questions.to_string(), mean(&s.acc), mean(&s.acc_norm), mean(&s.acc_bytes)];
        cells.extend([Some(s.bits_per_byte), Some(s.chance), s.majority].map(|x| x.map_or("-".into(), |x| format!("{x:.4}"))));
        cells.extend(random.as_ref().map(|r| mean(&r.acc)));
        cells
    };
    table(&heads, &rows.iter().map(cells).collect::<Vec<_>>());
}

fn object(task: &str, group: Option<&str>, (_, s, random): &Row) -> Value {
    let mean = |m: &Mean| json!({"mean": m.mean, "stderr": m.error});
    json!({
        "task": task, "group": group, "questions": s.questions, "acc": mean(&s.acc), "acc_norm": mean(&s.acc_norm), "acc_bytes": mean(&s.acc_bytes),
        "bits_per_byte": s.bits_per_byte, "chance": s.chance, "majority": s.majority, "random_weights": random.as_ref().map(|r| mean(&r.acc)),
    })
}
