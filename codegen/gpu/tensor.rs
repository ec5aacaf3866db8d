//! What NVIDIA's machines alone have: asynchronous copies to shared memory, and products of matrices that a plane of threads holds.

use super::build::{Block, F32, U32, U64};
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

    /// What a group's product is told of a tile: where it begins, that its rows are contiguous along the sums, 128 bytes and swizzled, and
    /// that eight of them are 1024 bytes (the matrix descriptor of the PTX manual).
    pub fn descriptor(&self, tile: Value) -> Value {
        let text =
            "{\n.reg .b64 at;\ncvta.to.shared.u64 at, $1;\nand.b64 at, at, 0x3ffff;\nshr.u64 at, at, 4;\nor.b64 $0, at, 0x4000004000010000;\n}";
        self.assembly(Some(self.vector(U64, 1)), text, vec![tile]).expect("a descriptor is a number")
    }

    pub fn fence(&self) {
        self.assembly(None, "fence.proxy.async.shared::cta;", vec![]);
    }

    /// sums + a bᵀ of a group of planes, four steps of sixteen sums, finished when it returns. The sums go in as an operand and come out
    /// as the result, for an instruction's text has no operand that is both; the compiler makes one of the two.
    pub fn group_mma(&self, elem: Elem, sums: Value, [a, b]: [Value; 2], columns: usize) -> Value {
        let n = columns / 2;
        let moves: String = (0..n).map(|i| format!("mov.f32 %{i}, %{};\n", n + i)).collect();
        let step = |k: usize| {
            format!(
                "add.s64 at, %{}, {};\nadd.s64 bt, %{}, {};\nwgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{elem}.{elem} $0, at, bt, 1, 1, 1, 0, 0;\n",
                2 * n,
                2 * k,
                2 * n + 1,
                2 * k
            )
        };
        let steps: String = (0..4).map(step).collect();
        // every operand has to be named once
        let text = format!(
            "{{\n.reg .b64 at, bt;\n// $1 $2 $3\n{moves}wgmma.fence.sync.aligned;\n{steps}wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n}}"
        );
        self.ordered(Some(self.vector(F32, n as u32)), &text, vec![sums, a, b]).expect("a product has a result")
    }

    /// What the thread of the plane has whose number differs in these bits.
    pub fn exchange(&self, x: Value, bits: usize) -> Value {
        let bits = self.word(bits as u32);
        self.value(&ShuffleXorOp::new(self.scope.ctx_mut(), x, bits))
    }

    /// One instruction of PTX; with a result it is a function of its operands, without one it orders memory.
    fn assembly(&self, result: Option<TypeHandle>, text: &str, operands: Vec<Value>) -> Option<Value> {
        let pure = result.is_some();
        self.instruction(result, text, operands, pure)
    }

    /// The same, with a result and in its place among accesses to memory.
    fn ordered(&self, result: Option<TypeHandle>, text: &str, operands: Vec<Value>) -> Option<Value> {
        self.instruction(result, text, operands, false)
    }

    fn instruction(&self, result: Option<TypeHandle>, text: &str, operands: Vec<Value>, pure: bool) -> Option<Value> {
        let spec = operands.iter().map(|_| InputSpec::new(InputKind::In, RegSpec::Inferred)).collect();
        let registers = result.iter().map(|_| RegSpec::Inferred).collect();
        let memory = if pure { MemoryClobbers::Nomem } else { MemoryClobbers::ReadWrite };
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
