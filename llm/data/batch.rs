//! A batch: named columns, each with its element type and shape.

use crate::error::{Error, Result};
use ir::DType;
use runtime::Session;

/// What a column holds, row by row.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Values {
    F32(Vec<f32>),
    I32(Vec<i32>),
    U32(Vec<u32>),
}

impl Values {
    /// The type of an element.
    pub fn dtype(&self) -> DType {
        match self {
            Values::F32(_) => DType::F32,
            Values::I32(_) => DType::I32,
            Values::U32(_) => DType::U32,
        }
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        match self {
            Values::F32(x) => x.len(),
            Values::I32(x) => x.len(),
            Values::U32(x) => x.len(),
        }
    }
}

/// Values under the name of the input that reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The name.
    pub name: &'static str,
    /// Its sizes, rows first.
    pub shape: Vec<usize>,
    /// Its elements.
    pub values: Values,
}

/// What a step reads: columns, as many and of such names as the objective asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The columns.
    pub columns: Vec<Column>,
}

impl Batch {
    /// The batch with a further column. Panics where its values are not as many as its shape says.
    pub fn with(mut self, name: &'static str, shape: &[usize], values: Values) -> Batch {
        assert_eq!(values.count(), shape.iter().product::<usize>(), "column {name} of shape {shape:?}");
        self.columns.push(Column { name, shape: shape.to_vec(), values });
        self
    }

    /// The first tokens of each row: columns with rows of `from` tokens are cut to rows of `to`.
    pub(crate) fn cut(self, from: usize, to: usize) -> Batch {
        fn first<T: Copy>(x: &[T], from: usize, to: usize) -> Vec<T> {
            x.chunks(from).flat_map(|row| &row[..to]).copied().collect()
        }
        let one = |c: Column| {
            if c.shape.last() != Some(&from) {
                return c;
            }
            let values = match c.values {
                Values::F32(x) => Values::F32(first(&x, from, to)),
                Values::I32(x) => Values::I32(first(&x, from, to)),
                Values::U32(x) => Values::U32(first(&x, from, to)),
            };
            let rows = &c.shape[..c.shape.len() - 1];
            Column { name: c.name, shape: [rows, &[to]].concat(), values }
        };
        Batch { columns: self.columns.into_iter().map(one).collect() }
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The elements of a column of `i32`; none where there is no such column.
    pub fn i32s(&self, name: &str) -> &[i32] {
        match self.column(name).map(|c| &c.values) {
            Some(Values::I32(x)) => x,
            _ => &[],
        }
    }

    /// Fills every input of a session but those named in `others` from the column of its name. Rows of several micro-batches follow each
    /// other in a column: its shape is the input's, where the input's first axes may count the rows together.
    pub fn fill(&self, session: &mut Session, others: &[&str]) -> Result<()> {
        let inputs: Vec<(String, ir::Type)> = session.program().inputs.iter().filter(|i| !others.contains(&i.0.as_str())).cloned().collect();
        for (name, ty) in inputs {
            let Some(column) = self.column(&name) else {
                let have: Vec<&str> = self.columns.iter().map(|c| c.name).collect();
                return Err(Error(format!("the program reads {name}, and the batch has no such column; it has {}", have.join(", "))));
            };
            let (want, have) = (ty.sizes(), &column.shape);
            let row = |sizes: &[usize]| sizes.last().copied().unwrap_or(1);
            if column.values.dtype() != ty.dtype || column.values.count() != ty.count() || row(have) != row(&want) {
                return Err(Error(format!("column {name} is {}{have:?}, and the program reads {}{want:?}", column.values.dtype(), ty.dtype)));
            }
            match &column.values {
                Values::F32(x) => session.set_f32(&name, x)?,
                Values::I32(x) => session.set_i32(&name, x)?,
                Values::U32(x) => session.set_u32(&name, x)?,
            }
        }
        Ok(())
    }
}
