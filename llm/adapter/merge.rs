//! An adapter and its model made one.

use super::packed::matrix;
use super::{Linear, Low, lora};
use crate::chat::Template;
use crate::config::{ChatConfig, Config};
use crate::error::{Error, Result};
use crate::hub::{Directory, Imported, write_run};
use crate::objective::parameters;
use crate::weights::named::Tensors;
use ir::{Dim, Type};
use models::Model;
use models::heads::is_head;
use passes::State;
use std::path::Path;

/// Makes a run directory `to` of a model with what is beside it, of which nothing is left but other weights.
pub fn merge(from: &Directory, to: &Path) -> Result<Imported> {
    let Some(adapter) = from.adapter() else {
        return Err(Error(format!("{}: nothing stands beside this model; give an adapter with --adapter", from.path().display())));
    };
    if adapter.prompt.is_some() {
        let what = "tokens stand before this model's texts, of which no weights are made";
        return Err(Error(format!("{}: {what}; generate, eval and others read the directory as it is", from.path().display())));
    }
    let (plain, tensors): (Model, Tensors) = (from.model().adapted(None), from.tensors()?);
    let all = whole(from, &tensors)?;
    let own: Vec<_> = adapter.parameters().collect();
    for (name, ty) in all.iter().chain(&own) {
        tensors.check(name, ty)?;
    }
    let notices = tensors.check_all_read()?;
    let read = |name: &str, ty: &Type| {
        let bytes = tensors.expect(name, ty)?;
        let Some((linear, packed, lows)) = adapter.beside(name) else { return Ok(bytes) };
        let mut w = floats(&bytes);
        if let Some(packed) = packed {
            w = packed.rounded(matrix(linear), &w);
        }
        lows.iter().try_for_each(|low| add(&mut w, linear, low, name, &tensors))?;
        Ok(w.iter().flat_map(|x| x.to_le_bytes()).collect())
    };
    let (tokenizer, template) = (from.tokenizer()?, Template::of(from.path(), &ChatConfig::default().date)?);
    let beside = (tokenizer.as_ref(), template.as_ref().map(Template::source));
    let config = from.labels().map_or_else(|| Config::of(plain.clone()), |labels| labels.config(&plain));
    write_run(config, &all, beside, &from.generation()?, to, &read)?;
    Ok(Imported { parameters: all.iter().map(|p| p.1.count()).sum(), notices })
}

/// The parameters of the whole: those of the model, and of the head that was trained. What the model has for other objectives is left.
fn whole(from: &Directory, tensors: &Tensors) -> Result<Vec<(String, Type)>> {
    let own = from.plain_parameters()?;
    for (name, ty) in parameters(&from.model().adapted(None))?.iter().filter(|p| !own.contains(p) && tensors.has(&p.0, &p.1)) {
        tensors.check(name, ty)?;
    }
    let heads = heads(from, tensors)?.into_iter().filter(|head| !own.contains(head));
    Ok(own.iter().cloned().chain(heads).collect())
}

/// The parameters of heads that the model does not have by itself, which are trained whole beside it.
pub(super) fn heads(from: &Directory, tensors: &Tensors) -> Result<Vec<(String, Type)>> {
    let body = parameters(&from.model().adapted(None))?;
    let mut all: Vec<(String, Type)> = from.plain_parameters()?.into_iter().filter(|p| !body.contains(p)).collect();
    let others = tensors.places().map(|p| p.0).filter(|name| is_head(name) && State::parse(name).is_parameter());
    let typed = |name: &str| Some((name.to_string(), Type::f32(tensors.shape(name)?.into_iter().map(Dim::from))));
    let others: Vec<(String, Type)> = others.filter_map(typed).filter(|p| !all.contains(p)).collect();
    all.extend(others);
    Ok(all)
}

pub(super) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Adds s A B to a layer's matrix, and gives its columns their lengths.
fn add(w: &mut [f32], linear: &Linear, low: &Low, path: &str, tensors: &Tensors) -> Result<()> {
    let one = Linear { ty: ir::Type::f32(linear.ty.dims[linear.ty.rank() - 2..].iter().copied()), ..linear.clone() };
    let one = Linear { module: super::module_at(linear, path), ..one };
    let read = |which: &str| {
        let wanted = low.parameters(&one).into_iter().find(|p| p.0 == which);
        wanted.map(|(_, name, ty)| tensors.expect(&name, &ty).map(|bytes| floats(&bytes))).transpose()
    };
    let (a, b) = (read(lora::A)?.expect("there is a first factor"), read(lora::B)?.expect("there is a second factor"));
    let Linear { inputs, outputs, turned, .. } = one;
    for o in 0..outputs {
        for (k, a) in a.chunks_exact(inputs).enumerate() {
            let factor = low.scale * f64::from(b[o * low.rank + k]);
            for (i, a) in a.iter().enumerate() {
                let at = if turned { i * outputs + o } else { o * inputs + i };
                w[at] = (f64::from(w[at]) + factor * f64::from(*a)) as f32;
            }
        }
    }
    if let Some(wanted) = read(lora::MAGNITUDE)? {
        let have = lengths(&one, w);
        for (at, x) in w.iter_mut().enumerate() {
            let o = if turned { at % outputs } else { at / inputs };
            *x *= wanted[o] / have[o];
        }
    }
    Ok(())
}

/// The lengths of a layer's columns, or of all layers' one after the other: for each that comes out, of what it is multiplied by.
pub(super) fn lengths(linear: &Linear, w: &[f32]) -> Vec<f32> {
    let Linear { inputs, outputs, turned, .. } = *linear;
    let one = |w: &[f32]| {
        let mut squares = vec![0f64; outputs];
        for (at, x) in w.iter().enumerate() {
            squares[if turned { at % outputs } else { at / inputs }] += f64::from(*x).powi(2);
        }
        squares.into_iter().map(|x| x.sqrt() as f32).collect::<Vec<_>>()
    };
    w.chunks(inputs * outputs).flat_map(one).collect()
}
