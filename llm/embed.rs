//! Texts to vectors: what an encoder makes of a text's tokens, pooled to one.

use crate::batched::Batched;
use crate::error::{Error, Result, file_error};
use crate::files::read_short;
use crate::hub::Directory;
use crate::objective::parameters;
use crate::text::{Specials, Tokenizer};
use ir::{Builder, DType, Dim, Graph};
pub use models::Pooling;
use models::heads::pooled;
use models::{Kind, Model, Reading};
use passes::Options;
use runtime::Device;
use serde_json::Value;
use std::path::Path;

/// How texts become vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedding {
    /// What becomes of the vectors of its tokens.
    pub pooling: Pooling,
    /// Whether the result has length 1.
    pub normalize: bool,
    /// The most tokens of a text that are read, those around it among them.
    pub longest: usize,
}

/// More bytes than any of these files has.
const LONGEST: u64 = 1 << 20;

impl Embedding {
    /// What a directory says, as sentence-transformers writes it; the mean where it says nothing.
    pub fn of(directory: &Directory) -> Result<Embedding> {
        let context = directory.model().context();
        let mut out = Embedding { pooling: Pooling::Mean, normalize: false, longest: context };
        for module in json(&directory.path().join("modules.json"))?.as_ref().and_then(Value::as_array).into_iter().flatten() {
            let path = directory.path().join("modules.json");
            let kind = module["type"].as_str().unwrap_or_default();
            match kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" => {}
                "Pooling" => out.pooling = pooling(directory.path(), module["path"].as_str().unwrap_or_default())?,
                "Normalize" => out.normalize = true,
                _ => {
                    return Err(file_error(
                        &path,
                        "a module is none of this program's",
                        format!("{kind:?}; expected Transformer, Pooling or Normalize"),
                    ));
                }
            }
        }
        let path = directory.path().join("sentence_bert_config.json");
        if let Some(config) = json(&path)? {
            if config["do_lower_case"] == Value::Bool(true) {
                return Err(file_error(&path, "do_lower_case is true", "expected false: a tokenizer does that itself"));
            }
            let longest = config["max_seq_length"].as_u64().and_then(|n| usize::try_from(n).ok());
            out.longest = longest.map_or(context, |n| n.clamp(1, context));
        }
        Ok(out)
    }
}

/// The one kind of pooling that a module's settings say.
fn pooling(directory: &Path, module: &str) -> Result<Pooling> {
    let inside = !module.is_empty() && !module.contains(['/', '\\', '\0']) && module != "..";
    let path = directory.join(if inside { module } else { "1_Pooling" }).join("config.json");
    let config = json(&path)?.unwrap_or_default();
    let on: Vec<&str> = config.as_object().into_iter().flatten().filter(|(_, v)| **v == Value::Bool(true)).map(|(k, _)| k.as_str()).collect();
    match on.into_iter().filter(|key| key.starts_with("pooling_mode")).collect::<Vec<_>>()[..] {
        ["pooling_mode_mean_tokens"] => Ok(Pooling::Mean),
        ["pooling_mode_cls_token"] => Ok(Pooling::First),
        ref other => {
            let why = format!("{other:?}; expected pooling_mode_mean_tokens or pooling_mode_cls_token alone, or say --pooling");
            Err(file_error(&path, "its pooling is none of this program's", why))
        }
    }
}

/// What a file of JSON says, if it is there.
fn json(path: &Path) -> Result<Option<Value>> {
    match read_short(path, LONGEST) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| file_error(path, "this is no JSON", e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(file_error(path, "the file cannot be read", e)),
    }
}

/// The ids of a text as an encoder reads it, with those around it, cut to a length. A special token's name in it is text.
pub fn ids_of(tokenizer: &Tokenizer, text: &str, longest: usize) -> Result<Vec<i32>> {
    let (around, mut ids) = (tokenizer.template(), tokenizer.encode_with(text, Specials::Text)?);
    ids.truncate(longest.saturating_sub(around.before.len() + around.after.len()));
    Ok([around.before, ids, around.after].concat())
}

/// The program: inputs `input_ids` and `attention_mask` `i32[B,T]`, of which each row begins with its tokens; result `embeddings` `f32[B,C]`.
pub fn embedding_graph(model: &Model, embedding: &Embedding) -> Result<Graph> {
    if model.kind() != Kind::Encoder {
        return Err(Error(format!("the model {} is no encoder, whose tokens see all others: texts become vectors by one that is", model.name())));
    }
    let b = Builder::default();
    let s = b.scope();
    let (rows, tokens) = (Dim::sym('B'), Dim::sym('T'));
    let ids = s.input("input_ids", DType::I32, (rows, tokens));
    let mask = s.input("attention_mask", DType::I32, (rows, tokens));
    let x = model.hidden(&s, &Reading { mask: Some(mask), ..Reading::of(ids) }).x;
    // a row of no token gives 0
    let y = pooled(&s, x, Some(mask), embedding.pooling);
    let mut y = y.reshape((rows, x.dim(-1))) * mask.cast(DType::F32).max();
    if embedding.normalize {
        y = y / (y * y).sum().sqrt().maximum(s.num(1e-12));
    }
    b.output("embeddings", y);
    Ok(model.finish(b, false)?)
}

/// An encoder with its weights, that makes vectors of texts.
pub struct Embedder(Batched);

impl Embedder {
    /// Compiles a directory's model for so many texts at a time, and reads its weights.
    pub fn open(directory: &Directory, embedding: Embedding, device: Device, options: &Options, rows: usize) -> Result<Embedder> {
        let graph = embedding_graph(directory.model(), &embedding)?;
        // heads are of the model, and of no use here
        let heads = parameters(directory.model())?;
        Batched::open(directory, graph, "embeddings", &heads, device, options, rows).map(Embedder)
    }

    /// A vector for each text, which is given by its ids: at least one, and no more than the model reads.
    pub fn embed(&mut self, texts: &[Vec<i32>]) -> Result<Vec<Vec<f32>>> {
        self.0.read(texts)
    }
}
