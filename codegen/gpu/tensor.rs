//! What NVIDIA's machines alone have: asynchronous copies to shared memory, and products of matrices that a plane of threads holds.

use super::build::{Block, F32, U32};
use crate::kernel::Elem;
use cubecl::ir::dialect::barrier::CopyAsyncOp;
use cubecl::ir::dialect::matrix::LdMatrixOp;
use cubecl::ir::dialect::plane::ShuffleXorOp;
use cubecl::ir::dialect::{InlineAsmOp, InputKind, InputSpec, MemoryClobbers, RegSpec};
use cubecl::ir::pliron::{r#type::TypeHandle, value::Value};

impl Block<'_> {
    /// Sixteen bytes, of which so many are read and the rest zeros.
    pub fn copy_async(&self, from: Value, to: Value, bytes: Value) {
        self.put(&CopyAsyncOp::new(self.scope.ctx_mut(), from, to, bytes, 16usize, true));
    }
    pub fn commit(&self) {
        self.assembly(None, "cp.async.commit_group;", vec![]);
    }
    pub fn wait(&self, but: usize) {
        self.assembly(None, &format!("cp.async.wait_group {but};"), vec![]);
    }

    /// Four matrices by the places of their rows, into a local of four words.
    pub fn load_matrix(&self, row: Value, to: Value, transposed: bool) {
        self.put(&LdMatrixOp::new(self.scope.ctx_mut(), row, to, 4usize, transposed));
    }

    /// a b + c, of 16 × 16, 16 × 8 and 16 × 8 elements.
    pub fn mma(&self, elem: Elem, a: Value, [b0, b1]: [Value; 2], c: Value) -> Value {
        let text = format!("mma.sync.aligned.m16n8k16.row.col.f32.{elem}.{elem}.f32 $0, $1, {{$2, $3}}, $4;");
        self.assembly(Some(self.vector(F32, 4)), &text, vec![a, b0, b1, c]).expect("a product has a result")
    }

    /// What the thread of the plane has whose number differs in these bits.
    pub fn exchange(&self, x: Value, bits: usize) -> Value {
        let bits = self.word(bits as u32);
        self.value(&ShuffleXorOp::new(self.scope.ctx_mut(), x, bits))
    }

    /// One instruction of PTX; with a result it is a function of its operands, without one it orders memory.
    fn assembly(&self, result: Option<TypeHandle>, text: &str, operands: Vec<Value>) -> Option<Value> {
        let spec = operands.iter().map(|_| InputSpec::new(InputKind::In, RegSpec::Inferred)).collect();
        let registers = result.iter().map(|_| RegSpec::Inferred).collect();
        let memory = if result.is_some() { MemoryClobbers::Nomem } else { MemoryClobbers::ReadWrite };
        let pure = result.is_some();
        let op = InlineAsmOp::new(self.scope.ctx_mut(), result.into_iter().collect(), registers, text.into(), memory, operands, spec);
        if pure {
            op.set_pure(self.scope.ctx());
        }
        self.put(&op);
        op.results(self.scope.ctx()).first().copied()
    }

    /// The type of a fragment in registers: four words of two elements.
    pub fn fragment(&self) -> TypeHandle {
        self.vector(U32, 4)
    }
}
