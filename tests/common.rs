//! What the tests share: small models, random values, comparison.

use ir::{DType, Env, Graph, ScoreFn, Type, Value};
use models::{Gpt, Llama, Model};
use std::path::PathBuf;
use std::sync::Arc;

/// A small GPT of awkward sizes.
pub fn gpt() -> Model {
    Model::from(Gpt { vocab_size: 11, n_positions: 9, n_layer: 2, n_head: 2, n_embd: 6, ..Gpt::default() })
}

/// A small Llama with grouped heads.
pub fn llama(tied: bool) -> Model {
    Model::from(Llama {
        vocab_size: 13,
        max_position_embeddings: 16,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        hidden_size: 16,
        intermediate_size: 10,
        tie_word_embeddings: tied,
        ..Llama::default()
    })
}

/// A model's program for a batch of sequences.
pub fn bound(model: &Model, batch: u64, time: u64) -> Graph {
    llm::bound(model, batch as usize, time as usize).expect("the model is well-typed, and both dims are bound")
}

/// The score as it is, or with a causal mask.
pub fn score(causal: bool) -> Arc<ScoreFn> {
    Arc::new(if causal { ScoreFn::causal() } else { ScoreFn::default() })
}

/// A counter-based source of numbers.
pub struct Random(pub u32);

impl Random {
    pub fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(1);
        ir::random_bits(7, self.0)
    }
    pub fn below(&mut self, n: usize) -> usize {
        self.bits() as usize % n.max(1)
    }
    /// Uniform in −1..1, exact in `f32`.
    pub fn unit(&mut self) -> f64 {
        f64::from(self.bits() >> 8) / f64::from(1 << 23) - 1.0
    }
    pub fn value(&mut self, ty: &Type, classes: usize) -> Value {
        let one = |r: &mut Random| match ty.dtype {
            DType::I32 | DType::U32 => r.below(classes) as f64,
            DType::Bool => r.below(2) as f64,
            DType::BF16 | DType::F16 => ty.dtype.round(r.unit()),
            DType::F32 | DType::Tuple => r.unit(),
        };
        Value::new(ty.sizes(), (0..ty.count()).map(|_| one(self)).collect())
    }
}

/// Random inputs and parameters for a program; ids are below `classes`.
pub fn environment(graph: &Graph, seed: u32, classes: usize) -> Env {
    let mut random = Random(seed.wrapping_mul(1000));
    let inputs = graph.inputs.iter().cloned().zip(graph.main().inputs());
    let params = graph.params().into_iter().map(|(n, t)| (n.to_string(), t));
    inputs
        .chain(params)
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(n, t)| {
            let v = random.value(&t, classes);
            (n, v)
        })
        .collect()
}

/// The largest difference, relative to the largest element of `want`.
pub fn difference(have: &Value, want: &Value) -> f64 {
    assert_eq!(have.dims, want.dims);
    let scale = want.data.iter().fold(1e-30f64, |m, x| m.max(x.abs()));
    let worst = have
        .data
        .iter()
        .zip(&want.data)
        .map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() })
        .fold(0.0f64, |m, d| if d > m || d.is_nan() { d } else { m });
    worst / scale
}

/// A tool that is missing: its tests are skipped, loudly, or fail where `REQUIRE` names it.
pub fn required(tool: &str, why: &str) {
    let named = std::env::var("REQUIRE").is_ok_and(|r| r.split(',').any(|t| t.trim() == tool));
    assert!(!named, "{tool} is required: {why}");
    let line = format!("SKIPPED all that needs {tool}: {why}");
    eprintln!("{line}");
    // a test's words are heard only when it fails: whoever counts what was skipped reads them here
    if let Some(path) = std::env::var_os("SKIPPED") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut f| std::io::Write::write_all(&mut f, format!("{line}\n").as_bytes()))
            .expect("the list of what was skipped can be written");
    }
}

/// Whether a case is this process's: EGGCORN_SHARD=i/n divides cases among n processes, which a machine of many cores wants.
pub fn own_share(case: u32) -> bool {
    let Ok(shard) = std::env::var("EGGCORN_SHARD") else { return true };
    let (i, n) = shard.split_once('/').expect("EGGCORN_SHARD is i/n");
    case % n.parse::<u32>().expect("EGGCORN_SHARD is i/n") == i.parse::<u32>().expect("EGGCORN_SHARD is i/n")
}

/// A folder of a test's own, which is gone with it.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new(name: &str) -> Directory {
        let dir = std::env::temp_dir().join(format!("eggcorn-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Directory(dir)
    }
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.0.join(name), content).unwrap();
        self.path(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
