//! Names of parameters: places for the iteration, and two that would be one tensor in a file.

use ir::names::{Place, iteration, loops, places};
use ir::{Builder, Places};

#[test]
fn places_read_as_they_print() {
    for step in [1, 2, 6, 1 << 24] {
        for first in [0, 1, 13, 1 << 24] {
            let place = Place { step, first };
            assert_eq!(places(&format!("h.{place}.w")).next().map(|p| p.1), Some(place));
            assert_eq!(iteration(&format!("h.{place}.w"), 3), format!("h.{}.w", 3 * step + first));
        }
    }
    for none in ["{i}", "{1i}", "{0i}", "{i+0}", "{2i+}", "{+1}", "{02i}", "{i+01}", "{i-1}", "{2}", "{", "}", "{i+99999999}", "{2i+1", "{ }"] {
        assert_eq!(loops(none), 0, "{none}");
        let b = Builder::default();
        b.scope().param(&format!("h.{none}.w"), [1usize]);
        assert!(b.finish().unwrap_err().to_string().contains("is no name"), "{none}");
    }
    assert_eq!(iteration("layers.{2i+1}.experts.{}.w", 4), "layers.9.experts.{}.w");
    assert_eq!(loops("layers.{2i+1}.experts.{}.w"), 2);
}

/// Every pair of small progressions: they are refused where they have a layer in common, and only there.
#[test]
fn layers_that_two_patterns_have_in_common_are_refused() {
    let progression = |k: usize| (Place { step: 1 + k % 5, first: k / 5 % 9 }, [1, 2, 5, 40][k / 45 % 4]);
    for a in 0..180 {
        for b in (0..180).step_by(7) {
            let both = [a, b].map(progression);
            if both[0].0 == both[1].0 {
                continue;
            }
            let [left, right] = both.map(|(place, n)| (0..n).map(|i| place.number(i)).collect::<Vec<_>>());
            let builder = Builder::default();
            for (place, n) in both {
                builder.scope().param(&format!("h.{place}.w"), [n, 3]);
            }
            let common = left.iter().any(|n| right.contains(n));
            builder.output("y", builder.scope().num(1.0));
            let text = builder.finish().err().map(|e| e.to_string());
            assert_eq!(text.is_some(), common, "{both:?}: {text:?}");
            assert!(text.is_none_or(|t| t.contains("is in files what iteration of")));
        }
    }
}

/// A body of two layers; its parameters keep their layers' numbers.
#[test]
fn a_pattern_is_one_loop() {
    let b = Builder::default();
    let s = b.scope();
    let x = s.input("x", ir::DType::F32, [2usize, 3]);
    let layers = Places { first: 1, step: 2, count: 4 };
    let (y, _) = s.pattern("h", layers, x, &[], |s, x, _| (x * s[0].param("w", [3usize]) + s[1].at("inner").param("b", [3usize]), vec![]));
    b.output("y", y);
    let graph = b.finish().unwrap();
    let names: Vec<(String, String)> = graph.params().into_iter().map(|(n, t)| (n.to_string(), t.to_string())).collect();
    assert_eq!(names, [("h.{2i+1}.w".into(), "f32[4,3]".into()), ("h.{2i+2}.inner.b".into(), "f32[4,3]".into())]);
    assert_eq!(graph.to_string().parse::<ir::Graph>().unwrap(), graph);
    let empty = Builder::default();
    let s = empty.scope();
    let x = s.input("x", ir::DType::F32, [3usize]);
    s.pattern("h", Places { first: 0, step: 0, count: 2 }, x, &[], |_, x, _| (x, vec![]));
    assert!(empty.finish().unwrap_err().to_string().contains("at least one layer"));
}
