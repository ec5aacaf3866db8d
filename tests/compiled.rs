use crate::common::{bound, difference, environment, gpt, llama};
use codegen::Target;
use ir::{DType, Env, Graph, Value, eval};
use passes::{Opt, optimize};
use runtime::{Pool, Session};
use std::collections::HashMap;
use std::sync::Arc;

/// Runs a graph compiled, for values from an environment.
pub fn run(graph: &Graph, env: &Env, threads: usize) -> HashMap<String, Value> {
    run_for(graph, env, threads, &codegen::llvm::host().target)
}

/// The same with kernels shaped for a target.
pub fn run_for(graph: &Graph, env: &Env, threads: usize, target: &Target) -> HashMap<String, Value> {
    let mut s = Session::for_target(graph, Arc::new(Pool::new(threads)), target).unwrap();
    s.poison();
    for (name, ty) in graph.inputs.iter().zip(graph.main().inputs()) {
        let data = &env[name].data;
        match ty.dtype {
            DType::F32 => s.set_f32(name, &data.iter().map(|x| *x as f32).collect::<Vec<_>>()).unwrap(),
            DType::I32 => s.set_i32(name, &data.iter().map(|x| *x as i32).collect::<Vec<_>>()).unwrap(),
            DType::U32 => s.set_u32(name, &data.iter().map(|x| *x as u32).collect::<Vec<_>>()).unwrap(),
            DType::Bool => s.set_bool(name, &data.iter().map(|x| *x as u8).collect::<Vec<_>>()).unwrap(),
            DType::Tuple => unreachable!(),
        }
    }
    for (name, _) in graph.params() {
        let data = &env[name.as_ref()].data;
        for (to, from) in s.param_mut(&name).unwrap().f32s_mut().iter_mut().zip(data) {
            *to = *from as f32;
        }
    }
    s.run();
    let read = |name: &String, ty: &ir::Type| {
        let block = s.output(name).unwrap();
        let data: Vec<f64> = match ty.dtype {
            DType::F32 => block.f32s()[..ty.count()].iter().map(|x| f64::from(*x)).collect(),
            DType::Bool => block.bytes()[..ty.count()].iter().map(|x| f64::from(*x)).collect(),
            DType::I32 => block.bytes().chunks(4).take(ty.count()).map(|c| f64::from(i32::from_le_bytes(c.try_into().unwrap()))).collect(),
            DType::U32 => block.bytes().chunks(4).take(ty.count()).map(|c| f64::from(u32::from_le_bytes(c.try_into().unwrap()))).collect(),
            DType::Tuple => unreachable!(),
        };
        (name.clone(), Value::new(ty.sizes(), data))
    };
    graph.outputs.iter().zip(graph.main().outputs()).map(|(n, t)| read(n, &t)).collect()
}

fn check(graph: &Graph, env: &Env, tolerance: f64, what: &str) {
    let (want, have) = (eval(graph, env).unwrap(), run(graph, env, 2));
    for (name, w) in &want {
        let d = difference(&have[name], w);
        assert!(d < tolerance, "{what}: {name} differs by {d}");
    }
}

#[test]
fn models_compiled_are_as_evaluated() {
    for (model, t) in [(gpt(), 5), (llama(true), 5), (llama(false), 7)] {
        let built = bound(&model, 2, t);
        let env = environment(&built, 3, 9);
        for opt in [Opt::Egg, Opt::Greedy, Opt::Off] {
            let stages = optimize(&built, Some("loss"), opt).unwrap();
            check(&stages.fused, &env, 3e-5, &format!("{opt} fused"));
            check(stages.joint.as_ref().unwrap(), &env, 3e-5, &format!("{opt} joint"));
        }
    }
}
