//! Evaluating a pointwise DAG at a point of the iteration, a vector along the last dim.

use crate::kernel::{Buf, Elem, Expr, Ix, Writer, load};
use crate::spec::{Access, Dag, Spec, Step, Store};
use ir::Bin;

/// A point: an index a dim, of which the last is that of the first lane.
#[derive(Clone)]
pub(crate) struct Point {
    pub index: Vec<Ix>,
    pub lanes: u32,
    /// Lanes that exist, where some may not.
    pub valid: Option<Ix>,
}

impl Point {
    /// The point of one lane; for one that does not exist that of the last that does.
    pub(crate) fn lane(&self, i: u32) -> Point {
        let (last, others) = self.index.split_last().expect("lanes are along a dim");
        let step = match &self.valid {
            Some(valid) => Ix::from(i64::from(i)).min(valid.clone() - 1i64),
            None => Ix::from(i64::from(i)),
        };
        Point { index: others.iter().cloned().chain([last.clone() + step]).collect(), lanes: 1, valid: None }
    }
}

/// offset + Σ stride · index
pub(crate) fn address(offset: i64, strides: &[i64], index: &[Ix]) -> Ix {
    let (back, forth): (Vec<_>, Vec<_>) = strides.iter().zip(index).partition(|(s, _)| **s < 0);
    let sum = forth.into_iter().fold(Ix::Const(offset), |sum, (s, i)| sum + i.clone() * *s);
    back.into_iter().fold(sum, |sum, (s, i)| sum - i.clone() * -*s)
}

/// The same as an `i32`, which may be below 0 everywhere.
pub(crate) fn signed_index(offset: i64, strides: &[i64], index: &[Ix]) -> Expr {
    let whole = |n: i64| Expr::Const(n as f64, Elem::I32);
    let moving = strides.iter().zip(index).filter(|(s, _)| **s != 0);
    moving.fold(whole(offset), |sum, (s, i)| sum.plus(Expr::Index(i.clone()).times(whole(*s))))
}

pub(crate) fn access_at(a: &Access, index: &[Ix]) -> Ix {
    address(a.offset, &a.strides, index)
}

/// Which steps have one value a row: those that do not step along the dims from `row` on.
pub(crate) fn per_row(dag: &Dag, row: usize) -> Vec<bool> {
    let mut out: Vec<bool> = vec![];
    let still = |strides: &[i64]| strides[row..].iter().all(|s| *s == 0);
    for (step, _) in &dag.steps {
        let constant = match step {
            Step::Load(a) => still(&a.strides),
            Step::Index { strides, .. } => still(strides),
            Step::Const(_) | Step::Reduce(..) => true,
            Step::Product | Step::Cotangent => false,
            Step::Un(_, x) | Step::Cast(x) => out[*x],
            Step::Bin(_, x, y) | Step::Random(x, y) => out[*x] && out[*y],
            Step::Select(p, x, y) => out[*p] && out[*x] && out[*y],
            Step::Gather { access, index, .. } => still(&access.strides) && out[*index],
        };
        out.push(constant);
    }
    out
}

/// Whether every access that moves along the last dim does so by single elements, so that vectors can be used.
pub(crate) fn vectorisable(spec: &Spec, row: usize) -> bool {
    let Some(last) = spec.dims.len().checked_sub(1) else { return false };
    let constant = per_row(&spec.dag, row);
    let fits = |a: &Access| matches!(a.strides[last], 0 | 1);
    let step = |(step, _): &(Step, Elem)| match step {
        Step::Load(a) => fits(a),
        Step::Gather { access, index, .. } => fits(access) && constant[*index],
        Step::Index { .. }
        | Step::Const(_)
        | Step::Product
        | Step::Cotangent
        | Step::Un(..)
        | Step::Bin(..)
        | Step::Select(..)
        | Step::Cast(_)
        | Step::Random(..)
        | Step::Reduce(..) => true,
    };
    let store = |s: &Store| fits(&s.access) && s.at.is_none_or(|at| constant[at.index]);
    spec.dag.steps.iter().all(step) && spec.stores.iter().all(store)
}

/// Values of a DAG's steps at the current point.
#[derive(Clone)]
pub(crate) struct Values<'a> {
    dag: &'a Dag,
    constant: &'a [bool],
    /// Scalars of this row, once computed.
    pub rows: Vec<Option<Expr>>,
    /// Vectors of this column, where they are known.
    columns: Vec<Option<Expr>>,
    uses: Vec<usize>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(dag: &'a Dag, constant: &'a [bool]) -> Values<'a> {
        let mut uses = vec![0; dag.steps.len()];
        for (step, _) in &dag.steps {
            for o in operands(step) {
                uses[o] += 1;
            }
        }
        let none = vec![None; dag.steps.len()];
        Values { dag, constant, rows: none.clone(), columns: none, uses }
    }

    /// Computes a step that has one value a row, once.
    pub(crate) fn row(&mut self, w: &mut Writer, step: usize, index: &[Ix]) -> Expr {
        if let Some(e) = &self.rows[step] {
            return e.clone();
        }
        for o in operands(&self.dag.steps[step].0) {
            self.row(w, o, index);
        }
        let point = Point { index: index.to_vec(), lanes: 1, valid: None };
        let get = |i: usize| self.rows[i].clone().expect("operands come first");
        let e = self.value(w, step, &point, &get, None);
        let e = self.keep(w, step, e, 1);
        self.rows[step] = Some(e.clone());
        e
    }

    /// Computes what has one value a row of all that some steps are computed from.
    pub(crate) fn hoist(&mut self, w: &mut Writer, wanted: &[usize], index: &[Ix]) {
        for step in self.needed(wanted).into_iter().filter(|i| self.constant[*i]) {
            self.row(w, step, index);
        }
    }

    /// Remembers the scalar of a reduction.
    pub(crate) fn set_row(&mut self, step: usize, e: Expr) {
        self.rows[step] = Some(e);
    }

    /// Remembers the vector of what is computed elsewhere: a reduction over rows, a product.
    pub(crate) fn set_column(&mut self, step: usize, e: Expr) {
        self.columns[step] = Some(e);
    }

    /// Computes steps at a point. `product` is the value of `Step::Product`.
    pub(crate) fn at(&self, w: &mut Writer, wanted: &[usize], point: &Point, product: Option<Expr>) -> Vec<Expr> {
        let mut done: Vec<Option<Expr>> = vec![None; self.dag.steps.len()];
        for step in self.needed(wanted) {
            let e = match (&self.rows[step], &self.columns[step]) {
                (Some(e), _) => e.clone().splat(point.lanes),
                (_, Some(e)) => e.clone(),
                _ => {
                    let get = |i: usize| done[i].clone().expect("operands come first");
                    let e = self.value(w, step, point, &get, product.clone());
                    if self.uses[step] > 1 || wanted.contains(&step) { self.keep(w, step, e, point.lanes) } else { e }
                }
            };
            done[step] = Some(e);
        }
        wanted.iter().map(|i| done[*i].clone().expect("it was wanted")).collect()
    }

    pub(crate) fn needed(&self, wanted: &[usize]) -> Vec<usize> {
        let mut need = vec![false; self.dag.steps.len()];
        for i in wanted {
            need[*i] = true;
        }
        for i in (0..need.len()).rev().filter(|i| self.rows[*i].is_none() && self.columns[*i].is_none()).collect::<Vec<_>>() {
            if need[i] {
                for o in operands(&self.dag.steps[i].0) {
                    need[o] = true;
                }
            }
        }
        (0..need.len()).filter(|i| need[*i]).collect()
    }

    /// Puts a value in a local, unless it is one already.
    fn keep(&self, w: &mut Writer, step: usize, e: Expr, lanes: u32) -> Expr {
        if matches!(e, Expr::Const(..) | Expr::Local(..)) || matches!(&e, Expr::Splat(x, _) if matches!(**x, Expr::Const(..) | Expr::Local(..))) {
            return e;
        }
        let local = w.local("t", self.dag.steps[step].1.value(), lanes, 1);
        w.set(local, 0, e);
        Writer::get(local, 0)
    }

    fn value(&self, w: &mut Writer, step: usize, p: &Point, get: &dyn Fn(usize) -> Expr, product: Option<Expr>) -> Expr {
        let (node, elem) = &self.dag.steps[step];
        let b = |i: &usize| Box::new(get(*i));
        match node {
            Step::Const(x) => Expr::Const(*x, elem.value()).splat(p.lanes),
            Step::Load(a) => self.load(a, p),
            Step::Index { offset, strides } if p.lanes == 1 && (*offset < 0 || strides.iter().any(|s| *s < 0)) => {
                signed_index(*offset, strides, &p.index)
            }
            Step::Index { offset, strides } => {
                let base = address(*offset, strides, &p.index);
                match (p.lanes, strides.last().copied().unwrap_or(0)) {
                    (1, _) => Expr::Index(base),
                    (n, 0) => Expr::Index(base).splat(n),
                    (n, step) => Expr::Ramp { base, step, lanes: n },
                }
            }
            Step::Product => product.expect("only a contraction has a product"),
            Step::Cotangent => panic!("a cotangent is known before what is computed from it"),
            Step::Un(u, x) => Expr::Un(*u, b(x)),
            Step::Bin(f, x, y) => Expr::Bin(*f, b(x), b(y)),
            Step::Select(c, x, y) => Expr::Select(b(c), b(x), b(y)),
            Step::Cast(x) if self.dag.steps[*x].1 == *elem => get(*x),
            Step::Cast(x) => Expr::Cast(*elem, b(x)),
            Step::Random(k, c) => Expr::Random { key: b(k), counter: b(c) },
            Step::Gather { access, row, rows, index } if p.lanes == 1 || self.constant[*index] => {
                self.gather(w, access, (*row, *rows), get(*index), (p, elem.value()))
            }
            Step::Gather { access, row, rows, index } => self.gather_lanes(w, access, (*row, *rows), get(*index), (p, elem.value())),
            Step::Reduce(..) => panic!("a reduction is known before what is computed from it"),
        }
    }

    fn load(&self, a: &Access, p: &Point) -> Expr {
        let one = |p: &Point| load(Buf::Arg(a.arg), access_at(a, &p.index), 1, None);
        match a.strides.last() {
            Some(1) if p.lanes > 1 => load(Buf::Arg(a.arg), access_at(a, &p.index), p.lanes, p.valid.clone()),
            Some(step) if p.lanes > 1 && *step != 0 => Expr::Vector((0..p.lanes).map(|i| one(&p.lane(i))).collect()),
            _ => one(p).splat(p.lanes),
        }
    }

    /// A row of the table for each lane.
    fn gather_lanes(&self, w: &mut Writer, a: &Access, table: (i64, i64), index: Expr, (p, elem): (&Point, Elem)) -> Expr {
        let local = w.local("index", Elem::I32, p.lanes, 1);
        w.set(local, 0, index);
        let lane = |w: &mut Writer, i: u32| self.gather(w, a, table, Writer::get(local, 0).lane(i, p.lanes), (&p.lane(i), elem));
        Expr::Vector((0..p.lanes).map(|i| lane(w, i)).collect())
    }

    fn gather(&self, w: &mut Writer, a: &Access, (row, rows): (i64, i64), index: Expr, (p, elem): (&Point, Elem)) -> Expr {
        let (v, last) = (row_index(w, index, p.lanes), Ix::from(rows - 1));
        let inside = v.clone().max(0i64).min(last);
        let at = access_at(a, &p.index) + inside.clone() * row;
        let value = match a.strides.last() {
            Some(1) if p.lanes > 1 => load(Buf::Arg(a.arg), at, p.lanes, p.valid.clone()),
            Some(step) if p.lanes > 1 && *step != 0 => {
                let one = |i: u32| load(Buf::Arg(a.arg), access_at(a, &p.lane(i).index) + inside.clone() * row, 1, None);
                Expr::Vector((0..p.lanes).map(one).collect())
            }
            _ => load(Buf::Arg(a.arg), at, 1, None).splat(p.lanes),
        };
        let hit = Expr::bin(Bin::Eq, Expr::Index(v), Expr::Index(inside)).splat(p.lanes);
        Expr::Select(Box::new(hit), Box::new(value), Box::new(Expr::Const(0.0, elem).splat(p.lanes)))
    }

    pub(crate) fn is_row(&self, step: usize) -> bool {
        self.constant[step]
    }

    /// Whether a store is the same for all of a row, whose dims begin with `row`.
    pub(crate) fn is_row_store(&self, store: &Store, row: usize) -> bool {
        store.access.strides[row..].iter().all(|s| *s == 0) && store.at.is_none_or(|at| self.is_row(at.index))
    }

    /// Stores what a row has, once.
    pub(crate) fn store_row(&mut self, w: &mut Writer, store: &Store, index: &[Ix]) {
        let point = Point { index: index.to_vec(), lanes: 1, valid: None };
        let value = if self.is_row(store.step) {
            self.row(w, store.step, index)
        } else {
            // the row has one element
            self.at(w, &[store.step], &point, None).remove(0)
        };
        let row = store.at.map(|at| self.row(w, at.index, index));
        put(w, store, value, row, &point);
    }

    /// Stores what a point has.
    pub(crate) fn store(&self, w: &mut Writer, stores: &[&Store], p: &Point) {
        let indices = stores.iter().filter_map(|s| s.at).map(|at| at.index);
        let wanted: Vec<usize> = stores.iter().map(|s| s.step).chain(indices).collect();
        let mut values = self.at(w, &wanted, p, None);
        let mut indices = values.split_off(stores.len()).into_iter();
        for (store, value) in stores.iter().zip(values) {
            let index = store.at.and_then(|_| indices.next());
            put(w, store, value, index, p);
        }
    }
}

/// Stores a value of a point; one that goes by index, where that is inside.
pub(crate) fn put(w: &mut Writer, store: &Store, value: Expr, index: Option<Expr>, p: &Point) {
    let (buf, place) = (Buf::Arg(store.access.arg), access_at(&store.access, &p.index));
    let (Some(at), Some(index)) = (store.at, index) else { return w.store(buf, place, value, p.valid.clone()) };
    let row = row_index(w, index, p.lanes);
    let inside = |w: &mut Writer| w.store(buf, place + row.clone() * at.row, value, p.valid.clone());
    w.branch(row.clone(), 0i64, |_| {}, |w| w.branch(row.clone(), at.rows, inside, |_| {}));
}

/// An index as a variable. It is one scalar: a splat of it is taken apart again.
pub(crate) fn row_index(w: &mut Writer, index: Expr, lanes: u32) -> Ix {
    let scalar = if let Expr::Splat(x, _) = index { *x } else { index.lane(0, lanes) };
    w.value("row", scalar)
}

pub(crate) fn operands(step: &Step) -> Vec<usize> {
    match step {
        Step::Load(_) | Step::Const(_) | Step::Index { .. } | Step::Product | Step::Cotangent => vec![],
        Step::Un(_, x) | Step::Cast(x) | Step::Reduce(_, x) => vec![*x],
        Step::Gather { index, .. } => vec![*index],
        Step::Bin(_, x, y) | Step::Random(x, y) => vec![*x, *y],
        Step::Select(p, x, y) => vec![*p, *x, *y],
    }
}
