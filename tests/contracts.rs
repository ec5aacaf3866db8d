//! What a model is held to: every mistake is an error at its own line, all of them at once, and none is a panic.

use ir::{Attn, Builder, DType, Dim, Ein, Graph, Op, Scope, Tensor, verify};

/// The mistakes of a model, each without its place, which must be in this file.
fn mistakes(model: impl for<'g> FnOnce(&'g Builder, &Scope<'g>)) -> Vec<String> {
    let b = Builder::default();
    model(&b, &b.scope());
    b.finish().expect_err("the model is wrong").0.into_iter().map(|e| plain(&e.to_string())).collect()
}

/// A message with every place in this file cut to `L`.
fn plain(message: &str) -> String {
    let mut words = message.split(' ').map(|w| {
        if w.starts_with(file!()) {
            format!(
                "L{}",
                if w.ends_with(':') {
                    ":"
                } else if w.ends_with(',') {
                    ","
                } else {
                    ""
                }
            )
        } else {
            w.into()
        }
    });
    let out = words.by_ref().collect::<Vec<_>>().join(" ");
    out.strip_prefix("L: ").unwrap_or_else(|| panic!("no place in this file: {message}")).to_string()
}

/// A model that is right but for one value.
#[track_caller]
fn wrong(model: impl for<'g> FnOnce(&Scope<'g>, Tensor<'g>) -> Tensor<'g>, want: &[&str]) {
    let b = Builder::default();
    let s = b.scope();
    let x = s.input("x", DType::F32, [2usize, 6]);
    b.output("y", model(&s, x));
    let have: Vec<String> = b.finish().expect_err(want[0]).0.into_iter().map(|e| plain(&e.to_string())).collect();
    assert_eq!(have, want);
}

#[test]
fn a_parameter_has_one_shape() {
    let twice = mistakes(|b, s| {
        let w = s.param("w", [2usize, 3]);
        b.output("y", w + s.param("w", [2usize, 3]));
        b.output("z", s.param("w", [2usize, 4]));
        b.output("u", s.param("w", [3usize, 2]));
    });
    assert_eq!(twice, ["parameter w is f32[2,4] here and f32[2,3] at L", "parameter w is f32[3,2] here and f32[2,3] at L"]);
    // in a layer, and in two loops of one name
    let layers = mistakes(|b, s| {
        let x = s.input("x", DType::F32, [2usize, 3]);
        let y = s.layers("h", 4, x, |s, x| x + s.param("w", [3usize]) + s.param("w", [1usize]).broadcast([3usize]));
        let y = s.layers("h", 4, y, |s, x| x + s.param("w", [3usize]));
        let y = s.layers("h", 5, y, |s, x| x + s.param("w", [3usize]));
        b.output("y", s.layers("h", 5, y, |s, x| x + s.param("b", [3usize])));
    });
    assert_eq!(
        layers,
        [
            "parameter h.{}.w is f32[1] here and f32[3] at L",
            "parameter h.{}.w is f32[5,3] here and f32[4,3] at L",
            "parameter h.{}.b is for 5 iterations, and h.{}.w for 4: one of the loops needs another name",
        ]
    );
}

/// Both lines of a parameter with two shapes are the model's own, also from inside a layer.
#[test]
fn both_lines_are_named() {
    let b = Builder::default();
    let s = b.scope();
    let first = line!() + 1;
    let w = s.param("h.{}.w", [2usize, 3]);
    let x = s.input("x", DType::F32, [3usize]);
    let second = line!() + 1;
    b.output("y", s.layers("h", 2, x, |s, x| x + s.param("w", [1usize])));
    b.output("w", w);
    let errors = b.finish().expect_err("two shapes").0;
    let text = errors[0].to_string();
    assert!(text.starts_with(&format!("{}:{second}:", file!())) && text.contains(&format!("{}:{first}:", file!())), "{text}");
    assert_eq!(errors[0].loc.0.line(), second);
}

#[test]
fn new_values_of_state_have_its_type() {
    let m = mistakes(|b, s| {
        let x = s.input("x", DType::F32, [2usize]);
        let n = s.input("n", DType::I32, [2usize]);
        b.output("@w", x.broadcast([3usize, 2]));
        b.output("@v", n);
        b.output("@u", x);
        b.output("y", s.param("w", [2usize]) + s.param("v", [2usize]));
    });
    assert_eq!(
        m,
        [
            "result @w is f32[3,2], and the parameter, declared at L, is f32[2]",
            "result @v is i32[2], and the parameter, declared at L, is f32[2]",
            "result @u is the new value of a parameter that the model does not have",
        ]
    );
}

#[test]
fn names_are_told_apart() {
    let m = mistakes(|b, s| {
        let x = s.input("x", DType::F32, [2usize]);
        let y = s.input("x", DType::F32, [3usize]);
        let w = s.input("w", DType::F32, [2usize]);
        b.output("y", x + s.param("w", [2usize]) * w);
        b.output("y", y);
        b.output("grad.x", y);
        b.output("t", x.apply(Op::Tuple, &[y]));
        s.param("grad.w", [1usize]);
        s.param("h.{}.w", [3usize, 2]);
        s.param("h.2.w", [2usize]);
        s.param("h.3.w", [2usize]);
        s.param("g.{}.{}.w", [2usize]);
    });
    assert_eq!(
        m,
        [
            "input x is named here and at L",
            "result y is named here and at L",
            "result grad.x: names that begin with grad. are for the gradients that differentiation adds",
            "result t is a tuple; take a member with get",
            "parameter h.2.w is in files what iteration of h.{}.w is: one of them needs another name",
            "parameter g.{}.{}.w is f32[2], which has no axis for each {}",
            "parameter grad.w: names that begin with grad. are for gradients",
            "input w has the name of the parameter declared at L",
        ]
    );
}

/// Names that would break the text are refused; all others read back as they were.
#[test]
fn every_name_that_is_accepted_reads_back() {
    let long = "n".repeat(501);
    let odd = [
        "",
        " ",
        "a b",
        "a\nb",
        "a\"b",
        "a'b",
        "a\u{7}b",
        "a,b",
        "a:b",
        "a=b",
        "a[0]",
        "(a",
        "a)",
        "@a",
        "a@",
        "%0",
        ";a",
        "a;",
        "{",
        "}",
        "a{b}",
        "\u{FEFF}a",
        "a\u{200B}b",
        &long,
    ];
    let good =
        ["a", "0", "w.0.weight", "h.{}.w", "größe", "重み", "a_b-c/d", "loss", "main", "return", "true", "inf", "1.0", "f0", ".", "-", &long[1..]];
    for name in odd.iter().chain(&good) {
        for place in 0..4 {
            let b = Builder::default();
            let s = b.scope();
            let x = s.input(if place == 0 { name } else { "x" }, DType::F32, [2usize, 2]);
            let w = s.param(if place == 1 { name } else { "p" }, [2usize, 2]);
            let y = s.layers(if place == 3 { name } else { "layers" }, 2, x + w, |_, x| x.tanh());
            b.output(if place == 2 { name } else { "y" }, y);
            if place == 1 {
                b.output(&format!("@{name}"), x);
            }
            match b.finish() {
                Ok(graph) => {
                    assert!(good.contains(name), "{name:?} is accepted at place {place}");
                    verify(&graph).unwrap_or_else(|e| panic!("{e:?}"));
                    let text = graph.to_string();
                    let again: Graph = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
                    assert_eq!(again, graph, "{text}");
                    assert!(serde_json::from_str::<serde_json::Value>(&graph.to_json()).is_ok(), "{name:?}");
                }
                Err(e) => assert!(odd.contains(name), "{name:?} is refused at place {place}: {e}"),
            }
        }
    }
}

/// Constants that have no form of their own get one, and read back.
#[test]
fn every_number_reads_back() {
    let b = Builder::default();
    let s = b.scope();
    let numbers = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        1e-40,
        5e-324,
        1e300,
        3e9,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        -f64::NAN,
        f64::from_bits(0x7FF8_0000_0000_0001),
    ];
    let mut sum = s.num(7.0);
    for x in numbers {
        sum = sum + x;
    }
    let whole = [0, 1, -1, i32::MIN, i32::MAX].map(|n| s.int(n)).into_iter().reduce(|a, b| a + b).unwrap();
    let bits = [0, 7, u32::MAX].map(|n| s.uint(n)).into_iter().reduce(|a, b| a + b).unwrap();
    b.output("a", sum);
    b.output("b", whole);
    b.output("c", bits);
    let graph = b.finish().unwrap();
    verify(&graph).unwrap();
    assert_eq!(graph.to_string().parse::<Graph>().unwrap(), graph);
}

/// State that nothing reads is a parameter all the same, in the text, too.
#[test]
fn state_that_is_only_written_stays() {
    let b = Builder::default();
    let s = b.scope();
    let x = s.input("x", DType::F32, [2usize]);
    s.param("never", [5usize]);
    s.param("w", [2usize]);
    let v = s.param("v", [2usize]);
    b.output("@w", x + v);
    let graph = b.finish().unwrap();
    let names = |g: &Graph| g.params().into_iter().map(|p| p.0.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&graph), ["w", "v"]);
    let again: Graph = graph.to_string().parse().unwrap();
    assert_eq!(again, graph);
    for opt in [passes::Opt::Off, passes::Opt::Greedy, passes::Opt::Egg] {
        let fused = passes::optimize(&graph, None, opt).unwrap().fused;
        assert!(names(&fused).contains(&"w".to_string()), "{opt}: {fused}");
        verify(&fused).unwrap();
    }
}

#[test]
fn shapes_that_do_not_fit() {
    wrong(|_, x| x.reshape([13usize]), &["reshape[13](x: f32[2,6]): 12 elements cannot become [13], which has 13"]);
    wrong(
        |_, x| x.reshape([usize::MAX, 2]),
        &["reshape[18446744073709551615,2](x: f32[2,6]): f32[18446744073709551615,2] has too many elements (more than 1099511627776)"],
    );
    wrong(|_, x| x.transpose(&[0, 0]), &["transpose[0,0](x: f32[2,6]): [0,0] is not an order of 2 axes"]);
    wrong(|_, x| x.transpose(&[0, 255]), &["transpose[0,255](x: f32[2,6]): [0,255] is not an order of 2 axes"]);
    wrong(|_, x| x.broadcast([2usize, 7]), &["broadcast[2,7](x: f32[2,6]): cannot be repeated to [2,7]"]);
    wrong(|_, x| x.slice(-1, 3, 2), &["slice[-1,3,2](x: f32[2,6]): 3..2 is outside 0..6"]);
    wrong(|_, x| x.slice(-1, 0, 7), &["slice[-1,0,7](x: f32[2,6]): 0..7 is outside 0..6"]);
    wrong(|_, x| x.slice(-1, 1 << 32, (1 << 32) + 2), &["slice(x: f32[2,6]): 4294967296..4294967298 is outside every axis"]);
    wrong(|_, x| x.slice(-3, 0, 1), &["slice[-3,0,1](x: f32[2,6]): f32[2,6] has no axis -3"]);
    wrong(|_, x| x.slice(0, 0, 1), &["slice[0,0,1](x: f32[2,6]): f32[2,6] has no axis 0"]);
    wrong(|_, x| x.slice(-128, 0, 1), &["slice[-128,0,1](x: f32[2,6]): f32[2,6] has no axis -128"]);
    wrong(|_, x| x.chunks::<4>()[0], &["chunks(x: f32[2,6]): the last axis is not 4 equal parts"]);
    wrong(|_, x| x.chunks::<5>()[4], &["chunks(x: f32[2,6]): the last axis is not 5 equal parts"]);
    wrong(
        |_, x| {
            let [] = x.chunks::<0>();
            x
        },
        &["chunks(x: f32[2,6]): the last axis is not 0 equal parts"],
    );
    wrong(|s, _| s.num(1.0).chunks::<2>()[0], &["chunks(x: f32[]): the last axis is not 2 equal parts"]);
    wrong(|s, _| s.input("t", DType::F32, ('T',)).chunks::<2>()[0], &["chunks(x: f32[T]): the last axis is not 2 equal parts"]);
    wrong(|s, x| x.concat(-1, s.num(1.0)), &["concat[-1](x…: f32[2,6], x…: f32[]): f32[] does not fit beside f32[2,6]"]);
    wrong(|_, x| x.concat(-3, x), &["concat[-3](x…: f32[2,6], x…: f32[2,6]): f32[2,6] has no axis -3"]);
    wrong(
        |_, x| x.apply(Op::Pad(-1, u32::MAX, u32::MAX), &[]).apply(Op::Pad(-2, u32::MAX, 0), &[]),
        &["pad[-2,4294967295,0](x: f32[2,8589934596]): f32[4294967297,8589934596] has too many elements (more than 1099511627776)"],
    );
    wrong(|_, x| x.sum_axes(&[]), &["sum[](x: f32[2,6]): there is no axis to reduce"]);
    wrong(|_, x| x.sum_axes(&[-1, -1]), &["sum[-1,-1](x: f32[2,6]): axis -1 is reduced twice"]);
    wrong(|_, x| x.sum_axes(&[-3]), &["sum[-3](x: f32[2,6]): f32[2,6] has no axis -3"]);
    wrong(|_, x| x.sum_axes(&[1]), &["sum[1](x: f32[2,6]): f32[2,6] has no axis 1"]);
    wrong(|s, _| s.num(1.0).max(), &["max[-1](x: f32[]): f32[] has no axis -1"]);
    wrong(|s, _| s.num(1.0).mean(), &["sum[-1](x: f32[]): f32[] has no axis -1"]);
    wrong(
        |s, x| {
            x.dim(0);
            s.num(1.0)
        },
        &["axes count from the end: -1 is the last, and 0 is none"],
    );
    wrong(
        |s, x| {
            x.dim(1);
            s.num(1.0)
        },
        &["axes count from the end: -1 is the last, and 1 is none"],
    );
}

#[test]
fn sizes_and_names_of_dims() {
    wrong(|s, _| s.param("w", [1usize << 41]), &["parameter w: @w(): f32[2199023255552] has too many elements (more than 1099511627776)"]);
    wrong(
        |s, _| s.param("w", [1usize << 33, 1 << 33]),
        &["parameter w: @w(): f32[8589934592,8589934592] has too many elements (more than 1099511627776)"],
    );
    wrong(|s, _| s.param("w", [0, usize::MAX]), &["parameter w: @w(): f32[0,18446744073709551615] has too many elements (more than 1099511627776)"]);
    wrong(|s, _| s.param("w", [1usize; 17]), &["parameter w: @w(): a tensor has at most 16 axes, not 17"]);
    wrong(|s, _| s.param("w", ('b',)), &["parameter w: @w(): f32[?] names a dim by something else than one capital letter"]);
    wrong(|s, _| s.param("w", ('é', 'T')), &["parameter w: @w(): f32[?,T] names a dim by something else than one capital letter"]);
    wrong(|s, _| s.param("w", ('A', 'B', 'C', 'D')), &["parameter w: @w(): f32[A,B,C,D] has more than three named sizes"]);
    wrong(|s, _| s.input("v", DType::F32, [1usize << 41]), &["input v: %in0(): f32[2199023255552] has too many elements (more than 1099511627776)"]);
    wrong(|s, _| s.input("v", DType::Tuple, [1usize]), &["input v: %in0(): () is not the type of a tensor"]);
    wrong(|s, _| s.iota(-1, (1usize << 31) + 1).cast(DType::F32), &["iota[-1,2147483649](): 2147483649 positions are more than an i32 counts"]);
    wrong(|s, _| s.iota(0, 4usize).cast(DType::F32), &["iota[0,4](): axes count from the end: -1 is the last, and 0 is none"]);
    wrong(|s, _| s.iota(-17, 4usize).cast(DType::F32), &["iota[-17,4](): a tensor has at most 16 axes, not 17"]);
    wrong(|s, _| s.size(Dim::sym('t')), &["size[?](): f32[?] names a dim by something else than one capital letter"]);
    assert_eq!(Dim::num(0).times(Dim::sym('B')), Some(Dim::num(0)), "equal dims are equal values");
    assert_eq!("0*B".parse::<Dim>(), Ok(Dim::num(0)));
    assert_eq!(Dim::num(1 << 63).times(Dim::num(2)), None);
}

/// A size that a number is added to is one of its own, which others multiply, and which is written as it is read.
#[test]
fn longer_dims() {
    let (t, longer) = (Dim::sym('T'), Dim::sym('T').plus(8).unwrap());
    assert_eq!((longer.to_string(), longer.plus(2).unwrap().to_string()), ("T+8".into(), "T+10".into()));
    assert_eq!((t.plus(0), Dim::num(3).plus(4), longer == t), (Some(t), Some(Dim::num(7)), false));
    let all = [Dim::num(3), Dim::sym('B'), longer, t].into_iter().try_fold(Dim::ONE, Dim::times).unwrap();
    assert_eq!((all.to_string(), all.symbols().collect::<String>()), ("3*B*T*T+8".into(), "BTT".into()));
    assert_eq!((all.to_string().parse(), "T+8*T*B*3".parse(), "T+0".parse()), (Ok(all), Ok(all), Ok(t)));
    let sizes = |c| if c == 'B' { Some(2) } else { Some(5) };
    assert_eq!((all.bind(&sizes), longer.bind(&sizes), longer.bind(&|_| None)), (Some(Dim::num(3 * 2 * 5 * 13)), Some(Dim::num(13)), None));
    assert_eq!((longer.value(), longer.times(Dim::num(0))), (None, Some(Dim::num(0))));
    // what is no number, no name and no sum of both
    assert_eq!((longer.times(longer), Dim::sym('B').times(t).unwrap().plus(1), longer.plus(1 << 32)), (None, None, None));
    for text in ["3+4", "T+", "T+x", "T+8+1", "+8", "T+4294967296"] {
        assert!(text.parse::<Dim>().is_err(), "{text}");
    }
    // one part of a row may have any length
    let b = Builder::default();
    let s = b.scope();
    let [x, y] = [s.param("x", (2usize, 'T')), s.param("y", [2usize, 3])];
    b.output("z", y.concat(-1, x).concat(-1, y));
    let graph = b.finish().unwrap();
    assert_eq!(graph.main().outputs()[0].to_string(), "f32[2,T+6]");
    assert_eq!(graph.to_string().parse::<Graph>().unwrap().to_string(), graph.to_string());
    assert_eq!((graph.symbols(), graph.bind(&|_| Some(4)).unwrap().main().outputs()[0].to_string()), (vec!['T'], "f32[2,10]".into()));
}

#[test]
fn types_that_do_not_fit() {
    wrong(|s, x| x + s.int(1), &["add(a: f32[2,6], b: i32[]): element types differ: f32 and i32"]);
    wrong(|_, x| x.select(x, x), &["select(p: f32[2,6], a: f32[2,6], b: f32[2,6]): the condition must be bool, not f32"]);
    wrong(|s, x| x.lt(x).select(x, s.int(1)), &["select(p: bool[2,6], a: f32[2,6], b: i32[]): element types differ: f32 and i32"]);
    wrong(|_, x| x.gather(x), &["gather(table: f32[2,6], index: f32[2,6]): the index must be i32, not f32"]);
    wrong(|s, _| s.num(1.0).gather(s.int(0)), &["gather(table: f32[], index: i32[]): the table has no axis to index"]);
    wrong(
        |s, x| x.apply(Op::ScatterAdd, &[s.iota(-1, 3usize), x]),
        &["scatter_add(base: f32[2,6], index: i32[3], updates: f32[2,6]): the updates must be [3,6]"],
    );
    wrong(|_, x| x.get(0), &["get[0](x: f32[2,6]): there is no member 0"]);
    wrong(|_, x| x.cast(DType::Tuple), &["cast[tuple](x: f32[2,6]): a tuple has no element type"]);
    wrong(|_, x| x.cast(DType::BF16) * x.cast(DType::BF16), &["mul(a: bf16[2,6], b: bf16[2,6]): bf16 has no arithmetic; cast to f32"]);
    wrong(|_, x| x.apply(Op::Tuple, &[x]).exp(), &["exp(x: (f32[2,6],f32[2,6])): a tuple is not a tensor; take a member with get"]);
    wrong(|_, x| x.apply(Op::Gather, &[]), &["gather takes 2 operands (table, index), not 1"]);
    wrong(|_, x| x.apply("repeat[f0,2,1,0]".parse().unwrap(), &[]), &["repeat[f0,2,1,0](x…: f32[2,6]): the type of a repeat depends on its body"]);
}

#[test]
fn contractions_are_written_right() {
    let bad = |labels: &'static str, why: &str| wrong(|s, x| x.contract(labels, s.param("w", [6usize, 4])), &[why]);
    bad("ac,cb", "'ac,cb' is no contraction, for it has no '->': expected something like ab,bc->ac");
    bad("accb->ab", "'accb->ab' is no contraction, for it has no ',' between two operands: expected something like ab,bc->ac");
    bad("ac,cb,d->ab", "'ac,cb,d->ab' is no contraction, for ',' is no small letter: expected something like ab,bc->ac");
    bad("aC,Cb->ab", "'aC,Cb->ab' is no contraction, for 'C' is no small letter: expected something like ab,bc->ac");
    bad("a c,cb->ab", "'a c,cb->ab' is no contraction, for ' ' is no small letter: expected something like ab,bc->ac");
    bad("aa,ab->b", "'aa,ab->b' is no contraction, for 'a' stands twice in 'aa': expected something like ab,bc->ac");
    bad("ac,cb->aa", "'ac,cb->aa' is no contraction, for 'a' stands twice in 'aa': expected something like ab,bc->ac");
    bad("ac,cb->ad", "'ac,cb->ad' is no contraction, for 'd' of the result is in no operand: expected something like ab,bc->ac");
    bad("ac,cb->a", "'ac,cb->a' is no contraction, for 'b' is in one operand alone and not in the result: expected something like ab,bc->ac");
    bad("ac,cb->aé", "'ac,cb->aé' is no contraction, for 'é' is no small letter: expected something like ab,bc->ac");
    bad("a,cb->acb", "contract[a,bc->abc](a: f32[2,6], b: f32[6,4]): a,bc->abc wants 1 and 2 axes");
    bad("ca,cb->ab", "contract[ca,cb->ab](a: f32[2,6], b: f32[6,4]): inner dims differ: label c is 2 and 6");
    assert!("ab,bc->ac".parse::<Ein>().is_ok());
}

/// Attention by hand is held to what its definition takes for granted: with any labels it is typed and defined, or neither.
#[test]
fn any_labels_of_attention_are_typed_and_defined_or_neither() {
    let mut r = crate::common::Random(3);
    let (mut typed, n) = (0, 4000);
    for _ in 0..n {
        let mut pick = |n: usize| (0..n).map(|_| r.below(5) as u8).collect();
        let (q, k, v, o) = (pick(2), pick(2), pick(2), pick(2));
        let mut a = Attn {
            q,
            k,
            v,
            o,
            scores: 2 + r.below(2) as u8,
            f: crate::common::score(r.below(2) == 0),
            group: 1 + r.below(2) as u32,
            head: r.below(2) as u8,
        };
        if r.below(2) == 0 {
            a = ["ac,bc,bd->ad|2", "abd,acd,ace->abe|3|causal", "abd,acd,ace->abe|3|ax2", "da,db,be->ea|2"][r.below(4)].parse().unwrap();
            let labels = [&mut a.q, &mut a.k, &mut a.v, &mut a.o];
            let which = r.below(4);
            let at = r.below(labels[which].len());
            labels.into_iter().nth(which).unwrap()[at] = r.below(6) as u8;
        }
        let size = |l: &u8| Dim::num([2, 3, 4, 5, 2, 3][usize::from(*l)] * 2);
        let of = |labels: &[u8], grouped: bool| {
            let d = |l: &u8| if grouped && a.group > 1 && *l == a.head { Dim::num(size(l).value().unwrap() / 2) } else { size(l) };
            ir::Type::f32(labels.iter().map(d).collect::<Vec<_>>())
        };
        let types = [of(&a.q, false), of(&a.k, true), of(&a.v, true), ir::Type::scalar(DType::F32)];
        let types: Vec<&ir::Type> = types.iter().collect();
        let op = Op::Attention(a.clone());
        let Ok(ty) = ir::infer(&op, &types) else { continue };
        typed += 1;
        let body = ir::definition(&op, &types).expect("attention has a definition");
        assert_eq!(body.outputs(), ty.parts, "{op}");
        let (o, lse) = (&ty.parts[0], &ty.parts[1]);
        let (op, types) = (Op::AttentionBwd(a), [types[0], types[1], types[2], o, lse, o, types[3]]);
        let ty = ir::infer(&op, &types).unwrap();
        assert_eq!(ir::definition(&op, &types).expect("and its backward").outputs(), ty.parts, "{op}");
    }
    assert!((20..n).contains(&typed), "{typed} of {n} were typed");
}

#[test]
fn loops_that_cannot_be() {
    wrong(|s, x| s.layers("h", 0, x, |_, x| x.tanh()), &["h: a model needs at least one layer"]);
    wrong(|s, x| s.scan("h", 0, x, &[], |_, x, _| (x, vec![x])).1[0], &["h: a model needs at least one layer"]);
    wrong(|s, x| s.layers("h", usize::MAX, x, |_, x| x), &["h: 18446744073709551615 layers are too many"]);
    wrong(
        |s, x| s.layers("h", 4_000_000_000, x, |_, x| x.tanh()),
        &["loops unroll to 8000000001 ops, and at most 4194304 are possible: fewer iterations are needed"],
    );
    wrong(
        |s, x| s.layers("a", 3000, x, |s, x| s.layers("b", 3000, x, |_, x| x.tanh())),
        &["loops unroll to 18009001 ops, and at most 4194304 are possible: fewer iterations are needed"],
    );
    wrong(|s, x| s.layers("h", 3, x, |_, x| x.sum()), &["h: a layer takes f32[2,6] and gives f32[2,1]"]);
    wrong(|s, x| s.scan("h", 3, x, &[], |_, x, _| (x.sum(), vec![x, x.sum()])).1[1], &["h: a layer takes f32[2,6] and gives f32[2,1]"]);
    wrong(
        |s, x| s.scan("h", 3, x, &[], |_, x, _| (x, vec![x.apply(Op::Tuple, &[x])])).0,
        &["h: a layer gives (f32[2,6],f32[2,6]), which is no tensor; take a member with get"],
    );
    wrong(
        |s, x| s.layers_with("h", 3, x, &[x], |_, x, own| x + own[0]),
        &["h: each of 3 layers takes its slice of f32[2,6], whose first axis must be 3"],
    );
    wrong(
        |s, x| s.layers_with("h", 3, x, &[s.num(1.0)], |_, x, own| x + own[0]),
        &["h: each of 3 layers takes its slice of f32[], whose first axis must be 3"],
    );
    wrong(
        |s, x| s.layers("a b", 2, x, |_, x| x),
        &["layers: \"a b\" is no name, for ' ' is in it: use letters, digits, '_', '-', '.', '/' and '{}'"],
    );
}

/// A layer's own scope has a parameter an iteration; one from outside has one for all.
#[test]
fn a_scope_declares_where_it_was_made() {
    let b = Builder::default();
    let s = b.scope();
    let x = s.input("x", DType::F32, [2usize]);
    let y = s.layers("h", 3, x, |own, x| {
        let x = x * own.param("w", [2usize]) + s.param("shared", [2usize]);
        // a loop in a loop: by the inner scope one an iteration of both, by the outer one an iteration of its own
        let x = own.layers("g", 4, x, |own, x| x + own.param("v", [2usize]) + s.param("shared", [2usize]));
        s.layers("k", 5, x, |own, x| x + own.param("u", [2usize]))
    });
    b.output("y", y + s.param("shared", [2usize]));
    let graph = b.finish().unwrap();
    verify(&graph).unwrap();
    let params: Vec<String> = graph.params().iter().map(|(n, t)| format!("{n} {t}")).collect();
    assert_eq!(params, ["shared f32[2]", "k.{}.u f32[5,2]", "h.{}.w f32[3,2]", "h.{}.g.{}.v f32[3,4,2]"], "{graph}");
    // the same in plain numbers
    let mut env = ir::Env::new();
    env.insert("x".into(), ir::Value::new(vec![2], vec![1.0, 2.0]));
    env.insert("shared".into(), ir::Value::new(vec![2], vec![0.5, -1.0]));
    let value = |n: usize, f: &dyn Fn(usize) -> f64| (0..n).map(f).collect::<Vec<f64>>();
    let (w, v, u) = (value(6, &|i| i as f64 - 2.0), value(24, &|i| i as f64 / 8.0), value(10, &|i| 1.0 - i as f64));
    env.insert("h.{}.w".into(), ir::Value::new(vec![3, 2], w.clone()));
    env.insert("h.{}.g.{}.v".into(), ir::Value::new(vec![3, 4, 2], v.clone()));
    env.insert("k.{}.u".into(), ir::Value::new(vec![5, 2], u.clone()));
    let have = &ir::eval(&graph, &env).unwrap()["y"].data;
    for c in 0..2 {
        let shared = [0.5, -1.0][c];
        let mut x = [1.0, 2.0][c];
        for i in 0..3 {
            x = x * w[2 * i + c] + shared;
            x += (0..4).map(|j| v[8 * i + 2 * j + c] + shared).sum::<f64>() + (0..5).map(|k| u[2 * k + c]).sum::<f64>();
        }
        assert!((have[c] - x - shared).abs() < 1e-12, "{} for {}", have[c], x + shared);
    }
    let late = mistakes(|b, s| {
        let scope = std::cell::RefCell::new(None);
        let x = s.input("x", DType::F32, [2usize]);
        let y = s.layers("h", 2, x, |own, x| {
            *scope.borrow_mut() = Some(own.clone());
            x
        });
        b.output("y", y + scope.borrow().as_ref().unwrap().param("w", [2usize]));
    });
    assert_eq!(late, ["parameter h.{}.w: its scope belongs to a layer that has ended"]);
}

/// A value of a layer is used in that layer alone.
#[test]
fn values_stay_in_their_layer() {
    use std::cell::Cell;
    let ended = "this value belongs to a layer that has ended: return it from the layer";
    wrong(
        |s, x| {
            let out = Cell::new(x);
            s.layers("h", 2, x, |_, x| {
                out.set(x.tanh());
                x
            });
            // as deep as the layer it is of, but in another
            s.layers("g", 2, x, |_, x| {
                assert_eq!(out.get().ty().rank(), 0);
                x + out.get()
            })
        },
        &[ended],
    );
    let m = mistakes(|b, s| {
        let x = s.input("x", DType::F32, [2usize]);
        let out = Cell::new(x);
        s.layers("h", 2, x, |_, x| {
            out.set(x.tanh());
            b.output("inside", x);
            x
        });
        b.output("y", out.get());
        b.output("z", out.get() + x);
        let other = Builder::default();
        b.output("u", other.scope().num(1.0));
        b.output("v", x + other.scope().num(1.0));
    });
    let other = "this value belongs to another builder";
    assert_eq!(m, ["a result is a value of the model, not of a layer: return it from the layer", ended, ended, other, other]);
}

#[test]
fn all_mistakes_come_at_once() {
    let m = mistakes(|b, s| {
        let x = s.input("x", DType::F32, [2usize, 6]);
        b.output("a", x.transpose(&[0]));
        b.output("a", x.slice(-1, 0, 9));
        b.output("@w", x.chunks::<4>()[0]);
    });
    assert_eq!(m.len(), 5, "{m:?}");
    let empty = mistakes(|_, s| {
        s.input("x", DType::F32, [2usize]);
    });
    assert_eq!(empty, ["the model has no result: name one with output"]);
}
