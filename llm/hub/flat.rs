//! Models in one file without names: llm.c's GPT-2 (`gpt2_124M.bin`) and llama2.c's Llamas (`stories15M.bin`).
//!
//! A header of integers, then all parameters one after the other, those of all layers together, in an order that only the programs' sources
//! tell. The file's length must be what the header says to the byte, so a file of another order is hardly taken for one of these.

use super::import::{Imported, write_run};
use super::{Directory, Generation};
use crate::config::Config;
use crate::error::{Error, Result, file_error};
use crate::files::read_exact_at;
use crate::objective::parameters;
use crate::text::Tokenizer;
use crate::weights::named::widened;
use crate::weights::pieces;
use ir::{DType, Type};
use models::{Gpt, Llama, Model};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What llm.c's files begin with, and llama2.c's since their first version.
const LLM_C: i32 = 20_240_326;
const LLAMA2_C: i32 = 0x616b_3432;
/// Bytes of llm.c's header, and of llama2.c's: the old one's and the new one's.
const LLM_C_HEADER: u64 = 1024;
const OLD_HEADER: u64 = 28;
const NEW_HEADER: u64 = 256;

/// A model in one file.
pub struct Flat {
    path: PathBuf,
    file: File,
    model: Model,
    dtype: DType,
    /// Where each tensor of a file with names would be.
    places: HashMap<String, Place>,
}

/// A tensor's place.
#[derive(Clone, Copy)]
struct Place {
    /// Its first byte.
    at: u64,
    /// Its rows and columns; what has one axis has one row.
    rows: usize,
    columns: usize,
    layout: Layout,
}

/// How a tensor stands there, in terms of how it stands here.
#[derive(Clone, Copy)]
enum Layout {
    /// As here.
    Same,
    /// Its columns are rows here.
    Transposed,
    /// Rotary positions turn neighbours: of a head of so many rows the even ones are the first half here.
    Pairs(usize),
}

/// A tensor of each layer, or one of all: its name, rows, columns and layout.
type Row = (&'static str, usize, usize, Layout);

/// The parameters of a file in its order: names with `{}` are those of every layer.
struct Order {
    layers: usize,
    rows: Vec<Row>,
}

impl Flat {
    /// Opens a file of one of the known kinds.
    pub fn open(path: &Path) -> Result<Flat> {
        let fail = |e: std::io::Error| file_error(path, "the model cannot be read", e);
        let file = File::open(path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let wrong = |why: &str| file_error(path, "this is no model that can be read", why);
        if length < OLD_HEADER {
            return Err(wrong(
                "it is shorter than any header; expected a directory as Hugging Face's libraries write it, or llm.c's or llama2.c's .bin",
            ));
        }
        let mut header = vec![0; length.min(NEW_HEADER) as usize];
        read_exact_at(&file, &mut header, 0).map_err(fail)?;
        let header: Vec<i32> = header.as_chunks().0.iter().map(|w| i32::from_le_bytes(*w)).collect();
        let (model, order, dtype, at) = match (header[0], header[1]) {
            (LLM_C, version) => llm_c(&header, version),
            (LLAMA2_C, 1) => llama2_c(&header[2..], header.get(9).is_some_and(|word| word & 0xff == 1), NEW_HEADER),
            (LLAMA2_C, version) => Err(format!("it is llama2.c's in version {version}, expected 0 or 1, which are of 32 bits; export it again")),
            _ => llama2_c(&header, header[5] > 0, OLD_HEADER),
        }
        .map_err(|why| wrong(&why))?;
        let (places, end) = order.places(dtype, at);
        if end != u128::from(length) {
            return Err(wrong(&format!("it has {length} bytes, and a {} of the settings in its header takes {end}", model.name())));
        }
        Ok(Flat { path: path.into(), file, model, dtype, places })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Makes a run directory of it, with one tensor in memory at a time.
    pub fn import(&self, tokenizer: Option<&Tokenizer>, to: &Path) -> Result<Imported> {
        tokenizer.map_or(Ok(()), |t| Directory::fits_model(&self.path, &self.model, t))?;
        let all = parameters(&self.model)?;
        let missing = |name: &str| Error(format!("{}: tensor {name} has no place in such a file", self.path.display()));
        if let Some((name, _)) = all.iter().flat_map(|(name, ty)| pieces(name, ty)).find(|(name, _)| !self.places.contains_key(name)) {
            return Err(missing(&name));
        }
        write_run(Config::of(self.model.clone()), &all, (tokenizer, None), &Generation::default(), to, &|name, ty| self.read(name, ty))?;
        Ok(Imported { parameters: all.iter().map(|p| p.1.count()).sum(), notices: vec![] })
    }

    /// A tensor as it stands here.
    fn read(&self, name: &str, ty: &Type) -> Result<Vec<u8>> {
        let place = &self.places[name];
        let mut bytes = vec![0; place.rows * place.columns * self.dtype.bytes()];
        read_exact_at(&self.file, &mut bytes, place.at).map_err(|e| file_error(&self.path, &format!("tensor {name} cannot be read"), e))?;
        let bytes = if self.dtype == DType::F32 { bytes } else { widened(&bytes, self.dtype) };
        let bytes = place.arranged(&bytes);
        // rows that fill up a vocabulary stand at its end
        let wanted = ty.bytes();
        if bytes.len() < wanted {
            return Err(file_error(&self.path, &format!("tensor {name} has {} bytes", bytes.len()), format!("expected {wanted}")));
        }
        Ok(bytes[..wanted].to_vec())
    }
}

impl Place {
    /// Elements of 32 bits in the order they have here.
    fn arranged(&self, bytes: &[u8]) -> Vec<u8> {
        let (words, columns) = (bytes.as_chunks::<4>().0, self.columns);
        let row = |r: usize| &words[r * columns..(r + 1) * columns];
        match self.layout {
            Layout::Same => bytes.to_vec(),
            Layout::Transposed => (0..columns).flat_map(|c| (0..self.rows).flat_map(move |r| words[r * columns + c])).collect(),
            Layout::Pairs(size) => {
                let half = size / 2;
                let source = |r: usize| r / size * size + r % half * 2 + r % size / half;
                (0..self.rows).flat_map(|r| row(source(r)).as_flattened().iter().copied()).collect()
            }
        }
    }
}

impl Order {
    /// Every tensor's place from a byte on, and the byte after the last.
    fn places(&self, dtype: DType, at: u64) -> (HashMap<String, Place>, u128) {
        let (mut places, mut end) = (HashMap::new(), u128::from(at));
        for (name, rows, columns, layout) in &self.rows {
            for layer in 0..if ir::names::loops(name) > 0 { self.layers } else { 1 } {
                // a place beyond what 64 bits count is beyond every file's end, which is found before it is read
                let place = Place { at: end as u64, rows: *rows, columns: *columns, layout: *layout };
                places.insert(ir::names::iteration(name, layer), place);
                end += *rows as u128 * *columns as u128 * dtype.bytes() as u128;
            }
        }
        (places, end)
    }
}

type Read = std::result::Result<(Model, Order, DType, u64), String>;

/// A number of a header.
fn size(name: &str, value: i32) -> std::result::Result<usize, String> {
    usize::try_from(value).map_err(|_| format!("its header says {name} = {value}"))
}

/// llm.c: matrices are those of PyTorch's `Linear`, which are transposed in GPT-2's own files.
fn llm_c(header: &[i32], version: i32) -> Read {
    let [.., context, vocabulary, layers, heads, width, padded] = *header.get(..8).ok_or("its header is cut short")? else { unreachable!("eight") };
    let dtype = match version {
        1 | 3 => DType::F32,
        5 => DType::BF16,
        _ => return Err(format!("it is llm.c's in version {version}, expected 1, 3 or 5")),
    };
    let gpt = Gpt {
        vocab_size: size("vocab_size", vocabulary)?,
        n_positions: size("max_seq_len", context)?,
        n_layer: size("num_layers", layers)?,
        n_head: size("num_heads", heads)?,
        n_embd: size("channels", width)?,
        ..Gpt::default()
    };
    let padded = if version == 1 { gpt.vocab_size } else { size("padded_vocab_size", padded)? };
    let (layers, positions, c, model) = (gpt.n_layer, gpt.n_positions, gpt.n_embd, Model::from(gpt));
    model.check()?;
    if padded < model.vocab_size() {
        return Err(format!("its header says padded_vocab_size = {padded}, less than the {} tokens", model.vocab_size()));
    }
    use Layout::{Same, Transposed};
    let rows: Vec<Row> = vec![
        ("transformer.wte.weight", padded, c, Same),
        ("transformer.wpe.weight", positions, c, Same),
        ("transformer.h.{}.ln_1.weight", 1, c, Same),
        ("transformer.h.{}.ln_1.bias", 1, c, Same),
        ("transformer.h.{}.attn.c_attn.weight", 3 * c, c, Transposed),
        ("transformer.h.{}.attn.c_attn.bias", 1, 3 * c, Same),
        ("transformer.h.{}.attn.c_proj.weight", c, c, Transposed),
        ("transformer.h.{}.attn.c_proj.bias", 1, c, Same),
        ("transformer.h.{}.ln_2.weight", 1, c, Same),
        ("transformer.h.{}.ln_2.bias", 1, c, Same),
        ("transformer.h.{}.mlp.c_fc.weight", 4 * c, c, Transposed),
        ("transformer.h.{}.mlp.c_fc.bias", 1, 4 * c, Same),
        ("transformer.h.{}.mlp.c_proj.weight", c, 4 * c, Transposed),
        ("transformer.h.{}.mlp.c_proj.bias", 1, c, Same),
        ("transformer.ln_f.weight", 1, c, Same),
        ("transformer.ln_f.bias", 1, c, Same),
    ];
    Ok((model, Order { layers, rows }, dtype, LLM_C_HEADER))
}

/// llama2.c: queries and keys are those of Meta's files, whose rotary positions turn neighbours.
fn llama2_c(header: &[i32], tied: bool, at: u64) -> Read {
    let [dim, hidden, layers, heads, kv, vocabulary, context] = *header.get(..7).ok_or("its header is cut short")? else { unreachable!("seven") };
    // the first version says by the sign whether the output projection is the embedding
    let vocabulary = if at == OLD_HEADER { vocabulary.checked_abs().ok_or("its header has no vocabulary")? } else { vocabulary };
    let llama = Llama {
        vocab_size: size("vocab_size", vocabulary)?,
        max_position_embeddings: size("seq_len", context)?,
        num_hidden_layers: size("n_layers", layers)?,
        num_attention_heads: size("n_heads", heads)?,
        num_key_value_heads: size("n_kv_heads", kv)?,
        hidden_size: size("dim", dim)?,
        intermediate_size: size("hidden_dim", hidden)?,
        tie_word_embeddings: tied,
        // θ and ε are theirs, too
        ..Llama::default()
    };
    let (c, f, v, layers, context) =
        (llama.hidden_size, llama.intermediate_size, llama.vocab_size, llama.num_hidden_layers, llama.max_position_embeddings);
    let (heads, kv, model) = (llama.num_attention_heads, llama.num_key_value_heads, Model::from(llama));
    model.check().map_err(|why| format!("it is neither llm.c's nor llama2.c's, of which it would be one with these settings: {why}"))?;
    let head = c / heads;
    use Layout::{Pairs, Same};
    let embedding: Row = ("model.embed_tokens.weight", v, c, Same);
    let before: Row = ("model.layers.{}.input_layernorm.weight", 1, c, Same);
    let attention: [Row; 4] = [
        ("model.layers.{}.self_attn.q_proj.weight", c, c, Pairs(head)),
        ("model.layers.{}.self_attn.k_proj.weight", kv * head, c, Pairs(head)),
        ("model.layers.{}.self_attn.v_proj.weight", kv * head, c, Same),
        ("model.layers.{}.self_attn.o_proj.weight", c, c, Same),
    ];
    let between: Row = ("model.layers.{}.post_attention_layernorm.weight", 1, c, Same);
    let inner: [Row; 3] = [
        ("model.layers.{}.mlp.gate_proj.weight", f, c, Same),
        ("model.layers.{}.mlp.down_proj.weight", c, f, Same),
        ("model.layers.{}.mlp.up_proj.weight", f, c, Same),
    ];
    let last: Row = ("model.norm.weight", 1, c, Same);
    let head_projection: Option<Row> = (!tied).then_some(("lm_head.weight", v, c, Same));
    let rows: Vec<Row> = if at == OLD_HEADER {
        // tables of the angles' cosines and sines, which are computed here
        let tables = [("cosines", context, head / 2, Same), ("sines", context, head / 2, Same)];
        [embedding, before].into_iter().chain(attention).chain([between]).chain(inner).chain([last]).chain(tables).chain(head_projection).collect()
    } else {
        [before, between, last, embedding].into_iter().chain(attention).chain(inner).chain(head_projection).collect()
    };
    Ok((model, Order { layers, rows }, DType::F32, at))
}
