//! Training that begins with another model's weights.

use super::Directory;
use crate::config::{Aim, Config, NewTokens};
use crate::error::{Error, Result};
use crate::objective::{Mode, Objective, parameters};
use crate::step::Step;
use crate::text::Tokenizer;
use crate::weights::named::Tensors;
use crate::weights::packed::{Packed, Part};
use ir::{DType, Type, names};
use models::heads::is_head;
use std::collections::{BTreeMap, BTreeSet};

/// Parameters by name.
type All = BTreeMap<String, Type>;

/// What becomes of parameters where a training begins with a directory's.
struct Weights {
    /// The model's, there.
    body: All,
    /// Names of those that have rows for more tokens here.
    grown: Vec<String>,
    /// Of those that are not there.
    fresh: Vec<String>,
    /// Those there that are not read as they are.
    left: Vec<(String, Type)>,
}

impl Directory {
    /// Begins a training with the weights there, or beside them, where the configuration has an adapter. A head that is for another task, or
    /// for other classes, is left; one that is not there begins from the seed; tokens that the vocabulary has more begin as the configuration
    /// says. What is to be known of that.
    pub fn begin(&self, step: &mut Step, config: &Config) -> Result<Vec<String>> {
        let (config, tensors) = (&config.clone().adapted()?, self.tensors()?);
        let beside = config.model.adaptation();
        let own: All = step.session().params().map(|(name, ty)| (name.to_string(), ty.clone())).collect();
        let Weights { body, grown, fresh, left } = self.weights(config, &own, &tensors)?;
        if let Some(name) = grown.first().filter(|_| beside.is_some()) {
            return Err(self.cannot_grow(name, config));
        }
        let stays = config.stays()?;
        if let Some(name) = fresh.iter().find(|name| stays.contains(*name)) {
            return Err(self.cannot_stay(name));
        }
        for (name, ty) in &left {
            tensors.check(name, ty)?;
        }
        let unread = step.start_from(&tensors, &|name| !fresh.iter().chain(&grown).any(|other| other == name))?;
        for name in &grown {
            grow(step, &tensors, name, [&body[name], &own[name]], self.known(), config.data.new_tokens)?;
        }
        if beside.is_some() {
            step.stand_beside(self.as_base()?)?;
        }
        // states of an optimizer are of the other run
        let mut notices: Vec<String> = unread.into_iter().filter(|_| !self.is_run()).collect();
        let heads: Vec<&str> = fresh.iter().map(String::as_str).filter(|name| !beside.is_some_and(|a| a.adds(name))).collect();
        if !heads.is_empty() {
            notices.push(format!("{} begin from the seed: {} has none for this", heads.join(", "), self.path().display()));
        }
        if !grown.is_empty() {
            let (old, new) = (self.model().vocab_size(), config.model.vocab_size());
            let how = config.data.new_tokens;
            notices.push(format!("the vocabulary grows from {old} tokens to {new}; the new ones begin as data.new_tokens says: {how}"));
        }
        Ok(notices)
    }

    /// What becomes of each parameter that is there, or that a training has.
    fn weights(&self, config: &Config, own: &All, tensors: &Tensors) -> Result<Weights> {
        let body: All = parameters(self.model())?.into_iter().collect();
        let head: All = match self.labels() {
            Some(labels) => Objective::Classes(labels.head()).parameters(self.model())?.into_iter().collect(),
            None => All::new(),
        };
        let asked = config.aim() == Aim::Classes;
        let same = asked && self.labels().is_some_and(|l| l.classes == config.classify.classes);
        // the same layers may be other loops here
        let whole: All = Config { model: config.model.divided(None), ..config.clone() }.parameters()?.into_iter().collect();
        // what says rewards and values has no names of its own
        let of_other = |name: &str| !asked && is_head(name) && tensors.contains(name);
        // what the usual training has no use for may have been left out of its checkpoint
        let usual = Objective::of(self.model()).graph(self.model(), Mode::Evaluate)?.params();
        let usual: BTreeSet<String> = usual.into_iter().map(|p| p.0.to_string()).collect();
        let known = |name: &str| body.get(name).is_some_and(|ty| usual.contains(name) || tensors.has(name, ty));
        // a matrix in few bits is made of the model's own
        let has = |name: &str| known(name) || Part::of(name).is_some_and(|(matrix, _)| body.get(matrix).is_some_and(|ty| tensors.has(matrix, ty)));
        let there = |name: &str| has(name) || same && head.contains_key(name) || of_other(name);
        // heads of the model that this program has no use for are no matter
        let used = |name: &str| own.contains_key(name) || names::loops(name) > 0;
        let grown: Vec<String> = whole.iter().filter(|(name, ty)| there(name) && self.grows(&body, name, ty, config)).map(|p| p.0.clone()).collect();
        let fresh = whole.keys().filter(|name| used(name) && !there(name)).cloned().collect();
        let held = |name: &str| whole.contains_key(name) || Packed::ALL.iter().any(|p| p.names(name).iter().all(|n| whole.contains_key(n)));
        let left = |name: &String| !(held(name) && there(name)) || grown.contains(name);
        let left =
            body.iter().chain(&head).filter(|(name, ty)| left(name) && tensors.has(name, ty)).map(|(name, ty)| (name.clone(), ty.clone())).collect();
        Ok(Weights { body, grown, fresh, left })
    }

    /// A head of the model that was never trained is none to stand beside.
    fn cannot_stay(&self, name: &str) -> Error {
        let why = "an adapter leaves as it is what is no head of the objective's own: do without it, as with --set pooler=false, or train without an adapter";
        Error(format!("{}: there is no {name}, which would begin from the seed; {why}", self.path().display()))
    }

    /// A model that stays as it is has no rows for more tokens.
    fn cannot_grow(&self, name: &str, config: &Config) -> Error {
        let (old, new) = (self.model().vocab_size(), config.model.vocab_size());
        let why = "an adapter stands beside the rows there are: train the model with that --tokenizer first, or leave --tokenizer away";
        Error(format!("{}: the vocabulary has {new} tokens, and {name} is of {old}; {why}", self.path().display()))
    }

    /// Whether a parameter has a row for each token, and more of them here than there.
    fn grows(&self, body: &All, name: &str, ty: &Type, config: &Config) -> bool {
        let (old, new) = (self.model().vocab_size(), config.model.vocab_size());
        let rows = |ty: &Type| ty.sizes().first().copied();
        new > old && rows(ty) == Some(new) && body.get(name).is_some_and(|there| rows(there) == Some(old) && there.sizes()[1..] == ty.sizes()[1..])
    }

    /// Tokens that there are, where rows of more fill the vocabulary up.
    fn known(&self) -> usize {
        let tokenizer = self.tokenizer().ok().flatten();
        tokenizer.map_or(self.model().vocab_size(), |t| t.size())
    }

    /// Refuses a tokenizer with more tokens than the model has, unless it is the model's own with more behind it.
    pub fn fits_or_extends(&self, tokenizer: &Tokenizer) -> Result<()> {
        let own = match self.fits(tokenizer) {
            Ok(()) => return Ok(()),
            Err(why) => self.tokenizer()?.ok_or(why)?,
        };
        let bytes = |of: &Tokenizer, id: i32| {
            let mut out = vec![];
            of.bytes(id, &mut out);
            out
        };
        match (0..own.size() as i32).find(|id| bytes(&own, *id) != bytes(tokenizer, *id)) {
            None => Ok(()),
            Some(id) => Err(Error(format!(
                "--tokenizer: it has {} tokens, more than the model's {}, and token {id} is another than in {}: expected that one with more tokens, as \
                 eggcorn tokenizer extend makes it",
                tokenizer.size(),
                self.model().vocab_size(),
                self.path().display()
            ))),
        }
    }
}

/// Fills a parameter with the rows that there are, and its further ones with their mean, or not.
fn grow(step: &mut Step, tensors: &Tensors, name: &str, [old, new]: [&Type; 2], known: usize, how: NewTokens) -> Result<()> {
    let bytes = tensors.expect(name, old)?;
    let (rows, further) = (old.sizes()[0], new.sizes()[0] - old.sizes()[0]);
    step.set_parameter_part(name, 0, &bytes)?;
    if how == NewTokens::Mean {
        debug_assert_eq!(old.dtype, DType::F32);
        let width = bytes.len() / rows.max(1);
        let known = known.clamp(1, rows);
        let mean = mean(&bytes[..known * width], width);
        step.set_parameter_part(name, bytes.len(), &mean.repeat(further))?;
    }
    Ok(())
}

/// The mean of rows of so many bytes.
fn mean(rows: &[u8], width: usize) -> Vec<u8> {
    let mut sums = vec![0.0_f64; width / 4];
    for row in rows.chunks(width) {
        let values = row.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        sums.iter_mut().zip(values).for_each(|(sum, x)| *sum += f64::from(x));
    }
    let count = (rows.len() / width.max(1)) as f64;
    sums.iter().flat_map(|sum| ((sum / count) as f32).to_le_bytes()).collect()
}
