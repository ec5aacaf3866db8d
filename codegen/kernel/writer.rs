//! Writes kernels: blocks are closures, locals and regions are numbered as they come.

use super::language::*;

/// Writes a kernel.
pub struct Writer {
    kernel: Kernel,
    open: Vec<Vec<Stmt>>,
}

impl Writer {
    /// A kernel without a body.
    pub fn new(name: &str, params: Vec<Param>, units: usize) -> Writer {
        let vars = vec!["lo".to_string(), "hi".into()];
        let widths = vec![1; params.len()];
        let (name, none) = (name.into(), vec![]);
        let kernel = Kernel { name, params, units, cube: None, widths, shared: vec![], scratch: none, locals: vec![], vars, body: vec![] };
        Writer { kernel, open: vec![vec![]] }
    }
    /// A kernel without a body, for cubes of threads.
    pub fn cubes(name: &str, params: Vec<Param>, cubes: usize, threads: usize) -> Writer {
        let mut w = Writer::new(name, params, cubes);
        w.kernel.cube = Some(threads);
        w.kernel.vars = vec!["cube".into(), "thread".into()];
        w
    }
    /// The number of the cube.
    pub fn cube(&self) -> Ix {
        Ix::Var(Var(0))
    }
    /// The number of the thread in its cube.
    pub fn thread(&self) -> Ix {
        Ix::Var(Var(1))
    }
    /// A fresh region that the cube's threads share, of so many elements in vectors of `lanes`.
    pub fn shared(&mut self, elem: Elem, lanes: u32, count: usize) -> Buf {
        self.kernel.shared.push(Shared { elem, lanes, count });
        Buf::Shared(self.kernel.shared.len() - 1)
    }
    /// Waits for the cube's other threads.
    pub fn barrier(&mut self) {
        self.push(Stmt::Barrier);
    }
    /// First unit to compute.
    pub fn lo(&self) -> Ix {
        Ix::Var(Var(0))
    }
    /// One past the last unit.
    pub fn hi(&self) -> Ix {
        Ix::Var(Var(1))
    }
    /// A fresh index variable.
    pub fn var(&mut self, name: &str) -> Var {
        self.kernel.vars.push(name.into());
        Var(self.kernel.vars.len() as u32 - 1)
    }
    /// A fresh local array.
    pub fn local(&mut self, name: &str, elem: Elem, lanes: u32, count: usize) -> LocalId {
        self.kernel.locals.push(Local { name: name.into(), elem, lanes, count });
        LocalId(self.kernel.locals.len() as u32 - 1)
    }
    /// A fresh scratch region of floats.
    pub fn scratch(&mut self, floats: usize) -> Buf {
        self.scratch_of(Elem::F32, floats)
    }
    /// A fresh scratch region of floats or words.
    pub fn scratch_of(&mut self, elem: Elem, count: usize) -> Buf {
        assert_eq!(elem.bytes(), 4, "scratch memory is counted in floats");
        self.kernel.scratch.push((elem, count));
        Buf::Scratch(self.kernel.scratch.len() - 1)
    }
    /// Appends a statement.
    pub fn push(&mut self, s: Stmt) {
        self.open.last_mut().expect("a block is open").push(s);
    }
    /// Names an index, unless it is a constant or a name already.
    pub fn name(&mut self, name: &str, ix: Ix) -> Ix {
        if matches!(ix, Ix::Const(_) | Ix::Var(_)) {
            return ix;
        }
        let v = self.var(name);
        self.push(Stmt::Let(v, ix));
        Ix::Var(v)
    }
    /// Names a whole number that is computed.
    pub fn value(&mut self, name: &str, value: Expr) -> Ix {
        let v = self.var(name);
        self.push(Stmt::LetValue(v, value));
        Ix::Var(v)
    }
    /// `for name in lo..hi step`.
    pub fn each(&mut self, name: &str, lo: impl Into<Ix>, hi: impl Into<Ix>, step: i64, body: impl FnOnce(&mut Writer, Ix)) {
        self.loop_(name, lo.into(), hi.into(), step, false, body);
    }
    /// The same, unrolled.
    pub fn unrolled(&mut self, name: &str, n: usize, body: impl FnOnce(&mut Writer, Ix)) {
        self.loop_(name, Ix::Const(0), Ix::from(n), 1, true, body);
    }
    fn loop_(&mut self, name: &str, lo: Ix, hi: Ix, step: i64, unroll: bool, body: impl FnOnce(&mut Writer, Ix)) {
        if let (Some(l), Some(h)) = (lo.known(), hi.known()) {
            if l >= h {
                return;
            }
            if h - l <= step {
                return body(self, lo);
            }
        }
        let var = self.var(name);
        self.open.push(vec![]);
        body(self, Ix::Var(var));
        let body = self.open.pop().expect("the loop's block is open");
        self.push(Stmt::For { var, lo, hi, step, unroll, body });
    }
    /// `if a < b`.
    pub fn branch(&mut self, a: impl Into<Ix>, b: impl Into<Ix>, then: impl FnOnce(&mut Writer), otherwise: impl FnOnce(&mut Writer)) {
        let (a, b) = (a.into(), b.into());
        if let (Some(x), Some(y)) = (a.known(), b.known()) {
            return if x < y { then(self) } else { otherwise(self) };
        }
        self.open.push(vec![]);
        then(self);
        self.open.push(vec![]);
        otherwise(self);
        let otherwise = self.open.pop().expect("the branch's block is open");
        let then = self.open.pop().expect("the branch's block is open");
        self.push(Stmt::If { a, b, then, otherwise });
    }
    /// Writes a local.
    pub fn set(&mut self, local: LocalId, at: impl Into<Ix>, value: Expr) {
        self.push(Stmt::Set(local, at.into(), value));
    }
    /// Reads a local.
    pub fn get(local: LocalId, at: impl Into<Ix>) -> Expr {
        Expr::Local(local, at.into())
    }
    /// Writes memory.
    pub fn store(&mut self, buf: Buf, at: Ix, value: Expr, valid: Option<Ix>) {
        self.push(Stmt::Store { buf, at, value, valid });
    }
    /// The kernel.
    pub fn finish(mut self) -> Kernel {
        self.kernel.body = self.open.pop().expect("the body is open");
        assert!(self.open.is_empty(), "every block is closed");
        self.kernel
    }
}

/// Reads memory.
pub fn load(buf: Buf, at: Ix, lanes: u32, valid: Option<Ix>) -> Expr {
    Expr::Load { buf, at, lanes, valid }
}
