//! Dims, element types and the type of a value.

use smallvec::SmallVec;
use std::fmt::{self, Display};
use std::str::FromStr;

/// The largest number of elements a tensor may have; sizes beyond it are refused before anything is allocated.
pub const ELEMENTS_MAX: u64 = 1 << 40;

/// The largest number of axes a tensor may have.
pub const RANK_MAX: usize = 16;

/// A number times at most three named sizes (one capital letter each), and times one that a number is added to, as in `B*T+8`, which is B times
/// what is 8 more than T. It is in normal form: equal dims are equal values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Dim {
    number: u64,
    symbols: [u8; 3],
    /// The name of the size that a number is added to, or 0.
    longer: u8,
    /// That number.
    by: u32,
}

/// The dims of a tensor, outermost first.
pub type Dims = SmallVec<[Dim; 5]>;

impl Dim {
    /// The dim 1, which broadcasts.
    pub const ONE: Dim = Dim { number: 1, symbols: [0; 3], longer: 0, by: 0 };

    /// A dim of known size.
    pub fn num(n: u64) -> Dim {
        Dim { number: n, ..Dim::ONE }
    }

    /// A named dim. The name is one capital letter; with another the dim is `?`, which no tensor may have.
    pub fn sym(name: char) -> Dim {
        let letter = if name.is_ascii_uppercase() { name as u8 } else { b'?' };
        Dim { symbols: [0, 0, letter], ..Dim::ONE }
    }

    /// So much more, where this is a plain number or one name: `None` for others, and where it overflows.
    pub fn plus(self, n: u64) -> Option<Dim> {
        match (self.number, self.symbols, self.longer) {
            (_, [0, 0, 0], 0) => self.number.checked_add(n).map(Dim::num),
            (1, [0, 0, name], 0) => Dim { number: 1, symbols: [0; 3], longer: name, by: 0 }.plus(n),
            (1, [0, 0, 0], name) => match self.by.checked_add(u32::try_from(n).ok()?)? {
                0 => Some(Dim { symbols: [0, 0, name], ..Dim::ONE }),
                by => Some(Dim { by, ..self }),
            },
            _ => None,
        }
    }

    /// The product, or `None` where it overflows, names more than three symbols, or two that something is added to.
    pub fn times(self, other: Dim) -> Option<Dim> {
        let number = self.number.checked_mul(other.number)?;
        if number == 0 {
            return Some(Dim::num(0));
        }
        let mut names: SmallVec<[u8; 6]> = self.symbols.iter().chain(&other.symbols).copied().filter(|s| *s != 0).collect();
        if names.len() > 3 || self.longer != 0 && other.longer != 0 {
            return None;
        }
        names.sort_unstable();
        let mut symbols = [0; 3];
        symbols[3 - names.len()..].copy_from_slice(&names);
        let Dim { longer, by, .. } = if self.longer != 0 { self } else { other };
        Some(Dim { number, symbols, longer, by })
    }

    /// The size, where it is a plain number.
    pub fn value(self) -> Option<u64> {
        (self.symbols == [0; 3] && self.longer == 0).then_some(self.number)
    }

    /// The size of a dim whose symbols were bound. Panics on a symbolic dim: `bind` runs before anything asks.
    pub fn size(self) -> usize {
        self.value().unwrap_or_else(|| panic!("dim {self} is not bound to a size")) as usize
    }

    /// The dim with its symbols replaced by sizes; `None` where one is missing or the product overflows.
    pub fn bind(self, size_of: &dyn Fn(char) -> Option<u64>) -> Option<Dim> {
        let mut n = self.number;
        for s in self.symbols.into_iter().filter(|s| *s != 0) {
            n = n.checked_mul(size_of(s as char)?)?;
        }
        if self.longer != 0 {
            n = n.checked_mul(size_of(self.longer.into())?.checked_add(self.by.into())?)?;
        }
        Some(Dim::num(n))
    }

    /// The names of the symbols in this dim.
    pub fn symbols(self) -> impl Iterator<Item = char> {
        self.symbols.into_iter().chain([self.longer]).filter(|s| *s != 0).map(char::from)
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::num(n as u64)
    }
}

impl From<u32> for Dim {
    fn from(n: u32) -> Dim {
        Dim::num(n.into())
    }
}

impl From<char> for Dim {
    fn from(name: char) -> Dim {
        Dim::sym(name)
    }
}

impl Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let own = self.symbols.into_iter().filter(|s| *s != 0).map(|s| char::from(s).to_string());
        let longer = (self.longer != 0).then(|| format!("{}+{}", char::from(self.longer), self.by));
        let names: Vec<String> = own.chain(longer).collect();
        match (self.number, names.is_empty()) {
            (n, true) => write!(f, "{n}"),
            (1, false) => f.write_str(&names.join("*")),
            (n, false) => write!(f, "{n}*{}", names.join("*")),
        }
    }
}

impl FromStr for Dim {
    type Err = String;
    fn from_str(text: &str) -> Result<Dim, String> {
        let number = |digits: &str| -> Result<u64, String> {
            if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().map_err(|_| not_a_dim(digits)) } else { Err(not_a_dim(digits)) }
        };
        text.split('*').try_fold(Dim::ONE, |product, part| {
            let (factor, more) = part.split_once('+').map_or((part, None), |(factor, more)| (factor, Some(more)));
            let factor = match factor.as_bytes() {
                [name @ b'A'..=b'Z'] => Dim::sym(*name as char),
                // numbers are added up before they are written
                _ if more.is_some() => return Err(not_a_dim(part)),
                _ => Dim::num(number(part)?),
            };
            let factor = more.map_or(Ok(Some(factor)), |more| number(more).map(|n| factor.plus(n)))?;
            factor.and_then(|f| product.times(f)).ok_or_else(|| format!("dim '{text}' is too large, or names more than three sizes"))
        })
    }
}

fn not_a_dim(text: &str) -> String {
    format!("'{text}' is not a dim: expected a number or a capital letter")
}

/// The type of an element.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// The upper half of a 32-bit float: what products read and memory holds; arithmetic is in 32 bits.
    BF16,
    /// 16-bit float, likewise.
    F16,
    /// 32-bit signed integer: token ids, labels, positions.
    I32,
    /// 32-bit unsigned integer: random bits.
    U32,
    /// Truth value of a comparison.
    Bool,
    /// Several values at once; taken apart by `get`.
    Tuple,
}

impl DType {
    /// Bytes an element takes in memory. Truth takes a word, as GPUs have no smaller stores.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 | DType::I32 | DType::U32 | DType::Bool => 4,
            DType::BF16 | DType::F16 => 2,
            DType::Tuple => 0,
        }
    }
}

impl DType {
    /// Whether it is a float of 16 bits.
    pub fn is_half(self) -> bool {
        matches!(self, DType::BF16 | DType::F16)
    }

    /// The bits of the nearest number of this type, which is a float of 16 bits.
    pub fn to_bits(self, x: f64) -> u16 {
        if self == DType::BF16 { half::bf16::from_f32(x as f32).to_bits() } else { half::f16::from_f32(x as f32).to_bits() }
    }

    /// The number that bits of this type are, which is a float of 16 bits.
    pub fn from_bits(self, bits: u16) -> f64 {
        if self == DType::BF16 { half::bf16::from_bits(bits).to_f64() } else { half::f16::from_bits(bits).to_f64() }
    }

    /// The nearest number of this type, as memory would hold it.
    pub fn round(self, x: f64) -> f64 {
        match self {
            DType::F32 => f64::from(x as f32),
            DType::BF16 => half::bf16::from_f32(x as f32).to_f64(),
            DType::F16 => half::f16::from_f32(x as f32).to_f64(),
            _ => x,
        }
    }
}

/// The spelling of each element type; the last is no element's.
const SPELLED: [(DType, &str); 7] = [
    (DType::F32, "f32"),
    (DType::BF16, "bf16"),
    (DType::F16, "f16"),
    (DType::I32, "i32"),
    (DType::U32, "u32"),
    (DType::Bool, "bool"),
    (DType::Tuple, "tuple"),
];

impl Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(SPELLED.iter().find(|s| s.0 == *self).expect("each has a spelling").1)
    }
}

impl FromStr for DType {
    type Err = String;
    fn from_str(text: &str) -> Result<DType, String> {
        let elements = &SPELLED[..6];
        let expected = || crate::either(&elements.iter().map(|s| s.1).collect::<Vec<_>>());
        elements.iter().find(|s| s.1 == text).map(|s| s.0).ok_or_else(|| format!("'{text}' is not an element type: expected {}", expected()))
    }
}

/// The type of a value: an element type and dims, or a tuple of types.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Type {
    /// The element type, or `Tuple`.
    pub dtype: DType,
    /// Dims, outermost first; empty for a scalar or a tuple.
    pub dims: Dims,
    /// The members of a tuple.
    pub parts: Vec<Type>,
}

impl Type {
    /// A tensor type.
    pub fn of(dtype: DType, dims: impl IntoIterator<Item = impl Into<Dim>>) -> Type {
        Type { dtype, dims: dims.into_iter().map(Into::into).collect(), parts: vec![] }
    }

    /// An `f32` tensor type.
    pub fn f32(dims: impl IntoIterator<Item = impl Into<Dim>>) -> Type {
        Type::of(DType::F32, dims)
    }

    /// A scalar type.
    pub fn scalar(dtype: DType) -> Type {
        Type { dtype, dims: Dims::new(), parts: vec![] }
    }

    /// A tuple type.
    pub fn tuple(parts: Vec<Type>) -> Type {
        Type { dtype: DType::Tuple, dims: Dims::new(), parts }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The dim of an axis counted from the end (`-1` is the last); 1 where the tensor has fewer axes.
    pub fn dim(&self, axis: i8) -> Dim {
        let i = usize::try_from(self.rank() as i64 + i64::from(axis)).ok();
        i.and_then(|i| self.dims.get(i)).copied().unwrap_or(Dim::ONE)
    }

    /// Whether it is one tensor, not several values.
    pub fn is_tensor(&self) -> bool {
        self.dtype != DType::Tuple
    }

    /// Whether every dim is 1.
    pub fn is_scalar(&self) -> bool {
        self.dtype != DType::Tuple && self.dims.iter().all(|d| *d == Dim::ONE)
    }

    /// The sizes of a bound type.
    pub fn sizes(&self) -> Vec<usize> {
        self.dims.iter().map(|d| d.size()).collect()
    }

    /// Number of elements of a bound type; a tuple has the sum of its parts.
    pub fn count(&self) -> usize {
        match self.dtype {
            DType::Tuple => self.parts.iter().map(Type::count).sum(),
            _ => self.sizes().iter().product(),
        }
    }

    /// Bytes of a bound type.
    pub fn bytes(&self) -> usize {
        match self.dtype {
            DType::Tuple => self.parts.iter().map(Type::bytes).sum(),
            d => self.count() * d.bytes(),
        }
    }

    /// The product of the dims, or why no tensor has them: too many axes, too many elements, or names that are none.
    pub fn checked_count(&self) -> Result<Dim, String> {
        if self.rank() > RANK_MAX {
            return Err(format!("a tensor has at most {RANK_MAX} axes, not {}", self.rank()));
        }
        if self.dims.iter().any(|d| d.symbols().any(|s| s == '?')) {
            return Err(format!("{self} names a dim by something else than one capital letter"));
        }
        // an axis of size 0 does not make the others harmless: strides are products of the rest
        let extent = |d: &Dim| if *d == Dim::num(0) { Dim::ONE } else { *d };
        let number = self.dims.iter().map(extent).try_fold(1u64, |n, d| n.checked_mul(d.number)).filter(|n| *n <= ELEMENTS_MAX);
        number.ok_or_else(|| format!("{self} has too many elements (more than {ELEMENTS_MAX})"))?;
        self.parts.iter().try_for_each(|p| p.checked_count().map(|_| ()))?;
        let product = self.dims.iter().try_fold(Dim::ONE, |p, d| p.times(*d));
        product.ok_or_else(|| format!("{self} has more than three named sizes"))
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.dtype {
            DType::Tuple => write!(f, "({})", list(&self.parts)),
            d => write!(f, "{d}[{}]", list(&self.dims)),
        }
    }
}

impl FromStr for Type {
    type Err = String;
    fn from_str(text: &str) -> Result<Type, String> {
        parse_type(text, 0)
    }
}

/// Tuples are of tensors; a text that nests deeper is refused before it can exhaust the stack.
const NESTING_MAX: usize = 4;

fn parse_type(text: &str, depth: usize) -> Result<Type, String> {
    let text = text.trim();
    if depth > NESTING_MAX {
        return Err("a type nests too deep".into());
    }
    if let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        return Ok(Type::tuple(split_top(inner).into_iter().map(|t| parse_type(t, depth + 1)).collect::<Result<_, _>>()?));
    }
    let bad = || format!("'{text}' is not a type: expected something like f32[B,T,768]");
    let (dtype, rest) = text.split_once('[').ok_or_else(bad)?;
    let ty = Type { dtype: dtype.parse()?, dims: parse_dims(rest.strip_suffix(']').ok_or_else(bad)?)?, parts: vec![] };
    ty.checked_count()?;
    Ok(ty)
}

/// Dims as written between brackets: `B,T,768`.
pub fn parse_dims(text: &str) -> Result<Dims, String> {
    if text.trim().is_empty() {
        return Ok(Dims::new());
    }
    text.split(',').map(|t| t.trim().parse()).collect()
}

/// Splits at commas that stand outside every bracket.
pub(crate) fn split_top(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0i32, 0, vec![]);
    for (i, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        parts.push(text[start..].trim());
    }
    parts
}

pub(crate) fn list<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}
