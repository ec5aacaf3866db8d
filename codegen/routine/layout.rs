//! Where the values of a function stand, and the copies that give a value a place.

use super::homes::{Home, axis_of};
use super::role::{Given, Role, View, role};
use super::steps::{Buffer, BufferKind, Routine, Step, Table};
use crate::kernel::{Elem, Param};
use crate::spec::{Access, Dag, Spec, Step as Pure, Store, Template};
use ir::{DType, Func, Name, NodeId, Type};
use std::collections::HashMap;

/// Shorter rows are not worth padding.
const WORTH_PADDING: usize = 64;

/// The operands of one kernel.
#[derive(Default)]
pub(crate) struct KernelArgs {
    pub buffers: Vec<usize>,
    pub params: Vec<Param>,
}

impl KernelArgs {
    /// The operand that is this buffer, new or known.
    pub(crate) fn arg(&mut self, buffer: usize, elem: Elem, written: bool) -> usize {
        match self.buffers.iter().position(|b| *b == buffer) {
            Some(i) => {
                self.params[i].written |= written;
                i
            }
            None => self.push(buffer, elem, written),
        }
    }

    /// The operand that a result in this buffer is: one with other results there, and with nothing that is read.
    pub(crate) fn result(&mut self, buffer: usize, elem: Elem) -> usize {
        let known = (0..self.buffers.len()).find(|i| self.buffers[*i] == buffer && self.params[*i].written);
        known.unwrap_or_else(|| self.push(buffer, elem, true))
    }

    /// A further operand, even of a known buffer.
    pub(crate) fn push(&mut self, buffer: usize, elem: Elem, written: bool) -> usize {
        self.buffers.push(buffer);
        self.params.push(Param { elem, written });
        self.buffers.len() - 1
    }
}

/// A routine while it is made: its buffers and steps, and where each value stands.
pub(crate) struct Layout<'a> {
    pub func: &'a Func,
    pub routine: Routine,
    pub table: &'a mut Table,
    homes: Vec<Option<Home>>,
    params: HashMap<Name, usize>,
}

impl<'a> Layout<'a> {
    /// Operands and parameters have their places from the start.
    pub(crate) fn new(func: &'a Func, table: &'a mut Table) -> Layout<'a> {
        let routine = Routine { name: func.name.clone(), ..Routine::default() };
        let mut out = Layout { func, routine, table, homes: vec![None; func.nodes.len()], params: HashMap::new() };
        for id in func.ids() {
            let ty = func.ty(id);
            let Role::Given(given) = role(&func.node(id).op) else { continue };
            let buffer = match given {
                Given::Operand(i) => out.buffer(BufferKind::Input(i), ty),
                Given::Param(name) => out.param(name, ty),
            };
            out.stand(id, Home::dense(buffer, ty.sizes()));
        }
        out
    }

    pub(crate) fn buffer(&mut self, kind: BufferKind, ty: &Type) -> usize {
        self.routine.buffers.push(Buffer { kind, bytes: ty.bytes() });
        self.routine.buffers.len() - 1
    }

    pub(crate) fn temp(&mut self, ty: &Type) -> usize {
        self.buffer(BufferKind::Temp(0), ty)
    }

    /// The one buffer of a parameter or state tensor.
    pub(crate) fn param(&mut self, name: &Name, ty: &Type) -> usize {
        let known = self.params.get(name).copied();
        let buffer = known.unwrap_or_else(|| self.buffer(BufferKind::Param(name.clone()), ty));
        self.params.insert(name.clone(), buffer);
        assert_eq!(self.routine.buffers[buffer].bytes, ty.bytes(), "@{name} has one type");
        buffer
    }

    /// Says where a value stands.
    pub(crate) fn stand(&mut self, id: NodeId, home: Home) {
        self.homes[id.index()] = Some(home);
    }

    pub(crate) fn has_home(&self, id: NodeId) -> bool {
        self.homes[id.index()].is_some()
    }

    /// The home of a value that is no view: where it was placed, or a new dense buffer.
    pub(crate) fn placed(&mut self, id: NodeId) -> Home {
        if let Some(home) = &self.homes[id.index()] {
            return home.clone();
        }
        let home = self.room(self.func.ty(id));
        self.stand(id, home.clone());
        home
    }

    /// Memory for a value. Rows of 16-bit elements begin at whole chunks of sixteen bytes, as they are copied to matrices: a vocabulary's
    /// rows are rarely so by themselves.
    fn room(&mut self, ty: &Type) -> Home {
        let dims = ty.sizes();
        let padded = dims.len() > 1 && ty.dtype.is_half() && dims[dims.len() - 1] >= WORTH_PADDING;
        let mut rows = dims.clone();
        if let (Some(last), true) = (rows.last_mut(), padded) {
            *last = last.next_multiple_of(16 / ty.dtype.bytes());
        }
        let buffer = self.temp(&Type::of(ty.dtype, rows.iter().copied()));
        Home { dims, ..Home::dense(buffer, rows) }
    }

    /// Where a value in memory stands. Views that strides cannot say are copied.
    pub(crate) fn home(&mut self, id: NodeId) -> Home {
        let (mut views, mut base) = (vec![], id);
        while !self.has_home(base)
            && let Role::View(view) = role(&self.func.node(base).op)
        {
            views.push((base, view));
            base = self.func.node(base).args[0];
        }
        let mut home = self.placed(base);
        for (id, view) in views.into_iter().rev() {
            home = self.view(view, self.func.ty(id), home);
            self.stand(id, home.clone());
        }
        home
    }

    /// Where a view of what stands at `base` stands.
    fn view(&mut self, view: View, ty: &Type, base: Home) -> Home {
        match view {
            View::Transpose(order) => base.transpose(order),
            View::Slice(a, lo, hi) => base.slice(axis_of(ty, a), lo, hi),
            View::Reshape => base.reshape(&ty.sizes()).unwrap_or_else(|| {
                let dense = self.dense(&base, ty.dtype);
                dense.reshape(&ty.sizes()).expect("a dense value has every shape")
            }),
        }
    }

    /// A dense copy of what stands at `from`.
    pub(crate) fn dense(&mut self, from: &Home, dtype: DType) -> Home {
        let buffer = self.temp(&Type::of(dtype, from.dims.iter().copied()));
        let to = Home::dense(buffer, from.dims.clone());
        self.copy(from, &to, dtype);
        to
    }

    /// A value that stands dense from the start of its buffer: copied where it does not.
    pub(crate) fn dense_from_start(&mut self, id: NodeId) -> Home {
        let home = self.home(id);
        if home.is_dense() && home.offset == 0 { home } else { self.dense(&home, self.func.ty(id).dtype) }
    }

    pub(crate) fn copy(&mut self, from: &Home, to: &Home, dtype: DType) {
        let mut k = KernelArgs::default();
        let load = Access { arg: k.arg(from.buffer, Elem::of(dtype), false), offset: from.offset, strides: from.strides.clone() };
        self.write(k, Pure::Load(load), to, dtype);
    }

    /// Fills a value's place with zeros.
    pub(crate) fn clear(&mut self, to: &Home, dtype: DType) {
        self.write(KernelArgs::default(), Pure::Const(0.0), to, dtype);
    }

    /// A kernel that writes one value, which reads the operands in `k`.
    fn write(&mut self, mut k: KernelArgs, value: Pure, to: &Home, dtype: DType) {
        let elem = Elem::of(dtype);
        let access = Access { arg: k.arg(to.buffer, elem, true), offset: to.offset, strides: to.strides.clone() };
        let (dag, stores) = (Dag { steps: vec![(value, elem)] }, vec![Store { step: 0, access, at: None }]);
        self.step(Spec { template: Template::Rows { tail: 0 }, dims: to.dims.clone(), params: k.params, dag, stores }, k.buffers);
    }

    pub(crate) fn step(&mut self, spec: Spec, args: Vec<usize>) {
        let kernel = self.table.add(spec);
        self.routine.steps.push(Step::Kernel { kernel, args });
    }
}
