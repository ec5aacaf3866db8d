//! What was asked and what was said, a line of JSON a question.

use super::question::Question;
use super::score::Score;
use crate::error::{Error, Result, file_error};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// A question and what a model says of its answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The task's name.
    pub task: String,
    /// What results are told apart by.
    pub group: Option<String>,
    /// The answers, whose lengths count.
    pub choices: Vec<String>,
    /// The number of the right one.
    pub target: usize,
    /// Of each answer the log-probability, in nats.
    pub log_probabilities: Vec<f64>,
    /// Of each whether it is what the model would have written.
    pub greedy: Vec<bool>,
}

impl Sample {
    /// What is said of a question.
    pub fn of(task: &str, question: &Question, scores: &[Score]) -> Sample {
        Sample {
            task: task.into(),
            group: question.group.clone(),
            choices: question.choices.clone(),
            target: question.target,
            log_probabilities: scores.iter().map(|s| s.log_probability).collect(),
            greedy: scores.iter().map(|s| s.greedy).collect(),
        }
    }

    /// The line of a file, with what was asked.
    pub fn line(&self, number: usize, question: &Question, tokens: &[usize]) -> String {
        let arguments: Vec<Value> = question.arguments.iter().map(|(context, continuation)| json!([context, continuation])).collect();
        json!({
            "task": self.task, "group": self.group, "doc_id": number,
            "place": format!("{}:{}", question.document.path.display(), question.document.line),
            "arguments": arguments, "tokens": tokens, "choices": self.choices, "target": self.target,
            "logprobs": self.log_probabilities, "is_greedy": self.greedy,
        })
        .to_string()
    }

    /// The samples of a file: as this program writes them, or lm-evaluation-harness with `--log_samples`.
    pub fn read(path: &Path) -> Result<Vec<Sample>> {
        let mut file = BufReader::new(File::open(path).map_err(|e| file_error(path, "the samples cannot be read", e))?);
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let mut all = vec![];
        for number in 1.. {
            let fail = |why: String| Error(format!("{}:{number}: this is no sample: {why}", path.display()));
            let mut line = vec![];
            file.by_ref().take(LONGEST).read_until(b'\n', &mut line).map_err(|e| fail(e.to_string()))?;
            if line.is_empty() {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let value: Value = serde_json::from_slice(&line).map_err(|e| fail(e.to_string()))?;
            all.push(Sample::parse(&value, &stem).map_err(fail)?);
        }
        if all.is_empty() { Err(file_error(path, "there is no sample in it", "expected a line of JSON a question")) } else { Ok(all) }
    }

    fn parse(value: &Value, stem: &str) -> std::result::Result<Sample, String> {
        let choices = match &value["choices"] {
            Value::Array(all) => all.iter().map(|c| c.as_str().map(str::to_string)).collect::<Option<Vec<_>>>().ok_or("choices are texts")?,
            _ => of_arguments(&value["arguments"])?,
        };
        let pairs = match &value["logprobs"] {
            Value::Array(all) => all.iter().cloned().zip(value["is_greedy"].as_array().cloned().unwrap_or_default()).collect(),
            _ => of_responses(&value["filtered_resps"])?,
        };
        let log_probabilities = pairs.iter().map(|p| number(&p.0)).collect::<Option<Vec<f64>>>().ok_or("a log-probability is no number")?;
        let greedy = pairs.iter().map(|p| p.1 == Value::Bool(true) || p.1 == "True").collect();
        if choices.len() < 2 || log_probabilities.len() != choices.len() {
            return Err(format!("there are {} log-probabilities for {} answers", log_probabilities.len(), choices.len()));
        }
        let target = number(&value["target"]).filter(|n| n.fract() == 0.0 && (0.0..choices.len() as f64).contains(n));
        let by_text = || value["target"].as_str().and_then(|t| choices.iter().position(|c| c == t));
        let target = target.map(|n| n as usize).or_else(by_text);
        let target = target.ok_or_else(|| format!("the target {} is none of the {} answers", value["target"], choices.len()))?;
        let task = value["task"].as_str().unwrap_or(stem).to_string();
        Ok(Sample { task, group: value["group"].as_str().map(str::to_string), choices, target, log_probabilities, greedy })
    }
}

/// More bytes than any line has.
const LONGEST: u64 = 1 << 26;

/// A number that is finite, or the text of one.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).filter(|x| x.is_finite())
}

/// The answers of arguments as the harness logs them: what follows, without the space before it, or what stands before where that differs.
fn of_arguments(value: &Value) -> std::result::Result<Vec<String>, String> {
    let object = value.as_object().ok_or("there are neither choices nor arguments")?;
    let one = |i: usize| {
        let argument = object.get(&format!("gen_args_{i}"))?;
        Some((argument["arg_0"].as_str()?, argument["arg_1"].as_str()?))
    };
    let all: Vec<(&str, &str)> = (0..object.len()).map(one).collect::<Option<_>>().ok_or("arguments are no pairs of texts")?;
    let alike = all.iter().all(|a| a.0 == all[0].0);
    Ok(all.into_iter().map(|(context, answer)| if alike { answer.strip_prefix(' ').unwrap_or(answer) } else { context }.to_string()).collect())
}

/// Pairs of log-probability and whether it is greedy.
fn of_responses(value: &Value) -> std::result::Result<Vec<(Value, Value)>, String> {
    let pair = |v: &Value| Some((v.get(0)?.clone(), v.get(1)?.clone()));
    value.as_array().and_then(|all| all.iter().map(pair).collect()).ok_or("there are neither logprobs nor filtered_resps".into())
}
