//! The kernel language: a small structured program of loops, typed vectors, register tiles and guarded loads and stores.
//!
//! A kernel for a CPU computes the units `lo..hi` of its work; units are independent, so any partition gives the same bits. A kernel for
//! a GPU is run by cubes of threads that share memory and meet at barriers. Locals are mutable arrays (register tiles) whose indices are
//! constants once unrolled loops are unrolled. How operands are packed and staged stands here in plain sight; printers have one arm a
//! statement.

use ir::{Bin, Red, Un};
use std::fmt::{self, Display};
use std::ops::{Add, Mul, Sub};

/// The type of an element in memory. A value is computed in 32 bits: reading a shorter float widens it, writing it rounds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Elem {
    F32,
    BF16,
    F16,
    I32,
    U32,
    Bool,
}

impl Elem {
    /// The element type of an IR value.
    pub fn of(dtype: ir::DType) -> Elem {
        match dtype {
            ir::DType::F32 => Elem::F32,
            ir::DType::BF16 => Elem::BF16,
            ir::DType::F16 => Elem::F16,
            ir::DType::I32 => Elem::I32,
            ir::DType::U32 => Elem::U32,
            ir::DType::Bool => Elem::Bool,
            ir::DType::Tuple => panic!("a tuple is not an element"),
        }
    }
    /// Bytes in memory. Truth is a whole word there: GPUs have no smaller stores.
    pub fn bytes(self) -> usize {
        if self.is_half() { 2 } else { 4 }
    }
    /// Whether it is a float of 16 bits.
    pub fn is_half(self) -> bool {
        matches!(self, Elem::BF16 | Elem::F16)
    }
    /// The type of a value read from such memory.
    pub fn value(self) -> Elem {
        if self.is_half() { Elem::F32 } else { self }
    }
    /// The IR's type.
    pub fn dtype(self) -> ir::DType {
        match self {
            Elem::F32 => ir::DType::F32,
            Elem::BF16 => ir::DType::BF16,
            Elem::F16 => ir::DType::F16,
            Elem::I32 => ir::DType::I32,
            Elem::U32 => ir::DType::U32,
            Elem::Bool => ir::DType::Bool,
        }
    }
}

impl Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.dtype().fmt(f)
    }
}

/// An index variable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Var(pub u32);

/// A mutable local array.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LocalId(pub u32);

/// Index arithmetic: in 64 bits on a CPU; on a GPU in 32 without a sign, so that no step may go below 0. Operators fold constants.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Ix {
    Const(i64),
    Var(Var),
    Add(Box<Ix>, Box<Ix>),
    Sub(Box<Ix>, Box<Ix>),
    Mul(Box<Ix>, Box<Ix>),
    Div(Box<Ix>, Box<Ix>),
    Rem(Box<Ix>, Box<Ix>),
    Min(Box<Ix>, Box<Ix>),
    Max(Box<Ix>, Box<Ix>),
    /// Bits that differ.
    Xor(Box<Ix>, Box<Ix>),
}

impl Ix {
    /// The value, where that of each variable is known.
    pub fn value(&self, of: &dyn Fn(Var) -> Option<i64>) -> Option<i64> {
        let two = |a: &Ix, b: &Ix| Some((a.value(of)?, b.value(of)?));
        match self {
            Ix::Const(n) => Some(*n),
            Ix::Var(v) => of(*v),
            Ix::Add(a, b) => two(a, b).map(|(a, b)| a + b),
            Ix::Sub(a, b) => two(a, b).map(|(a, b)| a - b),
            Ix::Mul(a, b) => two(a, b).map(|(a, b)| a * b),
            Ix::Div(a, b) => two(a, b).map(|(a, b)| a / b),
            Ix::Rem(a, b) => two(a, b).map(|(a, b)| a % b),
            Ix::Min(a, b) => two(a, b).map(|(a, b)| a.min(b)),
            Ix::Max(a, b) => two(a, b).map(|(a, b)| a.max(b)),
            Ix::Xor(a, b) => two(a, b).map(|(a, b)| a ^ b),
        }
    }
    /// The value where it is known.
    pub fn known(&self) -> Option<i64> {
        if let Ix::Const(n) = self { Some(*n) } else { None }
    }
    /// The quotient.
    pub fn div(self, n: impl Into<Ix>) -> Ix {
        match (self, n.into()) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a / b),
            (a, Ix::Const(1)) => a,
            (a, b) => Ix::Div(Box::new(a), Box::new(b)),
        }
    }
    /// The remainder.
    pub fn rem(self, n: impl Into<Ix>) -> Ix {
        match (self, n.into()) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a % b),
            (_, Ix::Const(1)) => Ix::Const(0),
            (a, b) => Ix::Rem(Box::new(a), Box::new(b)),
        }
    }
    /// The lesser.
    pub fn min(self, n: impl Into<Ix>) -> Ix {
        match (self, n.into()) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a.min(b)),
            (a, b) if a == b => a,
            (a, b) => Ix::Min(Box::new(a), Box::new(b)),
        }
    }
    /// The greater.
    pub fn max(self, n: impl Into<Ix>) -> Ix {
        match (self, n.into()) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a.max(b)),
            (a, b) => Ix::Max(Box::new(a), Box::new(b)),
        }
    }
    /// The bits that differ.
    pub fn xor(self, n: impl Into<Ix>) -> Ix {
        match (self, n.into()) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a ^ b),
            (a, Ix::Const(0)) => a,
            (a, b) => Ix::Xor(Box::new(a), Box::new(b)),
        }
    }
    /// 1 where the index is below `n`, else 0.
    pub fn below(self, n: usize) -> Ix {
        (Ix::from(n) - self.min(n)).min(1i64)
    }
    /// The largest multiple of `n` that is not greater.
    pub fn down_to(self, n: i64) -> Ix {
        self.div(n) * n
    }
    /// The smallest multiple of `n` that is not less.
    pub fn up_to(self, n: i64) -> Ix {
        (self + (n - 1)).div(n) * n
    }
}

impl From<i64> for Ix {
    fn from(n: i64) -> Ix {
        Ix::Const(n)
    }
}
impl From<i32> for Ix {
    fn from(n: i32) -> Ix {
        Ix::Const(n.into())
    }
}
impl From<usize> for Ix {
    fn from(n: usize) -> Ix {
        Ix::Const(n as i64)
    }
}
impl From<Var> for Ix {
    fn from(v: Var) -> Ix {
        Ix::Var(v)
    }
}
impl<T: Into<Ix>> Add<T> for Ix {
    type Output = Ix;
    fn add(self, other: T) -> Ix {
        match (self, other.into()) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a + b),
            (a, Ix::Const(0)) => a,
            (Ix::Const(0), b) => b,
            (a, b) => Ix::Add(Box::new(a), Box::new(b)),
        }
    }
}
impl<T: Into<Ix>> Sub<T> for Ix {
    type Output = Ix;
    fn sub(self, other: T) -> Ix {
        match (self, other.into()) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a - b),
            (a, Ix::Const(0)) => a,
            (a, b) => Ix::Sub(Box::new(a), Box::new(b)),
        }
    }
}
impl<T: Into<Ix>> Mul<T> for Ix {
    type Output = Ix;
    fn mul(self, other: T) -> Ix {
        match (self, other.into()) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a * b),
            (_, Ix::Const(0)) | (Ix::Const(0), _) => Ix::Const(0),
            (a, Ix::Const(1)) => a,
            (Ix::Const(1), b) => b,
            (a, b) => Ix::Mul(Box::new(a), Box::new(b)),
        }
    }
}

/// Where memory is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Buf {
    /// An argument of the kernel.
    Arg(usize),
    /// A region of this thread's scratch memory.
    Scratch(usize),
    /// A region that the threads of a cube share.
    Shared(usize),
}

/// A value of one or several lanes. Scalars meet vectors by `Splat` alone.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum Expr {
    Const(f64, Elem),
    /// An element of a local array.
    Local(LocalId, Ix),
    /// Consecutive elements; lanes from `valid` on are not read and are 0.
    Load {
        buf: Buf,
        at: Ix,
        lanes: u32,
        valid: Option<Ix>,
    },
    /// The same scalar in every lane.
    Splat(Box<Expr>, u32),
    /// An index as `i32`.
    Index(Ix),
    /// base, base + step, base + 2 step, … as `i32`.
    Ramp {
        base: Ix,
        step: i64,
        lanes: u32,
    },
    Un(Un, Box<Expr>),
    Bin(Bin, Box<Expr>, Box<Expr>),
    /// a b + c with one rounding.
    Fma(Box<Expr>, Box<Expr>, Box<Expr>),
    /// Two floats that `bfloat16` holds, in one word: the first in its lower half.
    Word(Box<Expr>, Box<Expr>),
    /// Words of two consecutive elements of 16 bits each, from `at` on.
    Words {
        buf: Buf,
        at: Ix,
        lanes: u32,
    },
    /// a₀ b₀ + (a₁ b₁ + c) of words of two `bfloat16`, each sum rounded. Numbers below the normal ones may count as 0.
    Dot(Box<Expr>, Box<Expr>, Box<Expr>),
    Select(Box<Expr>, Box<Expr>, Box<Expr>),
    /// To another type; to a float of 16 bits, the nearest of them, held in 32.
    Cast(Elem, Box<Expr>),
    /// Lanes before `valid` of a, the rest of b.
    Keep {
        valid: Ix,
        a: Box<Expr>,
        b: Box<Expr>,
    },
    /// The sum or maximum of the lanes, in a fixed order.
    Lanes(Red, Box<Expr>),
    /// One lane of a vector.
    Lane(Box<Expr>, u32),
    /// Two consecutive lanes of a vector, from this one on.
    Pair(Box<Expr>, u32),
    /// Scalars side by side.
    Vector(Vec<Expr>),
    /// The random bits of a counter under a key.
    Random {
        key: Box<Expr>,
        counter: Box<Expr>,
    },
}

impl Expr {
    /// An `f32` constant.
    pub fn f32(x: f64) -> Expr {
        Expr::Const(x, Elem::F32)
    }
    /// The sum.
    pub fn plus(self, other: Expr) -> Expr {
        Expr::Bin(Bin::Add, Box::new(self), Box::new(other))
    }
    /// The product.
    pub fn times(self, other: Expr) -> Expr {
        Expr::Bin(Bin::Mul, Box::new(self), Box::new(other))
    }
    /// The difference.
    pub fn minus(self, other: Expr) -> Expr {
        Expr::Bin(Bin::Sub, Box::new(self), Box::new(other))
    }
    /// The same scalar in every lane.
    pub fn splat(self, lanes: u32) -> Expr {
        if lanes == 1 { self } else { Expr::Splat(Box::new(self), lanes) }
    }
    /// a b + c.
    pub fn fma(a: Expr, b: Expr, c: Expr) -> Expr {
        Expr::Fma(Box::new(a), Box::new(b), Box::new(c))
    }
    /// a₀ b₀ + (a₁ b₁ + c).
    pub fn dot(a: Expr, b: Expr, c: Expr) -> Expr {
        Expr::Dot(Box::new(a), Box::new(b), Box::new(c))
    }
    /// Two floats in one word.
    pub fn word(first: Expr, second: Expr) -> Expr {
        Expr::Word(Box::new(first), Box::new(second))
    }
    /// One lane of a vector.
    pub fn lane(self, i: u32, lanes: u32) -> Expr {
        if lanes == 1 { self } else { Expr::Lane(Box::new(self), i) }
    }
    /// An elementwise function.
    pub fn un(un: Un, x: Expr) -> Expr {
        Expr::Un(un, Box::new(x))
    }
    /// The larger, and b beside NaN: an instruction less than `Maximum`, for where NaN gets into the result another way. Both should be cheap.
    pub fn larger(a: Expr, b: Expr) -> Expr {
        let first = Expr::bin(Bin::Lt, b.clone(), a.clone());
        Expr::Select(Box::new(first), Box::new(a), Box::new(b))
    }
    /// An elementwise function of two.
    pub fn bin(bin: Bin, a: Expr, b: Expr) -> Expr {
        Expr::Bin(bin, Box::new(a), Box::new(b))
    }
}

impl Expr {
    /// What an expression is made of.
    pub fn operands(&self) -> Vec<&Expr> {
        match self {
            Expr::Const(..) | Expr::Local(..) | Expr::Load { .. } | Expr::Words { .. } | Expr::Index(_) | Expr::Ramp { .. } => vec![],
            Expr::Splat(x, _) | Expr::Un(_, x) | Expr::Cast(_, x) | Expr::Lanes(_, x) | Expr::Lane(x, _) | Expr::Pair(x, _) => vec![x],
            Expr::Vector(lanes) => lanes.iter().collect(),
            Expr::Bin(_, a, b) | Expr::Word(a, b) | Expr::Keep { a, b, .. } | Expr::Random { key: a, counter: b } => vec![a, b],
            Expr::Fma(a, b, c) | Expr::Dot(a, b, c) | Expr::Select(a, b, c) => vec![a, b, c],
        }
    }
}

/// What a kernel does.
#[derive(Clone, PartialEq, Debug)]
pub enum Stmt {
    /// A loop. An unrolled one has constant bounds.
    #[allow(missing_docs)]
    For { var: Var, lo: Ix, hi: Ix, step: i64, unroll: bool, body: Vec<Stmt> },
    /// Names an index.
    Let(Var, Ix),
    /// Names an index held in memory as `i32`.
    LetValue(Var, Expr),
    /// Writes an element of a local array.
    Set(LocalId, Ix, Expr),
    /// Writes consecutive elements; lanes from `valid` on are not written.
    #[allow(missing_docs)]
    Store { buf: Buf, at: Ix, value: Expr, valid: Option<Ix> },
    /// Either branch by a < b.
    #[allow(missing_docs)]
    If { a: Ix, b: Ix, then: Vec<Stmt>, otherwise: Vec<Stmt> },
    /// dst[j·dst_row + i] = src[i·src_row + j] for a square tile as wide as a vector; from 16 bits to words, src's elements are the words
    /// of two, i·src_row + 2 j and the next.
    #[allow(missing_docs)]
    Transpose { src: Buf, at: Ix, src_row: i64, dst: Buf, to: Ix, dst_row: i64 },
    /// Asks for an element that will be read soon. It changes nothing, and the element need not exist.
    Prefetch(Buf, Ix),
    /// Starts copying sixteen bytes from an operand to shared memory: the first `valid` of eight elements, the rest zeros.
    #[allow(missing_docs)]
    CopyAsync { src: usize, from: Ix, dst: Buf, to: Ix, valid: Ix },
    /// The copies that this thread has started since the last such line are a group.
    Commit,
    /// Waits until all groups of this thread's copies but the latest so many have landed.
    Wait(usize),
    /// Four matrices of 8 × 8 from shared memory to the threads of a plane: thread l names where row l % 8 of matrix l / 8 begins, and gets
    /// of each matrix two elements: (l / 4, 2 (l % 4)) and the next, or where transposed the same of the transpose.
    #[allow(missing_docs)]
    LoadMatrix { to: Fragment, src: Buf, row: Ix, transposed: bool },
    /// acc += a b over a plane, 16 × 8 += 16 × 16 · 16 × 8; b is the first or second half of a fragment.
    #[allow(missing_docs)]
    Mma { acc: Fragment, a: Fragment, b: Fragment, half: u32 },
    /// acc += a bᵀ over a group of four planes, 64 × `columns` += 64 × 64 · 64 × `columns`, the operands rows of eight swizzled chunks in
    /// shared memory. Plane w of the group has rows 16 w to 16 w + 15: of every eight columns what `Mma`'s sums are.
    #[allow(missing_docs)]
    GroupMma { acc: LocalId, a: (Buf, Ix), b: (Buf, Ix), columns: usize },
    /// Makes what was copied to shared memory visible to `GroupMma`.
    Fence,
    /// Two tiles of sums side by side become a left operand, rounded to its type: what a thread has of both is what it needs.
    #[allow(missing_docs)]
    Pack { to: Fragment, from: [Fragment; 2] },
    /// to = what the thread of the plane whose number differs in these bits has in `from`.
    #[allow(missing_docs)]
    Exchange { to: LocalId, from: LocalId, bits: usize },
    /// Every thread of the cube gets here before any goes on; what was written before is seen after.
    Barrier,
}

/// What a thread has of matrices that a plane of threads holds: an element of a local array, of eight 16-bit elements as `LoadMatrix`
/// gives them, or of four sums: of the threads' 16 × 8 tile (l / 4, 2 (l % 4)) and the next, and the same eight rows below.
pub type Fragment = (LocalId, usize);

/// Threads of a plane.
pub const PLANE: usize = 32;
/// Threads of a group of planes that multiplies together, and its rows; how deep its product is at once.
pub const GROUP: usize = 128;
#[allow(missing_docs)]
pub const GROUP_ROWS: usize = 64;
#[allow(missing_docs)]
pub const GROUP_DEPTH: usize = 64;

/// A local array.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Local {
    pub name: String,
    pub elem: Elem,
    pub lanes: u32,
    pub count: usize,
}

/// A buffer a kernel is given.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Param {
    pub elem: Elem,
    /// Whether the kernel writes it.
    pub written: bool,
}

/// Memory that the threads of a cube share.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Shared {
    pub elem: Elem,
    /// Lanes of every access.
    pub lanes: u32,
    /// Elements, not vectors.
    pub count: usize,
}

/// A kernel.
#[derive(Clone, PartialEq, Debug)]
pub struct Kernel {
    /// A stable name.
    pub name: String,
    /// Its buffers.
    pub params: Vec<Param>,
    /// Independent pieces of work: what threads divide, or cubes.
    pub units: usize,
    /// Threads of a cube; `None` for a kernel of a CPU.
    pub cube: Option<usize>,
    /// Lanes of every access to a buffer, by parameter, where they are all the same and aligned; else 1.
    pub widths: Vec<u32>,
    /// Memory a cube's threads share.
    pub shared: Vec<Shared>,
    /// The scratch regions: of what, floats or words, and of how many.
    pub scratch: Vec<(Elem, usize)>,
    /// Local arrays.
    pub locals: Vec<Local>,
    /// Names of index variables; the first two are `lo` and `hi`, or the number of the cube and of the thread in it.
    pub vars: Vec<String>,
    /// The body.
    pub body: Vec<Stmt>,
}

impl Kernel {
    /// The element type of an expression of this kernel.
    pub fn elem(&self, e: &Expr) -> Elem {
        match e {
            Expr::Const(_, t) | Expr::Cast(t, _) => t.value(),
            Expr::Local(l, _) => self.locals[l.0 as usize].elem,
            Expr::Load { buf: Buf::Arg(i), .. } => self.params[*i].elem.value(),
            Expr::Load { buf: Buf::Shared(i), .. } => self.shared[*i].elem.value(),
            Expr::Load { buf: Buf::Scratch(i), .. } => self.scratch[*i].0,
            Expr::Fma(..) | Expr::Dot(..) | Expr::Lanes(..) | Expr::Un(..) => Elem::F32,
            Expr::Word(..) | Expr::Words { .. } => Elem::U32,
            Expr::Splat(x, _) | Expr::Lane(x, _) | Expr::Pair(x, _) => self.elem(x),
            Expr::Vector(lanes) => self.elem(&lanes[0]),
            Expr::Index(_) | Expr::Ramp { .. } => Elem::I32,
            Expr::Bin(Bin::Lt | Bin::Le | Bin::Eq, ..) => Elem::Bool,
            Expr::Bin(_, x, _) => self.elem(x),
            Expr::Select(_, a, _) | Expr::Keep { a, .. } => self.elem(a),
            Expr::Random { .. } => Elem::U32,
        }
    }

    /// The lanes of an expression of this kernel.
    pub fn lanes(&self, e: &Expr) -> u32 {
        match e {
            Expr::Const(..) | Expr::Index(_) | Expr::Lanes(..) | Expr::Lane(..) => 1,
            Expr::Local(l, _) => self.locals[l.0 as usize].lanes,
            Expr::Pair(..) => 2,
            Expr::Vector(lanes) => lanes.len() as u32,
            Expr::Load { lanes, .. } | Expr::Words { lanes, .. } | Expr::Splat(_, lanes) | Expr::Ramp { lanes, .. } => *lanes,
            Expr::Select(_, a, _) | Expr::Random { counter: a, .. } => self.lanes(a),
            Expr::Un(..) | Expr::Bin(..) | Expr::Fma(..) | Expr::Dot(..) | Expr::Word(..) | Expr::Cast(..) | Expr::Keep { .. } => {
                self.lanes(e.operands()[0])
            }
        }
    }

    /// Bytes of memory that the threads of a cube share.
    pub fn shared_bytes(&self) -> usize {
        self.shared.iter().map(|s| s.elem.bytes() * s.count).sum()
    }

    /// Floats of scratch memory a thread needs.
    pub fn scratch_floats(&self) -> usize {
        self.scratch_offsets().1
    }

    /// Where each scratch region begins, each aligned to a cache line, and where the last ends.
    pub fn scratch_offsets(&self) -> (Vec<usize>, usize) {
        let mut at = 0;
        let starts = self
            .scratch
            .iter()
            .map(|(_, n)| {
                let start = at;
                at += n.next_multiple_of(16);
                start
            })
            .collect();
        (starts, at)
    }
}
