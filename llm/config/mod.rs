//! The configuration of a run: one TOML file, recipes, and `--set a.b=c`.

mod adapter;
mod chat;
mod classify;
mod dial;
mod distill;
mod layers;
mod models;
mod mup;
mod objective;
mod optimizer;
mod policy;
mod precision;
mod preference;
mod ramp;
mod recipe;
mod schedule;
pub(crate) mod settings;
mod train;

pub use self::models::Models;
pub use adapter::{AdapterConfig, AdapterKind};
pub use chat::{Asked, ChatConfig};
pub use classify::ClassifyConfig;
pub use dial::of_width;
use dial::width;
pub use distill::{DistillConfig, Divergence};
use layers::Share;
pub use layers::{Depth, Depths};
pub use objective::{Aim, ObjectiveConfig};
pub use optimizer::{GroupConfig, OptimizerConfig, OptimizerName};
pub use policy::{PolicyConfig, PolicyKind, RewardKind};
pub use precision::Precision;
pub use preference::{Preference, PreferenceConfig};
pub use ramp::{Ramp, Size};
pub use recipe::{RECIPES, Recipe, recipe};
pub use schedule::{Curve, Decay, Schedule};
pub use train::{RESUMABLE, TrainConfig};

use crate::adapter::Adapter;
use crate::data::{Marks, Packing, SYMBOLS, Stage, Task, Unit, mixture};
use crate::error::{Error, Result, file_error, hint};
use crate::files::{read_short, write_file};
use crate::objective::{Objective, parameters};
use crate::text::{Kind, Learning, Split};
use ::models::check::within;
use ::models::{Head, Model};
use ir::Type;
use passes::Update;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Bound::Excluded;
use std::path::Path;
use std::sync::Arc;
use toml::{Table, Value};

/// Everything that determines a run, but for the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The model. Its vocabulary is the tokenizer's, whatever is written here.
    pub model: Model,
    /// The text.
    pub data: DataConfig,
    /// What is asked.
    pub objective: ObjectiveConfig,
    /// Which classes there are, where that is asked.
    pub classify: ClassifyConfig,
    /// How preferences are learned, where that is asked.
    pub preference: PreferenceConfig,
    /// How a policy learns, where that is asked.
    pub policy: PolicyConfig,
    /// How conversations become texts.
    pub chat: ChatConfig,
    /// Whom the model imitates, where that is asked.
    pub distill: DistillConfig,
    /// The training.
    pub train: TrainConfig,
    /// How parameters are updated.
    pub optimizer: OptimizerConfig,
    /// What is trained beside the model's parameters.
    pub adapter: AdapterConfig,
}

/// How text becomes tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// The tokenizer.
    pub tokenizer: Kind,
    /// Tokens of one that is learned from the text.
    pub vocabulary: usize,
    /// How text becomes words, of one that is learned by byte-pair encoding.
    pub split: Split,
    /// How tokens begin that a tokenizer has more than the model which training begins with: mean, as the mean of the others, or seed.
    pub new_tokens: NewTokens,
    /// The share of the text, at its end, that is held out.
    pub held_out: f64,
    /// What a text is made of: text, lines, of which each is a document, pairs, each a text and its answer with a tab between, classes, each
    /// a class and its text, or preferences, each a prompt and answers that are better and worse.
    pub documents: Unit,
    /// What is learned where the program makes its own pairs, and there is no text: none, sort, reverse or add.
    pub task: Task,
    /// Symbols a sequence of a task; digits of each number, of add.
    pub task_length: usize,
    /// How many symbols there are: digits, then letters.
    pub task_symbols: usize,
    /// How tokens become rows: windows, best-fit or padded.
    pub packing: Packing,
    /// Whether windows begin elsewhere in each epoch, so that they end at other places.
    pub stagger: bool,
    /// The weight of each source in the mixture; none for equal weights.
    pub weights: Vec<f64>,
    /// Other weights from a share of the run on.
    pub curriculum: Vec<Stage>,
}

/// How the rows of new tokens begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NewTokens {
    /// As the mean of those of the tokens there are.
    #[default]
    Mean,
    /// As those of a model from scratch.
    Seed,
}

ir::spell!(NewTokens, "start", [Mean "mean", Seed "seed"]);

impl Default for DataConfig {
    fn default() -> DataConfig {
        DataConfig {
            tokenizer: Kind::Char,
            vocabulary: 8192,
            split: Split::Gpt2,
            new_tokens: NewTokens::Mean,
            held_out: 0.1,
            documents: Unit::Text,
            task: Task::None,
            task_length: 6,
            task_symbols: 3,
            packing: Packing::Windows,
            stagger: true,
            weights: vec![],
            curriculum: vec![],
        }
    }
}

impl DataConfig {
    /// Whether what is read are pairs, a text and its answer or its class.
    pub fn pairs(&self) -> bool {
        self.together() > 1
    }

    /// Documents that belong together: a text and its answer or its class, or answers that are better and worse.
    pub fn together(&self) -> u64 {
        match self.documents {
            _ if self.task != Task::None => 2,
            Unit::Text | Unit::Lines | Unit::Chat => 1,
            Unit::Pairs | Unit::Classes => 2,
            Unit::Preferences => crate::data::PREFERENCES,
        }
    }

    /// Why a task is none, if it is none.
    fn check_task(&self) -> std::result::Result<(), String> {
        let usual = DataConfig::default();
        within("data.task_length", self.task_length, 1..=1 << 16, usual.task_length)?;
        within("data.task_symbols", self.task_symbols, 2..=SYMBOLS.len(), usual.task_symbols)?;
        // a share is held out, and both parts have some
        let sequences = self.task.sequences(self.task_length, self.task_symbols);
        if self.task != Task::None && sequences < 64.0 {
            let (length, symbols) = (self.task_length, self.task_symbols);
            return Err(format!(
                "data.task_length is {length} and data.task_symbols {symbols}: there are {sequences} sequences, expected at least 64; try \
                 data.task_length = 6"
            ));
        }
        Ok(())
    }

    /// How a tokenizer is learned, where it is.
    pub fn learning(&self) -> Learning {
        Learning { vocabulary: self.vocabulary, split: self.split, ..Learning::default() }
    }
}

/// The sections of a configuration, and the key of the model's name.
const SECTIONS: [&str; 11] = ["model", "data", "objective", "classify", "preference", "policy", "distill", "chat", "train", "optimizer", "adapter"];
/// Settings that had another section once, and are understood there in files that earlier versions wrote: key, before, now.
const MOVED: [(&str, &str, &str); 3] = [("beta1", "train", "optimizer"), ("beta2", "train", "optimizer"), ("weight_decay", "train", "optimizer")];
const ARCH: &str = "arch";

impl Config {
    /// A model with the usual text and training.
    pub fn of(model: Model) -> Config {
        let usual = TrainConfig::default();
        let train = TrainConfig { context: usual.context.min(model.context()), ..usual };
        Config {
            model,
            data: DataConfig::default(),
            objective: ObjectiveConfig::default(),
            classify: ClassifyConfig::default(),
            preference: PreferenceConfig::default(),
            policy: PolicyConfig::default(),
            chat: ChatConfig::default(),
            distill: DistillConfig::default(),
            train,
            optimizer: OptimizerConfig::default(),
            adapter: AdapterConfig::default(),
        }
    }

    /// Reads TOML. What it does not say is as it is by default.
    pub fn parse(text: &str, file: &str, models: &Models) -> Result<Config> {
        let table: Table = text.parse().map_err(|e| Error(settings::syntax_error(text, file, &e)))?;
        let lines = settings::lines(text);
        let place = |section: &str, key: &str| match lines.iter().find(|l| l.0 == section && l.1 == key) {
            Some((.., line)) => format!("{file}:{line}"),
            None => file.to_string(),
        };
        let arch = match table.get("model").and_then(|m| m.get(ARCH)) {
            Some(Value::String(arch)) => arch,
            _ => return Err(Error(format!("{file}: model.arch is missing: expected {}", ir::either(&models.names())))),
        };
        let mut config = Config::of(models.by_name(arch).map_err(|e| Error(format!("{}: model.arch: {e}", place("model", ARCH))))?);
        for (section, keys) in table {
            let Value::Table(keys) = keys else {
                let at = place("", &section);
                return Err(Error(format!("{at}: {section} is in no section: expected [{}] above it", ir::either(&SECTIONS))));
            };
            if !SECTIONS.contains(&section.as_str()) {
                let at = keys.keys().next().map_or(file.to_string(), |k| place(&section, k));
                return Err(Error(format!("{at}: there is no section [{section}]; there are {}{}", SECTIONS.join(", "), hint(&section, &SECTIONS))));
            }
            for (key, value) in keys.into_iter().filter(|(key, _)| section != "model" || key != ARCH) {
                let now = MOVED.iter().find(|m| m.0 == key && m.1 == section).map_or(section.as_str(), |m| m.2);
                config = config.assign(now, &key, value).map_err(|e| Error(format!("{}: {e}", place(&section, &key))))?;
            }
        }
        Ok(config)
    }

    /// The file's name in a run directory.
    pub const FILE: &'static str = "config.toml";
    /// How the file begins there: whose it is.
    pub const MARK: &'static str = "# The configuration of a run, written by eggcorn";

    /// More bytes than any has.
    pub const LONGEST: u64 = 1 << 20;

    /// Reads a file.
    pub fn read(path: &Path, models: &Models) -> Result<Config> {
        let text = read_short(path, Config::LONGEST).map_err(|e| file_error(path, "the configuration cannot be read", e))?;
        Config::parse(&text, &path.display().to_string(), models)
    }

    /// Reads the configuration of a run directory.
    pub fn of_run(dir: &Path, models: &Models) -> Result<Config> {
        let path = dir.join(Config::FILE);
        let config = Config::read(&path, models)?;
        config.check_model().map_err(|e| Error(format!("{}: {e}", path.display())))?;
        Ok(config)
    }

    /// Writes it into a run directory.
    pub fn write(&self, dir: &Path) -> Result<()> {
        write_file(&dir.join(Config::FILE), format!("{}.\n{}", Config::MARK, self.to_toml()).as_bytes())
    }

    /// The configuration as TOML, with every setting.
    pub fn to_toml(&self) -> String {
        let mut all = Table::from_iter(SECTIONS.map(|s| (s.to_string(), Value::Table(self.written(s)))));
        let arch = Table::from_iter([(ARCH.to_string(), Value::String(self.model.name().into()))]);
        all["model"] = Value::Table(arch.into_iter().chain(self.written("model")).collect());
        toml::to_string(&all).expect("a configuration has a TOML form")
    }

    /// Changes one value: `train.lr=3e-4`, or `n_layer=2` for a key of the model.
    pub fn set(&self, assignment: &str) -> Result<Config> {
        let (path, value) =
            assignment.split_once('=').ok_or_else(|| Error(format!("--set {assignment}: expected key=value, as in train.lr=3e-4")))?;
        let (section, key) = path.trim().split_once('.').unwrap_or(("model", path.trim()));
        self.assign(section, key, settings::read(value)).map_err(|e| Error(format!("--set {assignment}: {e}")))
    }

    /// The same configuration with one setting changed. Its range is not checked yet.
    fn assign(&self, section: &str, key: &str, value: Value) -> std::result::Result<Config, String> {
        let known = self.section(section);
        let Some(old) = known.get(key) else { return Err(self.unknown(section, key)) };
        let shown = value.to_string();
        let value = settings::fit(old, value).map_err(|e| format!("{section}.{key} is {shown}, expected {e}, as in {key} = {old}"))?;
        let mut keys = self.written(section);
        keys.insert(key.into(), value);
        let mut config = self.clone();
        let read = match section {
            "model" => self.model.with(keys).map(|m| config.model = m),
            "data" => keys.try_into().map(|d| config.data = d).map_err(said),
            "objective" => keys.try_into().map(|o| config.objective = o).map_err(said),
            "classify" => keys.try_into().map(|c| config.classify = c).map_err(said),
            "preference" => keys.try_into().map(|p| config.preference = p).map_err(said),
            "policy" => keys.try_into().map(|p| config.policy = p).map_err(said),
            "distill" => keys.try_into().map(|d| config.distill = d).map_err(said),
            "optimizer" => keys.try_into().map(|o| config.optimizer = o).map_err(said),
            "chat" => keys.try_into().map(|c| config.chat = c).map_err(said),
            "adapter" => keys.try_into().map(|a| (config.model, config.adapter) = (config.model.adapted(None), a)).map_err(said),
            _ => keys.try_into().map(|t| config.train = t).map_err(said),
        };
        read.map_err(|e| {
            if shown.starts_with('-') { format!("{section}.{key} is {shown}, expected at least 0") } else { format!("{section}.{key}: {e}") }
        })?;
        Ok(config)
    }

    /// The settings of a section; none of one that is not there.
    fn written(&self, section: &str) -> Table {
        match section {
            "model" => self.model.settings().clone(),
            "data" => table(&self.data),
            "objective" => table(&self.objective),
            "classify" => table(&self.classify),
            "preference" => table(&self.preference),
            "policy" => table(&self.policy),
            "chat" => table(&self.chat),
            "distill" => table(&self.distill),
            "train" => table(&self.train),
            "optimizer" => table(&self.optimizer),
            "adapter" => table(&self.adapter),
            _ => Table::new(),
        }
    }

    /// The same, and what follows from others where it is not set.
    fn section(&self, name: &str) -> Table {
        let mut keys = self.written(name);
        if name == "train" {
            keys.entry("min_lr").or_insert(Value::Float(self.train.schedule().min_lr));
        }
        if name == "objective" {
            keys.entry("kind").or_insert(Value::String(self.objective.aim(&self.model).name().into()));
        }
        if name == "classify" {
            keys.entry("pooling").or_insert(Value::String(self.head().pooling.name().into()));
        }
        if name == "preference" {
            keys.entry("beta").or_insert(Value::Float(self.preference.beta()));
            keys.entry("margin").or_insert(Value::Float(self.preference.margin()));
        }
        if name == "optimizer" {
            for (key, value) in self.optimizer.usual() {
                keys.entry(key).or_insert(value);
            }
        }
        keys
    }

    /// There is no such setting: the nearest is named, where one is near.
    fn unknown(&self, section: &str, key: &str) -> String {
        if (section, key) == ("model", ARCH) {
            return "the model's kind is no setting: name another recipe, or a --config that has it".into();
        }
        let path = if section == "model" { key.to_string() } else { format!("{section}.{key}") };
        let all: Vec<(&str, String)> = SECTIONS.iter().flat_map(|s| self.section(s).into_iter().map(move |(k, _)| (*s, k))).collect();
        let of = |s: &str| all.iter().filter(|k| k.0 == s || s.is_empty()).map(|k| k.1.as_str()).collect::<Vec<_>>();
        let near = |from: &str| crate::error::nearest(key, of(from)).map(|n| n.to_string());
        // in its own section first, then a key of another that was meant
        let found = near(section).or_else(|| near(""));
        let found = found.and_then(|n| all.iter().find(|k| k.1 == n && k.0 == section).or_else(|| all.iter().find(|k| k.1 == n)));
        format!("there is no setting {path}{}", found.map_or(String::new(), |(s, k)| format!("; did you mean {s}.{k}?")))
    }

    /// Why this cannot be trained, if it cannot.
    pub fn check(&self) -> Result<()> {
        self.check_model()?;
        self.train.check()?;
        self.optimizer.check()?;
        self.adapter.check()?;
        let (context, positions) = (self.train.context, self.model.context());
        if context > positions {
            return Err(Error(format!("train.context is {context}, and the model has only {positions} positions; try train.context = {positions}")));
        }
        self.check_text()?;
        let short = self.train.ramp.iter().any(|r| r.context.is_some_and(|c| c < context));
        if short && (self.aim() != Aim::NextToken || self.data.packing != Packing::Windows) {
            return Err(Error(
                "train.ramp: rows of fewer tokens are cut from windows of a text whose every token's successor is guessed; leave context away".into(),
            ));
        }
        mixture::check(&self.data.weights, &self.data.curriculum)?;
        within("data.held_out", self.data.held_out, (Excluded(0.0), Excluded(1.0)), 0.1)?;
        Ok(self.chat.check(self.data.held_out)?)
    }

    /// Every size but the largest that steps have, each once.
    pub fn smaller_sizes(&self) -> Vec<Size> {
        let accumulate = self.train.accumulate;
        match self.data.packing {
            Packing::Bucketed => {
                self.train.lengths().into_iter().filter(|n| *n < self.train.context).map(|context| Size { accumulate, context }).collect()
            }
            Packing::Windows | Packing::BestFit | Packing::Padded => self.train.smaller_sizes(),
        }
    }

    /// What the model is trained to do on such rows.
    pub fn objective(&self) -> Objective {
        self.objective.objective(&self.model, self.data.packing == Packing::BestFit, self.head())
    }

    /// The head that says which class a text is of.
    pub fn head(&self) -> Head {
        self.classify.head(&self.model)
    }

    /// The same that asks something else.
    pub(crate) fn asking(&self, aim: Aim) -> Config {
        Config { objective: ObjectiveConfig { kind: Some(aim), ..self.objective.clone() }, ..self.clone() }
    }

    /// What is asked.
    pub fn aim(&self) -> Aim {
        self.objective.aim(&self.model)
    }

    /// Why what is asked does not fit the model, the text or the rows, if it does not.
    pub fn check_text(&self) -> Result<()> {
        self.objective.check(&self.model)?;
        self.data.check_task()?;
        let (aim, packing, pairs) = (self.aim(), self.data.packing, self.data.pairs());
        let of_pairs = |why: &str| Err(Error(format!("the objective {aim} {why}")));
        match (aim, pairs) {
            (Aim::Answer, false) => of_pairs(
                "needs texts with answers, and data.documents is not pairs; try data.documents = \"pairs\" with a file of a text, a tab and its \
                 answer a line, data.task = \"reverse\", or objective.kind = \"spans\", which learns of plain text",
            ),
            (Aim::Classes, _) => self.classify.check(&self.data),
            (Aim::Preferences | Aim::Rewards, _) => Ok(self.preference.check(self)?),
            (Aim::Policy, _) => Ok(self.policy.check(self)?),
            (Aim::Imitation, _) => Ok(self.distill.check(&self.data)?),
            (_, _) if self.data.documents == Unit::Preferences => of_pairs("reads no preferences; try eggcorn dpo or eggcorn reward"),
            (Aim::NextToken | Aim::Prefix | Aim::Masked | Aim::Spans | Aim::Fim | Aim::Answer, _) if self.data.documents == Unit::Classes => {
                of_pairs("reads no classes; try objective.kind = \"classify\", as eggcorn finetune classify has it")
            }
            (Aim::Masked | Aim::Spans | Aim::Fim | Aim::Prefix | Aim::Answer, _) if self.data.documents == Unit::Chat => {
                of_pairs("reads no conversations; try objective.kind = \"next-token\" and a decoder")
            }
            (Aim::Masked | Aim::Spans | Aim::Fim, true) => of_pairs("reads texts without answers; try data.documents = \"lines\", and no data.task"),
            _ => Ok(()),
        }?;
        if self.objective.next_sentence && self.data.documents != Unit::Lines {
            return Err(Error(
                "objective.next_sentence needs sentences, a line each; try data.documents = \"lines\" and data.packing = \"padded\"".into(),
            ));
        }
        match packing {
            Packing::BestFit if pairs || !matches!(aim, Aim::NextToken | Aim::Fim) => Err(Error(format!(
                "data.packing is best-fit, and the objective {aim} reads one text a row; try data.packing = \"padded\" or \"windows\""
            ))),
            Packing::Windows if self.data.documents == Unit::Chat => Err(Error(
                "data.documents is chat, and windows would read over the ends of conversations; try data.packing = \"best-fit\" or \"padded\"".into(),
            )),
            Packing::Windows if self.data.documents == Unit::Lines => Err(Error(
                "data.documents is lines, and windows would read over their ends; try data.packing = \"padded\", or \"best-fit\" for a decoder"
                    .into(),
            )),
            Packing::Bucketed if aim != Aim::Classes && (pairs || aim != Aim::NextToken) || !self.train.ramp.is_empty() => Err(Error(
                "data.packing is bucketed, which is for classes and for documents whose every token's successor is guessed, without train.ramp; try \
                 data.packing = \"padded\""
                    .into(),
            )),
            Packing::BestFit | Packing::Padded | Packing::Windows | Packing::Bucketed => Ok(()),
        }?;
        let (need, context) = (self.task_tokens(), self.train.context);
        if self.data.task != Task::None && need > context {
            return Err(Error(format!("train.context is {context}, and a sequence of the task needs {need}; try train.context = {need}")));
        }
        Ok(())
    }

    /// Places that a sequence of the task takes: of a decoder with its answer, of which the last is only asked.
    fn task_tokens(&self) -> usize {
        let [asked, answer] = self.data.task.lengths(self.data.task_length);
        if self.aim() == Aim::Answer { asked.max(answer) + 1 } else { asked + answer - 1 }
    }

    /// Refuses rows that are filled up with what a RoBERTa takes for text: its positions count all tokens but one.
    pub(crate) fn check_filling(&self, marks: &Marks) -> Result<()> {
        let settings = self.model.settings();
        let own = settings.get("pad_token_id").and_then(Value::as_integer);
        let counts = settings.get("family").and_then(Value::as_str) == Some("roberta");
        match own.filter(|own| counts && marks.size > 0 && *own != i64::from(marks.pad)) {
            None => Ok(()),
            Some(own) => Err(Error(format!(
                "pad_token_id is {own}, and the tokenizer's token that fills rows up is {0}: a RoBERTa counts positions of all tokens but that one; \
                 try --set pad_token_id={0}",
                marks.pad
            ))),
        }
    }

    /// What a step does to the parameters. An error names a group of them that decides nothing.
    pub fn update(&self) -> Result<Update> {
        let depths = self.depths()?;
        let share = |path: &str, ty: &Type| depths.as_ref().map_or(Some(Share::WHOLE), |d| self.share(d, path, ty));
        let groups = self.optimizer.groups(&self.trained()?, self.wider()?, &share)?;
        let t = &self.train;
        Ok(Update { groups, grad_clip: t.grad_clip, accumulate: t.accumulate, average: t.ema, outliers: t.outliers() })
    }

    /// The parameters by name: those of every head of the model that are for the objective.
    pub fn parameters(&self) -> Result<Vec<(String, Type)>> {
        match self.aim() {
            Aim::Classes => self.objective().parameters(&self.model),
            Aim::Rewards | Aim::Policy => Objective::configured_parameters(self),
            Aim::NextToken | Aim::Prefix | Aim::Fim | Aim::Masked | Aim::Answer | Aim::Spans | Aim::Preferences | Aim::Imitation => {
                parameters(&self.model)
            }
        }
    }

    /// Those that may be trained: all, or those that are beside the model, and the heads that it does not have by itself.
    fn trained(&self) -> Result<Vec<(String, Type)>> {
        let mut all = self.parameters()?;
        if let Some(adaptation) = self.model.adaptation() {
            let own = parameters(&self.model)?;
            all.retain(|p| adaptation.adds(&p.0) || !own.contains(p));
        }
        Ok(all)
    }

    /// Parameters of a model that others are beside.
    pub(crate) fn stays(&self) -> Result<BTreeSet<String>> {
        if self.model.adaptation().is_none() {
            return Ok(BTreeSet::new());
        }
        let trained = self.trained()?;
        Ok(self.parameters()?.into_iter().filter(|p| !trained.contains(p)).map(|p| p.0).collect())
    }

    /// The same with what stands beside the model.
    pub fn adapted(self) -> Result<Config> {
        if !self.adapter.is_on() || self.model.adaptation().is_some() {
            return Ok(self);
        }
        let adapter = Arc::new(self.beside()?);
        Ok(Config { model: self.model.adapted(Some(adapter)), ..self })
    }

    /// What stands beside the layers that the objective has of the model: none beside a head that it has no use for.
    pub fn beside(&self) -> Result<Adapter> {
        let own: BTreeSet<String> = self.parameters()?.into_iter().map(|p| p.0).collect();
        Ok(Adapter::of_parts(&self.model, vec![self.adapter.clone().into()], &|path| own.contains(path))?)
    }

    /// Why the model's settings are no model, if they are none.
    pub fn check_model(&self) -> Result<()> {
        self.model.check().map_err(|e| Error(format!("model: {e}")))
    }

    /// What differs from another configuration and may not when a run goes on, a line a key.
    pub fn differences(&self, other: &Config) -> Vec<String> {
        let mut lines = vec![];
        if self.model.name() != other.model.name() {
            lines.push(format!("  model.arch: saved {}, now {}", self.model.name(), other.model.name()));
        }
        for section in SECTIONS {
            let (saved, now) = (self.section(section), other.section(section));
            for (key, old) in saved.iter().filter(|(k, _)| section != "train" || !RESUMABLE.contains(&k.as_str())) {
                if let Some(new) = now.get(key).filter(|new| *new != old) {
                    lines.push(format!("  {section}.{key}: saved {old}, now {new}"));
                }
            }
        }
        lines
    }
}

fn table<T: Serialize>(section: &T) -> Table {
    Table::try_from(section).expect("a section has a TOML form")
}

fn said(e: toml::de::Error) -> String {
    e.message().to_string()
}
