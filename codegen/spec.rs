//! Kernel specs: what a kernel computes, one of few templates, and nothing of how.
//!
//! Every template iterates over dims and reads its operands through accesses that are affine in the iteration. What is pointwise is a
//! small DAG that may stand before a reduction (prologue) or after a product (epilogue).

use crate::kernel::{Elem, Param};
use ir::{Bin, Red, Un};
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
    /// The sum of products of a contraction; the scaled product of a query and a key.
    Product,
    /// The cotangent of an attention's score, as its softmax sees it.
    Cotangent,
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
                Step::Load(_) | Step::Const(_) | Step::Index { .. } | Step::Cotangent | Step::Reduce(..) => step.clone(),
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
    /// Σ a b over the dims from `out` on, of the products that count; the DAG is the epilogue.
    Contract { out: usize, a: Access, b: Access, own: Option<Own> },
    /// Attention, forward; operands q, k, v, scale, then what is captured, o, lse. The dims are its heads, queries and keys, the DAG what
    /// becomes of a score.
    Attention(Box<Heads>),
    /// Attention, backward; operands q, k, v, o, lse, do, scale, then what is captured, dq, dk, dv and further gradients.
    AttentionBwd(Box<Heads>),
    /// Rows of updates added to rows of the last operand by index, in order; operands index, updates, out.
    ScatterAdd { tokens: usize, rows: usize, width: usize },
}

/// Which products of a grouped contraction count: those where an element of an operand, the group, is the index along one dim. That dim is
/// summed where each row meets the matrix of its group, and one of the result where each group has a sum of its own.
#[derive(Clone, PartialEq, Debug)]
pub struct Own {
    /// Where the group stands, an `i32`. It does not step along `dim`.
    pub group: Access,
    /// Which dim is compared with it.
    pub dim: usize,
}

/// An attention: independent heads, the strides of (head…, position, depth) of each operand, and which steps of the DAG become of a score.
#[derive(Clone, PartialEq, Debug)]
pub struct Heads {
    /// Sizes of the axes that enumerate independent query heads; the grouped axis, if any, is last.
    pub heads: Vec<usize>,
    /// Query heads that share one head of keys and values.
    pub group: usize,
    /// Positions of queries.
    pub queries: usize,
    /// Positions of keys and values.
    pub keys: usize,
    /// Of queries and keys.
    pub depth: usize,
    /// Of values and the output.
    pub value_depth: usize,
    /// Queries: an access over (heads…, position, depth), as those of the other matrices are.
    pub q: Access,
    /// Keys, which step once a group.
    pub k: Access,
    /// Values, which step once a group.
    pub v: Access,
    /// The output.
    pub o: Access,
    /// The log of the sum of exponentials, over (heads…, position).
    pub lse: Access,
    /// The output's cotangent and the gradients of q, k and v; empty forward.
    pub backward: Vec<Access>,
    /// The score that the softmax sees; `None` where it is the product.
    pub score: Option<usize>,
    /// Which keys a query sees. Elsewhere the score counts as −∞.
    pub visible: Visible,
    /// A further score in every row's softmax, one a row, whose probability meets no value.
    pub sink: Option<usize>,
    /// What a probability is multiplied by before it meets the values. It does not depend on the score, and the log-sum-exp not on it.
    pub weight: Option<usize>,
    /// The log-sum-exp's cotangent, over (heads…, position).
    pub dlse: Option<Access>,
    /// The cotangent of the product; `None` where it is that of the score.
    pub dscore: Option<usize>,
    /// Gradients of captured operands.
    pub captured: Vec<Captured>,
}

/// The keys from one to another that a query sees, by steps that have one `i32` a row: not before any of `from`, not behind any of `to`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Visible {
    pub from: Vec<usize>,
    pub to: Vec<usize>,
}

/// The gradient of an operand that an attention's score captures: a step's values, summed over the dims along which the access stands
/// still. It moves along every dim of heads, so that heads have nothing in common.
#[derive(Clone, PartialEq, Debug)]
pub struct Captured {
    /// Which step.
    pub step: usize,
    /// Where, over (heads…, query, key).
    pub access: Access,
    /// What moves it along one axis more; an index outside 0..rows has no gradient.
    pub at: Option<At>,
}

impl Heads {
    /// Whether position i sees only positions 0..=i.
    pub fn causal(&self, dag: &Dag) -> bool {
        let own = |step: usize| match &dag.steps[step].0 {
            Step::Index { offset: 0, strides } => {
                let (key, others) = strides.split_last().expect("an attention has keys");
                let (query, heads) = others.split_last().expect("an attention has queries");
                (*key, *query) == (0, 1) && heads.iter().all(|s| *s == 0)
            }
            Step::Index { .. }
            | Step::Load(_)
            | Step::Const(_)
            | Step::Product
            | Step::Cotangent
            | Step::Un(..)
            | Step::Bin(..)
            | Step::Select(..)
            | Step::Cast(_)
            | Step::Random(..)
            | Step::Gather { .. }
            | Step::Reduce(..) => false,
        };
        self.visible.from.is_empty() && self.visible.to.len() == 1 && own(self.visible.to[0])
    }

    /// Whether nothing becomes of the product but that only some keys are seen, and nothing else has a gradient.
    pub fn is_plain(&self) -> bool {
        self.score.is_none()
            && self.sink.is_none()
            && self.weight.is_none()
            && self.dlse.is_none()
            && self.dscore.is_none()
            && self.captured.is_empty()
    }

    /// Sizes of the axes that enumerate heads of k and v.
    pub fn shared_heads(&self) -> Vec<usize> {
        let mut out = self.heads.clone();
        if let (Some(last), true) = (out.last_mut(), self.group > 1) {
            *last /= self.group;
        }
        out
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
            Template::Contract { own: None, .. } => "contract",
            Template::Contract { own: Some(_), .. } => "grouped",
            Template::Attention(_) => "attention",
            Template::AttentionBwd(_) => "attention_bwd",
            Template::ScatterAdd { .. } => "scatter_add",
        }
    }

    /// Every list of strides over the iteration dims.
    pub fn strides_mut(&mut self) -> Vec<&mut Vec<i64>> {
        let mut out: Vec<&mut Vec<i64>> = vec![];
        if let Template::Contract { a, b, own, .. } = &mut self.template {
            out.extend([&mut a.strides, &mut b.strides]);
            out.extend(own.iter_mut().map(|own| &mut own.group.strides));
        }
        for (step, _) in &mut self.dag.steps {
            match step {
                Step::Load(access) | Step::Gather { access, .. } => out.push(&mut access.strides),
                Step::Index { strides, .. } => out.push(strides),
                Step::Const(_)
                | Step::Product
                | Step::Cotangent
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
            Template::Contract { a, b, own, .. } => {
                out.extend([a, b]);
                out.extend(own.iter_mut().map(|own| &mut own.group));
            }
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

    /// Which products of a contraction count, where not all do.
    pub(crate) fn own(&self) -> Option<&Own> {
        if let Template::Contract { own, .. } = &self.template { own.as_ref() } else { None }
    }

    fn own_mut(&mut self) -> Option<&mut Own> {
        if let Template::Contract { own, .. } = &mut self.template { own.as_mut() } else { None }
    }

    /// Puts the dims in another order.
    pub fn reorder(&mut self, order: &[usize]) {
        self.dims = order.iter().map(|d| self.dims[*d]).collect();
        if let Some(own) = self.own_mut() {
            own.dim = order.iter().position(|d| *d == own.dim).expect("an order has every dim");
        }
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

    /// Removes dims of size 1 and merges neighbours of one class that every access steps over as one. The dim that counts groups stays
    /// what it is. Returns the classes left.
    pub fn collapse(&mut self, classes: &[u8]) -> Vec<u8> {
        let mut classes = classes.to_vec();
        let mut d = 0;
        while d < self.dims.len() {
            let own = self.own().map(|own| own.dim);
            if self.dims[d] == 1 && own != Some(d) {
                classes.remove(d);
                self.remove_dim(d, d);
                continue;
            }
            let apart = d > 0 && own.is_some_and(|own| own == d || own == d - 1);
            let mergeable = d > 0 && !apart && classes[d] == classes[d - 1] && {
                let n = self.dims[d] as i64;
                self.strides_mut().iter().all(|s| s[d - 1] == s[d] * n)
            };
            if mergeable {
                self.dims[d - 1] *= self.dims[d];
                classes.remove(d);
                self.remove_dim(d, d - 1);
                continue;
            }
            d += 1;
        }
        classes
    }

    /// Removes a dim, and the strides of one.
    pub(crate) fn remove_dim(&mut self, d: usize, strides_of: usize) {
        self.dims.remove(d);
        for s in self.strides_mut() {
            s.remove(strides_of);
        }
        if let Some(own) = self.own_mut() {
            own.dim -= usize::from(own.dim > d);
        }
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

impl Display for At {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, " + {}·t{} of {}", self.row, self.index, self.rows)
    }
}

impl Display for Heads {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, ", {} heads to a group, depth {}, {}", self.group, self.depth, self.value_depth)?;
        write!(f, "  q {} k {} v {} o {} lse {}", self.q, self.k, self.v, self.o, self.lse)?;
        for (name, access) in ["do", "dq", "dk", "dv"].iter().zip(&self.backward) {
            write!(f, " {name} {access}")?;
        }
        self.dlse.iter().try_for_each(|a| write!(f, " dlse {a}"))?;
        for (name, step) in [("score", self.score), ("sink", self.sink), ("weight", self.weight), ("dscore", self.dscore)] {
            step.iter().try_for_each(|step| write!(f, " {name} t{step}"))?;
        }
        self.visible.from.iter().try_for_each(|step| write!(f, " from t{step}"))?;
        self.visible.to.iter().try_for_each(|step| write!(f, " to t{step}"))?;
        writeln!(f)?;
        for c in &self.captured {
            let at = c.at.map_or(String::new(), |at| at.to_string());
            writeln!(f, "  {}{at} += t{}", c.access, c.step)?;
        }
        Ok(())
    }
}

impl Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} over [{}]", self.name(), list(&self.dims))?;
        match &self.template {
            Template::Rows { tail } => writeln!(f, ", rows of the last {tail}")?,
            Template::Cols { reduced } => writeln!(f, ", reduced {reduced:?}")?,
            Template::Contract { out, a, b, own } => {
                write!(f, ", summed from dim {out}: {a} {b}")?;
                own.iter().try_for_each(|own| write!(f, " where {} is the index of dim {}", own.group, own.dim))?;
                writeln!(f)?;
            }
            Template::Attention(h) | Template::AttentionBwd(h) => write!(f, "{h}")?,
            Template::ScatterAdd { tokens, rows, width } => writeln!(f, ": {tokens} updates of width {width} to {rows} rows")?,
        }
        for (i, (step, elem)) in self.dag.steps.iter().enumerate() {
            write!(f, "  t{i}: {elem} = ")?;
            match step {
                Step::Load(a) => writeln!(f, "{a}")?,
                Step::Const(x) => writeln!(f, "{x:?}")?,
                Step::Index { offset, strides } => writeln!(f, "index {offset}+[{}]", list(strides))?,
                Step::Product => writeln!(f, "product")?,
                Step::Cotangent => writeln!(f, "cotangent")?,
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
            let at = s.at.map_or(String::new(), |at| at.to_string());
            writeln!(f, "  {}{at} = t{}", s.access, s.step)?;
        }
        Ok(())
    }
}
