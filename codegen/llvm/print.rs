//! The LLVM printer: one arm a statement, one arm an expression.
//!
//! Locals are stack slots, one an element of the array, which LLVM's SROA turns into registers.

use super::host::has_pairs;
use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, Stmt, Var};
use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::builder::Builder;
use inkwell::context::Context;
use inkwell::intrinsics::Intrinsic;
use inkwell::module::Module;
use inkwell::targets::TargetMachine;
use inkwell::types::{BasicType, BasicTypeEnum, VectorType};
use inkwell::values::{BasicMetadataValueEnum, BasicValue, BasicValueEnum, FunctionValue, IntValue, PointerValue, ValueKind};
use inkwell::{FloatPredicate, IntPredicate};
use ir::{Bin, Red};

/// A builder method on two vectors or two whole numbers.
macro_rules! by_lanes {
    ($self:ident, $x:expr, $y:expr, |$b:ident, $p:ident, $q:ident| $call:expr) => {{
        let $b = &$self.builder;
        match ($x, $y) {
            (V::VectorValue($p), V::VectorValue($q)) => V::from($call.expect(POSITIONED)),
            (x, y) => {
                let ($p, $q) = (x.into_int_value(), y.into_int_value());
                V::from($call.expect(POSITIONED))
            }
        }
    }};
}

type V<'c> = BasicValueEnum<'c>;

/// An index variable while printing: unrolled ones are constants.
#[derive(Clone, Copy)]
enum Known<'c> {
    Number(i64),
    Value(IntValue<'c>),
}

/// The printer of one kernel.
pub(super) struct Printer<'c, 'm> {
    context: &'c Context,
    module: &'m Module<'c>,
    builder: Builder<'c>,
    function: FunctionValue<'c>,
    kernel: &'m Kernel,
    args: Vec<PointerValue<'c>>,
    scratch: Vec<PointerValue<'c>>,
    locals: Vec<Vec<PointerValue<'c>>>,
    vars: Vec<Option<Known<'c>>>,
    /// Whether the machine has an instruction for products of pairs.
    pairs: bool,
}

/// LLVM's builder fails only where it is not positioned in a block, which this printer always is.
const POSITIONED: &str = "the builder stands in a block";

/// Adds a kernel to a module as `name(ptr *buffers, i64 lo, i64 hi, ptr scratch)`.
pub(super) fn print<'c>(context: &'c Context, module: &Module<'c>, kernel: &Kernel, name: &str, machine: &TargetMachine, width: u32) {
    let (ptr, i64) = (context.ptr_type(Default::default()), context.i64_type());
    let ty = context.void_type().fn_type(&[ptr.into(), i64.into(), i64.into(), ptr.into()], false);
    let function = module.add_function(name, ty, None);
    let kind = Attribute::get_named_enum_kind_id("nounwind");
    function.add_attribute(AttributeLoc::Function, context.create_enum_attribute(kind, 0));
    let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
    for (key, value) in [
        ("prefer-vector-width", (width * 32).to_string()),
        ("target-cpu", text(machine.get_cpu().as_ref())),
        ("target-features", text(machine.get_feature_string())),
    ] {
        function.add_attribute(AttributeLoc::Function, context.create_string_attribute(key, &value));
    }
    let builder = context.create_builder();
    builder.position_at_end(context.append_basic_block(function, "entry"));
    let vars = vec![None; kernel.vars.len()];
    let pairs = has_pairs(&text(machine.get_feature_string()));
    let mut p = Printer { context, module, builder, function, kernel, args: vec![], scratch: vec![], locals: vec![], vars, pairs };
    p.prologue();
    p.block(&kernel.body);
    p.builder.build_return(None).expect(POSITIONED);
}

impl<'c> Printer<'c, '_> {
    fn prologue(&mut self) {
        let param = |i| self.function.get_nth_param(i).expect("the function has four parameters");
        let (buffers, lo, hi, scratch) =
            (param(0).into_pointer_value(), param(1).into_int_value(), param(2).into_int_value(), param(3).into_pointer_value());
        (self.vars[0], self.vars[1]) = (Some(Known::Value(lo)), Some(Known::Value(hi)));
        let ptr = self.context.ptr_type(Default::default());
        for i in 0..self.kernel.params.len() {
            let at = self.offset(buffers, ptr.into(), self.i64(i as i64));
            self.args.push(self.builder.build_load(ptr, at, "a").expect(POSITIONED).into_pointer_value());
        }
        for start in self.kernel.scratch_offsets().0 {
            self.scratch.push(self.offset(scratch, self.context.f32_type().into(), self.i64(start as i64)));
        }
        for l in &self.kernel.locals {
            let ty = self.value_type(l.elem, l.lanes);
            self.locals.push((0..l.count).map(|_| self.builder.build_alloca(ty, &l.name).expect(POSITIONED)).collect());
        }
    }

    fn i64(&self, n: i64) -> IntValue<'c> {
        self.context.i64_type().const_int(n as u64, true)
    }

    #[allow(unsafe_code)]
    fn offset(&self, base: PointerValue<'c>, ty: BasicTypeEnum<'c>, at: IntValue<'c>) -> PointerValue<'c> {
        // SAFETY: building an address is not an access; the kernel's accesses are inside its buffers, which the interpreter checks.
        unsafe { self.builder.build_gep(ty, base, &[at], "") }.expect(POSITIONED)
    }

    fn lane_type(&self, elem: Elem) -> BasicTypeEnum<'c> {
        match elem {
            Elem::F32 | Elem::BF16 | Elem::F16 => self.context.f32_type().into(),
            Elem::I32 | Elem::U32 => self.context.i32_type().into(),
            Elem::Bool => self.context.bool_type().into(),
        }
    }

    fn value_type(&self, elem: Elem, lanes: u32) -> BasicTypeEnum<'c> {
        vector(self.lane_type(elem), lanes)
    }

    fn block(&mut self, body: &[Stmt]) {
        for s in body {
            self.stmt(s);
        }
    }

    fn stmt(&mut self, s: &Stmt) {
        match s {
            Stmt::For { var, lo, hi, step, unroll: true, body } => {
                let bound = |ix: &Ix| self.known(ix).expect("an unrolled loop has constant bounds");
                let (mut i, hi) = (bound(lo), bound(hi));
                while i < hi {
                    self.vars[var.0 as usize] = Some(Known::Number(i));
                    self.block(body);
                    i += step;
                }
            }
            Stmt::For { var, lo, hi, step, body, .. } => self.for_loop(*var, lo, hi, *step, body),
            Stmt::Let(v, ix) => {
                let value = match self.known(ix) {
                    Some(n) => Known::Number(n),
                    None => Known::Value(self.ix(ix)),
                };
                self.vars[v.0 as usize] = Some(value);
            }
            Stmt::LetValue(v, e) => {
                let value = self.expr(e).into_int_value();
                let wide = self.builder.build_int_s_extend(value, self.context.i64_type(), "").expect(POSITIONED);
                self.vars[v.0 as usize] = Some(Known::Value(wide));
            }
            Stmt::Set(l, at, e) => {
                let value = self.expr(e);
                let slot = self.slot(l.0, at);
                self.builder.build_store(slot, value).expect(POSITIONED);
            }
            Stmt::Store { buf, at, value, valid } => self.store(*buf, at, value, valid),
            Stmt::If { a, b, then, otherwise } => self.branch(a, b, then, otherwise),
            Stmt::Barrier
            | Stmt::CopyAsync { .. }
            | Stmt::Commit
            | Stmt::Wait(_)
            | Stmt::LoadMatrix { .. }
            | Stmt::Mma { .. }
            | Stmt::GroupMma { .. }
            | Stmt::Fence
            | Stmt::Pack { .. }
            | Stmt::Exchange { .. } => {
                unreachable!("a CPU's kernel has no cubes")
            }
            Stmt::Prefetch(buf, at) => self.prefetch(*buf, at),
            Stmt::Transpose { src, at, src_row, dst, to, dst_row } => self.transpose((*src, at, *src_row), (*dst, to, *dst_row)),
        }
    }

    fn for_loop(&mut self, var: Var, lo: &Ix, hi: &Ix, step: i64, body: &[Stmt]) {
        let (lo, hi) = (self.ix(lo), self.ix(hi));
        let b = |name| self.context.append_basic_block(self.function, name);
        let (header, exit) = (b("loop"), b("done"));
        let before = self.builder.get_insert_block().expect(POSITIONED);
        let any = self.builder.build_int_compare(IntPredicate::SLT, lo, hi, "").expect(POSITIONED);
        self.builder.build_conditional_branch(any, header, exit).expect(POSITIONED);
        self.builder.position_at_end(header);
        let i = self.builder.build_phi(self.context.i64_type(), &self.kernel.vars[var.0 as usize]).expect(POSITIONED);
        i.add_incoming(&[(&lo, before)]);
        let value = i.as_basic_value().into_int_value();
        self.vars[var.0 as usize] = Some(Known::Value(value));
        self.block(body);
        let latch = self.builder.get_insert_block().expect(POSITIONED);
        let next = self.builder.build_int_nsw_add(value, self.i64(step), "").expect(POSITIONED);
        i.add_incoming(&[(&next, latch)]);
        let more = self.builder.build_int_compare(IntPredicate::SLT, next, hi, "").expect(POSITIONED);
        self.builder.build_conditional_branch(more, header, exit).expect(POSITIONED);
        self.builder.position_at_end(exit);
    }

    fn branch(&mut self, a: &Ix, b: &Ix, then: &[Stmt], otherwise: &[Stmt]) {
        if let (Some(a), Some(b)) = (self.known(a), self.known(b)) {
            return self.block(if a < b { then } else { otherwise });
        }
        let less = self.builder.build_int_compare(IntPredicate::SLT, self.ix(a), self.ix(b), "").expect(POSITIONED);
        let block = |name| self.context.append_basic_block(self.function, name);
        let (yes, no, end) = (block("then"), block("else"), block("end"));
        self.builder.build_conditional_branch(less, yes, no).expect(POSITIONED);
        for (at, body) in [(yes, then), (no, otherwise)] {
            self.builder.position_at_end(at);
            self.block(body);
            self.builder.build_unconditional_branch(end).expect(POSITIONED);
        }
        self.builder.position_at_end(end);
    }

    /// The value of an index whose variables are all unrolled.
    fn known(&self, ix: &Ix) -> Option<i64> {
        ix.value(&|v| match self.vars[v.0 as usize]? {
            Known::Number(n) => Some(n),
            Known::Value(_) => None,
        })
    }

    fn ix(&self, ix: &Ix) -> IntValue<'c> {
        if let Some(n) = self.known(ix) {
            return self.i64(n);
        }
        let b = &self.builder;
        let choose = |p, x: IntValue<'c>, y: IntValue<'c>| {
            let c = b.build_int_compare(p, x, y, "").expect(POSITIONED);
            b.build_select(c, x, y, "").expect(POSITIONED).into_int_value()
        };
        match ix {
            Ix::Const(n) => self.i64(*n),
            Ix::Var(v) => match self.vars[v.0 as usize].expect("an index is named before it is used") {
                Known::Number(n) => self.i64(n),
                Known::Value(v) => v,
            },
            Ix::Add(x, y) => b.build_int_nsw_add(self.ix(x), self.ix(y), "").expect(POSITIONED),
            Ix::Sub(x, y) => b.build_int_nsw_sub(self.ix(x), self.ix(y), "").expect(POSITIONED),
            Ix::Mul(x, y) => b.build_int_nsw_mul(self.ix(x), self.ix(y), "").expect(POSITIONED),
            Ix::Div(x, y) => b.build_int_signed_div(self.ix(x), self.ix(y), "").expect(POSITIONED),
            Ix::Rem(x, y) => b.build_int_signed_rem(self.ix(x), self.ix(y), "").expect(POSITIONED),
            Ix::Min(x, y) => choose(IntPredicate::SLT, self.ix(x), self.ix(y)),
            Ix::Max(x, y) => choose(IntPredicate::SGT, self.ix(x), self.ix(y)),
            Ix::Xor(x, y) => b.build_xor(self.ix(x), self.ix(y), "").expect(POSITIONED),
        }
    }

    fn slot(&self, local: u32, at: &Ix) -> PointerValue<'c> {
        let at = self.known(at).expect("a register tile is indexed by constants");
        self.locals[local as usize][at as usize]
    }

    fn elem_of(&self, buf: Buf) -> Elem {
        match buf {
            Buf::Arg(i) => self.kernel.params[i].elem,
            Buf::Scratch(i) => self.kernel.scratch[i].0,
            Buf::Shared(_) => unreachable!("a CPU's kernel shares no memory"),
        }
    }

    fn address(&self, buf: Buf, at: &Ix) -> PointerValue<'c> {
        let base = match buf {
            Buf::Arg(i) => self.args[i],
            Buf::Scratch(i) => self.scratch[i],
            Buf::Shared(_) => unreachable!("a CPU's kernel shares no memory"),
        };
        self.offset(base, self.memory_type(self.elem_of(buf), 1), self.ix(at))
    }

    /// Truth is a word in memory, and a float may be shorter there.
    fn memory_type(&self, elem: Elem, lanes: u32) -> BasicTypeEnum<'c> {
        let one = match elem {
            Elem::Bool => self.context.i32_type().into(),
            Elem::BF16 => self.context.i16_type().into(),
            Elem::F16 => self.context.f16_type().into(),
            Elem::F32 | Elem::I32 | Elem::U32 => self.lane_type(elem),
        };
        vector(one, lanes)
    }

    /// A value as it is computed with, from what memory holds.
    fn widen(&self, x: V<'c>, elem: Elem) -> V<'c> {
        match elem {
            Elem::Bool => self.int_compare(IntPredicate::NE, x, x.get_type().const_zero()),
            Elem::BF16 => self.bits_to_float(self.shift_left(self.zero_extend(x, self.value_type(Elem::I32, lanes_of(x))), 16)),
            Elem::F16 => match (x, self.value_type(elem, lanes_of(x))) {
                (V::VectorValue(x), ty) => self.builder.build_float_ext(x, ty.into_vector_type(), "").expect(POSITIONED).into(),
                (x, ty) => self.builder.build_float_ext(x.into_float_value(), ty.into_float_type(), "").expect(POSITIONED).into(),
            },
            Elem::F32 | Elem::I32 | Elem::U32 => x,
        }
    }

    /// A value as memory holds it.
    fn narrow(&self, x: V<'c>, elem: Elem) -> V<'c> {
        let ty = self.memory_type(elem, lanes_of(x));
        match elem {
            Elem::Bool => self.zero_extend(x, ty),
            Elem::BF16 => {
                // to the nearest, ties to even; NaN stays NaN
                let bits = self.float_to_bits(x);
                let odd = self.shift_right(self.shift_left(bits, 15), 31);
                let rounded = self.int_add(self.int_add(bits, self.int_like(bits, 0x7FFF)), odd);
                let quiet = self.int_like(bits, 0x7FC0_0000);
                let kept = self.select(self.compare(FloatPredicate::UNO, x, x), quiet, rounded);
                let high = self.shift_right(kept, 16);
                match (high, ty) {
                    (V::VectorValue(h), ty) => self.builder.build_int_truncate(h, ty.into_vector_type(), "").expect(POSITIONED).into(),
                    (h, ty) => self.builder.build_int_truncate(h.into_int_value(), ty.into_int_type(), "").expect(POSITIONED).into(),
                }
            }
            Elem::F16 => match (x, ty) {
                (V::VectorValue(x), ty) => self.builder.build_float_trunc(x, ty.into_vector_type(), "").expect(POSITIONED).into(),
                (x, ty) => self.builder.build_float_trunc(x.into_float_value(), ty.into_float_type(), "").expect(POSITIONED).into(),
            },
            Elem::F32 | Elem::I32 | Elem::U32 => x,
        }
    }

    fn load(&self, buf: Buf, at: &Ix, lanes: u32, valid: &Option<Ix>) -> V<'c> {
        let elem = self.elem_of(buf);
        let (p, ty) = (self.address(buf, at), self.memory_type(elem, lanes));
        let loaded = match valid.as_ref().filter(|_| lanes > 1) {
            None => {
                let v = self.builder.build_load(ty, p, "").expect(POSITIONED);
                align(v.as_instruction_value().expect("a load is an instruction"), elem);
                v
            }
            Some(valid) => {
                let align = self.context.i32_type().const_int(elem.bytes() as u64, false);
                let args = [p.into(), align.into(), self.mask(valid, lanes).into(), ty.const_zero().into()];
                self.call("llvm.masked.load", &[ty, p.get_type().into()], &args).expect("a load has a value")
            }
        };
        self.widen(loaded, elem)
    }

    /// Words of two elements each.
    fn words(&self, buf: Buf, at: &Ix, lanes: u32) -> V<'c> {
        let v = self.builder.build_load(self.value_type(Elem::U32, lanes), self.address(buf, at), "").expect(POSITIONED);
        align(v.as_instruction_value().expect("a load is an instruction"), self.elem_of(buf));
        v
    }

    /// a₀ b₀ + (a₁ b₁ + c) of words, by the machine's instruction where it has one.
    fn dot(&self, a: V<'c>, b: V<'c>, c: V<'c>) -> V<'c> {
        let lanes = lanes_of(c);
        if !self.pairs || lanes < 4 {
            let low = |x| self.bits_to_float(self.shift_left(x, 16));
            let high = |x| self.bits_to_float(self.int_and(x, self.int_like(x, 0xFFFF_0000)));
            return self.fma(low(a), low(b), self.fma(high(a), high(b), c));
        }
        let halves = self.context.bf16_type().vec_type(2 * lanes);
        let [a, b] = [a, b].map(|x| self.builder.build_bit_cast(x, halves, "").expect(POSITIONED));
        let name = format!("llvm.x86.avx512bf16.dpbf16ps.{}", 32 * lanes);
        self.call(&name, &[], &[c.into(), a.into(), b.into()]).expect("a sum has a value")
    }

    fn store(&mut self, buf: Buf, at: &Ix, value: &Expr, valid: &Option<Ix>) {
        let elem = self.elem_of(buf);
        let value = self.expr(value);
        let lanes = lanes_of(value);
        let value = self.narrow(value, elem);
        let p = self.address(buf, at);
        match valid.as_ref().filter(|_| lanes > 1) {
            None => align(self.builder.build_store(p, value).expect(POSITIONED), elem),
            Some(valid) => {
                let align = self.context.i32_type().const_int(elem.bytes() as u64, false);
                let args = [value.into(), p.into(), align.into(), self.mask(valid, lanes).into()];
                self.call("llvm.masked.store", &[value.get_type(), p.get_type().into()], &args);
            }
        }
    }

    /// Lanes before `valid`.
    fn mask(&self, valid: &Ix, lanes: u32) -> V<'c> {
        let i32 = self.context.i32_type();
        let bounded = self.ix(&valid.clone().min(i64::from(lanes)).max(0));
        let n = self.builder.build_int_truncate(bounded, i32, "").expect(POSITIONED);
        let ramp: Vec<IntValue> = (0..lanes).map(|i| i32.const_int(i.into(), false)).collect();
        if lanes == 1 {
            return self.int_compare(IntPredicate::SLT, ramp[0].into(), n.into());
        }
        self.int_compare(IntPredicate::SLT, VectorType::const_vector(&ramp).into(), self.splat(n.into(), lanes))
    }

    fn splat(&self, x: V<'c>, lanes: u32) -> V<'c> {
        if lanes == 1 {
            return x;
        }
        let ty = vector(x.get_type(), lanes).into_vector_type();
        let i32 = self.context.i32_type();
        let first = self.builder.build_insert_element(ty.get_undef(), x, i32.const_zero(), "").expect(POSITIONED);
        let zeros = i32.vec_type(lanes).const_zero();
        self.builder.build_shuffle_vector(first, ty.get_undef(), zeros, "").expect(POSITIONED).into()
    }

    fn side_by_side(&self, lanes: &[V<'c>]) -> V<'c> {
        let (ty, i32) = (vector(lanes[0].get_type(), lanes.len() as u32).into_vector_type(), self.context.i32_type());
        let insert = |to, (i, x): (usize, &V<'c>)| self.builder.build_insert_element(to, *x, i32.const_int(i as u64, false), "").expect(POSITIONED);
        lanes.iter().enumerate().fold(ty.get_undef(), insert).into()
    }

    #[allow(unsafe_code)]
    fn shuffle(&self, a: V<'c>, b: V<'c>, lanes: &[u32]) -> V<'c> {
        use inkwell::llvm_sys::core::LLVMBuildShuffleVector;
        use inkwell::values::AsValueRef;
        let i32 = self.context.i32_type();
        let order: Vec<IntValue> = lanes.iter().map(|i| i32.const_int((*i).into(), false)).collect();
        let order = VectorType::const_vector(&order);
        // SAFETY: the builder, both vectors of one type and the constant order belong to this context; the safe wrapper wants an order
        // as long as the operands, which halving has not.
        unsafe { V::new(LLVMBuildShuffleVector(self.builder.as_mut_ptr(), a.as_value_ref(), b.as_value_ref(), order.as_value_ref(), c"".as_ptr())) }
    }

    /// To be read once, into the cache that a thread has to itself.
    fn prefetch(&self, buf: Buf, at: &Ix) {
        let p = self.address(buf, at);
        let [read, second_level, data] = [0, 2, 1].map(|n| self.context.i32_type().const_int(n, false));
        self.call("llvm.prefetch", &[p.get_type().into()], &[p.into(), read.into(), second_level.into(), data.into()]);
    }

    fn transpose(&mut self, src: (Buf, &Ix, i64), dst: (Buf, &Ix, i64)) {
        let n = self.kernel.locals.iter().map(|l| l.lanes).max().unwrap_or(1);
        let (from, to) = (self.elem_of(src.0), self.elem_of(dst.0));
        let row = |i: u32| {
            let at = src.1.clone() + i64::from(i) * src.2;
            if to == Elem::U32 && from.is_half() { self.words(src.0, &at, n) } else { self.load(src.0, &at, n, &None) }
        };
        let mut rows: Vec<V> = (0..n).map(row).collect();
        let low: Vec<u32> = (0..n / 2).flat_map(|i| [i, i + n]).collect();
        let high: Vec<u32> = (n / 2..n).flat_map(|i| [i, i + n]).collect();
        for _ in 0..n.trailing_zeros() {
            let (upper, lower) = rows.split_at(n as usize / 2);
            rows = upper.iter().zip(lower).flat_map(|(a, b)| [self.shuffle(*a, *b, &low), self.shuffle(*a, *b, &high)]).collect();
        }
        for (j, row) in rows.into_iter().enumerate() {
            let p = self.address(dst.0, &(dst.1.clone() + j as i64 * dst.2));
            align(self.builder.build_store(p, row).expect(POSITIONED), to);
        }
    }

    fn expr(&mut self, e: &Expr) -> V<'c> {
        match e {
            Expr::Const(x, elem) => match elem {
                Elem::F32 | Elem::BF16 | Elem::F16 => self.context.f32_type().const_float(f64::from(*x as f32)).into(),
                Elem::I32 | Elem::U32 => self.context.i32_type().const_int(*x as i64 as u64, true).into(),
                Elem::Bool => self.context.bool_type().const_int(u64::from(*x != 0.0), false).into(),
            },
            Expr::Local(l, at) => {
                let local = &self.kernel.locals[l.0 as usize];
                self.builder.build_load(self.value_type(local.elem, local.lanes), self.slot(l.0, at), "").expect(POSITIONED)
            }
            Expr::Load { buf, at, lanes, valid } => self.load(*buf, at, *lanes, valid),
            Expr::Splat(x, lanes) => {
                let x = self.expr(x);
                self.splat(x, *lanes)
            }
            Expr::Index(i) => self.index(i).into(),
            Expr::Ramp { base, step, lanes } => {
                let i32 = self.context.i32_type();
                let steps: Vec<IntValue> = (0..i64::from(*lanes)).map(|i| i32.const_int((i * step) as u64, true)).collect();
                self.int_add(self.splat(self.index(base).into(), *lanes), VectorType::const_vector(&steps).into())
            }
            Expr::Un(u, x) => {
                let x = self.expr(x);
                self.unary(*u, x)
            }
            Expr::Bin(op, x, y) => {
                let elem = self.kernel.elem(x);
                let (x, y) = (self.expr(x), self.expr(y));
                self.binary(*op, elem, x, y)
            }
            Expr::Fma(a, b, c) => {
                let (a, b, c) = (self.expr(a), self.expr(b), self.expr(c));
                self.fma(a, b, c)
            }
            Expr::Word(a, b) => {
                let (a, b) = (self.expr(a), self.expr(b));
                let (low, high) = (self.shift_right(self.float_to_bits(a), 16), self.float_to_bits(b));
                self.int_or(low, self.int_and(high, self.int_like(high, 0xFFFF_0000)))
            }
            Expr::Words { buf, at, lanes } => self.words(*buf, at, *lanes),
            Expr::Dot(a, b, c) => {
                let (a, b, c) = (self.expr(a), self.expr(b), self.expr(c));
                self.dot(a, b, c)
            }
            Expr::Select(p, a, b) => {
                let (p, a, b) = (self.expr(p), self.expr(a), self.expr(b));
                self.select(p, a, b)
            }
            Expr::Cast(to, x) => {
                let from = self.kernel.elem(x);
                let x = self.expr(x);
                self.cast(from, *to, x)
            }
            Expr::Keep { valid, a, b } => {
                let (a, b) = (self.expr(a), self.expr(b));
                let mask = self.mask(valid, lanes_of(a));
                self.select(mask, a, b)
            }
            Expr::Lanes(red, x) => {
                let mut x = self.expr(x);
                let mut n = lanes_of(x);
                while n > 1 {
                    let (low, high): (Vec<u32>, Vec<u32>) = ((0..n / 2).collect(), (n / 2..n).collect());
                    let (a, b) = (self.shuffle(x, x, &low), self.shuffle(x, x, &high));
                    x = self.binary(if *red == Red::Sum { Bin::Add } else { Bin::Maximum }, Elem::F32, a, b);
                    n /= 2;
                }
                let zero = self.context.i32_type().const_zero();
                self.builder.build_extract_element(x.into_vector_value(), zero, "").expect(POSITIONED)
            }
            Expr::Vector(lanes) => {
                let lanes: Vec<V> = lanes.iter().map(|x| self.expr(x)).collect();
                self.side_by_side(&lanes)
            }
            Expr::Pair(x, i) => {
                let x = self.expr(x);
                self.shuffle(x, x, &[*i, i + 1])
            }
            Expr::Lane(x, i) => {
                let (x, i) = (self.expr(x), self.context.i32_type().const_int((*i).into(), false));
                self.builder.build_extract_element(x.into_vector_value(), i, "").expect(POSITIONED)
            }
            Expr::Random { key, counter } => {
                let (key, counter) = (self.expr(key), self.expr(counter));
                let spread = self.int_mul(key, self.int_like(key, 0x9E37_79B9));
                self.mix(self.int_add(self.mix(self.int_xor(counter, key)), spread))
            }
        }
    }

    /// As `ir::random_bits` mixes.
    fn mix(&self, x: V<'c>) -> V<'c> {
        let x = self.int_xor(x, self.shift_right(x, 16));
        let x = self.int_mul(x, self.int_like(x, 0x7FEB_352D));
        let x = self.int_xor(x, self.shift_right(x, 15));
        let x = self.int_mul(x, self.int_like(x, 0x846C_A68B));
        self.int_xor(x, self.shift_right(x, 16))
    }

    fn index(&self, i: &Ix) -> IntValue<'c> {
        self.builder.build_int_truncate(self.ix(i), self.context.i32_type(), "").expect(POSITIONED)
    }

    fn binary(&self, op: Bin, elem: Elem, x: V<'c>, y: V<'c>) -> V<'c> {
        let float = elem == Elem::F32;
        let unsigned = matches!(elem, Elem::U32 | Elem::Bool);
        let test = |f, s, u| match float {
            true => self.compare(f, x, y),
            false => self.int_compare(if unsigned { u } else { s }, x, y),
        };
        let extreme = |x_wins| {
            let chosen = self.select(x_wins, x, y);
            // a second operand that is NaN was chosen; a first one is here
            if float { self.select(self.compare(FloatPredicate::UNO, x, x), x, chosen) } else { chosen }
        };
        match op {
            Bin::Add => {
                if float {
                    self.add(x, y)
                } else {
                    self.int_add(x, y)
                }
            }
            Bin::Sub => {
                if float {
                    self.sub(x, y)
                } else {
                    self.int_sub(x, y)
                }
            }
            Bin::Mul => {
                if float {
                    self.mul(x, y)
                } else {
                    self.int_mul(x, y)
                }
            }
            Bin::Div => self.div(x, y),
            Bin::Pow => self.intrinsic("llvm.pow", &[x, y]),
            Bin::Maximum => extreme(test(FloatPredicate::OGT, IntPredicate::SGT, IntPredicate::UGT)),
            Bin::Minimum => extreme(test(FloatPredicate::OLT, IntPredicate::SLT, IntPredicate::ULT)),
            Bin::Lt => test(FloatPredicate::OLT, IntPredicate::SLT, IntPredicate::ULT),
            Bin::Le => test(FloatPredicate::OLE, IntPredicate::SLE, IntPredicate::ULE),
            Bin::Eq => test(FloatPredicate::OEQ, IntPredicate::EQ, IntPredicate::EQ),
            Bin::And => self.int_and(x, y),
            Bin::Shr => self.shift(x, self.int_and(y, self.int_like(y, 31)), !unsigned),
        }
    }

    fn cast(&self, from: Elem, to: Elem, x: V<'c>) -> V<'c> {
        let ty = self.value_type(to, lanes_of(x));
        match (from, to) {
            (Elem::F32, Elem::BF16 | Elem::F16) => self.widen(self.narrow(x, to), to),
            (Elem::I32 | Elem::U32 | Elem::Bool, Elem::BF16 | Elem::F16) => self.cast(Elem::F32, to, self.cast(from, Elem::F32, x)),
            (Elem::BF16 | Elem::F16, _) => unreachable!("a value is computed in 32 bits"),
            (Elem::F32, Elem::F32) | (Elem::I32 | Elem::U32, Elem::I32 | Elem::U32) | (Elem::Bool, Elem::Bool) => x,
            (Elem::F32, Elem::I32) => self.call("llvm.fptosi.sat", &[ty, x.get_type()], &[x.into()]).expect("a cast has a value"),
            (Elem::F32, Elem::U32) => self.call("llvm.fptoui.sat", &[ty, x.get_type()], &[x.into()]).expect("a cast has a value"),
            (Elem::F32, Elem::Bool) => self.compare(FloatPredicate::UNE, x, x.get_type().const_zero()),
            (Elem::I32, Elem::F32) => self.to_float(x),
            (Elem::U32 | Elem::Bool, Elem::F32) => self.unsigned_to_float(x),
            (Elem::I32 | Elem::U32, Elem::Bool) => self.int_compare(IntPredicate::NE, x, x.get_type().const_zero()),
            (Elem::Bool, Elem::I32 | Elem::U32) => self.zero_extend(x, ty),
        }
    }

    pub(super) fn call(&self, name: &str, types: &[BasicTypeEnum<'c>], args: &[BasicMetadataValueEnum<'c>]) -> Option<V<'c>> {
        let function = Intrinsic::find(name).and_then(|i| i.get_declaration(self.module, types)).unwrap_or_else(|| panic!("LLVM has no {name}"));
        match self.builder.build_call(function, args, "").expect(POSITIONED).try_as_basic_value() {
            ValueKind::Basic(v) => Some(v),
            ValueKind::Instruction(_) => None,
        }
    }

    pub(super) fn intrinsic(&self, name: &str, args: &[V<'c>]) -> V<'c> {
        let args: Vec<BasicMetadataValueEnum> = args.iter().map(|a| (*a).into()).collect();
        let ty = BasicValueEnum::try_from(args[0]).expect("an operand is a value").get_type();
        self.call(name, &[ty], &args).expect("a function has a value")
    }

    pub(super) fn fma(&self, a: V<'c>, b: V<'c>, c: V<'c>) -> V<'c> {
        self.intrinsic("llvm.fma", &[a, b, c])
    }

    /// A constant of the type of `x`.
    pub(super) fn like(&self, x: V<'c>, n: f64) -> V<'c> {
        self.splat(self.context.f32_type().const_float(f64::from(n as f32)).into(), lanes_of(x))
    }

    pub(super) fn int_like(&self, x: V<'c>, n: u64) -> V<'c> {
        self.splat(self.context.i32_type().const_int(n, false).into(), lanes_of(x))
    }

    pub(super) fn shift_left(&self, x: V<'c>, n: u64) -> V<'c> {
        by_lanes!(self, x, self.int_like(x, n), |b, x, n| b.build_left_shift(x, n, ""))
    }
    pub(super) fn shift_right(&self, x: V<'c>, n: u64) -> V<'c> {
        self.shift(x, self.int_like(x, n), false)
    }
    pub(super) fn shift_right_signed(&self, x: V<'c>, n: u64) -> V<'c> {
        self.shift(x, self.int_like(x, n), true)
    }
    fn shift(&self, x: V<'c>, n: V<'c>, signed: bool) -> V<'c> {
        by_lanes!(self, x, n, |b, x, n| b.build_right_shift(x, n, signed, ""))
    }
    pub(super) fn select(&self, p: V<'c>, a: V<'c>, b: V<'c>) -> V<'c> {
        if let V::VectorValue(p) = p {
            return self.builder.build_select(p, a, b, "").expect(POSITIONED);
        }
        self.builder.build_select(p.into_int_value(), a, b, "").expect(POSITIONED)
    }
    pub(super) fn compare(&self, p: FloatPredicate, x: V<'c>, y: V<'c>) -> V<'c> {
        match (x, y) {
            (V::VectorValue(x), V::VectorValue(y)) => self.builder.build_float_compare(p, x, y, "").expect(POSITIONED).into(),
            (x, y) => self.builder.build_float_compare(p, x.into_float_value(), y.into_float_value(), "").expect(POSITIONED).into(),
        }
    }
    fn int_compare(&self, p: IntPredicate, x: V<'c>, y: V<'c>) -> V<'c> {
        by_lanes!(self, x, y, |b, x, y| b.build_int_compare(p, x, y, ""))
    }
    fn zero_extend(&self, x: V<'c>, to: BasicTypeEnum<'c>) -> V<'c> {
        if let V::VectorValue(x) = x {
            return self.builder.build_int_z_extend(x, to.into_vector_type(), "").expect(POSITIONED).into();
        }
        self.builder.build_int_z_extend(x.into_int_value(), to.into_int_type(), "").expect(POSITIONED).into()
    }
    pub(super) fn to_int(&self, x: V<'c>) -> V<'c> {
        match (x, self.value_type(Elem::I32, lanes_of(x))) {
            (V::VectorValue(x), ty) => self.builder.build_float_to_signed_int(x, ty.into_vector_type(), "").expect(POSITIONED).into(),
            (x, ty) => self.builder.build_float_to_signed_int(x.into_float_value(), ty.into_int_type(), "").expect(POSITIONED).into(),
        }
    }
    pub(super) fn to_float(&self, x: V<'c>) -> V<'c> {
        match (x, self.value_type(Elem::F32, lanes_of(x))) {
            (V::VectorValue(x), ty) => self.builder.build_signed_int_to_float(x, ty.into_vector_type(), "").expect(POSITIONED).into(),
            (x, ty) => self.builder.build_signed_int_to_float(x.into_int_value(), ty.into_float_type(), "").expect(POSITIONED).into(),
        }
    }
    fn unsigned_to_float(&self, x: V<'c>) -> V<'c> {
        match (x, self.value_type(Elem::F32, lanes_of(x))) {
            (V::VectorValue(x), ty) => self.builder.build_unsigned_int_to_float(x, ty.into_vector_type(), "").expect(POSITIONED).into(),
            (x, ty) => self.builder.build_unsigned_int_to_float(x.into_int_value(), ty.into_float_type(), "").expect(POSITIONED).into(),
        }
    }
    pub(super) fn bits_to_float(&self, x: V<'c>) -> V<'c> {
        self.builder.build_bit_cast(x, self.value_type(Elem::F32, lanes_of(x)), "").expect(POSITIONED)
    }
    pub(super) fn float_to_bits(&self, x: V<'c>) -> V<'c> {
        self.builder.build_bit_cast(x, self.value_type(Elem::I32, lanes_of(x)), "").expect(POSITIONED)
    }
    pub(super) fn neg(&self, x: V<'c>) -> V<'c> {
        if let V::VectorValue(x) = x {
            return self.builder.build_float_neg(x, "").expect(POSITIONED).into();
        }
        self.builder.build_float_neg(x.into_float_value(), "").expect(POSITIONED).into()
    }
}

/// Arithmetic on two vectors or two scalars.
macro_rules! arithmetic {
    ($($name:ident $build:ident $into:ident),+) => {
        impl<'c> Printer<'c, '_> { $(
            pub(super) fn $name(&self, x: V<'c>, y: V<'c>) -> V<'c> {
                match (x, y) {
                    (V::VectorValue(x), V::VectorValue(y)) => self.builder.$build(x, y, "").expect(POSITIONED).into(),
                    (x, y) => self.builder.$build(x.$into(), y.$into(), "").expect(POSITIONED).into(),
                }
            }
        )+ }
    };
}
arithmetic!(
    add build_float_add into_float_value, sub build_float_sub into_float_value, mul build_float_mul into_float_value,
    div build_float_div into_float_value, int_add build_int_add into_int_value, int_sub build_int_sub into_int_value,
    int_mul build_int_mul into_int_value, int_xor build_xor into_int_value, int_and build_and into_int_value,
    int_or build_or into_int_value
);

fn vector(ty: BasicTypeEnum, lanes: u32) -> BasicTypeEnum {
    if lanes == 1 {
        return ty;
    }
    if let BasicTypeEnum::FloatType(t) = ty {
        return t.vec_type(lanes).as_basic_type_enum();
    }
    ty.into_int_type().vec_type(lanes).as_basic_type_enum()
}

fn lanes_of(x: V) -> u32 {
    if let V::VectorValue(v) = x { v.get_type().get_size() } else { 1 }
}

fn align(instruction: inkwell::values::InstructionValue, elem: Elem) {
    instruction.set_alignment(elem.bytes() as u32).expect("a power of two aligns");
}
