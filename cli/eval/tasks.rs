//! Questions with answers, by log-likelihood.

use super::table::table;
use super::text::bar;
use super::{Args, chart, scorer};
use crate::cli::options::tokenizer;
use crate::cli::{note, say};
use eggcorn::llm::evaluate::{Examples, Mean, Question, Request, Sample, Score, Scorer, Seam, Summary, Task, groups, questions};
use eggcorn::llm::hub::Directory;
use eggcorn::llm::{Error, Result, Tokenizer, write_file};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// A task and the files it is asked on.
#[derive(Clone, Debug)]
pub struct TaskArg {
    name: String,
    path: PathBuf,
}

impl FromStr for TaskArg {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<TaskArg, String> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(TaskArg { name: name.into(), path: path.into() }),
            _ => Err("expected a task and its file or folder, as in hellaswag=hellaswag_val.jsonl".into()),
        }
    }
}

/// The questions of a task, with their requests.
struct Asked {
    task: Task,
    questions: Vec<Question>,
    /// A request an answer, question after question.
    requests: Vec<Request>,
    /// Questions whose beginning is not read.
    cut: usize,
}

pub fn run(args: &Args, directory: &Directory) -> Result<()> {
    let tokenizer = tokenizer(directory, args.tokenizer.as_deref())?;
    let seam = Seam::new(&tokenizer, prefix(directory, &tokenizer)?, directory.model().context());
    let all: Vec<Asked> = args.task.iter().map(|t| asked(args, t, &seam)).collect::<Result<_>>()?;
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
            write(&out.join(format!("{}.jsonl", asked.task.name)), asked, &samples)?;
        }
        if !args.json {
            say!("{}", asked.how(args));
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

/// The token that stands before a text with nothing before it.
fn prefix(directory: &Directory, tokenizer: &Tokenizer) -> Result<i32> {
    let generation = directory.generation()?;
    let known = generation.begin.or(generation.end.first().copied()).or(tokenizer.end_of_text());
    let first = || tokenizer.encode(&tokenizer.start()).ok()?.first().copied();
    known.or_else(first).ok_or_else(|| Error("the tokenizer has no token that a text could begin with".into()))
}

fn asked(args: &Args, arg: &TaskArg, seam: &Seam) -> Result<Asked> {
    let task = Task::open(&arg.name)?;
    let examples = Examples { count: args.num_fewshot, file: args.examples.clone(), seed: args.examples_seed };
    let mut all = vec![];
    for path in files(&arg.path, &task)? {
        all.extend(questions(&task, &path, &examples, args.limit)?);
    }
    let (mut requests, mut cut) = (vec![], 0);
    for question in &all {
        let mut short = false;
        for (context, continuation) in &question.arguments {
            let (request, tokens) = seam.request(context, continuation).map_err(|why| question.document.error("the answers", why))?;
            short |= tokens > 0;
            requests.push(request);
        }
        cut += usize::from(short);
    }
    if cut > 0 {
        note!("notice: {}: {cut} of {} questions are longer than the model reads: their beginning is not read", task.name, all.len());
    }
    Ok(Asked { task, questions: all, requests, cut })
}

/// A file, or those of a folder that have the task's format, in order of name.
fn files(path: &Path, task: &Task) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let extension = task.format.to_string();
    let entries = std::fs::read_dir(path).map_err(|e| Error(format!("{}: the folder cannot be read: {e}", path.display())))?;
    let mut all: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| *e == *extension)).collect();
    all.sort();
    if all.is_empty() { Err(Error(format!("{}: there is no .{extension} file in this folder", path.display()))) } else { Ok(all) }
}

/// What a model says of every task's requests, which are read together.
fn scores(all: &[Asked], scorer: &mut Scorer) -> Result<Vec<Vec<Score>>> {
    let requests: Vec<Request> = all.iter().flat_map(|a| a.requests.iter().cloned()).collect();
    let bar = bar(0);
    let mut scores = scorer.score(&requests, &mut |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let mut out: Vec<Vec<Score>> = vec![];
    for asked in all {
        let rest = scores.split_off(asked.requests.len());
        out.push(std::mem::replace(&mut scores, rest));
    }
    Ok(out)
}

impl Asked {
    fn samples(&self, scores: &[Score]) -> Vec<Sample> {
        let mut rest = scores;
        let one = |question: &Question| {
            let (own, later) = rest.split_at(question.arguments.len());
            rest = later;
            Sample::of(&self.task.name, question, own)
        };
        self.questions.iter().map(one).collect()
    }

    /// How it is asked.
    fn how(&self, args: &Args) -> String {
        let Task { name, text, contexts, delimiter, .. } = &self.task;
        let prompt = text.as_ref().or(contexts.as_ref()).map_or(String::new(), |t| format!("{t:?}"));
        let examples = match (args.num_fewshot, args.examples_seed) {
            (0, _) => "no examples".into(),
            (n, None) => format!("the first {n} examples"),
            (n, Some(seed)) => format!("{n} examples by seed {seed}"),
        };
        let (tokens, read): (usize, usize) = self.requests.iter().fold((0, 0), |n, r| (n.0 + r.asked, n.1 + r.tokens.len()));
        let cut = if self.cut > 0 { format!("; {} questions are cut", self.cut) } else { String::new() };
        format!(
            "{name}: {} questions, {examples}; prompt {prompt}, then {delimiter:?} and an answer; {tokens} of {read} tokens asked{cut}\n\
             acc by log-probability, acc_norm by that over characters, acc_bytes over bytes; ± the sample's standard error",
            self.questions.len()
        )
    }
}

fn write(path: &Path, asked: &Asked, samples: &[Sample]) -> Result<()> {
    let mut rest = &asked.requests[..];
    let mut text = String::new();
    for (i, (question, sample)) in asked.questions.iter().zip(samples).enumerate() {
        let (own, later) = rest.split_at(question.arguments.len());
        rest = later;
        text += &sample.line(i, question, &own.iter().map(|r| r.asked).collect::<Vec<_>>());
        text.push('\n');
    }
    write_file(path, text.as_bytes())
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
