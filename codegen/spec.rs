//! Kernel specs: what a kernel computes, one of few templates, and nothing of how.
//!
//! Every template iterates over dims and reads its operands through accesses that are affine in the iteration. What is pointwise is a
//! small DAG that may stand before a reduction (prologue) or after a product (epilogue).

use crate::kernel::{Elem, Param};
use ir::{Attn, Bin, Red, ScoreFn, Un};
use std::fmt::{self, Display};

/// Elements of an operand by iteration: offset + Σ stride · index.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Access {
    /// Which operand.
    pub arg: usize,
    /// First element.
    pub offset: i64,
    /// Step along each iteration dim.
    pub strides: Vec<i64>,
}

/// A step of a pointwise computation; operands are earlier steps.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum Step {
    Load(Access),
    Const(f64),
    /// A number affine in the iteration, as `i32`.
    Index {
        offset: i64,
        strides: Vec<i64>,
    },
    /// The sum of products of a contraction.
    Product,
    Un(Un, usize),
    Bin(Bin, usize, usize),
    Select(usize, usize, usize),
    Cast(usize),
    /// Random bits by key and counter.
    Random(usize, usize),
    /// A load whose offset grows by `row` times an index; an index outside 0..rows gives 0.
    Gather {
        access: Access,
        row: i64,
        rows: i64,
        index: usize,
    },
    /// A reduction over the row.
    Reduce(Red, usize),
}

/// Steps with their element types.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Dag {
    /// In order of dependence.
    pub steps: Vec<(Step, Elem)>,
}

impl Dag {
    /// These steps after others, one of which is what `Step::Product` was, and where each went.
    pub fn after(&self, before: Vec<(Step, Elem)>, product: usize) -> (Dag, Vec<usize>) {
        let (mut steps, mut new) = (before, vec![]);
        for (step, elem) in &self.steps {
            let step = match step {
                Step::Product => {
                    new.push(product);
                    continue;
                }
                Step::Un(u, x) => Step::Un(*u, new[*x]),
                Step::Cast(x) => Step::Cast(new[*x]),
                Step::Bin(f, x, y) => Step::Bin(*f, new[*x], new[*y]),
                Step::Random(x, y) => Step::Random(new[*x], new[*y]),
                Step::Select(p, x, y) => Step::Select(new[*p], new[*x], new[*y]),
                Step::Gather { access, row, rows, index } => Step::Gather { access: access.clone(), row: *row, rows: *rows, index: new[*index] },
                Step::Load(_) | Step::Const(_) | Step::Index { .. } | Step::Reduce(..) => step.clone(),
            };
            steps.push((step, *elem));
            new.push(steps.len() - 1);
        }
        (Dag { steps }, new)
    }
}

/// A result and where it goes.
#[derive(Clone, PartialEq, Debug)]
pub struct Store {
    /// Which step.
    pub step: usize,
    /// Where.
    pub access: Access,
    /// What moves it along one axis more, where a place is known only as it runs.
    pub at: Option<At>,
}

/// A place that grows by `row` times an index; what has an index outside 0..rows is not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    /// Which step is the index.
    pub index: usize,
    /// Elements from one row to the next.
    pub row: i64,
    /// How many rows there are.
    pub rows: i64,
}

/// The template.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum Template {
    /// Pointwise over `dims`, with reductions over the last `tail` of them.
    Rows { tail: usize },
    /// Reductions over the dims marked.
    Cols { reduced: Vec<bool> },
    /// Σ a b over the dims from `out` on; the DAG is the epilogue.
    Contract { out: usize, a: Access, b: Access },
    /// Attention, forward; operands q, k, v, scale, o, lse.
    Attention(Box<Heads>),
    /// Attention, backward; operands q, k, v, o, lse, do, scale, dq, dk, dv.
    AttentionBwd(Box<Heads>),
    /// Rows of updates added to rows of the last operand by index, in order; operands index, updates, out.
    ScatterAdd { tokens: usize, rows: usize, width: usize },
}

/// The shape of an attention: independent heads, and strides of (head…, position, depth) of each operand.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Heads {
    pub labels: Attn,
    /// Sizes of the axes that enumerate independent query heads; the grouped axis, if any, is last.
    pub heads: Vec<usize>,
    pub queries: usize,
    pub keys: usize,
    pub depth: usize,
    pub value_depth: usize,
    /// For each operand that is a matrix a head: its access over (heads…, position, depth). k and v step once a group.
    pub q: Access,
    pub k: Access,
    pub v: Access,
    pub o: Access,
    /// (heads…, position).
    pub lse: Access,
    /// The output's cotangent and the gradients; empty forward.
    pub backward: Vec<Access>,
}

impl Heads {
    /// Whether position i sees only positions 0..=i.
    pub fn causal(&self) -> bool {
        *self.labels.f == ScoreFn::causal()
    }
}

/// What a kernel computes.
#[derive(Clone, PartialEq, Debug)]
pub struct Spec {
    /// The template.
    pub template: Template,
    /// Iteration dims.
    pub dims: Vec<usize>,
    /// Operands.
    pub params: Vec<Param>,
    /// The pointwise part.
    pub dag: Dag,
    /// Results of the pointwise part.
    pub stores: Vec<Store>,
}

impl Spec {
    /// The template's name.
    pub fn name(&self) -> &'static str {
        match &self.template {
            Template::Rows { .. } if self.dag.steps.iter().any(|s| matches!(s.0, Step::Reduce(..))) => "rows",
            Template::Rows { .. } => "map",
            Template::Cols { .. } => "cols",
            Template::Contract { .. } => "contract",
            Template::Attention(_) => "attention",
            Template::AttentionBwd(_) => "attention_bwd",
            Template::ScatterAdd { .. } => "scatter_add",
        }
    }

    /// Every list of strides over the iteration dims.
    pub fn strides_mut(&mut self) -> Vec<&mut Vec<i64>> {
        let mut out: Vec<&mut Vec<i64>> = vec![];
        if let Template::Contract { a, b, .. } = &mut self.template {
            out.extend([&mut a.strides, &mut b.strides]);
        }
        for (step, _) in &mut self.dag.steps {
            match step {
                Step::Load(access) | Step::Gather { access, .. } => out.push(&mut access.strides),
                Step::Index { strides, .. } => out.push(strides),
                Step::Const(_)
                | Step::Product
                | Step::Un(..)
                | Step::Bin(..)
                | Step::Select(..)
                | Step::Cast(_)
                | Step::Random(..)
                | Step::Reduce(..) => {}
            }
        }
        out.extend(self.stores.iter_mut().map(|s| &mut s.access.strides));
        out
    }

    /// Renumbers operands, of which several may become one.
    pub fn merge_params(&mut self, new: &[usize]) {
        let mut params: Vec<Param> = vec![];
        for (param, to) in self.params.iter().zip(new) {
            match params.get_mut(*to) {
                Some(p) => p.written |= param.written,
                None => params.push(param.clone()),
            }
        }
        self.params = params;
        for a in self.accesses_mut() {
            a.arg = new[a.arg];
        }
    }

    /// Every access of a pointwise part, a product and the stores.
    fn accesses_mut(&mut self) -> Vec<&mut Access> {
        let mut out: Vec<&mut Access> = vec![];
        match &mut self.template {
            Template::Contract { a, b, .. } => out.extend([a, b]),
            Template::Rows { .. } | Template::Cols { .. } => {}
            Template::Attention(_) | Template::AttentionBwd(_) | Template::ScatterAdd { .. } => unreachable!("these have their operands by number"),
        }
        for (step, _) in &mut self.dag.steps {
            if let Step::Load(access) | Step::Gather { access, .. } = step {
                out.push(access);
            }
        }
        out.extend(self.stores.iter_mut().map(|s| &mut s.access));
        out
    }

    /// Puts the dims in another order.
    pub fn reorder(&mut self, order: &[usize]) {
        self.dims = order.iter().map(|d| self.dims[*d]).collect();
        for s in self.strides_mut() {
            *s = order.iter().map(|d| s[*d]).collect();
        }
    }

    /// Appends a dim of size 1.
    pub fn push_unit(&mut self) {
        self.dims.push(1);
        for s in self.strides_mut() {
            s.push(0);
        }
    }

    /// Removes dims of size 1 and merges neighbours of one class that every access steps over as one. Returns the classes left.
    pub fn collapse(&mut self, classes: &[u8]) -> Vec<u8> {
        let mut classes = classes.to_vec();
        let mut d = 0;
        while d < self.dims.len() {
            if self.dims[d] == 1 {
                self.dims.remove(d);
                classes.remove(d);
                for s in self.strides_mut() {
                    s.remove(d);
                }
                continue;
            }
            let mergeable = d > 0 && classes[d] == classes[d - 1] && {
                let n = self.dims[d] as i64;
                self.strides_mut().iter().all(|s| s[d - 1] == s[d] * n)
            };
            if mergeable {
                let n = self.dims.remove(d);
                self.dims[d - 1] *= n;
                classes.remove(d);
                for s in self.strides_mut() {
                    s.remove(d - 1);
                }
                continue;
            }
            d += 1;
        }
        classes
    }
}

fn list<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

impl Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let offset = if self.offset == 0 { String::new() } else { format!("{}+", self.offset) };
        write!(f, "a{}[{offset}{}]", self.arg, list(&self.strides))
    }
}

impl Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} over [{}]", self.name(), list(&self.dims))?;
        match &self.template {
            Template::Rows { tail } => writeln!(f, ", rows of the last {tail}")?,
            Template::Cols { reduced } => writeln!(f, ", reduced {reduced:?}")?,
            Template::Contract { out, a, b } => writeln!(f, ", summed from dim {out}: {a} {b}")?,
            Template::Attention(h) | Template::AttentionBwd(h) => {
                writeln!(
                    f,
                    " [{}], heads [{}], {} queries, {} keys, depth {}, {}",
                    h.labels,
                    list(&h.heads),
                    h.queries,
                    h.keys,
                    h.depth,
                    h.value_depth
                )?;
                writeln!(f, "  q {} k {} v {} o {} lse {}", h.q, h.k, h.v, h.o, h.lse)?;
            }
            Template::ScatterAdd { tokens, rows, width } => writeln!(f, ": {tokens} updates of width {width} to {rows} rows")?,
        }
        for (i, (step, elem)) in self.dag.steps.iter().enumerate() {
            write!(f, "  t{i}: {elem} = ")?;
            match step {
                Step::Load(a) => writeln!(f, "{a}")?,
                Step::Const(x) => writeln!(f, "{x:?}")?,
                Step::Index { offset, strides } => writeln!(f, "index {offset}+[{}]", list(strides))?,
                Step::Product => writeln!(f, "product")?,
                Step::Un(u, x) => writeln!(f, "{} t{x}", ir::Op::Un(*u))?,
                Step::Bin(b, x, y) => writeln!(f, "{} t{x}, t{y}", ir::Op::Bin(*b))?,
                Step::Select(p, x, y) => writeln!(f, "select t{p}, t{x}, t{y}")?,
                Step::Cast(x) => writeln!(f, "cast t{x}")?,
                Step::Random(k, c) => writeln!(f, "random t{k}, t{c}")?,
                Step::Gather { access, row, rows, index } => writeln!(f, "gather {access} + {row}·t{index} of {rows}")?,
                Step::Reduce(Red::Sum, x) => writeln!(f, "sum t{x}")?,
                Step::Reduce(Red::Max, x) => writeln!(f, "max t{x}")?,
            }
        }
        for s in &self.stores {
            let at = s.at.map_or(String::new(), |at| format!(" + {}·t{} of {}", at.row, at.index, at.rows));
            writeln!(f, "  {}{at} = t{}", s.access, s.step)?;
        }
        Ok(())
    }
}
