//! Tensors of any type by name, in and out of safetensors files: what a program reads and gives.

use super::checksum::Checksum;
use super::file::{TensorFile, size};
use super::load::pieces;
use super::packed::Part;
use crate::error::{Error, Result, file_error, hint};
use ir::names::new_value_of;
use ir::{DType, Type, Value};
use passes::State;
use safetensors::tensor::{Dtype, TensorInfo, TensorView};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A tensor that is there, and which part of it is asked for, where that is one matrix in few bits.
struct Found {
    name: String,
    part: Option<Part>,
}

/// The tensors of a safetensors file or of several that belong together, and which of them were read. A tensor is in memory while it is
/// read, and no longer.
pub struct Tensors {
    /// What an error names that is about no tensor there is.
    path: PathBuf,
    files: Vec<TensorFile>,
    /// Each tensor's file, by number, and its place there.
    all: BTreeMap<String, (usize, TensorInfo)>,
    read: RefCell<BTreeSet<String>>,
}

impl Tensors {
    /// The tensors of a file.
    pub fn open(path: &Path) -> Result<Tensors> {
        Tensors::of(path, vec![TensorFile::open(path)?])
    }

    /// The same of a file that is open.
    pub(crate) fn of_file(file: File, path: &Path) -> Result<Tensors> {
        Tensors::of(path, vec![TensorFile::of(file, path)?])
    }

    /// The tensors of several files, none of which may be in two.
    pub(crate) fn of_files(path: &Path, files: &[PathBuf]) -> Result<Tensors> {
        Tensors::of(path, files.iter().map(|f| TensorFile::open(f)).collect::<Result<_>>()?)
    }

    /// These and the parameters of others, none of which may be in both.
    pub(crate) fn with(mut self, others: Tensors) -> Result<Tensors> {
        let before = self.files.len();
        for (name, (file, info)) in others.all.into_iter().filter(|t| State::parse(&t.0).is_parameter()) {
            let there = |e: String| file_error(&others.files[file].path, &format!("tensor {name} is there twice"), e);
            if let Some((other, _)) = self.all.get(name.as_str()) {
                return Err(there(format!("{} has it, too", self.files[*other].path.display())));
            }
            self.all.insert(name, (before + file, info));
        }
        self.files.extend(others.files);
        Ok(self)
    }

    /// These but for some.
    pub(crate) fn without(mut self, left: &dyn Fn(&str) -> bool) -> Tensors {
        self.all.retain(|name, _| !left(name));
        self
    }

    /// The same tensors by other names.
    pub(crate) fn renamed(mut self, name: &dyn Fn(&str) -> String) -> Tensors {
        self.all = self.all.into_iter().map(|(old, place)| (name(&old), place)).collect();
        self
    }

    /// The checksum of all that the files hold.
    pub(crate) fn checksum(&self) -> Result<String> {
        let mut checksum = Checksum::new(self.all.iter().map(|(name, (_, info))| (name.len() + size(info)) as u64).sum());
        for (name, (file, info)) in &self.all {
            checksum.push(name.as_bytes());
            for at in (0..size(info)).step_by(PIECE) {
                checksum.push(&self.files[*file].read(info, at, PIECE.min(size(info) - at))?);
            }
        }
        Ok(checksum.finish())
    }

    fn of(path: &Path, files: Vec<TensorFile>) -> Result<Tensors> {
        let mut all: BTreeMap<String, (usize, TensorInfo)> = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            for (name, info) in file.tensors() {
                if let Some((other, _)) = all.get(&name) {
                    return Err(file_error(
                        &file.path,
                        &format!("tensor {name} is there twice"),
                        format!("{} has it, too", files[*other].path.display()),
                    ));
                }
                all.insert(name, (number, info));
            }
        }
        Ok(Tensors { path: path.into(), files, all, read: RefCell::default() })
    }

    /// The averages of parameters in the place of these; what has none stays. An error where there are none.
    pub fn averaged(mut self) -> Result<Tensors> {
        let of = |name: &String| match State::parse(name) {
            State::Average(path) => Some((name.clone(), path.to_string())),
            State::Parameter(_) | State::Slot(..) | State::Outlier(_) | State::Past(_) => None,
        };
        let averages: Vec<(String, String)> = self.all.keys().filter_map(of).collect();
        if averages.is_empty() {
            return Err(Error(format!("{}: it keeps no averages of the weights; train with --set train.ema=0.999", self.path.display())));
        }
        for (name, path) in averages {
            let place = self.all.remove(&name).expect("it was listed");
            self.all.insert(path, place);
        }
        Ok(self)
    }

    /// Every tensor's name, in order, and the path of its file.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.all.iter().map(|(name, (file, _))| (name.as_str(), self.files[*file].path.as_path()))
    }

    /// The shape of a tensor, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.all.get(name).map(|t| t.1.shape.clone())
    }

    /// Whether there is a tensor that a parameter of this name is read from.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The bytes of a tensor as a program's memory holds them, if it is there: under its name or, where that has `{}`, one an iteration
    /// under theirs. It must have the type's sizes, and elements that are numbers of the type; floats of 16 bits widen to 32.
    pub fn get(&self, name: &str, ty: &Type) -> Result<Option<Vec<u8>>> {
        if !self.has(name, ty) {
            return Ok(None);
        }
        self.check(name, ty)?;
        let found = self.found(name, ty)?;
        match &found[..] {
            // a copy of the largest tensors would be felt
            [(whole, _)] => self.held(whole, ty.dtype).map(Some),
            pieces => pieces.iter().map(|p| self.held(&p.0, ty.dtype)).collect::<Result<Vec<_>>>().map(|all| Some(all.concat())),
        }
    }

    /// As [`get`](Self::get), where the tensor must be there.
    pub fn expect(&self, name: &str, ty: &Type) -> Result<Vec<u8>> {
        self.check(name, ty)?;
        self.get(name, ty)?.ok_or_else(|| self.missing(name))
    }

    /// Whether a tensor is there, or a piece of it.
    pub(crate) fn has(&self, name: &str, ty: &Type) -> bool {
        self.find(name).is_some() || pieces(name, ty).iter().any(|p| self.find(&p.0).is_some())
    }

    /// Refuses a tensor that is not there, has another shape than its type or elements that are none of it. None of its bytes are read.
    pub fn check(&self, name: &str, ty: &Type) -> Result<()> {
        for (Found { name, part }, sizes) in self.found(name, ty)? {
            let (file, info) = &self.all[&name];
            let path = &self.files[*file].path;
            let (have, dtype) = match (part, &info.shape[..]) {
                (Some(part), [rows, columns]) => (part.sizes([*rows, *columns]).to_vec(), DType::F32),
                (Some(_), _) => return Err(file_error(path, &format!("tensor {name} has shape {:?}", info.shape), "expected a matrix")),
                (None, shape) => (shape.to_vec(), ty.dtype),
            };
            if have != sizes {
                let what = part.map_or(String::new(), |part| format!(", in {} bits {have:?}", part.packed.bits()));
                let why = format!("expected {sizes:?}: is this the same model?");
                return Err(file_error(path, &format!("tensor {name} has shape {:?}{what}", info.shape), why));
            }
            convertible(info.dtype, dtype).map_err(|(what, why)| file_error(path, &format!("tensor {name} {what}"), why))?;
            self.read.borrow_mut().insert(name);
        }
        Ok(())
    }

    /// Shows the bytes of a tensor that is there, a piece at a time, each with where it begins in memory.
    pub fn each(&self, name: &str, ty: &Type, show: &mut dyn FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        self.check(name, ty)?;
        let mut at = 0;
        for (found, _) in self.found(name, ty)? {
            let mut show_one = |bytes: Vec<u8>| {
                at += bytes.len();
                show(at - bytes.len(), &bytes)
            };
            let info = &self.all[&found.name].1;
            if found.part.is_some() || !matches!(info.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16) {
                show_one(self.held(&found, ty.dtype)?)?;
                continue;
            }
            // the largest tensors are floats, and not to be in memory twice
            for from in (0..size(info)).step_by(PIECE) {
                show_one(self.bytes(&found.name, from..size(info).min(from + PIECE), ty.dtype)?)?;
            }
        }
        Ok(())
    }

    /// The tensors that a type's is made of, by the names they have here, and their sizes.
    fn found(&self, name: &str, ty: &Type) -> Result<Vec<(Found, Vec<usize>)>> {
        match self.find(name) {
            Some(whole) => Ok(vec![(whole, ty.sizes())]),
            None => {
                let each = |(piece, sizes): (String, Vec<usize>)| Ok((self.find(&piece).ok_or_else(|| self.missing(&piece))?, sizes));
                pieces(name, ty).into_iter().map(each).collect()
            }
        }
    }

    fn missing(&self, name: &str) -> Error {
        let names: Vec<&str> = self.all.keys().map(String::as_str).collect();
        file_error(&self.path, "a tensor is missing", format!("{name}{}", hint(name, &names)))
    }

    /// The tensor of a name, or the matrix that one of this name is made of.
    fn find(&self, name: &str) -> Option<Found> {
        let own = || Some(Found { name: self.named(name)?, part: None });
        let made = || Part::of(name).and_then(|(matrix, part)| Some(Found { name: self.named(matrix)?, part: Some(part) }));
        own().or_else(made)
    }

    /// The name a tensor has here: its own, or that without what the models inside of others are called by, as in files of these alone.
    fn named(&self, name: &str) -> Option<String> {
        let short = ["transformer.", "model.", "bert.", "roberta."].iter().find_map(|prefix| name.strip_prefix(prefix));
        [Some(name), short].into_iter().flatten().find(|n| self.all.contains_key(*n)).map(String::from)
    }

    /// What is asked for, as memory holds it.
    fn held(&self, Found { name, part }: &Found, dtype: DType) -> Result<Vec<u8>> {
        let (file, info) = &self.all[name];
        let Some(part) = part else { return self.bytes(name, 0..size(info), dtype) };
        let [rows, columns] = info.shape[..] else { unreachable!("it was checked that this is a matrix") };
        let matrix: Vec<f32> = self.bytes(name, 0..size(info), DType::F32)?.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if let Some((at, x)) = matrix.iter().enumerate().find(|x| !x.1.is_finite()) {
            let why = format!("expected numbers, of which a block's largest gives the others their levels; {x} is element {at}");
            return Err(file_error(&self.files[*file].path, &format!("tensor {name} cannot be held in {} bits", part.packed.bits()), why));
        }
        Ok(part.bytes([rows, columns], &matrix))
    }

    /// Bytes of a tensor's file, from one to another, as memory holds them.
    fn bytes(&self, name: &str, range: Range<usize>, dtype: DType) -> Result<Vec<u8>> {
        let (file, info) = &self.all[name];
        let file = &self.files[*file];
        let bytes = file.read(info, range.start, range.len())?;
        memory(bytes, info.dtype, dtype).map_err(|(what, why)| file_error(&file.path, &format!("tensor {name} {what}"), why))
    }

    /// Refuses the file if it has a tensor that nobody has read and that is not known to be of no use; says which are.
    pub fn check_all_read(&self) -> Result<Vec<String>> {
        let read = self.read.borrow();
        let known = |(name, path): (&str, &Path)| match self.use_of(name, &read)? {
            Some(why) => Ok(format!("{}: tensor {name} is not read: {why}", path.display())),
            None => {
                let why = "the program reads no such tensor: is this the same model, with as many layers and the same head?";
                Err(file_error(path, &format!("tensor {name} is not used"), why))
            }
        };
        self.places().filter(|t| !read.contains(t.0)).map(known).collect()
    }

    /// What a tensor is that no program need read.
    fn use_of(&self, name: &str, read: &BTreeSet<String>) -> Result<Option<&'static str>> {
        // masks and frequencies that some published files carry along
        if CONSTANTS.iter().any(|buffer| name.ends_with(buffer)) {
            return Ok(Some("it is a constant of the model, not a weight"));
        }
        if models::heads::is_head(name) {
            return Ok(Some("it is a head that this program has no use for"));
        }
        if matches!(State::parse(name), State::Outlier(_)) {
            return Ok(Some("it is of earlier steps, not a weight"));
        }
        if read.iter().any(|r| name.strip_suffix(r.as_str()).is_some_and(|prefix| prefix.ends_with('.'))) {
            return Ok(Some("it is the optimizer's state of a parameter"));
        }
        // a layer too many may start as another does, and is one too many all the same
        if name.split('.').any(|part| part.parse::<u64>().is_ok()) {
            return Ok(None);
        }
        for other in read {
            if self.alike(name, other)? {
                return Ok(Some("it is a copy of one that is, as tied weights are"));
            }
        }
        Ok(None)
    }

    /// Whether two tensors have the same shape and the same bytes.
    fn alike(&self, a: &str, b: &str) -> Result<bool> {
        let [(a_file, a), (b_file, b)] = [&self.all[a], &self.all[b]];
        if a.dtype != b.dtype || a.shape != b.shape {
            return Ok(false);
        }
        for at in (0..size(a)).step_by(PIECE) {
            let bytes = PIECE.min(size(a) - at);
            if self.files[*a_file].read(a, at, bytes)? != self.files[*b_file].read(b, at, bytes)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The ends of names of buffers that are a model's constants.
const CONSTANTS: [&str; 6] = [
    ".attn.bias",
    ".attn.masked_bias",
    ".rotary_emb.inv_freq",
    "embeddings.position_ids",
    "embed_positions.weight",
    ".EncDecAttention.relative_attention_bias.weight",
];

/// Bytes that are compared at once.
const PIECE: usize = 1 << 20;

/// What is wrong with a tensor, and what was expected.
type Unfit = (String, String);

/// Whether elements of a file can be a program's.
fn convertible(have: Dtype, dtype: DType) -> std::result::Result<(), Unfit> {
    let fits = match dtype {
        DType::F32 => matches!(have, Dtype::F32 | Dtype::BF16 | Dtype::F16),
        DType::BF16 => have == Dtype::BF16,
        DType::F16 => have == Dtype::F16,
        DType::I32 => matches!(have, Dtype::I32 | Dtype::I64),
        DType::U32 => matches!(have, Dtype::U32 | Dtype::I64),
        DType::Bool => have == Dtype::BOOL,
        DType::Tuple => false,
    };
    let wanted = match dtype {
        DType::F32 => "F32, BF16 or F16".to_string(),
        DType::I32 => "I64 or I32".to_string(),
        DType::U32 => "I64 or U32".to_string(),
        DType::BF16 | DType::F16 | DType::Bool | DType::Tuple => dtype.to_string().to_uppercase(),
    };
    if fits { Ok(()) } else { Err((format!("is {have:?}"), format!("expected {wanted}; convert it first"))) }
}

/// A tensor's bytes as a program holds them, of elements that are [`convertible`].
fn memory(bytes: Vec<u8>, have: Dtype, dtype: DType) -> std::result::Result<Vec<u8>, Unfit> {
    match (have, dtype) {
        (Dtype::BF16, DType::F32) => Ok(widened(&bytes, DType::BF16)),
        (Dtype::F16, DType::F32) => Ok(widened(&bytes, DType::F16)),
        (Dtype::I64, _) => {
            let word = |(i, c): (usize, &[u8; 8])| {
                let n = i64::from_le_bytes(*c);
                let fits = if dtype == DType::I32 { i32::try_from(n).map(i32::to_le_bytes) } else { u32::try_from(n).map(u32::to_le_bytes) };
                fits.map_err(|_| (format!("holds {n}, as element {i}"), format!("expected numbers of type {dtype}")))
            };
            bytes.as_chunks().0.iter().enumerate().map(word).collect::<std::result::Result<Vec<_>, _>>().map(|w| w.concat())
        }
        (Dtype::BOOL, _) => Ok(bytes.iter().flat_map(|b| u32::from(*b != 0).to_le_bytes()).collect()),
        _ => Ok(bytes),
    }
}

/// Floats of 16 bits in 32.
pub(crate) fn widened(bytes: &[u8], dtype: DType) -> Vec<u8> {
    bytes.as_chunks().0.iter().flat_map(|b| (dtype.from_bits(u16::from_le_bytes(*b)) as f32).to_le_bytes()).collect()
}

/// Floats of 32 bits in a file's type, rounded to nearest.
pub(crate) fn narrowed(bytes: &[u8], dtype: Dtype) -> Cow<'_, [u8]> {
    let round = |dtype: DType| -> Cow<'_, [u8]> {
        bytes.as_chunks().0.iter().flat_map(|b| dtype.to_bits(f64::from(f32::from_le_bytes(*b))).to_le_bytes()).collect::<Vec<u8>>().into()
    };
    match dtype {
        Dtype::BF16 => round(DType::BF16),
        Dtype::F16 => round(DType::F16),
        _ => bytes.into(),
    }
}

/// A value from memory, for evaluation.
pub fn value(bytes: &[u8], ty: &Type) -> Value {
    let number = |c: &[u8]| match ty.dtype {
        DType::F32 => f32::from_le_bytes(c.try_into().expect("four bytes")).into(),
        DType::I32 => i32::from_le_bytes(c.try_into().expect("four bytes")).into(),
        DType::U32 | DType::Bool | DType::Tuple => u32::from_le_bytes(c.try_into().expect("four bytes")).into(),
        DType::BF16 | DType::F16 => ty.dtype.from_bits(u16::from_le_bytes(c.try_into().expect("two bytes"))),
    };
    Value::new(ty.sizes(), bytes.chunks_exact(ty.dtype.bytes()).map(number).collect())
}

/// What memory holds of an evaluated value.
pub fn bytes(value: &Value, dtype: DType) -> Vec<u8> {
    let word = |x: &f64| match dtype {
        DType::F32 => (*x as f32).to_le_bytes().to_vec(),
        DType::I32 => (*x as i32).to_le_bytes().to_vec(),
        DType::U32 | DType::Bool | DType::Tuple => (*x as u32).to_le_bytes().to_vec(),
        DType::BF16 | DType::F16 => dtype.to_bits(*x).to_le_bytes().to_vec(),
    };
    value.data.iter().flat_map(word).collect()
}

/// Results as a safetensors file's content, and how many tensors it has. A new value of state has the name of the state, and what is
/// stacked is one tensor an iteration, so that results can be read again.
pub fn results(results: &[(String, Type, Vec<u8>)]) -> Result<(Vec<u8>, usize)> {
    let mut tensors: Vec<(String, Vec<usize>, Dtype, Vec<u8>)> = vec![];
    for (name, ty, bytes) in results {
        let pieces = pieces(new_value_of(name).unwrap_or(name), ty);
        let n = bytes.len() / pieces.len().max(1);
        for (i, (piece, sizes)) in pieces.into_iter().enumerate() {
            if tensors.iter().any(|t| t.0 == piece) {
                return Err(Error(format!("two results would be tensor {piece} of the file: one of them needs another name")));
            }
            let (dtype, bytes) = written(ty.dtype, &bytes[i * n..(i + 1) * n]);
            tensors.push((piece, sizes, dtype, bytes));
        }
    }
    let views = tensors.iter().map(|(name, sizes, dtype, bytes)| TensorView::new(*dtype, sizes.clone(), bytes).map(|v| (name.as_str(), v)));
    let views = views.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| Error(format!("a tensor cannot be written: {e}")))?;
    let content = safetensors::serialize(views, None).map_err(|e| Error(format!("tensors cannot be written: {e}")))?;
    Ok((content, tensors.len()))
}

/// A tensor's type and bytes in a file: truth takes a byte there.
fn written(dtype: DType, bytes: &[u8]) -> (Dtype, Vec<u8>) {
    let file = file_type(dtype);
    if file == Dtype::BOOL {
        return (file, bytes.chunks_exact(4).map(|w| u8::from(w != [0; 4])).collect());
    }
    (file, bytes.to_vec())
}

/// What a file calls a type.
pub(super) fn file_type(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::I32 => Dtype::I32,
        DType::U32 | DType::Tuple => Dtype::U32,
        DType::Bool => Dtype::BOOL,
    }
}
