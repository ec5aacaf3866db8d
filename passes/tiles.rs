//! Rows in tiles: a large value that is made, read and summed row by row, as the logits of a language model, is never whole.
//!
//! Logits of all tokens over all words are the largest value of a step: 4 × 1024 tokens over 50,257 words are 823 MB, and as much again for
//! their gradient, where the compiler cannot make it in place. Each row is needed for its own loss and gradient and for sums over rows, so
//! that what lies between the states and these becomes a `repeat` over tiles of rows. (Hsu et al. 2024, "Liger kernel", do so by hand for
//! one head and one loss; here any arithmetic over rows between products will do, forward and backward.) Sums over rows are added up tile
//! by tile: their order is another, and fixed.

use ir::{Class, Dim, Dims, Ein, Func, Graph, Loop, Node, NodeId, Op, Red, Type, num};
use std::collections::HashMap;

/// When rows go through in tiles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tiles {
    /// Bytes of the largest value that is whole, and of the largest tile.
    pub largest: usize,
    /// Rows of the smallest tile: for fewer, reading the other operand of a product again is not worth it.
    pub fewest: usize,
}

impl Default for Tiles {
    /// Measured on logits of 4 × 1024 tokens over 50,257 words, one layer of GPT-2, on two cores: in tiles of 200 MB a step takes 3 % longer
    /// than with whole logits, in tiles of 50 MB 7 %.
    fn default() -> Tiles {
        Tiles { largest: 256 << 20, fewest: 64 }
    }
}

/// The program with large values in tiles, wherever they are read row by row alone; and otherwise as it was.
pub fn tile_rows(graph: &Graph, tiles: Tiles) -> Graph {
    let mut out = graph.clone();
    // what was tiled is in a loop's body, and main has a value less
    while let Some(region) = out.main().ids().find_map(|id| Region::around(out.main(), id, tiles)) {
        out = region.tiled(&out).sweep();
    }
    out
}

/// What a value in a loop over rows is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// Rows of a tile: the axes of rows come first.
    Rows,
    /// A sum over rows, which is whole when the loop ends.
    Sum,
}

/// What is computed in the loop.
struct Region {
    /// The axes of rows.
    rows: Dims,
    /// Rows of a tile.
    tile: usize,
    /// Members, and what each is.
    parts: HashMap<NodeId, Part>,
}

impl Region {
    /// What has to go through in tiles so that this value does.
    fn around(func: &Func, seed: NodeId, tiles: Tiles) -> Option<Region> {
        let (op, ty) = (&func.node(seed).op, func.ty(seed));
        let is_large = |ty: &Type| ty.dtype != ir::DType::Tuple && ty.bytes() > tiles.largest;
        if !matches!(op, Op::Contract(_)) || ty.rank() < 2 || !is_large(ty) {
            return None;
        }
        let rows: Dims = ty.dims[..ty.rank() - 1].iter().copied().collect();
        let all = rows.iter().map(|d| d.size()).product::<usize>();
        let most = tiles.largest / (ty.bytes() / all);
        let tile = (tiles.fewest.max(1)..=most.min(all / 2)).rev().find(|r| all % r == 0)?;
        let mut region = Region { rows, tile, parts: HashMap::new() };
        // whatever can be made of large values by row, and then what stands between members
        for id in func.ids().skip(seed.index()) {
            let reads = |id: &NodeId| region.parts.get(id) == Some(&Part::Rows) && is_large(func.ty(*id));
            if id == seed || func.node(id).args.iter().any(reads) {
                region.part(func, id).map(|part| region.parts.insert(id, part));
            }
        }
        region.close(func)?;
        let is_whole = |id: &NodeId| func.ty(*id).dims == ty.dims && region.is_given(func, *id);
        (region.parts.contains_key(&seed) && !region.parts.keys().any(is_whole)).then_some(region)
    }

    /// Takes in what is made of members and is read by members.
    fn close(&mut self, func: &Func) -> Option<()> {
        let made = self.descendants(func);
        let mut read = vec![false; func.nodes.len()];
        for id in func.ids().rev() {
            if read[id.index()] || self.parts.contains_key(&id) {
                func.node(id).args.iter().for_each(|a| read[a.index()] = true);
            }
        }
        for id in func.ids().filter(|id| made[id.index()] && read[id.index()]) {
            if !self.parts.contains_key(&id) {
                let part = self.part(func, id)?;
                self.parts.insert(id, part);
            }
        }
        Some(())
    }

    /// Which values depend on members, members aside.
    fn descendants(&self, func: &Func) -> Vec<bool> {
        let mut made = vec![false; func.nodes.len()];
        for id in func.ids() {
            made[id.index()] = func.node(id).args.iter().any(|a| made[a.index()] || self.parts.contains_key(a));
        }
        made
    }

    /// Whether a member is read outside of the loop.
    fn is_given(&self, func: &Func, id: NodeId) -> bool {
        func.results.contains(&id) || func.ids().any(|user| !self.parts.contains_key(&user) && func.node(user).args.contains(&id))
    }

    /// Whether a value has the axes of rows, first.
    fn has_rows(&self, ty: &Type) -> bool {
        ty.dtype != ir::DType::Tuple && ty.dims.starts_with(&self.rows)
    }

    /// What an op makes of tiles, if it can be computed of them one by one.
    fn part(&self, func: &Func, id: NodeId) -> Option<Part> {
        let node = func.node(id);
        let (rank, class) = (node.ty.rank(), node.op.spec().class);
        // a sum is whole when the loop has ended, and no sooner
        if node.args.iter().any(|a| self.parts.get(a) == Some(&Part::Sum)) {
            return None;
        }
        if let Op::Contract(ein) = &node.op {
            return self.part_of_product(func, node, ein);
        }
        if let Op::Reduce(red, axes) = &node.op {
            let of_rows = axes.iter().filter(|a| **a < self.rows.len() as i8 - rank as i8).count();
            let sums = of_rows == self.rows.len() && *red == Red::Sum;
            return if of_rows == 0 { Some(Part::Rows) } else { sums.then_some(Part::Sum) };
        }
        let by_row = class == Class::Pointwise || matches!(node.op, Op::Row(_));
        let fits = |a: &NodeId| self.parts.contains_key(a) || self.operand(func.ty(*a), rank).is_some();
        (by_row && self.has_rows(&node.ty) && node.args.iter().all(fits)).then_some(Part::Rows)
    }

    /// Rows by a matrix are rows, and so are rows by rows, one by one; over all of them they are a sum.
    fn part_of_product(&self, func: &Func, node: &Node, ein: &Ein) -> Option<Part> {
        let operands = [(&ein.a, node.args[0]), (&ein.b, node.args[1])];
        let fits = |part: Part| {
            let rows = self.labels(ein, part)?;
            let one = |(labels, id): &(&ir::Labels, NodeId)| {
                labels.starts_with(&rows) && self.has_rows(func.ty(*id)) || !self.parts.contains_key(id) && !labels.iter().any(|l| rows.contains(l))
            };
            operands.iter().all(one).then_some(part)
        };
        fits(Part::Rows).or_else(|| fits(Part::Sum))
    }

    /// The labels of rows of a product that is rows, or a sum of them.
    fn labels(&self, ein: &Ein, part: Part) -> Option<ir::Labels> {
        let k = self.rows.len();
        match part {
            Part::Rows => (ein.out as usize >= k).then(|| (0..k as u8).collect()),
            Part::Sum => {
                let rows: ir::Labels = ein.a.iter().copied().take(k).collect();
                (rows.len() == k && ein.b.starts_with(&rows) && rows.iter().all(|l| *l >= ein.out)).then_some(rows)
            }
        }
    }

    /// How an operand from outside is read by an op over elements of this rank: as rows, or the same for every row, of this shape.
    fn operand(&self, ty: &Type, rank: usize) -> Option<Operand> {
        let k = self.rows.len();
        if ty.rank() == rank && self.has_rows(ty) {
            return Some(Operand::Rows);
        }
        let before = (ty.rank() + k).saturating_sub(rank);
        ty.dims[..before].iter().all(|d| *d == Dim::ONE).then(|| Operand::Whole(ty.dims[before..].iter().copied().collect()))
    }

    /// The program with the members in a loop.
    fn tiled(&self, graph: &Graph) -> Graph {
        let main = graph.main();
        let mut funcs = graph.funcs[..graph.funcs.len() - 1].to_vec();
        let body = Body::new(self, main);
        let later = self.descendants(main);
        let mut out = Func::new(&main.name);
        let mut new: HashMap<NodeId, NodeId> = HashMap::new();
        let copy = |out: &mut Func, new: &mut HashMap<NodeId, NodeId>, id: NodeId| {
            let node = main.node(id);
            let args = node.args.iter().map(|a| new[a]).collect();
            new.insert(id, out.push(Node { args, ..node.clone() }));
        };
        let outside = |id: &NodeId| !self.parts.contains_key(id);
        for id in main.ids().filter(|id| outside(id) && !later[id.index()]) {
            copy(&mut out, &mut new, id);
        }
        body.emit(self, main, &mut funcs, &mut out, &mut new);
        for id in main.ids().filter(|id| outside(id) && later[id.index()]) {
            copy(&mut out, &mut new, id);
        }
        out.results = main.results.iter().map(|r| new[r]).collect();
        funcs.push(out);
        Graph { funcs, ..graph.clone() }
    }

    /// Tiles of all rows.
    fn trip(&self) -> u32 {
        (self.rows.iter().map(|d| d.size()).product::<usize>() / self.tile) as u32
    }

    /// The type of a tile, or of a sum as the loop has it: one axis instead of those of rows.
    fn in_loop(&self, ty: &Type, rows: usize) -> Type {
        let dims = std::iter::once(Dim::from(rows as u32)).chain(ty.dims[self.rows.len()..].iter().copied()).collect();
        Type { dims, ..ty.clone() }
    }
}

/// How what is computed outside is read.
enum Operand {
    Rows,
    Whole(Dims),
}

/// The function of a tile.
struct Body {
    func: Func,
    /// Members that are sums, in the order in which they go round.
    sums: Vec<NodeId>,
    /// Rows of outside, each a tile an iteration.
    stacked: Vec<NodeId>,
    /// What of outside is the same for every tile, and the shape it is read in.
    same: Vec<(NodeId, Dims)>,
    /// Members that are rows and are read outside.
    given: Vec<NodeId>,
}

impl Body {
    fn new(region: &Region, main: &Func) -> Body {
        let members: Vec<NodeId> = main.ids().filter(|id| region.parts.contains_key(id)).collect();
        let sums: Vec<NodeId> = members.iter().copied().filter(|id| region.parts[id] == Part::Sum).collect();
        let is_given = |id: &NodeId| region.parts[id] == Part::Rows && region.is_given(main, *id);
        let given = members.iter().copied().filter(is_given).collect();
        let mut body = Body { func: Func::new("rows"), sums, stacked: vec![], same: vec![], given };
        for id in &members {
            for (i, a) in main.node(*id).args.iter().enumerate().filter(|(_, a)| !region.parts.contains_key(a)) {
                match read_as(region, main, *id, i) {
                    Operand::Rows if !body.stacked.contains(a) => body.stacked.push(*a),
                    Operand::Whole(dims) if !body.same.contains(&(*a, dims.clone())) => body.same.push((*a, dims)),
                    Operand::Rows | Operand::Whole(_) => {}
                }
            }
        }
        body.write(region, main, &members);
        body
    }

    /// The body: sums so far, tiles and the rest come in; sums and tiles go out.
    fn write(&mut self, region: &Region, main: &Func, members: &[NodeId]) {
        let func = &mut self.func;
        let input = |func: &mut Func, ty: Type| func.add(Op::Input(func.nodes.len() as u32, ty), &[]);
        let before: Vec<NodeId> = self.sums.iter().map(|id| input(func, sum_type(region, main, *id))).collect();
        let rows: Vec<NodeId> = self.stacked.iter().map(|id| input(func, region.in_loop(main.ty(*id), region.tile))).collect();
        let same: Vec<NodeId> = self.same.iter().map(|(id, dims)| input(func, Type { dims: dims.clone(), ..main.ty(*id).clone() })).collect();
        let mut new: HashMap<NodeId, NodeId> = self.stacked.iter().copied().zip(rows).collect();
        for id in members {
            let node = main.node(*id);
            let arg = |(i, a): (usize, &NodeId)| {
                if region.parts.contains_key(a) {
                    return new[a];
                }
                match read_as(region, main, *id, i) {
                    Operand::Rows => new[a],
                    Operand::Whole(dims) => same[self.same.iter().position(|s| *s == (*a, dims.clone())).expect("it was listed")],
                }
            };
            let args: Vec<NodeId> = node.args.iter().enumerate().map(arg).collect();
            let made = self.func.add(in_loop(region, main, *id), &args);
            self.func.nodes[made.index()].loc = node.loc;
            new.insert(*id, made);
        }
        let sums = self.sums.iter().zip(&before).map(|(id, so_far)| self.func.add(Op::Bin(ir::Bin::Add), &[*so_far, new[id]])).collect::<Vec<_>>();
        self.func.results = sums.into_iter().chain(self.given.iter().map(|id| new[id])).collect();
    }

    /// The loop, and what is read of it in main's own shapes.
    fn emit(self, region: &Region, main: &Func, funcs: &mut Vec<Func>, out: &mut Func, new: &mut HashMap<NodeId, NodeId>) {
        let trip = region.trip();
        let l = Loop { func: funcs.len() as u32, trip, carried: self.sums.len() as u32, stacked: self.stacked.len() as u32, reverse: false };
        let mut args = vec![];
        for id in &self.sums {
            let zero = out.add(num(0.0), &[]);
            args.push(out.add(Op::Broadcast(sum_type(region, main, *id).dims), &[zero]));
        }
        for id in &self.stacked {
            let tiles = ir::stack(&region.in_loop(main.ty(*id), region.tile), trip);
            args.push(out.add(Op::Reshape(tiles.dims), &[new[id]]));
        }
        for (id, dims) in &self.same {
            args.push(if *dims == main.ty(*id).dims { new[id] } else { out.add(Op::Reshape(dims.clone()), &[new[id]]) });
        }
        funcs.push(self.func);
        let types: Vec<&Type> = args.iter().map(|a| out.ty(*a)).collect();
        let ty = Graph::repeat_type(funcs, &l, &types).unwrap_or_else(|why| panic!("rows: {why}"));
        let all = out.add_typed(Op::Repeat(l), &args, ty);
        for (i, id) in self.sums.iter().chain(&self.given).enumerate() {
            let one = out.add(Op::Get(i as u32), &[all]);
            let want = &main.ty(*id).dims;
            new.insert(*id, if out.ty(one).dims == *want { one } else { out.add(Op::Reshape(want.clone()), &[one]) });
        }
    }
}

/// How a member reads its operand i, which is of outside.
fn read_as(region: &Region, main: &Func, member: NodeId, i: usize) -> Operand {
    let node = main.node(member);
    let ty = main.ty(node.args[i]);
    let Op::Contract(ein) = &node.op else { return region.operand(ty, node.ty.rank()).expect("a member's operands were looked at") };
    let rows = region.labels(ein, region.parts[&member]).expect("a member's labels were looked at");
    let labels = if i == 0 { &ein.a } else { &ein.b };
    if labels.starts_with(&rows) { Operand::Rows } else { Operand::Whole(ty.dims.clone()) }
}

/// The type of a sum in the loop: without the axes of rows where a product has none, with one where a reduction keeps it.
fn sum_type(region: &Region, main: &Func, id: NodeId) -> Type {
    let ty = main.ty(id);
    if matches!(main.node(id).op, Op::Reduce(..)) { region.in_loop(ty, 1) } else { ty.clone() }
}

/// A member's op over one axis of rows.
fn in_loop(region: &Region, main: &Func, member: NodeId) -> Op {
    let (node, k) = (main.node(member), region.rows.len());
    if let Op::Contract(ein) = &node.op {
        let rows = region.labels(ein, region.parts[&member]).expect("a member's labels were looked at");
        let left = |labels: &[u8]| labels.iter().copied().filter(|l| !rows[1..].contains(l)).collect::<Vec<u8>>();
        return Op::Contract(Ein::new(&left(&ein.a), &left(&ein.b), &left(&ein.outs())));
    }
    match (&node.op, region.parts[&member]) {
        // axes are counted from the end; those of rows have become the one before all others
        (Op::Reduce(red, axes), Part::Sum) => {
            let first = k as i8 - node.ty.rank() as i8;
            Op::Reduce(*red, axes.iter().copied().filter(|a| *a >= first).chain([first - 1]).collect())
        }
        (op, _) => op.clone(),
    }
}
