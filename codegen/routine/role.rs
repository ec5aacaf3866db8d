//! What kernels make of an op. Everything here that must know an op asks this, so that a new op has its answers in one place.

use ir::{Labels, Name, Op};

/// Elements of a value that are shown as another without arithmetic.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum View<'a> {
    /// All in row-major order, with the value's own dims.
    Reshape,
    /// Axis i is axis pᵢ of the operand.
    Transpose(&'a Labels),
    /// Those at lo..hi of an axis, counted from the end.
    Slice(i8, usize, usize),
}

/// A value that is there before anything runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Given<'a> {
    /// An operand of the function, by number.
    Operand(usize),
    /// A parameter or state tensor, by path.
    Param(&'a Name),
}

/// A value that is written out where it is used.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Immediate {
    /// A scalar.
    Number(f64),
    /// 0, 1, 2, … along one axis, counted from the end.
    Positions(i8),
}

/// What an op's value is to kernels, once composites that have no kernel of their own are written out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Role<'a> {
    /// There before anything runs.
    Given(Given<'a>),
    /// Written out where it is used.
    Immediate(Immediate),
    /// Computed element by element, its operands broadcast.
    Pointwise,
    /// Axes reduced: with what is pointwise around it.
    Reduce,
    /// Another value's memory, seen differently.
    View(View<'a>),
    /// Memory of its own, of one op's several values.
    Member,
    /// A name for several values.
    Tuple,
    /// A product: a kernel that what is pointwise may follow.
    Product,
    /// A kernel, or several, of its own.
    Alone,
}

/// The role of an op.
pub(crate) fn role(op: &Op) -> Role<'_> {
    match op {
        Op::Input(i, _) => Role::Given(Given::Operand(*i as usize)),
        Op::Param(name, _) => Role::Given(Given::Param(name)),
        Op::Const(bits, _) => Role::Immediate(Immediate::Number(f64::from_bits(*bits))),
        Op::Size(dim) => Role::Immediate(Immediate::Number(dim.size() as f64)),
        Op::Iota(axis, _) => Role::Immediate(Immediate::Positions(*axis)),
        Op::Un(_) | Op::Bin(_) | Op::Select | Op::Cast(_) | Op::RandomBits(_) | Op::StopGradient | Op::Broadcast(_) | Op::Gather => Role::Pointwise,
        Op::Reduce(..) => Role::Reduce,
        Op::Reshape(_) => Role::View(View::Reshape),
        Op::Transpose(order) => Role::View(View::Transpose(order)),
        Op::Slice(axis, lo, hi) => Role::View(View::Slice(*axis, *lo as usize, *hi as usize)),
        Op::Get(_) => Role::Member,
        Op::Tuple => Role::Tuple,
        Op::Contract(_) | Op::Grouped(_) | Op::GroupedSum(_) => Role::Product,
        Op::Pad(..) | Op::Concat(_) | Op::ScatterAdd | Op::Update(_) | Op::Repeat(_) | Op::Row(_) | Op::Attention(_) | Op::AttentionBwd(_) => {
            Role::Alone
        }
    }
}

/// Whether an op is computed pointwise, with its operands broadcast.
pub(crate) fn pointwise(op: &Op) -> bool {
    role(op) == Role::Pointwise
}

/// Whether an op shows memory of its operand.
pub(crate) fn is_view(op: &Op) -> bool {
    matches!(role(op), Role::View(_) | Role::Member)
}

/// Whether a kernel writes what an op gives: it is neither there before anything runs nor written out where it is used.
pub(crate) fn in_memory(op: &Op) -> bool {
    !matches!(role(op), Role::Given(_) | Role::Immediate(_))
}

/// What is written out where an op's value is used, if that is so.
pub(crate) fn immediate(op: &Op) -> Option<Immediate> {
    if let Role::Immediate(value) = role(op) { Some(value) } else { None }
}
