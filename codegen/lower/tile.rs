//! Register tiles: products of a few rows with a few vectors of columns, and packing operands into panels for them.

use crate::kernel::{Buf, Elem, Expr, Ix, LocalId, Stmt, Writer, load};

/// Steps of the inner loop that are written out.
const UNROLL: i64 = 4;

/// A tile of `rows` × `vectors` accumulators.
pub(crate) struct Acc {
    pub rows: usize,
    pub vectors: usize,
    pub lanes: u32,
    local: LocalId,
    b: LocalId,
    a: LocalId,
}

impl Acc {
    pub(crate) fn new(w: &mut Writer, rows: usize, vectors: usize, lanes: u32) -> Acc {
        let local = w.local("acc", Elem::F32, lanes, rows * vectors);
        let b = w.local("b", Elem::F32, lanes, vectors);
        let a = w.local("a", Elem::F32, lanes, 1);
        Acc { rows, vectors, lanes, local, b, a }
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

    /// Adds Σ a(i, k) b(k, j) for k in lo..hi. `a` gives scalars, `b` vectors.
    pub(crate) fn product(&self, w: &mut Writer, lo: Ix, hi: Ix, a: &dyn Fn(&Ix, &Ix) -> Expr, b: &dyn Fn(&Ix, &Ix) -> Expr) {
        let step = |w: &mut Writer, k: &Ix| {
            w.unrolled("j", self.vectors, |w, j| w.set(self.b, j.clone(), b(k, &j)));
            w.unrolled("i", self.rows, |w, i| {
                w.set(self.a, 0, a(&i, k).splat(self.lanes));
                w.unrolled("j", self.vectors, |w, j| {
                    let e = Expr::fma(Writer::get(self.a, 0), Writer::get(self.b, j.clone()), self.get(&i, &j));
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
    pub width: usize,
    /// Columns that exist; `None` where all do.
    pub valid: Option<Ix>,
    pub dst: Buf,
    pub to: Ix,
    pub lanes: u32,
}

impl Panel<'_> {
    pub(crate) fn pack(&self, w: &mut Writer) {
        let lanes = i64::from(self.lanes);
        if self.across == 1 {
            return w.each("k", 0i64, self.depth.clone(), 1, |w, k| {
                w.unrolled("j", self.width / self.lanes as usize, |w, j| {
                    let j = j * lanes;
                    let valid = self.valid.as_ref().map(|v| v.clone() - j.clone());
                    let x = load(self.src, self.at.clone() + k.clone() * self.along + j.clone(), self.lanes, valid);
                    w.store(self.dst, self.to.clone() + k.clone() * self.width + j, x, None);
                });
            });
        }
        let whole = |w: &mut Writer| {
            let tiles = if self.along == 1 && self.lanes > 1 { w.name("tiles", self.depth.clone().down_to(lanes)) } else { Ix::Const(0) };
            w.each("k", 0i64, tiles.clone(), lanes, |w, k| {
                w.unrolled("j", self.width / self.lanes as usize, |w, j| {
                    let j = j * lanes;
                    w.push(Stmt::Transpose {
                        src: self.src,
                        at: self.at.clone() + j.clone() * self.across + k.clone(),
                        src_row: self.across,
                        dst: self.dst,
                        to: self.to.clone() + k.clone() * self.width + j,
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

    fn scalars(&self, w: &mut Writer, from: Ix, columns: Ix) {
        w.each("k", from, self.depth.clone(), 1, |w, k| {
            w.each("j", 0i64, columns.clone(), 1, |w, j| {
                let x = load(self.src, self.at.clone() + k.clone() * self.along + j.clone() * self.across, 1, None);
                w.store(self.dst, self.to.clone() + k.clone() * self.width + j, x, None);
            });
            w.each("j", columns, self.width, 1, |w, j| w.store(self.dst, self.to.clone() + k.clone() * self.width + j, Expr::f32(0.0), None));
        });
    }
}
