//! Reductions along leading dims: each unit keeps a block of columns in registers while rows stream by.

use super::Cpu;
use super::point::{Point, Values, access_at, per_row, vectorisable};
use super::rows::{combine, identity, split_index};
use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, LocalId, Writer};
use crate::spec::{Spec, Step, Template};
use ir::Red;

/// Vectors of columns a unit.
const VECTORS: usize = 4;

/// A reduction along leading dims with its dims in the order: kept ones, reduced ones, the column.
pub(crate) struct Columns {
    pub spec: Spec,
    /// Kept dims before the reduced ones.
    pub outer: usize,
}

/// What a reduction over some dims is.
pub(crate) enum Reduction {
    Columns(Columns),
    /// Along the rows of so many last dims, when everything kept stands before what is reduced.
    Rows(Spec, usize),
}

/// Orders the dims.
pub(crate) fn arrange(mut spec: Spec, reduced: &[bool]) -> Reduction {
    let classes: Vec<u8> = reduced.iter().map(|r| u8::from(*r)).collect();
    let classes = spec.collapse(&classes);
    let kept = classes.iter().filter(|c| **c == 0).count();
    if classes[..kept].iter().all(|c| *c == 0) {
        let tail = classes.len() - kept;
        spec.template = Template::Rows { tail };
        return Reduction::Rows(spec, tail);
    }
    let column = classes.iter().rposition(|c| *c == 0).unwrap_or(0);
    let mut order: Vec<usize> = (0..classes.len()).filter(|d| classes[*d] == 0 && *d != column).collect();
    let outer = order.len();
    order.extend((0..classes.len()).filter(|d| classes[*d] == 1));
    order.push(column);
    spec.reorder(&order);
    Reduction::Columns(Columns { spec, outer })
}

pub(crate) fn lower(spec: Spec, reduced: Vec<bool>, name: &str, target: &Cpu) -> Kernel {
    let Columns { spec, outer } = match arrange(spec, &reduced) {
        Reduction::Columns(columns) => columns,
        Reduction::Rows(spec, tail) => return super::rows::lower(spec, tail, name, target),
    };
    let lanes = if vectorisable(&spec, spec.dims.len() - 1) { target.lanes } else { 1 };
    let width = *spec.dims.last().expect("there is a column");
    let block = lanes as usize * VECTORS;
    let blocks = width.div_ceil(block);
    let units = spec.dims[..outer].iter().product::<usize>() * blocks;
    let mut w = Writer::new(name, spec.params.clone(), units);
    let (lo, hi) = (w.lo(), w.hi());
    let spec = &spec;
    w.each("u", lo, hi, 1, |w, u| {
        let u = w.name("u", u);
        let column = w.name("column", u.clone().rem(blocks) * block);
        let position = w.name("outer", u.div(blocks));
        let index = split_index(w, position, &spec.dims[..outer]);
        Block { spec, outer, lanes, masked: !width.is_multiple_of(block), width }.emit(w, index, column);
    });
    w.finish()
}

struct Block<'a> {
    spec: &'a Spec,
    outer: usize,
    lanes: u32,
    masked: bool,
    width: usize,
}

impl Block<'_> {
    fn emit(&self, w: &mut Writer, outer: Vec<Ix>, column: Ix) {
        let dag = &self.spec.dag;
        let reductions: Vec<(usize, Red, usize)> =
            dag.steps.iter().enumerate().filter_map(|(i, (s, _))| if let Step::Reduce(r, x) = s { Some((i, *r, *x)) } else { None }).collect();
        let sums: Vec<LocalId> = reductions.iter().map(|_| w.local("sum", Elem::F32, self.lanes, VECTORS)).collect();
        w.unrolled("j", VECTORS, |w, j| {
            for (sum, (_, red, _)) in sums.iter().zip(&reductions) {
                w.set(*sum, j.clone(), identity(*red).splat(self.lanes));
            }
        });
        self.rows(w, self.outer, outer.clone(), &mut |w, index| {
            w.unrolled("j", VECTORS, |w, j| {
                let constant = per_row(dag, self.spec.dims.len() - 1);
                let values = Values::new(dag, &constant);
                let point = self.point(index.clone(), &column, &j);
                let args: Vec<usize> = reductions.iter().map(|r| r.2).collect();
                for ((sum, (_, red, _)), x) in sums.iter().zip(&reductions).zip(values.at(w, &args, &point, None)) {
                    w.set(*sum, j.clone(), Expr::bin(combine(*red), x, Writer::get(*sum, j.clone())));
                }
            });
        });
        w.unrolled("j", VECTORS, |w, j| {
            for store in &self.spec.stores {
                let which = reductions.iter().position(|r| r.0 == store.step).expect("only reductions are stored");
                let rows = vec![Ix::Const(0); self.spec.dims.len() - 1 - self.outer];
                let point = self.point(outer.iter().cloned().chain(rows).collect(), &column, &j);
                let valid = point.valid.clone();
                let value = Writer::get(sums[which], j.clone());
                let at = access_at(&store.access, &point.index);
                match (&valid, self.lanes) {
                    // a lone lane is stored or not
                    (Some(v), 1) => w.branch(0i64, v.clone(), |w| w.store(Buf::Arg(store.access.arg), at, value, None), |_| {}),
                    _ => w.store(Buf::Arg(store.access.arg), at, value, valid),
                }
            }
        });
    }

    fn point(&self, index: Vec<Ix>, column: &Ix, j: &Ix) -> Point {
        let at = column.clone() + j.clone() * i64::from(self.lanes);
        let valid = self.masked.then(|| Ix::from(self.width) - at.clone());
        // a lone lane past the end reads the last column instead of nothing
        let at = if self.masked && self.lanes == 1 { at.min(self.width - 1) } else { at };
        Point { index: index.into_iter().chain([at]).collect(), lanes: self.lanes, valid }
    }

    fn rows(&self, w: &mut Writer, dim: usize, index: Vec<Ix>, visit: &mut dyn FnMut(&mut Writer, Vec<Ix>)) {
        if dim + 1 == self.spec.dims.len() {
            return visit(w, index);
        }
        w.each("r", 0i64, self.spec.dims[dim], 1, |w, i| self.rows(w, dim + 1, index.iter().cloned().chain([i]).collect(), visit));
    }
}
