//! A kernel as text, for people and for telling kernels apart.

use super::language::*;
use ir::Red;
use std::fmt::{self, Display};

fn lanes(n: u32) -> String {
    if n == 1 { String::new() } else { format!("x{n}") }
}

impl Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let params: Vec<String> = self
            .params
            .iter()
            .enumerate()
            .map(|(i, p)| format!("{}a{i}: {}{}", if p.written { "mut " } else { "" }, p.elem, lanes(self.widths[i])))
            .collect();
        let shape = self.cube.map_or(format!("{} units", self.units), |threads| format!("{} cubes of {threads}", self.units));
        writeln!(f, "kernel {}({}) {shape} {{", self.name, params.join(", "))?;
        for (i, s) in self.shared.iter().enumerate() {
            writeln!(f, "  shared c{i}: {}{}[{}]", s.elem, lanes(s.lanes), s.count)?;
        }
        for (i, (elem, n)) in self.scratch.iter().enumerate() {
            writeln!(f, "  scratch s{i}: {elem}[{n}]")?;
        }
        for (i, l) in self.locals.iter().enumerate() {
            writeln!(f, "  local {}{i}: {}{}[{}]", l.name, l.elem, lanes(l.lanes), l.count)?;
        }
        for s in &self.body {
            self.print(f, s, 1)?;
        }
        writeln!(f, "}}")
    }
}

impl Kernel {
    fn var(&self, v: Var) -> String {
        if v.0 < 2 { self.vars[v.0 as usize].clone() } else { format!("{}{}", self.vars[v.0 as usize], v.0) }
    }

    fn ix(&self, ix: &Ix) -> String {
        let two = |a: &Ix, op: &str, b: &Ix| format!("({} {op} {})", self.ix(a), self.ix(b));
        match ix {
            Ix::Const(n) => n.to_string(),
            Ix::Var(v) => self.var(*v),
            Ix::Add(a, b) => two(a, "+", b),
            Ix::Sub(a, b) => two(a, "-", b),
            Ix::Mul(a, b) => two(a, "*", b),
            Ix::Div(a, b) => two(a, "/", b),
            Ix::Rem(a, b) => two(a, "%", b),
            Ix::Min(a, b) => format!("min({}, {})", self.ix(a), self.ix(b)),
            Ix::Max(a, b) => format!("max({}, {})", self.ix(a), self.ix(b)),
            Ix::Xor(a, b) => two(a, "^", b),
        }
    }

    fn fragment(&self, (local, at): &Fragment) -> String {
        format!("{}{}[{at}]", self.locals[local.0 as usize].name, local.0)
    }

    fn place(&self, buf: &Buf, at: &Ix, lanes: u32, valid: &Option<Ix>) -> String {
        let name = match buf {
            Buf::Arg(i) => format!("a{i}"),
            Buf::Scratch(i) => format!("s{i}"),
            Buf::Shared(i) => format!("c{i}"),
        };
        let width = if lanes == 1 { String::new() } else { format!("; {lanes}") };
        let mask = valid.as_ref().map_or(String::new(), |v| format!("; {} valid", self.ix(v)));
        format!("{name}[{}{width}{mask}]", self.ix(at))
    }

    fn expr(&self, e: &Expr) -> String {
        match e {
            Expr::Const(x, Elem::F32 | Elem::BF16 | Elem::F16) => format!("{x:?}"),
            Expr::Const(x, Elem::Bool) => (*x != 0.0).to_string(),
            Expr::Const(x, Elem::I32 | Elem::U32) => format!("{x}"),
            Expr::Local(l, at) => format!("{}{}[{}]", self.locals[l.0 as usize].name, l.0, self.ix(at)),
            Expr::Load { buf, at, lanes, valid } => self.place(buf, at, *lanes, valid),
            Expr::Words { buf, at, lanes } => format!("words({})", self.place(buf, at, *lanes, &None)),
            Expr::Word(a, b) => format!("word({}, {})", self.expr(a), self.expr(b)),
            Expr::Dot(a, b, c) => format!("dot({}, {}, {})", self.expr(a), self.expr(b), self.expr(c)),
            Expr::Splat(x, n) => format!("splat{n}({})", self.expr(x)),
            Expr::Index(i) => format!("index({})", self.ix(i)),
            Expr::Ramp { base, step, lanes } => format!("ramp{lanes}({}, {step})", self.ix(base)),
            Expr::Un(u, x) => format!("{}({})", ir::Op::Un(*u), self.expr(x)),
            Expr::Bin(b, x, y) => format!("{}({}, {})", ir::Op::Bin(*b), self.expr(x), self.expr(y)),
            Expr::Fma(a, b, c) => format!("fma({}, {}, {})", self.expr(a), self.expr(b), self.expr(c)),
            Expr::Select(p, a, b) => format!("select({}, {}, {})", self.expr(p), self.expr(a), self.expr(b)),
            Expr::Cast(t, x) => format!("{t}({})", self.expr(x)),
            Expr::Keep { valid, a, b } => format!("keep({}, {}, {})", self.ix(valid), self.expr(a), self.expr(b)),
            Expr::Lanes(Red::Sum, x) => format!("lane_sum({})", self.expr(x)),
            Expr::Lanes(Red::Max, x) => format!("lane_max({})", self.expr(x)),
            Expr::Lane(x, i) => format!("{}.{i}", self.expr(x)),
            Expr::Pair(x, i) => format!("{}.{i}..{}", self.expr(x), i + 2),
            Expr::Vector(lanes) => format!("({})", lanes.iter().map(|x| self.expr(x)).collect::<Vec<_>>().join(", ")),
            Expr::Random { key, counter } => format!("random({}, {})", self.expr(key), self.expr(counter)),
        }
    }

    fn print(&self, f: &mut fmt::Formatter, s: &Stmt, depth: usize) -> fmt::Result {
        let pad = "  ".repeat(depth);
        let block = |f: &mut fmt::Formatter, body: &[Stmt]| body.iter().try_for_each(|s| self.print(f, s, depth + 1));
        match s {
            Stmt::For { var, lo, hi, step, unroll, body } => {
                let step = if *step == 1 { String::new() } else { format!(" step {step}") };
                writeln!(f, "{pad}{}for {} in {}..{}{step} {{", if *unroll { "unroll " } else { "" }, self.var(*var), self.ix(lo), self.ix(hi))?;
                block(f, body)?;
                writeln!(f, "{pad}}}")
            }
            Stmt::Let(v, ix) => writeln!(f, "{pad}let {} = {}", self.var(*v), self.ix(ix)),
            Stmt::LetValue(v, e) => writeln!(f, "{pad}let {} = {}", self.var(*v), self.expr(e)),
            Stmt::Set(l, at, e) => writeln!(f, "{pad}{}{}[{}] = {}", self.locals[l.0 as usize].name, l.0, self.ix(at), self.expr(e)),
            Stmt::Store { buf, at, value, valid } => writeln!(f, "{pad}{} = {}", self.place(buf, at, 1, valid), self.expr(value)),
            Stmt::If { a, b, then, otherwise } => {
                writeln!(f, "{pad}if {} < {} {{", self.ix(a), self.ix(b))?;
                block(f, then)?;
                if !otherwise.is_empty() {
                    writeln!(f, "{pad}}} else {{")?;
                    block(f, otherwise)?;
                }
                writeln!(f, "{pad}}}")
            }
            Stmt::Barrier => writeln!(f, "{pad}barrier"),
            Stmt::CopyAsync { src, from, dst, to, valid } => {
                writeln!(
                    f,
                    "{pad}copy {} to {}; {} valid",
                    self.place(&Buf::Arg(*src), from, 1, &None),
                    self.place(dst, to, 1, &None),
                    self.ix(valid)
                )
            }
            Stmt::Commit => writeln!(f, "{pad}commit"),
            Stmt::Wait(n) => writeln!(f, "{pad}wait for all but {n}"),
            Stmt::LoadMatrix { to, src, row, transposed } => {
                let how = if *transposed { " transposed" } else { "" };
                writeln!(f, "{pad}{} = matrices {}{how}", self.fragment(to), self.place(src, row, 1, &None))
            }
            Stmt::Pack { to, from: [a, b] } => writeln!(f, "{pad}{} = pack {} {}", self.fragment(to), self.fragment(a), self.fragment(b)),
            Stmt::Exchange { to, from, bits } => {
                writeln!(f, "{pad}{} = {} of thread ^ {bits}", self.fragment(&(*to, 0)), self.fragment(&(*from, 0)))
            }
            Stmt::GroupMma { acc, a, b, columns } => {
                let place = |(buf, at): &(Buf, Ix)| self.place(buf, at, 1, &None);
                writeln!(f, "{pad}{} += {} {}; {columns} columns", self.fragment(&(*acc, 0)), place(a), place(b))
            }
            Stmt::Fence => writeln!(f, "{pad}fence"),
            Stmt::Mma { acc, a, b, half } => writeln!(f, "{pad}{} += {} {}/{half}", self.fragment(acc), self.fragment(a), self.fragment(b)),
            Stmt::Prefetch(buf, at) => writeln!(f, "{pad}prefetch {}", self.place(buf, at, 1, &None)),
            Stmt::Transpose { src, at, src_row, dst, to, dst_row } => {
                writeln!(f, "{pad}transpose {} rows {src_row} to {} rows {dst_row}", self.place(src, at, 1, &None), self.place(dst, to, 1, &None))
            }
        }
    }
}
