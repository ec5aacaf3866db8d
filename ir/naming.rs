//! What inputs, results, parameters and functions may be called: names that the text holds and that mean one tensor each.

use crate::names::{LOOP, Place, loops, places};
use crate::types::{Dim, Type};
use std::collections::{BTreeMap, HashMap};

/// The longest name, in bytes.
const LENGTH_MAX: usize = 500;

/// Why this is no name, if it is none: letters, digits, `_`, `-`, `.`, `/` and places such as `{}` are what the text reads back.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    if name.is_empty() {
        return Err("a name is empty".into());
    }
    if name.len() > LENGTH_MAX {
        return Err(format!("a name has {} bytes, and at most {LENGTH_MAX} are possible", name.len()));
    }
    match without_places(name).chars().find(|c| !fits(*c)) {
        Some(c) => Err(format!("{name:?} is no name, for {c:?} is in it: use letters, digits, '_', '-', '.', '/' and '{{}}'")),
        None => Ok(()),
    }
}

fn without_places(name: &str) -> String {
    let (mut out, mut at) = (String::new(), 0);
    for (range, _) in places(name) {
        out += &name[at..range.start];
        at = range.end;
    }
    out + &name[at..]
}

/// What is wrong with parameters, in order, as the names of tensors in a file: each error with the position of the parameter it is about.
pub(crate) fn check_params(params: &[(&str, &Type)]) -> Vec<(usize, String)> {
    let mut layers: HashMap<&str, (&str, Dim)> = HashMap::new();
    let mut errors = vec![];
    for (i, (name, ty)) in params.iter().enumerate() {
        let mut fail = |why: String| errors.push((i, why));
        if let Err(why) = check_name(name) {
            fail(format!("parameter {why}"));
        }
        let stacks: Vec<usize> = places(name).map(|p| p.0.end).collect();
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
    }
    errors.extend(aliases(params));
    errors.sort_by_key(|e| e.0);
    errors
}

/// The numbers that a component of a path stands for: `{2i+1}` of 3 iterations for 1, 3 and 5; a number for itself.
#[derive(Clone, Copy)]
struct Numbers {
    place: Place,
    /// How many, where that is known.
    count: Option<u64>,
}

impl Numbers {
    fn one(n: usize) -> Numbers {
        Numbers { place: Place { step: 1, first: n }, count: Some(1) }
    }

    /// Whether both stand for one number. Where a count is not known, they may.
    fn meet(self, other: Numbers) -> bool {
        let [a, b] = [self.place, other.place].map(|p| (p.first as i64, p.step as i64));
        let (common, inverse) = inverse(a.1, b.1);
        let apart = b.0 - a.0;
        if apart % common != 0 {
            return false;
        }
        // a.first + a.step · i = b.first + b.step · j has one i in each b.step / common
        let period = b.1 / common;
        let any = (apart / common % period * inverse).rem_euclid(period);
        let least = apart.max(0).div_euclid(a.1) + i64::from(apart.max(0) % a.1 != 0);
        let i = least + (any - least).rem_euclid(period);
        let j = (a.0 + a.1 * i - b.0) / b.1;
        let below = |n: i64, count: Option<u64>| count.is_none_or(|count| (n as u64) < count);
        below(i, self.count) && below(j, other.count)
    }
}

/// The greatest common divisor of a and b, and x with a x = it modulo b.
fn inverse(a: i64, b: i64) -> (i64, i64) {
    let (mut rest, mut x) = ((a, b), (1, 0));
    while rest.1 != 0 {
        let q = rest.0 / rest.1;
        rest = (rest.1, rest.0 - q * rest.1);
        x = (x.1, x.0 - q * x.1);
    }
    (rest.0, x.0)
}

/// A path with a `#` for each number or place that is a component of it, and the numbers.
fn skeleton(name: &str, ty: &Type) -> (String, Vec<Numbers>) {
    let (mut numbers, mut axis) = (vec![], 0);
    let component = |part: &str| {
        if let Some((_, place)) = places(part).next().filter(|p| p.0 == (0..part.len())) {
            numbers.push(Numbers { place, count: ty.dims.get(axis).and_then(|d| d.value()) });
            axis += 1;
            return "#".to_string();
        }
        axis += places(part).count();
        match part.parse::<usize>().ok().filter(|n| n.to_string() == part) {
            Some(n) => {
                numbers.push(Numbers::one(n));
                "#".into()
            }
            None => part.to_string(),
        }
    };
    let parts: Vec<String> = name.split('.').map(component).collect();
    (parts.join("."), numbers)
}

/// Pairs of parameters of one skeleton that are compared at most.
const PAIRS_MAX: usize = 1 << 22;

/// Parameters that would be one tensor in a file, as `h.0.w` is iteration 0 of `h.{}.w`.
fn aliases(params: &[(&str, &Type)]) -> Vec<(usize, String)> {
    let mut alike: BTreeMap<String, Vec<(usize, Vec<Numbers>)>> = BTreeMap::new();
    for (i, (name, ty)) in params.iter().enumerate().filter(|(_, p)| places(p.0).count() <= p.1.rank()) {
        let (skeleton, numbers) = skeleton(name, ty);
        alike.entry(skeleton).or_default().push((i, numbers));
    }
    let (mut errors, mut pairs) = (vec![], 0usize);
    for group in alike.values() {
        let stacked = group.iter().filter(|p| loops(params[p.0].0) > 0);
        for (i, numbers) in stacked {
            pairs += group.len();
            if pairs > PAIRS_MAX {
                errors.push((*i, format!("parameter {}: too many parameters have a name like it, but for numbers", params[*i].0)));
                return errors;
            }
            // of two that are stacked, the later is at fault
            let clash = |other: &&(usize, Vec<Numbers>)| {
                let plain = loops(params[other.0].0) == 0;
                (plain || other.0 > *i) && numbers.iter().zip(&other.1).all(|(a, b)| a.meet(*b))
            };
            errors.extend(group.iter().filter(clash).map(|other| {
                let (name, stacked) = (params[other.0].0, params[*i].0);
                (other.0, format!("parameter {name} is in files what iteration of {stacked} is: one of them needs another name"))
            }));
        }
    }
    errors
}
