//! Hostile text: damaged dumps of every stage through the whole compiler give errors or programs that run, never a panic; and absurd
//! programs are refused by number before anything is allocated.

use crate::common::{Random, bound, environment, gpt, llama};
use crate::random_graphs::random_graph;
use crate::running::{cases, interpreted_calls};
use codegen::{Cpu, Program, Target};
use ir::names::{LOSS, LOSS_SUM};
use ir::{Graph, eval, verify};
use passes::{Goal, Opt, Options, Update, compile, optimize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

const TARGET: Cpu = Cpu { lanes: 8, registers: 16, cache: 1 << 14, pairs: false };

/// Dumps of both models at every stage, and random programs.
fn dumps() -> Vec<String> {
    let mut out = vec![];
    for model in [gpt(), llama(true)] {
        let built = llm::Objective::NextToken.graph(&model, llm::Mode::Train).unwrap();
        let graph = bound(&model, 1, 3);
        let step = compile(&graph.keep_outputs(&LOSS), Goal::Step(&Update::default()), &Options::default()).unwrap();
        out.extend([&built, &graph, &step.fused, step.grad.as_ref().unwrap(), step.joint.as_ref().unwrap(), step.last()].map(Graph::to_string));
    }
    // small enough to be run, and as many as the others
    for seed in 0..24 {
        out.push(random_graph(&mut Random(seed), 8, false, true, true).to_string());
    }
    out
}

/// Words that are right somewhere and wrong here, and numbers that are too large for something.
const WORDS: [&str; 40] = [
    "%0",
    "%1",
    "%999",
    "@w",
    "f0",
    "f1",
    "f9",
    "0",
    "1",
    "2",
    "-1",
    "-2",
    "-9",
    "-128",
    "127",
    "255",
    "256",
    "65536",
    "2147483648",
    "4000000000",
    "4294967296",
    "9223372036854775808",
    "99999999999999999999",
    "NaN",
    "-inf",
    "-0.0",
    "1e400",
    "true",
    "7u",
    "f32",
    "i32",
    "bool",
    "bf16",
    "u32",
    "T",
    "B",
    "reverse",
    "causal",
    "softmax",
    "transpose",
];

/// Where words begin and end.
fn words(text: &str) -> Vec<(usize, usize)> {
    let is_word = |c: char| c.is_alphanumeric() || "%@._-".contains(c);
    let mut out = vec![];
    let mut start = None;
    for (i, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (is_word(c), start) {
            (true, None) => start = Some(i),
            (false, Some(s)) => {
                out.push((s, i));
                start = None;
            }
            _ => {}
        }
    }
    out
}

/// One damage to a text.
fn damage<'t>(r: &mut Random, text: &'t str) -> String {
    let lines: Vec<&'t str> = text.lines().collect();
    let (a, b) = (r.below(lines.len()), r.below(lines.len()));
    let found = words(text);
    let (i, j) = (found[r.below(found.len())], found[r.below(found.len())]);
    let put = |at: (usize, usize), word: &str| format!("{}{word}{}", &text[..at.0], &text[at.1..]);
    let edited = |edit: &dyn Fn(&mut Vec<&'t str>)| {
        let mut lines = lines.clone();
        edit(&mut lines);
        lines.join("\n") + "\n"
    };
    match r.below(12) {
        0 => edited(&|l| l.retain(|line| *line != lines[a])),
        1 => edited(&|l| l.insert(b, lines[a])),
        2 => edited(&|l| l.swap(a, b)),
        3 => edited(&|l| l.truncate(a)),
        4 | 5 => put(i, WORDS[r.below(WORDS.len())]),
        // a word of the same text: a name for a name, an op for an op, a size for a size
        6 | 7 => put(i, &text[j.0..j.1]),
        8 => put(i, ""),
        9 => put((i.1, i.1), [",", "[", "]", "(", ")", ":", "=", " ", "{", "}", "->", "|", "\n", ";", "\u{0}", "é"][r.below(16)]),
        10 => {
            let mut bytes = text.as_bytes().to_vec();
            let at = r.below(bytes.len());
            bytes[at] ^= 1 << r.below(8);
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => {
            // all of one word
            let (from, to) = (&text[i.0..i.1], &text[j.0..j.1]);
            text.replace(from, to)
        }
    }
}

/// The text with types as its ops give them, where those alone are wrong: damage that the redundancy of the text would hide.
fn retyped(mut text: String) -> String {
    for _ in 0..40 {
        let Err(e) = text.parse::<Graph>() else { break };
        let Some((have, want)) = e.message.split_once(" gives ").and_then(|(_, m)| m.split_once(", not ")) else { break };
        let lines =
            text.lines().enumerate().map(|(i, l)| if i + 1 == e.line { l.replace(&format!(" : {want}"), &format!(" : {have}")) } else { l.into() });
        text = lines.collect::<Vec<String>>().join("\n") + "\n";
    }
    text
}

/// What became of a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Refused,
    Compiled,
    Ran,
}

/// A text through everything that reads it. Errors are fine; numbers are not looked at.
fn through(text: &str, opt: Opt) -> Fate {
    let graph = match text.parse::<Graph>() {
        Ok(graph) => graph,
        Err(e) => {
            assert!(e.column > 0 && !e.message.is_empty(), "{e}");
            return Fate::Refused;
        }
    };
    verify(&graph).unwrap_or_else(|e| panic!("what reads is verified: {}", e.join("; ")));
    let again: Graph = graph.to_string().parse().unwrap_or_else(|e| panic!("what reads is printed and reads again: {e}"));
    assert_eq!(again, graph);
    let Ok(bound) = graph.bind(&|s| Some(if s == 'B' { 1 } else { 3 })) else { return Fate::Refused };
    let loss = bound.outputs.iter().any(|o| o == LOSS_SUM).then_some(LOSS_SUM);
    let stages = optimize(&bound, None, opt).and_then(|fused| loss.map_or(Ok(fused), |_| optimize(&bound.keep_outputs(&LOSS), loss, opt)));
    let Ok(stages) = stages else { return Fate::Refused };
    for stage in [Some(&stages.fused), stages.grad.as_ref(), stages.joint.as_ref()].into_iter().flatten() {
        verify(stage).unwrap_or_else(|e| panic!("a stage is verified: {}", e.join("; ")));
    }
    let fused = &stages.fused;
    let program = Program::new(fused, &Target::Cpu(TARGET));
    if program.bytes() > 1 << 18 || program.calls().len() > 200 {
        return Fate::Compiled;
    }
    let env = environment(fused, 1, 3);
    eval(fused, &env).unwrap();
    interpreted_calls(&program, &env);
    Fate::Ran
}

#[test]
fn damaged_dumps_never_panic() {
    let dumps = dumps();
    let n = cases(200, 2000);
    let mut fates = vec![];
    for seed in 0..n {
        let mut r = Random(seed.wrapping_mul(77_777));
        let mut text = dumps[r.below(dumps.len())].clone();
        for _ in 0..1 + r.below(2) {
            if !text.trim().is_empty() {
                text = damage(&mut r, &text);
            }
        }
        if seed % 4 > 0 {
            text = retyped(text);
        }
        let opt = [Opt::Egg, Opt::Greedy, Opt::Off][r.below(3)];
        let fate = catch_unwind(AssertUnwindSafe(|| through(&text, opt)));
        fates.push(fate.unwrap_or_else(|_| panic!("seed {seed}, {opt}: a panic at\n{text}")));
    }
    let count = |f: Fate| fates.iter().filter(|x| **x == f).count();
    assert!(count(Fate::Refused) > fates.len() / 4, "most damage is seen");
    assert!(count(Fate::Ran) > fates.len() / 50, "some programs mean something else: {}", count(Fate::Ran));
}

#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let e = text.parse::<Graph>().expect_err(words[0]).to_string();
    for w in words {
        assert!(e.contains(w), "'{w}' is not in: {e}");
    }
}

/// Programs no machine can run are refused with the number, at once.
#[test]
fn absurd_programs_are_refused_by_number() {
    let start = Instant::now();
    refused("main(%0 x: f32[9223372036854775808]) {\n  return y=%0\n}\n", &["line 1, column 12", "more than 1099511627776"]);
    refused("main(%0 x: f32[0,9223372036854775808]) {\n  return y=%0\n}\n", &["more than 1099511627776"]);
    let body = |from: usize, trip: u64| {
        format!("f{} b(%0: f32[]) {{\n  %1 = repeat[f{from},{trip},1,0] %0 : (f32[])\n  %2 = get[0] %1 : f32[]\n  return %2\n}}\n\n", from + 1)
    };
    let first = "f0 a(%0: f32[]) {\n  %1 = tanh %0 : f32[]\n  return %1\n}\n\n";
    let main = |f: usize, trip: u64| {
        format!("main(%0 x: f32[]) {{\n  %1 = repeat[f{f},{trip},1,0] %0 : (f32[])\n  %2 = get[0] %1 : f32[]\n  return y=%2\n}}\n")
    };
    refused(&format!("{first}{}", main(0, 4_000_000_000)), &["line 7, column 8", "8000000001 ops", "4194304"]);
    let nested: String = (0..20).map(|i| body(i, 4_000_000)).collect();
    refused(&format!("{first}{nested}{}", main(20, 4_000_000)), &["8000001 ops"]);
    let nested: String = (0..30).map(|i| body(i, 3)).collect();
    refused(&format!("{first}{nested}{}", main(30, 3)), &["ops, and at most 4194304"]);
    // what reads is refused by what would hold it
    let large: Graph =
        "main(%0 x: f32[1]) {\n  %1 = broadcast[1048576,1048576] %0 : f32[1048576,1048576]\n  %2 = sum[-1] %1 : f32[1048576,1]\n  return y=%2\n}\n"
            .parse()
            .unwrap();
    let why = eval(&large, &environment(&"main(%0 x: f32[1]) {\n  return y=%0\n}\n".parse().unwrap(), 1, 3)).expect_err("it is too large");
    assert!(why.contains("1099512676353 numbers at once, and at most 1073741824"), "{why}");
    let scores: Graph = "main(%0 q: f32[1000000,1]) {\n  %1 = attention[ac,bc,bd->ad|2] %0, %0, %0, 1.0 : (f32[1000000,1],f32[1000000])\n  %2 = get[0] %1 : f32[1000000,1]\n  return y=%2\n}\n".parse().unwrap();
    let why = eval(&scores, &ir::Env::new()).expect_err("its scores are too large");
    assert!(why.contains("numbers at once"), "{why}");
    let unbound: Graph = "main(%0 x: f32[T]) {\n  %1 = size[S] : f32[]\n  return y=%0, z=%1\n}\n".parse().unwrap();
    let why = eval(&unbound, &ir::Env::new()).expect_err("it is not bound");
    assert!(why.contains("dim S has no size: name it, as in --dim S=64"), "{why}");
    let why = unbound.bind(&|s| (s == 'T').then_some(3)).expect_err("S is missing");
    assert!(why.contains("dim S has no size"), "{why}");
    let why = unbound.bind(&|_| Some(u64::MAX)).expect_err("T is too large");
    assert!(why.contains("too many elements"), "{why}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

/// Long texts are read in time that grows with their length.
#[test]
fn long_texts_are_read_in_their_time() {
    let start = Instant::now();
    let functions: String = (0..5000).map(|i| format!("f{i} g(%0: f32[]) {{\n  %1 = tanh %0 : f32[]\n  return %1\n}}\n\n")).collect();
    let graph: Graph = format!("{functions}main(%0 x: f32[]) {{\n  return y=%0\n}}\n").parse().unwrap();
    assert_eq!(graph.sweep().funcs.len(), 1, "nobody calls them");
    let lines: String = (1..40_000).map(|i| format!("  %{i} = tanh %{} : f32[]\n", i - 1)).collect();
    let long: Graph = format!("main(%0 x: f32[]) {{\n{lines}  return y=%39999\n}}\n").parse().unwrap();
    assert_eq!(long.to_string().parse::<Graph>().unwrap(), long);
    let names = |n: usize, f: &dyn Fn(usize) -> String| (0..n).map(f).collect::<Vec<_>>();
    let inputs = names(3000, &|i| format!("%{i} x{i}: f32[]")).join(", ");
    let params = names(3000, &|i| format!("  @h.{i}.w : f32[]\n")).concat();
    let outputs = names(3000, &|i| format!("y{i}=%{i}")).join(", ");
    let states = names(3000, &|i| format!("@h.{i}.w=%{i}")).join(", ");
    let wide: Graph = format!("main({inputs}) {{\n{params}  return {outputs}, {states}\n}}\n").parse().unwrap();
    assert_eq!(wide.params().len(), 3000);
    let _ = format!("main(%0 x: {}f32[2]{}) {{\n", "(".repeat(1 << 20), ")".repeat(1 << 20)).parse::<Graph>();
    let _ = "[".repeat(1 << 20).parse::<Graph>();
    let b = ir::Builder::default();
    let s = b.scope();
    let x = (0..3000).map(|i| s.input(&format!("x{i}"), ir::DType::F32, [1usize])).reduce(|a, b| a + b).unwrap();
    b.output("y", x);
    b.finish().unwrap();
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
}

/// Programs that nobody writes and that are right: they run, and are as evaluated, with their gradients.
#[test]
fn odd_programs_run() {
    let sizes = |labels: &str, half: Option<char>| {
        let size = |c: char| [4, 3, 5, 2, 6][(c as u8 - b'a') as usize] / if half == Some(c) { 2 } else { 1 };
        labels.chars().map(|c| size(c).to_string()).collect::<Vec<_>>().join(",")
    };
    let specs = [
        "bd,cd,ce->be|2",
        "db,dc,ce->eb|2",
        "abd,cd,ce->abe|3",
        "abd,acd,ce->abe|3",
        "abd,cd,ace->eba|3",
        "abd,acd,ace->abe|3|ax2",
        "bad,cad,cae->bae|3|ax2",
    ];
    let mut programs: Vec<String> = vec![];
    for spec in specs {
        for causal in ["", "|causal"] {
            let mut bars = spec.split('|');
            let (inputs, o) = bars.next().unwrap().split_once("->").unwrap();
            let [q, k, v] = inputs.split(',').collect::<Vec<_>>()[..] else { unreachable!("three operands") };
            let half = spec.ends_with("ax2").then_some('a');
            // labels as the op has them: scores first, then the depths
            let scores = if spec.contains("|3") { "abcde" } else { "bcdea" };
            let own = |s: &str| s.chars().map(|c| (b'a' + scores.find(c).unwrap() as u8) as char).collect::<String>();
            let rest = bars.collect::<Vec<_>>();
            let op = format!(
                "attention[{},{},{}->{}|{}{causal}{}]",
                own(q),
                own(k),
                own(v),
                own(o),
                rest[0],
                rest.get(1).map_or(String::new(), |r| format!("|{r}"))
            );
            let lse = sizes(&scores[..scores.len() - 3].chars().take(rest[0].parse::<usize>().unwrap() - 1).collect::<String>(), None);
            let (o, rank) = (sizes(o, None), o.len());
            let axes = (1..=rank).map(|a| format!("-{a}")).collect::<Vec<_>>().join(",");
            programs.push(format!(
                "main() {{\n  @q : f32[{}]\n  @k : f32[{}]\n  @v : f32[{}]\n  %0 = {op} @q, @k, @v, 0.5 : (f32[{o}],f32[{lse}])\n  %1 = get[0] %0 : f32[{o}]\n  %2 = get[1] %0 : f32[{lse}]\n  %3 = mul %1, %1 : f32[{o}]\n  %4 = sum[{axes}] %3 : f32[{}]\n  %5 = reshape[] %4 : f32[]\n  return o=%1, lse=%2, loss.sum=%5, loss.count=1.0\n}}\n",
                sizes(q, None), sizes(k, half), sizes(v, half), vec!["1"; rank].join(",")
            ));
        }
    }
    programs.push("main(%0 x: f32[2], %1 y: f32[3]) {\n  %2 = tuple %0, %1 : (f32[2],f32[3])\n  %3 = get[0] %2 : f32[2]\n  %4 = exp %3 : f32[2]\n  return z=%4\n}\n".into());
    programs.push("main(%0 x: f32[0,3], %1 i: i32[0]) {\n  @w : f32[0,3]\n  %2 = add %0, @w : f32[0,3]\n  %3 = sum[-2] %2 : f32[1,3]\n  %4 = scatter_add %0, %1, @w : f32[0,3]\n  %5 = concat[-2] %2, %4 : f32[0,3]\n  return y=%3, z=%5, @w=%2\n}\n".into());
    programs.push("f0 b(%0: f32[2]) {\n  return %0\n}\n\nmain(%0 x: f32[2]) {\n  %1 = repeat[f0,3,1,0] %0 : (f32[2])\n  %2 = get[0] %1 : f32[2]\n  return y=%2\n}\n".into());
    let mut wrong = vec![];
    for text in &programs {
        for opt in [Opt::Egg, Opt::Off] {
            assert_eq!(through(text, opt), Fate::Ran, "{text}");
            let graph: Graph = text.parse().unwrap();
            let graph = if text.contains("loss.sum") { optimize(&graph, Some(LOSS_SUM), opt).unwrap().joint.unwrap() } else { graph };
            let env = environment(&graph, 5, 3);
            let (want, have) = (eval(&graph, &env).unwrap(), interpreted_calls(&Program::new(&graph, &Target::Cpu(TARGET)), &env));
            for (name, value) in have {
                let d = crate::common::difference(&value, &want[&name]);
                wrong.extend((d > 1e-4 || d.is_nan()).then(|| format!("{name} differs by {d} with {opt}\n{graph}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
