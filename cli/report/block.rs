//! The body of a model's loop as a picture: what the compiler made of a block, drawn from above to below.
//!
//! Views are no boxes, and what is computed element by element stands in the box of its operand, as it does in a kernel.

use super::page::{escaped, put};
use eggcorn::ir::{Bin, Class, Func, Graph, NodeId, Op, Type};

/// A box: what it computes, a line an op.
struct Block {
    lines: Vec<String>,
    class: &'static str,
    /// The type of what it gives.
    ty: String,
    /// Boxes it reads, each once.
    from: Vec<usize>,
    /// How many boxes are above it, one after the other.
    row: usize,
}

/// Names of what a function is given.
type Names<'a> = dyn Fn(usize) -> String + 'a;

/// Sizes of the picture: a letter's width, a line's height, the gaps.
const LETTER: f64 = 7.1;
const LINE: f64 = 17.0;
const GAP: (f64, f64) = (26.0, 30.0);
const LANE: f64 = 13.0;

/// The block of a program's longest loop, or of the whole program where it has none; how often it runs.
pub fn draw(graph: &Graph) -> (String, u32) {
    let main = graph.main();
    let body = |id: &NodeId| match &main.node(*id).op {
        Op::Repeat(l) => Some((graph.funcs[l.func as usize].nodes.len(), *id, l)),
        _ => None,
    };
    let longest = main.ids().collect::<Vec<_>>().iter().filter_map(body).max_by_key(|b| b.0);
    match longest {
        None => (picture(&blocks(main, &|i| graph.inputs[i].clone())), 1),
        Some((_, id, l)) => {
            let args = &main.node(id).args;
            let name = |i: usize| match args.get(i).map(|a| &main.node(*a).op) {
                Some(Op::Param(path, _)) => path.rsplit_once("}.").map_or(path.to_string(), |(_, rest)| rest.to_string()),
                _ if i < l.carried as usize => "x".into(),
                _ => String::new(),
            };
            (picture(&blocks(&graph.funcs[l.func as usize], &name)), l.trip)
        }
    }
}

/// The same picture as a file of its own, light or dark as whatever shows it is.
pub fn alone(graph: &Graph) -> String {
    let (svg, _) = draw(graph);
    let style =
        concat!("<style>", include_str!("block.css"), "svg { background: var(--paper); } text { font-family: system-ui, sans-serif; }</style>");
    let with_style = svg.replacen('>', &format!(">{style}"), 1).replacen("<svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"", 1);
    format!("{with_style}\n")
}

/// A function as boxes, the first of which is what comes in.
fn blocks(func: &Func, name: &Names) -> Vec<Block> {
    let input = Block { lines: vec!["x".into()], class: "end", ty: String::new(), from: vec![], row: 0 };
    let mut blocks = vec![input];
    // the box that each value comes from; none of a leaf that is not the stream itself
    let mut home: Vec<Option<usize>> = vec![];
    let live = func.live();
    let users = users(func, &live);
    for id in func.ids() {
        let node = func.node(id);
        let from: Vec<usize> = unique(node.args.iter().filter_map(|a| home[a.index()]));
        let place = match (&node.op, node.op.spec().class) {
            (Op::Input(i, ty), _) if name(*i as usize) == "x" => {
                blocks[0].ty = shape(ty);
                Some(0)
            }
            (Op::Get(_) | Op::Tuple | Op::Cast(_) | Op::StopGradient, _) | (_, Class::View) => from.first().copied(),
            (_, Class::Leaf) => None,
            _ if from.is_empty() || !live[id.index()] => None,
            (op, Class::Pointwise | Class::Composite) if joins(func, &users, id, &from, &blocks) => {
                let block = &mut blocks[from[0]];
                block.lines.push(said(func, id, name));
                block.ty = shape(&node.ty);
                if op.spec().class == Class::Composite && block.class == "plain" {
                    block.class = "found";
                }
                Some(from[0])
            }
            (op, class) => {
                let row = 1 + from.iter().map(|b| blocks[*b].row).max().unwrap_or(0);
                let class = match (op, class) {
                    (Op::Attention(_) | Op::Grouped(_), _) | (_, Class::Composite) => "found",
                    (Op::Contract(_), _) => "product",
                    _ => "plain",
                };
                blocks.push(Block { lines: vec![said(func, id, name)], class, ty: shape(&node.ty), from, row });
                Some(blocks.len() - 1)
            }
        };
        home.push(place);
    }
    let results: Vec<usize> = unique(func.results.iter().filter_map(|r| home[r.index()]));
    let row = 1 + blocks.iter().map(|b| b.row).max().unwrap_or(0);
    blocks.push(Block { lines: vec!["next block".into()], class: "end", ty: String::new(), from: results, row });
    blocks
}

/// A type in words; of several values that of the first.
fn shape(ty: &Type) -> String {
    ty.parts.first().unwrap_or(ty).to_string()
}

/// How many live nodes read each value, views looked through.
fn users(func: &Func, live: &[bool]) -> Vec<usize> {
    let mut users = vec![0; func.nodes.len()];
    for id in func.ids().rev() {
        let node = func.node(id);
        let view = node.op.spec().class == Class::View || matches!(node.op, Op::Get(_));
        let count = if view { users[id.index()] } else { usize::from(live[id.index()]) };
        node.args.iter().for_each(|a| users[a.index()] += count);
    }
    func.results.iter().for_each(|r| users[r.index()] += 1);
    users
}

/// Whether an op stands in its operand's box: it is the only one that reads it, and reads no other box.
fn joins(func: &Func, users: &[usize], id: NodeId, from: &[usize], blocks: &[Block]) -> bool {
    let args = &func.node(id).args;
    let alone = args.iter().all(|a| func.node(*a).op.spec().class == Class::Leaf || users[a.index()] == 1 || is_view_of_leaf(func, *a));
    from.len() == 1 && from[0] != 0 && alone && blocks[from[0]].lines.len() < 8
}

/// Whether a value is a leaf in another shape.
fn is_view_of_leaf(func: &Func, id: NodeId) -> bool {
    let node = func.node(id);
    match node.op.spec().class {
        Class::Leaf => true,
        Class::View => is_view_of_leaf(func, node.args[0]),
        _ => false,
    }
}

/// An op in words, with what it is given besides the stream.
fn said(func: &Func, id: NodeId, name: &Names) -> String {
    let node = func.node(id);
    let given: Vec<String> = node.args.iter().filter_map(|a| leaf(func, *a, name)).collect();
    let word = match &node.op {
        Op::Bin(Bin::Add) if given.is_empty() => "+ residual".to_string(),
        Op::Bin(Bin::Add) => "+".into(),
        Op::Bin(Bin::Mul) => "×".into(),
        Op::Contract(_) => "product".into(),
        op => op.name().into(),
    };
    // constants of composites say little
    let given = if node.op.spec().class == Class::Composite || matches!(node.op, Op::Attention(_)) { vec![] } else { given };
    [&[word][..], &given].concat().join(" ")
}

/// What a leaf is called, or that in another shape.
fn leaf(func: &Func, id: NodeId, name: &Names) -> Option<String> {
    let node = func.node(id);
    match &node.op {
        Op::Input(i, _) => Some(name(*i as usize)).filter(|n| n != "x" && !n.is_empty()),
        Op::Param(path, _) => Some(path.to_string()),
        Op::Const(bits, _) => Some(format!("{:.4}", f64::from_bits(*bits)).trim_end_matches('0').trim_end_matches('.').to_string()),
        op if op.spec().class == Class::View || matches!(op, Op::Cast(_)) => leaf(func, node.args[0], name),
        _ => None,
    }
}

fn unique(items: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut out: Vec<usize> = items.collect();
    out.sort_unstable();
    out.dedup();
    out
}

impl Block {
    fn height(&self) -> f64 {
        LINE * (self.lines.len() + usize::from(!self.ty.is_empty())) as f64 + 12.0
    }
}

/// Where a box stands.
#[derive(Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
}

fn picture(blocks: &[Block]) -> String {
    let rows = 1 + blocks.iter().map(|b| b.row).max().unwrap_or(0);
    let in_row = |r: usize| blocks.iter().enumerate().filter(move |(_, b)| b.row == r);
    let letters = blocks.iter().flat_map(|b| b.lines.iter().chain([&b.ty])).map(|l| l.chars().count()).max().unwrap_or(0);
    let wide = (24.0 + LETTER * letters as f64).max(150.0);
    let widest = (0..rows).map(|r| in_row(r).count()).max().unwrap_or(1) as f64;
    let lanes = lanes(blocks);
    let left = 8.0 + LANE * (1 + lanes.iter().map(|l| l.2).max().unwrap_or(0)) as f64;
    let inner = widest * wide + (widest - 1.0) * GAP.0;
    let mut places = vec![Place { x: 0.0, y: 0.0 }; blocks.len()];
    let mut y = 6.0;
    for r in 0..rows {
        let n = in_row(r).count() as f64;
        let start = left + (inner - (n * wide + (n - 1.0) * GAP.0)) / 2.0;
        for (k, (i, _)) in in_row(r).enumerate() {
            places[i] = Place { x: start + k as f64 * (wide + GAP.0), y };
        }
        y += in_row(r).map(|(_, b)| b.height()).fold(0.0, f64::max) + GAP.1;
    }
    let (width, height) = (left + inner + 8.0, y - GAP.1 + 8.0);
    let mut svg = format!(
        "<svg class=\"block\" viewBox=\"0 0 {width:.0} {height:.0}\" style=\"max-width:{width:.0}px\" role=\"img\" aria-label=\"the fused block\">\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>"
    );
    for (i, b) in blocks.iter().enumerate() {
        for from in b.from.iter().filter(|f| b.row == blocks[**f].row + 1) {
            straight(&mut svg, &blocks[*from], places[*from], places[i], wide);
        }
        boxed(&mut svg, b, places[i], wide);
    }
    for (from, to, lane) in &lanes {
        around(&mut svg, &blocks[*from], places[*from], places[*to], left - LANE * (*lane as f64 + 1.0));
    }
    svg + "</svg>"
}

/// Which edges go around others, and in which lane beside the boxes: those that overlap have lanes of their own.
fn lanes(blocks: &[Block]) -> Vec<(usize, usize, usize)> {
    let mut out: Vec<(usize, usize, usize)> = vec![];
    for (to, b) in blocks.iter().enumerate() {
        for &from in b.from.iter().filter(|f| b.row > blocks[**f].row + 1) {
            let apart = |e: &&(usize, usize, usize)| blocks[e.1].row > blocks[from].row && blocks[e.0].row < b.row;
            let taken: Vec<usize> = out.iter().filter(apart).map(|e| e.2).collect();
            let lane = (0..).find(|l| !taken.contains(l)).expect("there are more lanes than edges");
            out.push((from, to, lane));
        }
    }
    out
}

fn boxed(svg: &mut String, b: &Block, at: Place, wide: f64) {
    let h = b.height();
    put(svg, format_args!("<rect class=\"{}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{h:.1}\" rx=\"7\"/>", b.class, at.x, at.y));
    for (k, line) in b.lines.iter().enumerate() {
        let y = at.y + 18.0 + LINE * k as f64;
        let (op, rest) = line.split_once(' ').unwrap_or((line, ""));
        let class = if k == 0 { "first" } else { "more" };
        let (x, op, rest) = (at.x + 12.0, escaped(op), escaped(rest));
        put(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\"><tspan class=\"{class}\">{op}</tspan> {rest}</text>"));
    }
    if !b.ty.is_empty() {
        let y = at.y + 18.0 + LINE * b.lines.len() as f64;
        put(svg, format_args!("<text class=\"type\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>", at.x + 12.0, escaped(&b.ty)));
    }
}

/// An edge to the next row.
fn straight(svg: &mut String, b: &Block, from: Place, to: Place, wide: f64) {
    let (x, y, tx, ty) = (from.x + wide / 2.0, from.y + b.height(), to.x + wide / 2.0, to.y - 2.0);
    let middle = (y + ty) / 2.0;
    put(svg, format_args!("<path class=\"edge\" d=\"M{x:.1} {y:.1} C{x:.1} {middle:.1} {tx:.1} {middle:.1} {tx:.1} {ty:.1}\"/>"));
}

/// An edge beside what is between.
fn around(svg: &mut String, b: &Block, from: Place, to: Place, lane: f64) {
    let (y, ty) = (from.y + b.height() / 2.0, to.y + 12.0);
    let r = 6.0;
    put(
        svg,
        format_args!(
            "<path class=\"edge skip\" d=\"M{:.1} {y:.1} H{:.1} Q{lane:.1} {y:.1} {lane:.1} {:.1} V{:.1} Q{lane:.1} {ty:.1} {:.1} {ty:.1} H{:.1}\"/>",
            from.x,
            lane + r,
            y + r,
            ty - r,
            lane + r,
            to.x - 2.0
        ),
    );
}
