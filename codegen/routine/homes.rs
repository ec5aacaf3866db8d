//! Where a value stands in a buffer, and the views of it that strides can say.

/// Where a value stands: elements of a buffer by strides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Home {
    pub buffer: usize,
    pub offset: i64,
    pub dims: Vec<usize>,
    pub strides: Vec<i64>,
}

/// The index of an axis counted from the end.
pub(crate) fn axis_of(ty: &ir::Type, axis: i8) -> usize {
    ir::axis(ty, axis).expect("the type rule has checked the axis")
}

/// Strides of a dense value.
pub(crate) fn row_major(dims: &[usize]) -> Vec<i64> {
    let mut out = vec![1i64; dims.len()];
    for d in (0..dims.len().saturating_sub(1)).rev() {
        out[d] = out[d + 1] * dims[d + 1] as i64;
    }
    out
}

impl Home {
    pub(crate) fn dense(buffer: usize, dims: Vec<usize>) -> Home {
        let strides = row_major(&dims);
        Home { buffer, offset: 0, dims, strides }
    }
    pub(crate) fn is_dense(&self) -> bool {
        let want = row_major(&self.dims);
        self.dims.iter().zip(&self.strides).zip(want).all(|((d, s), w)| *d == 1 || *s == w)
    }
    pub(crate) fn transpose(&self, order: &[u8]) -> Home {
        let pick = |i: &u8| usize::from(*i);
        Home { dims: order.iter().map(|i| self.dims[pick(i)]).collect(), strides: order.iter().map(|i| self.strides[pick(i)]).collect(), ..*self }
    }
    pub(crate) fn slice(&self, axis: usize, lo: usize, hi: usize) -> Home {
        let mut out = self.clone();
        out.offset += lo as i64 * self.strides[axis];
        out.dims[axis] = hi - lo;
        out
    }
    /// The same elements under other dims, where strides can say so.
    pub(crate) fn reshape(&self, dims: &[usize]) -> Option<Home> {
        if dims.contains(&0) {
            return Some(Home { dims: dims.to_vec(), strides: row_major(dims), ..*self });
        }
        let old: Vec<(usize, i64)> = self.dims.iter().copied().zip(self.strides.iter().copied()).filter(|d| d.0 != 1).collect();
        let (mut strides, mut i, mut j) = (vec![0i64; dims.len()], 0, 0);
        while j < dims.len() {
            if dims[j] == 1 {
                strides[j] = 1;
                j += 1;
                continue;
            }
            // the least runs of old and new dims with one product
            let (from, to) = (i, j);
            let (mut have, mut want) = (old.get(i)?.0, dims[j]);
            while have != want {
                if have < want {
                    i += 1;
                    have *= old.get(i)?.0;
                } else {
                    j += 1;
                    want *= *dims.get(j)?;
                }
            }
            if !(from..i).all(|k| old[k].1 == old[k + 1].1 * old[k + 1].0 as i64) {
                return None;
            }
            let mut step = old[i].1;
            for k in (to..=j).rev() {
                strides[k] = step;
                step *= dims[k] as i64;
            }
            i += 1;
            j += 1;
        }
        Some(Home { dims: dims.to_vec(), strides, ..*self })
    }
}
