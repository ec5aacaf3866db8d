//! A compiled program with its memory: set inputs, run, read results.

use crate::backend::{Backend, Fault, Held};
use crate::device::Device;
use crate::finite;
use crate::memory::Block;
use codegen::{Program, Target};
use ir::{DType, Graph};

/// A program ready to run.
pub struct Session {
    program: Program,
    backend: Box<dyn Backend>,
    /// For each parameter, whether its memory was another session's first.
    taken: Vec<bool>,
    /// Of the distinct kernels, how many were found in the cache on disk.
    pub cached: usize,
}

impl Session {
    /// Compiles a graph whose dims are bound for a device and allocates its memory there.
    pub fn new(graph: &Graph, device: impl Into<Device>) -> Result<Session, String> {
        let device = device.into();
        let target = device.target_for(graph)?;
        Session::for_target(graph, device, &target)
    }

    /// As [`new`](Self::new), for a program that may use so many bytes: one that needs more is refused before any is allocated.
    pub fn within(graph: &Graph, device: impl Into<Device>, budget: Option<usize>) -> Result<Session, String> {
        let device = device.into();
        let program = lowered(graph, &device.target_for(graph)?)?;
        program.within(budget)?;
        let none = vec![None; program.params.len()];
        Session::with(program, device, &none)
    }

    /// As [`new`](Self::new), with kernels shaped for a target that may be smaller than the device: what a test of another one needs.
    pub fn for_target(graph: &Graph, device: impl Into<Device>, target: &Target) -> Result<Session, String> {
        Session::of(lowered(graph, target)?, device)
    }

    /// A program that is lowered already, for a device of the kind that it was lowered for.
    pub fn of(program: Program, device: impl Into<Device>) -> Result<Session, String> {
        let none = vec![None; program.params.len()];
        Session::with(program, device.into(), &none)
    }

    /// As [`within`](Self::within), with the parameters and state that another session has under the same paths: there is one copy of them, and
    /// what either writes the other sees. Sessions that share wait for each other where they run on several threads. An error where a
    /// path has another type there, or where the other session's memory is another device's.
    pub fn sharing(graph: &Graph, device: impl Into<Device>, budget: Option<usize>, from: &Session) -> Result<Session, String> {
        Session::sharing_all(graph, device, budget, &[from])
    }

    /// As [`sharing`](Self::sharing), for a program of whose weights the other session has every one; an error that names one that it has not,
    /// and which would begin, and stay, at 0.
    pub fn sharing_whole(graph: &Graph, device: impl Into<Device>, budget: Option<usize>, from: &Session) -> Result<Session, String> {
        let session = Session::sharing(graph, device, budget, from)?;
        let missing = |((name, ty), taken): ((&str, &ir::Type), &bool)| {
            let none = !taken && passes::State::parse(name).is_parameter();
            none.then(|| format!("parameter {name}: {ty} is not in the session that it is to be taken from: is it the same model?"))
        };
        let error = session.params().zip(&session.taken).find_map(missing);
        error.map_or(Ok(session), Err)
    }

    /// The same of several sessions, of which the first that has a path gives it; of none all is its own.
    pub fn sharing_all(graph: &Graph, device: impl Into<Device>, budget: Option<usize>, from: &[&Session]) -> Result<Session, String> {
        let device = device.into();
        let program = lowered(graph, &device.target_for(graph)?)?;
        program.within(budget)?;
        let mut given: Vec<Option<Held>> = vec![None; program.params.len()];
        for session in from {
            for (place, found) in given.iter_mut().zip(session.matching(&program)?) {
                *place = place.take().or_else(|| found.map(|j| session.backend.held(j)));
            }
        }
        if given.iter().flatten().any(|h| !h.is_on(&device)) {
            return Err(format!("the parameters are in the memory of another device than {}: open both sessions on one", device.describe()));
        }
        Session::with(program, device, &given)
    }

    fn with(program: Program, device: Device, given: &[Option<Held>]) -> Result<Session, String> {
        let (backend, cached) = backend(&program, device, given)?;
        Ok(Session { program, backend, taken: given.iter().map(Option::is_some).collect(), cached })
    }

    /// The number that each parameter of a program has here; an error where one has another type.
    fn matching(&self, program: &Program) -> Result<Vec<Option<usize>>, String> {
        let find = |(name, ty): &(ir::Name, ir::Type)| match self.program.params.iter().position(|p| p.0 == *name) {
            Some(j) if self.program.params[j].1 != *ty => {
                Err(format!("parameter {name} is {ty} here and {} in the session it is taken from: is it the same model?", self.program.params[j].1))
            }
            found => Ok(found),
        };
        program.params.iter().map(find).collect()
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Bytes the session allocated: inputs, parameters, results, arena and scratch. This is the predicted peak. Parameters of another
    /// session that this one shares are counted there.
    pub fn bytes(&self) -> usize {
        let shared: usize = self.program.params.iter().zip(&self.taken).filter(|(_, t)| **t).map(|(p, _)| p.1.bytes()).sum();
        self.backend.bytes(&self.program) - shared
    }

    /// Runs the program once. On a processor this cannot fail.
    pub fn run(&mut self) -> Result<(), Fault> {
        self.backend.run(&self.program, true)
    }

    /// Runs the program once and leaves its results where they are: what a measurement of a device wants.
    pub fn run_unread(&mut self) -> Result<(), Fault> {
        self.backend.run(&self.program, false)
    }

    /// Runs the program once on a processor, and gives the seconds of each call, in order: until all threads have done with it.
    pub fn run_timed(&mut self) -> Result<Vec<f64>, String> {
        self.backend.run_timed()
    }

    /// Runs the program once, slowly, and stops at the first kernel that writes a value that is not finite.
    pub fn run_checked(&mut self) -> Result<(), Fault> {
        self.backend.run_checked(&self.program)
    }

    /// For each call the path of the parameter of the model nearest to it: its own, or that of the last call before it that has one.
    pub fn nearest_parameters(&self) -> Vec<Option<String>> {
        finite::nearest(&self.program).into_iter().map(|near| near.map(|n| n.path)).collect()
    }

    /// Fills the arena with NaN, so that a kernel that reads what nobody wrote shows.
    pub fn poison(&mut self) -> Result<(), String> {
        self.backend.poison()
    }

    /// Names of the inputs.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.program.inputs.iter().map(|i| i.0.as_str())
    }

    fn input(&mut self, name: &str, dtype: DType, len: usize) -> Result<&mut Block, String> {
        let i = self.program.inputs.iter().position(|i| i.0 == name).ok_or_else(|| {
            let known: Vec<&str> = self.program.inputs.iter().map(|i| i.0.as_str()).collect();
            format!("the program has no input {name}; it has {}", known.join(", "))
        })?;
        let ty = &self.program.inputs[i].1;
        if ty.dtype != dtype || ty.count() != len {
            return Err(format!("input {name} is {ty}, not {len} elements of {dtype}"));
        }
        Ok(self.backend.input(i))
    }

    /// Sets an `f32` input.
    pub fn set_f32(&mut self, name: &str, values: &[f32]) -> Result<(), String> {
        self.input(name, DType::F32, values.len())?.f32s_mut().copy_from_slice(values);
        Ok(())
    }

    /// Sets an `i32` input.
    pub fn set_i32(&mut self, name: &str, values: &[i32]) -> Result<(), String> {
        self.input(name, DType::I32, values.len())?.i32s_mut().copy_from_slice(values);
        Ok(())
    }

    /// Sets a `u32` input.
    pub fn set_u32(&mut self, name: &str, values: &[u32]) -> Result<(), String> {
        let bits: Vec<i32> = values.iter().map(|x| *x as i32).collect();
        self.input(name, DType::U32, values.len())?.i32s_mut().copy_from_slice(&bits);
        Ok(())
    }

    /// Sets a truth-valued input.
    pub fn set_bool(&mut self, name: &str, values: &[bool]) -> Result<(), String> {
        let words: Vec<i32> = values.iter().map(|x| i32::from(*x)).collect();
        self.input(name, DType::Bool, values.len())?.i32s_mut().copy_from_slice(&words);
        Ok(())
    }

    /// Sets an input of any type; as many bytes as its type has.
    pub fn set_input(&mut self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let ty = self.program.inputs.iter().find(|i| i.0 == name).map(|i| i.1.clone()).ok_or_else(|| format!("the program has no input {name}"))?;
        if ty.bytes() != bytes.len() {
            return Err(format!("input {name} is {ty}, not {} bytes", bytes.len()));
        }
        self.input(name, ty.dtype, ty.count())?.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// Names of the results.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.program.outputs.iter().map(|o| o.0.as_str())
    }

    /// The memory of a result; one that is a new value of state is read as the parameter it is.
    pub fn output(&self, name: &str) -> Option<&Block> {
        self.backend.output(self.program.outputs.iter().position(|o| o.0 == name)?)
    }

    /// Paths and types of parameters and state.
    pub fn params(&self) -> impl Iterator<Item = (&str, &ir::Type)> {
        self.program.params.iter().map(|(n, t)| (n.as_ref(), t))
    }

    fn position(&self, name: &str) -> Result<usize, String> {
        self.program.params.iter().position(|p| p.0.as_ref() == name).ok_or_else(|| format!("the program has no parameter {name}"))
    }

    /// A copy of a parameter's bytes, little-endian.
    pub fn param(&self, name: &str) -> Result<Vec<u8>, String> {
        self.backend.param(self.position(name)?)
    }

    /// Calls `show` with the bytes of every parameter, in the order of [`params`](Self::params), all at one moment. No session that shares
    /// them runs meanwhile, so `show` must not wait for one.
    pub fn show_params<T>(&self, show: impl FnOnce(&[&[u8]]) -> T) -> Result<T, String> {
        let (mut show, mut out) = (Some(show), None);
        self.backend.show_params(&mut |all| out = show.take().map(|f| f(all)))?;
        out.ok_or_else(|| "the parameters were not shown".into())
    }

    /// Writes a parameter; as many bytes as its type has.
    pub fn set_param(&mut self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let i = self.position(name)?;
        let ty = &self.program.params[i].1;
        if ty.bytes() != bytes.len() {
            return Err(format!("parameter {name} is {ty}, not {} bytes", bytes.len()));
        }
        self.backend.set_param(i, 0, bytes)
    }

    /// Writes a part of a parameter, such as one layer's of those of all: bytes from the number `at` on.
    pub fn set_param_part(&mut self, name: &str, at: usize, bytes: &[u8]) -> Result<(), String> {
        let i = self.position(name)?;
        let ty = &self.program.params[i].1;
        if at.checked_add(bytes.len()).is_none_or(|end| end > ty.bytes()) {
            return Err(format!("parameter {name} is {ty}, too short for {} bytes from {at} on", bytes.len()));
        }
        self.backend.set_param(i, at, bytes)
    }

    /// Writes a parameter of `f32` elements.
    pub fn fill_param(&mut self, name: &str, fill: impl FnOnce(&mut [f32])) -> Result<(), String> {
        let i = self.position(name)?;
        let ty = &self.program.params[i].1;
        if ty.dtype != DType::F32 {
            return Err(format!("parameter {name} is {ty}, not f32: write its bytes"));
        }
        let mut values = vec![0.0; ty.count()];
        fill(&mut values);
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        self.backend.set_param(i, 0, &bytes)
    }

    /// Takes over every parameter that another session has, too. On one device, or where both are on processors, the memory itself is
    /// shared from then on, as by [`sharing`](Self::sharing); else values are copied, once. An error, and nothing changed, where a path
    /// has another type there.
    pub fn adopt_params(&mut self, from: &Session) -> Result<(), String> {
        for (i, j) in from.matching(&self.program)?.into_iter().enumerate() {
            let Some(j) = j else { continue };
            if self.backend.hold(i, &from.backend.held(j)) {
                self.taken[i] = true;
            } else {
                self.backend.set_param(i, 0, &from.backend.param(j)?)?;
            }
        }
        Ok(())
    }
}

/// A graph as kernels, if it is one that can be.
fn lowered(graph: &Graph, target: &Target) -> Result<Program, String> {
    ir::check_bound(graph)?;
    ir::check_limits(graph)?;
    Ok(Program::new(graph, target))
}

/// A program in the memory of a device, and how many of its kernels were found in the cache.
fn backend(program: &Program, device: Device, given: &[Option<Held>]) -> Result<(Box<dyn Backend>, usize), String> {
    match device {
        #[cfg(feature = "llvm")]
        Device::Cpu(pool) => {
            let (host, compiled) = crate::host::Host::new(program, pool, given)?;
            Ok((Box::new(host), compiled.cached))
        }
        #[cfg(not(feature = "llvm"))]
        Device::Cpu(_) => {
            Err(format!("this build cannot compile for processors, so nothing runs {} kernels on {} parameters", program.kernels.len(), given.len()))
        }
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        Device::Gpu(device) => Ok((Box::new(crate::gpu::Gpu::new(program, device, given)?), 0)),
    }
}
