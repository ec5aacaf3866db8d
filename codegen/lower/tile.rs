//! Register tiles: products of a few rows with a few vectors of columns, and packing operands into panels for them.

use crate::kernel::{Buf, Elem, Expr, Ix, LocalId, Stmt, Writer, load};

/// Steps of the inner loop that are written out.
const UNROLL: i64 = 4;

/// A tile of `rows` × `vectors` accumulators.
pub(crate) struct Acc {
    pub rows: usize,
    pub vectors: usize,
    pub lanes: u32,
    /// Whether operands are words of two `bfloat16`.
    pairs: bool,
    local: LocalId,
    b: LocalId,
    a: LocalId,
}

impl Acc {
    pub(crate) fn new(w: &mut Writer, rows: usize, vectors: usize, lanes: u32) -> Acc {
        Acc::of(w, rows, vectors, lanes, false)
    }

    /// A tile whose operands are words of two `bfloat16`, or floats.
    pub(crate) fn of(w: &mut Writer, rows: usize, vectors: usize, lanes: u32, pairs: bool) -> Acc {
        let operand = if pairs { Elem::U32 } else { Elem::F32 };
        let local = w.local("acc", Elem::F32, lanes, rows * vectors);
        let b = w.local("b", operand, lanes, vectors);
        let a = w.local("a", operand, lanes, 1);
        Acc { rows, vectors, lanes, pairs, local, b, a }
    }

    /// Columns of the tile.
    pub(crate) fn width(&self) -> usize {
        self.vectors * self.lanes as usize
    }

    fn at(&self, i: &Ix, j: &Ix) -> Ix {
        i.clone() * self.vectors as i64 + j.clone()
    }

    pub(crate) fn get(&self, i: &Ix, j: &Ix) -> Expr {
        Writer::get(self.local, self.at(i, j))
    }

    pub(crate) fn zero(&self, w: &mut Writer) {
        self.fill(w, &mut |_, _, _| Expr::f32(0.0).splat(self.lanes));
    }

    /// Sets every accumulator.
    pub(crate) fn fill(&self, w: &mut Writer, value: &mut dyn FnMut(&mut Writer, &Ix, &Ix) -> Expr) {
        self.each(w, &mut |w, i, j| {
            let e = value(w, i, j);
            w.set(self.local, self.at(i, j), e);
        });
    }

    /// Visits every accumulator by row and vector.
    pub(crate) fn each(&self, w: &mut Writer, visit: &mut dyn FnMut(&mut Writer, &Ix, &Ix)) {
        w.unrolled("i", self.rows, |w, i| w.unrolled("j", self.vectors, |w, j| visit(w, &i, &j)));
    }

    /// Adds Σ a(i, k) b(k, j) for k in lo..hi. `a` gives scalars, `b` vectors; of pairs, both at 2 k and 2 k + 1.
    pub(crate) fn product(&self, w: &mut Writer, lo: Ix, hi: Ix, a: &dyn Fn(&Ix, &Ix) -> Expr, b: &dyn Fn(&Ix, &Ix) -> Expr) {
        let step = |w: &mut Writer, k: &Ix| {
            w.unrolled("j", self.vectors, |w, j| w.set(self.b, j.clone(), b(k, &j)));
            w.unrolled("i", self.rows, |w, i| {
                w.set(self.a, 0, a(&i, k).splat(self.lanes));
                w.unrolled("j", self.vectors, |w, j| {
                    let (a, b, c) = (Writer::get(self.a, 0), Writer::get(self.b, j.clone()), self.get(&i, &j));
                    let e = if self.pairs { Expr::dot(a, b, c) } else { Expr::fma(a, b, c) };
                    w.set(self.local, self.at(&i, &j), e);
                });
            });
        };
        let middle = w.name("middle", lo.clone() + (hi.clone() - lo.clone()).down_to(UNROLL));
        w.each("k", lo, middle.clone(), UNROLL, |w, k| w.unrolled("t", UNROLL as usize, |w, t| step(w, &(k.clone() + t))));
        w.each("k", middle, hi, 1, |w, k| step(w, &k));
    }
}

/// Packs one panel: dst[to + k·width + j] = src[at + k·along + j·across] for k < depth, j < width; columns from `valid` on are 0.
pub(crate) struct Panel<'a> {
    pub src: Buf,
    pub at: Ix,
    /// Step from one k to the next.
    pub along: i64,
    /// Step from one column to the next.
    pub across: i64,
    pub depth: &'a Ix,
    /// Whether a line is the words of two k's: of 2 k and 2 k + 1, where that is, else with 0.
    pub pairs: bool,
    pub width: usize,
    /// Columns that exist; `None` where all do.
    pub valid: Option<Ix>,
    pub dst: Buf,
    pub to: Ix,
    pub lanes: u32,
}

/// Lines of a panel of so many k's.
pub(crate) fn lines(depth: &Ix, pairs: bool) -> Ix {
    if pairs { (depth.clone() + 1i64).div(2) } else { depth.clone() }
}

/// A line of a panel and whether its second k is there.
type Line<'a> = (&'a Ix, bool);

impl Panel<'_> {
    pub(crate) fn pack(&self, w: &mut Writer) {
        let lanes = i64::from(self.lanes);
        if self.across == 1 {
            return self.each(w, Ix::Const(0), &mut |w, line| {
                w.unrolled("j", self.width / self.lanes as usize, |w, j| {
                    let j = j * lanes;
                    let valid = self.valid.as_ref().map(|v| v.clone() - j.clone());
                    let x = self.value(line, &j, self.lanes, valid);
                    w.store(self.dst, self.place(line.0, j), x, None);
                });
            });
        }
        let whole = |w: &mut Writer| {
            let tiles = if self.along == 1 && self.lanes > 1 { w.name("tiles", self.full().down_to(lanes)) } else { Ix::Const(0) };
            w.each("k", 0i64, tiles.clone(), lanes, |w, k| {
                w.unrolled("j", self.width / self.lanes as usize, |w, j| {
                    let j = j * lanes;
                    w.push(Stmt::Transpose {
                        src: self.src,
                        at: self.at.clone() + j.clone() * self.across + k.clone() * if self.pairs { 2i64 } else { 1 },
                        src_row: self.across,
                        dst: self.dst,
                        to: self.place(&k, j),
                        dst_row: self.width as i64,
                    });
                });
            });
            self.scalars(w, tiles, Ix::from(self.width));
        };
        match &self.valid {
            None => whole(w),
            Some(valid) => w.branch(valid.clone(), self.width, |w| self.scalars(w, Ix::Const(0), valid.clone()), whole),
        }
    }

    /// Lines whose every k is there.
    fn full(&self) -> Ix {
        if self.pairs { self.depth.clone().div(2) } else { self.depth.clone() }
    }

    /// Visits lines from one on.
    fn each(&self, w: &mut Writer, from: Ix, visit: &mut dyn FnMut(&mut Writer, Line)) {
        let full = w.name("full", self.full());
        w.each("k", from, full.clone(), 1, |w, k| visit(w, (&k, true)));
        if self.pairs {
            w.branch(full.clone() * 2i64, self.depth.clone(), |w| visit(w, (&full, false)), |_| {});
        }
    }

    fn place(&self, k: &Ix, j: Ix) -> Ix {
        self.to.clone() + k.clone() * self.width + j
    }

    fn value(&self, (k, both): Line, j: &Ix, lanes: u32, valid: Option<Ix>) -> Expr {
        let at = |k: Ix| load(self.src, self.at.clone() + k * self.along + j.clone() * self.across, lanes, valid.clone());
        if !self.pairs {
            return at(k.clone());
        }
        let first = k.clone() * 2i64;
        Expr::word(at(first.clone()), if both { at(first + 1i64) } else { Expr::f32(0.0).splat(lanes) })
    }

    fn scalars(&self, w: &mut Writer, from: Ix, columns: Ix) {
        let zero = || if self.pairs { Expr::Const(0.0, Elem::U32) } else { Expr::f32(0.0) };
        self.each(w, from, &mut |w, line| {
            w.each("j", 0i64, columns.clone(), 1, |w, j| {
                let x = self.value(line, &j, 1, None);
                w.store(self.dst, self.place(line.0, j), x, None);
            });
            w.each("j", columns.clone(), self.width, 1, |w, j| w.store(self.dst, self.place(line.0, j), zero(), None));
        });
    }
}
