//! Whether what a kernel wrote is finite, by the type of what it wrote.
//!
//! NaN and +∞ are faults. −∞ is one, too, unless the kernel has it as a constant, as masks do, or read it: then it is what the model says.

use crate::backend::Fault;
use codegen::kernel::Elem;
use codegen::{Address, Call, Program, Region, Touch};
use std::borrow::Cow;

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
}

/// Looks at what a call is about to read.
pub(crate) fn before(program: &Program, call: &Call, memory: &dyn Memory) -> Result<Before, String> {
    let spec = &program.specs[call.kernel];
    let mut out = Before { lowest: spec.has_lowest(), bad: None };
    for touch in spec.touches().iter().filter(|t| !t.written) {
        let place = &call.args[touch.arg];
        for (_, x) in floats(spec.params[touch.arg].elem, touch, &memory.bytes(place)?) {
            out.lowest |= x == f32::NEG_INFINITY;
            if is_fault(x, true) && matches!(place.region, Region::Input(_) | Region::Param(_)) && out.bad.is_none() {
                out.bad = Some(format!("; {} holds {x} already", name(program, place.region)));
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
        if let Some((at, x)) = floats(elem, touch, &memory.bytes(place)?).find(|(_, x)| is_fault(*x, before.lowest)) {
            // where an operand is a piece of something with a name, the element is counted from the start of that
            let first = if place.region == Region::Arena { 0 } else { place.offset / elem.bytes() };
            let into = name(program, place.region);
            let wrote = format!("{x} to element {} of {into}{}", first + at, before.bad.as_deref().unwrap_or_default());
            return Ok(Some(Fault::NotFinite { kernel: program.kernels[call.kernel].name.clone(), call: n, wrote }));
        }
    }
    Ok(None)
}

/// The elements of an operand that a kernel touches, by number; none of what is not a float.
fn floats<'a>(elem: Elem, touch: &'a Touch, bytes: &'a [u8]) -> impl Iterator<Item = (usize, f32)> + 'a {
    let size = elem.bytes();
    let all = is_float(elem).then(|| touch.elements());
    all.into_iter().flatten().map(move |at| (at, class(elem, &bytes[at * size..][..size])))
}

fn name(program: &Program, region: Region) -> String {
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

/// The number in memory; of one in 16 bits only whether it is NaN, ∞, −∞, or finite, then 0.
fn class(elem: Elem, bytes: &[u8]) -> f32 {
    let half = |bits: u16, exponent: u16, mantissa: u16| match (bits & exponent == exponent, bits & mantissa == 0, bits >> 15) {
        (false, ..) => 0.0,
        (true, false, _) => f32::NAN,
        (true, true, 0) => f32::INFINITY,
        (true, true, _) => f32::NEG_INFINITY,
    };
    match (elem, bytes) {
        (Elem::BF16, &[a, b]) => half(u16::from_le_bytes([a, b]), 0x7F80, 0x007F),
        (Elem::F16, &[a, b]) => half(u16::from_le_bytes([a, b]), 0x7C00, 0x03FF),
        (_, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        _ => unreachable!("an element of {elem} has {} bytes", bytes.len()),
    }
}
