//! Which buffers are addressed in whole vectors: those whose every access is one, and begins at one.

use crate::kernel::{Buf, Expr, Ix, Kernel, Stmt};
use std::collections::HashMap;

/// Sets the widths of a kernel's buffers.
pub(super) fn widen(kernel: &mut Kernel, aligned: &[bool]) {
    let mut uses = Uses { kernel, divisors: HashMap::new(), of: vec![None; kernel.params.len()] };
    uses.block(&kernel.body);
    let width = |(used, aligned): (&Option<Use>, &bool)| match used {
        Some(u) if *aligned && u.divisor % i64::from(u.lanes) == 0 => u.lanes,
        _ => 1,
    };
    kernel.widths = uses.of.iter().zip(aligned).map(width).collect();
}

/// Lanes of every access to a buffer, and a number that divides where each begins.
#[derive(Clone, Copy)]
struct Use {
    lanes: u32,
    divisor: i64,
}

struct Uses<'a> {
    kernel: &'a Kernel,
    /// Of each index variable.
    divisors: HashMap<u32, i64>,
    /// Of each parameter.
    of: Vec<Option<Use>>,
}

impl Uses<'_> {
    fn block(&mut self, body: &[Stmt]) {
        body.iter().for_each(|s| self.stmt(s));
    }

    fn stmt(&mut self, s: &Stmt) {
        match s {
            Stmt::For { var, lo, step, body, .. } => {
                self.divisors.insert(var.0, gcd(self.divisor(lo), *step));
                self.block(body);
            }
            Stmt::Let(v, ix) => {
                self.divisors.insert(v.0, self.divisor(ix));
            }
            Stmt::LetValue(_, e) | Stmt::Set(_, _, e) => self.expr(e),
            Stmt::Store { buf, at, value, .. } => {
                self.access(*buf, at, self.kernel.lanes(value));
                self.expr(value);
            }
            Stmt::If { then, otherwise, .. } => {
                self.block(then);
                self.block(otherwise);
            }
            Stmt::CopyAsync { src, from, .. } => self.access(Buf::Arg(*src), from, 8),
            Stmt::Transpose { .. } | Stmt::Prefetch(..) | Stmt::Barrier | Stmt::Commit | Stmt::Wait(_) | Stmt::LoadMatrix { .. } => {}
            Stmt::Mma { .. } | Stmt::GroupMma { .. } | Stmt::Fence | Stmt::Pack { .. } | Stmt::Exchange { .. } => {}
        }
    }

    fn access(&mut self, buf: Buf, at: &Ix, lanes: u32) {
        let Buf::Arg(i) = buf else { return };
        let divisor = self.divisor(at);
        self.of[i] = Some(match self.of[i] {
            None => Use { lanes, divisor },
            Some(u) if u.lanes == lanes => Use { lanes, divisor: gcd(u.divisor, divisor) },
            Some(_) => Use { lanes: 1, divisor: 1 },
        });
    }

    fn expr(&mut self, e: &Expr) {
        if let Expr::Load { buf, at, lanes, .. } = e {
            self.access(*buf, at, *lanes);
        }
        e.operands().into_iter().for_each(|x| self.expr(x));
    }

    /// A number that divides an index; 0 divides only 0.
    fn divisor(&self, ix: &Ix) -> i64 {
        match ix {
            Ix::Const(n) => n.abs(),
            Ix::Var(v) => self.divisors.get(&v.0).copied().unwrap_or(1),
            Ix::Add(a, b) | Ix::Sub(a, b) | Ix::Min(a, b) | Ix::Max(a, b) | Ix::Rem(a, b) => gcd(self.divisor(a), self.divisor(b)),
            // what divides both by a power of two divides the bits that differ
            Ix::Xor(a, b) => power_of_two(gcd(self.divisor(a), self.divisor(b))),
            Ix::Mul(a, b) => self.divisor(a) * self.divisor(b),
            Ix::Div(a, b) => match (self.divisor(a), b.known()) {
                (d, Some(n)) if n > 0 && d % n == 0 => d / n,
                _ => 1,
            },
        }
    }
}

fn power_of_two(n: i64) -> i64 {
    if n == 0 { 0 } else { 1 << n.trailing_zeros() }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}
