//! A thin layer over CubeCL's scope: one method an operation that kernels need.

use crate::kernel::Elem;
use cubecl::ir::dialect::{bitwise::*, branch::*, cmp::*, general::*, math::*, memory::*, synchronization::*, vector::*};
use cubecl::ir::pliron::builtin::op_interfaces::OneResultInterface;
use cubecl::ir::pliron::{op::Op, r#type::TypeHandle, value::Value};
use cubecl::ir::types::{ArrayType, PointerType, VectorType};
use cubecl::ir::{AddressSpace, Builtin, ConstantValue, ElemType, FloatKind, IntKind, OpInserter, Scope, UIntKind};

pub const F32: ElemType = ElemType::Float(FloatKind::F32);
pub const I32: ElemType = ElemType::Int(IntKind::I32);
pub const U32: ElemType = ElemType::UInt(UIntKind::U32);
pub const U64: ElemType = ElemType::UInt(UIntKind::U64);

/// A block being written.
pub struct Block<'a> {
    pub scope: &'a Scope,
}

macro_rules! binary {
    ($($name:ident $op:ident),* $(,)?) => { impl Block<'_> { $(
        pub fn $name(&self, a: Value, b: Value) -> Value {
            self.value(&$op::new(self.scope.ctx_mut(), a, b))
        }
    )* } };
}
macro_rules! unary {
    ($($name:ident $op:ident),* $(,)?) => { impl Block<'_> { $(
        pub fn $name(&self, a: Value) -> Value {
            self.value(&$op::new(self.scope.ctx_mut(), a))
        }
    )* } };
}
binary!(
    iadd IAddOp, isub ISubOp, imul IMulOp, udiv UDivOp, urem URemOp, umin UMinOp, umax UMaxOp, ult ULessThanOp, ule ULessThanOrEqualOp,
    slt SLessThanOp, sle SLessThanOrEqualOp, ieq IEqualOp, ine INotEqualOp, xor BitwiseXorOp, and BitwiseAndOp, shift_right ShiftRightOp,
    fadd FAddOp, fsub FSubOp, fmul FMulOp, fdiv FDivOp, pow PowfOp, flt FLessThanOp, fle FLessThanOrEqualOp, feq FEqualOp, fne FNotEqualOp,
);
unary!(is_nan IsNanOp, fneg FNegOp, fabs FAbsOp, exp ExpOp, log LogOp, sqrt SqrtOp, rsqrt RsqrtOp, recip RecipOp, round RoundOp);

impl Block<'_> {
    pub fn value(&self, op: &dyn OneResultInterface) -> Value {
        self.scope.register_with_result(op)
    }
    pub fn put(&self, op: &dyn Op) {
        self.scope.register(op);
    }

    pub fn vector(&self, elem: ElemType, lanes: u32) -> TypeHandle {
        let one = elem.to_type(self.scope.ctx());
        if lanes > 1 { VectorType::get(self.scope.ctx(), one, lanes as usize).into() } else { one }
    }
    /// The type of a value; truth is a word in memory alone.
    pub fn value_type(&self, elem: Elem, lanes: u32) -> TypeHandle {
        self.vector(if elem == Elem::Bool { ElemType::Bool } else { memory_elem(elem) }, lanes)
    }
    pub fn array(&self, of: TypeHandle, n: usize) -> TypeHandle {
        ArrayType::get(self.scope.ctx(), of, n).into()
    }

    pub fn index(&self, n: i64) -> Value {
        let n = u32::try_from(n).expect("a program is refused whose indices 32 bits do not hold");
        self.scope.const_usize(n as usize)
    }
    pub fn constant(&self, x: f64, elem: Elem) -> Value {
        match elem {
            Elem::F32 | Elem::BF16 | Elem::F16 if x.is_finite() => F32.constant(ConstantValue::Float(f64::from(x as f32))).value(self.scope),
            // WebGPU's language has no words for these
            Elem::F32 | Elem::BF16 | Elem::F16 => self.bits(self.word((x as f32).to_bits()), F32.to_type(self.scope.ctx())),
            Elem::I32 => I32.constant(ConstantValue::Int(x as i64)).value(self.scope),
            Elem::U32 => self.word(x as i64 as u32),
            Elem::Bool => self.scope.const_bool(x != 0.0),
        }
    }
    pub fn word(&self, x: u32) -> Value {
        U32.constant(ConstantValue::UInt(x.into())).value(self.scope)
    }
    pub fn splat(&self, x: Value, elem: Elem, lanes: u32) -> Value {
        if lanes == 1 { x } else { self.value(&VectorBroadcastOp::new(self.scope.ctx_mut(), self.value_type(elem, lanes), x)) }
    }
    pub fn pack(&self, ty: TypeHandle, lanes: Vec<Value>) -> Value {
        if lanes.len() == 1 {
            return lanes[0];
        }
        self.value(&CompositeConstructOp::new(self.scope.ctx_mut(), ty, lanes))
    }
    pub fn lane(&self, x: Value, i: u32) -> Value {
        self.value(&CompositeExtractOp::new(self.scope.ctx_mut(), x, i as usize))
    }
    pub fn cast(&self, x: Value, to: TypeHandle) -> Value {
        self.value(&CastOp::new(self.scope.ctx_mut(), to, x))
    }
    pub fn bits(&self, x: Value, to: TypeHandle) -> Value {
        self.value(&ReinterpretCastOp::new(self.scope.ctx_mut(), to, x))
    }
    pub fn to_index(&self, x: Value) -> Value {
        self.cast(x, ElemType::Index.to_type(self.scope.ctx()))
    }
    pub fn select(&self, p: Value, a: Value, b: Value) -> Value {
        self.value(&SelectOp::new(self.scope.ctx_mut(), p, a, b))
    }
    pub fn fma(&self, a: Value, b: Value, c: Value) -> Value {
        self.value(&FmaOp::new(self.scope.ctx_mut(), a, b, c))
    }

    /// The number of the cube.
    pub fn cube(&self) -> Value {
        let ty = ElemType::Index.to_type(self.scope.ctx());
        self.value(&ReadBuiltinOp::new(self.scope.ctx_mut(), ty, Builtin::CubePos))
    }
    /// The number of the thread in its cube.
    pub fn thread(&self) -> Value {
        let ty = U32.to_type(self.scope.ctx());
        self.to_index(self.value(&ReadBuiltinOp::new(self.scope.ctx_mut(), ty, Builtin::UnitPos)))
    }
    /// A number given at the launch.
    pub fn scalar(&self, id: usize) -> Value {
        let ty = U32.to_type(self.scope.ctx());
        self.to_index(self.value(&ReadScalarOp::new(self.scope.ctx_mut(), ty, id)))
    }

    pub fn local(&self, ty: TypeHandle) -> Value {
        self.scope.create_local_mut(ty, None)
    }
    pub fn shared(&self, ty: TypeHandle, n: usize, align: usize) -> Value {
        self.scope.create_shared(self.array(ty, n), Some(align))
    }
    /// Shared memory from a place on, as an array of another type. CUDA alone can.
    pub fn shared_as(&self, place: Value, ty: TypeHandle, n: usize) -> Value {
        let ty = PointerType::get(self.scope.ctx(), self.array(ty, n), AddressSpace::Shared);
        self.bits(place, ty.into())
    }
    pub fn get(&self, place: Value) -> Value {
        self.value(&LoadOp::new(self.scope.ctx_mut(), place))
    }
    pub fn set(&self, place: Value, x: Value) {
        self.put(&StoreOp::new(self.scope.ctx_mut(), place, x));
    }
    pub fn at(&self, memory: Value, i: Value) -> Value {
        self.value(&IndexOp::maybe_checked(self.scope.ctx_mut(), memory, i, false))
    }

    pub fn if_(&self, p: Value, then: impl FnOnce(&Block), otherwise: impl FnOnce(&Block)) {
        let op = IfOp::new(self.scope.ctx_mut(), p);
        let yes = self.scope.child(OpInserter::new_at_block_end(op.then_block(self.scope.ctx())));
        then(&Block { scope: &yes });
        yes.terminate_yield();
        let no = self.scope.child(OpInserter::new_at_block_end(op.else_block(self.scope.ctx())));
        otherwise(&Block { scope: &no });
        no.terminate_yield();
        self.put(&op);
    }
    pub fn for_(&self, (from, to, step): (Value, Value, i64), body: impl FnOnce(&Block, Value)) {
        let step = self.index(step);
        let op = RangeLoopOp::new(self.scope.ctx_mut(), from, to, step);
        let inner = self.scope.child(OpInserter::new_at_block_end(op.loop_body(self.scope.ctx())));
        body(&Block { scope: &inner }, op.iter_var(self.scope.ctx()));
        inner.terminate_yield();
        self.put(&op);
    }
    pub fn barrier(&self) {
        self.put(&SyncOp::new(self.scope.ctx_mut(), SyncScope::Cube));
    }
}

/// How an element lies in memory.
pub fn memory_elem(elem: Elem) -> ElemType {
    match elem {
        Elem::F32 => F32,
        Elem::BF16 => ElemType::Float(FloatKind::BF16),
        Elem::F16 => ElemType::Float(FloatKind::F16),
        Elem::I32 => I32,
        Elem::U32 | Elem::Bool => U32,
    }
}
