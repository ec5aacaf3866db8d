//! Whether what a kernel wrote is finite, by the type of what it wrote.
//!
//! NaN and +∞ are faults. −∞ is one, too, unless the kernel has it as a constant, as masks do, or read it: then it is what the model says.
//! A fault says what the kernel computes, where in the model that is, and what it read and wrote in figures.

use crate::backend::{Fault, Near};
use codegen::kernel::Elem;
use codegen::spec::Step;
use codegen::{Address, Call, Program, Region, Spec, Touch};
use ir::names::{iteration, loops};
use std::borrow::Cow;
use std::fmt;

/// The memory of a program, for who looks at it between two calls.
pub(crate) trait Memory {
    /// The bytes of an operand.
    fn bytes(&self, operand: &Address) -> Result<Cow<'_, [u8]>, String>;
}

/// What a call's operands held before it ran.
#[derive(Default)]
pub(crate) struct Before {
    /// One holds −∞.
    lowest: bool,
    /// An input or a parameter that is not finite, for the report.
    bad: Option<String>,
    /// What each float operand held, for the report.
    held: Vec<String>,
}

/// Floats in figures.
#[derive(Clone, Copy, Debug)]
struct Figures {
    count: usize,
    nan: usize,
    infinite: usize,
    /// Of the finite ones.
    least: f32,
    greatest: f32,
    sum: f64,
}

impl Figures {
    fn of(values: impl Iterator<Item = f32>) -> Figures {
        let mut f = Figures { count: 0, nan: 0, infinite: 0, least: f32::INFINITY, greatest: f32::NEG_INFINITY, sum: 0.0 };
        for x in values {
            f.count += 1;
            f.nan += usize::from(x.is_nan());
            f.infinite += usize::from(x.is_infinite());
            if x.is_finite() {
                (f.least, f.greatest, f.sum) = (f.least.min(x), f.greatest.max(x), f.sum + f64::from(x));
            }
        }
        f
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        let finite = self.count - self.nan - self.infinite;
        write!(to, "{} values, {} NaN, {} infinite", self.count, self.nan, self.infinite)?;
        if finite == 0 {
            return Ok(());
        }
        write!(to, "; the others from {:.4e} to {:.4e}, mean {:.4e}", self.least, self.greatest, self.sum / finite as f64)
    }
}

/// Looks at what a call is about to read.
pub(crate) fn before(program: &Program, call: &Call, memory: &dyn Memory) -> Result<Before, String> {
    let spec = &program.specs[call.kernel];
    let mut out = Before { lowest: spec.has_lowest(), ..Before::default() };
    for touch in spec.touches().iter().filter(|t| !t.written) {
        let (elem, place) = (spec.params[touch.arg].elem, &call.args[touch.arg]);
        let bytes = memory.bytes(place)?;
        if is_float(elem) {
            out.held.push(format!("{}: {}", name(program, place), Figures::of(floats(elem, touch, &bytes).map(|f| f.1))));
        }
        for (_, x) in floats(elem, touch, &bytes) {
            out.lowest |= x == f32::NEG_INFINITY;
            if is_fault(x, true) && matches!(place.region, Region::Input(_) | Region::Param(_)) && out.bad.is_none() {
                out.bad = Some(format!("; {} holds {x} already", plain(program, place.region)));
            }
        }
    }
    Ok(out)
}

/// The first value that is a fault among what call number `n` wrote.
pub(crate) fn after(program: &Program, n: usize, call: &Call, before: &Before, memory: &dyn Memory) -> Result<Option<Fault>, String> {
    let spec = &program.specs[call.kernel];
    for touch in spec.touches().iter().filter(|t| t.written) {
        let (elem, place) = (spec.params[touch.arg].elem, &call.args[touch.arg]);
        let bytes = memory.bytes(place)?;
        if let Some((at, x)) = floats(elem, touch, &bytes).find(|(_, x)| is_fault(*x, before.lowest)) {
            // where an operand is a piece of something with a name, the element is counted from the start of that
            let first = if place.region == Region::Arena { 0 } else { place.offset / elem.bytes() };
            let into = plain(program, place.region);
            let wrote = format!("{x} to element {} of {into}{}", first + at, before.bad.as_deref().unwrap_or_default());
            let written = format!("wrote {}: {}", name(program, place), Figures::of(floats(elem, touch, &bytes).map(|f| f.1)));
            let read = before.held.iter().map(|held| format!("read {held}"));
            let details = std::iter::once(format!("it computes {}", computes(spec))).chain(std::iter::once(written)).chain(read).collect();
            return Ok(Some(Fault::NotFinite { kernel: program.kernels[call.kernel].name.clone(), call: n, wrote, details, near: near(program, n) }));
        }
    }
    Ok(None)
}

/// The ops of a kernel, each once, in their order.
fn computes(spec: &Spec) -> String {
    let mut ops: Vec<&str> = vec![];
    for (step, _) in &spec.dag.steps {
        let op = match step {
            Step::Load(_) | Step::Const(_) | Step::Index { .. } => continue,
            Step::Product | Step::Cotangent => spec.name(),
            Step::Un(op, _) => op.name(),
            Step::Bin(op, ..) => op.name(),
            Step::Select(..) => "select",
            Step::Cast(_) => "cast",
            Step::Random(..) => "random_bits",
            Step::Gather { .. } => "gather",
            Step::Reduce(ir::Red::Sum, _) => "sum",
            Step::Reduce(ir::Red::Max, _) => "max",
        };
        if !ops.contains(&op) {
            ops.push(op);
        }
    }
    if ops.is_empty() { spec.name().into() } else { ops.join(", ") }
}

/// The parameter of the model nearest to a call: its own, or that of the last call before it that has one.
fn near(program: &Program, n: usize) -> Option<Box<Near>> {
    nearest(program).swap_remove(n).map(Box::new)
}

/// The same of every call.
pub(crate) fn nearest(program: &Program) -> Vec<Option<Near>> {
    let own = |place: &Address| match place.region {
        Region::Param(i) if passes::State::parse(&program.params[i].0).is_parameter() => {
            Some(Near { path: parameter(program, i, place.offset), stack: program.params[i].0.to_string() })
        }
        _ => None,
    };
    let mut last = None;
    let mut seen = |call: &Call| {
        last = call.args.iter().find_map(own).or_else(|| last.take());
        last.clone()
    };
    program.calls().iter().map(&mut seen).collect()
}

/// The elements of an operand that a kernel touches, by number; none of what is not a float.
fn floats<'a>(elem: Elem, touch: &'a Touch, bytes: &'a [u8]) -> impl Iterator<Item = (usize, f32)> + 'a {
    let size = elem.bytes();
    let all = is_float(elem).then(|| touch.elements());
    all.into_iter().flatten().map(move |at| (at, class(elem, &bytes[at * size..][..size])))
}

/// What an operand is: of a parameter that is stacked, the iteration's piece by its own path.
fn name(program: &Program, place: &Address) -> String {
    match place.region {
        Region::Param(i) => format!("parameter {}", parameter(program, i, place.offset)),
        Region::Input(_) | Region::Output(_) | Region::Arena => plain(program, place.region),
    }
}

/// The path of the piece of a parameter that begins at a byte.
fn parameter(program: &Program, i: usize, mut offset: usize) -> String {
    let (path, ty) = &program.params[i];
    let (mut path, mut bytes) = (path.to_string(), ty.bytes());
    for size in ty.sizes().into_iter().take(loops(&path)) {
        bytes /= size.max(1);
        path = iteration(&path, offset / bytes.max(1));
        offset %= bytes.max(1);
    }
    path
}

fn plain(program: &Program, region: Region) -> String {
    match region {
        Region::Input(i) => format!("input {}", program.inputs[i].0),
        Region::Param(i) => format!("parameter {}", program.params[i].0),
        Region::Output(i) => format!("result {}", program.outputs[i].0),
        Region::Arena => "an intermediate value".into(),
    }
}

fn is_float(elem: Elem) -> bool {
    match elem {
        Elem::F32 | Elem::BF16 | Elem::F16 => true,
        Elem::I32 | Elem::U32 | Elem::Bool => false,
    }
}

fn is_fault(x: f32, lowest_allowed: bool) -> bool {
    !(x.is_finite() || lowest_allowed && x == f32::NEG_INFINITY)
}

/// The number in memory.
fn class(elem: Elem, bytes: &[u8]) -> f32 {
    match (elem, bytes) {
        (Elem::BF16, &[a, b]) => f32::from_bits(u32::from(u16::from_le_bytes([a, b])) << 16),
        (Elem::F16, &[a, b]) => half(u16::from_le_bytes([a, b])),
        (_, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        _ => unreachable!("an element of {elem} has {} bytes", bytes.len()),
    }
}

/// A float of 16 bits as IEEE 754 has it: a sign, five bits of the exponent, ten of the fraction.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 0x03FF));
    let size = match exponent {
        0 => fraction * f32::powi(2.0, -24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * f32::powi(2.0, exponent - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}
