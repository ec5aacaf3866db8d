//! What a file is held to before anything is made of it.

use super::file::{Entries, File, RawModel};
use std::collections::HashSet;

/// More ids than any vocabulary has.
pub const IDS: u64 = 1 << 22;
/// Bytes of the longest token.
const LONGEST: usize = 1 << 16;
/// Kinds of models there are.
const KINDS: [&str; 4] = ["BPE", "WordPiece", "WordLevel", "Unigram"];

/// What is wrong with a file, if anything is.
pub fn check(file: &File) -> Result<(), String> {
    let model = &file.model;
    if !KINDS.contains(&model.name()) {
        return Err(format!("its model is of kind {:?}: expected {}", model.name(), ir::either(&KINDS)));
    }
    vocabulary(model)?;
    added(file)?;
    let bad = |what: &str, value: &dyn std::fmt::Display| Err(format!("its {what} is {value}"));
    match (model.dropout, model.max_input_chars_per_word) {
        (Some(d), _) if !(0.0..=1.0).contains(&d) => bad("dropout", &d),
        (_, Some(n)) if n > 1 << 20 => bad("max_input_chars_per_word", &n),
        _ => Ok(()),
    }
}

/// Ids are bounded and distinct, tokens distinct and of sane length.
fn vocabulary(model: &RawModel) -> Result<(), String> {
    let Some(entries) = &model.vocab else { return Err("its model has no vocabulary".into()) };
    let tokens: Vec<&str> = match entries {
        Entries::Ids(v) => v.iter().map(|e| e.0.as_str()).collect(),
        Entries::Scores(v) => v.iter().map(|e| e.0.as_str()).collect(),
    };
    if tokens.is_empty() || tokens.len() as u64 > IDS {
        return Err(format!("its vocabulary has {} tokens, expected 1 to {IDS}", tokens.len()));
    }
    if let Some(long) = tokens.iter().find(|t| t.len() > LONGEST) {
        return Err(format!("a token of its vocabulary has {} bytes, expected at most {LONGEST}", long.len()));
    }
    if matches!(entries, Entries::Ids(_)) == model.is("Unigram") {
        return Err(format!("the vocabulary of a model of kind {} has another form", model.name()));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = tokens.iter().find(|t| !seen.insert(**t)) {
        return Err(format!("the token {twice:?} is in its vocabulary twice"));
    }
    match entries {
        Entries::Ids(v) => ids(v),
        Entries::Scores(v) => scores(v, model.unk_id),
    }
}

fn ids(entries: &[(String, u64)]) -> Result<(), String> {
    let mut seen = HashSet::new();
    for (token, id) in entries {
        if *id >= IDS {
            return Err(format!("the token {token:?} has id {id}, expected less than {IDS}"));
        }
        if !seen.insert(id) {
            return Err(format!("two tokens have id {id}, {token:?} is one of them"));
        }
    }
    Ok(())
}

fn scores(entries: &[(String, f64)], unknown: Option<u64>) -> Result<(), String> {
    if let Some((token, score)) = entries.iter().find(|e| !e.1.is_finite()) {
        return Err(format!("the token {token:?} has score {score}"));
    }
    match unknown {
        Some(id) if id >= entries.len() as u64 => Err(format!("its unk_id is {id}, and there are {} tokens", entries.len())),
        _ => Ok(()),
    }
}

/// Added tokens have something written, ids of their own, and those of the vocabulary where they stand there.
fn added(file: &File) -> Result<(), String> {
    let vocabulary: std::collections::HashMap<&str, u64> = match &file.model.vocab {
        Some(Entries::Ids(v)) => v.iter().map(|(t, id)| (t.as_str(), *id)).collect(),
        Some(Entries::Scores(v)) => v.iter().enumerate().map(|(id, (t, _))| (t.as_str(), id as u64)).collect(),
        None => return Ok(()),
    };
    let taken: std::collections::HashMap<u64, &str> = vocabulary.iter().map(|(t, id)| (*id, *t)).collect();
    let (mut ids, mut contents) = (HashSet::new(), HashSet::new());
    for token in &file.added_tokens {
        let (id, content) = (u64::from(token.id), token.content.as_str());
        let fail = |why: String| Err(format!("the added token {content:?} with id {id}: {why}"));
        if content.is_empty() || content.len() > LONGEST || id >= IDS {
            return fail(format!("expected some text and an id less than {IDS}"));
        }
        if !ids.insert(id) || !contents.insert(content) {
            return fail("it, or another with its id, is there twice".into());
        }
        match (vocabulary.get(content), taken.get(&id)) {
            (Some(other), _) if *other != id => return fail(format!("the vocabulary has it with id {other}")),
            (None, Some(other)) => return fail(format!("the vocabulary has {other:?} with that id")),
            _ => {}
        }
    }
    Ok(())
}
