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
use crate::limits::{check_ops, unrolled, unrolled_op};
use crate::names::new_value_of;
use crate::naming::check_name;
use crate::op::Op;
use crate::types::{Type, list, split_top};
use crate::verify::verify;
use std::collections::{HashMap, HashSet};
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
    /// Line of the text, from 1; 0 where there is none.
    pub line: usize,
    /// Column of the line, from 1, in characters: where what is wrong begins.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

/// What is wrong with a part of a line.
struct Fault<'a> {
    part: &'a str,
    message: String,
}

/// Says which part of a line an error is about.
fn at<'a, E: Display>(part: &'a str) -> impl Fn(E) -> Fault<'a> {
    move |why| Fault { part, message: why.to_string() }
}

fn fault<T>(part: &str, message: String) -> Result<T, Fault<'_>> {
    Err(Fault { part, message })
}

impl Fault<'_> {
    /// Its place in the text: the part is a slice of the line.
    fn locate(self, line: usize, raw: &str) -> ParseError {
        let start = (self.part.as_ptr() as usize).saturating_sub(raw.as_ptr() as usize);
        let column = 1 + raw.get(..start).map_or(0, |before| before.chars().count());
        ParseError { line, column, message: self.message }
    }
}

impl FromStr for Graph {
    type Err = ParseError;
    /// Reads what `Display` writes, and verifies it.
    fn from_str(text: &str) -> Result<Graph, ParseError> {
        let mut program = Program::default();
        for (i, raw) in text.strip_prefix('\u{FEFF}').unwrap_or(text).lines().enumerate() {
            let line = raw.trim();
            if !line.is_empty() && !line.starts_with(';') {
                program.line(line).map_err(|f| f.locate(i + 1, raw))?;
            }
        }
        program.finish().map_err(|message| ParseError { line: text.lines().count(), column: 1, message })
    }
}

/// A text being read: functions so far, and one that is open.
#[derive(Default)]
struct Program {
    graph: Graph,
    /// Ops of each function with its loops unrolled.
    ops: Vec<u64>,
    open: Option<Reader>,
    has_main: bool,
}

impl Program {
    fn line<'a>(&mut self, line: &'a str) -> Result<(), Fault<'a>> {
        match self.open.take() {
            None if self.has_main => return fault(line, "nothing may follow main".into()),
            None => {
                let reader = Reader::header(line, &mut self.graph)?;
                self.has_main = reader.is_main;
                self.open = Some(reader);
            }
            Some(reader) if line == "}" => {
                if !reader.returned {
                    return fault(line, "a function returns at least one value: expected return before '}'".into());
                }
                self.ops.push(unrolled(&reader.func, &self.ops));
                self.graph.funcs.push(reader.func);
            }
            Some(mut reader) => {
                reader.line(line, &mut self.graph, &self.ops)?;
                self.open = Some(reader);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Graph, String> {
        if self.open.is_some() {
            return Err("a function is not closed: expected '}'".into());
        }
        if !self.has_main {
            return Err("there is no main function".into());
        }
        verify(&self.graph).map_err(|errors| errors.join("; "))?;
        Ok(self.graph)
    }
}

/// A function being read.
struct Reader {
    func: Func,
    is_main: bool,
    names: HashMap<String, NodeId>,
    /// Main's parameters by path.
    params: HashMap<String, NodeId>,
    /// Names of main's inputs and results.
    taken: HashSet<String>,
    /// Ops so far with loops unrolled.
    ops: u64,
    returned: bool,
}

impl Reader {
    fn header<'a>(line: &'a str, graph: &mut Graph) -> Result<Reader, Fault<'a>> {
        let bad = || Fault { part: line, message: format!("'{}': expected a function like f0 name(%0: f32[4]) {{ or main(…) {{", short(line)) };
        let (title, rest) = line.split_once('(').ok_or_else(bad)?;
        let inputs = rest.strip_suffix('{').map(str::trim_end).and_then(|t| t.strip_suffix(')')).ok_or_else(bad)?;
        let (is_main, name) = match title.split_once(' ') {
            None if title == "main" => (true, "main"),
            Some((id, name)) if id == format!("f{}", graph.funcs.len()) => (false, name),
            _ => return fault(title, format!("'{}': expected f{} and a name, or main", short(title), graph.funcs.len())),
        };
        check_name(name).map_err(at(name))?;
        let (names, params, taken) = (HashMap::new(), HashMap::new(), HashSet::new());
        let mut reader = Reader { func: Func::new(name), is_main, names, params, taken, ops: 0, returned: false };
        for (i, input) in split_top(inputs).into_iter().enumerate() {
            reader.input(i, input, graph)?;
        }
        Ok(reader)
    }

    fn input<'a>(&mut self, i: usize, input: &'a str, graph: &mut Graph) -> Result<(), Fault<'a>> {
        let wanted = || format!("'{}': expected %{i}{}", short(input), if self.is_main { " and a name" } else { "" });
        let Some((title, ty)) = input.split_once(':') else { return fault(input, wanted()) };
        let (id, label) = title.split_once(' ').unwrap_or((title, ""));
        if id != format!("%{i}") || self.is_main == label.is_empty() {
            return fault(input, wanted());
        }
        if self.is_main {
            check_name(label).map_err(at(label))?;
            if !self.taken.insert(label.into()) {
                return fault(label, format!("two inputs are named {label}"));
            }
            graph.inputs.push(label.into());
        }
        let parsed: Type = ty.parse().map_err(at(ty.trim()))?;
        let op = Op::Input(i as u32, parsed);
        let ty = infer(&op, &[]).map_err(at(ty.trim()))?;
        let node = self.func.push(Node { op, args: vec![], ty, loc: None });
        self.names.insert(id.into(), node);
        Ok(())
    }

    fn line<'a>(&mut self, line: &'a str, graph: &mut Graph, ops: &[u64]) -> Result<(), Fault<'a>> {
        if self.returned {
            return fault(line, "nothing may follow return".into());
        }
        if let Some(results) = line.strip_prefix("return").filter(|r| r.is_empty() || r.starts_with(' ')) {
            self.returned = true;
            return self.results(results, graph);
        }
        let Some((rest, ty_text)) = line.rsplit_once(" : ") else {
            return fault(line, format!("'{}': expected a type after ' : '", short(line)));
        };
        let ty: Type = ty_text.parse().map_err(at(ty_text.trim()))?;
        let rest = rest.trim();
        if let Some(path) = rest.strip_prefix('@') {
            return self.param(rest, path, ty);
        }
        let Some((name, call)) = rest.split_once(" = ") else {
            return fault(rest, format!("'{}': expected %n = op operands", short(rest)));
        };
        let (name, call) = (name.trim(), call.trim());
        if !name.strip_prefix('%').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
            return fault(name, format!("'{}' is no name of a value: expected %n", short(name)));
        }
        let (op_text, args) = call.split_once(' ').unwrap_or((call, ""));
        let op: Op = op_text.parse().map_err(at(op_text))?;
        let args = split_top(args).into_iter().map(|a| self.operand(a)).collect::<Result<Vec<_>, _>>()?;
        self.ops = self.ops.saturating_add(unrolled_op(&op, ops));
        check_ops(self.ops).map_err(at(op_text))?;
        let types: Vec<&Type> = args.iter().map(|a| self.func.ty(*a)).collect();
        let have = match &op {
            Op::Repeat(l) => Graph::repeat_type(&graph.funcs, l, &types),
            op => infer(op, &types),
        };
        let have = have.map_err(at(call))?;
        if have != ty {
            return fault(ty_text.trim(), format!("{op} gives {have}, not {ty}"));
        }
        let id = self.func.push(Node { op, args, ty, loc: None });
        self.define(name, id)
    }

    fn param<'a>(&mut self, name: &'a str, path: &'a str, ty: Type) -> Result<(), Fault<'a>> {
        if !self.is_main {
            return fault(name, format!("{}: a parameter in a function that is not main: pass it in", short(name)));
        }
        check_name(path).map_err(at(path))?;
        let op = Op::Param(path.into(), ty);
        let id = self.func.push(Node { ty: infer(&op, &[]).map_err(at(name))?, op, args: vec![], loc: None });
        self.define(name, id)?;
        self.params.insert(path.into(), id);
        Ok(())
    }

    fn define<'a>(&mut self, name: &'a str, id: NodeId) -> Result<(), Fault<'a>> {
        match self.names.insert(name.into(), id) {
            None => Ok(()),
            Some(_) => fault(name, format!("{name} is defined twice")),
        }
    }

    fn operand<'a>(&mut self, text: &'a str) -> Result<NodeId, Fault<'a>> {
        if let Some(id) = self.names.get(text) {
            return Ok(*id);
        }
        match text.parse() {
            Ok(op @ Op::Const(..)) => {
                let id = self.func.add(op, &[]);
                self.names.insert(text.into(), id);
                Ok(id)
            }
            _ => fault(text, format!("{} is not defined before this line", short(text))),
        }
    }

    fn results<'a>(&mut self, text: &'a str, graph: &mut Graph) -> Result<(), Fault<'a>> {
        for part in split_top(text) {
            let value = match part.split_once('=') {
                Some((name, value)) if self.is_main => {
                    self.result(name, value, graph)?;
                    value
                }
                None if self.is_main => return fault(part, format!("'{}': expected name=value", short(part))),
                _ => part,
            };
            let id = self.operand(value)?;
            if !self.func.ty(id).is_tensor() {
                return fault(value, format!("{value} is {}, which is no tensor; take a member with get", self.func.ty(id)));
            }
            self.func.results.push(id);
        }
        if self.func.results.is_empty() {
            return fault(text, "a function returns at least one value".into());
        }
        let states = graph.outputs.iter().filter_map(|o| self.params.get(new_value_of(o)?).copied());
        self.func = self.func.sweep_keeping(&states.collect::<Vec<_>>());
        Ok(())
    }

    /// A named result: its name is new, and that of state is a parameter's of the value's type.
    fn result<'a>(&mut self, name: &'a str, value: &'a str, graph: &mut Graph) -> Result<(), Fault<'a>> {
        check_name(new_value_of(name).unwrap_or(name)).map_err(at(name))?;
        // '=' is in no name, so that results are told from inputs
        if !self.taken.insert(format!("={name}")) {
            return fault(name, format!("two results are named {name}"));
        }
        if let Some(path) = new_value_of(name) {
            let id = self.operand(value)?;
            let have = self.func.ty(id);
            match self.params.get(path).map(|p| self.func.ty(*p)) {
                None => return fault(name, format!("{name} is the new value of a parameter that main does not have")),
                Some(want) if want != have => return fault(name, format!("{name} is {have}, and the parameter is {want}")),
                Some(_) => {}
            }
        }
        graph.outputs.push(name.into());
        Ok(())
    }
}

/// A part of a line as errors quote it.
fn short(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
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
