//! What a checked run takes for a fault: by type, and only of what a kernel wrote.

use crate::common::environment;
use crate::gpu::{programs, read};
use ir::{DType, Env, Func, Graph, NodeId, eval};
use runtime::{Device, Session};

/// Runs a program looking at every kernel, in memory that holds NaN before; what it says of a fault.
fn checked(graph: &Graph, env: &Env, device: &Device) -> Result<(), String> {
    let mut s = Session::new(graph, device.clone())?;
    s.poison()?;
    for (name, ty) in graph.inputs.iter().zip(graph.main().inputs()) {
        let data = &env[name].data;
        match ty.dtype {
            DType::I32 => s.set_i32(name, &data.iter().map(|x| *x as i32).collect::<Vec<_>>())?,
            DType::U32 => s.set_u32(name, &data.iter().map(|x| *x as u32).collect::<Vec<_>>())?,
            _ => s.set_f32(name, &data.iter().map(|x| *x as f32).collect::<Vec<_>>())?,
        }
    }
    for (name, ty) in graph.params() {
        let data = &env[name.as_ref()].data;
        assert_eq!(data.len(), ty.count());
        s.fill_param(&name, |to| to.iter_mut().zip(data).for_each(|(to, x)| *to = *x as f32))?;
    }
    s.run_checked().map_err(|e| e.to_string())
}

/// The same for a text and the values of its one input.
fn on(device: &Device, text: &str, x: &[f64]) -> Result<(), String> {
    let graph = read(text);
    let name = graph.inputs[0].clone();
    checked(&graph, &Env::from([(name, ir::Value::new(vec![x.len()], x.to_vec()))]), device)
}

#[track_caller]
fn faults(result: Result<(), String>, words: &[&str]) {
    let error = result.expect_err("it is a fault");
    words.iter().for_each(|w| assert!(error.contains(w), "'{w}' is not in: {error}"));
}

/// The program whose results are all that main computes: a value may hold what reaches no result, as a row of no expert.
fn with_every_value(graph: &Graph) -> Graph {
    let main = graph.main();
    let is_computed = |id: &NodeId| !main.node(*id).args.is_empty() && main.ty(*id).dtype != DType::Tuple;
    let results: Vec<NodeId> = main.ids().filter(is_computed).collect();
    let names = results.iter().map(NodeId::to_string).collect();
    graph.with_main(Func { results, ..main.clone() }, names)
}

/// Every template: nothing is said where all is finite, whatever stands in memory beside; a NaN that reaches a result is.
pub fn every_template(device: &Device, holds: &dyn Fn(&str) -> bool) {
    for (i, (name, text)) in programs().into_iter().enumerate().filter(|(i, p)| i % 3 == 0 && holds(&p.1)) {
        let graph = read(&text);
        let env = environment(&graph, i as u32, 3);
        assert_eq!(checked(&graph, &env, device), Ok(()), "{name}\n{text}");
        let floats = graph.inputs.iter().zip(graph.main().inputs()).filter(|(_, ty)| ty.dtype == DType::F32).map(|(n, _)| n);
        for input in floats.filter(|n| !env[*n].data.is_empty()) {
            let mut bad = env.clone();
            let data = &mut bad.get_mut(input).unwrap().data;
            let last = data.len() - 1;
            data[last] = f64::NAN;
            let holds_nan = |graph: &Graph| eval(graph, &bad).unwrap().values().any(|v| v.data.iter().any(|x| x.is_nan()));
            let said = checked(&graph, &bad, device);
            assert!(said.is_err() || !holds_nan(&graph), "{name}: nothing is said of NaN in {input}\n{text}");
            assert!(said.is_ok() || holds_nan(&with_every_value(&graph)), "{name}: NaN in {input} is nowhere, and yet {said:?}\n{text}");
            if said.is_err() {
                faults(said, &["NaN", &format!("input {input} holds NaN already")]);
            }
        }
    }
}

/// Numbers of 16 bits are looked at as such, at even and odd places, and only as many as there are.
pub fn numbers_of_16_bits(device: &Device, half: &str) {
    let text = format!("main(%0 x: f32[7]) {{\n  %1 = cast[{half}] %0 : {half}[7]\n  return y=%1\n}}\n");
    let large = if half == "f16" { 65504.0 } else { 3.3e38 };
    let fine = [large, -large, 0.0, -0.0, 1e-7, 1.0, -large];
    assert_eq!(on(device, &text, &fine), Ok(()));
    for at in 0..7 {
        let mut x = fine;
        x[at] = f64::NAN;
        faults(on(device, &text, &x), &["NaN", &format!("element {at} of result y")]);
        x[at] = f64::INFINITY;
        faults(on(device, &text, &x), &["wrote inf", &format!("element {at} of result y")]);
        // −∞ that is read is what the model says
        x[at] = f64::NEG_INFINITY;
        assert_eq!(on(device, &text, &x), Ok(()));
    }
    if half == "f16" {
        // finite numbers that 16 bits cannot hold
        faults(on(device, &text, &[0.0, 1e5, 0.0, 0.0, 0.0, 0.0, 0.0]), &["wrote inf", "element 1"]);
        faults(on(device, &text, &[0.0, 0.0, -1e5, 0.0, 0.0, 0.0, 0.0]), &["wrote -inf", "element 2"]);
    }
}

/// −∞ of a mask is what the model says, also where later kernels read it; −∞ out of finite numbers is a fault.
pub fn lowest(device: &Device) {
    let select = |c: &str| {
        format!(
            "main(%0 x: f32[2,3]) {{\n  %1 = lt 0.0, %0 : bool[2,3]\n  %2 = select %1, %0, {c} : f32[2,3]\n  %3 = max[-1] %2 : f32[2,1]\n  %4 = sub %2, %3 : f32[2,3]\n  return y=%2, m=%3, d=%4\n}}\n"
        )
    };
    let on = |text: &str, x: &[f64]| {
        let graph = read(text);
        let env = Env::from([("x".to_string(), ir::Value::new(graph.main().inputs()[0].sizes(), x.to_vec()))]);
        checked(&graph, &env, device)
    };
    let some = [1.0, -1.0, 2.0, -1.0, 3.0, -2.0];
    assert_eq!(on(&select("-inf"), &some), Ok(()));
    faults(on(&select("inf"), &some), &["wrote inf"]);
    // a row with nothing visible: its maximum is −∞, and −∞ − −∞ is NaN
    faults(on(&select("-inf"), &[1.0, -1.0, 2.0, -1.0, -3.0, -2.0]), &["wrote NaN"]);
    // a mask allows no other infinity
    let over =
        "main(%0 x: f32[2]) {\n  %1 = mul %0, %0 : f32[2]\n  %2 = lt 0.0, %0 : bool[2]\n  %3 = select %2, %1, -inf : f32[2]\n  return y=%3\n}\n";
    assert_eq!(on(over, &[2.0, -1e30]), Ok(()));
    faults(on(over, &[1e30, -1.0]), &["wrote inf", "element 0 of result y"]);
    let log = "main(%0 x: f32[3]) {\n  %1 = log %0 : f32[3]\n  return y=%1\n}\n";
    assert_eq!(on(log, &[1.0, 2.0, 3.0]), Ok(()));
    faults(on(log, &[1.0, 2.0, 0.0]), &["wrote -inf", "element 2 of result y"]);
    let huge = "main(%0 x: f32[3]) {\n  %1 = mul %0, %0 : f32[3]\n  %2 = neg %1 : f32[3]\n  return y=%2\n}\n";
    faults(on(huge, &[1.0, 1e30, 0.0]), &["wrote -inf", "element 1"]);
}

/// What a fault's kernel computes, read and wrote, in figures.
pub fn figures(device: &Device) {
    let text = "main(%0 x: f32[5]) {\n  %1 = sub %0, 4.0 : f32[5]\n  %2 = log %1 : f32[5]\n  return y=%2\n}\n";
    let read = "read input x: 5 values, 0 NaN, 0 infinite; the others from 1.0000e0 to 5.0000e0, mean 3.0000e0";
    let wrote = "wrote result y: 5 values, 3 NaN, 1 infinite; the others from 0.0000e0 to 0.0000e0, mean 0.0000e0";
    faults(on(device, text, &[1.0, 2.0, 3.0, 4.0, 5.0]), &["it computes sub, log", read, wrote]);
    // floats of 16 bits are decoded
    let text = "main(%0 x: f32[4]) {\n  %1 = cast[f16] %0 : f16[4]\n  return y=%1\n}\n";
    let wrote = "wrote result y: 4 values, 0 NaN, 1 infinite; the others from -2.5000e0 to 5.9605e-8, mean -8.3333e-1";
    faults(on(device, text, &[6e-8, -2.5, 1e6, 0.0]), &["it computes cast", wrote]);
    let text = "main(%0 x: f32[2]) {\n  %1 = cast[bf16] %0 : bf16[2]\n  return y=%1\n}\n";
    faults(on(device, text, &[f64::NAN, 0.15625]), &["1 NaN, 0 infinite; the others from 1.5625e-1 to 1.5625e-1, mean 1.5625e-1"]);
}

/// Whole numbers and truths have no NaN, whatever their bits.
pub fn whole_numbers(device: &Device) {
    for ty in ["i32", "u32"] {
        let text = format!("main(%0 x: {ty}[3]) {{\n  %1 = add %0, %0 : {ty}[3]\n  %2 = lt %0, %1 : bool[3]\n  return y=%1, z=%2\n}}\n");
        // twice these are the bits of NaN and ∞
        assert_eq!(on(device, &text, &[f64::from(0x7FC0_0000 / 2), f64::from(0x7F80_0000 / 2), 1.0]), Ok(()));
    }
}

/// The element is counted in what has a name: pieces of a concatenation, results that lie transposed, parameters.
pub fn elements(device: &Device) {
    let at = |text: &str, x: &[f64], words: &[&str]| {
        let graph = read(text);
        let env = environment(&graph, 1, 3).into_iter().map(|(n, v)| if n == "x" { (n, ir::Value::new(v.dims, x.to_vec())) } else { (n, v) });
        faults(checked(&graph, &env.collect(), device), words);
    };
    let pieces = "main(%0 a: f32[2,2], %1 x: f32[2,3]) {\n  %2 = exp %1 : f32[2,3]\n  %3 = concat[-1] %0, %2 : f32[2,5]\n  return y=%3\n}\n";
    at(pieces, &[0.0, 0.0, 0.0, 0.0, f64::NAN, 0.0], &["NaN", "already"]);
    let turned = "main(%0 x: f32[2,3]) {\n  %1 = transpose[1,0] %0 : f32[3,2]\n  %2 = exp %1 : f32[3,2]\n  return y=%2\n}\n";
    at(turned, &[0.0, 0.0, 0.0, 0.0, 1e3, 0.0], &["inf", "element 3 of result y"]);
    let state = "main(%0 x: f32[4]) {\n  @w : f32[4]\n  %1 = mul @w, %0 : f32[4]\n  %2 = div %1, %0 : f32[4]\n  return @w=%2\n}\n";
    at(state, &[1.0, 1.0, 0.0, 1.0], &["NaN", "element 2 of parameter w"]);
}

/// A layer's parameter that is not finite is named, through loops and many kernels.
#[cfg(feature = "llvm")]
#[test]
fn a_models_parameter_is_named() {
    let device = Device::open("cpu", 2).unwrap();
    for model in [crate::common::gpt(), crate::common::llama(false)] {
        let built = crate::common::bound(&model, 2, 5);
        let env = environment(&built, 3, 9);
        let joint = passes::optimize(&built, Some(ir::names::LOSS_SUM), passes::Opt::Egg).unwrap().joint.unwrap();
        assert_eq!(checked(&joint, &env, &device), Ok(()));
        for (name, _) in joint.params() {
            let mut bad = env.clone();
            *bad.get_mut(name.as_ref()).unwrap().data.last_mut().unwrap() = f64::NAN;
            // the last row of a table may be read by nobody
            if let Err(e) = checked(&joint, &bad, &device) {
                assert!(e.contains("kernel ") && e.contains(&format!("parameter {name} holds NaN already")), "{name}: {e}");
            } else {
                assert!(name.contains("wte") || name.contains("embed") || name.contains("wpe"), "{name}");
            }
        }
    }
}

#[cfg(feature = "llvm")]
#[test]
fn on_the_processor() {
    let device = Device::open("cpu", 2).unwrap();
    every_template(&device, &|_| true);
    numbers_of_16_bits(&device, "bf16");
    numbers_of_16_bits(&device, "f16");
    lowest(&device);
    whole_numbers(&device);
    figures(&device);
    elements(&device);
}
