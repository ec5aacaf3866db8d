//! Leaf mathematics where devices differ: within a few ulp everywhere, whatever their built-in functions do.

use super::build::{Block, U32};
use crate::kernel::Elem;
use crate::polynomials::{ERF_END, ERF_LARGE, ERF_SMALL};
use cubecl::ir::pliron::value::Value;

impl Block<'_> {
    fn number(&self, x: f64, lanes: u32) -> Value {
        self.splat(self.constant(x, Elem::F32), Elem::F32, lanes)
    }

    /// Σ cᵢ xⁿ⁻ⁱ by Horner's rule.
    fn polynomial(&self, x: Value, lanes: u32, coefficients: &[f64]) -> Value {
        let (first, rest) = coefficients.split_first().expect("a polynomial has a coefficient");
        rest.iter().fold(self.number(*first, lanes), |p, c| self.fma(p, x, self.number(*c, lanes)))
    }

    /// The larger or the smaller of two floats, NaN where either is. What is NaN is asked of its bits: devices may compare as if there were
    /// none.
    pub fn extreme(&self, x: Value, y: Value, x_wins: Value) -> Value {
        let of_numbers = self.select(x_wins, x, y);
        self.select(self.is_nan(x), x, self.select(self.is_nan(y), y, of_numbers))
    }

    /// A float without its fraction as `i32` or `u32`: the nearest there is beyond their range, 0 for NaN. Devices differ there.
    pub fn to_whole(&self, x: Value, to: Elem, lanes: u32) -> Value {
        // the first float beyond the range; below, the lowest number there is
        let (end, most, least) = match to {
            Elem::I32 => (2f64.powi(31), f64::from(i32::MAX), f64::from(i32::MIN)),
            Elem::U32 => (2f64.powi(32), f64::from(u32::MAX), 0.0),
            Elem::F32 | Elem::BF16 | Elem::F16 | Elem::Bool => unreachable!("{to} is no whole number"),
        };
        let zero = self.number(0.0, lanes);
        let x = self.select(self.is_nan(x), zero, x);
        let (over, under) = (self.fle(self.number(end, lanes), x), self.flt(x, self.number(least, lanes)));
        let inside = self.select(over, zero, self.select(under, zero, x));
        let whole = |n: f64| self.splat(self.constant(n, to), to, lanes);
        let y = self.cast(inside, self.value_type(to, lanes));
        self.select(over, whole(most), self.select(under, whole(least), y))
    }

    /// xʸ: 1 where x is 1 or y is 0, else NaN where either is, which devices that go by logarithms miss.
    pub fn power(&self, x: Value, y: Value, lanes: u32) -> Value {
        let one = self.number(1.0, lanes);
        let y_is_0 = self.feq(y, self.number(0.0, lanes));
        let of_numbers = self.select(self.is_nan(x), x, self.select(self.is_nan(y), y, self.pow(x, y)));
        self.select(y_is_0, one, self.select(self.feq(x, one), one, of_numbers))
    }

    /// tanh x: 1 − 2 / (e²ˣ + 1) above 0.625, an odd polynomial below. What devices offer may overflow or lose small numbers.
    pub fn tanh(&self, x: Value, lanes: u32) -> Value {
        let one = self.number(1.0, lanes);
        let a = self.fabs(x);
        // beyond 9 it is 1 to the last bit, and the exponential stays finite
        let nine = self.number(9.0, lanes);
        let inside = self.select(self.flt(a, nine), a, nine);
        let e = self.exp(self.fadd(inside, inside));
        let large = self.fsub(one, self.fdiv(self.number(2.0, lanes), self.fadd(e, one)));
        let large = self.select(self.flt(x, self.number(0.0, lanes)), self.fneg(large), large);
        let z = self.fmul(x, x);
        let p =
            self.polynomial(z, lanes, &[-5.704_988_727_45e-3, 2.063_908_879_54e-2, -5.373_971_555_31e-2, 1.333_144_220_36e-1, -3.333_328_194_22e-1]);
        let small = self.fma(self.fmul(p, z), x, x);
        let y = self.select(self.flt(a, self.number(0.625, lanes)), small, large);
        self.select(self.is_nan(x), x, y)
    }

    /// erf x: an odd polynomial below 1, 1 − e⁻ᵖ above, where p is a polynomial.
    pub fn erf(&self, x: Value, lanes: u32) -> Value {
        let (a, one, end) = (self.fabs(x), self.number(1.0, lanes), self.number(ERF_END, lanes));
        let inside = self.select(self.flt(a, end), a, end);
        let large = self.fsub(one, self.exp(self.fneg(self.polynomial(inside, lanes, &ERF_LARGE))));
        let large = self.select(self.flt(x, self.number(0.0, lanes)), self.fneg(large), large);
        let small = self.fma(self.polynomial(self.fmul(x, x), lanes, &ERF_SMALL), x, x);
        let y = self.select(self.flt(a, one), small, large);
        self.select(self.is_nan(x), x, y)
    }

    /// sin x or cos x: the nearest multiple of π/2 taken off in three parts, a polynomial on the rest, chosen and signed by the quadrant.
    pub fn sine(&self, x: Value, lanes: u32, cosine: bool) -> Value {
        let n = self.round(self.fmul(x, self.number(std::f64::consts::FRAC_2_PI, lanes)));
        // π/2 in three parts, the first two of which n multiplies exactly up to some thousands
        let parts = [1.570_312_5, 4.837_512_969_970_703e-4, 7.549_789_954_891_9e-8];
        let r = parts.iter().fold(x, |r, p| self.fma(self.fneg(n), self.number(*p, lanes), r));
        let z = self.fmul(r, r);
        let sin = self.fma(self.fmul(self.polynomial(z, lanes, &[2.718_311_49e-6, -1.983_933_51e-4, 8.333_332_94e-3, -1.666_666_716e-1]), z), r, r);
        let cos = self.polynomial(z, lanes, &[2.443_315_71e-5, -1.388_731_63e-3, 4.166_664_57e-2, -0.5, 1.0]);
        let words = self.vector(super::build::I32, lanes);
        let n = self.bits(self.cast(n, words), self.vector(U32, lanes));
        let word = |w: u32| self.splat(self.word(w), Elem::U32, lanes);
        let quadrant = if cosine { self.iadd(n, word(1)) } else { n };
        let odd = self.urem(quadrant, word(2));
        let half = self.urem(self.shift_right(quadrant, word(1)), word(2));
        let y = self.select(self.ieq(odd, word(1)), cos, sin);
        self.select(self.ieq(half, word(1)), self.fneg(y), y)
    }
}
