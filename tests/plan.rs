//! The memory plan: nothing that lives at one time overlaps, and what is left between is used.

use crate::common::Random;
use passes::{ALIGN, Interval, plan};

fn interval(bytes: usize, first: usize, last: usize) -> Interval {
    Interval { bytes, first, last }
}

/// Bytes that a buffer takes: whole lines, and at least one.
fn taken(bytes: usize) -> usize {
    bytes.max(1).div_ceil(ALIGN) * ALIGN
}

#[test]
fn what_lives_together_stands_apart() {
    let mut r = Random(11);
    for _ in 0..300 {
        let count = r.below(25);
        let list: Vec<Interval> = (0..count)
            .map(|_| {
                let first = r.below(12);
                interval([0, 1, 255, 256, 257, 1000, 4096][r.below(7)], first, first + r.below(5))
            })
            .collect();
        let arena = plan(&list);
        let bytes = |i: usize| taken(list[i].bytes);
        for (i, a) in list.iter().enumerate() {
            assert!(arena.offsets[i].is_multiple_of(ALIGN) && arena.offsets[i] + bytes(i) <= arena.bytes, "{list:?} {arena:?}");
            for (j, b) in list.iter().enumerate().skip(i + 1) {
                let together = a.first <= b.last && b.first <= a.last;
                let apart = arena.offsets[i] + bytes(i) <= arena.offsets[j] || arena.offsets[j] + bytes(j) <= arena.offsets[i];
                assert!(!together || apart, "{i} and {j} of {list:?}: {arena:?}");
            }
        }
        // the bound, step by step
        let live = |s: usize| (0..list.len()).filter(|i| list[*i].first <= s && s <= list[*i].last).map(bytes).sum::<usize>();
        assert_eq!(arena.bound, (0..20).map(live).max().unwrap(), "{list:?}");
        assert!(arena.bytes >= arena.bound);
        let ends: Vec<usize> = (0..list.len()).map(|i| arena.offsets[i] + bytes(i)).collect();
        assert_eq!(arena.bytes, ends.into_iter().max().unwrap_or(0), "no byte behind the last buffer");
    }
}

/// Buffers that live one after the other are one place: from the first step to the last, both included.
#[test]
fn memory_is_used_again() {
    let arena = plan(&[interval(1000, 0, 1), interval(1000, 2, 3), interval(900, 4, 9)]);
    assert_eq!((arena.offsets.as_slice(), arena.bytes, arena.bound), (&[0, 0, 0][..], 1024, 1024));
    let arena = plan(&[interval(1000, 0, 2), interval(1000, 2, 3)]);
    assert_eq!((arena.bytes, arena.bound), (2048, 2048), "what is read in the step that makes the other still lives");
    assert_eq!(plan(&[]), passes::Arena::default());
}

/// The smallest gap that is large enough is taken, though another comes first.
#[test]
fn the_tightest_gap_is_taken() {
    // in step 0 five buffers stand one behind the other, largest first; two of them end, which leaves gaps of 768 and of 512
    let list = [interval(1024, 0, 5), interval(768, 0, 1), interval(768, 0, 5), interval(512, 0, 1), interval(512, 0, 5), interval(500, 3, 5)];
    let arena = plan(&list);
    assert_eq!(arena.offsets, [0, 1024, 1792, 2560, 3072, 2560]);
    assert_eq!((arena.bytes, arena.bound), (3584, 3584));
}
