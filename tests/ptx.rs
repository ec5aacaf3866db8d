//! An interpreter of the PTX that NVRTC makes of our kernels: planes of 32 threads in step, matrices, asynchronous copies that land as
//! late as they may or at once. What it runs is what a device would be given, so that a kernel's numbers are checked with no device.
//! What a matrix instruction does to each thread's registers is as the manual of PTX has it.

use std::collections::HashMap;

/// Where an instruction reads or writes.
#[derive(Clone, Debug)]
enum Operand {
    Register(usize),
    Number(u64),
    Vector(Vec<Operand>),
    Memory(Box<Operand>, i64),
    /// A parameter by number; kernels read no further than its first word.
    Param(usize),
    Label(String),
    /// `%tid.x` and its like, by name.
    Special(&'static str),
}

#[derive(Clone, Debug)]
struct Instruction {
    /// A register that must hold, or with `true` must not.
    guard: Option<(usize, bool)>,
    op: String,
    args: Vec<Operand>,
}

/// A kernel.
pub struct Program {
    code: Vec<Instruction>,
    labels: HashMap<String, usize>,
    registers: usize,
    /// Bytes of static shared memory.
    shared: usize,
}

const SPECIAL: [&str; 12] =
    ["%tid.x", "%tid.y", "%tid.z", "%ctaid.x", "%ctaid.y", "%ctaid.z", "%nctaid.x", "%nctaid.y", "%nctaid.z", "%ntid.x", "%ntid.y", "%ntid.z"];

/// Parts between commas that stand in no bracket.
fn split(text: &str) -> Vec<&str> {
    let (mut out, mut depth, mut from) = (vec![], 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                out.push(text[from..i].trim());
                from = i + 1;
            }
            _ => {}
        }
    }
    let last = text[from..].trim();
    out.extend((!last.is_empty()).then_some(last));
    out
}

#[derive(Default)]
struct Parser {
    registers: HashMap<String, usize>,
    symbols: Vec<String>,
    /// Registers that inline text declares.
    inline: Vec<String>,
}

impl Parser {
    fn register(&mut self, name: &str) -> usize {
        let next = self.registers.len();
        *self.registers.entry(name.into()).or_insert(next)
    }

    fn operand(&mut self, text: &str) -> Operand {
        if let Some(inner) = text.strip_prefix('{') {
            return Operand::Vector(split(inner.trim_end_matches('}')).into_iter().map(|x| self.operand(x)).collect());
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.trim_end_matches(']');
            let (base, offset) = inner.split_once('+').map_or((inner, 0), |(b, o)| (b.trim(), o.trim().parse().expect("an offset is a number")));
            if let Some((_, n)) = base.rsplit_once("_param_") {
                return Operand::Param(n.parse().expect("a parameter has a number"));
            }
            return Operand::Memory(Box::new(self.operand(base)), offset);
        }
        if let Some(name) = SPECIAL.iter().find(|s| **s == text) {
            return Operand::Special(name);
        }
        if text.starts_with('%') || self.inline.iter().any(|r| r == text) {
            return Operand::Register(self.register(text));
        }
        let hexadecimal =
            text.strip_prefix("0f").or_else(|| text.strip_prefix("0d")).or_else(|| text.strip_prefix("0x")).or_else(|| text.strip_prefix("0X"));
        if let Some(n) = hexadecimal.and_then(|h| u64::from_str_radix(h, 16).ok()) {
            return Operand::Number(n);
        }
        match text.trim_end_matches('U').parse::<i64>() {
            Ok(n) => Operand::Number(n as u64),
            // the one region of shared memory begins at 0
            Err(_) if self.symbols.iter().any(|s| s == text) => Operand::Number(0),
            Err(_) => Operand::Label(text.into()),
        }
    }

    fn instruction(&mut self, text: &str) -> Instruction {
        let (guard, text) = match text.strip_prefix('@') {
            None => (None, text),
            Some(rest) => {
                let (name, rest) = rest.split_once(char::is_whitespace).expect("a guard stands before an instruction");
                let (name, not) = name.strip_prefix('!').map_or((name, false), |n| (n, true));
                (Some((self.register(name), not)), rest.trim())
            }
        };
        let (op, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        // an exchange may also say whether there was a thread to exchange with
        let alone = rest.split_once('|').map(|(to, rest)| format!("{to},{}", rest.split_once(',').expect("more operands follow").1));
        let rest = alone.as_deref().unwrap_or(rest);
        Instruction { guard, op: op.into(), args: split(rest).into_iter().map(|x| self.operand(x)).collect() }
    }
}

/// Where a block ends that has begun: inline text may have blocks of its own.
fn end_of_block(text: &str) -> usize {
    let mut depth = 1;
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    text.len()
}

impl Program {
    /// The one kernel of a text.
    pub fn parse(ptx: &str) -> Program {
        let mut p = Parser::default();
        let (mut code, mut labels, mut shared) = (vec![], HashMap::new(), 0);
        let (head, body) = ptx.split_once(".visible .entry").expect("a text has a kernel");
        let body = body.split_once("\n{").expect("a kernel has a body").1;
        let body = &body[..end_of_block(body)];
        for line in head.lines().chain(body.lines()).map(|l| l.split("//").next().unwrap_or("").trim()) {
            if let Some(names) = line.strip_prefix(".reg .b64 ").filter(|n| !n.trim().starts_with('%')) {
                p.inline.extend(names.trim_end_matches(';').split(',').map(|n| n.trim().to_string()));
            } else if line.contains(".shared") && line.contains(".b8") {
                let (name, size) =
                    line.rsplit_once(' ').map_or(line, |(_, n)| n).trim_end_matches(';').split_once('[').expect("shared memory is an array");
                p.symbols.push(name.into());
                shared += size.trim_end_matches(']').parse::<usize>().unwrap_or(0);
            } else if let Some(label) = line.strip_suffix(':') {
                labels.insert(label.to_string(), code.len());
            } else if !line.starts_with('.') && !line.is_empty() && line != "{" && line != "}" {
                // inline text stands in braces of its own
                let inline = line.strip_prefix('{').filter(|l| l.contains(';')).map(|l| l.trim_end_matches('}'));
                for part in inline.unwrap_or(line).split(';').map(str::trim).filter(|s| !s.is_empty()) {
                    code.push(p.instruction(part));
                }
            }
        }
        Program { code, labels, registers: p.registers.len(), shared }
    }
}

/// When an asynchronous copy lands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landing {
    /// Not before it is waited for.
    Late,
    Early,
}

/// What a launch is given: memory by number, and how it runs.
pub struct Launch<'a> {
    pub buffers: &'a mut [Vec<u8>],
    pub grid: (usize, usize),
    pub threads: usize,
    /// Bytes of dynamic shared memory.
    pub shared: usize,
    pub landing: Landing,
    /// Whether the last plane goes first.
    pub reverse: bool,
}

/// Buffer n lies at (n + 1) · PAGE.
const PAGE: u64 = 1 << 40;
const PLANE: usize = 32;

/// A copy under way: to shared memory, from global memory, so many bytes of sixteen.
type Copy = (usize, u64, usize);

struct Cube<'a, 'b> {
    launch: &'b mut Launch<'a>,
    program: &'b Program,
    at: (usize, usize),
    shared: Vec<u8>,
    registers: Vec<Vec<u64>>,
    next: Vec<usize>,
    open: Vec<Vec<Copy>>,
    groups: Vec<Vec<Vec<Copy>>>,
}

/// Runs a kernel on all its cubes.
pub fn run(program: &Program, launch: &mut Launch) {
    for y in 0..launch.grid.1 {
        for x in 0..launch.grid.0 {
            let n = launch.threads.next_multiple_of(PLANE);
            // what nobody wrote is NaN in every type of float
            let shared = vec![0xFF; launch.shared + program.shared];
            let registers = vec![vec![0; program.registers]; n];
            let next = (0..n).map(|t| if t < launch.threads { 0 } else { program.code.len() }).collect();
            Cube { launch, program, at: (x, y), shared, registers, next, open: vec![vec![]; n], groups: vec![vec![]; n] }.run();
        }
    }
}

fn float(x: u64) -> f32 {
    f32::from_bits(x as u32)
}
fn bits(x: f32) -> u64 {
    x.to_bits().into()
}

impl Cube<'_, '_> {
    /// Plane after plane, each as far as the next barrier.
    fn run(&mut self) {
        let end = self.program.code.len();
        loop {
            let mut planes: Vec<usize> = (0..self.next.len() / PLANE).collect();
            if self.launch.reverse {
                planes.reverse();
            }
            planes.into_iter().for_each(|p| self.plane(p));
            let threads = &self.next[..self.launch.threads];
            if threads.iter().all(|n| *n >= end) {
                return;
            }
            assert!(threads.iter().all(|n| *n == threads[0]), "part of the cube reaches a barrier");
            self.next[..self.launch.threads].iter_mut().for_each(|n| *n += 1);
        }
    }

    /// Threads that are furthest behind go first, together.
    fn plane(&mut self, plane: usize) {
        let end = self.program.code.len();
        loop {
            let all = plane * PLANE..(plane + 1) * PLANE;
            let at = all.clone().map(|t| self.next[t]).min().expect("a plane has threads");
            if at >= end {
                return;
            }
            let program = self.program;
            let i = &program.code[at];
            let here: Vec<usize> = all.filter(|t| self.next[*t] == at).collect();
            let on: Vec<usize> = here.iter().copied().filter(|t| i.guard.is_none_or(|(g, not)| (self.registers[*t][g] & 1 == 1) != not)).collect();
            if i.op.starts_with("bar.sync") || i.op.starts_with("barrier.sync") {
                return;
            }
            let to = match (i.op.split('.').next().expect("an operation has a name"), &i.args[..]) {
                ("bra", [Operand::Label(l)]) => self.program.labels[l],
                ("ret" | "exit", _) => end,
                _ => {
                    self.execute(i, &on);
                    at + 1
                }
            };
            for t in here {
                self.next[t] = if to == at + 1 || on.contains(&t) { to } else { at + 1 };
            }
        }
    }

    fn read(&self, t: usize, o: &Operand) -> u64 {
        match o {
            Operand::Register(r) => self.registers[t][*r],
            Operand::Number(n) => *n,
            Operand::Vector(v) => v.iter().enumerate().map(|(i, x)| (self.read(t, x) & 0xFFFF) << (16 * i)).sum(),
            Operand::Special(name) => match *name {
                "%tid.x" => t as u64,
                "%ctaid.x" => self.at.0 as u64,
                "%ctaid.y" => self.at.1 as u64,
                "%nctaid.x" => self.launch.grid.0 as u64,
                "%nctaid.y" => self.launch.grid.1 as u64,
                "%ntid.x" => self.launch.threads as u64,
                "%nctaid.z" | "%ntid.y" | "%ntid.z" => 1,
                _ => 0,
            },
            other => panic!("{other:?} is no value"),
        }
    }

    fn write(&mut self, t: usize, o: &Operand, x: u64) {
        match o {
            Operand::Register(r) => self.registers[t][*r] = x,
            Operand::Vector(v) => v.iter().enumerate().for_each(|(i, r)| self.write(t, r, (x >> (16 * i)) & 0xFFFF)),
            other => panic!("{other:?} is no place"),
        }
    }

    fn address(&self, t: usize, o: &Operand) -> u64 {
        let Operand::Memory(base, offset) = o else { panic!("{o:?} is no address") };
        self.read(t, base).wrapping_add(*offset as u64)
    }

    /// Bytes of memory, which must be some buffer's.
    fn bytes(&mut self, shared: bool, at: u64, n: usize) -> &mut [u8] {
        assert!(at.is_multiple_of(n as u64), "an access of {n} bytes at {at:#x} is not aligned");
        if shared {
            let len = self.shared.len();
            return self.shared.get_mut(at as usize..at as usize + n).unwrap_or_else(|| panic!("shared memory at {at} of {len}"));
        }
        let (buffer, at) = ((at / PAGE) as usize, (at % PAGE) as usize);
        let memory = buffer.checked_sub(1).and_then(|b| self.launch.buffers.get_mut(b)).unwrap_or_else(|| panic!("no buffer {buffer}"));
        let len = memory.len();
        memory.get_mut(at..at + n).unwrap_or_else(|| panic!("buffer {buffer} at {at} of {len}"))
    }

    fn execute(&mut self, i: &Instruction, on: &[usize]) {
        let parts: Vec<&str> = i.op.split('.').collect();
        match parts[0] {
            "ld" | "st" => on.iter().for_each(|t| self.memory(*t, &parts, &i.args)),
            "cp" if i.op.contains("commit") => {
                for t in on {
                    let group = std::mem::take(&mut self.open[*t]);
                    self.groups[*t].push(group);
                }
            }
            "cp" if i.op.contains("wait") => {
                let Operand::Number(but) = i.args[0] else { panic!("a wait has a number") };
                for t in on {
                    let landed = self.groups[*t].len().saturating_sub(but as usize);
                    let copies: Vec<Copy> = self.groups[*t].drain(..landed).flatten().collect();
                    copies.into_iter().for_each(|c| self.land(c));
                }
            }
            "cp" => {
                for t in on {
                    let copy = (self.address(*t, &i.args[0]) as usize, self.address(*t, &i.args[1]), self.read(*t, &i.args[3]) as usize);
                    if self.launch.landing == Landing::Early {
                        self.land(copy);
                    } else {
                        // until it lands there is nothing to be relied on
                        self.bytes(true, copy.0 as u64, 16).fill(0xFF);
                        self.open[*t].push(copy);
                    }
                }
            }
            "activemask" => {
                let mask = on.iter().map(|t| 1u64 << (t % PLANE)).sum();
                on.iter().for_each(|t| self.write(*t, &i.args[0], mask));
            }
            "shfl" => {
                let values: Vec<u64> = (0..PLANE).map(|l| self.read(on[0] / PLANE * PLANE + l, &i.args[1])).collect();
                for t in on {
                    let x = values[(t % PLANE) ^ self.read(*t, &i.args[2]) as usize];
                    self.write(*t, &i.args[0], x);
                }
            }
            "ldmatrix" => self.load_matrix(i, on),
            "mma" => self.mma(i, on, parts.contains(&"bf16")),
            "wgmma" if i.op.contains("mma_async") => self.group_mma(i, on, parts.contains(&"bf16")),
            "bar" | "membar" | "fence" | "wgmma" => {}
            _ => {
                for t in on {
                    let x = self.alu(*t, &i.op, &parts, &i.args);
                    self.write(*t, &i.args[0], x);
                }
            }
        }
    }

    fn memory(&mut self, t: usize, parts: &[&str], args: &[Operand]) {
        let size = match parts[parts.len() - 1] {
            "u8" | "s8" | "b8" => 1,
            "u16" | "b16" | "s16" => 2,
            "u32" | "f32" | "b32" | "s32" => 4,
            _ => 8,
        };
        let (place, values) = if parts[0] == "ld" { (&args[1], &args[0]) } else { (&args[0], &args[1]) };
        if let Operand::Param(n) = place {
            // pointers come first; the numbers after them are not used by kernels whose operands begin where they are bound
            let x = if *n < self.launch.buffers.len() { (*n as u64 + 1) * PAGE } else { 0 };
            return self.write(t, values, x);
        }
        let values: Vec<&Operand> = if let Operand::Vector(v) = values { v.iter().collect() } else { vec![values] };
        let (shared, at) = (parts.contains(&"shared"), self.address(t, place));
        let whole = size * values.len();
        if parts[0] == "ld" {
            let bytes = self.bytes(shared, at, whole).to_vec();
            for (v, b) in values.into_iter().zip(bytes.chunks(size)) {
                let mut word = [0; 8];
                word[..size].copy_from_slice(b);
                self.write(t, v, u64::from_le_bytes(word));
            }
        } else {
            let bytes: Vec<u8> = values.into_iter().flat_map(|v| self.read(t, v).to_le_bytes()[..size].to_vec()).collect();
            self.bytes(shared, at, whole).copy_from_slice(&bytes);
        }
    }

    fn land(&mut self, (to, from, n): Copy) {
        let mut bytes = [0; 16];
        if n > 0 {
            bytes[..n].copy_from_slice(&self.bytes(false, from, 16)[..n]);
        }
        self.bytes(true, to as u64, 16).copy_from_slice(&bytes);
    }

    fn load_matrix(&mut self, i: &Instruction, on: &[usize]) {
        assert_eq!(on.len(), PLANE, "a plane loads matrices together");
        let Operand::Vector(to) = &i.args[0] else { panic!("matrices go to several registers") };
        let rows: Vec<Vec<u8>> =
            on.iter().map(|t| self.address(*t, &i.args[1])).collect::<Vec<_>>().into_iter().map(|at| self.bytes(true, at, 16).to_vec()).collect();
        let element = |matrix: usize, r: usize, c: usize| {
            let row = &rows[8 * matrix + r];
            u64::from(u16::from_le_bytes([row[2 * c], row[2 * c + 1]]))
        };
        for (matrix, register) in to.iter().enumerate() {
            for l in 0..PLANE {
                let (r, c) = (l / 4, 2 * (l % 4));
                let pair = if i.op.contains("trans") {
                    [element(matrix, c, r), element(matrix, c + 1, r)]
                } else {
                    [element(matrix, r, c), element(matrix, r, c + 1)]
                };
                self.write(on[l], register, pair[0] | pair[1] << 16);
            }
        }
    }

    fn mma(&mut self, i: &Instruction, on: &[usize], bf16: bool) {
        assert_eq!(on.len(), PLANE, "a plane multiplies together");
        let [Operand::Vector(d), Operand::Vector(a), Operand::Vector(b), Operand::Vector(c)] = &i.args[..] else {
            panic!("a product has four fragments")
        };
        let half = |x: u64, e: usize| {
            let h = (x >> (16 * e)) as u16;
            if bf16 { half::bf16::from_bits(h).to_f32() } else { half::f16::from_bits(h).to_f32() }
        };
        let (mut left, mut right) = ([[0.0f32; 16]; 16], [[0.0f32; 8]; 16]);
        for l in 0..PLANE {
            let (g, q) = (l / 4, 2 * (l % 4));
            for e in 0..2 {
                for (n, r) in a.iter().enumerate() {
                    left[g + 8 * (n % 2)][q + e + 8 * (n / 2)] = half(self.read(on[l], r), e);
                }
                for (n, r) in b.iter().enumerate() {
                    right[q + e + 8 * n][g] = half(self.read(on[l], r), e);
                }
            }
        }
        for l in 0..PLANE {
            for (n, (to, from)) in d.iter().zip(c).enumerate() {
                let (row, col) = (l / 4 + 8 * (n / 2), 2 * (l % 4) + n % 2);
                let sum: f32 = (0..16).map(|k| left[row][k] * right[k][col]).sum();
                let x = bits(float(self.read(on[l], from)) + sum);
                self.write(on[l], to, x);
            }
        }
    }

    /// A plane's part of a group's product: both matrices from shared memory, as descriptors say, contiguous along the sums and swizzled
    /// by 128 bytes.
    fn group_mma(&mut self, i: &Instruction, on: &[usize], bf16: bool) {
        assert_eq!(on.len(), PLANE, "a plane multiplies together");
        let Operand::Vector(d) = &i.args[0] else { panic!("sums are in registers") };
        let element = |cube: &mut Self, descriptor: u64, row: usize, k: usize| {
            assert_eq!(descriptor >> 62, 1, "the swizzle is of 128 bytes");
            let (start, rows) = ((descriptor & 0x3FFF) << 4, ((descriptor >> 32) & 0x3FFF) << 4);
            let at = start + (row as u64 / 8) * rows + (row as u64 % 8) * 128 + 2 * k as u64;
            let at = at ^ (((at >> 7) & 7) << 4);
            let b = cube.bytes(true, at, 2);
            let bits = u16::from_le_bytes([b[0], b[1]]);
            if bf16 { half::bf16::from_bits(bits).to_f32() } else { half::f16::from_bits(bits).to_f32() }
        };
        let [a, b] = [1, 2].map(|n| self.read(on[0], &i.args[n]));
        let first = 16 * (on[0] / PLANE % 4);
        let left: Vec<Vec<f32>> = (0..16).map(|r| (0..16).map(|k| element(self, a, first + r, k)).collect()).collect();
        let right: Vec<Vec<f32>> = (0..d.len() / 4 * 8).map(|c| (0..16).map(|k| element(self, b, c, k)).collect()).collect();
        for l in 0..PLANE {
            for (n, register) in d.iter().enumerate() {
                let (row, col) = (l / 4 + 8 * (n / 2 % 2), n / 4 * 8 + 2 * (l % 4) + n % 2);
                let sum: f32 = left[row].iter().zip(&right[col]).map(|(x, y)| x * y).sum();
                let x = bits(float(self.read(on[l], register)) + sum);
                self.write(on[l], register, x);
            }
        }
    }

    fn alu(&self, t: usize, op: &str, parts: &[&str], args: &[Operand]) -> u64 {
        let ty = parts[parts.len() - 1];
        let (wide, short, signed) = (ty.ends_with("64"), ty.ends_with("16"), ty.starts_with('s'));
        let x = |i: usize| self.read(t, &args[i]) & if short { 0xFFFF } else { u64::MAX };
        let (u, f) = (|i: usize| x(i) as u32, |i: usize| float(x(i)));
        let s = |i: usize| if short { i32::from(x(i) as i16) } else { x(i) as i32 };
        let cut = |x: u64| match (wide || parts.contains(&"wide"), short) {
            (true, _) => x,
            (_, true) => x & 0xFFFF,
            _ => x & 0xFFFF_FFFF,
        };
        let shift = |n: u64| n.min(if wide { 64 } else { 32 }) as u32;
        match (parts[0], ty == "f32") {
            ("mov" | "cvta", _) => x(1),
            ("cvt", _) => self.convert(op, self.read(t, &args[1])),
            ("add", true) => bits(f(1) + f(2)),
            ("sub", true) => bits(f(1) - f(2)),
            ("mul", true) => bits(f(1) * f(2)),
            ("div", true) => bits(f(1) / f(2)),
            ("max", true) => bits(f(1).max(f(2))),
            ("min", true) => bits(f(1).min(f(2))),
            ("neg", true) => bits(-f(1)),
            ("abs", true) => bits(f(1).abs()),
            ("sqrt", _) => bits(f(1).sqrt()),
            ("rsqrt", _) => bits(1.0 / f(1).sqrt()),
            ("rcp", _) => bits(1.0 / f(1)),
            ("ex2", _) => bits(f(1).exp2()),
            ("lg2", _) => bits(f(1).log2()),
            ("copysign", _) => bits(f(2).copysign(f(1))),
            ("fma", _) => {
                let exact = f64::from(f(1)) * f64::from(f(2)) + f64::from(f(3));
                let near = exact as f32;
                bits(if parts[1] == "rm" && f64::from(near) > exact { near.next_down() } else { near })
            }
            ("add", _) => cut(x(1).wrapping_add(x(2))),
            ("sub", _) => cut(x(1).wrapping_sub(x(2))),
            ("neg", _) => cut(x(1).wrapping_neg()),
            ("mul", _) if parts[1] == "wide" && signed => (i64::from(s(1)) * i64::from(s(2))) as u64,
            ("mul", _) if parts[1] == "wide" => u64::from(u(1)) * u64::from(u(2)),
            ("mul", _) if parts[1] == "hi" && wide => ((u128::from(x(1)) * u128::from(x(2))) >> 64) as u64,
            ("mul", _) if parts[1] == "hi" && signed => ((i64::from(s(1)) * i64::from(s(2))) >> 32) as u32 as u64,
            ("mul", _) if parts[1] == "hi" => (u64::from(u(1)) * u64::from(u(2))) >> 32,
            ("mul", _) => cut(x(1).wrapping_mul(x(2))),
            ("mad", _) if parts[1] == "wide" && signed => ((i64::from(s(1)) * i64::from(s(2))) as u64).wrapping_add(x(3)),
            ("mad", _) if parts[1] == "wide" => (u64::from(u(1)) * u64::from(u(2))).wrapping_add(x(3)),
            ("mad", _) => cut(x(1).wrapping_mul(x(2)).wrapping_add(x(3))),
            ("div", _) => u64::from(u(1) / u(2)),
            ("rem", _) => u64::from(u(1) % u(2)),
            ("shl", _) => cut(x(1).checked_shl(shift(x(2))).unwrap_or(0)),
            ("shr", _) if signed => cut((s(1) >> x(2).min(31)) as u32 as u64),
            ("shr", _) if wide => x(1).checked_shr(shift(x(2))).unwrap_or(0),
            ("shr", _) => u64::from(u(1).checked_shr(shift(x(2))).unwrap_or(0)),
            ("shf", _) => {
                let both = u64::from(u(2)) << 32 | u64::from(u(1));
                let n = u(3) % 32;
                cut(if parts[1] == "l" { both >> (32 - n) } else { both >> n })
            }
            ("and", _) => x(1) & x(2),
            ("or", _) => x(1) | x(2),
            ("xor", _) => x(1) ^ x(2),
            ("not", _) if ty == "pred" => x(1) ^ 1,
            ("not", _) => cut(!x(1)),
            ("min", _) if signed => s(1).min(s(2)) as u32 as u64,
            ("min", _) => u64::from(u(1).min(u(2))),
            ("max", _) if signed => s(1).max(s(2)) as u32 as u64,
            ("max", _) => u64::from(u(1).max(u(2))),
            ("bfe", _) => (u64::from(u(1)) >> u(2)) & ((1 << u(3)) - 1),
            ("bfi", _) => {
                let mask = ((1u64 << u(4)) - 1) << u(3);
                (x(2) & !mask) | ((x(1) << u(3)) & mask)
            }
            ("dp2a", _) => {
                let from = if parts[1] == "hi" { 16 } else { 0 };
                let byte = |i: u32| u64::from((u(2) >> (from + 8 * i)) & 0xFF);
                cut((x(1) & 0xFFFF) * byte(0) + ((x(1) >> 16) & 0xFFFF) * byte(1) + x(3))
            }
            ("lop3", _) => {
                let table = x(4);
                cut((0..32).map(|i| ((table >> (((x(1) >> i) & 1) << 2 | ((x(2) >> i) & 1) << 1 | ((x(3) >> i) & 1))) & 1) << i).sum())
            }
            ("selp", _) => {
                if x(3) & 1 == 1 {
                    x(1)
                } else {
                    x(2)
                }
            }
            ("setp", _) => self.compare(parts, ty, t, args),
            _ => panic!("the interpreter does not know {op}"),
        }
    }

    fn compare(&self, parts: &[&str], ty: &str, t: usize, args: &[Operand]) -> u64 {
        let (a, b) = (self.read(t, &args[1]), self.read(t, &args[2]));
        let order = match ty {
            "f32" => float(a).partial_cmp(&float(b)),
            "s32" => Some((a as i32).cmp(&(b as i32))),
            "s64" => Some((a as i64).cmp(&(b as i64))),
            "u64" | "b64" => Some(a.cmp(&b)),
            "s16" => Some((a as i16).cmp(&(b as i16))),
            "u16" | "b16" => Some((a as u16).cmp(&(b as u16))),
            _ => Some((a as u32).cmp(&(b as u32))),
        };
        // a comparison with NaN fails, unless it is one that asks for that
        let unordered = parts[1].len() == 3 && parts[1].ends_with('u') || parts[1] == "nan";
        let holds = order.map_or(unordered, |o| match parts[1].trim_end_matches('u') {
            "lt" | "lo" | "l" => o.is_lt(),
            "le" | "ls" => o.is_le(),
            "gt" | "hi" => o.is_gt(),
            "ge" | "hs" => o.is_ge(),
            "eq" => o.is_eq(),
            "ne" => o.is_ne(),
            "nan" => false,
            "num" | "nm" => true,
            c => panic!("the interpreter does not know the comparison {c}"),
        });
        let holds = holds || parts[1] == "ne" && order.is_none();
        let with = args.get(3).map(|p| self.read(t, p) & 1 == 1);
        u64::from(match (parts[2], with) {
            ("and", Some(p)) => holds && p,
            ("or", Some(p)) => holds || p,
            _ => holds,
        })
    }

    fn convert(&self, op: &str, x: u64) -> u64 {
        match op {
            "cvt.rn.bf16.f32" => u64::from(half::bf16::from_f32(float(x)).to_bits()),
            "cvt.rn.f16.f32" => u64::from(half::f16::from_f32(float(x)).to_bits()),
            "cvt.f32.bf16" => x << 16,
            "cvt.f32.f16" => bits(half::f16::from_bits(x as u16).to_f32()),
            "cvt.u32.u64" | "cvt.u64.u32" | "cvt.s32.s64" => x & 0xFFFF_FFFF,
            "cvt.s64.s32" => x as i32 as i64 as u64,
            "cvt.u32.u16" | "cvt.u16.u32" | "cvt.u16.u64" | "cvt.u64.u16" => x & 0xFFFF,
            "cvt.u32.u8" | "cvt.u16.u8" => x & 0xFF,
            "cvt.rn.f32.s32" => bits(x as i32 as f32),
            "cvt.rn.f32.u32" => bits(x as u32 as f32),
            "cvt.rzi.s32.f32" => float(x) as i32 as u32 as u64,
            "cvt.rni.f32.f32" => bits(float(x).round_ties_even()),
            "cvt.rzi.f32.f32" => bits(float(x).trunc()),
            "cvt.rmi.f32.f32" => bits(float(x).floor()),
            "cvt.sat.f32.f32" => bits(float(x).clamp(0.0, 1.0)),
            "cvt.ftz.f32.f32" => x,
            _ => panic!("the interpreter does not know {op}"),
        }
    }
}
