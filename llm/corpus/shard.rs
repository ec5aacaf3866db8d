//! Encoded parts to the files that trainers read.

use super::part::Part;
use super::read::complete;
use super::split::{HELD_OUT, TRAIN};
use super::tokens::{ShardConfig, TokenPart, tokens_of};
use super::work::Work;
use crate::data::{Header, INDEX, Index, IndexFile, IndexParts, IndexTokenizer, Width};
use crate::error::{Error, Result, file_error};
use crate::files::{NewFile, write_file};
use crate::text::Tokenizer;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// Joins the encoded parts to the files of a corpus, and writes its tokenizer and, last, its index. All shares must be there.
pub fn join(work: &Work, split: &Path, encoded: &Path, out: &Path, tokenizer: &Tokenizer, config: &ShardConfig) -> Result<Index> {
    let sides = [(TRAIN, "train"), (HELD_OUT, "val")];
    std::fs::create_dir_all(out).map_err(|e| file_error(out, "the folder cannot be made", e))?;
    // an index that is there says what is no longer so
    let _ = std::fs::remove_file(out.join(INDEX));
    let mut files = vec![];
    for (side, name) in sides {
        let found = complete(&split.join(side))?;
        let found = found.iter().map(|part| of_part(part, &encoded.join(side), tokenizer, config)).collect::<Result<Vec<_>>>()?;
        files.push(Joiner::new(out, name, Width::of(tokenizer.size()), config).join(work, &found)?);
    }
    let [train, held_out] = <[Vec<IndexFile>; 2]>::try_from(files).expect("there are two sides");
    if train.iter().all(|f| f.tokens == 0) {
        return Err(Error("there is no document left to train on; look at what each stage removed: eggcorn data inspect".into()));
    }
    tokenizer.write(out)?;
    let index = Index {
        format: 1,
        tokenizer: IndexTokenizer {
            file: tokenizer.file().into(),
            fingerprint: tokenizer.fingerprint(),
            vocabulary: tokenizer.size(),
            end_of_text: tokenizer.end_of_text().filter(|_| config.end_of_text).map(|id| id as u32),
        },
        dtype: Width::of(tokenizer.size()),
        header: config.header,
        parts: IndexParts { train, held_out },
    };
    write_file(&out.join(INDEX), (serde_json::to_string_pretty(&index).expect("an index has a JSON form") + "\n").as_bytes())?;
    Ok(index)
}

/// The tokens of a part of a split. An error where they are not there, or are made of other documents or by another tokenizer.
fn of_part(part: &Part, encoded: &Path, tokenizer: &Tokenizer, config: &ShardConfig) -> Result<TokenPart> {
    let (tokens, made_of) = (TokenPart::new(encoded, &part.name), tokens_of(&part.finished()?, tokenizer, config));
    match tokens.report() {
        Some(report) if report.made_of == made_of => Ok(tokens),
        _ => Err(file_error(&tokens.file("bin"), "these tokens are missing, or of other documents or another tokenizer", "encode all shares first")),
    }
}

/// Files of tokens of one side, one after another.
struct Joiner<'a> {
    out: &'a Path,
    name: &'a str,
    width: Width,
    config: &'a ShardConfig,
    files: Vec<IndexFile>,
    /// Starts of the documents of the file that is being written.
    starts: Vec<u64>,
    body: Option<BufWriter<NewFile>>,
}

impl<'a> Joiner<'a> {
    fn new(out: &'a Path, name: &'a str, width: Width, config: &'a ShardConfig) -> Joiner<'a> {
        Joiner { out, name, width, config, files: vec![], starts: vec![0], body: None }
    }

    fn join(mut self, work: &Work, parts: &[TokenPart]) -> Result<Vec<IndexFile>> {
        for part in parts {
            let path = part.file("bin");
            let fail = |e: std::io::Error| file_error(&path, "the tokens cannot be read", e);
            let mut tokens = BufReader::with_capacity(1 << 18, File::open(&path).map_err(fail)?);
            let lengths = std::fs::read(part.file("lengths")).map_err(fail)?;
            for length in lengths.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b)) {
                work.go_on()?;
                let mut document = vec![0; (length * self.width.bytes()) as usize];
                tokens.read_exact(&mut document).map_err(fail)?;
                self.document(&document, length)?;
            }
        }
        // one file, if an empty one, so that there is always something to open
        if self.body.is_some() || self.files.is_empty() {
            self.begin()?;
            self.close()?;
        }
        Ok(self.files)
    }

    fn path(&self) -> PathBuf {
        let number = if self.config.shard_tokens > 0 { format!("-{:05}", self.files.len()) } else { String::new() };
        self.out.join(format!("{}{number}.bin", self.name))
    }

    fn fail(&self, e: std::io::Error) -> Error {
        file_error(&self.path(), "the tokens cannot be written", e)
    }

    /// Begins a file where none is open. The header follows when its tokens are counted.
    fn begin(&mut self) -> Result<()> {
        if self.body.is_none() {
            let file = NewFile::create(&self.path()).map_err(|e| self.fail(e))?;
            let mut body = BufWriter::with_capacity(1 << 18, file);
            body.write_all(&vec![0; self.config.header.bytes() as usize]).map_err(|e| self.fail(e))?;
            self.body = Some(body);
        }
        Ok(())
    }

    fn document(&mut self, bytes: &[u8], tokens: u64) -> Result<()> {
        self.begin()?;
        let written = self.body.as_mut().expect("it was just begun").write_all(bytes);
        written.map_err(|e| self.fail(e))?;
        let total = self.starts.last().expect("the first document starts at 0") + tokens;
        self.starts.push(total);
        if self.config.shard_tokens > 0 && total >= self.config.shard_tokens { self.close() } else { Ok(()) }
    }

    /// Puts the open file in its place, with its header and its documents' starts beside it.
    fn close(&mut self) -> Result<()> {
        let path = self.path();
        let body = self.body.take().expect("a file is open");
        let mut file = body.into_inner().map_err(|e| self.fail(e.into_error()))?;
        let tokens = *self.starts.last().expect("the first document starts at 0");
        if self.config.header == Header::LlmC {
            let count = u32::try_from(tokens).map_err(|_| file_error(&path, "llm.c counts tokens in 32 bits", "set shard.shard_tokens"))?;
            let [magic, version] = self.width.magic();
            file.write_at_start(&[magic, version, count].iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>()).map_err(|e| self.fail(e))?;
        }
        file.commit().map_err(|e| self.fail(e))?;
        let starts: Vec<u8> = self.starts.iter().flat_map(|s| s.to_le_bytes()).collect();
        write_file(&path.with_extension("docs"), &starts)?;
        let checksum = checksum(&path).map_err(|e| self.fail(e))?;
        let name = path.file_name().expect("it has one").to_string_lossy().into_owned();
        self.files.push(IndexFile { file: name, tokens, documents: self.starts.len() as u64 - 1, checksum });
        self.starts = vec![0];
        Ok(())
    }
}

fn checksum(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Xxh3::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("{:032x}", hash.digest128())),
            n => hash.update(&buffer[..n]),
        }
    }
}
