//! A tokenizer's file: Hugging Face's `tokenizer.json`, or our own for tokenizers that are a list of characters or none.

use super::split::Split;
use super::{Kind, Subword, Tokenizer};
use super::{hf, ranks};
use crate::error::{Error, Result, file_error};
use crate::files::{read_short, write_file};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// The content of our own.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// Version of this format.
    format: u32,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    characters: Option<Vec<char>>,
}

/// A list of every character there is takes less.
const LONGEST: u64 = 32 << 20;
/// The largest vocabularies in use take a quarter of it.
const LONGEST_SUBWORD: u64 = 128 << 20;

impl Tokenizer {
    /// The file's name in a run directory, of a tokenizer of characters or bytes.
    pub const OWN: &'static str = "eggcorn-tokenizer.json";
    /// The file's name of every other.
    pub const FILE: &'static str = "tokenizer.json";

    /// The name its file has in a directory.
    pub fn file(&self) -> &'static str {
        match self {
            Tokenizer::Char { .. } | Tokenizer::Byte => Tokenizer::OWN,
            Tokenizer::Subword(_) => Tokenizer::FILE,
        }
    }

    /// Writes its file into a directory.
    pub fn write(&self, dir: &Path) -> Result<()> {
        write_file(&dir.join(self.file()), self.to_json().as_bytes())
    }

    /// Reads the tokenizer of a run directory.
    pub fn read(dir: &Path) -> Result<Tokenizer> {
        let path = dir.join(Tokenizer::OWN);
        match read_short(&path, LONGEST) {
            Ok(text) => Tokenizer::parse(&text).map_err(|why| not_one(&path, why)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Tokenizer::open(&dir.join(Tokenizer::FILE), None),
            Err(e) => Err(file_error(&path, "the tokenizer cannot be read", e)),
        }
    }

    /// Reads a tokenizer from a file of any known format: `tokenizer.json`, our own, tiktoken's ranks (`.tiktoken`), GPT-2's
    /// `encoder.json` with `vocab.bpe` beside it (either names both), llama2.c's `.bin`; or from a directory that has one of them. `split` is how a
    /// file of ranks splits, where that is not known of its name.
    pub fn open(path: &Path, split: Option<Split>) -> Result<Tokenizer> {
        if path.is_dir() {
            return Tokenizer::in_directory(path, split);
        }
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let read = |path: &Path| read_short(path, LONGEST_SUBWORD).map_err(|e| file_error(path, "the tokenizer cannot be read", cause(&e)));
        let of = |made: std::result::Result<Subword, String>| made.map(|s| Tokenizer::Subword(Arc::new(s))).map_err(|why| not_one(path, why));
        if name == "encoder.json" || name == "vocab.bpe" {
            let dir = path.parent().unwrap_or(Path::new("."));
            let bpe = ranks::gpt2(&read(&dir.join("encoder.json"))?, &read(&dir.join("vocab.bpe"))?);
            return of(bpe.map(Subword::of_bpe));
        }
        match path.extension().and_then(|e| e.to_str()) {
            Some("tiktoken") => of(ranks::tiktoken(&read(path)?, split).map(Subword::of_bpe)),
            Some("bin") => {
                let bytes = read_bytes(path).map_err(|e| file_error(path, "the tokenizer cannot be read", e))?;
                of(ranks::llama2c(&bytes).and_then(|json| Subword::parse(&json)))
            }
            _ => Tokenizer::parse(&read(path)?).map_err(|why| not_one(path, why)),
        }
    }

    fn in_directory(dir: &Path, split: Option<Split>) -> Result<Tokenizer> {
        let names = [Tokenizer::FILE, Tokenizer::OWN, "encoder.json", "tokenizer.bin"];
        match names.iter().map(|n| dir.join(n)).find(|p| p.is_file()) {
            Some(path) => Tokenizer::open(&path, split),
            None => Err(Error(format!("{}: there is no tokenizer in this folder: expected {}", dir.display(), ir::either(&names)))),
        }
    }

    /// A tokenizer from the content of `tokenizer.json` or of our own file; what is wrong with it where it is none.
    pub fn parse(text: &str) -> std::result::Result<Tokenizer, String> {
        #[derive(Deserialize)]
        struct Outline {
            model: Option<serde::de::IgnoredAny>,
        }
        if serde_json::from_str::<Outline>(text).is_ok_and(|o| o.model.is_some()) {
            return Subword::parse(text).map(|s| Tokenizer::Subword(Arc::new(s)));
        }
        let content: Content = serde_json::from_str(text).map_err(|e| e.to_string())?;
        match (content.format, content.kind, content.characters) {
            (1, Kind::Byte, None) => Ok(Tokenizer::Byte),
            (1, Kind::Byte, Some(_)) => Err("one of bytes has no list of characters".into()),
            (1, Kind::Char, None) => Err("it has no list of characters".into()),
            (1, Kind::Char, Some(c)) if c.is_empty() => Err("its list of characters is empty".into()),
            (1, Kind::Char, Some(c)) => match c.windows(2).find(|w| w[0] >= w[1]) {
                Some(w) => Err(format!("its characters must be in order, none twice, and {:?} comes before {:?}", w[0], w[1])),
                None => Ok(Tokenizer::Char { characters: c }),
            },
            (1, kind, _) => Err(format!("a tokenizer of kind {kind} stands in {}", Tokenizer::FILE)),
            (format, ..) => Err(format!("it has format {format}, and this version reads format 1; train again, or use the version that wrote it")),
        }
    }

    /// The tokenizer as a file's content.
    pub fn to_json(&self) -> String {
        let own =
            |kind, characters| serde_json::to_string_pretty(&Content { format: 1, kind, characters }).expect("a tokenizer has a JSON form") + "\n";
        match self {
            Tokenizer::Byte => own(Kind::Byte, None),
            Tokenizer::Char { characters } => own(Kind::Char, Some(characters.clone())),
            Tokenizer::Subword(subword) => subword.json().into(),
        }
    }

    /// The content of a `tokenizer.json` that does the same, whatever its kind.
    pub fn to_hub(&self) -> String {
        match self {
            Tokenizer::Byte => hf::of_bytes(),
            Tokenizer::Char { characters } => hf::of_characters(characters),
            Tokenizer::Subword(subword) => subword.json().into(),
        }
    }

    /// 128 bits of its file, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        format!("{:032x}", xxhash_rust::xxh3::xxh3_128(self.to_json().as_bytes()))
    }
}

fn not_one(path: &Path, why: impl std::fmt::Display) -> Error {
    file_error(path, "this is not a tokenizer", why)
}

fn cause(e: &std::io::Error) -> String {
    if e.kind() == std::io::ErrorKind::NotFound { "there is no such file; is this a run directory?".into() } else { e.to_string() }
}

fn read_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = vec![];
    std::fs::File::open(path)?.take(LONGEST_SUBWORD + 1).read_to_end(&mut bytes)?;
    let long = || std::io::Error::other(format!("it is longer than {LONGEST_SUBWORD} bytes"));
    if bytes.len() as u64 > LONGEST_SUBWORD { Err(long()) } else { Ok(bytes) }
}
