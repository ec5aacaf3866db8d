//! Texts with their classes: read from a file, balanced, split, and made documents of.

use super::documents::{fingerprint, joined};
use super::marks::Marks;
use super::permutation::{Permutation, random};
use super::sources::Source;
use super::tokens::Tokens;
use crate::config::{ClassifyConfig, Config};
use crate::error::{Error, Result, file_error, hint};
use crate::text::{Specials, Template, TextEncoder, Tokenizer};
use models::Kind;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Texts with their classes, in the order of their file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// The classes by name, in the order of their numbers.
    pub classes: Vec<String>,
    /// Each text with the number of its class.
    pub texts: Vec<(String, usize)>,
}

/// The numbers of texts that are learned from, looked at on the way, and looked at once at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// To learn from.
    pub train: Vec<usize>,
    /// To look at on the way.
    pub validation: Vec<usize>,
    /// To look at once.
    pub test: Vec<usize>,
}

/// A text, the name of its class, and the line it stands in.
struct Record {
    line: u64,
    text: String,
    class: String,
}

/// More names of classes than this, each of them of one or two texts, are no classes.
const MANY: usize = 20;

impl Labelled {
    /// The texts of a file: of a name that ends in .jsonl or .ndjson an object a line, of .csv a table with a header, of another a class, a
    /// tab and its text a line, or in the order that a header says. Fields and columns have the configuration's names, and so have classes,
    /// where it has any. The error names the line.
    pub fn read(path: &Path, text: &str, config: &ClassifyConfig) -> Result<Labelled> {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let records = match ending {
            "jsonl" | "ndjson" => objects(path, text, config)?,
            "csv" => table(path, text, config)?,
            _ => lines(path, text, config)?,
        };
        if let Some(empty) = records.iter().find(|r| r.text.trim().is_empty() || r.class.is_empty()) {
            let what = if empty.class.is_empty() { "class" } else { "text" };
            return Err(at(path, empty.line, format!("the {what} is empty: expected at least one character")));
        }
        let classes = if config.classes.is_empty() { found(path, &records)? } else { config.classes.clone() };
        let number: BTreeMap<&str, usize> = classes.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
        let one = |r: Record| match number.get(r.class.as_str()) {
            Some(class) => Ok((r.text, *class)),
            None => {
                let known: Vec<&str> = classes.iter().map(String::as_str).collect();
                let shown = if known.len() <= MANY { format!(", expected {}", ir::either(&known)) } else { String::new() };
                Err(at(path, r.line, format!("{:?} is none of the {} classes{shown}{}", r.class, known.len(), hint(&r.class, &known))))
            }
        };
        let texts = records.into_iter().map(one).collect::<Result<_>>()?;
        Ok(Labelled { classes, texts })
    }

    /// How many texts there are of each class.
    pub fn counts(&self, of: &[usize]) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        of.iter().for_each(|i| counts[self.texts[*i].1] += 1);
        counts
    }

    /// Which text is of which part: a function of the texts' number, their classes and the settings. A share `held_out` is looked at on the
    /// way. Fails where there is none to learn from, or none to look at.
    pub fn parts(&self, config: &ClassifyConfig, held_out: f64) -> Result<Parts> {
        let shuffled = |of: Vec<usize>, key: u64| -> Vec<usize> {
            let order = Permutation::new(of.len().max(1) as u64, random(config.seed, key));
            (0..of.len() as u64).map(|place| of[order.at(place) as usize]).collect()
        };
        let of_class = |class: usize| (0..self.texts.len()).filter(|i| self.texts[*i].1 == class).collect::<Vec<_>>();
        let mut groups: Vec<Vec<usize>> = (0..self.classes.len()).map(|class| shuffled(of_class(class), 1 + class as u64)).collect();
        if config.balance {
            let least = groups.iter().map(Vec::len).min().unwrap_or(0);
            groups.iter_mut().for_each(|group| group.truncate(least));
        }
        if !config.stratified {
            groups = vec![shuffled(groups.concat(), 0)];
        }
        let mut parts = Parts::default();
        for group in groups {
            // a share of a whole number that is one is not to lose it to rounding
            let share = |share: f64| (group.len() as f64 * share + 1e-9) as usize;
            let (first, second) = (share(1.0 - held_out - config.test), share(held_out));
            let end = if config.test > 0.0 { first + second } else { group.len() };
            parts.train.extend(&group[..first]);
            parts.validation.extend(&group[first..end]);
            parts.test.extend(&group[end..]);
        }
        for (what, part) in [("to learn from", &parts.train), ("to look at on the way", &parts.validation)] {
            if part.is_empty() {
                let n = self.texts.len();
                return Err(Error(format!("of {n} texts none is left {what}: use more, or another data.held_out or classify.test")));
            }
        }
        Ok(parts)
    }

    /// All texts of a part, a line each, to learn a vocabulary from.
    pub fn text(&self, of: &[usize]) -> String {
        of.iter().flat_map(|i| [self.texts[*i].0.as_str(), "\n"]).collect()
    }

    /// The texts to learn from and to look at on the way as a source, and one that has those to look at once where there are any: each two
    /// documents, its tokens and the number of its class.
    pub fn sources(&self, name: &str, parts: &Parts, config: &Config, tokenizer: &Tokenizer) -> Result<(Source, Option<Source>)> {
        let mut reader = TextReader::new(tokenizer, config.model.kind(), config.train.context);
        let mut documents = |of: &[usize]| -> Result<Vec<Vec<i32>>> {
            let both = of.iter().map(|i| Ok([reader.ids(&self.texts[*i].0)?, vec![self.texts[*i].1 as i32]]));
            Ok(both.collect::<Result<Vec<_>>>()?.concat())
        };
        let marks = Marks::of(tokenizer);
        let (train, held_out, test) = (documents(&parts.train)?, documents(&parts.validation)?, documents(&parts.test)?);
        let fingerprint = fingerprint(&[&train[..], &held_out, &test].concat());
        let source = |train: Tokens, held_out: &[Vec<i32>]| {
            let (name, fingerprint, marks) = (name.to_string(), fingerprint.clone(), marks.clone());
            Source { name, train, held_out: joined(held_out), fingerprint, marks }
        };
        let of_test = (!test.is_empty()).then(|| source(joined(&[]), &test));
        Ok((source(joined(&train), &held_out), of_test))
    }
}

/// Texts to ids as a model reads them as a whole: with what its tokenizer, or else its kind, puts around them, cut to a length.
pub struct TextReader<'t> {
    encoder: TextEncoder<'t>,
    around: Template,
    longest: usize,
}

impl<'t> TextReader<'t> {
    /// A text has at most so many ids, those around it among them.
    pub fn new(tokenizer: &'t Tokenizer, kind: Kind, longest: usize) -> TextReader<'t> {
        let said = tokenizer.template();
        let around = if said == Template::default() && kind == Kind::Encoder {
            let marks = Marks::of(tokenizer);
            Template { before: marks.begin.into_iter().collect(), after: marks.separator.into_iter().collect() }
        } else {
            said
        };
        TextReader { encoder: tokenizer.encoder(), around, longest }
    }

    /// The ids of a text. A special token's name in it is text.
    pub fn ids(&mut self, text: &str) -> Result<Vec<i32>> {
        let Template { before, after } = &self.around;
        let mut ids = self.encoder.encode(text, Specials::Text)?;
        ids.truncate(self.longest.saturating_sub(before.len() + after.len()));
        let mut all = [&before[..], &ids, after].concat();
        all.truncate(self.longest);
        Ok(all)
    }
}

/// The classes that records have, in the order of the alphabet.
fn found(path: &Path, records: &[Record]) -> Result<Vec<String>> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    records.iter().for_each(|r| *counts.entry(&r.class).or_default() += 1);
    if counts.len() < 2 {
        let what = counts.keys().next().map_or("there is no text".to_string(), |class| format!("every text is of the class {class:?}"));
        return Err(file_error(path, &what, "expected texts of two classes at least"));
    }
    if counts.len() > MANY && 2 * counts.len() > records.len() {
        let why = format!(
            "{} classes in {} texts; expected a class, a tab and its text a line. Where the text is first, put a line with text, a tab and label above \
             all, or name the classes in classify.classes",
            counts.len(),
            records.len()
        );
        return Err(file_error(path, "these are hardly classes", why));
    }
    Ok(counts.into_keys().map(String::from).collect())
}

fn at(path: &Path, line: u64, why: String) -> Error {
    Error(format!("{}:{line}: {why}", path.display()))
}

/// A class, a tab and its text a line; the other way round below a header that says so.
fn lines(path: &Path, text: &str, config: &ClassifyConfig) -> Result<Vec<Record>> {
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).peekable();
    let (label, field) = (config.label.as_str(), config.text.as_str());
    let header = lines.peek().and_then(|(_, first)| first.split_once('\t'));
    let text_first = header == Some((field, label));
    if text_first || header == Some((label, field)) {
        lines.next();
    }
    let one = |(line, all): (u64, &str)| {
        let parts: Vec<&str> = all.split('\t').collect();
        match parts[..] {
            [text, class] if text_first => Ok(Record { line, text: text.into(), class: class.trim().into() }),
            [class, text] => Ok(Record { line, text: text.into(), class: class.trim().into() }),
            _ => {
                let tabs = parts.len() - 1;
                let one = if text_first { "between a text and its class" } else { "between a class and its text" };
                Err(at(path, line, format!("the line has {tabs} tabs, expected one, {one}; a name that ends in .csv or .jsonl is read as such")))
            }
        }
    };
    lines.map(one).collect()
}

/// A table with a header, values between commas, in quotes where they have one.
fn table(path: &Path, text: &str, config: &ClassifyConfig) -> Result<Vec<Record>> {
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let fail = |e: &csv::Error| {
        let line = e.position().map_or(1, csv::Position::line);
        at(path, line, format!("the table cannot be read: {e}"))
    };
    let header = reader.headers().map_err(|e| fail(&e))?.clone();
    let column = |name: &str, setting: &str| {
        let known: Vec<&str> = header.iter().collect();
        let missing =
            || at(path, 1, format!("the header has no column {name:?}, expected {}; try classify.{setting} = one of them", ir::either(&known)));
        known.iter().position(|k| *k == name).ok_or_else(missing)
    };
    let (text, class) = (column(&config.text, "text")?, column(&config.label, "label")?);
    let one = |record: csv::Result<csv::StringRecord>| {
        let record = record.map_err(|e| fail(&e))?;
        let line = record.position().map_or(1, csv::Position::line);
        Ok(Record { line, text: record[text].into(), class: record[class].trim().into() })
    };
    reader.records().map(one).collect()
}

/// An object a line.
fn objects(path: &Path, text: &str, config: &ClassifyConfig) -> Result<Vec<Record>> {
    let one = |(line, all): (u64, &str)| {
        let value: Value = serde_json::from_str(all).map_err(|e| at(path, line, format!("this is no JSON: {e}")))?;
        let field = |name: &str, setting: &str| match &value[name] {
            Value::String(s) => Ok(s.clone()),
            // classes are often numbers
            v @ (Value::Number(_) | Value::Bool(_)) if setting == "label" => Ok(v.to_string()),
            _ => {
                let known: Vec<&str> = value.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
                let others = if known.is_empty() { "it is no object".to_string() } else { format!("it has {}", ir::either(&known)) };
                Err(at(path, line, format!("the object has no text {name:?}: {others}; try classify.{setting} = another")))
            }
        };
        Ok(Record { line, text: field(&config.text, "text")?, class: field(&config.label, "label")?.trim().into() })
    };
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).map(one).collect()
}
