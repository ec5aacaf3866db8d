//! The IR at its borders: text that is no program, models that are ill-typed, every op's data.

use ir::{Builder, DType, Graph, Op};

fn refused(text: &str, line: usize, words: &[&str]) {
    let error = text.parse::<Graph>().expect_err(text);
    assert_eq!(error.line, line, "{error}");
    for w in words {
        assert!(error.message.contains(w), "'{w}' is not in: {error}");
    }
}

#[test]
fn text_that_is_no_program() {
    let main = |body: &str| format!("main(%0 x: f32[2,3]) {{\n  {body}\n  return y=%1\n}}\n");
    refused(&main("%1 = frobnicate %0 : f32[2,3]"), 2, &["unknown op 'frobnicate'"]);
    refused(&main("%1 = add %0 : f32[2,3]"), 2, &["takes 2 operands"]);
    refused(&main("%1 = add %0, %2 : f32[2,3]"), 2, &["%2 is not defined before"]);
    refused(&main("%1 = add %0, %1 : f32[2,3]"), 2, &["%1 is not defined before"]);
    refused(&main("%1 = add %0, %0 : f32[2,4]"), 2, &["gives f32[2,3], not f32[2,4]"]);
    refused(&main("%1 = reshape[4294967296,4294967296,4294967296] %0 : f32[1]"), 2, &["too many elements"]);
    refused(&main("%1 = broadcast[99999999999999999999] %0 : f32[1]"), 2, &["not a dim"]);
    refused(&main("%1 = transpose[0,0] %0 : f32[2,3]"), 2, &["not an order"]);
    refused(&main("%1 = sum[0] %0 : f32[2,3]"), 2, &["attributes"]);
    refused(&main("%1 = contract[zz,zz->z] %0, %0 : f32[2]"), 2, &["no contraction", "'z' stands twice in 'zz'"]);
    refused(&main("%1 = attention[abc->d|900] %0, %0, %0, 1.0 : f32[2]"), 2, &["not an attention"]);
    refused(&main("%1 = repeat[f0,3,1,0] %0 : (f32[2,3])"), 2, &["no function f0 before"]);
    refused(
        "f0 a(%0: f32[1]) {\n  %1 = repeat[f0,2,1,0] %0 : (f32[1])\n  return %1\n}\nmain(%0 x: f32[1]) {\n  return y=%0\n}\n",
        2,
        &["no function f0 before"],
    );
    refused("main(%0 x: f32[2]) {\n  return y=%0\n", 2, &["not closed"]);
    refused("f0 a(%0: f32[2]) {\n  return %0\n}\n", 3, &["no main"]);
    refused("", 0, &["no main"]);
    refused(&format!("main(%0 x: {}f32[2]{}) {{\n", "(".repeat(100_000), ")".repeat(100_000)), 1, &["nests too deep"]);
    refused("main(%0 x: f99[2]) {\n  return y=%0\n}\n", 1, &["not an element type"]);
    refused("main(%0 x: f32[2]) {\n  return y=%0\n}\nmore\n", 4, &["nothing may follow main"]);
}

/// Cutting or changing a valid text anywhere gives an error or another program, never a panic.
#[test]
fn damaged_text_never_panics() {
    let text = llm::Objective::NextToken.graph(&models::by_name("llama").unwrap(), llm::Mode::Train).unwrap().to_string();
    let mut r = crate::common::Random(1);
    for _ in 0..400 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..1 + r.below(3) {
            let at = r.below(bytes.len());
            match r.below(3) {
                0 => bytes.truncate(at),
                1 => bytes[at] = b"0123456789[],:%@ax->"[r.below(20)],
                _ => {
                    bytes.remove(at);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        if let Ok(damaged) = String::from_utf8(bytes) {
            let _ = damaged.parse::<Graph>();
        }
    }
}

#[test]
fn ill_typed_models_name_their_lines() {
    let b = Builder::default();
    let s = b.scope();
    let x = s.input("x", DType::F32, [1usize, 1024, 768]);
    let y = x.contract("btc,cd->btd", s.param("w", [512usize, 768]));
    let _ = y + s.param("b", [767usize]);
    let errors = b.finish().expect_err("two mistakes").0;
    assert_eq!(errors.len(), 2);
    let first = errors[0].to_string();
    assert!(
        first.starts_with("tests/text.rs:") && first.contains("contract[abd,dc->abc](a: f32[1,1024,768], b: f32[512,768]): inner dims differ"),
        "{first}"
    );
    let second = errors[1].to_string();
    assert!(second.contains("768 on one side and 767 on the other"), "{second}");
}

#[test]
fn every_op_prints_and_reads_back() {
    for op in Op::plain() {
        assert_eq!(op.to_string().parse::<Op>().unwrap(), op);
    }
    for text in [
        "iota[-1,B*T]",
        "sum[-1,-2]",
        "contract[abd,dc->abc]",
        "slice[-1,0,64]",
        "attention[acbe,adbe,adbf->acbf|4|causal|bx3]",
        "repeat[f0,12,1,12,reverse]",
        "1e-5",
        "-inf",
        "3",
        "7u",
        "true",
    ] {
        assert_eq!(text.parse::<Op>().unwrap().to_string(), text);
    }
}
