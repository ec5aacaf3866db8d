//! The text of a graph: what `dump` prints, what snapshots keep, and what `parse` reads back.
//!
//! ```text
//! f0 h(%0: f32[B,T,64], %1: f32[64,64]) {
//!   %2 = contract[abd,dc->abc] %0, %1 : f32[B,T,64]
//!   return %2
//! }
//!
//! main(%0 x: f32[B,T,64]) {
//!   @h.{}.w : f32[12,64,64]
//!   %1 = repeat[f0,12,1,1] %0, @h.{}.w : (f32[B,T,64])
//!   %2 = get[0] %1                     : f32[B,T,64]
//!   return y=%2
//! }
//! ```
//! Lines that begin with `;` are comments.

use crate::graph::{Func, Graph, Node, NodeId};
use crate::infer::infer;
use crate::op::Op;
use crate::types::{Type, list, split_top};
use std::collections::HashMap;
use std::fmt::{self, Display, Write};
use std::str::FromStr;

impl Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (i, func) in self.funcs.iter().enumerate() {
            let is_main = i + 1 == self.funcs.len();
            if is_main {
                print_func(f, func, "main", Some((&self.inputs, &self.outputs)))?;
            } else {
                print_func(f, func, &format!("f{i} {}", func.name), None)?;
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// The name of each value: `%n` densely over inputs and ops, `@path` for parameters, the number itself for constants.
fn names(func: &Func) -> Vec<String> {
    let inputs = func.nodes.iter().filter(|n| matches!(n.op, Op::Input(..))).count();
    let mut next = inputs;
    let name = |n: &Node| match &n.op {
        Op::Input(i, _) => format!("%{i}"),
        Op::Param(..) | Op::Const(..) => n.op.to_string(),
        _ => {
            next += 1;
            format!("%{}", next - 1)
        }
    };
    func.nodes.iter().map(name).collect()
}

fn print_func(f: &mut fmt::Formatter, func: &Func, title: &str, outside: Option<(&Vec<String>, &Vec<String>)>) -> fmt::Result {
    let names = names(func);
    let inputs: Vec<String> = func
        .inputs()
        .iter()
        .enumerate()
        .map(|(i, ty)| match outside.and_then(|o| o.0.get(i)) {
            Some(name) => format!("%{i} {name}: {ty}"),
            None => format!("%{i}: {ty}"),
        })
        .collect();
    writeln!(f, "{title}({}) {{", inputs.join(", "))?;
    let mut lines: Vec<(String, &Type)> = vec![];
    for (id, node) in func.ids().zip(&func.nodes) {
        let line = match &node.op {
            Op::Input(..) | Op::Const(..) => continue,
            Op::Param(..) => names[id.index()].clone(),
            op => {
                let args: Vec<&str> = node.args.iter().map(|a| names[a.index()].as_str()).collect();
                format!("{} = {op} {}", names[id.index()], args.join(", ")).trim_end().to_string()
            }
        };
        lines.push((line, &node.ty));
    }
    // one column for the types, where lines are not absurdly long
    let width = lines.iter().map(|l| l.0.chars().count()).filter(|w| *w <= 96).max().unwrap_or(0);
    for (line, ty) in lines {
        writeln!(f, "  {line:<width$} : {ty}")?;
    }
    let mut results = String::new();
    for (i, r) in func.results.iter().enumerate() {
        let comma = if i == 0 { " " } else { ", " };
        match outside.and_then(|o| o.1.get(i)) {
            Some(name) => write!(results, "{comma}{name}={}", names[r.index()])?,
            None => write!(results, "{comma}{}", names[r.index()])?,
        }
    }
    writeln!(f, "  return{results}")?;
    writeln!(f, "}}")
}

/// Why a text is not a graph, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Line of the text, from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

impl Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for ParseError {}

impl FromStr for Graph {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Graph, ParseError> {
        let mut graph = Graph::default();
        let mut open: Option<Reader> = None;
        for (i, raw) in text.lines().enumerate() {
            let at = |message: String| ParseError { line: i + 1, message };
            let line = raw.trim();
            if line.is_empty() || line.starts_with(';') {
                continue;
            }
            match open.take() {
                None if graph.outputs.is_empty() && !graph.funcs.iter().any(|f| f.name == "main") => {
                    open = Some(Reader::header(line, &mut graph).map_err(at)?);
                }
                None => return Err(at("nothing may follow main".into())),
                Some(reader) if line == "}" => graph.funcs.push(reader.func),
                Some(mut reader) => {
                    reader.line(line, &mut graph).map_err(at)?;
                    open = Some(reader);
                }
            }
        }
        let end = |message: &str| ParseError { line: text.lines().count(), message: message.into() };
        if open.is_some() {
            return Err(end("a function is not closed: expected '}'"));
        }
        if graph.funcs.last().is_none_or(|f| f.name != "main") {
            return Err(end("there is no main function"));
        }
        Ok(graph)
    }
}

/// A function being read.
struct Reader {
    func: Func,
    names: HashMap<String, NodeId>,
    returned: bool,
}

impl Reader {
    fn header(line: &str, graph: &mut Graph) -> Result<Reader, String> {
        let bad = || format!("'{line}': expected a function like f0 name(%0: f32[4]) {{ or main(…) {{");
        let (title, rest) = line.split_once('(').ok_or_else(bad)?;
        let inputs = rest.strip_suffix('{').map(str::trim_end).and_then(|t| t.strip_suffix(')')).ok_or_else(bad)?;
        let name = match title.split_once(' ') {
            None if title == "main" => "main",
            Some((id, name)) if id == format!("f{}", graph.funcs.len()) && name != "main" => name,
            _ => return Err(format!("'{title}': expected f{} or main", graph.funcs.len())),
        };
        let mut reader = Reader { func: Func::new(name), names: HashMap::new(), returned: false };
        for (i, input) in split_top(inputs).into_iter().enumerate() {
            let (id, ty) = input.split_once(':').ok_or_else(bad)?;
            let (id, label) = id.split_once(' ').unwrap_or((id, ""));
            if id != format!("%{i}") || (name == "main") == label.is_empty() {
                return Err(format!("'{input}': expected %{i}{}", if name == "main" { " and a name" } else { "" }));
            }
            if name == "main" {
                graph.inputs.push(label.into());
            }
            let ty: Type = ty.parse()?;
            let node = reader.func.push(Node { op: Op::Input(i as u32, ty.clone()), args: vec![], ty, loc: None });
            reader.names.insert(id.into(), node);
        }
        Ok(reader)
    }

    fn line(&mut self, line: &str, graph: &mut Graph) -> Result<(), String> {
        if self.returned {
            return Err("nothing may follow return".into());
        }
        if let Some(results) = line.strip_prefix("return") {
            self.returned = true;
            return self.results(results, graph);
        }
        let (rest, ty) = line.rsplit_once(" : ").ok_or_else(|| format!("'{line}': expected a type after ' : '"))?;
        let ty: Type = ty.parse()?;
        if rest.starts_with('@') {
            let name = rest.trim();
            let op = Op::Param(name[1..].into(), ty.clone());
            let id = self.func.push(Node { op, args: vec![], ty, loc: None });
            return self.define(name, id);
        }
        let (name, call) = rest.split_once(" = ").ok_or_else(|| format!("'{rest}': expected %n = op operands"))?;
        let call = call.trim();
        let (op, args) = call.split_once(' ').unwrap_or((call, ""));
        let op: Op = op.parse()?;
        let args = split_top(args).into_iter().map(|a| self.operand(a)).collect::<Result<Vec<_>, _>>()?;
        let types: Vec<&Type> = args.iter().map(|a| self.func.ty(*a)).collect();
        let have = match &op {
            Op::Repeat(l) => Graph::repeat_type(&graph.funcs, l, &types)?,
            op => infer(op, &types)?,
        };
        if have != ty {
            return Err(format!("{op} gives {have}, not {ty}"));
        }
        let id = self.func.push(Node { op, args, ty, loc: None });
        self.define(name.trim(), id)
    }

    fn define(&mut self, name: &str, id: NodeId) -> Result<(), String> {
        match self.names.insert(name.into(), id) {
            None => Ok(()),
            Some(_) => Err(format!("{name} is defined twice")),
        }
    }

    fn operand(&mut self, text: &str) -> Result<NodeId, String> {
        if let Some(id) = self.names.get(text) {
            return Ok(*id);
        }
        match text.parse() {
            Ok(op @ Op::Const(..)) => {
                let id = self.func.add(op, &[]);
                self.names.insert(text.into(), id);
                Ok(id)
            }
            _ => Err(format!("{text} is not defined before this line")),
        }
    }

    fn results(&mut self, text: &str, graph: &mut Graph) -> Result<(), String> {
        for part in split_top(text) {
            let value = match (self.func.name.as_str(), part.split_once('=')) {
                ("main", Some((name, value))) => {
                    graph.outputs.push(name.into());
                    value
                }
                ("main", None) => return Err(format!("'{part}': expected name=value")),
                (_, _) => part,
            };
            let id = self.operand(value)?;
            self.func.results.push(id);
        }
        if self.func.results.is_empty() {
            return Err("a function returns at least one value".into());
        }
        self.func = self.func.sweep();
        Ok(())
    }
}

impl Graph {
    /// The graph in Graphviz's language: one cluster a function.
    pub fn to_dot(&self) -> String {
        let mut out = String::from("digraph eggcorn {\n  node [shape=box, fontname=monospace];\n");
        for (i, func) in self.funcs.iter().enumerate() {
            let names = names(func);
            let _ = writeln!(out, "  subgraph cluster_{i} {{ label=\"{}\";", func.name);
            for (id, node) in func.ids().zip(&func.nodes) {
                let _ = writeln!(out, "    n{i}_{} [label=\"{} {}\\n{}\"];", id.0, names[id.index()], node.op, node.ty);
            }
            out.push_str("  }\n");
            for (id, node) in func.ids().zip(&func.nodes) {
                for a in &node.args {
                    let _ = writeln!(out, "  n{i}_{} -> n{i}_{};", a.0, id.0);
                }
            }
        }
        out + "}\n"
    }

    /// The graph as JSON: functions, nodes in order with op, operands and type, results.
    pub fn to_json(&self) -> String {
        let quote = |s: &str| format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\""));
        let node = |n: &Node| {
            let args: Vec<String> = n.args.iter().map(|a| a.0.to_string()).collect();
            format!("{{\"op\":{},\"args\":[{}],\"type\":{}}}", quote(&n.op.to_string()), args.join(","), quote(&n.ty.to_string()))
        };
        let func = |f: &Func| {
            let nodes: Vec<String> = f.nodes.iter().map(node).collect();
            let results: Vec<u32> = f.results.iter().map(|r| r.0).collect();
            format!("{{\"name\":{},\"nodes\":[{}],\"results\":[{}]}}", quote(&f.name), nodes.join(","), list(&results))
        };
        let strings = |names: &[String]| names.iter().map(|n| quote(n)).collect::<Vec<_>>().join(",");
        let funcs: Vec<String> = self.funcs.iter().map(func).collect();
        format!("{{\"funcs\":[{}],\"inputs\":[{}],\"outputs\":[{}]}}\n", funcs.join(","), strings(&self.inputs), strings(&self.outputs))
    }
}
