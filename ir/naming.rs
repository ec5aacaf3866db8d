//! What inputs, results, parameters and functions may be called: names that the text holds and that mean one tensor each.

use crate::names::LOOP;
use crate::types::{Dim, Type};
use std::collections::HashMap;

/// The longest name, in bytes.
const LENGTH_MAX: usize = 500;

/// Why this is no name, if it is none: letters, digits, `_`, `-`, `.`, `/` and `{}` are what the text reads back.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    if name.is_empty() {
        return Err("a name is empty".into());
    }
    if name.len() > LENGTH_MAX {
        return Err(format!("a name has {} bytes, and at most {LENGTH_MAX} are possible", name.len()));
    }
    match name.replace(LOOP, "").chars().find(|c| !fits(*c)) {
        Some(c) => Err(format!("{name:?} is no name, for {c:?} is in it: use letters, digits, '_', '-', '.', '/' and '{{}}'")),
        None => Ok(()),
    }
}

/// What is wrong with parameters, in order, as the names of tensors in a file: each error with the position of the parameter it is about.
pub(crate) fn check_params(params: &[(&str, &Type)]) -> Vec<(usize, String)> {
    let by_name: HashMap<&str, &Type> = params.iter().copied().collect();
    let mut layers: HashMap<&str, (&str, Dim)> = HashMap::new();
    let mut errors = vec![];
    for (i, (name, ty)) in params.iter().enumerate() {
        let mut fail = |why: String| errors.push((i, why));
        if let Err(why) = check_name(name) {
            fail(format!("parameter {why}"));
        }
        let stacks: Vec<usize> = name.match_indices(LOOP).map(|m| m.0 + LOOP.len()).collect();
        if stacks.len() > ty.rank() {
            fail(format!("parameter {name} is {ty}, which has no axis for each {LOOP}"));
            continue;
        }
        for (end, dim) in stacks.iter().zip(&ty.dims) {
            let (other, layers) = *layers.entry(&name[..*end]).or_insert((*name, *dim));
            if layers != *dim {
                fail(format!("parameter {name} is for {dim} iterations, and {other} for {layers}: one of the loops needs another name"));
            }
        }
        if let Some(stacked) = stacked_alias(name, &by_name) {
            fail(format!("parameter {name} is in files what iteration of {stacked} is: one of them needs another name"));
        }
    }
    errors
}

/// The stacked parameter of which a path is one iteration: `h.{}.w` of `h.0.w`.
fn stacked_alias(name: &str, by_name: &HashMap<&str, &Type>) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let number = |i: usize| parts[i].parse::<u64>().ok().filter(|n| n.to_string() == parts[i]);
    (0..parts.len()).find_map(|i| {
        let n = number(i)?;
        let stacked = [&parts[..i], &[LOOP], &parts[i + 1..]].concat().join(".");
        let axis = parts[..i].iter().filter(|p| **p == LOOP).count();
        let layers = by_name.get(stacked.as_str())?.dims.get(axis)?;
        layers.value().is_none_or(|layers| n < layers).then_some(stacked)
    })
}
