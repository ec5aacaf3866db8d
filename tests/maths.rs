//! The vector functions' error, in units of the last place, over dense ranges and at the edges.

use crate::compiled::run;
use ir::{Env, Graph, Value};

fn apply(name: &str, x: &[f32]) -> Vec<f32> {
    let n = x.len();
    let graph: Graph = format!("main(%0 x: f32[{n}]) {{\n  %1 = {name} %0 : f32[{n}]\n  return y=%1\n}}\n").parse().unwrap();
    let env = Env::from([("x".to_string(), Value::new(vec![n], x.iter().map(|v| f64::from(*v)).collect()))]);
    run(&graph, &env, 2)["y"].data.iter().map(|v| *v as f32).collect()
}

/// Distance in units of the last place of the exact value.
fn ulps(have: f32, want: f64) -> f64 {
    if f64::from(have) == want || (have.is_nan() && want.is_nan()) || f64::from(have) == f64::from(want as f32) {
        return 0.0;
    }
    let rounded = (want as f32).abs().max(f32::MIN_POSITIVE);
    let unit = f64::from(f32::from_bits(rounded.to_bits() + 1)) - f64::from(rounded);
    (f64::from(have) - want).abs() / unit
}

fn worst(name: &str, range: (f32, f32), exact: fn(f64) -> f64) -> f64 {
    let n = 200_000;
    let x: Vec<f32> = (0..n).map(|i| range.0 + (range.1 - range.0) * i as f32 / n as f32).collect();
    apply(name, &x).iter().zip(&x).map(|(h, x)| ulps(*h, exact(f64::from(*x)))).fold(0.0, |m, u| if u > m || u.is_nan() { u } else { m })
}

#[test]
fn errors_are_bounded() {
    for (name, range, exact, bound) in [
        ("exp", (-87.0, 88.7), f64::exp as fn(f64) -> f64, 2.0),
        ("log", (1e-6, 40.0), f64::ln, 1.5),
        ("tanh", (-10.0, 10.0), f64::tanh, 3.0),
        // a root and a quotient, each rounded
        ("rsqrt", (1e-3, 100.0), |x: f64| 1.0 / x.sqrt(), 1.5),
        ("erf", (-5.0, 5.0), libm::erf, 2.0),
        ("sin", (-30.0, 30.0), f64::sin, 1.1),
        ("sigmoid", (-80.0, 80.0), |x: f64| 1.0 / (1.0 + (-x).exp()), 4.0),
    ] {
        let w = worst(name, range, exact);
        assert!(w <= bound, "{name}: {w} ulp");
    }
}

#[test]
fn edges_are_exact() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    assert_eq!(apply("exp", &[-inf, inf, 0.0, 100.0, -200.0]), [0.0, inf, 1.0, inf, 0.0]);
    assert!(apply("exp", &[nan, 1.0])[0].is_nan());
    let tiny = apply("exp", &[-100.0, -90.0]);
    assert!(ulps(tiny[1], (-90f64).exp()) < 3.0 && tiny[0] > 0.0 && tiny[0] < 1e-42, "subnormal results: {tiny:?}");
    let log = apply("log", &[0.0, inf, 1.0, -1.0, 1e-42]);
    assert_eq!(log[..3], [-inf, inf, 0.0]);
    assert!(log[3].is_nan() && (f64::from(log[4]) - f64::from(1e-42f32).ln()).abs() < 1e-4);
    assert!(apply("log", &[nan])[0].is_nan());
    assert_eq!(apply("tanh", &[-inf, inf, 0.0, 100.0]), [-1.0, 1.0, 0.0, 1.0]);
    assert!(apply("tanh", &[nan])[0].is_nan());
    assert_eq!(apply("erf", &[-inf, inf, 0.0, -0.0, 100.0, 1e-30]), [-1.0, 1.0, 0.0, -0.0, 1.0, (1e-30 * std::f64::consts::FRAC_2_SQRT_PI) as f32]);
    assert!(apply("erf", &[nan])[0].is_nan());
}
