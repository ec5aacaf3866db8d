//! What each piece of a part is known by: 128 bits of what it says (XXH3).
//!
//! Pieces with one key are taken for equal and not compared again. Of n different pieces two have one key with a probability of about
//! n² / 2¹²⁹: 10¹² pieces in 10¹⁵ corpora. With 64 bits ten thousand million lines would already lose some.

use super::config::DedupKind;
use super::minhash::{Permutations, band_keys};
use super::pieces::{Piece, lines, paragraphs, passages};
use super::round::{DedupStep, Round};
use super::table::{TableWriter, place};
use crate::corpus::rows::{RowWriter, Rows};
use crate::corpus::sort::{Budget, Sorter};
use crate::error::Result;
use xxhash_rust::xxh3::xxh3_128;

/// The keys of a part while they are collected.
struct Keys {
    part: usize,
    /// Pieces before this document.
    pieces: u64,
    sorter: Sorter<3>,
}

impl Keys {
    fn push(&mut self, key: u128, number: u64) -> Result<()> {
        self.sorter.push([(key >> 64) as u64, key as u64, place(self.part, number)?])
    }
}

/// Makes the keys of this share's parts, and gives how many there are.
pub fn make(round: &Round) -> Result<u64> {
    let permutations = round.config.permutations();
    let counts = round.work.each(round.stage(DedupStep::Keys), round.from.len(), &|part| {
        let path = round.keys(part);
        let bytes = round.from[part].finished()?.bytes;
        match Rows::open(&path, 24, &round.made_of[part].1) {
            Ok(rows) => Ok((rows.count(), bytes)),
            Err(_) => Ok((of_part(round, part, &permutations)?, bytes)),
        }
    })?;
    Ok(counts.into_iter().sum())
}

fn of_part(round: &Round, part: usize, permutations: &Permutations) -> Result<u64> {
    let (name, made_of) = &round.made_of[part];
    let folder = round.keys_folder();
    // the other half is for the document and its words
    let sorter = Sorter::new(folder.join(format!("{name}.runs")), Budget::a_thread(&round.work).share(2));
    let mut keys = Keys { part, pieces: 0, sorter };
    let table = || TableWriter::create(&folder, name, round.minima(), made_of);
    let mut table = round.whole_documents().then(table).transpose()?;
    for document in round.from[part].read()? {
        round.work.go_on()?;
        let document = document?;
        let signature = of_document(round, &mut keys, &document.text, permutations)?;
        table.as_mut().map_or(Ok(()), |t| t.push(&document, &signature))?;
    }
    table.map_or(Ok(()), TableWriter::finish)?;
    keys.sorter.write_distinct(RowWriter::create(&round.keys(part), 24, made_of)?)
}

/// Takes the keys of a document, and gives its signature where the kind has one.
fn of_document(round: &Round, keys: &mut Keys, text: &str, permutations: &Permutations) -> Result<Vec<i32>> {
    let (config, first) = (round.config, keys.pieces);
    let mut signature = vec![];
    match round.kind {
        DedupKind::Documents => keys.push(xxh3_128(text.as_bytes()), first)?,
        DedupKind::Near => {
            signature = permutations.signature(text, config.ngram).unwrap_or_default();
            band_keys(&signature, config.rows).try_for_each(|key| keys.push(key, first))?;
        }
        DedupKind::Paragraphs => of_pieces(keys, paragraphs(text), config.min_paragraph_words)?,
        DedupKind::Lines => of_pieces(keys, lines(text), config.min_line_words)?,
        DedupKind::Substrings => {
            passages(text, config.substring_words).enumerate().try_for_each(|(i, key)| keys.push(key, first + i as u64))?;
        }
    }
    keys.pieces += round.kind.pieces(text);
    Ok(signature)
}

/// Takes the keys of pieces that have words enough.
fn of_pieces<'a>(keys: &mut Keys, pieces: impl IntoIterator<Item = Piece<'a>>, least: usize) -> Result<()> {
    for (i, piece) in pieces.into_iter().enumerate().filter(|(_, piece)| piece.has_words(least)) {
        keys.push(xxh3_128(piece.text.as_bytes()), keys.pieces + i as u64)?;
    }
    Ok(())
}
