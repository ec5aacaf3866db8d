//! Options several commands share.

use eggcorn::llm::hub::Directory;
use eggcorn::llm::{Config, Error, Models, Precision, Result, Tokenizer, hint};
use eggcorn::models::Model;
use eggcorn::passes::{Legality, Machine, Opt, Options};
use eggcorn::runtime::{DEVICES, Device};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A model by name or directory, with changed settings.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// The model, a directory that has one, as a run's or Hugging Face's, or a file of a program, as dump prints it.
    pub model: String,
    /// Change a setting of the model, as in --set n_layer=2.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub adapters: AdapterArgs,
}

/// What stands beside a model.
#[derive(Clone, Default, clap::Args)]
pub struct AdapterArgs {
    /// An adapter beside the model: a directory as PEFT writes it, or that of a run beside a model. Of several all count, each as much as its
    /// weight says, or 1; of those with names, of generate, the ones that a line of --prompts names.
    #[arg(long, value_name = "[NAME=]DIR[:WEIGHT]")]
    pub adapter: Vec<AdapterArg>,
}

/// An adapter: what it is called, if it is, where it is, and how much of it counts.
#[derive(Clone)]
pub struct AdapterArg(Option<String>, PathBuf, f64);

impl FromStr for AdapterArg {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<AdapterArg, String> {
        let name = text.split_once('=').filter(|(name, _)| !name.is_empty() && !name.contains(std::path::is_separator));
        let (name, text) = name.map_or((None, text), |(name, rest)| (Some(name.to_string()), rest));
        let weighed = text.rsplit_once(':').and_then(|(path, weight)| Some((path, weight.parse::<f64>().ok()?)));
        match weighed {
            Some((_, weight)) if !weight.is_finite() => Err(format!("{weight} is no weight: expected a number, as in 0.5")),
            Some((path, weight)) => Ok(AdapterArg(name, path.into(), weight)),
            None => Ok(AdapterArg(name, text.into(), 1.0)),
        }
    }
}

impl AdapterArgs {
    /// A directory's model with what stands beside it.
    pub fn beside(&self, directory: Directory, models: &Models) -> Result<Directory> {
        match self.adapter.iter().find_map(|a| a.0.as_ref()) {
            Some(name) => {
                Err(Error(format!("--adapter {name}=…: lines of generate --prompts name adapters; leave {name}= away, and it counts always")))
            }
            None => self.beside_named(directory, None, models),
        }
    }

    /// The same with those of a name, too.
    pub fn beside_named(&self, directory: Directory, name: Option<&str>, models: &Models) -> Result<Directory> {
        let own = self.adapter.iter().filter(|a| a.0.is_none() || a.0.as_deref() == name);
        directory.with_adapters(&own.map(|a| (a.1.clone(), a.2)).collect::<Vec<_>>(), models)
    }

    /// Why there are no adapters of a name, if there are none.
    pub fn knows(&self, name: &str) -> std::result::Result<(), String> {
        let all: Vec<&str> = self.adapter.iter().filter_map(|a| a.0.as_deref()).collect();
        if all.contains(&name) {
            return Ok(());
        }
        let there = if all.is_empty() { "there are none with names".into() } else { format!("there are {}", all.join(", ")) };
        Err(format!("no adapter is called {name}{}; {there}: name one with --adapter {name}=DIR", hint(name, &all)))
    }
}

/// How many tokens at a time.
#[derive(clap::Args)]
pub struct Sizes {
    /// Sequences at a time.
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Tokens a sequence; 64, or as many as the model has positions, unless said.
    #[arg(long)]
    pub seq: Option<usize>,
}

impl Sizes {
    /// Batch and sequence length, checked against the model.
    pub fn of(&self, model: &Model) -> Result<(usize, usize)> {
        let seq = self.seq.unwrap_or(model.context().min(64));
        if self.batch == 0 || seq == 0 {
            return Err(Error("--batch and --seq must be at least 1".into()));
        }
        if seq > model.context() {
            return Err(Error(format!("--seq is {seq}, and the model has only {} positions", model.context())));
        }
        let tokens = self.batch as u128 * seq as u128;
        if tokens > i32::MAX as u128 {
            return Err(Error(format!("--batch is {} and --seq {seq}: {tokens} tokens, expected at most {}; try --batch 1", self.batch, i32::MAX)));
        }
        Ok((self.batch, seq))
    }
}

impl Sizes {
    /// The size of a dim of a program that is no model's.
    pub fn named(&self, name: char) -> Option<u64> {
        match name {
            'B' => Some(self.batch as u64),
            'T' => Some(self.seq.unwrap_or(64) as u64),
            _ => None,
        }
    }
}

/// Changes settings one after another: of two changes of one setting the later counts.
pub fn apply(config: Config, sets: &[String]) -> Result<Config> {
    sets.iter().try_fold(config, |c, s| c.set(s))
}

/// What to run on.
#[derive(clap::Args)]
pub struct DeviceArgs {
    /// What to run on.
    #[arg(long, default_value = DEVICE, help = format!("What to run on; there are {DEVICES}"))]
    device: String,
    /// Threads of a cpu; one a core unless said. The result does not depend on it.
    #[arg(long)]
    threads: Option<usize>,
}

/// Which rules may rewrite a program.
#[derive(clap::Args)]
pub struct RuleArgs {
    /// Only rules of this class or a stricter one: exact, reassociates, approximate; or all.
    #[arg(long, default_value = "all")]
    pub rules: Legality,
}

/// How a program is compiled.
#[derive(clap::Args)]
pub struct CompileArgs {
    /// How much to rewrite: off, greedy or egg.
    #[arg(long, default_value = "egg")]
    pub opt: Opt,
    #[command(flatten)]
    rules: RuleArgs,
    /// Bytes the program may use, as in 800MiB or 2GiB: one that needs more is refused.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_memory: Option<usize>,
}

impl CompileArgs {
    /// For products of a precision, at a machine's prices.
    pub fn options(&self, precision: Precision, machine: Machine) -> Options {
        Options { opt: self.opt, rules: self.rules.rules, machine, precision: precision.dtype(), budget: self.max_memory, ..Options::default() }
    }

    /// The same, for an opened device.
    pub fn options_on(&self, device: &Device, precision: Precision) -> Result<Options> {
        Ok(self.options(precision, device.target()?.machine()))
    }
}

/// The first device that this build knows.
const DEVICE: &str = match (cfg!(feature = "llvm"), cfg!(feature = "wgpu")) {
    (true, _) => "cpu",
    (_, true) => "wgpu",
    _ => "cuda",
};

impl DeviceArgs {
    /// Opens the device.
    pub fn open(&self) -> Result<Device> {
        Ok(Device::open(&self.device, self.threads()?)?)
    }

    /// The number of threads: as asked, or one a core.
    pub fn threads(&self) -> Result<usize> {
        threads(self.threads)
    }
}

/// The number of threads: as asked, or one a core.
pub fn threads(asked: Option<usize>) -> Result<usize> {
    match asked {
        Some(n) if (1..=1024).contains(&n) => Ok(n),
        Some(n) => Err(Error(format!("--threads {n}: expected 1 to 1024"))),
        None => Ok(eggcorn::runtime::cores()),
    }
}

/// A number of bytes: a number and, if one is wanted, a unit.
pub fn bytes(text: &str) -> std::result::Result<usize, String> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let scale = match unit.to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 1u64,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(format!("'{unit}' is no unit: expected KiB, MiB, GiB or TiB")),
    };
    let number: f64 = number.trim().parse().map_err(|_| "expected a number and a unit, as in 2GiB".to_string())?;
    let whole = number * scale as f64;
    if whole >= 1.0 && whole <= u64::MAX as f64 { Ok(whole as usize) } else { Err("expected at least one byte, as in 2GiB".into()) }
}

/// Bytes for people.
pub fn mebibytes(bytes: usize) -> String {
    if bytes >= 1 << 20 { format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)) } else { format!("{:.0} KiB", bytes as f64 / 1024.0) }
}

/// The tokenizer of a file, or the directory's where none is named.
pub fn tokenizer(directory: &Directory, path: Option<&Path>) -> Result<Tokenizer> {
    let Some(path) = path else {
        let none = || Error(format!("{}: there is no tokenizer in this folder; give one with --tokenizer", directory.path().display()));
        return directory.tokenizer()?.ok_or_else(none);
    };
    let tokenizer = Tokenizer::open(path, None)?;
    directory.fits(&tokenizer)?;
    Ok(tokenizer)
}

/// The text of a file, or of standard input where it is -.
pub fn read_input(path: &Path) -> Result<String> {
    let fail = |e: std::io::Error| Error(format!("{}: the text cannot be read: {e}", path.display()));
    if path.as_os_str() != "-" {
        return std::fs::read_to_string(path).map_err(fail);
    }
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).map_err(fail)?;
    Ok(text)
}
