//! Every invariant of a graph, checked after each pass.
//!
//! - A function's operands come before their users, every node has the type its op's rule gives, and a constant has one form.
//! - A function's inputs are numbered from 0 in order; it returns at least one value, values that exist, and tensors.
//! - Functions call only functions before them; the last is `main`, and it alone has parameters.
//! - Main names each input and each result once, by names that the text holds; no input is named as a parameter is.
//! - A path names one parameter, and as tensors of files no two parameters are one; loops over the same layers run as often.
//! - A result `@path` has the type of the parameter `path`, which there is.
//! - Loops unroll to a number of ops, and values take a number of bytes, that a program can have.

use crate::graph::{Func, Graph};
use crate::infer::infer;
use crate::limits::check_limits;
use crate::names::new_value_of;
use crate::naming::{check_name, check_params};
use crate::op::Op;
use crate::types::Type;
use std::collections::{HashMap, HashSet};

/// Checks a graph; each error names the function and the node.
pub fn verify(graph: &Graph) -> Result<(), Vec<String>> {
    let mut errors = vec![];
    for (i, func) in graph.funcs.iter().enumerate() {
        verify_func(func, &graph.funcs[..i], &mut errors);
    }
    match graph.funcs.split_last() {
        None => errors.push("there is no main function".into()),
        // what names mean can only be said of functions that are whole
        Some((main, before)) if errors.is_empty() => {
            verify_names(graph, main, &mut errors);
            let elsewhere = before.iter().filter(|f| f.nodes.iter().any(|n| matches!(n.op, Op::Param(..))));
            errors.extend(elsewhere.map(|f| format!("{}: a parameter in a function that is not main: pass it in", f.name)));
            errors.extend(check_limits(graph).err());
        }
        Some(_) => {}
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn verify_func(func: &Func, before: &[Func], errors: &mut Vec<String>) {
    for (id, node) in func.ids().zip(&func.nodes) {
        let mut fail = |why: String| errors.push(format!("{}: {id} = {}: {why}", func.name, node.op));
        if let Some(a) = node.args.iter().find(|a| **a >= id) {
            fail(format!("operand {a} does not come before it"));
            continue;
        }
        let types: Vec<&Type> = node.args.iter().map(|a| func.ty(*a)).collect();
        let ty = match &node.op {
            Op::Repeat(l) => Graph::repeat_type(before, l, &types),
            op => infer(op, &types),
        };
        match ty {
            Ok(ty) if ty == node.ty => {}
            Ok(ty) => fail(format!("has type {}, should have {ty}", node.ty)),
            Err(why) => fail(why),
        }
    }
    let indices: Vec<u32> = func.nodes.iter().filter_map(|n| if let Op::Input(i, _) = n.op { Some(i) } else { None }).collect();
    if !indices.iter().copied().eq(0..indices.len() as u32) {
        errors.push(format!("{}: inputs are not numbered 0..{}", func.name, indices.len()));
    }
    if func.results.is_empty() {
        errors.push(format!("{}: it returns nothing", func.name));
    }
    for r in &func.results {
        match func.nodes.get(r.index()) {
            None => errors.push(format!("{}: result {r} does not exist", func.name)),
            Some(n) if !n.ty.is_tensor() => errors.push(format!("{}: result {r} is {}, which is no tensor", func.name, n.ty)),
            Some(_) => {}
        }
    }
    errors.extend(check_name(&func.name).err().map(|why| format!("function {why}")));
}

/// What inputs, results and parameters of main are called, and what that says of their types.
fn verify_names(graph: &Graph, main: &Func, errors: &mut Vec<String>) {
    if main.name != "main" {
        errors.push(format!("{}: the last function must be main", main.name));
    }
    if main.results.len() != graph.outputs.len() {
        errors.push(format!("main returns {} values under {} names", main.results.len(), graph.outputs.len()));
    }
    let inputs = main.nodes.iter().filter(|n| matches!(n.op, Op::Input(..))).count();
    if inputs != graph.inputs.len() {
        errors.push(format!("main has {inputs} inputs and {} names for them", graph.inputs.len()));
    }
    let param = |n: &'_ crate::Node| if let Op::Param(name, ty) = &n.op { Some((name.clone(), ty.clone())) } else { None };
    let params: Vec<(crate::Name, Type)> = main.nodes.iter().filter_map(param).collect();
    let params: Vec<(&str, &Type)> = params.iter().map(|(n, t)| (n.as_ref(), t)).collect();
    let mut types: HashMap<&str, &Type> = HashMap::new();
    for (name, ty) in &params {
        match types.insert(name, ty) {
            Some(other) if other != *ty => errors.push(format!("parameter {name} is {ty} and {other}")),
            Some(_) => errors.push(format!("parameter {name} stands twice")),
            None => {}
        }
    }
    errors.extend(check_params(&params).into_iter().map(|e| e.1));
    let mut seen = HashSet::new();
    for name in &graph.inputs {
        errors.extend(check_name(name).err().map(|why| format!("input {why}")));
        if !seen.insert(name) {
            errors.push(format!("two inputs are named {name}"));
        }
        if types.contains_key(name.as_str()) {
            errors.push(format!("{name} names an input and a parameter"));
        }
    }
    verify_results(graph, main, &types, errors);
}

fn verify_results(graph: &Graph, main: &Func, params: &HashMap<&str, &Type>, errors: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for (name, r) in graph.outputs.iter().zip(&main.results) {
        errors.extend(check_name(new_value_of(name).unwrap_or(name)).err().map(|why| format!("result {why}")));
        if !seen.insert(name) {
            errors.push(format!("two results are named {name}"));
        }
        let Some(path) = new_value_of(name) else { continue };
        match params.get(path) {
            None => errors.push(format!("result {name} is the new value of a parameter that main does not have")),
            Some(ty) if *ty != main.ty(*r) => errors.push(format!("result {name} is {}, and the parameter is {ty}", main.ty(*r))),
            Some(_) => {}
        }
    }
}
