//! What a model says of answers before it learns which are preferred: computed once, and kept beside the run.

use crate::config::Config;
use crate::data::{Data, Known};
use crate::error::{Error, Result, file_error};
use crate::files::write_file;
use crate::objective::reference_program;
use crate::step::Step;
use crate::weights::checksum;
use passes::{Goal, Options, State, compile};
use runtime::{Device, Session};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file in a run directory.
pub const REFERENCE: &str = "reference.json";

/// Log-probabilities of both answers of every pair, and what they were made of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    /// Version of this format.
    format: u32,
    /// The data, by its fingerprint.
    data: String,
    /// The weights, by their checksum.
    weights: String,
    /// Tokens a row: what is longer is cut.
    context: usize,
    /// Of the numbers, so that a damaged file is seen.
    checksum: String,
    /// A source's pairs, those that are learned from and those held out.
    pairs: Known,
}

/// Bytes of a number, of which there are two a pair; a file of more than the data's pairs take is not read.
const BYTES: u64 = 64;

/// Computes a reference with the weights that a step has now, without what stands beside its model, and keeps it. `tell` hears how many of
/// all pairs are done.
pub(super) fn compute(
    config: &Config,
    data: &Data,
    (device, options): (Device, &Options),
    step: &Step,
    dir: Option<&Path>,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Known> {
    let (t, of) = (&config.train, step.session());
    let graph = reference_program(&step.reference())?.bind(&|s| match s {
        'B' => Some(t.batch as u64),
        'T' => Some(t.context as u64),
        _ => None,
    })?;
    let mut session = Session::sharing_whole(compile(&graph, Goal::Results, options)?.last(), device, options.budget, of)?;
    let (mut done, all) = (0, data.count_pairs());
    let pairs = data.each_pair(t.batch, t.context, &mut |batch| {
        batch.fill(&mut session, &[])?;
        session.run().map_err(|e| Error(e.to_string()))?;
        done = (done + t.batch as u64).min(all);
        tell(done, all);
        Ok(session.output("log_prob").expect("the program has it").f32s().chunks(2).map(|pair| [pair[0], pair[1]]).collect())
    })?;
    if let Some(dir) = dir {
        let kept = Reference {
            format: 1,
            data: data.fingerprint(),
            weights: of_weights(of)?,
            context: t.context,
            checksum: of_numbers(&pairs),
            pairs: pairs.clone(),
        };
        write_file(&dir.join(REFERENCE), serde_json::to_string(&kept).expect("numbers have a JSON form").as_bytes())?;
    }
    Ok(pairs)
}

/// Reads what was kept, for the same data and rows of the same length.
pub(super) fn read(config: &Config, data: &Data, dir: &Path) -> Result<Known> {
    let path = dir.join(REFERENCE);
    let fail = |why: String| file_error(&path, "what the model said before it learned is gone", why);
    let limit = (1 << 16) + BYTES * data.count_pairs();
    let text = crate::files::read_short(&path, limit).map_err(|e| fail(format!("{e}; start anew in another --out")))?;
    let kept: Reference = serde_json::from_str(&text).map_err(|e| fail(format!("{e}; start anew in another --out")))?;
    if kept.checksum != of_numbers(&kept.pairs) {
        return Err(fail("its numbers are not those that were written; start anew in another --out".into()));
    }
    if (&kept.data, kept.context) != (&data.fingerprint(), config.train.context) {
        return Err(fail("it is of other data, or of rows of another length; give the same --data and train.context".into()));
    }
    Ok(kept.pairs)
}

fn of_numbers(pairs: &Known) -> String {
    let bytes = pairs.iter().flatten().flatten().flatten().flat_map(|x| x.to_le_bytes());
    checksum(&bytes.collect::<Vec<u8>>())
}

/// Says which weights a session has.
fn of_weights(session: &Session) -> Result<String> {
    let names: Vec<bool> = session.params().map(|(name, _)| State::parse(name).is_parameter()).collect();
    let of = |all: &[&[u8]]| all.iter().zip(&names).filter(|(_, is)| **is).map(|(bytes, _)| checksum(bytes)).collect::<String>();
    Ok(checksum(session.show_params(of)?.as_bytes()))
}
