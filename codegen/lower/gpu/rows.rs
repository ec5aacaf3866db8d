//! Pointwise kernels, a vector a thread, and reductions along rows, several threads a row.

use super::super::point::{Point, Values, access_at, per_row};
use super::super::rows::{identity, levels};
use super::{LANES, THREADS, combine, lanes, vector_index};
use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, Writer, load};
use crate::lower::rows::{combine as two, split_index};
use crate::spec::{Spec, Step, Store};
use ir::Red;

/// Vectors of a row that a thread of it takes, about.
const SHARE: usize = 2;
/// Threads of a cube that has several rows.
const SEVERAL: usize = 128;

pub(crate) fn lower(mut spec: Spec, tail: usize, name: &str) -> Kernel {
    let reduces = spec.dag.steps.iter().any(|s| matches!(s.0, Step::Reduce(..)));
    let rank = spec.dims.len();
    let classes: Vec<u8> = (0..rank).map(|d| u8::from(reduces && d >= rank - tail)).collect();
    let classes = spec.collapse(&classes);
    let row = classes.iter().filter(|c| **c == 0).count();
    if spec.dims.is_empty() || (reduces && row == spec.dims.len()) {
        // a row of one element: an axis of size 1 makes the general case of it
        spec.push_unit();
    }
    if reduces { Rows::new(&spec, row).emit(name) } else { map(&spec, name) }
}

fn map(spec: &Spec, name: &str) -> Kernel {
    let last = spec.dims.len() - 1;
    let lanes = lanes(spec, last);
    let total = spec.dims.iter().product::<usize>() / lanes;
    let threads = THREADS.min(total.next_power_of_two());
    let mut w = Writer::cubes(name, spec.params.clone(), total.div_ceil(threads), threads);
    let position = w.cube() * threads + w.thread();
    let position = w.name("position", position);
    let body = |w: &mut Writer| {
        let index = vector_index(w, position.clone(), &spec.dims, lanes);
        let constant = per_row(&spec.dag, last);
        let mut values = Values::new(&spec.dag, &constant);
        for step in (0..constant.len()).filter(|i| constant[*i]) {
            values.row(w, step, &index);
        }
        let point = Point { index, lanes: lanes as u32, valid: None };
        let (by_index, plain): (Vec<&Store>, Vec<&Store>) = spec.stores.iter().partition(|s| s.at.is_some());
        let wanted: Vec<usize> = plain.iter().map(|s| s.step).collect();
        for (store, value) in plain.iter().zip(values.at(w, &wanted, &point, None)) {
            store_once(w, spec, store, &point, value);
        }
        values.store(w, &by_index, &point);
    };
    guard(&mut w, position.clone(), total, total.is_multiple_of(threads), body);
    w.finish()
}

/// Stores a value of a point. One that is the same along some dims is stored by their first point alone: no two threads write one place.
fn store_once(w: &mut Writer, spec: &Spec, store: &Store, point: &Point, value: Expr) {
    let still: Vec<usize> = (0..spec.dims.len()).filter(|d| store.access.strides[*d] == 0 && spec.dims[*d] > 1).collect();
    let value = if still.last() == Some(&(spec.dims.len() - 1)) { value.lane(0, point.lanes) } else { value };
    first_of(w, &still.iter().map(|d| point.index[*d].clone()).collect::<Vec<_>>(), &mut |w| {
        w.store(Buf::Arg(store.access.arg), access_at(&store.access, &point.index), value.clone(), None);
    });
}

/// What is done where all of these are 0.
fn first_of(w: &mut Writer, indices: &[Ix], body: &mut dyn FnMut(&mut Writer)) {
    match indices.split_first() {
        Some((i, rest)) => w.branch(i.clone(), 1, |w| first_of(w, rest, body), |_| {}),
        None => body(w),
    }
}

/// What is done where an index is inside; `always` where it cannot be outside.
pub(super) fn guard(w: &mut Writer, at: Ix, end: usize, always: bool, body: impl FnOnce(&mut Writer)) {
    if always { body(w) } else { w.branch(at, end, body, |_| {}) }
}

/// Rows with reductions.
struct Rows<'a> {
    spec: &'a Spec,
    /// First dim of the row.
    row: usize,
    lanes: usize,
    /// Rows.
    count: usize,
    /// Vectors of a row.
    length: usize,
    /// Threads of a row, a power of two.
    group: usize,
    /// Rows of a cube.
    together: usize,
}

/// A thread's place: the row's index, its number among all and among the cube's, the thread's number in the row.
struct Seat {
    outer: Vec<Ix>,
    row: Ix,
    among: Ix,
    t: Ix,
}

impl<'a> Rows<'a> {
    fn new(spec: &'a Spec, row: usize) -> Rows<'a> {
        let lanes = lanes(spec, row);
        let count: usize = spec.dims[..row].iter().product();
        let length = spec.dims[row..].iter().product::<usize>() / lanes;
        let group = length.div_ceil(SHARE).next_power_of_two().min(THREADS);
        let together = (SEVERAL / group).clamp(1, count.next_power_of_two());
        Rows { spec, row, lanes, count, length, group, together }
    }

    fn emit(&self, name: &str) -> Kernel {
        let mut writer = Writer::cubes(name, self.spec.params.clone(), self.count.div_ceil(self.together), self.group * self.together);
        let w = &mut writer;
        let among = if self.together == 1 { Ix::Const(0) } else { w.thread().div(self.group) };
        let row = w.cube() * self.together + among.clone();
        let row = w.name("row", row);
        // threads of a row that is not there do the last one's work and store nothing: every thread meets every barrier
        let real = if self.exact() { row.clone() } else { w.name("real", row.clone().min(self.count - 1)) };
        let outer = split_index(w, real, &self.spec.dims[..self.row]);
        let t = if self.together == 1 { w.thread() } else { w.thread().rem(self.group) };
        let seat = Seat { outer, row, among, t: w.name("t", t) };
        self.row(w, &seat);
        writer.finish()
    }

    fn exact(&self) -> bool {
        self.count.is_multiple_of(self.together)
    }

    fn row(&self, w: &mut Writer, seat: &Seat) {
        let dag = &self.spec.dag;
        let constant = per_row(dag, self.row);
        let mut values = Values::new(dag, &constant);
        let level = levels(dag);
        let last = level.iter().copied().max().unwrap_or(0);
        let first: Vec<Ix> = seat.outer.iter().cloned().chain(vec![Ix::Const(0); self.spec.dims.len() - self.row]).collect();
        for pass in 0..=last {
            for step in (0..dag.steps.len()).filter(|i| constant[*i] && level[*i] == pass && !matches!(dag.steps[*i].0, Step::Reduce(..))) {
                values.row(w, step, &first);
            }
            let reduction = |(i, (s, _)): (usize, &(Step, Elem))| if let Step::Reduce(red, x) = s { Some((i, *red, *x)) } else { None };
            let all = dag.steps.iter().enumerate().filter_map(reduction);
            let reductions: Vec<(usize, Red, usize)> = all.filter(|(_, _, x)| level[*x] == pass).collect();
            self.reduce(w, &mut values, &reductions, seat);
        }
        let (rows, wholes): (Vec<_>, Vec<_>) = self.spec.stores.iter().partition(|s| values.is_row_store(s, self.row));
        guard(w, seat.row.clone(), self.count, self.exact(), |w| {
            if !wholes.is_empty() {
                self.pass(w, seat, &mut |w, point| values.store(w, &wholes, &point));
            }
            if rows.is_empty() {
                return;
            }
            guard(w, seat.t.clone(), 1, self.group == 1, |w| {
                for store in rows {
                    values.store_row(w, store, &first);
                }
            });
        });
    }

    fn reduce(&self, w: &mut Writer, values: &mut Values, reductions: &[(usize, Red, usize)], seat: &Seat) {
        if reductions.is_empty() {
            return;
        }
        let lanes = self.lanes as u32;
        let sums: Vec<_> = reductions.iter().map(|_| w.local("sum", Elem::F32, lanes, 1)).collect();
        for (sum, (_, red, _)) in sums.iter().zip(reductions) {
            w.set(*sum, 0, identity(*red).splat(lanes));
        }
        let args: Vec<usize> = reductions.iter().map(|r| r.2).collect();
        self.pass(w, seat, &mut |w, point| {
            for ((sum, (_, red, _)), x) in sums.iter().zip(reductions).zip(values.at(w, &args, &point, None)) {
                w.set(*sum, 0, Expr::bin(two(*red), Writer::get(*sum, 0), x));
            }
        });
        for (sum, (step, red, _)) in sums.iter().zip(reductions) {
            let mine = Writer::get(*sum, 0);
            let mine = if self.lanes == LANES { Expr::Lanes(*red, Box::new(mine)) } else { mine };
            let total = w.local("r", Elem::F32, 1, 1);
            if self.group == 1 {
                w.set(total, 0, mine);
            } else {
                let shared = w.shared(Elem::F32, 1, self.group * self.together);
                let slot = w.thread();
                combine(w, (*red, 1), mine, self.group, 1, &seat.t, &slot, shared);
                w.set(total, 0, load(shared, seat.among.clone() * self.group, 1, None));
            }
            values.set_row(*step, Writer::get(total, 0));
        }
    }

    /// Visits the thread's points of its row.
    fn pass(&self, w: &mut Writer, seat: &Seat, visit: &mut dyn FnMut(&mut Writer, Point)) {
        w.each("i", seat.t.clone(), self.length, self.group as i64, |w, i| {
            let index = vector_index(w, i, &self.spec.dims[self.row..], self.lanes);
            let index = seat.outer.iter().cloned().chain(index).collect();
            visit(w, Point { index, lanes: self.lanes as u32, valid: None });
        });
    }
}
