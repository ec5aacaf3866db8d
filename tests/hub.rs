//! Models of Hugging Face's libraries: directories made here by hand, imported, exported and read again; tests/parity asks those libraries.

use crate::common::{Directory as Folder, Random, gpt, llama};
use ir::Type;
use llm::hub::{Directory, Export, FileType, Flat, Generation, export, import};
use llm::{Models, Tokenizer, parameters};
use models::Model;
use models::hub::Fields;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Tensors by name: sizes and values.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Random values for every tensor of a model's file.
fn tensors(model: &Model, seed: u32) -> Tensors {
    let mut random = Random(seed * 1000);
    let mut out = Tensors::new();
    for (name, ty) in parameters(model).unwrap() {
        let (layers, sizes) = match ir::names::loops(&name) {
            0 => (1, ty.sizes()),
            _ => (ty.sizes()[0], ty.sizes()[1..].to_vec()),
        };
        for layer in 0..layers {
            let values = (0..sizes.iter().product()).map(|_| random.unit() as f32).collect();
            out.insert(ir::names::iteration(&name, layer), (sizes.clone(), values));
        }
    }
    out
}

/// A safetensors file's content, by the crate of that name.
fn file(tensors: &Tensors) -> Vec<u8> {
    let bytes: BTreeMap<&String, Vec<u8>> = tensors.iter().map(|(n, t)| (n, t.1.iter().flat_map(|x| x.to_le_bytes()).collect())).collect();
    let views = tensors.iter().map(|(name, t)| (name, TensorView::new(Dtype::F32, t.0.clone(), &bytes[name]).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

/// The keys of a model's `config.json`.
fn config(model: &Model) -> Fields {
    model.to_hub().unwrap().into_fields()
}

fn write(path: &Path, fields: &Fields) {
    std::fs::write(path, serde_json::to_string(fields).unwrap()).unwrap();
}

/// A directory of a model with these tensors.
fn directory(d: &Folder, name: &str, model: &Model, tensors: &Tensors) -> PathBuf {
    let path = d.0.join(name);
    std::fs::create_dir_all(&path).unwrap();
    write(&path.join("config.json"), &config(model));
    std::fs::write(path.join("model.safetensors"), file(tensors)).unwrap();
    path
}

fn open(path: &Path) -> llm::Result<Directory> {
    Directory::open(path, &Models::default())
}

#[track_caller]
fn refused<T>(made: llm::Result<T>, words: &[&str]) {
    let error = made.err().expect("it is refused").to_string();
    for word in words {
        assert!(error.contains(word), "'{word}' is not in: {error}");
    }
}

fn content(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every file of a folder, by name.
fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let each = std::fs::read_dir(path).unwrap().map(|e| e.unwrap());
    each.map(|e| (e.file_name().into_string().unwrap(), content(&e.path()))).collect()
}

/// Two folders have the same files.
#[track_caller]
fn same_files(a: &Path, b: &Path) {
    let (have, want) = (files(a), files(b));
    assert!(have.keys().eq(want.keys()), "{:?} and {:?}", have.keys(), want.keys());
    for (name, content) in &have {
        assert!(*content == want[name], "{name} is another in {} than in {}", a.display(), b.display());
    }
}

fn small() -> [Model; 3] {
    [gpt(), llama(false), llama(true)]
}

/// The tensors of a file, by the crate of its name.
fn read(path: &Path) -> Tensors {
    let content = content(path);
    let file = SafeTensors::deserialize(&content).unwrap();
    let values = |t: &TensorView| t.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    file.tensors().into_iter().map(|(name, t)| (name, (t.shape().to_vec(), values(&t)))).collect()
}

#[test]
fn there_and_back() {
    for (number, model) in small().iter().enumerate() {
        let d = Folder::new(&format!("hub-there-{number}"));
        let tensors = tensors(model, 7);
        let from = directory(&d, "from", model, &tensors);
        let tokenizer = Tokenizer::Char { characters: "abcdefghijk".chars().collect() };
        let imported = import(&open(&from).unwrap(), Some(&tokenizer), &d.0.join("run")).unwrap();
        assert_eq!(imported.parameters, tensors.values().map(|t| t.1.len()).sum::<usize>());
        assert!(imported.notices.is_empty());
        let run = open(&d.0.join("run")).unwrap();
        assert!(run.is_run() && run.model() == model, "{:?}", run.model());
        assert_eq!(run.tokenizer().unwrap().unwrap(), tokenizer);
        assert_eq!(read(&d.0.join("run/checkpoint-0.safetensors")), tensors);
        assert_eq!(export(&run, &d.0.join("back"), &Export::default()).unwrap(), 1);
        assert_eq!(read(&d.0.join("back/model.safetensors")), tensors);
        let back = open(&d.0.join("back")).unwrap();
        assert_eq!(back.model(), model);
        import(&back, None, &d.0.join("again")).unwrap();
        assert!(content(&d.0.join("run/checkpoint-0.safetensors")) == content(&d.0.join("again/checkpoint-0.safetensors")));
        export(&open(&d.0.join("again")).unwrap(), &d.0.join("twice"), &Export::default()).unwrap();
        same_files(&d.0.join("back"), &d.0.join("twice"));
    }
}

/// Files of a few bytes each say the same as one.
#[test]
fn shards() {
    let (d, model) = (Folder::new("hub-shards"), llama(false));
    let tensors = tensors(&model, 3);
    let from = open(&directory(&d, "from", &model, &tensors)).unwrap();
    let n = export(&from, &d.0.join("many"), &Export { shard: 1200, ..Export::default() }).unwrap();
    let written = files(&d.0.join("many"));
    let shards: Vec<&String> = written.keys().filter(|n| n.ends_with(".safetensors")).collect();
    assert_eq!(shards.len(), n);
    assert!(n > 4 && shards[0] == &format!("model-00001-of-{n:05}.safetensors"), "{shards:?}");
    // a file has more than was asked for only where one tensor does
    for shard in &shards {
        let held = read(&d.0.join("many").join(shard));
        assert!(held.len() == 1 || held.values().map(|t| 4 * t.1.len()).sum::<usize>() <= 1200, "{shard}");
    }
    let index: Value = serde_json::from_slice(&written["model.safetensors.index.json"]).unwrap();
    assert_eq!(index["metadata"]["total_size"], 4 * tensors.values().map(|t| t.1.len()).sum::<usize>());
    assert_eq!(index["weight_map"].as_object().unwrap().len(), tensors.len());
    for (name, path) in [("many", "run-many"), ("from", "run-from")] {
        import(&open(&d.0.join(name)).unwrap(), None, &d.0.join(path)).unwrap();
    }
    same_files(&d.0.join("run-many"), &d.0.join("run-from"));
}

/// What is wrong with an index or with what it names.
#[test]
fn crafted_indices() {
    let (d, model) = (Folder::new("hub-index"), llama(true));
    let from = open(&directory(&d, "from", &model, &tensors(&model, 3))).unwrap();
    let many = d.0.join("many");
    export(&from, &many, &Export { shard: 4000, ..Export::default() }).unwrap();
    let path = many.join("model.safetensors.index.json");
    let index: Value = serde_json::from_slice(&content(&path)).unwrap();
    let first = many.join(index["weight_map"]["model.norm.weight"].as_str().unwrap());
    let tensors = || open(&many).unwrap().tensors();
    assert!(tensors().is_ok());
    let with = |change: &dyn Fn(&mut Value), words: &[&str]| {
        let mut changed = index.clone();
        change(&mut changed);
        std::fs::write(&path, changed.to_string()).unwrap();
        refused(tensors(), &[&["many"][..], words].concat());
    };
    for escape in ["../from/model.safetensors", "/etc/passwd", "..", "a\\b.safetensors", "a\0.safetensors"] {
        with(&|i| i["weight_map"]["model.norm.weight"] = escape.into(), &["index.json", "expected one beside it"]);
    }
    with(&|i| i["weight_map"]["model.norm.weight"] = "model-9.safetensors".into(), &["model-9.safetensors", "missing", "download"]);
    with(
        &|i| i["weight_map"]["model.nrom.weight"] = first.file_name().unwrap().to_str().unwrap().into(),
        &["model.nrom.weight", "is not", "did you mean model.norm.weight"],
    );
    let other = |i: &mut Value| {
        let map = i["weight_map"].as_object_mut().unwrap();
        let elsewhere = map.values().find(|v| **v != map["model.norm.weight"]).unwrap().clone();
        map["model.norm.weight"] = elsewhere;
    };
    with(&other, &["it says that tensor model.norm.weight is in"]);
    with(&|i| i["weight_map"] = json!([1, 2]), &["index of the tensors cannot be read"]);
    with(&|i| *i = json!({}), &["weight_map"]);
    with(&|i| i["weight_map"]["model.norm.weight"] = 3.into(), &["index of the tensors cannot be read"]);
    std::fs::write(&path, index.to_string()).unwrap();
    // a tensor that two files have
    std::fs::copy(&first, many.join("model-0.safetensors")).unwrap();
    with(&|i| i["weight_map"]["x"] = "model-0.safetensors".into(), &["is there twice"]);
    std::fs::remove_file(many.join("model-0.safetensors")).unwrap();
    std::fs::write(&path, index.to_string()).unwrap();
    std::fs::remove_file(&first).unwrap();
    refused(tensors(), &[first.to_str().unwrap(), "missing"]);
    std::fs::remove_file(&path).unwrap();
    refused(tensors(), &["no weights", "model.safetensors.index.json"]);
    std::fs::write(many.join("pytorch_model.bin"), "").unwrap();
    refused(tensors(), &["pytorch_model.bin is not read", "save_pretrained"]);
}

/// Files of 16 bits: rounded to nearest, ties to even, and widened again.
#[test]
fn sixteen_bits() {
    let (d, model) = (Folder::new("hub-16"), gpt());
    let tensors = tensors(&model, 5);
    let from = open(&directory(&d, "from", &model, &tensors)).unwrap();
    let cases: [(FileType, Dtype, fn(f32) -> f32); 2] =
        [(FileType::Bf16, Dtype::BF16, |x| half::bf16::from_f32(x).to_f32()), (FileType::F16, Dtype::F16, |x| half::f16::from_f32(x).to_f32())];
    for (dtype, stored, round) in cases {
        let (out, run) = (d.0.join(dtype.to_string()), d.0.join(format!("run-{dtype}")));
        export(&from, &out, &Export { dtype, ..Export::default() }).unwrap();
        let bytes = content(&out.join("model.safetensors"));
        assert!(SafeTensors::deserialize(&bytes).unwrap().tensors().iter().all(|t| t.1.dtype() == stored));
        let config: Value = serde_json::from_slice(&content(&out.join("config.json"))).unwrap();
        assert_eq!(config["torch_dtype"], if dtype == FileType::F16 { "float16" } else { "bfloat16" });
        import(&open(&out).unwrap(), None, &run).unwrap();
        let rounded: Tensors = tensors.iter().map(|(n, t)| (n.clone(), (t.0.clone(), t.1.iter().map(|x| round(*x)).collect()))).collect();
        assert_eq!(read(&run.join("checkpoint-0.safetensors")), rounded);
    }
}

/// Names that lack what the model inside is called by, tensors that are no weights, and those that nobody knows.
#[test]
fn names_of_tensors() {
    let (d, model) = (Folder::new("hub-names"), gpt());
    let whole = tensors(&model, 1);
    let short: Tensors = whole.iter().map(|(n, t)| (n.strip_prefix("transformer.").unwrap().to_string(), t.clone())).collect();
    let mut with = short.clone();
    with.insert("h.0.attn.bias".into(), (vec![1, 1, 9, 9], vec![0.0; 81]));
    with.insert("lm_head.weight".into(), short["wte.weight"].clone());
    let taken = import(&open(&directory(&d, "with", &model, &with)).unwrap(), None, &d.0.join("run")).unwrap();
    assert_eq!(taken.notices.len(), 2, "{:?}", taken.notices);
    assert!(taken.notices[0].contains("h.0.attn.bias") && taken.notices[1].contains("lm_head.weight is not read: it is a copy"));
    assert_eq!(read(&d.0.join("run/checkpoint-0.safetensors")), whole);
    let to = d.0.join("refused");
    let import = |name: &str, change: &dyn Fn(&mut Tensors), words: &[&str]| {
        let mut tensors = short.clone();
        change(&mut tensors);
        refused(import(&open(&directory(&d, name, &model, &tensors)).unwrap(), None, &to), &[&["model.safetensors"][..], words].concat());
        assert!(!to.exists(), "nothing is left of an import that failed");
    };
    // another head is no copy
    import("head", &|t| drop(t.insert("lm_head.weight".into(), (vec![11, 6], vec![0.5; 66]))), &["lm_head.weight is not used"]);
    import("layer", &|t| drop(t.insert("h.2.ln_1.weight".into(), (vec![6], vec![0.5; 6]))), &["h.2.ln_1.weight is not used", "as many layers"]);
    import("missing", &|t| drop(t.remove("h.1.ln_1.weight")), &["is missing", "transformer.h.1.ln_1.weight"]);
    import("shape", &|t| drop(t.insert("h.1.ln_1.weight".into(), (vec![3, 2], vec![0.5; 6]))), &["h.1.ln_1.weight has shape [3, 2]", "expected [6]"]);
    let wide = Model::from(models::Gpt { n_embd: 8, ..models::Gpt::default() });
    write(&d.0.join("with/config.json"), &Fields::from_iter(config(&model).into_iter().chain([("n_embd".into(), json!(8))])));
    assert_eq!(wide.settings()["n_embd"].as_integer(), Some(8));
    refused(llm::hub::import(&open(&d.0.join("with")).unwrap(), None, &to), &["has shape [11, 6]", "expected [11, 8]"]);
}

/// A file's content with another header.
fn headed(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Files of tensors that were cut or crafted.
#[test]
fn crafted_tensors() {
    let (d, model) = (Folder::new("hub-crafted"), gpt());
    let path = directory(&d, "from", &model, &tensors(&model, 2));
    let file = path.join("model.safetensors");
    let whole = content(&file);
    let with = |content: &[u8], words: &[&str]| {
        std::fs::write(&file, content).unwrap();
        refused(open(&path).unwrap().tensors(), &[&["model.safetensors"][..], words].concat());
    };
    let damaged = "this is not a safetensors file, or it is damaged";
    for cut in [0, 7] {
        with(&whole[..cut], &[damaged, &format!("it has {cut} bytes")]);
    }
    with(&whole[..8], &[damaged, "its header would have"]);
    with(&whole[..100], &[damaged, "its header would have"]);
    with(&whole[..whole.len() - 1], &[damaged, "its tensors take"]);
    with(&[&whole[..], &[0]].concat(), &[damaged, "its tensors take"]);
    for huge in [u64::MAX, u64::MAX - 7, 1 << 40, whole.len() as u64 - 7, 100_000_001] {
        with(&[&huge.to_le_bytes()[..], &whole[8..]].concat(), &[damaged, &format!("its header would have {huge} bytes")]);
    }
    let tensor = |offsets: &str, shape: &str| format!(r#""a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#);
    for (header, words) in [
        ("", "its header cannot be read"),
        ("[]", "its header cannot be read"),
        ("\u{7f}", "its header cannot be read"),
        (&format!("{{{}}}", tensor("[0,16]", "[1]"))[..], "its header cannot be read"),
        (&format!("{{{}}}", tensor("[0,4]", "[4]")), "its header cannot be read"),
        (&format!("{{{}}}", tensor("[4,0]", "[1]")), "its header cannot be read"),
        (&format!("{{{}}}", tensor("[0,18446744073709551615]", "[4611686018427387904]")), "its header cannot be read"),
        (&format!("{{{}}}", tensor("[0,4]", "[18446744073709551615,18446744073709551615]")), "its header cannot be read"),
        (&format!("{{{}}}", tensor("[0,-4]", "[1]")), "its header cannot be read"),
        // beyond the file's end, from the beginning on, over another, and with something left out between
        (&format!("{{{}}}", tensor("[0,32]", "[8]")), "its tensors take 32 bytes, and there are 16"),
        (&format!("{{{},{}}}", tensor("[0,8]", "[2]"), tensor("[4,16]", "[3]").replace("\"a\"", "\"b\"")), "its header cannot be read"),
        (&format!("{{{},{}}}", tensor("[0,4]", "[1]"), tensor("[8,16]", "[2]").replace("\"a\"", "\"b\"")), "its header cannot be read"),
        (r#"{"a":{"dtype":"F99","shape":[4],"data_offsets":[0,16]}}"#, "its header cannot be read"),
        (r#"{"a":{"dtype":"F32"}}"#, "its header cannot be read"),
    ] {
        with(&headed(header, &[0; 16]), &[damaged, words]);
    }
    with(&headed(&"[".repeat(5000), &[]), &[damaged]);
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    refused(open(&path).unwrap().tensors(), &["it is a directory"]);
}

/// Any bytes at all: an error or a file, and no panic.
#[test]
fn damaged_tensors() {
    let (d, model) = (Folder::new("hub-damaged"), gpt());
    let tensors = tensors(&model, 2);
    let path = directory(&d, "from", &model, &tensors);
    let whole = file(&tensors);
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut random = Random(99);
    for case in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random.below(3) {
            bytes[random.below(header)] = random.bits() as u8;
        }
        std::fs::write(path.join("model.safetensors"), &bytes).unwrap();
        let to = d.0.join(format!("run-{case}"));
        if import(&open(&path).unwrap(), None, &to).is_err() {
            assert!(!to.exists());
        }
    }
    // no temporary folder is left
    assert!(files_of(&d.0).iter().all(|n| !n.starts_with('.')), "{:?}", files_of(&d.0));
}

fn files_of(path: &Path) -> Vec<String> {
    std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// The model of a `config.json` with some keys changed.
fn changed(model: &Model, keys: Value) -> llm::Result<Model> {
    let fields = config(model).into_iter().chain(keys.as_object().unwrap().clone());
    Models::default().from_hub(&Fields::from_iter(fields), None)
}

/// What changes the arithmetic is refused by its name, and what does not is read over.
#[test]
fn settings() {
    let (g, l) = (gpt(), llama(false));
    let neutral = json!({
        "torch_dtype": "bfloat16", "dtype": "float16", "use_cache": false, "initializer_range": 0.5, "transformers_version": "4.1", "bos_token_id": 1,
        "eos_token_id": [1, 2], "_name_or_path": "x", "is_decoder": false, "pruned_heads": {}, "quantization_config": null, "auto_map": {},
    });
    for model in [&g, &l] {
        assert_eq!(changed(model, neutral.clone()).unwrap().settings(), model.settings());
        for (key, value) in [
            ("quantization_config", json!({"bits": 4})),
            ("is_decoder", json!(true)),
            ("is_encoder_decoder", json!(true)),
            ("some_new_trick", json!(0.5)),
            ("pruned_heads", json!({"0": [1]})),
            ("auto_map", json!({"AutoModel": "own.Model"})),
        ] {
            refused(changed(model, json!({key: value})), &[key, "may change the arithmetic", "remove it"]);
        }
    }
    for (key, value, want) in [
        ("activation_function", json!("quick_gelu"), "\"gelu_new\""),
        ("scale_attn_by_inverse_layer_idx", json!(true), "false"),
        ("scale_attn_weights", json!(false), "true"),
        ("add_cross_attention", json!(true), "arithmetic"),
        ("vocab_size", json!(-1), "a whole number"),
        ("vocab_size", json!(1.5), "a whole number"),
        ("vocab_size", json!("many"), "a whole number"),
        ("resid_pdrop", json!("0.1"), "a number"),
        ("vocab_size", json!(0), "at least 1"),
        ("n_embd", json!(7), "does not divide"),
        ("n_layer", json!(u64::MAX), "a whole number"),
        ("n_layer", json!(i64::MAX), "at most"),
    ] {
        let keys = if key == "n_embd" { json!({"n_embd": 7, "n_inner": 28}) } else { json!({ key: value }) };
        refused(changed(&g, keys), &[key, want]);
    }
    refused(changed(&g, json!({"resid_pdrop": 1.0})), &["dropout is 1", "below 1"]);
    for (keys, words) in [
        (json!({"hidden_act": "gelu"}), &["hidden_act", "\"gelu\"", "\"silu\""][..]),
        (json!({"rms_norm_eps": "small"}), &["rms_norm_eps", "a number"]),
        (json!({"tie_word_embeddings": 1}), &["tie_word_embeddings", "true or false"]),
        (json!({"rope_parameters": {"rope_type": "magic", "rope_theta": 1e4}}), &["rope_parameters.rope_type", "\"magic\""]),
        (json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "twist": 2}}), &["rope_parameters.twist is 2"]),
        (json!({"rope_parameters": [1]}), &["rope_parameters", "an object"]),
        (json!({"rope_scaling": {"type": "magic", "factor": 2.0}}), &["rope_scaling", "magic"]),
        (json!({"num_key_value_heads": 3}), &["num_key_value_heads is 3 and does not divide"]),
    ] {
        refused(changed(&l, keys), words);
    }
    // older files have θ beside, and leave out what follows from the rest
    let old = changed(&l, json!({"rope_parameters": null, "rope_theta": 123.0, "head_dim": null})).unwrap();
    assert_eq!(old.settings()["rope_theta"].as_float(), Some(123.0));
    assert_eq!(changed(&l, json!({"rope_parameters": null, "rope_theta": null})).unwrap().settings()["rope_theta"].as_float(), Some(10000.0));
    assert_eq!(changed(&l, json!({"num_key_value_heads": null})).unwrap().settings()["num_key_value_heads"].as_integer(), Some(4));
}

/// A `config.json` that is none.
#[test]
fn crafted_configs() {
    let (d, models) = (Folder::new("hub-configs"), Models::default());
    let path = d.write("config.json", "");
    let with = |text: &str, words: &[&str]| {
        std::fs::write(&path, text).unwrap();
        refused(Directory::open(&d.0, &models), &[&["config.json", "settings cannot be read"][..], words].concat());
    };
    with("", &["EOF"]);
    with("[]", &["expected a map"]);
    with("{}", &["architectures is missing"]);
    with(r#"{"architectures": "GPT2LMHeadModel"}"#, &["architectures is missing"]);
    with(r#"{"architectures": []}"#, &["architectures is missing"]);
    with(r#"{"architectures": ["GPT2LMHeadModle"]}"#, &["there is no model GPT2LMHeadModle", "did you mean GPT2LMHeadModel"]);
    with(r#"{"architectures": ["GPT2ForTokenClassification"]}"#, &["there is no model", "LlamaForCausalLM"]);
    with(&format!("{{\"a\": {}", "[".repeat(100_000)), &["recursion limit"]);
    std::fs::write(&path, b"\xff").unwrap();
    refused(Directory::open(&d.0, &models), &["config.json", "UTF-8"]);
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    refused(Directory::open(&d.0, &models), &["longer than"]);
    std::fs::remove_file(&path).unwrap();
    refused(Directory::open(&d.0, &models), &["no model in this folder", "config.json", "config.toml"]);
    refused(Directory::open(&d.0.join("nowhere"), &models), &["nowhere", "no model in this folder"]);
}

/// How a model is to write: both files, and what is none.
#[test]
fn generation() {
    let (d, model) = (Folder::new("hub-generation"), llama(true));
    let path = directory(&d, "from", &model, &tensors(&model, 1));
    let (own, all) = (path.join("generation_config.json"), path.join("config.json"));
    let read = || open(&path).unwrap().generation();
    assert_eq!(read().unwrap(), Generation::default());
    assert_eq!(read().unwrap().sampling(), None);
    write(&all, &Fields::from_iter(config(&model).into_iter().chain([("eos_token_id".into(), json!([2, 5])), ("bos_token_id".into(), json!(1))])));
    assert_eq!(read().unwrap(), Generation { begin: Some(1), end: vec![2, 5], ..Generation::default() });
    std::fs::write(&own, json!({"eos_token_id": 3, "top_p": 0.5}).to_string()).unwrap();
    let greedy = read().unwrap();
    assert_eq!((greedy.begin, &greedy.end[..], greedy.drawn), (Some(1), &[3][..], Some(false)));
    assert_eq!(greedy.sampling().unwrap().temperature, 0.0);
    std::fs::write(&own, json!({"do_sample": true, "temperature": 0.25, "top_p": 0.5, "repetition_penalty": 1.25, "pad_token_id": 0}).to_string())
        .unwrap();
    let drawn = read().unwrap().sampling().unwrap();
    assert_eq!((drawn.temperature, drawn.top_k, drawn.top_p, drawn.min_p, drawn.repetition_penalty), (0.25, 50, 0.5, 0.0, 1.25));
    // it goes through a run, and out again
    import(&open(&path).unwrap(), None, &d.0.join("run")).unwrap();
    let run = open(&d.0.join("run")).unwrap();
    assert_eq!(run.generation().unwrap(), read().unwrap());
    export(&run, &d.0.join("back"), &Export::default()).unwrap();
    assert_eq!(open(&d.0.join("back")).unwrap().generation().unwrap(), read().unwrap());
    for (text, words) in [
        (r#"{"eos_token_id": -1}"#, "eos_token_id is -1"),
        (r#"{"eos_token_id": [1, "a"]}"#, "eos_token_id is"),
        (r#"{"eos_token_id": 4294967296}"#, "eos_token_id is 4294967296"),
        (r#"{"temperature": "hot"}"#, "temperature is \"hot\""),
        (r#"{"do_sample": 1}"#, "do_sample is 1"),
        ("[1]", "cannot be read"),
    ] {
        std::fs::write(&own, text).unwrap();
        refused(read(), &["generation_config.json", words]);
    }
}

/// Every tokenizer has a form that those libraries read, and one of more tokens than the model has is refused.
#[test]
fn tokenizers() {
    let text = "to be, or not to be: ä ∀ \n\n \"quoted\\\" 🙂";
    let all: Vec<char> = std::collections::BTreeSet::from_iter(text.chars()).into_iter().collect();
    for tokenizer in [Tokenizer::Byte, Tokenizer::Char { characters: all }, Tokenizer::of(llm::Kind::Bpe, &text.repeat(9)).unwrap()] {
        let theirs = Tokenizer::parse(&tokenizer.to_hub()).unwrap();
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!((theirs.encode(text).unwrap(), theirs.size()), (ids.clone(), tokenizer.size()));
        assert_eq!(theirs.decode(&ids), text);
    }
    let (d, model) = (Folder::new("hub-tokenizers"), gpt());
    let from = open(&directory(&d, "from", &model, &tensors(&model, 1))).unwrap();
    refused(import(&from, Some(&Tokenizer::Byte), &d.0.join("run")), &["the tokenizer has 256 tokens, and the model 11"]);
    assert!(from.tokenizer().unwrap().is_none());
}

/// What a tokenizer's file puts before and after a text.
#[test]
fn templates() {
    let file = |processor: Value| {
        let token = |id: u32, content: &str| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
        let added = json!([token(2, "<s>"), token(3, "</s>")]);
        let model = json!({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []});
        Tokenizer::parse(&json!({"added_tokens": added, "post_processor": processor, "model": model}).to_string()).unwrap().template()
    };
    let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let ids = json!({"<s>": {"id": "<s>", "ids": [2], "tokens": ["<s>"]}, "</s>": {"id": "</s>", "ids": [3, 3], "tokens": ["</s>", "</s>"]}});
    let template = |single: Value| json!({"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": ids});
    let both = file(template(json!([special("<s>"), text, special("</s>")])));
    assert_eq!((both.before, both.after), (vec![2], vec![3, 3]));
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let inside = file(json!({"type": "Sequence", "processors": [bytes, template(json!([special("<s>"), text]))]}));
    assert_eq!((inside.before, inside.after), (vec![2], vec![]));
    let roberta = file(json!({"type": "RobertaProcessing", "sep": ["</s>", 3], "cls": ["<s>", 2], "trim_offsets": true, "add_prefix_space": false}));
    assert_eq!((roberta.before, roberta.after), (vec![2], vec![3]));
    for none in [Value::Null, bytes] {
        assert_eq!(file(none), llm::text::Template::default());
    }
}

/// llm.c's and llama2.c's files against the same tensors in a directory.
#[test]
fn files_without_names() {
    let d = Folder::new("hub-flat");
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let header = |words: &[i32], length: usize| {
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes.resize(length, 0);
        bytes
    };
    let transposed =
        |(sizes, x): &(Vec<usize>, Vec<f32>)| (0..sizes[1]).flat_map(|c| (0..sizes[0]).map(move |r| x[r * sizes[1] + c])).collect::<Vec<f32>>();
    // GPT-2: 2 layers, width 6, 9 positions, 11 tokens that are filled up to 128
    let model = gpt();
    let t = tensors(&model, 4);
    let from = directory(&d, "gpt2", &model, &t);
    let of = |name: &str| (0..2).flat_map(|i| t[&format!("transformer.h.{i}.{name}")].1.clone()).collect::<Vec<f32>>();
    let turned = |name: &str| (0..2).flat_map(|i| transposed(&t[&format!("transformer.h.{i}.{name}")])).collect::<Vec<f32>>();
    let order = |padding: usize| {
        let mut out = t["transformer.wte.weight"].1.clone();
        out.extend(vec![0.0; padding * 6]);
        out.extend(&t["transformer.wpe.weight"].1);
        for part in [
            of("ln_1.weight"),
            of("ln_1.bias"),
            turned("attn.c_attn.weight"),
            of("attn.c_attn.bias"),
            turned("attn.c_proj.weight"),
            of("attn.c_proj.bias"),
        ] {
            out.extend(part);
        }
        for part in
            [of("ln_2.weight"), of("ln_2.bias"), turned("mlp.c_fc.weight"), of("mlp.c_fc.bias"), turned("mlp.c_proj.weight"), of("mlp.c_proj.bias")]
        {
            out.extend(part);
        }
        out.extend(&t["transformer.ln_f.weight"].1);
        out.extend(&t["transformer.ln_f.bias"].1);
        out
    };
    import(&open(&from).unwrap(), None, &d.0.join("gpt2-run")).unwrap();
    let same = |name: &str, content: &[u8], as_run: &str| {
        let path = d.write(&format!("{name}.bin"), content);
        Flat::open(Path::new(&path)).unwrap().import(None, &d.0.join(name)).unwrap();
        same_files(&d.0.join(name), &d.0.join(as_run));
    };
    let old = [header(&[20_240_326, 1, 9, 11, 2, 2, 6], 1024), bytes(&order(0))].concat();
    let padded = [header(&[20_240_326, 3, 9, 11, 2, 2, 6, 128], 1024), bytes(&order(117))].concat();
    same("llmc-1", &old, "gpt2-run");
    same("llmc-3", &padded, "gpt2-run");
    let halves: Vec<u8> = order(117).iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
    export(&open(&from).unwrap(), &d.0.join("gpt2-16"), &Export { dtype: FileType::Bf16, ..Export::default() }).unwrap();
    import(&open(&d.0.join("gpt2-16")).unwrap(), None, &d.0.join("gpt2-16-run")).unwrap();
    let path = d.write("llmc-5.bin", [header(&[20_240_326, 5, 9, 11, 2, 2, 6, 128], 1024), halves].concat());
    Flat::open(Path::new(&path)).unwrap().import(None, &d.0.join("llmc-5")).unwrap();
    same_files(&d.0.join("llmc-5"), &d.0.join("gpt2-16-run"));
    // Llama: 2 layers, width 16, 4 heads, 2 for keys and values, inner width 10, 13 tokens, 16 positions
    for tied in [true, false] {
        let model = llama(tied);
        let t = tensors(&model, 4);
        let run = format!("llama-run-{tied}");
        import(&open(&directory(&d, &format!("llama-{tied}"), &model, &t)).unwrap(), None, &d.0.join(&run)).unwrap();
        let of = |name: &str| (0..2).flat_map(|i| t[&format!("model.layers.{i}.{name}.weight")].1.clone()).collect::<Vec<f32>>();
        // Meta's pairs are neighbours: row 2i of a head is row i here, and 2i + 1 is i + 2
        let pairs = |name: &str| {
            let neighbours = |x: &[f32]| -> Vec<f32> {
                x.chunks(4 * 16).flat_map(|head| [0, 2, 1, 3].into_iter().flat_map(|r| head[r * 16..][..16].to_vec())).collect()
            };
            (0..2).flat_map(|i| neighbours(&t[&format!("model.layers.{i}.{name}.weight")].1)).collect::<Vec<f32>>()
        };
        let attention = [pairs("self_attn.q_proj"), pairs("self_attn.k_proj"), of("self_attn.v_proj"), of("self_attn.o_proj")].concat();
        let inner = [of("mlp.gate_proj"), of("mlp.down_proj"), of("mlp.up_proj")].concat();
        let (embedding, norm) = (&t["model.embed_tokens.weight"].1, &t["model.norm.weight"].1);
        let head = if tied { vec![] } else { t["lm_head.weight"].1.clone() };
        let (before, between) = (of("input_layernorm"), of("post_attention_layernorm"));
        let first = [embedding, &before, &attention, &between, &inner, norm, &vec![0.5; 2 * 16 * 2], &head].map(|x| bytes(x)).concat();
        let second = [&before, &between, norm, embedding, &attention, &inner, &head].map(|x| bytes(x)).concat();
        let vocabulary = if tied { 13 } else { -13 };
        same(&format!("llama2c-0-{tied}"), &[header(&[16, 10, 2, 4, 2, vocabulary, 16], 28), first.clone()].concat(), &run);
        same(&format!("llama2c-1-{tied}"), &[header(&[0x616b_3432, 1, 16, 10, 2, 4, 2, 13, 16, i32::from(tied)], 256), second].concat(), &run);
        for (name, content, words) in [
            ("cut", [header(&[16, 10, 2, 4, 2, vocabulary, 16], 28), first[1..].to_vec()].concat(), "takes"),
            ("short", vec![1; 27], "shorter than any header"),
            ("noise", vec![0x7f; 4000], "neither llm.c's nor llama2.c's"),
            ("zeros", vec![0; 4000], "neither llm.c's nor llama2.c's"),
            ("quantised", header(&[0x616b_3432, 2, 16, 10, 2, 4, 2, 13, 16], 256), "version 2"),
            ("version", header(&[20_240_326, 4, 9, 11, 2, 2, 6, 128], 1024), "version 4"),
            ("padding", header(&[20_240_326, 3, 9, 11, 2, 2, 6, 10], 1024), "padded_vocab_size = 10"),
            ("negative", header(&[20_240_326, 3, -9, 11, 2, 2, 6, 128], 1024), "max_seq_len = -9"),
            ("heads", header(&[20_240_326, 3, 9, 11, 2, 4, 6, 128], 1024), "does not divide"),
            ("huge", header(&[20_240_326, 3, 1 << 24, 1 << 24, 4096, 1, 1 << 24, 1 << 24], 1024), "takes"),
            ("smallest", header(&[i32::MIN; 7], 28), "no vocabulary"),
        ] {
            let path = d.write(&format!("{name}.bin"), content);
            refused(Flat::open(Path::new(&path)), &[&path, words]);
        }
    }
}

/// A run directory or an export is there whole or not at all, and never over something.
#[test]
fn whole_or_not_at_all() {
    let (d, model) = (Folder::new("hub-whole"), gpt());
    let from = open(&directory(&d, "from", &model, &tensors(&model, 1))).unwrap();
    let to = d.0.join("there");
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("mine"), "x").unwrap();
    refused(export(&from, &to, &Export::default()), &["there", "something in it already"]);
    refused(import(&from, None, &to), &["there", "something in it already"]);
    refused(export(&from, &to.join("mine"), &Export::default()), &["mine"]);
    assert_eq!(files_of(&to), ["mine"]);
    std::fs::remove_file(to.join("mine")).unwrap();
    export(&from, &to, &Export::default()).unwrap();
    assert_eq!(open(&to).unwrap().model(), &model, "an empty folder is filled");
    export(&from, &d.0.join("a/b/c"), &Export::default()).unwrap();
    assert!(d.0.join("a/b/c/model.safetensors").exists());
}

/// A full disk, which a limit on the size of files stands for.
#[test]
#[cfg(unix)]
fn full_disk() {
    let (d, model) = (Folder::new("hub-full"), llama(false));
    let from = directory(&d, "from", &model, &tensors(&model, 1));
    for command in ["export", "import"] {
        let out = d.0.join("out");
        let line = match command {
            "export" => format!("'{}' export '{}' '{}'", env!("CARGO_BIN_EXE_eggcorn"), from.display(), out.display()),
            _ => format!("'{}' import '{}' --out '{}'", env!("CARGO_BIN_EXE_eggcorn"), from.display(), out.display()),
        };
        // blocks of 512 bytes; a write beyond is an error where its signal is ignored
        let done = std::process::Command::new("sh").args(["-c", &format!("ulimit -f 8; trap '' XFSZ; {line}")]).output().unwrap();
        let error = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{error}");
        assert!(error.contains(".safetensors: the file cannot be written"), "{error}");
        assert!(!out.exists());
        assert_eq!(files_of(&d.0), ["from"], "nothing is left behind");
    }
}

/// What a type of elements is in memory is checked before any of it is read.
#[test]
fn other_elements() {
    let (d, model) = (Folder::new("hub-elements"), gpt());
    let all = tensors(&model, 1);
    let path = directory(&d, "from", &model, &all);
    for (dtype, bytes) in [(Dtype::F64, 8), (Dtype::I64, 8), (Dtype::I8, 1), (Dtype::F8_E4M3, 1)] {
        let content: BTreeMap<&String, Vec<u8>> = all.iter().map(|(n, t)| (n, vec![0; t.1.len() * bytes])).collect();
        let views = all.iter().map(|(name, t)| (name, TensorView::new(dtype, t.0.clone(), &content[name]).unwrap()));
        std::fs::write(path.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
        refused(import(&open(&path).unwrap(), None, &d.0.join("run")), &[&format!("is {dtype:?}"), "expected F32, BF16 or F16", "convert"]);
    }
    let read = open(&path).unwrap().tensors().unwrap();
    assert!(read.check("transformer.wte.weight", &Type::f32([11usize, 6])).is_err());
}

/// A directory is a model for every command, and a run for those that go on from one.
#[test]
#[cfg(feature = "llvm")]
fn commands() {
    use crate::cli::{fails, works};
    let (d, model) = (Folder::new("hub-commands"), gpt());
    let from = directory(&d, "from", &model, &tensors(&model, 8));
    let (from, run, text) = (from.to_str().unwrap(), d.path("run"), d.write("text.txt", "abcdefghijkkgiedba".repeat(40)));
    let greedy = |path: &str| works(&["generate", path, "--prompt", "abc", "--max-tokens", "6", "--temperature", "0"]);
    fails(&["generate", from], &["there is no tokenizer", "--tokenizer"]);
    let characters = Tokenizer::Char { characters: "abcdefghijk".chars().collect() };
    let file = d.write("mine.json", characters.to_hub());
    std::fs::write(Path::new(from).join("tokenizer.json"), characters.to_hub()).unwrap();
    let said = greedy(from);
    assert_eq!(said.chars().count(), 10, "{said}");
    works(&["import", from, "--out", &run]);
    assert_eq!(greedy(&run), said);
    assert_eq!(works(&["generate", from, "--prompt", "abc", "--max-tokens", "6", "--temperature", "0", "--tokenizer", &file]), said);
    fails(&["import", from, "--out", &run], &["something in it already"]);
    // what the directory says of drawing counts where no flag does, and a token that ends a text is no part of it
    let fifth = said.chars().nth(4).unwrap();
    let end = "abcdefghijk".find(fifth).unwrap();
    let own = Path::new(from).join("generation_config.json");
    std::fs::write(&own, json!({"eos_token_id": [end]}).to_string()).unwrap();
    let until: String = said.chars().take(3 + said.chars().skip(3).position(|c| c == fifth).unwrap()).collect();
    for flags in [&[][..], &["--temperature", "0"], &["--top-k", "1"], &["--beams", "1"]] {
        let text = works(&[&["generate", from, "--prompt", "abc", "--max-tokens", "6"], flags].concat());
        assert_eq!(text.trim_end(), until, "{flags:?}");
    }
    std::fs::write(&own, json!({"do_sample": true, "temperature": 1e-6, "bos_token_id": 0}).to_string()).unwrap();
    let prompted = works(&["generate", from, "--prompt", "abc", "--max-tokens", "6"]);
    assert_eq!(prompted, said);
    let unprompted = works(&["generate", from, "--max-tokens", "6"]);
    assert_eq!(format!("a{unprompted}"), works(&["generate", from, "--prompt", "a", "--max-tokens", "6"]), "a text begins with its first token");
    programs(&d, from);
    // training from a directory is going on from what was imported of it
    let small =
        ["--set", "train.steps=2", "--set", "train.batch=2", "--set", "train.context=8", "--set", "train.eval_every=1", "--json", "--data", &text];
    let losses = |args: &[&str]| -> Vec<Value> {
        let events = works(&[&["train"], args, &small].concat());
        events.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["loss"].clone()).filter(|loss| !loss.is_null()).collect()
    };
    let (init, fresh) = (d.path("init"), d.path("fresh"));
    let begun = losses(&["--init-from", from, "--out", &init]);
    assert_eq!(begun, losses(&["--resume", "--out", &run]));
    assert!(begun.len() > 2);
    let sets = ["--set", "n_layer=2", "--set", "n_embd=6", "--set", "n_head=2", "--set", "n_positions=9", "--tokenizer", &file];
    assert_ne!(begun, losses(&[&["gpt2", "--out", &fresh], &sets[..]].concat()));
    let other = d.path("other");
    fails(&[&["train", "--init-from", from, "--out", &other, "--set", "n_layer=3"][..], &small].concat(), &["transformer.h.2.", "is missing"]);
    fails(&["train", "--init-from", &d.path("nowhere"), "--data", &text], &["nowhere", "no model in this folder"]);
    // and back: the weights are those of the last step
    works(&["export", &init, &d.path("back")]);
    assert_eq!(greedy(&init), greedy(&d.path("back")));
    fails(&["export", &init, &d.path("back")], &["something in it already"]);
    works(&["train", "--init-from", &init, "--out", &d.path("further"), "--data", &text, "--set", "train.steps=1", "--set", "train.context=8"]);
}

/// A directory where a model's name stands: the program is its, and so are the weights.
#[cfg(feature = "llvm")]
fn programs(d: &Folder, from: &str) {
    use crate::cli::{fails, works};
    let ids: Vec<u8> = (0..10i64).flat_map(|i| (i * 7 % 11).to_le_bytes()).collect();
    let view = || TensorView::new(Dtype::I64, vec![2, 5], &ids).unwrap();
    let input = d.write("in.safetensors", safetensors::serialize([("input_ids", view()), ("labels", view())], None).unwrap());
    let (a, b, weights) = (d.path("a.safetensors"), d.path("b.safetensors"), format!("{from}/model.safetensors"));
    works(&["run", from, "--input", &input, "--out", &a, "--grad", "--eval"]);
    let sets = ["--set", "n_layer=2", "--set", "n_embd=6", "--set", "n_head=2", "--set", "n_positions=9", "--set", "vocab_size=11"];
    works(&[&["run", "gpt2", "--weights", &weights, "--input", &input, "--out", &b, "--grad", "--eval"], &sets[..]].concat());
    assert!(content(Path::new(&a)) == content(Path::new(&b)));
    works(&["run", &d.path("run"), "--input", &input, "--out", &b, "--grad", "--eval"]);
    assert!(content(Path::new(&a)) == content(Path::new(&b)), "a run's directory is one, too");
    assert!(works(&["dump", from, "--seq", "4"]).contains("attention"));
    assert!(works(&["explain", from, "attention", "--seq", "4"]).contains("accepted"));
    assert!(works(&["bench", "run", from, "--seq", "4", "--steps", "1", "--json"]).contains("seconds"));
    fails(&["dump", from, "--set", "n_head=4"], &["n_head is 4", "does not divide"]);
    let empty = d.0.join("empty");
    std::fs::create_dir(&empty).unwrap();
    fails(&["dump", empty.to_str().unwrap()], &["empty", "no model in this folder"]);
}

/// Checkpoints' checksums are FNV-1a over words of eight bytes, the last filled up.
#[test]
fn checksums() {
    let bytes: Vec<u8> = (0..40u32).map(|i| (i * 37 + 11) as u8).collect();
    for n in 0..bytes.len() {
        let words = bytes[..n].chunks(8).map(|c| c.iter().rev().fold(0u64, |w, b| w << 8 | u64::from(*b)));
        let hash = words.fold(0xCBF2_9CE4_8422_2325 ^ n as u64, |h, w| (h ^ w).wrapping_mul(0x100_0000_01B3).rotate_left(23));
        assert_eq!(llm::checksum(&bytes[..n]), format!("{hash:016x}"), "{n}");
    }
}

/// Room for the tokens that are wanted, and no more: the same text in less memory.
#[test]
#[cfg(feature = "llvm")]
fn room() {
    use llm::{Generator, Sampling, initialise};
    let model = Model::from(models::Llama {
        max_position_embeddings: 700,
        vocab_size: 13,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        hidden_size: 16,
        intermediate_size: 10,
        ..models::Llama::default()
    });
    assert_eq!([1, 256, 257, 600, usize::MAX].map(|n| model.with_room(n).context()), [256, 256, 512, 700, 700]);
    let write = |model: &Model| {
        let mut generator = Generator::new(model, std::sync::Arc::new(runtime::Pool::new(1))).unwrap();
        initialise(generator.session_mut(), model, 5).unwrap();
        let text = generator.generate(&[1, 2, 3], 40, &Sampling::greedy(), &mut |_| Ok(std::ops::ControlFlow::Continue(()))).unwrap();
        (text, generator.session().bytes())
    };
    let ((less, fewer), (whole, all)) = (write(&model.with_room(43)), write(&model));
    assert_eq!(less, whole);
    assert!(fewer + 2 * 2 * 2 * 4 * 4 * (700 - 256) <= all, "{fewer} and {all} bytes");
}
