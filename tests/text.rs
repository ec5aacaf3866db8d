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
fn a_score_that_is_no_function() {
    let refused = |parts: &str, word: &str| {
        let body = format!("%4 = attention[ac,bc,bd->ad|2|{parts}] %0, %1, %2, 1.0, %3 : (f32[2,5],f32[2])");
        let text = format!("main(%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5], %3 x: f32[2,1]) {{\n  {body}\n  return y=%4\n}}\n");
        refused(&text, 2, &[word]);
    };
    refused("casual", "is not an attention: expected something like");
    refused("causal|causal", "'causal' is no part");
    refused("causal|f=add(s,x0)", "a score is causal or has an f, not both");
    refused("z=s", "'z' is no part of a score's function: expected f, w, sink");
    refused("f=s|f=s", "f is there twice");
    refused("f=add(s,x0))", "')' follows an expression");
    refused("f=add(s,x0", "expected ',' or ')'");
    refused("f=add(s;x0)", "unknown op 's;x0'");
    refused("f=s(i)", "s takes no operands");
    refused("f=frobnicate(s)", "unknown op 'frobnicate'");
    refused("f=add(s,x7)", "takes 12 operands");
    refused("f=add(s,t3)", "t3");
    refused("sink=s", "sink=s: expected a captured operand, as in sink=x0");
    refused("f=", "unknown op ''");
    refused(&format!("f={}s{}", "neg(".repeat(100_000), ")".repeat(100_000)), "nested too deep");
    refused(&format!("f={}s{}", "add(x0,".repeat(300), ")".repeat(300)), "nested too deep, or too long");
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

/// Errors say where: line, column and the very words.
#[test]
fn errors_are_at_their_column() {
    let state = "  @w : f32[2]\n  %1 = exp %0 : f32[2]\n";
    let program = |body: &str| format!("main(%0 x: f32[2]) {{\n{state}{body}\n}}\n");
    let cases: &[(&str, (usize, usize), &str)] = &[
        (&program("  return y=%1, @w=%2"), (4, 19), "%2 is not defined before this line"),
        (&program("  return y=%1, @v=%1"), (4, 16), "@v is the new value of a parameter that main does not have"),
        (&program("  %2 = broadcast[3,2] %1 : f32[3,2]\n  return y=%1, @w=%2"), (5, 16), "@w is f32[3,2], and the parameter is f32[2]"),
        (&program("  return y=%1, y=%0"), (4, 16), "two results are named y"),
        (&program("  return y=%1, é é=%0"), (4, 16), "\"é é\" is no name, for ' ' is in it: use letters, digits, '_', '-', '.', '/' and '{}'"),
        (&program("  return %1"), (4, 10), "'%1': expected name=value"),
        (&program("  return"), (4, 9), "a function returns at least one value"),
        (&program("  returny=%1"), (4, 3), "'returny=%1': expected a type after ' : '"),
        (&program("  @w : f32[2]\n  return y=%1"), (4, 3), "@w is defined twice"),
        (
            &program("  @v w : f32[2]\n  return y=%1"),
            (4, 4),
            "\"v w\" is no name, for ' ' is in it: use letters, digits, '_', '-', '.', '/' and '{}'",
        ),
        (&program("  @v : (f32[2])\n  return y=%1"), (4, 3), "@v(): (f32[2]) is not the type of a tensor"),
        (&program("  é = exp %0 : f32[2]"), (4, 3), "'é' is no name of a value: expected %n"),
        (&program("  %1.0 = exp %0 : f32[2]"), (4, 3), "'%1.0' is no name of a value: expected %n"),
        (&program("  %2 exp %0 : f32[2]"), (4, 3), "'%2 exp %0': expected %n = op operands"),
        (&program("  %2 = exp %0 : f32[2"), (4, 17), "'f32[2' is not a type: expected something like f32[B,T,768]"),
        (&program("  %2 = exp %0 : f32[2,,3]"), (4, 17), "'' is not a dim: expected a number or a capital letter"),
        (&program("  %2 = exp %0 : f32[+2]"), (4, 17), "'+2' is not a dim: expected a number or a capital letter"),
        (&program("  %2 = exp  %0  : f32[3]"), (4, 19), "exp gives f32[2], not f32[3]"),
        (&program("  %2 = tuple %0 : (f32[2])\n  return y=%2"), (5, 12), "%2 is (f32[2]), which is no tensor; take a member with get"),
        (&program(""), (5, 1), "a function returns at least one value: expected return before '}'"),
        ("main(%0 x: f32[2], %1 x: f32[2]) {\n", (1, 23), "two inputs are named x"),
        ("main(%0 x: f32[2], %2 y: f32[2]) {\n", (1, 20), "'%2 y: f32[2]': expected %1 and a name"),
        ("main(%0 x: (f32[2])) {\n", (1, 12), "%in0(): (f32[2]) is not the type of a tensor"),
        ("main(%0: f32[2]) {\n", (1, 6), "'%0: f32[2]': expected %0 and a name"),
        ("f0 a(%0 x: f32[2]) {\n", (1, 6), "'%0 x: f32[2]': expected %0"),
        ("f1 a(%0: f32[2]) {\n", (1, 1), "'f1 a': expected f0 and a name, or main"),
        ("f0 a b(%0: f32[2]) {\n", (1, 4), "\"a b\" is no name, for ' ' is in it: use letters, digits, '_', '-', '.', '/' and '{}'"),
        ("f0 a(%0: f32[2]) {\n  @w : f32[2]\n", (2, 3), "@w: a parameter in a function that is not main: pass it in"),
    ];
    let mut wrong = String::new();
    for (text, at, message) in cases {
        let e = text.parse::<Graph>().expect_err(message);
        if ((e.line, e.column), e.message.as_str()) != (*at, *message) {
            wrong += &format!("{text}{e}\nexpected {at:?}: {message}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    // a function may be called main, for the last alone is the program
    let called = "f0 main(%0: f32[2]) {\n  return %0\n}\n\nmain(%0 x: f32[2]) {\n  return y=%0\n}\n";
    assert_eq!(called.parse::<Graph>().unwrap().to_string(), called);
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
