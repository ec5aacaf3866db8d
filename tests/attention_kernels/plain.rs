//! Attention and its gradients by plain loops in `f64`.

use super::case::{Case, DROPPED, KEY, POSITIONS, RELATIVE, SCALE, Term, WINDOW};

/// A number, and how far from it one that is computed in `f32` may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Number {
    pub value: f64,
    pub error: f64,
}

/// What is so small beside numbers near 1 may count as nothing.
const LEAST: f64 = 1e-24;

impl Number {
    /// Adds a term; what it is made of is at most so large, where it cancels.
    fn add(&mut self, term: f64, size: f64, precision: f64) {
        self.value += term;
        self.error += (size + LEAST) * precision;
    }
}

/// The score's parts at a pair.
struct Score {
    value: f64,
    /// d score / d product.
    slope: f64,
    /// The cap's own derivative.
    cap: f64,
    weight: f64,
}

struct Data(std::collections::HashMap<&'static str, Vec<f64>>);

impl Data {
    fn new(case: &Case) -> Data {
        let names = [
            "q",
            "k",
            "v",
            "do",
            "dlse",
            "bias",
            "key_bias",
            "query_bias",
            "slope",
            "relative",
            "table",
            "cap",
            "log_mask",
            "mask",
            "documents",
            "positions",
            "start",
            "lengths",
            "ragged",
        ];
        Data(names.into_iter().map(|n| (n, case.data(n))).collect())
    }
    fn at(&self, name: &str, i: usize) -> f64 {
        self.0[name][i]
    }
}

/// A place in the scores.
#[derive(Clone, Copy)]
struct At {
    b: usize,
    h: usize,
    i: usize,
    j: usize,
}

fn sees(case: &Case, data: &Data, At { b, i, j, .. }: At) -> bool {
    let (i, j, t) = (i as i64, j as i64, case.queries);
    case.terms.iter().all(|term| match term {
        Term::Causal => j <= i,
        Term::Window => j > i - WINDOW,
        Term::Offset => j <= i + data.at("start", 0) as i64,
        Term::Lengths => j < data.at("lengths", b) as i64,
        Term::Ragged => j <= data.at("ragged", b * t + i as usize) as i64,
        _ => true,
    })
}

fn table(case: &Case, data: &Data, at: At, turned: bool) -> (f64, Option<usize>) {
    let row = data.at("positions", at.i) as i64;
    let place = (0..POSITIONS as i64).contains(&row).then(|| if turned { at.j * POSITIONS + row as usize } else { row as usize * case.keys + at.j });
    (place.map_or(0.0, |p| data.at("table", p)), place)
}

fn score(case: &Case, data: &Data, product: f64, at: At) -> Score {
    let At { b, h, i, j } = at;
    let (t, s) = (case.queries, case.keys);
    let mut out = Score { value: product, slope: 1.0, cap: 0.0, weight: 1.0 };
    for term in &case.terms {
        out.value += match term {
            Term::Cap => {
                let c = data.at("cap", 0);
                let (u, y) = (out.value / c, (out.value / c).tanh());
                out.slope = 1.0 - y * y;
                out.cap = y - u * out.slope;
                c * y - out.value
            }
            Term::Bias => data.at("bias", (h * t + i) * s + j),
            Term::KeyBias => data.at("key_bias", b * s + j),
            Term::QueryBias => data.at("query_bias", (b * case.heads() + h) * t + i),
            Term::Slope => data.at("slope", h) * (j as f64 - i as f64),
            Term::Relative => relative(at).map_or(0.0, |r| data.at("relative", r * case.heads() + h)),
            Term::Positions => table(case, data, at, false).0,
            Term::Turned => table(case, data, at, true).0,
            Term::LogMask => data.at("log_mask", b * s + j).ln(),
            Term::Mask if data.at("mask", b * s + j) == 0.0 => f64::NEG_INFINITY,
            Term::Documents if data.at("documents", b * t.max(s) + i) != data.at("documents", b * t.max(s) + j) => f64::NEG_INFINITY,
            _ => 0.0,
        };
    }
    if case.has(Term::Dropout) {
        let counter = ((b * case.heads() + h) * t + i) * s + j;
        out.weight = if ir::random_bits(KEY, counter as u32) < DROPPED { 0.0 } else { 4.0 / 3.0 };
    }
    if !sees(case, data, at) {
        out.value = f64::NEG_INFINITY;
    }
    out
}

fn relative(at: At) -> Option<usize> {
    let r = at.j as i64 - at.i as i64 + 3;
    (0..RELATIVE as i64).contains(&r).then_some(r as usize)
}

/// Where a pair's captured gradients go: the number of the gradient in its order, the place, and the factor on the score's cotangent.
fn captured(case: &Case, data: &Data, at: At, x: &Score) -> Vec<(usize, f64)> {
    let At { b, h, i, j } = at;
    let (t, s, head) = (case.queries, case.keys, b * case.heads() + h);
    let mut out = vec![];
    for term in &case.terms {
        let place = |n: usize, place: Option<usize>| place.map_or(usize::MAX, |p| head * n + p);
        out.extend(match term {
            Term::Cap => Some((head, x.cap)),
            Term::Bias => Some((place(t * s, Some(i * s + j)), 1.0)),
            Term::KeyBias => Some((place(s, Some(j)), 1.0)),
            Term::QueryBias => Some((place(t, Some(i)), 1.0)),
            Term::Slope => Some((head, j as f64 - i as f64)),
            Term::Relative => Some((place(RELATIVE, relative(at)), 1.0)),
            Term::Positions => Some((place(POSITIONS * s, table(case, data, at, false).1), 1.0)),
            Term::Turned => Some((place(POSITIONS * s, table(case, data, at, true).1), 1.0)),
            Term::LogMask => Some((place(s, Some(j)), 1.0 / data.at("log_mask", b * s + j))),
            _ => None,
        });
    }
    out
}

/// How many elements each captured gradient has.
fn counts(case: &Case) -> Vec<usize> {
    let (t, s, n) = (case.queries, case.keys, case.batch * case.heads());
    let count = |term: &Term| match term {
        Term::Cap | Term::Slope => Some(n),
        Term::Bias => Some(n * t * s),
        Term::KeyBias | Term::LogMask => Some(n * s),
        Term::QueryBias => Some(n * t),
        Term::Relative => Some(n * RELATIVE),
        Term::Positions | Term::Turned => Some(n * POSITIONS * s),
        _ => None,
    };
    case.terms.iter().filter_map(count).collect()
}

/// o and lse; then dq, dk, dv and the gradients of what is captured.
pub fn plain(case: &Case) -> (Vec<Vec<Number>>, Vec<Vec<Number>>) {
    let data = Data::new(case);
    let (t, s, [d, dv], n) = (case.queries, case.keys, case.depths, case.batch * case.heads());
    let zeros = |n: usize| vec![Number::default(); n];
    let (mut o, mut lse) = (zeros(n * t * dv), zeros(n * t));
    let (mut dq, mut dk, mut dvs) = (zeros(n * t * d), zeros(case.batch * case.shared * s * d), zeros(case.batch * case.shared * s * dv));
    let mut extra: Vec<Vec<Number>> = counts(case).into_iter().map(zeros).collect();
    for head in 0..n {
        let (b, h) = (head / case.heads(), head % case.heads());
        let shared = b * case.shared + h / case.group;
        for i in 0..t {
            let row = head * t + i;
            let dot = |x: &str, a: usize, y: &str, b: usize, n: usize| (0..n).map(|c| data.at(x, a * n + c) * data.at(y, b * n + c)).sum::<f64>();
            let scores: Vec<Score> = (0..s).map(|j| score(case, &data, SCALE * dot("q", row, "k", shared * s + j, d), At { b, h, i, j })).collect();
            let top = scores.iter().fold(f64::NEG_INFINITY, |m, x| m.max(x.value));
            let total: f64 = scores.iter().map(|x| if x.value > f64::NEG_INFINITY { (x.value - top).exp() } else { 0.0 }).sum();
            let largest = scores.iter().filter(|x| x.value.is_finite()).fold(1.0f64, |m, x| m.max(x.value.abs()));
            // of an exponential: its argument's rounding; of the sums: one for each doubling of their terms and some
            let precision = f64::from(f32::EPSILON) * (4.0 * largest + (d + dv) as f64 + 24.0);
            lse[row] = Number { value: top + total.ln(), error: precision * (1.0 + largest) };
            let p: Vec<f64> = scores.iter().map(|x| if x.value > f64::NEG_INFINITY { (x.value - top).exp() / total } else { 0.0 }).collect();
            for c in 0..dv {
                for j in 0..s {
                    let term = p[j] * scores[j].weight * data.at("v", (shared * s + j) * dv + c);
                    o[row * dv + c].add(term, term.abs(), precision);
                }
            }
            let out: f64 = (0..dv).map(|c| data.at("do", row * dv + c) * o[row * dv + c].value).sum();
            let (dlse, spread) = (if case.dlse { data.at("dlse", row) } else { 0.0 }, dv as f64 + 2.0);
            for j in (0..s).filter(|j| p[*j] > 0.0) {
                let (x, key) = (&scores[j], shared * s + j);
                let g = p[j] * (x.weight * dot("do", row, "v", key, dv) - out + dlse);
                let size = p[j] * spread * 2.0;
                for c in 0..d {
                    let (q, k) = (data.at("q", row * d + c), data.at("k", key * d + c));
                    dq[row * d + c].add(g * x.slope * SCALE * k, size, precision);
                    dk[key * d + c].add(g * x.slope * SCALE * q, size, precision);
                }
                for c in 0..dv {
                    let term = p[j] * x.weight * data.at("do", row * dv + c);
                    dvs[key * dv + c].add(term, term.abs(), precision);
                }
                for (sums, (place, factor)) in extra.iter_mut().zip(captured(case, &data, At { b, h, i, j }, x)) {
                    if let Some(sum) = sums.get_mut(place) {
                        sum.add(g * factor, size * factor.abs().max(1.0), precision);
                    }
                }
            }
        }
    }
    (vec![o, lse], [vec![dq, dk, dvs], extra].concat())
}
