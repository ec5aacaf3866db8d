//! The memory plan: where in one arena each buffer lives, from when it is written to when it is last read.

/// A buffer that needs a place for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Size.
    pub bytes: usize,
    /// First step that touches it.
    pub first: usize,
    /// Last step that touches it.
    pub last: usize,
}

/// Offsets of buffers in an arena, and its size.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Arena {
    /// Where each buffer begins.
    pub offsets: Vec<usize>,
    /// Bytes of the arena.
    pub bytes: usize,
    /// The most bytes that are live at once: no plan needs less.
    pub bound: usize,
}

/// Alignment of every buffer: several cache lines, and where every device can bind one.
pub const ALIGN: usize = 256;

/// Largest buffers first, each in the tightest gap that is free for all of its life.
pub fn plan(intervals: &[Interval]) -> Arena {
    let size = |i: usize| intervals[i].bytes.next_multiple_of(ALIGN).max(ALIGN);
    let mut order: Vec<usize> = (0..intervals.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(size(*i)), intervals[*i].first, *i));
    let mut offsets = vec![0; intervals.len()];
    let mut placed: Vec<usize> = vec![];
    for i in order {
        let overlaps = |j: &&usize| intervals[**j].first <= intervals[i].last && intervals[i].first <= intervals[**j].last;
        let mut taken: Vec<(usize, usize)> = placed.iter().filter(overlaps).map(|j| (offsets[*j], offsets[*j] + size(*j))).collect();
        taken.sort_unstable();
        offsets[i] = best_gap(&taken, size(i));
        placed.push(i);
    }
    let bytes = (0..intervals.len()).map(|i| offsets[i] + size(i)).max().unwrap_or(0);
    let sized: Vec<(usize, &Interval)> = intervals.iter().enumerate().map(|(i, interval)| (size(i), interval)).collect();
    Arena { offsets, bytes, bound: most_live(&sized) }
}

/// The most bytes that are live in one step.
fn most_live(sized: &[(usize, &Interval)]) -> usize {
    let steps = sized.iter().map(|i| i.1.last + 1).max().unwrap_or(0);
    let (mut born, mut gone) = (vec![0; steps], vec![0; steps]);
    for (size, interval) in sized {
        born[interval.first] += size;
        gone[interval.last] += size;
    }
    let (mut live, mut most) = (0, 0);
    for (born, gone) in born.iter().zip(&gone) {
        live += born;
        most = most.max(live);
        live -= gone;
    }
    most
}

/// The start of the smallest gap between taken ranges (sorted) that holds `need`, or the end of the last.
fn best_gap(taken: &[(usize, usize)], need: usize) -> usize {
    let (mut end, mut best) = (0, None::<(usize, usize)>);
    for (from, to) in taken {
        if *from >= end + need && best.is_none_or(|b| from - end < b.0) {
            best = Some((from - end, end));
        }
        end = end.max(*to);
    }
    best.map_or(end, |b| b.1)
}
