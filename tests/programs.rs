//! A dump is an input: programs from files through every command; and `run` held to its files.

use crate::cli::{Directory, eggcorn, fails, works};
use crate::common::Random;
use ir::Graph;
use std::collections::BTreeMap;

const GPT: [&str; 12] =
    ["gpt2", "--set", "vocab_size=11", "--set", "n_positions=8", "--set", "n_layer=2", "--set", "n_head=2", "--set", "n_embd=8", "--set"];
const LLAMA: [&str; 16] = [
    "llama",
    "--set",
    "vocab_size=13",
    "--set",
    "max_position_embeddings=8",
    "--set",
    "num_hidden_layers=2",
    "--set",
    "num_attention_heads=2",
    "--set",
    "num_key_value_heads=1",
    "--set",
    "hidden_size=8",
    "--set",
    "intermediate_size=12",
    "--set",
];

/// Both models, small, with one more setting to choose.
fn models() -> [Vec<&'static str>; 2] {
    [[&GPT[..], &["dropout=0.0"]].concat(), [&LLAMA[..], &["tie_word_embeddings=true"]].concat()]
}

/// A tensor of a file: its type, shape and bytes.
type Tensor = (&'static str, Vec<usize>, Vec<u8>);

fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    ("F32", shape.to_vec(), values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

fn i64s(shape: &[usize], values: &[i64]) -> Tensor {
    ("I64", shape.to_vec(), values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// A safetensors file.
fn file(tensors: &BTreeMap<String, Tensor>) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), vec![]);
    for (name, (dtype, shape, bytes)) in tensors {
        header.insert(name.clone(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [data.len(), data.len() + bytes.len()]}));
        data.extend(bytes);
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// What is in a safetensors file: type, shape, bytes.
fn tensors(path: &str) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let bytes = std::fs::read(path).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
    let at = |v: &serde_json::Value| v.as_u64().unwrap() as usize;
    let one = |v: &serde_json::Value| {
        let offsets = (at(&v["data_offsets"][0]), at(&v["data_offsets"][1]));
        let shape = v["shape"].as_array().unwrap().iter().map(at).collect();
        (v["dtype"].as_str().unwrap().to_string(), shape, bytes[8 + n + offsets.0..8 + n + offsets.1].to_vec())
    };
    header.iter().map(|(name, v)| (name.clone(), one(v))).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}

/// Tensors under one's names are near another's.
#[track_caller]
fn near(have: &str, want: &str, tolerance: f32) {
    let (have, want) = (tensors(have), tensors(want));
    assert_eq!(have.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (name, (dtype, shape, bytes)) in &want {
        let (h, w) = (&have[name], floats(bytes));
        assert_eq!((&h.0, &h.1), (dtype, shape), "{name}");
        let scale = w.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
        let worst = floats(&h.2).iter().zip(&w).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst <= tolerance * scale, "{name} differs by {worst} of {scale}");
    }
}

/// Random parameters of a program, one tensor an iteration.
fn weights(graph: &Graph) -> BTreeMap<String, Tensor> {
    let mut r = Random(9);
    let mut out = BTreeMap::new();
    for (name, ty) in graph.params() {
        let sizes = ty.sizes();
        let (pieces, shape) = if name.contains("{}") { (sizes[0], &sizes[1..]) } else { (1, &sizes[..]) };
        for i in 0..pieces {
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| 0.5 * r.unit() as f32).collect();
            out.insert(name.replacen("{}", &i.to_string(), 1), f32s(shape, &values));
        }
    }
    out
}

fn ids() -> BTreeMap<String, Tensor> {
    [("input_ids", [1, 5, 2, 10, 0, 3]), ("labels", [5, 2, -100, 0, 3, 7])].map(|(n, ids)| (n.to_string(), i64s(&[2, 3], &ids))).into()
}

/// A model's weights, ids, and what runs it on them.
struct Setup {
    d: Directory,
    model: Vec<&'static str>,
    weights: BTreeMap<String, Tensor>,
}

impl Setup {
    fn new(name: &str, model: &[&'static str]) -> Setup {
        let d = Directory::new(name);
        let built = works(&[&["dump"], model, &["--stage", "built"]].concat());
        let weights = weights(&built.parse().unwrap());
        d.write("w.safetensors", file(&weights));
        d.write("in.safetensors", file(&ids()));
        Setup { d, model: model.to_vec(), weights }
    }

    fn args(&self, program: &[&str], out: &str, more: &[&str]) -> Vec<String> {
        let (w, input, out) = (self.d.path("w.safetensors"), self.d.path("in.safetensors"), self.d.path(out));
        let rest = ["--weights", &w, "--input", &input, "--out", &out];
        [&["run"], program, &rest[..], more].concat().into_iter().map(String::from).collect()
    }

    #[track_caller]
    fn run(&self, program: &[&str], out: &str, more: &[&str]) -> String {
        let args = self.args(program, out, more);
        works(&args.iter().map(String::as_str).collect::<Vec<_>>());
        self.d.path(out)
    }

    #[track_caller]
    fn fails(&self, words: &[&str]) {
        let args = self.args(&self.model, "never.safetensors", &[]);
        fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), words);
        assert!(!std::path::Path::new(&self.d.path("never.safetensors")).exists());
    }
}

/// The dump of every stage is a program that prints as it was read, and means what the model means.
#[test]
fn every_stage_is_a_program() {
    for (i, model) in models().iter().enumerate() {
        let s = Setup::new(&format!("stages{i}"), model);
        let dump = |stage: &str| works(&[&["dump"], &model[..], &["--stage", stage, "--batch", "2", "--seq", "3"]].concat());
        let mut files = vec![];
        for stage in ["built", "fused", "grad", "joint", "step"] {
            let text = dump(stage);
            let path = s.d.write(&format!("{stage}.ir"), &text);
            assert_eq!(works(&["dump", &path, "--stage", "built"]), text, "{stage} of {model:?}");
            for (format, start) in [("json", "{"), ("dot", "digraph")] {
                assert!(works(&["dump", &path, "--stage", "built", "--format", format]).starts_with(start));
            }
            files.push(path);
        }
        let [built, fused, grad, joint, step] = &files[..] else { unreachable!("five stages") };
        let sized = ["--batch", "2", "--seq", "3"];
        assert_eq!(works(&[&["dump", built, "--stage", "joint"], &sized[..]].concat()), dump("joint"), "the same compiler");
        for command in [["dump", fused, "--stage", "plan"], ["dump", step, "--stage", "kernels"], ["dump", joint, "--stage", "fused"]] {
            works(&command);
        }
        assert!(works(&["explain", built, "attention"]).contains("accepted"));
        let plain = s.run(model, "model.safetensors", &[]);
        for (path, exact) in [(built, true), (fused, false)] {
            let have = s.run(&[path], "program.safetensors", &[]);
            near(&have, &plain, if exact { 0.0 } else { 1e-5 });
            near(&s.run(&[path], "evaluated.safetensors", &["--eval"]), &plain, 1e-5);
        }
        let graded = s.run(model, "graded.safetensors", &["--grad"]);
        near(&s.run(model, "evaluated.safetensors", &["--grad", "--eval"]), &graded, 1e-4);
        near(&s.run(&[built], "program.safetensors", &["--grad"]), &graded, 0.0);
        // these have the loss alone, and gradients already
        for path in [grad, joint] {
            let have = tensors(&s.run(&[path], "program.safetensors", &[]));
            assert!(have.contains_key("loss") && have.keys().filter(|k| k.starts_with("grad.")).count() > 10);
            for (name, (_, _, bytes)) in have {
                let want = floats(&tensors(&graded)[&name].2);
                let scale = want.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
                assert!(floats(&bytes).iter().zip(want).all(|(a, b)| (a - b).abs() <= 1e-4 * scale), "{name} of {path}");
            }
        }
        step_is_run(&s, step);
    }
}

/// A step's new state is written under the state's names, compiled and evaluated alike.
fn step_is_run(s: &Setup, step: &str) {
    let graph: Graph = std::fs::read_to_string(step).unwrap().parse().unwrap();
    let state: BTreeMap<String, Tensor> = weights(&graph)
        .into_iter()
        .filter(|(n, _)| !s.weights.contains_key(n))
        .map(|(n, (t, shape, bytes))| (n, (t, shape, vec![0; bytes.len()])))
        .collect();
    assert!(!state.is_empty(), "there are moments");
    let mut input = ids();
    input.extend(state.clone());
    input.insert("lr".into(), f32s(&[], &[1e-3]));
    input.insert("step".into(), f32s(&[], &[1.0]));
    s.d.write("in.safetensors", file(&input));
    let have = s.run(&[step], "step.safetensors", &[]);
    near(&s.run(&[step], "evaluated.safetensors", &["--eval"]), &have, 1e-3);
    let names: Vec<String> = tensors(&have).into_keys().collect();
    let want: Vec<&String> = s.weights.keys().chain(state.keys()).collect();
    assert!(want.iter().all(|n| names.contains(n)) && names.contains(&"loss".to_string()), "{names:?}");
    assert!(s.weights.iter().any(|(n, t)| tensors(&have)[n].2 != t.2), "the step moved something");
    s.d.write("in.safetensors", file(&ids()));
}

/// A program with every type in and out, symbols bound by its inputs or by --dim.
#[test]
fn a_program_of_ones_own() {
    let d = Directory::new("own");
    let text = "\
; a program
; of one's own
main(%0 x: f32[B,2], %1 n: i32[B], %2 k: u32[], %3 p: bool[2], %4 s: f32[S]) {
  @w : f32[2]
  @h.{}.v : f32[3,2]
  %5 = mul %0, @w : f32[B,2]
  %6 = select %3, %5, 0.0 : f32[B,2]
  %7 = add %1, 1 : i32[B]
  %8 = mul %2, 3u : u32[]
  %9 = lt %0, 0.0 : bool[B,2]
  %10 = add @w, 1.0 : f32[2]
  %11 = mul @h.{}.v, 2.0 : f32[3,2]
  %12 = sum[-1] %4 : f32[1]
  return y=%6, n=%7, k=%8, p=%9, @w=%10, @h.{}.v=%11, s=%12
}
";
    let program = d.write("own.ir", text);
    let mut input: BTreeMap<String, Tensor> = BTreeMap::new();
    input.insert("x".into(), f32s(&[2, 2], &[1.0, -2.0, 3.0, -4.0]));
    input.insert("n".into(), i64s(&[2], &[7, -8]));
    input.insert("k".into(), i64s(&[], &[4_000_000_000]));
    input.insert("p".into(), ("BOOL", vec![2], vec![1, 0]));
    input.insert("s".into(), f32s(&[4], &[1.0, 2.0, 3.0, 4.0]));
    input.insert("w".into(), f32s(&[2], &[10.0, 100.0]));
    // one part by its own name each
    for i in 0..3 {
        input.insert(format!("h.{i}.v"), f32s(&[2], &[i as f32, 0.5]));
    }
    let (file_in, out) = (d.path("in.safetensors"), d.path("out.safetensors"));
    let write = |input: &BTreeMap<String, Tensor>| std::fs::write(&file_in, file(input)).unwrap();
    write(&input);
    let args = |more: &[&'static str]| [&["run", &program, "--input", &file_in, "--out", &out][..], more].concat();
    for more in [&[][..], &["--eval"], &["--opt", "off"], &["--dim", "S=4", "--dim", "B=2"]] {
        let _ = std::fs::remove_file(&out);
        assert!(works(&args(more)).starts_with("9 tensors in"), "no loss");
        let have = tensors(&out);
        let want: [(&str, &str, Vec<u8>); 9] = [
            ("y", "F32", f32s(&[], &[10.0, 0.0, 30.0, 0.0]).2),
            ("n", "I32", [8i32, -7].iter().flat_map(|x| x.to_le_bytes()).collect()),
            ("k", "U32", 3_410_065_408u32.to_le_bytes().to_vec()),
            ("p", "BOOL", vec![0, 1, 0, 1]),
            ("w", "F32", f32s(&[], &[11.0, 101.0]).2),
            ("h.0.v", "F32", f32s(&[], &[0.0, 1.0]).2),
            ("h.1.v", "F32", f32s(&[], &[2.0, 1.0]).2),
            ("h.2.v", "F32", f32s(&[], &[4.0, 1.0]).2),
            ("s", "F32", f32s(&[], &[10.0]).2),
        ];
        for (name, dtype, bytes) in want {
            assert_eq!((have[name].0.as_str(), &have[name].2), (dtype, &bytes), "{name} {more:?}");
        }
    }
    // what came out goes in again, and the dump of a program keeps its comments
    assert_eq!(works(&["dump", &program, "--stage", "built"]).lines().take(2).collect::<Vec<_>>(), ["; a program", "; of one's own"]);
    let fails = |words: &[&str], more: &[&'static str]| fails(&args(more), words);
    fails(&["--dim Q=4", "no dim of that name"], &["--dim", "Q=4"]);
    fails(&["--dim S", "S=128"], &["--dim", "S"]);
    fails(&["tensor s has shape [4]", "[5]"], &["--dim", "S=5"]);
    fails(&["--set x=1", "own.ir is a program"], &["--set", "x=1"]);
    fails(&["--grad", "no result loss.sum or loss", "y, n, k"], &["--grad"]);
    let with = |name: &str, tensor: Option<Tensor>, words: &[&str]| {
        let mut input = input.clone();
        match tensor {
            Some(t) => drop(input.insert(name.into(), t)),
            None => drop(input.remove(name)),
        }
        write(&input);
        fails(words, &[]);
        fails(words, &["--eval"]);
    };
    with("n", Some(i64s(&[2], &[7, 2_147_483_648])), &["in.safetensors", "tensor n", "holds 2147483648, as element 1", "type i32"]);
    with("n", Some(i64s(&[2], &[-2_147_483_649, 0])), &["tensor n", "holds -2147483649, as element 0", "type i32"]);
    with("k", Some(i64s(&[], &[-1])), &["tensor k", "holds -1, as element 0", "type u32"]);
    with("k", Some(i64s(&[], &[4_294_967_296])), &["tensor k", "holds 4294967296", "type u32"]);
    with("n", Some(f32s(&[2], &[1.0, 2.0])), &["tensor n is F32", "expected I64 or I32", "convert"]);
    with("x", Some(i64s(&[2, 2], &[1; 4])), &["tensor x is I64", "expected F32"]);
    with("p", Some(i64s(&[2], &[1, 0])), &["tensor p is I64", "expected BOOL"]);
    with("x", Some(f32s(&[2, 3], &[0.0; 6])), &["tensor x has shape [2, 3]", "[2, 2]"]);
    with("x", None, &["a tensor is missing: x"]);
    with("w", None, &["a tensor is missing: w"]);
    with("h.1.v", None, &["a tensor is missing: h.1.v"]);
    with("h.3.v", Some(f32s(&[2], &[1.0, 2.0])), &["tensor h.3.v is not used"]);
    with("more", Some(f32s(&[1], &[99.0])), &["tensor more is not used"]);
}

#[test]
fn bad_programs() {
    let d = Directory::new("bad");
    let path = |name: &str, content: &[u8]| d.write(name, content);
    fails(&["dump", &d.path("missing.ir")], &["missing.ir", "cannot be read"]);
    fails(&["dump", "missing.ir"], &["missing.ir", "cannot be read"]);
    fails(&["dump", &d.path("")], &["no model in this folder"]);
    fails(&["dump", &path("latin.ir", b"main(%0 x: f32[2]) {\n  ; caf\xe9\n")], &["latin.ir", "UTF-8", "byte 28 is 0xe9"]);
    fails(&["dump", &path("wrong.ir", b"main(%0 x: f32[2]) {\n  %1 = exo %0 : f32[2]\n  return y=%1\n}\n")], &["wrong.ir:2:8: unknown op 'exo'"]);
    fails(&["dump", &path("empty.ir", b"")], &["empty.ir:0:1: there is no main function"]);
    let right = path("right.ir", b"\xEF\xBB\xBFmain(%0 x: f32[B,S]) {\r\n  %1 = exp %0 : f32[B,S]\r\n  return y=%1\r\n}\r\n");
    assert!(works(&["dump", &right, "--dim", "S=5", "--batch", "3"]).contains("f32[3,5]"));
    fails(&["dump", &right], &["right.ir", "dim S has no size", "--dim S=64"]);
    fails(&["dump", &right, "--dim", "S=99999999999999"], &["right.ir", "too many elements"]);
    fails(&["dump", &right, "--dim", "S=5", "--stage", "grad"], &["no result loss.sum or loss", "it has y"]);
    fails(&["dump", &right, "--set", "n_layer=1"], &["--set n_layer=1", "is a program"]);
    fails(&["dump", "gpt2", "--dim", "S=5"], &["--dim S=5", "--batch and --seq"]);
    fails(&["explain", &right, "gelu", "--dim", "S=5"], &["nothing in", "gelu"]);
    let huge = path("huge.ir", b"main(%0 x: f32[1]) {\n  %1 = broadcast[1048576,1048576] %0 : f32[1048576,1048576]\n  return y=%1\n}\n");
    let input: BTreeMap<String, Tensor> = [("x".to_string(), f32s(&[1], &[1.0]))].into();
    let (input, out) = (d.write("in.safetensors", file(&input)), d.path("out.safetensors"));
    fails(&["run", &huge, "--input", &input, "--out", &out], &["MiB"]);
    fails(&["run", &huge, "--input", &input, "--out", &out, "--eval"], &["1099511627777 numbers at once"]);
}

/// A program on standard input, as a paste.
#[test]
fn a_paste() {
    use std::io::Write;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_eggcorn"))
        .args(["dump", "-", "--stage", "built"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let text = "main(%0 x: f32[2]) {\n  %1 = exp %0 : f32[2]\n  return y=%1\n}\n";
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap(), text);
}

/// Ids and labels of a model are of its vocabulary, and its weights are all of the file.
#[test]
fn a_model_is_held_to_its_files() {
    let [gpt, llama] = models();
    let s = Setup::new("held", &gpt);
    let with = |name: &str, values: [i64; 6], words: &[&str]| {
        let mut input = ids();
        input.insert(name.into(), i64s(&[2, 3], &values));
        s.d.write("in.safetensors", file(&input));
        s.fails(words);
    };
    with("labels", [0, 1, 2, 3, 4, 11], &["labels holds 11", "0..11", "-100"]);
    with("labels", [0, 1, 2, 3, -1, 5], &["labels holds -1", "0..11", "-100"]);
    with("labels", [0, 1, 2, 3, -101, 5], &["labels holds -101"]);
    with("labels", [0, 1, 2, 3, 1 << 40, 5], &["tensor labels", "holds 1099511627776, as element 4", "type i32"]);
    with("input_ids", [0, 1, 2, 3, 4, 11], &["input_ids holds 11", "0..11"]);
    with("input_ids", [0, 1, 2, 3, 4, -100], &["input_ids holds -100"]);
    let input = |edit: &dyn Fn(&mut BTreeMap<String, Tensor>), words: &[&str]| {
        let mut input = ids();
        edit(&mut input);
        s.d.write("in.safetensors", file(&input));
        s.fails(words);
    };
    input(&|i| drop(i.insert("labels".into(), i64s(&[3, 2], &[0; 6]))), &["input_ids [2, 3] and labels [3, 2]", "alike"]);
    input(&|i| drop(i.insert("labels".into(), i64s(&[6], &[0; 6]))), &["labels [6]", "[B,T]"]);
    input(&|i| drop(i.remove("input_ids")), &["a tensor is missing: input_ids"]);
    input(&|i| drop(i.insert("mask".into(), i64s(&[1], &[0]))), &["tensor mask is not used"]);
    input(&|i| drop(i.insert("labels".into(), f32s(&[2, 3], &[0.0; 6]))), &["tensor labels", "F32"]);
    for name in ["input_ids", "labels"] {
        input(&|i| drop(i.insert(name.into(), i64s(&[1, 9], &[0; 9]))), &["alike"]);
    }
    input(&|i| ["input_ids", "labels"].iter().for_each(|n| drop(i.insert(n.to_string(), i64s(&[1, 9], &[0; 9])))), &["at most 8 long"]);
    s.d.write("in.safetensors", file(&ids()));
    let plain = s.run(&gpt, "plain.safetensors", &[]);
    // with dropout a model is run without
    let dropped = [&GPT[..], &["dropout=0.5"]].concat();
    near(&s.run(&dropped, "dropout.safetensors", &[]), &plain, 0.0);
    let weights = |edit: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut w = s.weights.clone();
        edit(&mut w);
        s.d.write("w.safetensors", file(&w));
    };
    let embedding = s.weights["transformer.wte.weight"].clone();
    let layer = s.weights["transformer.h.1.ln_1.weight"].clone();
    weights(&|w| drop(w.insert("transformer.h.2.ln_1.weight".into(), layer.clone())));
    s.fails(&["tensor transformer.h.2.ln_1.weight is not used", "as many layers"]);
    weights(&|w| drop(w.insert("lm_head.weight".into(), f32s(&[11, 8], &[0.25; 88]))));
    s.fails(&["tensor lm_head.weight is not used", "the same head"]);
    weights(&|w| drop(w.remove("transformer.h.1.ln_1.weight")));
    s.fails(&["w.safetensors", "a tensor is missing: transformer.h.1.ln_1.weight"]);
    weights(&|w| drop(w.insert("transformer.h.1.ln_1.weight".into(), ("F64", vec![8], vec![0; 64]))));
    s.fails(&["tensor transformer.h.1.ln_1.weight", "is F64", "expected F32, BF16 or F16", "convert"]);
    // what is no weight is named, and so is a tied head that the file has twice; a prefix may be missing
    weights(&|w| {
        *w = std::mem::take(w).into_iter().map(|(n, t)| (n.trim_start_matches("transformer.").to_string(), t)).collect();
        w.insert("h.0.attn.bias".into(), f32s(&[1], &[1.0]));
        w.insert("lm_head.weight".into(), embedding.clone());
    });
    let args = s.args(&gpt, "named.safetensors", &[]);
    let out = eggcorn(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let notices = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success()
            && notices.contains("tensor h.0.attn.bias is not read")
            && notices.contains("tensor lm_head.weight is not read: it is a copy"),
        "{notices}"
    );
    near(&s.d.path("named.safetensors"), &plain, 0.0);
    // an untied head is read
    let untied = [&LLAMA[..], &["tie_word_embeddings=false"]].concat();
    let s = Setup::new("untied", &untied);
    s.run(&untied, "untied.safetensors", &[]);
    let tied = Setup { model: llama, ..s };
    tied.fails(&["tensor lm_head.weight is not used"]);
}
