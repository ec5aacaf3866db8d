//! One ill-typed program for each error of the type rule, with the very message; and that no error of the rule has none.

use ir::{Adam, Attn, DType, Dim, Ein, Graph, Loop, Op, Type, infer};

/// Inputs of main, one op on them, and what is wrong with it. The op's type is left to chance: the rule speaks before it is compared.
const PROGRAMS: &[(&str, &str, &str)] = &[
];

fn message(inputs: &str, call: &str) -> String {
    let text = format!("main({inputs}) {{\n  %9 = {call} : f32[7]\n  return y=%0\n}}\n");
    let error = text.parse::<Graph>().expect_err(&text);
    assert_eq!(error.line, 2, "{error}\n{text}");
    error.message
}

#[test]
fn ill_typed_programs_say_what_is_wrong() {
    for (inputs, call, want) in PROGRAMS {
        assert_eq!(message(inputs, call), *want, "main({inputs}): {call}");
    }
}

fn ein(a: &[u8], b: &[u8], out: u8) -> Op {
    Op::Contract(Ein { a: a.iter().copied().collect(), b: b.iter().copied().collect(), out })
}

/// What the text cannot say, for its ops read only what may be: ops made by hand, their operands, and the message.
fn by_hand() -> Vec<(Op, Vec<Type>, &'static str)> {
    let f = |dims: &[u64]| Type::of(DType::F32, dims.iter().map(|d| Dim::num(*d)));
    let one = || Attn { q: [0, 2].into_iter().collect(), k: [1, 2].into_iter().collect(), v: [1, 3].into_iter().collect(), o: [0, 3].into_iter().collect(), scores: 2, causal: false, group: 1, head: 0 };
    let attention = |a: Attn| (Op::Attention(a), vec![f(&[2, 4]), f(&[3, 4]), f(&[3, 5]), f(&[])]);
    let tuple = Type::tuple(vec![f(&[2])]);
    let mut all = vec![
        (Op::Param("w".into(), tuple.clone()), vec![], ""),
        (Op::Input(0, tuple), vec![], ""),
        (Op::Const(1.0f64.to_bits(), DType::BF16), vec![], ""),
        (Op::Const(1.5f64.to_bits(), DType::I32), vec![], ""),
        (Op::Const(3e9f64.to_bits(), DType::I32), vec![], ""),
        (Op::Const((-0.0f64).to_bits(), DType::I32), vec![], ""),
        (Op::Const((-1.0f64).to_bits(), DType::U32), vec![], ""),
        (Op::Const(4294967296.0f64.to_bits(), DType::U32), vec![], ""),
        (Op::Const(2.0f64.to_bits(), DType::Bool), vec![], ""),
        (Op::Const((-f64::NAN).to_bits(), DType::F32), vec![], ""),
        (Op::Iota(0, Dim::num(3)), vec![], ""),
        (Op::Iota(-17, Dim::num(3)), vec![], ""),
        (Op::Iota(-1, Dim::sym('b')), vec![], ""),
        (Op::Cast(DType::Tuple), vec![f(&[2])], ""),
        (Op::Repeat(Loop { func: 0, trip: 2, carried: 1, stacked: 0, reverse: false }), vec![f(&[2])], ""),
        (ein(&[0, 0], &[0, 1], 2), vec![f(&[2, 2]), f(&[2, 2])], ""),
        (ein(&[26, 0], &[26, 1], 2), vec![f(&[2, 2]), f(&[2, 2])], ""),
        (ein(&[0, 2], &[2, 1], 4), vec![f(&[2, 2]), f(&[2, 2])], ""),
        (ein(&[0, 2], &[1, 2], 1), vec![f(&[2, 2]), f(&[2, 2])], ""),
        (ein(&[0, 3], &[1, 3], 1), vec![f(&[2, 2]), f(&[2, 2])], ""),
    ];
    let bad = |edit: &dyn Fn(&mut Attn)| {
        let mut a = one();
        edit(&mut a);
        let (op, types) = attention(a);
        (op, types, "")
    };
    all.push(bad(&|a| a.scores = 1));
    all.push(bad(&|a| a.scores = 7));
    all.push(bad(&|a| a.q = (0..9).collect()));
    all.push(bad(&|a| a.q = [0, 2, 2].into_iter().collect()));
    all.push(bad(&|a| a.group = 0));
    all.push(bad(&|a| a.o = [3].into_iter().collect()));
    all
}

#[test]
fn ops_made_by_hand_say_what_is_wrong() {
    let _ = Adam { beta1: 0, beta2: 0, eps: 0, decay: 0 };
    for (op, types, want) in by_hand() {
        assert_eq!(infer(&op, &types.iter().collect::<Vec<_>>()).expect_err(want), want, "{op:?}");
    }
}

/// Every string of the rule that is part of a message, cut at what is put in.
fn pieces() -> Vec<(usize, Vec<String>)> {
    let mut out = vec![];
    for (n, line) in include_str!("../ir/infer.rs").lines().enumerate() {
        let code = line.trim();
        if code.starts_with("//") {
            continue;
        }
        for literal in code.split('"').skip(1).step_by(2).filter(|l| l.contains(' ')) {
            let mut fixed = vec![];
            for part in literal.replace("{{", "\u{1}").replace("}}", "\u{2}").split('{') {
                let text = part.split_once('}').map_or(part, |(_, rest)| rest);
                fixed.push(text.replace('\u{1}', "{").replace('\u{2}', "}"));
            }
            out.push((n + 1, fixed));
        }
    }
    out
}

#[test]
fn every_error_of_the_rule_is_reached() {
    let messages: Vec<&str> = PROGRAMS.iter().map(|p| p.2).chain(by_hand().into_iter().map(|p| p.2)).collect();
    let all = pieces();
    assert!(all.len() > 40, "the strings of the rule are found");
    for (line, fixed) in all {
        let holds = |message: &&str| {
            let mut rest = *message;
            fixed.iter().all(|piece| rest.find(piece.as_str()).map(|at| rest = &rest[at + piece.len()..]).is_some())
        };
        assert!(messages.iter().any(|m| holds(&m)), "line {line} of ir/infer.rs: no program has the message with {fixed:?}");
    }
}
