//! Handles for writing derivatives in the notation of a model, at the end of a function.

use ir::{Axes, Bin, DType, Dim, Ein, Func, NodeId, Op, Red, Row, Type, Un, num};
use std::cell::RefCell;

/// A function that grows at its end.
pub(crate) struct Tape {
    pub(crate) func: RefCell<Func>,
}

/// A value on a tape.
#[derive(Clone, Copy)]
pub(crate) struct V<'t> {
    tape: &'t Tape,
    pub(crate) id: NodeId,
}

impl Tape {
    pub(crate) fn new(func: Func) -> Tape {
        Tape { func: RefCell::new(func) }
    }
    pub(crate) fn at(&self, id: NodeId) -> V<'_> {
        V { tape: self, id }
    }
    pub(crate) fn add(&self, op: Op, args: &[NodeId]) -> V<'_> {
        let id = self.func.borrow_mut().add(op, args);
        self.at(id)
    }
    pub(crate) fn add_typed(&self, op: Op, args: &[NodeId], ty: Type) -> V<'_> {
        let id = self.func.borrow_mut().add_typed(op, args, ty);
        self.at(id)
    }
    pub(crate) fn num(&self, x: f64) -> V<'_> {
        self.add(num(x), &[])
    }
    /// Zeros of a type.
    pub(crate) fn zeros(&self, ty: &Type) -> V<'_> {
        let zero = self.num(0.0);
        if ty.rank() == 0 { zero } else { zero.op(Op::Broadcast(ty.dims.clone()), &[]) }
    }
}

impl<'t> V<'t> {
    pub(crate) fn ty(self) -> Type {
        self.tape.func.borrow().ty(self.id).clone()
    }
    pub(crate) fn op(self, op: Op, rest: &[V<'t>]) -> V<'t> {
        let args: Vec<NodeId> = std::iter::once(self.id).chain(rest.iter().map(|v| v.id)).collect();
        self.tape.add(op, &args)
    }
    pub(crate) fn un(self, un: Un) -> V<'t> {
        self.op(Op::Un(un), &[])
    }
    pub(crate) fn bin(self, bin: Bin, other: V<'t>) -> V<'t> {
        self.op(Op::Bin(bin), &[other])
    }
    pub(crate) fn row(self, row: Row, rest: &[V<'t>]) -> V<'t> {
        self.op(Op::Row(row), rest)
    }
    pub(crate) fn ein(self, ein: Ein, other: V<'t>) -> V<'t> {
        self.op(Op::Contract(ein), &[other])
    }
    pub(crate) fn num(self, x: f64) -> V<'t> {
        self.tape.num(x)
    }
    /// A whole number.
    pub(crate) fn whole(self, n: i32) -> V<'t> {
        self.tape.add(Op::Const(f64::from(n).to_bits(), DType::I32), &[])
    }
    /// 0, 1, 2, … along an axis counted from the end.
    pub(crate) fn iota(self, axis: i8, dim: Dim) -> V<'t> {
        self.tape.add(Op::Iota(axis, dim), &[])
    }
    /// The value, where it is a constant.
    pub(crate) fn number(self) -> Option<f64> {
        self.tape.func.borrow().node(self.id).op.number()
    }
    pub(crate) fn select(self, a: V<'t>, b: V<'t>) -> V<'t> {
        self.op(Op::Select, &[a, b])
    }
    pub(crate) fn sum(self, axes: &[i8]) -> V<'t> {
        self.op(Op::Reduce(Red::Sum, Axes::from_slice(axes)), &[])
    }
    pub(crate) fn as_f32(self) -> V<'t> {
        self.op(Op::Cast(DType::F32), &[])
    }
    pub(crate) fn reshape(self, ty: &Type) -> V<'t> {
        if self.ty().dims == ty.dims { self } else { self.op(Op::Reshape(ty.dims.clone()), &[]) }
    }
    pub(crate) fn broadcast(self, ty: &Type) -> V<'t> {
        if self.ty().dims == ty.dims { self } else { self.op(Op::Broadcast(ty.dims.clone()), &[]) }
    }

    /// Sums what broadcasting had repeated, and repeats what a reduction had dropped.
    pub(crate) fn sum_to(self, want: &Type) -> V<'t> {
        let have = self.ty();
        if have.dims == want.dims {
            return self;
        }
        let axes: Vec<i8> = (1..=have.rank() as i8).rev().map(|a| -a).filter(|a| want.dim(*a) == Dim::ONE && have.dim(*a) != Dim::ONE).collect();
        let mut x = if axes.is_empty() { self } else { self.sum(&axes) };
        if have.rank() > want.rank() {
            let kept = x.ty().dims[have.rank() - want.rank()..].iter().copied().collect();
            x = x.op(Op::Reshape(kept), &[]);
        }
        x.broadcast(want)
    }
}

macro_rules! operators {
    ($($Trait:ident $f:ident),+) => { $(
        impl<'t> std::ops::$Trait for V<'t> {
            type Output = V<'t>;
            fn $f(self, other: V<'t>) -> V<'t> { self.bin(Bin::$Trait, other) }
        }
        impl<'t> std::ops::$Trait<f64> for V<'t> {
            type Output = V<'t>;
            fn $f(self, other: f64) -> V<'t> { let c = self.tape.num(other); self.bin(Bin::$Trait, c) }
        }
    )+ };
}
operators!(Add add, Sub sub, Mul mul, Div div);

impl<'t> std::ops::Neg for V<'t> {
    type Output = V<'t>;
    fn neg(self) -> V<'t> {
        self.un(Un::Neg)
    }
}
