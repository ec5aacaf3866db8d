//! The ops: one closed enum, one table of what is data about each, and one spelling that prints and parses back.

use crate::score::ScoreFn;
use crate::types::{DType, Dim, Dims, Type, list, parse_dims};
use smallvec::SmallVec;
use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::Arc;

/// The path of a parameter or state tensor. `{}` stands for the iteration of the `repeat` that reads it.
pub type Name = Arc<str>;
/// Axis labels of a contraction.
pub type Labels = SmallVec<[u8; 6]>;
/// Axes counted from the end: `-1` is the last.
pub type Axes = SmallVec<[i8; 4]>;

/// An enum whose variants have a spelling: one row each, and nothing else to keep in step.
macro_rules! spelled {
    ($(#[$doc:meta])* $Enum:ident { $($Variant:ident $name:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[allow(missing_docs)]
        pub enum $Enum { $($Variant),+ }
        impl $Enum {
            /// Every one.
            pub const ALL: &[$Enum] = &[$($Enum::$Variant),+];
            /// The spelling.
            pub const fn name(self) -> &'static str {
                match self { $($Enum::$Variant => $name),+ }
            }
        }
    };
}

spelled! {
    /// Elementwise functions of one operand.
    Un { Exp "exp", Log "log", Neg "neg", Sqrt "sqrt", Rsqrt "rsqrt", Recip "recip", Tanh "tanh", Sin "sin", Cos "cos", Abs "abs",
         Erf "erf" }
}

spelled! {
    /// Elementwise functions of two operands. Whole numbers wrap at 32 bits; they are not divided. `maximum` and `minimum` are NaN where an
    /// operand is, as PyTorch's, and may give a zero of either sign where both are zeros. Comparisons with NaN are false. `and` and `shr` are of
    /// the bits of whole numbers: shifted right by the second's lowest five, with copies of the sign coming in where they have one.
    Bin {
        Add "add", Sub "sub", Mul "mul", Div "div", Maximum "maximum", Minimum "minimum", Pow "pow",
        Lt "lt", Le "le", Eq "eq", And "and", Shr "shr",
    }
}

spelled! {
    /// Which way a stack of matrices lies, one an expert: `[E, C, F]` for products `a[C]` to `[F]`, or turned, `[E, F, C]`.
    Lie { Plain "ecf", Turned "efc" }
}

impl Lie {
    /// The same matrices for the product back.
    pub fn turned(self) -> Lie {
        match self {
            Lie::Plain => Lie::Turned,
            Lie::Turned => Lie::Plain,
        }
    }
}

/// Reductions. The maximum of a row with NaN is NaN, of an empty one −∞; its gradient goes in equal parts to all that are the largest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Red {
    Sum,
    Max,
}

/// Composites that act on one row: each has a definition in core ops and is lowered through it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Row {
    /// exp(x) / Σ exp(x) over the last axis.
    Softmax,
    /// (y, dy) to y ∘ (dy − Σ dy ∘ y).
    SoftmaxBwd,
    /// log Σ exp(x) over the last axis.
    LogSumExp,
    /// (x, ε) to (x − mean x) / √(var x + ε).
    LayerNorm,
    /// (x, ε, dy) to dx.
    LayerNormBwd,
    /// (x, ε) to x / √(mean x² + ε).
    RmsNorm,
    /// (x, ε, dy) to dx.
    RmsNormBwd,
    /// 1 / (1 + exp −x).
    Sigmoid,
    /// GELU in the tanh form.
    Gelu,
    /// The derivative of `gelu`.
    GeluGrad,
    /// x · sigmoid(x).
    Silu,
    /// (a, b) to silu(a) ∘ b.
    Swiglu,
    /// (x, cos, sin): rotates pairs (i, i + D/2) of the last axis.
    Rope,
    /// (logits, labels) to the negative log likelihood of each row; 0 where the label is negative, as −100 is in PyTorch, whatever the
    /// row holds. A label beyond the classes is no error here, and the loss that of a logit 0: whoever feeds labels sees to it that there
    /// is none.
    CrossEntropy,
    /// (logits, labels, g) to the gradient of the logits; 0 in rows whose label is negative.
    CrossEntropyBwd,
}

/// A contraction by labels, canonical: output labels are 0, 1, 2, …, contracted ones follow in the order of `a`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ein {
    /// Labels of the left operand's axes.
    pub a: Labels,
    /// Labels of the right operand's axes.
    pub b: Labels,
    /// Rank of the output, whose labels are `0..out`.
    pub out: u8,
}

impl Ein {
    /// The canonical form of a contraction written with any labels.
    pub fn new(a: &[u8], b: &[u8], out: &[u8]) -> Ein {
        let mut map: SmallVec<[(u8, u8); 10]> = out.iter().enumerate().map(|(i, l)| (*l, i as u8)).collect();
        for l in a.iter().chain(b) {
            if !map.iter().any(|m| m.0 == *l) {
                map.push((*l, map.len() as u8));
            }
        }
        let canonical = |s: &[u8]| s.iter().map(|l| map.iter().find(|m| m.0 == *l).expect("every label was mapped").1).collect();
        Ein { a: canonical(a), b: canonical(b), out: out.len() as u8 }
    }

    /// The same contraction with its operands exchanged.
    pub fn swap(&self) -> Ein {
        Ein::new(&self.b, &self.a, &self.outs())
    }

    /// Labels of the output.
    pub fn outs(&self) -> Labels {
        (0..self.out).collect()
    }

    /// Labels that are summed over.
    pub fn contracted(&self) -> Labels {
        self.a.iter().copied().filter(|l| *l >= self.out).collect()
    }
}

impl FromStr for Ein {
    type Err = String;
    /// Reads `bth,hd->btd`.
    fn from_str(text: &str) -> Result<Ein, String> {
        let bad = |why: String| format!("'{text}' is no contraction, for {why}: expected something like ab,bc->ac");
        let (inputs, out) = text.split_once("->").ok_or_else(|| bad("it has no '->'".into()))?;
        let (a, b) = inputs.split_once(',').ok_or_else(|| bad("it has no ',' between two operands".into()))?;
        for part in [a, b, out] {
            if let Some(c) = part.chars().find(|c| !c.is_ascii_lowercase()) {
                return Err(bad(format!("'{c}' is no small letter")));
            }
            if let Some((_, c)) = part.char_indices().find(|(i, c)| part[..*i].contains(*c)) {
                return Err(bad(format!("'{c}' stands twice in '{part}'")));
            }
        }
        if let Some(c) = out.chars().find(|c| !inputs.contains(*c)) {
            return Err(bad(format!("'{c}' of the result is in no operand")));
        }
        if let Some(c) = a.chars().chain(b.chars()).find(|c| !(out.contains(*c) || a.contains(*c) && b.contains(*c))) {
            return Err(bad(format!("'{c}' is in one operand alone and not in the result")));
        }
        Ok(Ein::new(a.as_bytes(), b.as_bytes(), out.as_bytes()))
    }
}

impl Display for Ein {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{},{}->{}", letters(&self.a), letters(&self.b), letters(&self.outs()))
    }
}

/// softmax(f(scale · q kᵀ)) v by labels over one numbering. Scores have the labels `0..scores`; the last two are the query's and the
/// key's, and the softmax is along the last.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub struct Attn {
    pub q: Labels,
    pub k: Labels,
    pub v: Labels,
    pub o: Labels,
    /// Rank of the scores.
    pub scores: u8,
    /// What becomes of a score before the softmax, and of a probability behind it: masks, biases, caps, dropout.
    pub f: Arc<ScoreFn>,
    /// Query heads that share one key and value head; 1 where heads are not grouped.
    pub group: u32,
    /// The label along which heads are grouped; meaningless where `group` is 1, and 0 there.
    pub head: u8,
}

impl Attn {
    /// Labels of the log-sum-exp: the scores without the softmax axis.
    pub fn rows(&self) -> Labels {
        (0..self.scores - 1).collect()
    }
}

impl Display for Attn {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{},{},{}->{}|{}{}", letters(&self.q), letters(&self.k), letters(&self.v), letters(&self.o), self.scores, self.f)?;
        if self.group > 1 {
            write!(f, "|{}x{}", letters(&[self.head]), self.group)?;
        }
        Ok(())
    }
}

impl FromStr for Attn {
    type Err = String;
    fn from_str(text: &str) -> Result<Attn, String> {
        let bad = || format!("'{text}' is not an attention: expected something like acbe,adbe,adbf->acbf|4|causal");
        let mut bars = text.split('|');
        let (inputs, o) = bars.next().and_then(|t| t.split_once("->")).ok_or_else(bad)?;
        let labels = |t: &str| t.bytes().map(|b| b.is_ascii_lowercase().then(|| b - b'a')).collect::<Option<Labels>>();
        let parts: Vec<Labels> = inputs.split(',').chain([o]).map(labels).collect::<Option<_>>().ok_or_else(bad)?;
        let [q, k, v, o] = <[Labels; 4]>::try_from(parts).map_err(|_| bad())?;
        let scores = bars.next().and_then(|t| t.parse().ok()).filter(|s| (2..=6).contains(s)).ok_or_else(bad)?;
        let (parts, groups): (Vec<&str>, Vec<&str>) = bars.partition(|p| *p == "causal" || p.contains('='));
        let mut attn = Attn { q, k, v, o, scores, f: Arc::new(ScoreFn::parse(&parts)?), group: 1, head: 0 };
        match groups[..] {
            [] => {}
            [part] => {
                let (head, group) = part.split_once('x').filter(|p| p.0.len() == 1).ok_or_else(bad)?;
                attn.head = labels(head).ok_or_else(bad)?[0];
                attn.group = group.parse().ok().filter(|g| *g > 1).ok_or_else(bad)?;
            }
            [_, _, ..] => return Err(bad()),
        }
        Ok(attn)
    }
}

/// A loop over a function: `carried` values go round, `stacked` ones have the iteration as their first axis, the rest are the same each time.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Loop {
    /// Index of the body in [`Graph::funcs`](crate::Graph).
    pub func: u32,
    /// Number of iterations.
    pub trip: u32,
    /// How many leading operands and results are carried from one iteration to the next.
    pub carried: u32,
    /// How many operands after those are stacked.
    pub stacked: u32,
    /// Whether the last iteration runs first, as in a gradient.
    pub reverse: bool,
}

/// An operation. Operands are values; everything else about it is in the variant.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Op {
    /// A parameter or state tensor, by path.
    Param(Name, Type),
    /// An operand of the function.
    Input(u32, Type),
    /// A scalar constant, as bits of `f64`.
    Const(u64, DType),
    /// 0, 1, 2, … along one axis, counted from the end.
    Iota(i8, Dim),
    /// A dim as an `f32` scalar.
    Size(Dim),
    /// Elementwise, one operand.
    Un(Un),
    /// Elementwise, two operands; size-1 and missing axes broadcast.
    Bin(Bin),
    /// (p, a, b): a where p holds, else b.
    Select,
    /// Conversion of the element type. Truth becomes 1; what is not 0, NaN too, becomes true. A whole number keeps its 32 bits as another, and
    /// becomes the nearest float. A float loses its fraction; beyond the range it is the nearest whole number there is, and NaN is 0. To 16
    /// bits it is the nearest, ties to even, ∞ beyond the largest.
    Cast(DType),
    /// Reduces axes and keeps them with size 1.
    Reduce(Red, Axes),
    /// Sum of products by labels.
    Contract(Ein),
    /// Same elements in row-major order, other dims.
    Reshape(Dims),
    /// Axis i of the result is axis pᵢ of the operand.
    Transpose(Labels),
    /// Repeats size-1 and missing leading axes up to the given dims.
    Broadcast(Dims),
    /// Elements lo..hi of an axis.
    Slice(i8, u32, u32),
    /// Zeros before and after along an axis.
    Pad(i8, u32, u32),
    /// Operands one after the other along an axis.
    Concat(i8),
    /// (table[N, …], index) to table[index, …]; an index outside 0..N gives zeros.
    Gather,
    /// (base[N, …], index, updates): base with updates added at rows `index`; indices outside 0..N are ignored.
    ScatterAdd,
    /// (state, values, start): state with values written along an axis from position `start` on. A start broadcasts over the state, with 1
    /// along the axis, so that each row may have its own. What would stand outside of the state is left away, element by element.
    Update(i8),
    /// (key) to 32 random bits an element, a function of the key and the element's row-major index.
    RandomBits(Dims),
    /// The operand, through which no gradient flows.
    StopGradient,
    /// A loop over a function.
    Repeat(Loop),
    /// Several values as one.
    Tuple,
    /// A member of a tuple.
    Get(u32),
    /// A composite over rows.
    Row(Row),
    /// (q, k, v, scale, captured operands…) to (output, log-sum-exp). A row that sees no key has 0 and −∞.
    Attention(Attn),
    /// (q, k, v, output, log-sum-exp, d output, scale, captured operands…) to (dq, dk, dv, d captured…): a captured operand's gradient has the
    /// axes of the scores, with size 1 along queries or keys where the operand has, and is for each head apart.
    AttentionBwd(Attn),
    /// `(a[N, C], w, group[N])` to `[N, F]`: row n is aₙ `w[group n]`, and 0 where there is no such matrix. It costs N rows, whatever E is, and is
    /// fastest where rows of a group stand together.
    Grouped(Lie),
    /// `(a[N, C], b[N, F], group[N])` to `[E, C, F]`: of each group Σ aₙ bₙᵀ over its rows, which is the gradient of a grouped product's matrices.
    GroupedSum(Dim),
}

/// How an op behaves in every pass that does not care which op it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// No operands.
    Leaf,
    /// Element i of the result depends on element i of the operands, broadcast.
    Pointwise,
    /// Rearranges elements without arithmetic.
    View,
    /// Sums or maxima along axes.
    Reduce,
    /// Reads or writes by index.
    Index,
    /// Matrix products and what is built of them.
    Contract,
    /// Structure of the program.
    Structure,
    /// Has a definition in core ops.
    Composite,
}

/// What is data about an op.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The spelling, without attributes.
    pub name: &'static str,
    /// Names of the operands, for errors and help. Variadic ops have one name that repeats.
    pub operands: &'static [&'static str],
    /// The class.
    pub class: Class,
}

const fn row(name: &'static str, operands: &'static [&'static str], class: Class) -> Spec {
    Spec { name, operands, class }
}

impl Op {
    /// The op table: everything about an op that is data.
    #[rustfmt::skip]
    pub const fn spec(&self) -> Spec {
        use Class::*;
        match self {
            Op::Param(..)                  => row("param",             &[],                                 Leaf),
            Op::Input(..)                  => row("input",             &[],                                 Leaf),
            Op::Const(..)                  => row("const",             &[],                                 Leaf),
            Op::Iota(..)                   => row("iota",              &[],                                 Leaf),
            Op::Size(_)                    => row("size",              &[],                                 Leaf),
            Op::Un(un)                     => row(un.name(),           &["x"],                              Pointwise),
            Op::Bin(bin)                   => row(bin.name(),          &["a", "b"],                         Pointwise),
            Op::Select                     => row("select",            &["p", "a", "b"],                    Pointwise),
            Op::Cast(_)                    => row("cast",              &["x"],                              Pointwise),
            Op::Reduce(Red::Sum, _)        => row("sum",               &["x"],                              Reduce),
            Op::Reduce(Red::Max, _)        => row("max",               &["x"],                              Reduce),
            Op::Contract(_)                => row("contract",          &["a", "b"],                         Contract),
            Op::Reshape(_)                 => row("reshape",           &["x"],                              View),
            Op::Transpose(_)               => row("transpose",         &["x"],                              View),
            Op::Broadcast(_)               => row("broadcast",         &["x"],                              View),
            Op::Slice(..)                  => row("slice",             &["x"],                              View),
            Op::Pad(..)                    => row("pad",               &["x"],                              Index),
            Op::Concat(_)                  => row("concat",            &["x…"],                             Index),
            Op::Gather                     => row("gather",            &["table", "index"],                 Index),
            Op::ScatterAdd                 => row("scatter_add",       &["base", "index", "updates"],       Index),
            Op::Update(_)                  => row("update",            &["state", "values", "start"],       Index),
            Op::RandomBits(_)              => row("random_bits",       &["key"],                            Pointwise),
            Op::StopGradient               => row("stop_gradient",     &["x"],                              Pointwise),
            Op::Repeat(_)                  => row("repeat",            &["x…"],                             Structure),
            Op::Tuple                      => row("tuple",             &["x…"],                             Structure),
            Op::Get(_)                     => row("get",               &["x"],                              Structure),
            Op::Row(Row::Softmax)          => row("softmax",           &["x"],                              Composite),
            Op::Row(Row::SoftmaxBwd)       => row("softmax_bwd",       &["y", "dy"],                        Composite),
            Op::Row(Row::LogSumExp)        => row("logsumexp",         &["x"],                              Composite),
            Op::Row(Row::LayerNorm)        => row("layer_norm",        &["x", "eps"],                       Composite),
            Op::Row(Row::LayerNormBwd)     => row("layer_norm_bwd",    &["x", "eps", "dy"],                 Composite),
            Op::Row(Row::RmsNorm)          => row("rms_norm",          &["x", "eps"],                       Composite),
            Op::Row(Row::RmsNormBwd)       => row("rms_norm_bwd",      &["x", "eps", "dy"],                 Composite),
            Op::Row(Row::Sigmoid)          => row("sigmoid",           &["x"],                              Composite),
            Op::Row(Row::Gelu)             => row("gelu",              &["x"],                              Composite),
            Op::Row(Row::GeluGrad)         => row("gelu_grad",         &["x"],                              Composite),
            Op::Row(Row::Silu)             => row("silu",              &["x"],                              Composite),
            Op::Row(Row::Swiglu)           => row("swiglu",            &["a", "b"],                         Composite),
            Op::Row(Row::Rope)             => row("rope",              &["x", "cos", "sin"],                Composite),
            Op::Row(Row::CrossEntropy)     => row("cross_entropy",     &["logits", "labels"],               Composite),
            Op::Row(Row::CrossEntropyBwd)  => row("cross_entropy_bwd", &["logits", "labels", "g"],          Composite),
            Op::Attention(_)               => row("attention",         &["q", "k", "v", "scale", "x…"],     Contract),
            Op::AttentionBwd(_)            => row("attention_bwd",     &["q", "k", "v", "o", "lse", "do", "scale", "x…"], Contract),
            Op::Grouped(_)                 => row("grouped",           &["a", "w", "group"],                Contract),
            Op::GroupedSum(_)              => row("grouped_sum",       &["a", "b", "group"],                Contract),
        }
    }

    /// The spelling, without attributes.
    pub const fn name(&self) -> &'static str {
        self.spec().name
    }

    /// Whether the two operands may be exchanged.
    pub fn commutes(&self) -> bool {
        matches!(self, Op::Bin(Bin::Add | Bin::Mul | Bin::Maximum | Bin::Minimum | Bin::Eq | Bin::And))
    }

    /// The value of a constant.
    pub fn number(&self) -> Option<f64> {
        if let Op::Const(bits, _) = self { Some(f64::from_bits(*bits)) } else { None }
    }

    /// Whether the number of operands is free.
    pub fn variadic(&self) -> bool {
        matches!(self, Op::Concat(_) | Op::Repeat(_) | Op::Tuple)
    }

    /// Whether the op has a definition in core ops.
    pub fn is_composite(&self) -> bool {
        self.spec().class == Class::Composite || matches!(self, Op::Attention(_) | Op::AttentionBwd(_) | Op::Grouped(_) | Op::GroupedSum(_))
    }

    /// How many operands attention has before those that its function captures.
    pub fn fixed_operands(&self) -> usize {
        let named = self.spec().operands.len();
        if let Op::Attention(_) | Op::AttentionBwd(_) = self { named - 1 } else { named }
    }

    /// Every op without attributes: what the text reads by name and tests iterate over.
    pub fn plain() -> Vec<Op> {
        use Row::*;
        let rows = [
            Softmax,
            SoftmaxBwd,
            LogSumExp,
            LayerNorm,
            LayerNormBwd,
            RmsNorm,
            RmsNormBwd,
            Sigmoid,
            Gelu,
            GeluGrad,
            Silu,
            Swiglu,
            Rope,
            CrossEntropy,
            CrossEntropyBwd,
        ];
        let rest = [Op::Select, Op::Gather, Op::ScatterAdd, Op::StopGradient, Op::Tuple];
        let un = Un::ALL.iter().map(|u| Op::Un(*u));
        un.chain(Bin::ALL.iter().map(|b| Op::Bin(*b))).chain(rows.map(Op::Row)).chain(rest).collect()
    }
}

/// An `f32` constant.
pub fn num(x: f64) -> Op {
    // one NaN, so that a constant reads back as it was
    Op::Const(if x.is_nan() { f64::NAN } else { x }.to_bits(), DType::F32)
}

fn letters(labels: &[u8]) -> String {
    labels.iter().map(|l| (b'a' + l) as char).collect()
}

impl Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let name = self.name();
        match self {
            Op::Param(path, _) => write!(f, "@{path}"),
            Op::Input(i, _) => write!(f, "%in{i}"),
            Op::Const(bits, dtype) => {
                let x = f64::from_bits(*bits);
                match dtype {
                    DType::I32 => write!(f, "{}", x as i64),
                    DType::U32 => write!(f, "{}u", x as u64),
                    DType::Bool => write!(f, "{}", x != 0.0),
                    DType::F32 | DType::BF16 | DType::F16 | DType::Tuple => write!(f, "{x:?}"),
                }
            }
            Op::Iota(axis, dim) => write!(f, "iota[{axis},{dim}]"),
            Op::Size(dim) => write!(f, "size[{dim}]"),
            Op::Cast(dtype) => write!(f, "cast[{dtype}]"),
            Op::Reduce(_, axes) => write!(f, "{name}[{}]", list(axes)),
            Op::Contract(ein) => write!(f, "contract[{ein}]"),
            Op::Reshape(dims) | Op::Broadcast(dims) | Op::RandomBits(dims) => write!(f, "{name}[{}]", list(dims)),
            Op::Transpose(order) => write!(f, "transpose[{}]", list(order)),
            Op::Slice(axis, lo, hi) | Op::Pad(axis, lo, hi) => write!(f, "{name}[{axis},{lo},{hi}]"),
            Op::Concat(axis) | Op::Update(axis) => write!(f, "{name}[{axis}]"),
            Op::Get(i) => write!(f, "get[{i}]"),
            Op::Attention(a) | Op::AttentionBwd(a) => write!(f, "{name}[{a}]"),
            Op::Grouped(lie) => write!(f, "{name}[{}]", lie.name()),
            Op::GroupedSum(groups) => write!(f, "{name}[{groups}]"),
            Op::Repeat(l) => {
                write!(f, "repeat[f{},{},{},{}{}]", l.func, l.trip, l.carried, l.stacked, if l.reverse { ",reverse" } else { "" })
            }
            Op::Un(_) | Op::Bin(_) | Op::Select | Op::Gather | Op::ScatterAdd | Op::StopGradient | Op::Tuple | Op::Row(_) => f.write_str(name),
        }
    }
}

impl FromStr for Op {
    type Err = String;
    /// Reads what `Display` writes, but for `@param` and `%in`, whose types stand elsewhere in the text.
    fn from_str(text: &str) -> Result<Op, String> {
        if let Some(constant) = parse_const(text) {
            return Ok(constant);
        }
        let (name, attr) = match text.split_once('[') {
            Some((name, rest)) => (name, rest.strip_suffix(']').ok_or_else(|| format!("'{text}' lacks a closing bracket"))?),
            None => (text, ""),
        };
        let bad = || format!("'{text}': attributes of {name} do not read");
        if !text.contains('[') {
            return Op::plain().into_iter().find(|op| op.name() == name).ok_or_else(|| unknown(name));
        }
        let parts: Vec<&str> = attr.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
        let axes = || parts.iter().map(|a| a.parse().ok().filter(|a| (-16..0).contains(a))).collect::<Option<Axes>>().ok_or_else(bad);
        let axis = |t: &str| t.parse::<i8>().ok().filter(|a| (-16..0).contains(a)).ok_or_else(bad);
        let number = |t: &str| t.parse::<u32>().map_err(|_| bad());
        Ok(match (name, parts.as_slice()) {
            ("iota", [a, d]) => Op::Iota(axis(a)?, d.parse()?),
            ("size", [d]) => Op::Size(d.parse()?),
            ("cast", [d]) => Op::Cast(d.parse()?),
            ("sum", _) => Op::Reduce(Red::Sum, axes()?),
            ("max", _) => Op::Reduce(Red::Max, axes()?),
            ("contract", _) => Op::Contract(attr.parse()?),
            ("reshape", _) => Op::Reshape(parse_dims(attr)?),
            ("broadcast", _) => Op::Broadcast(parse_dims(attr)?),
            ("random_bits", _) => Op::RandomBits(parse_dims(attr)?),
            ("transpose", _) => Op::Transpose(parts.iter().map(|p| p.parse().ok()).collect::<Option<_>>().ok_or_else(bad)?),
            ("slice", [a, l, h]) => Op::Slice(axis(a)?, number(l)?, number(h)?),
            ("pad", [a, l, h]) => Op::Pad(axis(a)?, number(l)?, number(h)?),
            ("concat", [a]) => Op::Concat(axis(a)?),
            ("update", [a]) => Op::Update(axis(a)?),
            ("get", [i]) => Op::Get(number(i)?),
            ("attention", _) => Op::Attention(attr.parse()?),
            ("attention_bwd", _) => Op::AttentionBwd(attr.parse()?),
            ("grouped", [lie]) => Op::Grouped(*Lie::ALL.iter().find(|l| l.name() == *lie).ok_or_else(bad)?),
            ("grouped_sum", [groups]) => Op::GroupedSum(groups.parse()?),
            ("repeat", [f, t, c, s, rest @ ..]) if matches!(rest, [] | ["reverse"]) => Op::Repeat(Loop {
                func: number(f.strip_prefix('f').ok_or_else(bad)?)?,
                trip: number(t)?,
                carried: number(c)?,
                stacked: number(s)?,
                reverse: !rest.is_empty(),
            }),
            _ => return Err(unknown(name)),
        })
    }
}

fn unknown(name: &str) -> String {
    format!("unknown op '{name}'")
}

fn parse_const(text: &str) -> Option<Op> {
    let constant = |x: f64, dtype| Some(Op::Const(x.to_bits(), dtype));
    match text {
        "true" => return constant(1.0, DType::Bool),
        "false" => return constant(0.0, DType::Bool),
        _ => {}
    }
    if let Some(n) = text.strip_suffix('u').and_then(|t| t.parse::<u32>().ok()) {
        return constant(f64::from(n), DType::U32);
    }
    if let Ok(n) = text.parse::<i32>() {
        return constant(f64::from(n), DType::I32);
    }
    let starts_like_number = text.starts_with(|c: char| c.is_ascii_digit() || c == '-') || text == "inf" || text == "NaN";
    text.parse::<f64>().ok().filter(|_| starts_like_number).and_then(|x| constant(x, DType::F32))
}
