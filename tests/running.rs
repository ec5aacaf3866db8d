//! Programs run: on a device, or by the interpreter kernel by kernel; and what they give against evaluation.

use crate::common::difference;
use codegen::kernel::{Elem, Kernel};
use codegen::{BufferKind, Memory, Program, Region, Step, Target, interpret};
use ir::names::new_value_of;
use ir::{DType, Env, Graph, Value, eval};
use runtime::{Device, Session};
use std::collections::{BTreeMap, HashMap};

/// How many cases.
pub fn cases(ordinary: u32, heavy: u32) -> u32 {
    if std::env::var("EGGCORN_FUZZ").is_ok_and(|v| v == "heavy") { heavy } else { ordinary }
}

/// Bound on the error of a program of tamed ops in `f32`: each op adds a few ulps of values of size about 1.
pub const TOLERANCE: f64 = 3e-4;

pub fn compare_with(graph: &Graph, env: &Env, what: &str, have: &HashMap<String, Value>) {
    if let Some(wrong) = mismatch(&eval(graph, env).unwrap(), have, TOLERANCE) {
        panic!("{what}: {wrong}\n{graph}");
    }
}

/// The first result that is not what it should be. Those that are not finite say nothing.
pub fn mismatch(want: &HashMap<String, Value>, have: &HashMap<String, Value>, tolerance: f64) -> Option<String> {
    let wrong = |(name, w): (&String, &Value)| {
        let finite = w.data.iter().all(|x| x.is_finite() && x.abs() < 1e6);
        let scale = w.data.iter().fold(1.0f64, |m, x| m.max(x.abs()));
        let d = difference(&have[name], w) * w.data.iter().fold(1e-30f64, |m, x| m.max(x.abs()));
        (finite && (d.is_nan() || d > tolerance * scale)).then(|| format!("{name} differs by {d} at scale {scale}"))
    };
    want.iter().find_map(wrong)
}

/// Runs a graph on a device, for values from an environment.
pub fn run_on(graph: &Graph, env: &Env, device: impl Into<Device>, target: &Target) -> HashMap<String, Value> {
    run_steps(graph, env, 1, device, target).remove(0)
}

/// The results of so many runs in a row: what one writes to state, the next reads. The arena holds nothing between them.
pub fn run_steps(graph: &Graph, env: &Env, steps: usize, device: impl Into<Device>, target: &Target) -> Vec<HashMap<String, Value>> {
    let mut s = Session::for_target(graph, device, target).unwrap();
    set_values(&mut s, graph, env);
    let step = |_| {
        s.poison().unwrap();
        s.run().unwrap();
        graph.outputs.iter().zip(graph.main().outputs()).map(|(n, ty)| (n.clone(), result(&s, n, &ty))).collect()
    };
    (0..steps).map(step).collect()
}

/// What `run_steps` should give: evaluated, with state carried from one step to the next.
pub fn eval_steps(graph: &Graph, env: &Env, steps: usize) -> Vec<HashMap<String, Value>> {
    let mut env = env.clone();
    let step = |_| {
        let out = eval(graph, &env).unwrap();
        env.extend(out.iter().filter_map(|(n, v)| Some((new_value_of(n)?.to_string(), v.clone()))));
        out
    };
    (0..steps).map(step).collect()
}

/// The first of three steps, if any, whose results on a device are not as evaluated: state goes from one to the next, and errors with it.
pub fn state_mismatch(graph: &Graph, env: &Env, device: impl Into<Device>, target: &Target) -> Option<String> {
    let (want, have) = (eval_steps(graph, env, 3), run_steps(graph, env, 3, device, target));
    let wrong = |(step, (w, h)): (usize, (&HashMap<_, _>, &HashMap<_, _>))| Some(format!("step {step}: {}", mismatch(w, h, 10.0 * TOLERANCE)?));
    want.iter().zip(&have).enumerate().find_map(wrong)
}

fn set_values(s: &mut Session, graph: &Graph, env: &Env) {
    for (name, ty) in graph.inputs.iter().zip(graph.main().inputs()) {
        let data = &env[name].data;
        match ty.dtype {
            DType::F32 => s.set_f32(name, &data.iter().map(|x| *x as f32).collect::<Vec<_>>()).unwrap(),
            DType::I32 => s.set_i32(name, &data.iter().map(|x| *x as i32).collect::<Vec<_>>()).unwrap(),
            DType::U32 => s.set_u32(name, &data.iter().map(|x| *x as u32).collect::<Vec<_>>()).unwrap(),
            DType::Bool => s.set_bool(name, &data.iter().map(|x| *x != 0.0).collect::<Vec<_>>()).unwrap(),
            DType::BF16 | DType::F16 | DType::Tuple => unreachable!("a test's inputs are no 16-bit floats"),
        }
    }
    for (name, ty) in graph.params() {
        let bytes: Vec<u8> = env[name.as_ref()].data.iter().flat_map(|x| to_bytes(*x, Elem::of(ty.dtype))).collect();
        s.set_param(&name, &bytes).unwrap();
    }
}

/// A result of the last run; the state, where it is a new value of that.
fn result(s: &Session, name: &str, ty: &ir::Type) -> Value {
    let bytes = match new_value_of(name) {
        Some(path) => s.param(path).unwrap().to_vec(),
        None => s.output(name).unwrap().bytes().to_vec(),
    };
    let elem = Elem::of(ty.dtype);
    Value::new(ty.sizes(), bytes.chunks(elem.bytes()).take(ty.count()).map(|c| from_bytes(c, elem)).collect())
}

/// Interprets a program of one function, kernel by kernel, after `edit` has had its way with each.
pub fn interpreted(graph: &Graph, env: &Env, target: &Target, edit: &mut dyn FnMut(&mut Kernel)) -> Vec<Value> {
    let run = &mut |kernel: &Kernel, memory: &mut [Memory]| {
        let mut k = kernel.clone();
        edit(&mut k);
        // cubes are watched together, for one must not touch what another does
        let step = if k.cube.is_some() { k.units.max(1) } else { 1 };
        for unit in (0..k.units).step_by(step) {
            interpret(&k, memory, unit as i64, (unit + step) as i64);
        }
    };
    stepped(graph, env, target, run)
}

/// Runs a program of one function, each kernel by `run` on its operands.
fn stepped(graph: &Graph, env: &Env, target: &Target, run: &mut dyn FnMut(&Kernel, &mut [Memory])) -> Vec<Value> {
    let program = Program::new(graph, target);
    let routine = &program.routines[0];
    let mut memory: BTreeMap<(u8, usize), Memory> = BTreeMap::new();
    let key = |b: usize| match &routine.buffers[b].kind {
        BufferKind::Input(i) => (0, *i),
        BufferKind::Param(name) => (1, program.params.iter().position(|p| p.0 == *name).unwrap()),
        BufferKind::Result(i) => (2, *i),
        // buffers that share memory begin at one place; others there are dead
        BufferKind::Temp(offset) => (3, *offset),
    };
    for (i, (name, _)) in program.inputs.iter().enumerate() {
        memory.insert((0, i), env[name].data.clone());
    }
    for (i, (name, _)) in program.params.iter().enumerate() {
        memory.insert((1, i), env[name.as_ref()].data.clone());
    }
    for step in &routine.steps {
        let Step::Kernel { kernel, args } = step else { panic!("this program has no loops") };
        let k = &program.kernels[*kernel];
        let mut buffers: Vec<Memory> = vec![];
        for (arg, param) in args.iter().zip(&k.params) {
            let elements = routine.buffers[*arg].bytes / param.elem.bytes();
            let mut m = memory.remove(&key(*arg)).unwrap_or_default();
            m.resize(elements.max(m.len()), f64::NAN);
            // one buffer may be several operands: each sees what is there
            memory.insert(key(*arg), m.clone());
            buffers.push(m);
        }
        run(k, &mut buffers);
        for ((arg, param), m) in args.iter().zip(&k.params).zip(buffers) {
            if param.written {
                memory.insert(key(*arg), m);
            }
        }
    }
    let value = |r: &Result<usize, usize>, ty: &ir::Type| Value::new(ty.sizes(), memory[&key(r.unwrap())][..ty.count()].to_vec());
    routine.results.iter().zip(&program.outputs).map(|(r, o)| value(r, &o.1)).collect()
}

/// Interprets every call of a program, loops and all; its results, and state under the names of its new values.
pub fn interpreted_calls(program: &Program, env: &Env) -> HashMap<String, Value> {
    let mut memory: BTreeMap<Region, Vec<u8>> = BTreeMap::new();
    let bytes = |ty: &ir::Type, v: &Value| v.data.iter().flat_map(|x| to_bytes(*x, Elem::of(ty.dtype))).collect::<Vec<u8>>();
    for (i, (name, ty)) in program.inputs.iter().enumerate() {
        memory.insert(Region::Input(i), bytes(ty, &env[name]));
    }
    for (i, (name, ty)) in program.params.iter().enumerate() {
        let old = env.get(name.as_ref()).map_or_else(|| vec![0xFF; ty.bytes()], |v| bytes(ty, v));
        memory.insert(Region::Param(i), old);
    }
    for (i, (_, ty)) in program.outputs.iter().enumerate() {
        memory.insert(Region::Output(i), vec![0xFF; ty.bytes()]);
    }
    memory.insert(Region::Arena, vec![0xFF; program.arena_bytes()]);
    for call in program.calls() {
        let k = &program.kernels[call.kernel];
        let read = |(a, p): (&codegen::Address, &codegen::kernel::Param)| {
            memory[&a.region][a.offset..a.offset + a.bytes].chunks_exact(p.elem.bytes()).map(|c| from_bytes(c, p.elem)).collect::<Memory>()
        };
        let mut buffers: Vec<Memory> = call.args.iter().zip(&k.params).map(read).collect();
        interpret(k, &mut buffers, 0, k.units as i64);
        for ((a, p), m) in call.args.iter().zip(&k.params).zip(buffers).filter(|((_, p), _)| p.written) {
            let written: Vec<u8> = m.iter().flat_map(|x| to_bytes(*x, p.elem)).collect();
            memory.get_mut(&a.region).expect("regions are as the program says")[a.offset..a.offset + written.len()].copy_from_slice(&written);
        }
    }
    let value = |(i, (name, ty)): (usize, &(String, ir::Type))| {
        let (elem, region) = (Elem::of(ty.dtype), program.output_state(i).map_or(Region::Output(i), Region::Param));
        (name.clone(), Value::new(ty.sizes(), memory[&region].chunks_exact(elem.bytes()).map(|c| from_bytes(c, elem)).collect()))
    };
    program.outputs.iter().enumerate().map(value).collect()
}

/// Runs a program of one function as `interpreted` does, each kernel by `f` on its operands' bytes.
pub fn by_kernel(graph: &Graph, env: &Env, target: &Target, f: &mut dyn FnMut(&Kernel, &mut [Vec<u8>])) -> Vec<Value> {
    let run = &mut |kernel: &Kernel, memory: &mut [Memory]| {
        let elems: Vec<Elem> = kernel.params.iter().map(|p| p.elem).collect();
        let mut bytes: Vec<Vec<u8>> = memory.iter().zip(&elems).map(|(m, e)| m.iter().flat_map(|x| to_bytes(*x, *e)).collect()).collect();
        f(kernel, &mut bytes);
        for ((m, b), e) in memory.iter_mut().zip(bytes).zip(&elems) {
            *m = b.chunks(e.bytes()).map(|c| from_bytes(c, *e)).collect();
        }
    };
    stepped(graph, env, target, run)
}

fn to_bytes(x: f64, elem: Elem) -> Vec<u8> {
    match elem.dtype() {
        DType::F32 => (x as f32).to_le_bytes().to_vec(),
        DType::BF16 => half::bf16::from_f64(x).to_le_bytes().to_vec(),
        DType::F16 => half::f16::from_f64(x).to_le_bytes().to_vec(),
        DType::U32 => (x as u32).to_le_bytes().to_vec(),
        _ => (x as i32).to_le_bytes().to_vec(),
    }
}

fn from_bytes(b: &[u8], elem: Elem) -> f64 {
    match elem.dtype() {
        DType::F32 => f32::from_le_bytes(b.try_into().unwrap()).into(),
        DType::BF16 => half::bf16::from_le_bytes(b.try_into().unwrap()).into(),
        DType::F16 => half::f16::from_le_bytes(b.try_into().unwrap()).into(),
        DType::U32 => u32::from_le_bytes(b.try_into().unwrap()).into(),
        _ => i32::from_le_bytes(b.try_into().unwrap()).into(),
    }
}
