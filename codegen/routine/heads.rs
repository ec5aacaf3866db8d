//! An attention's labels as independent heads: what the kernels can do, and their strides.

use crate::spec::{Access, Heads, Visible};
use ir::{Attn, Labels, Op, Type, attention_sizes};

/// The labels by what they are for: heads (the grouped one last), query, key, depth, value depth.
struct Kinds {
    heads: Vec<u8>,
    query: u8,
    key: u8,
    depth: u8,
    value: u8,
}

fn kinds(a: &Attn) -> Option<Kinds> {
    let (key, query) = (a.scores - 1, a.scores - 2);
    let inner = |labels: &[u8]| match labels.iter().copied().filter(|l| *l >= a.scores).collect::<Vec<_>>()[..] {
        [one] => Some(one),
        _ => None,
    };
    let mut heads: Vec<u8> = (0..query).filter(|l| a.group == 1 || *l != a.head).collect();
    if a.group > 1 {
        heads.push(a.head);
    }
    let (depth, value) = (inner(&a.q)?, inner(&a.v)?);
    let everywhere = |l: &u8| [&a.q, &a.k, &a.v, &a.o].iter().all(|x| x.contains(l));
    let fits = heads.iter().all(everywhere)
        && (a.group == 1 || a.head < query)
        && inner(&a.k) == Some(depth)
        && inner(&a.o) == Some(value)
        && a.q.contains(&query)
        && !a.k.contains(&query)
        && !a.v.contains(&query)
        && a.o.contains(&query)
        && a.k.contains(&key)
        && a.v.contains(&key)
        && !a.q.contains(&key)
        && !a.o.contains(&key);
    fits.then_some(Kinds { heads, query, key, depth, value })
}

/// Whether the attention kernels can do this one; else it is computed by its definition. Operands may have any order of axes, for they are
/// copied where they must be; what is written has its depth last, as vectors are stored.
pub(crate) fn supported(op: &Op, types: &[&Type]) -> bool {
    let (Op::Attention(a) | Op::AttentionBwd(a)) = op else { return false };
    let written = if matches!(op, Op::Attention(_)) { &[&a.o][..] } else { &[&a.q, &a.k, &a.v][..] };
    let depth_last = |labels: &&Labels| labels.last().is_some_and(|l| *l >= a.scores);
    kinds(a).is_some() && written.iter().all(depth_last) && types.iter().take(3).all(|t| !t.sizes().contains(&0))
}

/// The labels of an attention's heads in their order, its queries and its keys.
pub(crate) fn score_order(a: &Attn) -> Labels {
    let kinds = kinds(a).expect("unsupported attention was expanded");
    kinds.heads.iter().copied().chain([kinds.query, kinds.key]).collect()
}

/// An operand's offset and strides by axis.
pub(crate) struct Operand {
    pub arg: usize,
    pub offset: i64,
    pub strides: Vec<i64>,
}

/// The heads of an attention whose operands stand so: q, k, v, o, lse, then do, dq, dk, dv for the backward.
pub(crate) fn heads(a: &Attn, types: [&Type; 3], operands: &[Operand]) -> Heads {
    let kinds = kinds(a).expect("unsupported attention was expanded");
    let sizes = attention_sizes(a, types[0], types[1], types[2]).expect("the type rule has checked the labels");
    let size = |l: u8| sizes[usize::from(l)].expect("every label has a size").size();
    let access = |o: &Operand, labels: &[u8], wanted: &[u8]| {
        let stride = |l: &u8| o.strides[labels.iter().position(|x| x == l).expect("the operand has the label")];
        Access { arg: o.arg, offset: o.offset, strides: wanted.iter().map(stride).collect() }
    };
    let with = |rest: &[u8]| -> Vec<u8> { kinds.heads.iter().chain(rest).copied().collect() };
    let (q_labels, k_labels) = (with(&[kinds.query, kinds.depth]), with(&[kinds.key, kinds.depth]));
    let (v_labels, o_labels) = (with(&[kinds.key, kinds.value]), with(&[kinds.query, kinds.value]));
    let backward = operands.get(5..).unwrap_or(&[]);
    let shapes = [(&a.o, &o_labels), (&a.q, &q_labels), (&a.k, &k_labels), (&a.v, &v_labels)];
    Heads {
        heads: kinds.heads.iter().map(|l| size(*l)).collect(),
        queries: size(kinds.query),
        keys: size(kinds.key),
        depth: size(kinds.depth),
        value_depth: size(kinds.value),
        q: access(&operands[0], &a.q, &q_labels),
        k: access(&operands[1], &a.k, &k_labels),
        v: access(&operands[2], &a.v, &v_labels),
        o: access(&operands[3], &a.o, &o_labels),
        lse: access(&operands[4], &a.rows(), &with(&[kinds.query])),
        backward: backward.iter().zip(shapes).map(|(o, (labels, wanted))| access(o, labels, wanted)).collect(),
        group: a.group as usize,
        score: None,
        visible: Visible::default(),
        sink: None,
        weight: None,
        dlse: None,
        dscore: None,
        captured: vec![],
    }
}
