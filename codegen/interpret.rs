//! Runs a kernel as it will be printed, on the host, slowly: what printers are checked against.

use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, Stmt};
use ir::{Bin, Red, Un};

/// A buffer of an interpreted kernel: one number an element, whatever its type.
pub type Memory = Vec<f64>;

/// Runs the units `lo..hi`. Panics on an access outside a buffer, which names the kernel: such a kernel is wrong.
pub fn interpret(kernel: &Kernel, buffers: &mut [Memory], lo: i64, hi: i64) {
    let scratch = kernel.scratch.iter().map(|n| vec![0.0; *n]).collect();
    let locals = kernel.locals.iter().map(|l| vec![vec![0.0; l.lanes as usize]; l.count]).collect();
    let mut vars = vec![0; kernel.vars.len()];
    (vars[0], vars[1]) = (lo, hi);
    let mut m = Machine { kernel, buffers, scratch, locals, vars };
    m.block(&kernel.body);
}

struct Machine<'a> {
    kernel: &'a Kernel,
    buffers: &'a mut [Memory],
    scratch: Vec<Memory>,
    locals: Vec<Vec<Vec<f64>>>,
    vars: Vec<i64>,
}

impl Machine<'_> {
    fn block(&mut self, body: &[Stmt]) {
        for s in body {
            self.stmt(s);
        }
    }

    fn stmt(&mut self, s: &Stmt) {
        match s {
            Stmt::For { var, lo, hi, step, body, .. } => {
                let (mut i, hi) = (self.ix(lo), self.ix(hi));
                while i < hi {
                    self.vars[var.0 as usize] = i;
                    self.block(body);
                    i += step;
                }
            }
            Stmt::Let(v, ix) => self.vars[v.0 as usize] = self.ix(ix),
            Stmt::LetValue(v, e) => self.vars[v.0 as usize] = self.expr(e)[0] as i64,
            Stmt::Set(l, at, e) => {
                let (at, value) = (self.ix(at) as usize, self.expr(e));
                assert_eq!(value.len(), self.kernel.locals[l.0 as usize].lanes as usize, "{}: lanes of a local", self.kernel.name);
                self.locals[l.0 as usize][at] = value;
            }
            Stmt::Store { buf, at, value, valid } => {
                let value = self.expr(value);
                let at = self.ix(at);
                let n = self.lanes_valid(value.len(), valid);
                for (i, x) in value.into_iter().enumerate().take(n) {
                    *self.cell(*buf, at + i as i64) = x;
                }
            }
            Stmt::If { a, b, then, otherwise } => {
                let taken = self.ix(a) < self.ix(b);
                self.block(if taken { then } else { otherwise });
            }
            Stmt::Transpose { src, at, src_row, dst, to, dst_row } => {
                let n = self.tile_width();
                let (at, to) = (self.ix(at), self.ix(to));
                for i in 0..n {
                    for j in 0..n {
                        let x = *self.cell(*src, at + i * src_row + j);
                        *self.cell(*dst, to + j * dst_row + i) = x;
                    }
                }
            }
        }
    }

    /// A transposed tile is as wide as the kernel's vectors.
    fn tile_width(&self) -> i64 {
        self.kernel.locals.iter().map(|l| i64::from(l.lanes)).max().unwrap_or(1)
    }

    fn lanes_valid(&self, lanes: usize, valid: &Option<Ix>) -> usize {
        valid.as_ref().map_or(lanes, |v| self.ix(v).clamp(0, lanes as i64) as usize)
    }

    fn cell(&mut self, buf: Buf, at: i64) -> &mut f64 {
        let (name, memory) = match buf {
            Buf::Arg(i) => (format!("a{i}"), &mut self.buffers[i]),
            Buf::Scratch(i) => (format!("s{i}"), &mut self.scratch[i]),
        };
        let len = memory.len();
        usize::try_from(at).ok().and_then(|i| memory.get_mut(i)).unwrap_or_else(|| panic!("{}: {name}[{at}] of {len}", self.kernel.name))
    }

    fn ix(&self, ix: &Ix) -> i64 {
        match ix {
            Ix::Const(n) => *n,
            Ix::Var(v) => self.vars[v.0 as usize],
            Ix::Add(a, b) => self.ix(a) + self.ix(b),
            Ix::Sub(a, b) => self.ix(a) - self.ix(b),
            Ix::Mul(a, b) => self.ix(a) * self.ix(b),
            Ix::Div(a, b) => self.ix(a) / self.ix(b),
            Ix::Rem(a, b) => self.ix(a) % self.ix(b),
            Ix::Min(a, b) => self.ix(a).min(self.ix(b)),
            Ix::Max(a, b) => self.ix(a).max(self.ix(b)),
        }
    }

    fn expr(&mut self, e: &Expr) -> Vec<f64> {
        match e {
            Expr::Const(x, Elem::F32) => vec![f64::from(*x as f32)],
            Expr::Const(x, _) => vec![*x],
            Expr::Local(l, at) => self.locals[l.0 as usize][self.ix(at) as usize].clone(),
            Expr::Load { buf, at, lanes, valid } => {
                let (at, n) = (self.ix(at), self.lanes_valid(*lanes as usize, valid));
                (0..*lanes as usize).map(|i| if i < n { *self.cell(*buf, at + i as i64) } else { 0.0 }).collect()
            }
            Expr::Splat(x, n) => vec![self.expr(x)[0]; *n as usize],
            Expr::Index(i) => vec![self.ix(i) as f64],
            Expr::Ramp { base, step, lanes } => (0..i64::from(*lanes)).map(|i| (self.ix(base) + i * step) as f64).collect(),
            Expr::Un(u, x) => self.expr(x).into_iter().map(|x| unary(*u, x as f32)).collect(),
            Expr::Bin(b, x, y) => {
                let elem = self.elem(x);
                let (x, y) = (self.expr(x), self.expr(y));
                assert_eq!(x.len(), y.len(), "{}: lanes of {b:?}", self.kernel.name);
                x.into_iter().zip(y).map(|(x, y)| binary(*b, elem, x, y)).collect()
            }
            Expr::Fma(a, b, c) => {
                let (a, b, c) = (self.expr(a), self.expr(b), self.expr(c));
                (0..a.len()).map(|i| f64::from((a[i] as f32).mul_add(b[i] as f32, c[i] as f32))).collect()
            }
            Expr::Select(p, a, b) => {
                let (p, a, b) = (self.expr(p), self.expr(a), self.expr(b));
                (0..p.len()).map(|i| if p[i] != 0.0 { a[i] } else { b[i] }).collect()
            }
            Expr::Cast(to, x) => self.expr(x).into_iter().map(|x| cast(*to, x)).collect(),
            Expr::Keep { valid, a, b } => {
                let (n, a, b) = (self.ix(valid), self.expr(a), self.expr(b));
                (0..a.len()).map(|i| if (i as i64) < n { a[i] } else { b[i] }).collect()
            }
            Expr::Lanes(red, x) => vec![halve(*red, self.expr(x))],
            Expr::Random { key, counter } => {
                let (k, c) = (self.expr(key), self.expr(counter));
                (0..c.len()).map(|i| f64::from(ir::random_bits(k[i.min(k.len() - 1)] as i64 as u32, c[i] as i64 as u32))).collect()
            }
        }
    }

    /// The element type of an expression.
    fn elem(&self, e: &Expr) -> Elem {
        self.kernel.elem(e)
    }
}

impl Kernel {
    /// The element type of an expression of this kernel.
    pub fn elem(&self, e: &Expr) -> Elem {
        match e {
            Expr::Const(_, t) | Expr::Cast(t, _) => *t,
            Expr::Local(l, _) => self.locals[l.0 as usize].elem,
            Expr::Load { buf: Buf::Arg(i), .. } => self.params[*i].elem,
            Expr::Load { .. } | Expr::Fma(..) | Expr::Lanes(..) | Expr::Un(..) => Elem::F32,
            Expr::Splat(x, _) => self.elem(x),
            Expr::Index(_) | Expr::Ramp { .. } => Elem::I32,
            Expr::Bin(Bin::Lt | Bin::Le | Bin::Eq, ..) => Elem::Bool,
            Expr::Bin(_, x, _) => self.elem(x),
            Expr::Select(_, a, _) | Expr::Keep { a, .. } => self.elem(a),
            Expr::Random { .. } => Elem::U32,
        }
    }
}

/// Halves are combined until one lane is left, as the printer's shuffles do.
fn halve(red: Red, mut x: Vec<f64>) -> f64 {
    while x.len() > 1 {
        let high = x.split_off(x.len() / 2);
        x = x.into_iter().zip(high).map(|(a, b)| binary(if red == Red::Sum { Bin::Add } else { Bin::Maximum }, Elem::F32, a, b)).collect();
    }
    x[0]
}

fn unary(un: Un, x: f32) -> f64 {
    f64::from(match un {
        Un::Exp => x.exp(),
        Un::Log => x.ln(),
        Un::Neg => -x,
        Un::Sqrt => x.sqrt(),
        Un::Rsqrt => 1.0 / x.sqrt(),
        Un::Recip => 1.0 / x,
        Un::Tanh => x.tanh(),
        Un::Sin => x.sin(),
        Un::Cos => x.cos(),
        Un::Abs => x.abs(),
    })
}

fn binary(bin: Bin, elem: Elem, x: f64, y: f64) -> f64 {
    let truth = |p: bool| f64::from(u8::from(p));
    let float = |f: fn(f32, f32) -> f32| f64::from(f(x as f32, y as f32));
    let whole = |n: i64| if elem == Elem::U32 { f64::from(n as u32) } else { f64::from(n as i32) };
    match (bin, elem) {
        (Bin::Lt, _) => truth(x < y),
        (Bin::Le, _) => truth(x <= y),
        (Bin::Eq, _) => truth(x == y),
        (Bin::Maximum, _) => {
            if x > y {
                x
            } else {
                y
            }
        }
        (Bin::Minimum, _) => {
            if x < y {
                x
            } else {
                y
            }
        }
        (Bin::Add, Elem::F32) => float(|x, y| x + y),
        (Bin::Sub, Elem::F32) => float(|x, y| x - y),
        (Bin::Mul, Elem::F32) => float(|x, y| x * y),
        (Bin::Div, _) => float(|x, y| x / y),
        (Bin::Pow, _) => float(f32::powf),
        (Bin::Add, _) => whole((x as i64).wrapping_add(y as i64)),
        (Bin::Sub, _) => whole((x as i64).wrapping_sub(y as i64)),
        (Bin::Mul, _) => whole((x as i64).wrapping_mul(y as i64)),
    }
}

fn cast(to: Elem, x: f64) -> f64 {
    match to {
        Elem::F32 => f64::from(x as f32),
        Elem::I32 => f64::from(x as i32),
        Elem::U32 => f64::from(x as u32),
        Elem::Bool => f64::from(u8::from(x != 0.0)),
    }
}
