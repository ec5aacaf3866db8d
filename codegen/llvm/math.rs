//! Leaf mathematics on vectors and scalars of `f32`: polynomials with known error, no calls where a loop is hot.

use super::print::Printer;
use crate::polynomials::{ERF_END, ERF_LARGE, ERF_SMALL};
use inkwell::FloatPredicate;
use inkwell::values::BasicValueEnum;
use ir::Un;

type V<'c> = BasicValueEnum<'c>;

impl<'c> Printer<'c, '_> {
    pub(super) fn unary(&self, un: Un, x: V<'c>) -> V<'c> {
        match un {
            Un::Exp => self.exp(x),
            Un::Log => self.log(x),
            Un::Tanh => self.tanh(x),
            Un::Erf => self.erf(x),
            Un::Neg => self.neg(x),
            Un::Sqrt => self.intrinsic("llvm.sqrt", &[x]),
            Un::Rsqrt => self.div(self.like(x, 1.0), self.intrinsic("llvm.sqrt", &[x])),
            Un::Recip => self.div(self.like(x, 1.0), x),
            Un::Abs => self.intrinsic("llvm.fabs", &[x]),
            // rare, and exact to the last bits from the C library, an element at a time
            Un::Sin => self.intrinsic("llvm.sin", &[x]),
            Un::Cos => self.intrinsic("llvm.cos", &[x]),
        }
    }

    /// Σ cᵢ xⁿ⁻ⁱ by Horner's rule.
    fn polynomial(&self, x: V<'c>, coefficients: &[f64]) -> V<'c> {
        let (first, rest) = coefficients.split_first().expect("a polynomial has a coefficient");
        rest.iter().fold(self.like(x, *first), |p, c| self.fma(p, x, self.like(x, *c)))
    }

    /// eˣ: n = rint(x log₂e), a polynomial of degree 5 on the rest, scaled by 2ⁿ in two steps so that results may be subnormal or ∞.
    /// At most 1.5 ulp; NaN stays NaN.
    fn exp(&self, x: V<'c>) -> V<'c> {
        let (high, low) = (self.like(x, 89.0), self.like(x, -104.0));
        let inside = self.select(self.compare(FloatPredicate::OLT, x, high), x, high);
        let inside = self.select(self.compare(FloatPredicate::OGT, inside, low), inside, low);
        let n = self.intrinsic("llvm.rint", &[self.mul(inside, self.like(x, std::f64::consts::LOG2_E))]);
        let r = self.fma(n, self.like(x, -0.693359375), inside);
        let r = self.fma(n, self.like(x, 2.121_944_4e-4), r);
        let p = self
            .polynomial(r, &[1.987_569_15e-4, 1.398_199_950_7e-3, 8.333_451_907_3e-3, 4.166_579_589_4e-2, 1.666_666_545_9e-1, 5.000_000_120_1e-1]);
        let y = self.fma(p, self.mul(r, r), self.add(r, self.like(x, 1.0)));
        let whole = self.to_int(n);
        let half = self.shift_right_signed(whole, 1);
        let y = self.mul(self.mul(y, self.two_to(half)), self.two_to(self.int_sub(whole, half)));
        self.select(self.compare(FloatPredicate::UNO, x, x), x, y)
    }

    /// 2ⁿ for −126 ≤ n ≤ 127, by its exponent bits.
    fn two_to(&self, n: V<'c>) -> V<'c> {
        self.bits_to_float(self.shift_left(self.int_add(n, self.int_like(n, 127)), 23))
    }

    /// ln x: x = m 2ᵉ with √½ ≤ m < √2, a polynomial of degree 8 in m − 1. At most 1 ulp; ln 0 = −∞, NaN below.
    fn log(&self, x: V<'c>) -> V<'c> {
        let tiny = self.compare(FloatPredicate::OLT, x, self.like(x, f64::from(f32::MIN_POSITIVE)));
        let scaled = self.select(tiny, self.mul(x, self.like(x, 8_388_608.0)), x);
        let bits = self.float_to_bits(scaled);
        // subtracting √½'s bits leaves the exponent that brings m into its interval
        let shifted = self.int_sub(bits, self.int_like(bits, 0x3F35_04F3));
        let e = self.shift_right_signed(shifted, 23);
        let m = self.bits_to_float(self.int_sub(bits, self.shift_left(e, 23)));
        let e = self.to_float(e);
        let e = self.select(tiny, self.sub(e, self.like(x, 23.0)), e);
        let z = self.sub(m, self.like(x, 1.0));
        let p = self.polynomial(
            z,
            &[
                7.037_683_629_2e-2,
                -1.151_461_031e-1,
                1.167_699_874e-1,
                -1.242_014_084_6e-1,
                1.424_932_278_7e-1,
                -1.666_805_766_5e-1,
                2.000_071_476_5e-1,
                -2.499_999_399_3e-1,
                3.333_333_117_4e-1,
            ],
        );
        let z2 = self.mul(z, z);
        let y = self.fma(e, self.like(x, -2.121_944_4e-4), self.mul(p, self.mul(z2, z)));
        let y = self.fma(z2, self.like(x, -0.5), y);
        let y = self.fma(e, self.like(x, 0.693359375), self.add(z, y));
        let infinity = self.like(x, f64::INFINITY);
        let y = self.select(self.compare(FloatPredicate::OLT, x, infinity), y, x);
        let zero = self.like(x, 0.0);
        let y = self.select(self.compare(FloatPredicate::OGT, x, zero), y, self.like(x, f64::NAN));
        self.select(self.compare(FloatPredicate::OEQ, x, zero), self.like(x, f64::NEG_INFINITY), y)
    }

    /// tanh x: 1 − 2 / (e²ˣ + 1) above 0.625, an odd polynomial below. At most 2 ulp.
    fn tanh(&self, x: V<'c>) -> V<'c> {
        let a = self.intrinsic("llvm.fabs", &[x]);
        let e = self.exp(self.add(a, a));
        let one = self.like(x, 1.0);
        let large = self.sub(one, self.div(self.like(x, 2.0), self.add(e, one)));
        let large = self.intrinsic("llvm.copysign", &[large, x]);
        let z = self.mul(x, x);
        let p = self.polynomial(z, &[-5.704_988_727_45e-3, 2.063_908_879_54e-2, -5.373_971_555_31e-2, 1.333_144_220_36e-1, -3.333_328_194_22e-1]);
        let small = self.fma(self.mul(p, z), x, x);
        self.select(self.compare(FloatPredicate::OLT, a, self.like(x, 0.625)), small, large)
    }

    /// erf x: an odd polynomial below 1, 1 − e⁻ᵖ above, where p is a polynomial. At most 2 ulp.
    fn erf(&self, x: V<'c>) -> V<'c> {
        let (a, one, end) = (self.intrinsic("llvm.fabs", &[x]), self.like(x, 1.0), self.like(x, ERF_END));
        let inside = self.select(self.compare(FloatPredicate::OLT, a, end), a, end);
        let large = self.sub(one, self.exp(self.neg(self.polynomial(inside, &ERF_LARGE))));
        let large = self.intrinsic("llvm.copysign", &[large, x]);
        let small = self.fma(self.polynomial(self.mul(x, x), &ERF_SMALL), x, x);
        let y = self.select(self.compare(FloatPredicate::OLT, a, one), small, large);
        self.select(self.compare(FloatPredicate::UNO, x, x), x, y)
    }
}
