//! Contractions of 16-bit operands on tensor cores: tiles arrive in shared memory by asynchronous copies, several deep; planes of threads
//! take matrices from there and multiply them; sums leave through the epilogue.
//!
//! An operand lies along its sums or along its outer dim, and that decides the shape of its tile and whether its matrices are
//! transposed when they are taken: every layout is one generator.

use super::super::point::{access_at, vectorisable};
use super::super::rows::split_index;
use super::matrices::{CHUNK, Lanes, Side, chunk_at};
use super::product::{Kinds, store};
use super::rows::guard;
use crate::kernel::{Buf, Elem, Expr, GROUP, GROUP_DEPTH, GROUP_ROWS, Ix, Kernel, LocalId, PLANE, Stmt, Writer};
use crate::lower::Gpu;
use crate::spec::{Access, Spec, Template};
use std::ops::Range;

/// Products of fewer rows or columns leave most of a tile empty.
const LEAST: usize = 16;

/// A tile of the product, of a plane of threads, and how deep the pipeline is.
#[derive(Clone, Copy)]
struct Tile {
    rows: usize,
    columns: usize,
    depth: usize,
    plane_rows: usize,
    plane_columns: usize,
    stages: usize,
}

const TILES: [Tile; 3] = [
    Tile { rows: 128, columns: 128, depth: 32, plane_rows: 64, plane_columns: 64, stages: 4 },
    Tile { rows: 64, columns: 64, depth: 32, plane_rows: 32, plane_columns: 32, stages: 4 },
    Tile { rows: 32, columns: 32, depth: 32, plane_rows: 16, plane_columns: 16, stages: 3 },
];

/// A tile of groups of planes, for operands that both lie along their sums: the only layout in which a group takes them.
const GROUPED: Tile = Tile { rows: 128, columns: 128, depth: GROUP_DEPTH, plane_rows: 16, plane_columns: 128, stages: 4 };

impl Tile {
    fn threads(&self) -> usize {
        PLANE * (self.rows / self.plane_rows) * (self.columns / self.plane_columns)
    }
    fn bytes(&self) -> usize {
        2 * self.stages * self.depth * (self.rows + self.columns)
    }
}

/// An operand, and the shape of its tile in shared memory.
struct Operand<'a> {
    access: &'a Access,
    /// Its outer dims, their extent, and a tile's along them.
    outer: Range<usize>,
    n: usize,
    tile: usize,
    /// Whether it is contiguous along its sums.
    along_sums: bool,
    /// Rows of the tile, and chunks of a row.
    rows: usize,
    chunks: usize,
}

impl Operand<'_> {
    /// Elements of a tile.
    fn size(&self) -> usize {
        self.rows * self.chunks * CHUNK
    }
}

struct Product<'a> {
    spec: &'a Spec,
    kinds: &'a Kinds,
    tile: Tile,
    /// Whether groups of planes multiply, from shared memory; else each plane, from registers.
    grouped: bool,
    m: usize,
    n: usize,
    k: usize,
}

/// The kernel, if the operands are of 16 bits and lie so that chunks of eight can be copied.
pub(super) fn lower(spec: &Spec, kinds: &Kinds, name: &str, target: &Gpu, aligned: &[bool]) -> Option<Kernel> {
    let Template::Contract { a, b, .. } = &spec.template else { unreachable!("only contractions are lowered here") };
    let half = |x: &Access| spec.params[x.arg].elem.is_half() && aligned[x.arg];
    if !target.tensor || !half(a) || !half(b) || kinds.sums.is_empty() {
        return None;
    }
    let p = Product::new(spec, kinds, target)?;
    let operands = p.operands()?;
    let grouped = Product { tile: GROUPED, grouped: true, ..p };
    // where tiles of this size are the right ones
    let fits = target.hopper && p.tile.rows == GROUPED.rows && GROUPED.bytes() <= target.shared;
    match grouped.operands().filter(|o| fits && o.iter().all(|o| o.along_sums)) {
        Some(operands) => Some(grouped.emit(name, &operands)),
        None => Some(p.emit(name, &operands)),
    }
}

impl<'a> Product<'a> {
    fn new(spec: &'a Spec, kinds: &'a Kinds, target: &Gpu) -> Option<Product<'a>> {
        let size = |r: &Range<usize>| spec.dims[r.clone()].iter().product::<usize>();
        let (around, m, n, k) = (size(&kinds.loops), size(&kinds.rows), size(&kinds.columns), size(&kinds.sums));
        if m < LEAST || n < LEAST {
            return None;
        }
        let rounds = |t: &Tile| (around * m.div_ceil(t.rows) * n.div_ceil(t.columns)).div_ceil(target.processors);
        // rounds of cubes, each as long as what a cube multiplies and copies
        let cost = |t: &&Tile| rounds(t) * (t.rows * t.columns + 64 * (t.rows + t.columns));
        let tile = *TILES.iter().filter(|t| t.bytes() <= target.shared).min_by_key(cost)?;
        Some(Product { spec, kinds, tile, grouped: false, m, n, k })
    }

    fn operands(&self) -> Option<[Operand<'a>; 2]> {
        let Template::Contract { a, b, .. } = &self.spec.template else { unreachable!("a product is a contraction") };
        Some([self.operand(a, &self.kinds.rows, self.m, self.tile.rows)?, self.operand(b, &self.kinds.columns, self.n, self.tile.columns)?])
    }

    fn operand(&self, access: &'a Access, outer: &Range<usize>, n: usize, tile: usize) -> Option<Operand<'a>> {
        let spec = self.spec;
        // a chunk lies in one row: of whole chunks, or alone in its kind
        let whole = |r: &Range<usize>, d: usize| r.len() == 1 || spec.dims[d].is_multiple_of(CHUNK);
        let last = |r: &Range<usize>| r.clone().next_back().filter(|d| access.strides[*d] == 1 && whole(r, *d));
        let contiguous = last(&self.kinds.sums).or_else(|| last(outer))?;
        let steps = (0..spec.dims.len()).filter(|d| *d != contiguous).all(|d| access.strides[d] % CHUNK as i64 == 0);
        if !steps || access.offset % CHUNK as i64 != 0 {
            return None;
        }
        let along_sums = self.kinds.sums.contains(&contiguous);
        let (rows, along) = if along_sums { (tile, self.tile.depth) } else { (self.tile.depth, tile) };
        Some(Operand { access, outer: outer.clone(), n, tile, along_sums, rows, chunks: along / CHUNK })
    }

    fn emit(&self, name: &str, operands: &[Operand; 2]) -> Kernel {
        let Tile { rows, columns, depth, plane_rows, plane_columns, stages } = self.tile;
        let (down, across) = (self.m.div_ceil(rows), self.n.div_ceil(columns));
        let around: usize = self.spec.dims[self.kinds.loops.clone()].iter().product();
        // the plan shows by its name what was chosen
        let name = &format!("{name}_{}{rows}x{columns}", if self.grouped { "hopper" } else { "tensor" });
        let mut writer = Writer::cubes(name, self.spec.params.clone(), around * down * across, self.tile.threads());
        let w = &mut writer;
        let (cube, thread) = (w.cube(), w.thread());
        let m0 = w.name("m0", cube.clone().div(across).rem(down) * rows);
        let n0 = w.name("n0", cube.clone().rem(across) * columns);
        let outer = split_index(w, cube.div(down * across), &self.spec.dims[self.kinds.loops.clone()]);
        let lane = w.name("lane", thread.clone().rem(PLANE));
        let plane = w.name("plane", thread.div(PLANE));
        let planes = columns / plane_columns;
        let row = w.name("row", plane.clone().div(planes) * plane_rows);
        let column = w.name("column", plane.rem(planes) * plane_columns);
        let elem = self.spec.params[operands[0].access.arg].elem;
        let shared = operands.each_ref().map(|o| w.shared(elem, CHUNK as u32, stages * o.size()));
        let (high, wide) = (plane_rows / 16, plane_columns / 8);
        let acc = if self.grouped { w.local("acc", Elem::F32, columns as u32 / 2, 1) } else { w.local("acc", Elem::F32, 4, high * wide) };
        if self.grouped {
            w.set(acc, 0, Expr::f32(0.0).splat(columns as u32 / 2));
        } else {
            (0..high * wide).for_each(|i| w.set(acc, i, Expr::f32(0.0).splat(4)));
        }
        let steps = self.k.div_ceil(depth);
        let stage = |w: &mut Writer, step: Ix| {
            for ((o, buf), first) in operands.iter().zip(shared).zip([&m0, &n0]) {
                self.stage(w, o, buf, &outer, first, &step);
            }
        };
        for s in 0..stages - 1 {
            if s < steps {
                stage(w, Ix::from(s));
            }
            w.push(Stmt::Commit);
        }
        let group = w.thread().div(GROUP) * GROUP_ROWS * GROUP_DEPTH;
        let planes = (!self.grouped).then(|| Planes::new(w, self.tile, operands, elem, (&lane, &row, &column)));
        w.each("step", 0i64, steps, 1, |w, step| {
            // what this step reads has landed, and what the next copies overwrite has been read
            w.push(Stmt::Wait(stages - 2));
            if self.grouped {
                w.push(Stmt::Fence);
            }
            w.barrier();
            let next = w.name("next", step.clone() + (stages - 1));
            w.branch(next.clone(), steps, |w| stage(w, next), |_| {});
            w.push(Stmt::Commit);
            let slot = w.name("slot", step.rem(stages));
            match &planes {
                Some(planes) => planes.multiply(w, acc, operands, shared, &slot),
                None => {
                    let [a, b] = operands.each_ref().map(|o| slot.clone() * o.size());
                    w.push(Stmt::GroupMma { acc, a: (shared[0], a + group.clone()), b: (shared[1], b), columns });
                }
            }
        });
        // the groups after the last step's are empty: nothing is under way here
        let row = w.name("row", m0 + row + lane.clone().div(4));
        let column = w.name("column", n0 + column + lane.rem(4) * 2i64);
        self.epilogue(w, acc, &outer, &row, &column);
        writer.finish()
    }

    /// Starts the copies of an operand's tile for one step of the sums.
    fn stage(&self, w: &mut Writer, o: &Operand, buf: Buf, outer: &[Ix], first: &Ix, step: &Ix) {
        let threads = self.tile.threads();
        let k0 = w.name("k0", step.clone() * self.tile.depth);
        let slot = w.name("slot", step.clone().rem(self.tile.stages) * o.size());
        for round in 0..(o.rows * o.chunks).div_ceil(threads) {
            let piece = w.name("piece", w.thread() + round * threads);
            guard(w, piece.clone(), o.rows * o.chunks, (round + 1) * threads <= o.rows * o.chunks, |w| {
                let line = w.name("line", piece.clone().div(o.chunks));
                let chunk = w.name("chunk", piece.rem(o.chunks));
                let (i, k) = if o.along_sums { (line.clone(), chunk.clone() * CHUNK) } else { (chunk.clone() * CHUNK, line.clone()) };
                let (from, valid) = self.place(w, o, outer, (first.clone() + i, k0.clone() + k));
                let to = slot.clone() + chunk_at(o.chunks, line, chunk);
                w.push(Stmt::CopyAsync { src: o.access.arg, from, dst: buf, to, valid });
            });
        }
    }

    /// Where a chunk begins, and how many of its elements there are. One that is outside the operand is read nowhere.
    fn place(&self, w: &mut Writer, o: &Operand, outer: &[Ix], (i, k): (Ix, Ix)) -> (Ix, Ix) {
        let mut valid = Ix::from(CHUNK);
        let mut inside = |w: &mut Writer, at: Ix, n: usize, tile: usize, chunked: bool| {
            if n.is_multiple_of(tile) {
                return at;
            }
            if chunked {
                valid = w.name("valid", (Ix::from(n) - at.clone().min(n)).min(CHUNK));
                return w.name("in", at.min((n - 1) / CHUNK * CHUNK));
            }
            valid = w.name("valid", valid.clone() * at.clone().below(n));
            w.name("in", at.min(n - 1))
        };
        // the chunked axis first: it says how many, the other whether
        let (i, k) = if o.along_sums {
            let k = inside(w, k, self.k, self.tile.depth, true);
            (inside(w, i, o.n, o.tile, false), k)
        } else {
            let i = inside(w, i, o.n, o.tile, true);
            (i, inside(w, k, self.k, self.tile.depth, false))
        };
        let mut index = vec![Ix::Const(0); self.spec.dims.len()];
        index[self.kinds.loops.clone()].clone_from_slice(outer);
        index[o.outer.clone()].clone_from_slice(&split_index(w, i, &self.spec.dims[o.outer.clone()]));
        index[self.kinds.sums.clone()].clone_from_slice(&split_index(w, k, &self.spec.dims[self.kinds.sums.clone()]));
        (access_at(o.access, &index), valid)
    }

    fn epilogue(&self, w: &mut Writer, acc: LocalId, outer: &[Ix], row: &Ix, column: &Ix) {
        let spec = self.spec;
        let last = spec.dims.len() - 1;
        // two consecutive columns are what a thread has of a row
        let pairs = !self.kinds.columns.is_empty() && spec.dims[last].is_multiple_of(2) && vectorisable(spec, last);
        let lanes = if pairs { 2 } else { 1 };
        let (m_exact, n_exact) = (self.m.is_multiple_of(self.tile.rows), self.n.is_multiple_of(self.tile.columns));
        let (high, wide) = (self.tile.plane_rows / 16, self.tile.plane_columns / 8);
        for i in 0..2 * high {
            let row = w.name("row", row.clone() + 8 * i as i64);
            guard(w, row.clone(), self.m, m_exact, |w| {
                let own = split_index(w, row, &spec.dims[self.kinds.rows.clone()]);
                for j in 0..wide {
                    // sixteen rows at a time, eight columns: four sums of a thread
                    let (sums, first) = if self.grouped { (Writer::get(acc, 0), 4 * j) } else { (Writer::get(acc, i / 2 * wide + j), 0) };
                    for lane in 0..2 / lanes {
                        let column = w.name("column", column.clone() + (8 * j + lane) as i64);
                        guard(w, column.clone(), self.n, n_exact, |w| {
                            let at = (first + 2 * (i % 2) + lane) as u32;
                            let sums = Box::new(sums.clone());
                            let product = if pairs { Expr::Pair(sums, at) } else { Expr::Lane(sums, at) };
                            store(w, (spec, self.kinds), product, lanes, outer, &own, column);
                        });
                    }
                }
            });
        }
    }
}

/// How planes take their matrices to registers and multiply them.
struct Planes {
    tile: Tile,
    lanes: [Lanes; 2],
    a: LocalId,
    b: LocalId,
}

impl Planes {
    fn new(w: &mut Writer, tile: Tile, [left, right]: &[Operand; 2], elem: Elem, (lane, row, column): (&Ix, &Ix, &Ix)) -> Planes {
        let lanes = [
            Lanes::new(w, (left.chunks, left.along_sums), Side::Left, lane, row),
            Lanes::new(w, (right.chunks, right.along_sums), Side::Right, lane, column),
        ];
        let a = w.local("a", elem, CHUNK as u32, tile.plane_rows / 16);
        let b = w.local("b", elem, CHUNK as u32, tile.plane_columns / 16);
        Planes { tile, lanes, a, b }
    }

    /// One step of the sums, whose tiles are in `slot`.
    fn multiply(&self, w: &mut Writer, acc: LocalId, operands: &[Operand; 2], shared: [Buf; 2], slot: &Ix) {
        let (high, wide) = (self.tile.plane_rows / 16, self.tile.plane_columns / 8);
        for k in 0..self.tile.depth / 16 {
            for (side, (to, n)) in [(self.a, high), (self.b, wide / 2)].into_iter().enumerate() {
                for i in 0..n {
                    let row = slot.clone() * operands[side].size() + self.lanes[side].at(i, k);
                    w.push(Stmt::LoadMatrix { to: (to, i), src: shared[side], row, transposed: self.lanes[side].transposed() });
                }
            }
            for i in 0..high {
                for j in 0..wide {
                    w.push(Stmt::Mma { acc: (acc, i * wide + j), a: (self.a, i), b: (self.b, j / 2), half: (j % 2) as u32 });
                }
            }
        }
    }
}
