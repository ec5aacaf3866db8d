//! Documents to tokens, part by part: the stage that shares can take.

use super::part::Part;
use super::read::complete;
use super::report::Report;
use super::split::{HELD_OUT, TRAIN};
use super::work::{Work, made_of};
use crate::data::{Header, Width};
use crate::error::{Result, file_error};
use crate::files::{NewFile, read_short, write_file};
use crate::text::{Specials, Tokenizer};
use serde::{Deserialize, Serialize};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// How token files are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShardConfig {
    /// What stands before the tokens of a file.
    pub header: Header,
    /// A file is closed after the document with which it has so many tokens; 0 for one file, whatever its size.
    pub shard_tokens: u64,
    /// Whether the token that ends a text ends each document, where the tokenizer has one.
    pub end_of_text: bool,
}

impl Default for ShardConfig {
    fn default() -> ShardConfig {
        ShardConfig { header: Header::Absent, shard_tokens: 0, end_of_text: true }
    }
}

/// Tokens of a part's documents that are encoded before they are written.
const DOCUMENTS: usize = 256;

/// Encodes the parts of the folders `train` and `held_out` of a split: of this share, where they are not there already. The report counts
/// tokens.
pub fn encode(work: &Work, from: &Path, to: &Path, tokenizer: &Tokenizer, config: &ShardConfig) -> Result<Report> {
    let mut all = vec![];
    for side in [TRAIN, HELD_OUT] {
        let (from, to) = (complete(&from.join(side))?, to.join(side));
        std::fs::create_dir_all(&to).map_err(|e| file_error(&to, "the folder of tokens cannot be made", e))?;
        crate::files::sweep(&to);
        all.extend(work.each("tokens", from.len(), &|number| {
            let before = from[number].finished()?;
            let made_of = tokens_of(&before, tokenizer, config);
            let part = TokenPart::new(&to, &from[number].name);
            let report = match part.report().filter(|r| r.made_of == made_of) {
                Some(report) => report,
                None => {
                    let report = Report { made_of, documents_in: before.documents, bytes_in: before.bytes, ..Report::default() };
                    part.make(work, &from[number], tokenizer, config, report)?
                }
            };
            Ok((report, before.bytes))
        })?);
    }
    Ok(super::sum(&all))
}

/// What the tokens of a part are made of.
pub(super) fn tokens_of(before: &Report, tokenizer: &Tokenizer, config: &ShardConfig) -> String {
    made_of("tokens", &format!("{} {}", tokenizer.fingerprint(), config.end_of_text), before)
}

/// The tokens of a part: `NAME.bin`, the number of tokens of each document in `NAME.lengths` as `u64`, and the report.
pub(super) struct TokenPart {
    folder: PathBuf,
    name: String,
}

/// The name of the count of tokens in a report.
const TOKENS: &str = "tokens";

impl TokenPart {
    pub(super) fn new(folder: &Path, name: &str) -> TokenPart {
        TokenPart { folder: folder.into(), name: name.into() }
    }

    pub(super) fn file(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.name))
    }

    pub(super) fn report(&self) -> Option<Report> {
        let text = read_short(&self.file("json"), 1 << 20).ok()?;
        serde_json::from_str(&text).ok().filter(|_| self.file("bin").is_file() && self.file("lengths").is_file())
    }

    fn make(&self, work: &Work, from: &Part, tokenizer: &Tokenizer, config: &ShardConfig, mut report: Report) -> Result<Report> {
        let (bin, lengths) = (self.file("bin"), self.file("lengths"));
        let mut tokens = Checked::create(&bin)?;
        let mut starts = Checked::create(&lengths)?;
        let (width, end) = (Width::of(tokenizer.size()), tokenizer.end_of_text().filter(|_| config.end_of_text));
        let mut documents = from.read()?;
        let mut encode = tokenizer.encoder();
        loop {
            work.go_on()?;
            let some: Vec<String> = documents.by_ref().take(DOCUMENTS).map(|d| d.map(|d| d.text)).collect::<Result<_>>()?;
            if some.is_empty() {
                break;
            }
            for text in some {
                let mut ids = encode.encode(&text, Specials::Text)?;
                ids.extend(end);
                tokens.write(&width.written(&ids))?;
                starts.write(&(ids.len() as u64).to_le_bytes())?;
                report.count(TOKENS, ids.len() as u64);
                report.documents += 1;
                report.bytes += text.len() as u64;
            }
        }
        report.checksum = tokens.finish()?;
        starts.finish()?;
        write_file(&self.file("json"), (serde_json::to_string_pretty(&report).expect("a report has a JSON form") + "\n").as_bytes())?;
        Ok(report)
    }
}

/// A file being written, with the checksum of what was.
struct Checked {
    path: PathBuf,
    file: BufWriter<NewFile>,
    checksum: Xxh3,
}

impl Checked {
    fn create(path: &Path) -> Result<Checked> {
        let file = NewFile::create(path).map_err(|e| file_error(path, "the tokens cannot be written", e))?;
        Ok(Checked { path: path.into(), file: BufWriter::with_capacity(1 << 18, file), checksum: Xxh3::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.checksum.update(bytes);
        self.file.write_all(bytes).map_err(|e| file_error(&self.path, "the tokens cannot be written", e))
    }

    fn finish(self) -> Result<String> {
        let fail = |e: std::io::Error| file_error(&self.path, "the tokens cannot be written", e);
        self.file.into_inner().map_err(|e| fail(e.into_error()))?.commit().map_err(fail)?;
        Ok(format!("{:032x}", self.checksum.digest128()))
    }
}
