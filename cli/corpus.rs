//! What `--data` names: texts, prepared folders and files of tokens, alone or mixed.

use super::note;
use eggcorn::llm::{
    Aim, Config, DataConfig, Error, INDEX, Index, Labelled, Marks, OWN_TEXT, Parts, Result, Shards, Source, Specials, Task, Tokenizer, Unit, chat,
    chat::Template, pairs, preferences, read_text, symbols, words,
};
use eggcorn::runtime::cores;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A path, and its weight where several are mixed.
#[derive(Clone, Debug, PartialEq)]
pub struct DataArg {
    path: PathBuf,
    weight: Option<f64>,
}

impl FromStr for DataArg {
    type Err = std::convert::Infallible;

    /// `PATH` or `PATH:WEIGHT`; a path that is there as it stands has no weight.
    fn from_str(text: &str) -> std::result::Result<DataArg, Self::Err> {
        let weighted = text.rsplit_once(':').and_then(|(path, weight)| Some((path, weight.parse().ok()?)));
        Ok(match weighted.filter(|_| !Path::new(text).exists()) {
            Some((path, weight)) => DataArg { path: path.into(), weight: Some(weight) },
            None => DataArg { path: text.into(), weight: None },
        })
    }
}

impl fmt::Display for DataArg {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        self.weight.map_or(Ok(()), |w| write!(f, ":{w}"))
    }
}

/// What a path is.
enum Kind {
    /// A text in UTF-8.
    Text,
    /// A prepared folder.
    Folder,
    /// Tokens and nothing else, with the tokenizer in the same folder.
    Tokens,
}

impl DataArg {
    fn kind(&self) -> Kind {
        match &self.path {
            path if path.join(INDEX).exists() => Kind::Folder,
            path if path.extension().is_some_and(|e| e == "bin") => Kind::Tokens,
            _ => Kind::Text,
        }
    }

    /// Whether it is tokens already.
    pub fn is_tokens(&self) -> bool {
        !matches!(self.kind(), Kind::Text)
    }

    /// The tokenizer that its tokens are of.
    fn tokenizer(&self) -> Option<Result<Tokenizer>> {
        match self.kind() {
            Kind::Text => None,
            Kind::Folder => Some(Index::read(&self.path).and_then(|i| Tokenizer::open(&self.path.join(i.tokenizer.file), None))),
            Kind::Tokens => Some(Tokenizer::read(self.path.parent().unwrap_or(Path::new("")))),
        }
    }

    /// Its conversations, split as a configuration says.
    pub fn conversations(&self, config: &Config) -> Result<chat::Parts> {
        chat::Parts::of(&chat::lines(&chat::read_records(&self.path, &read_text(&self.path)?)?), config)
    }

    /// What is tokens already; none of a text.
    fn shards(&self, tokenizer: &Tokenizer, held_out: f64) -> Result<Option<Source>> {
        let name = self.path.display().to_string();
        match self.kind() {
            Kind::Text => Ok(None),
            Kind::Folder => folder(&self.path, &name, tokenizer).map(Some),
            Kind::Tokens => Ok(Some(Source::shards(&name, Shards::plain(&self.path, tokenizer.size(), held_out)?))),
        }
    }

    /// The source as a configuration takes it.
    fn source(&self, tokenizer: &Tokenizer, text: Option<String>, config: &Config, template: Option<&Template>) -> Result<Source> {
        let (name, unit) = (self.path.display().to_string(), config.data.documents);
        match (self.shards(tokenizer, config.data.held_out)?, template) {
            (None, Some(template)) if unit == Unit::Chat => {
                let (source, counts) = chat::Parts::of(&text.unwrap_or_default(), config)?.source(&name, config, tokenizer, template)?;
                note!("{name}: {counts}");
                Ok(source)
            }
            (None, template) => Source::by(&name, &text.unwrap_or_default(), config, tokenizer, template),
            (Some(shards), _) if unit == Unit::Text => Ok(shards.with_marks(Marks::of(tokenizer))),
            (Some(_), _) => {
                Err(Error(format!("{name}: data.documents is {unit}, and these are tokens already; give a text, or data.documents = \"text\"")))
            }
        }
    }
}

fn folder(path: &Path, name: &str, tokenizer: &Tokenizer) -> Result<Source> {
    let shards = Shards::open(path, Some(&tokenizer.fingerprint()))?;
    let (have, want) = (Index::read(path)?.tokenizer.vocabulary, tokenizer.size());
    if have != want {
        return Err(Error(format!("{name}: the vocabulary of its index is {have}, and its tokenizer's {want}; prepare the corpus again")));
    }
    Ok(Source::shards(name, shards))
}

/// The weights that are given become the configuration's.
pub fn weigh(args: &[DataArg], config: Config) -> Result<Config> {
    if let Some(again) = args.iter().find(|a| args.iter().filter(|b| b.path == a.path).count() > 1) {
        return Err(Error(format!("--data: {} is named twice; name it once, with a larger weight", again.path.display())));
    }
    let weights: Vec<f64> = args.iter().filter_map(|a| a.weight).collect();
    match weights.len() {
        0 => Ok(config),
        n if n == args.len() => Ok(Config { data: DataConfig { weights, ..config.data }, ..config }),
        _ => Err(Error("--data: some have a weight and some have none; give each one, as in --data A:0.7 --data B:0.3".into())),
    }
}

/// The sources and the tokenizer of all texts: the one that is named, or that of prepared tokens, where there are such, else one that is learned of
/// the texts. Without any path it is this project's own source, for the recipe that is for that.
pub fn open(
    args: &[DataArg],
    texts: Vec<Option<String>>,
    config: &Config,
    named: Option<Tokenizer>,
    template: Option<&Template>,
    learn: &dyn Fn(&str) -> Result<Tokenizer>,
) -> Result<(Vec<Source>, Tokenizer)> {
    let tokenizer = match named.map(Ok).or_else(|| prepared(args).transpose()).transpose()? {
        Some(tokenizer) => tokenizer,
        None => {
            let of = |text: &String| template.map_or(Ok(text.clone()), |t| chat::contents(text, config, t));
            let all = texts.iter().flatten().map(of).collect::<Result<String>>()?;
            learn(&if config.data.documents == Unit::Preferences && template.is_none() { words(&all) } else { all })?
        }
    };
    let alone = if config.data.task == Task::None { ALONE.to_string() } else { format!("the task {}", config.data.task) };
    let alone = DataArg { path: alone.into(), weight: None };
    let args = if args.is_empty() { std::slice::from_ref(&alone) } else { args };
    let one = |(arg, text): (&DataArg, Option<String>)| arg.source(&tokenizer, text, config, template);
    let sources = args.iter().zip(texts).map(one).collect::<Result<Vec<Source>>>()?;
    Ok((sources, tokenizer))
}

/// The sources of paths for a tokenizer that is there.
pub fn sources(args: &[DataArg], tokenizer: &Tokenizer, held_out: f64) -> Result<Vec<Source>> {
    let text = |arg: &DataArg| {
        let ids = tokenizer.encode_in(&read_text(&arg.path)?, Specials::Text, cores())?;
        Ok(Source::text(&arg.path.display().to_string(), ids, held_out))
    };
    args.iter().map(|arg| arg.shards(tokenizer, held_out)?.map_or_else(|| text(arg), Ok)).collect()
}

/// The tokenizer of what is tokens already.
fn prepared(args: &[DataArg]) -> Result<Option<Tokenizer>> {
    let all = args.iter().filter_map(DataArg::tokenizer).collect::<Result<Vec<_>>>()?;
    match all.iter().position(|t| *t != all[0]) {
        Some(i) => Err(Error(format!("--data: what is mixed must be of one tokenizer, and that of number {} among the prepared is another", i + 1))),
        None => Ok(all.into_iter().next()),
    }
}

/// The text of each path that is one, of texts that fit what is asked.
pub fn texts(args: &[DataArg], recipe: &str, config: &Config) -> Result<Vec<Option<String>>> {
    config.check_text()?;
    let text = |path: &Path| {
        let text = read_text(path)?;
        match config.data.documents {
            Unit::Pairs => pairs(path, &text),
            Unit::Preferences => preferences(path, &text),
            Unit::Chat => Ok(chat::lines(&chat::read_records(path, &text)?)),
            Unit::Text | Unit::Lines | Unit::Classes => Ok(text),
        }
    };
    match args {
        [] if config.data.task != Task::None => Ok(vec![Some(symbols(config).into())]),
        _ if config.data.task != Task::None => {
            Err(Error(format!("data.task is {}, which makes its own text: leave --data away, or give data.task = \"none\"", config.data.task)))
        }
        [] if recipe == "self" => Ok(vec![Some(OWN_TEXT.into())]),
        [] => Err(Error(format!("the recipe {recipe} needs a text: add --data FILE"))),
        _ => args.iter().map(|a| if a.is_tokens() { Ok(None) } else { text(&a.path).map(Some) }).collect(),
    }
}

/// The name of this project's own source.
const ALONE: &str = "the project's own text";

/// Texts with their classes, and which of them is of which part.
pub struct Classes {
    name: String,
    labelled: Labelled,
    parts: Parts,
    /// What is looked at once, at the end.
    test: Option<Source>,
}

/// The texts with classes that a configuration reads, of one file; none where it asks for no classes.
pub fn labelled(args: &[DataArg], recipe: &str, config: &Config) -> Result<Option<Classes>> {
    if config.aim() != Aim::Classes {
        return Ok(None);
    }
    config.check_text()?;
    let [DataArg { path, weight: None }] = args else {
        return Err(Error(format!("the recipe {recipe} needs one file of texts with their classes: add --data FILE.tsv, .csv or .jsonl")));
    };
    let labelled = Labelled::read(path, &read_text(path)?, &config.classify)?;
    let parts = labelled.parts(&config.classify, config.data.held_out)?;
    Ok(Some(Classes { name: path.display().to_string(), labelled, parts, test: None }))
}

impl Classes {
    /// The classes by name.
    pub fn classes(&self) -> &[String] {
        &self.labelled.classes
    }

    /// What is learned from, by the tokenizer that is named, or one that is learned of the texts to learn from.
    pub fn open(&mut self, config: &Config, named: Option<Tokenizer>, learn: &dyn Fn(&str) -> Result<Tokenizer>) -> Result<(Vec<Source>, Tokenizer)> {
        let tokenizer = named.map_or_else(|| learn(&self.labelled.text(&self.parts.train)), Ok)?;
        let (source, test) = self.labelled.sources(&self.name, &self.parts, config, &tokenizer)?;
        self.test = test;
        Ok((vec![source], tokenizer))
    }

    /// The texts to learn from, each with the number of its class.
    pub fn learned(&self) -> impl Iterator<Item = (&str, usize)> {
        self.of(&self.parts.train)
    }

    /// The texts that are looked at once; those that are looked at on the way, where there are none.
    pub fn looked_at(&self) -> impl Iterator<Item = (&str, usize)> {
        self.of(if self.parts.test.is_empty() { &self.parts.validation } else { &self.parts.test })
    }

    fn of<'a>(&'a self, part: &'a [usize]) -> impl Iterator<Item = (&'a str, usize)> {
        part.iter().map(|i| (self.labelled.texts[*i].0.as_str(), self.labelled.texts[*i].1))
    }

    /// What is looked at once, at the end.
    pub fn test(&mut self) -> Option<Source> {
        self.test.take()
    }
}
