//! BERT (Devlin et al. 2019) and RoBERTa (Liu et al. 2019): encoders, of which every token sees every other, in primitive operations.
//!
//! Parameters have the names and layouts of Hugging Face's checkpoints. What is alone there, without a head, lacks the first word.

use crate::activation::Activation;
use crate::architecture::{Architecture, Hidden, Kept, Kind, Made, Place, Reading, Shape};
use crate::attention::{attend_to, heads};
use crate::check;
use crate::heads::{Head, Pooling};
use crate::hub;
use crate::init::Init;
use crate::layers::{dropout, layer_norm, nth, projection};
use ir::{DType, Scope, Tensor};
use serde::{Deserialize, Serialize};

/// The settings of a BERT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bert {
    /// Whose names its parameters have, whose head it has, and how it counts positions.
    pub family: Family,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Number of learned positions.
    pub max_position_embeddings: usize,
    /// Number of segments that a token may be of; 0 where it is of none.
    pub type_vocab_size: usize,
    /// The token that fills rows up. RoBERTa's positions do not count it, and begin behind its number.
    pub pad_token_id: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// What stands between the feed-forward part's products.
    pub hidden_act: Activation,
    /// ε of LayerNorm.
    pub layer_norm_eps: f64,
    /// Whether it has the head that guesses tokens.
    pub token_head: bool,
    /// Whether it says something of a text as a whole, from its first token.
    pub pooler: bool,
    /// Whether it has the head that guesses if the second sentence follows the first.
    pub sentence_head: bool,
    /// Probability of dropout in training.
    pub dropout: f64,
}

/// Where a model of this form comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Family {
    /// Positions from 0.
    Bert,
    /// Positions of tokens that fill nothing up, from the number behind the one that does.
    Roberta,
}

ir::spell!(Family, "family", [Bert "bert", Roberta "roberta"]);

impl Default for Bert {
    /// BERT base with the head that guesses tokens: 109,514,298 parameters.
    fn default() -> Bert {
        Bert {
            family: Family::Bert,
            vocab_size: 30522,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            pad_token_id: 0,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            hidden_size: 768,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-12,
            token_head: true,
            pooler: false,
            sentence_head: false,
            dropout: 0.0,
        }
    }
}

impl Architecture for Bert {
    fn name() -> &'static str {
        "bert"
    }

    fn kind(&self) -> Kind {
        Kind::Encoder
    }

    fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Hidden<'g> {
        let trunk = self.trunk(s);
        let x = dropout(s, self.embeddings(&trunk.at("embeddings"), read), self.dropout, read.key);
        read.blocks(&trunk.at("encoder"), "layer", self.num_hidden_layers, x, |s, x, place| self.block(s, x, &place))
    }

    fn guesses(&self) -> bool {
        self.token_head
    }

    fn head<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let (at, dense, norm, act) = match self.family {
            Family::Bert => (s.at("cls.predictions"), "transform.dense", "transform.LayerNorm", self.hidden_act),
            Family::Roberta => (s.at("lm_head"), "dense", "layer_norm", Activation::Gelu),
        };
        let x = act.of(s, projection(&at.at(dense), x, self.hidden_size, true));
        let words = self.words(&self.trunk(s).at("embeddings"));
        layer_norm(&at.at(norm), x, self.layer_norm_eps).contract("btc,vc->btv", words) + at.param("bias", [self.vocab_size])
    }

    /// Of the first token what the pooler makes of it, where there is one, projected; RoBERTa's head has a layer of its own for that. The
    /// mean of all is projected as it is.
    fn classes<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, head: Head, key: Option<Tensor<'g>>) -> Tensor<'g> {
        let dropped = |x| dropout(s, x, self.dropout, key);
        let first = head.pooling == Pooling::First;
        let at = s.at("classifier");
        match self.family {
            Family::Bert if first && self.pooler => projection(&at, dropped(self.pooled(s, x)), head.classes, true),
            Family::Bert => projection(&at, dropped(x), head.classes, true),
            Family::Roberta => {
                let x = projection(&at.at("dense"), dropped(x), self.hidden_size, true).tanh();
                projection(&at.at("out_proj"), dropout(s, x, self.dropout, key.map(|k| k + s.uint(1))), head.classes, true)
            }
        }
    }

    fn classes_to_hub(&self, pooling: Pooling) -> Result<(), String> {
        let pooler = self.family == Family::Bert;
        match pooling {
            Pooling::Mean | Pooling::Last => Err(format!("classify.pooling is {pooling}, and there the first token speaks for a text")),
            Pooling::First if self.pooler != pooler => Err(format!("pooler is {}, and there such a model has pooler = {pooler}", self.pooler)),
            Pooling::First => Ok(()),
        }
    }

    fn further<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Vec<(&'static str, Tensor<'g>)> {
        let mut all = vec![("last_hidden_state", x)];
        let rows = |x: Tensor<'g>| x.reshape((x.dim(-3), x.dim(-1)));
        if self.pooler {
            let pooled = self.pooled(s, nth(s, x, s.int(0))); // [B, 1, C]
            all.push(("pooler_output", rows(pooled)));
            if self.sentence_head {
                all.push(("seq_relationship_logits", rows(projection(&s.at("cls.seq_relationship"), pooled, 2, true))));
            }
        }
        all
    }

    fn cache(&self) -> Vec<Kept> {
        vec![]
    }

    /// N(0, 0.02), norms 1, biases 0.
    fn init(&self, path: &str) -> Init {
        match path.rsplit('.').collect::<Vec<_>>()[..] {
            ["bias", ..] => Init::Zeros,
            ["weight", "LayerNorm" | "layer_norm", ..] => Init::Ones,
            _ => Init::Normal(0.02),
        }
    }

    fn shape(&self) -> Shape {
        Shape { vocabulary: self.vocab_size, context: self.context(), dropout: self.dropout }
    }

    fn check(&self) -> Result<(), String> {
        let usual = Bert::default();
        check::sizes(&[
            ("vocab_size", self.vocab_size, usual.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings, usual.max_position_embeddings),
            ("num_attention_heads", self.num_attention_heads, usual.num_attention_heads),
            ("hidden_size", self.hidden_size, usual.hidden_size),
            ("intermediate_size", self.intermediate_size, usual.intermediate_size),
        ])?;
        check::layers("num_hidden_layers", self.num_hidden_layers)?;
        check::within("type_vocab_size", self.type_vocab_size, ..=check::LARGEST, usual.type_vocab_size)?;
        check::within("pad_token_id", self.pad_token_id, ..self.vocab_size, 0)?;
        if self.context() == 0 {
            let (n, pad) = (self.max_position_embeddings, self.pad_token_id);
            return Err(format!(
                "max_position_embeddings is {n}, and RoBERTa's positions begin behind pad_token_id, which is {pad}; try max_position_embeddings = {}",
                512 + pad + 1
            ));
        }
        check::divides("num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size)?;
        if self.sentence_head && (!self.pooler || self.family == Family::Roberta) {
            return Err("sentence_head is true, and it reads what BERT's pooler says; try pooler = true and family = \"bert\"".into());
        }
        check::within("layer_norm_eps", self.layer_norm_eps, 1e-15..=1.0, "1e-12")?;
        check::dropout("dropout", self.dropout)
    }

    fn hub() -> &'static [&'static str] {
        &["BertForMaskedLM", "BertForPreTraining", "BertModel", "RobertaForMaskedLM", "RobertaModel"]
    }

    /// Which heads there are follows from the tensors where those are known: files of heads that are not named here have them, too, and
    /// those of sentence encoders may lack the pooler.
    fn from_hub(c: &mut hub::Config) -> Result<Bert, String> {
        let architecture = c.architecture()?;
        let family = if architecture.starts_with("Roberta") { Family::Roberta } else { Family::Bert };
        c.must("position_embedding_type", "absolute")?;
        c.must("tie_word_embeddings", true)?;
        // dropout, the heads of other tasks, and what the first files say of the pooler
        c.neutral(&["attention_probs_dropout_prob", "classifier_dropout", "directionality", "pooler_fc_size", "pooler_num_attention_heads"]);
        c.neutral(&["pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"]);
        let usually = ["BertForPreTraining", "BertModel", "RobertaModel"].contains(&architecture);
        let pooler = c.tensor(&format!("{family}.pooler.dense.weight")).unwrap_or(usually);
        let sentence_head =
            pooler && family == Family::Bert && c.tensor("cls.seq_relationship.weight").unwrap_or(architecture == "BertForPreTraining");
        let (vocab_size, pad) = if family == Family::Bert { (30522, 0) } else { (50265, 1) };
        let usual = Bert::default();
        Ok(Bert {
            family,
            vocab_size: c.size_or("vocab_size", vocab_size)?,
            max_position_embeddings: c.size_or("max_position_embeddings", usual.max_position_embeddings)?,
            type_vocab_size: c.size_or("type_vocab_size", usual.type_vocab_size)?,
            pad_token_id: c.size_or("pad_token_id", pad)?,
            num_hidden_layers: c.size_or("num_hidden_layers", usual.num_hidden_layers)?,
            num_attention_heads: c.size_or("num_attention_heads", usual.num_attention_heads)?,
            hidden_size: c.size_or("hidden_size", usual.hidden_size)?,
            intermediate_size: c.size_or("intermediate_size", usual.intermediate_size)?,
            hidden_act: c.one_of("hidden_act", &["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"])?.parse()?,
            layer_norm_eps: c.number_or("layer_norm_eps", usual.layer_norm_eps)?,
            token_head: !architecture.ends_with("Model"),
            pooler,
            sentence_head,
            dropout: c.number_or("hidden_dropout_prob", 0.1)?,
        })
    }

    fn to_hub(&self) -> Result<hub::Written, String> {
        let architecture = match (self.family, self.token_head, self.sentence_head) {
            (Family::Bert, true, true) => "BertForPreTraining",
            (Family::Bert, true, false) => "BertForMaskedLM",
            (Family::Bert, false, false) => "BertModel",
            (Family::Roberta, true, _) => "RobertaForMaskedLM",
            (Family::Roberta, false, _) => "RobertaModel",
            (Family::Bert, false, true) => return Err("sentence_head is true, and there it comes with the head that guesses tokens".into()),
        };
        if self.type_vocab_size == 0 {
            return Err("type_vocab_size is 0, and there each token is of a segment".into());
        }
        Ok(hub::Written::new(architecture, self.family.name())
            .with("vocab_size", self.vocab_size)
            .with("max_position_embeddings", self.max_position_embeddings)
            .with("type_vocab_size", self.type_vocab_size)
            .with("pad_token_id", self.pad_token_id)
            .with("num_hidden_layers", self.num_hidden_layers)
            .with("num_attention_heads", self.num_attention_heads)
            .with("hidden_size", self.hidden_size)
            .with("intermediate_size", self.intermediate_size)
            .with("hidden_act", self.hidden_act.name())
            .with("layer_norm_eps", self.layer_norm_eps)
            .with("position_embedding_type", "absolute")
            .with("hidden_dropout_prob", self.dropout)
            .with("attention_probs_dropout_prob", self.dropout))
    }
}

impl Bert {
    /// The longest text.
    fn context(&self) -> usize {
        match self.family {
            Family::Bert => self.max_position_embeddings,
            Family::Roberta => self.max_position_embeddings.saturating_sub(self.pad_token_id + 1),
        }
    }

    /// tanh(x Wᵀ + b), what the pooler says of a text by its first token. [B, 1, C]
    fn pooled<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        projection(&self.trunk(s).at("pooler.dense"), x, self.hidden_size, true).tanh()
    }

    fn trunk<'g>(&self, s: &Scope<'g>) -> Scope<'g> {
        s.at(self.family.name())
    }

    /// The embedding of tokens, which is also the head's projection.
    fn words<'g>(&self, s: &Scope<'g>) -> Tensor<'g> {
        s.at("word_embeddings").param("weight", [self.vocab_size, self.hidden_size])
    }

    /// LayerNorm(token + segment + position). [B, T, C]
    fn embeddings<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Tensor<'g> {
        let table = |name, rows| s.at(name).param("weight", [rows, self.hidden_size]);
        let mut x = self.words(s).gather(read.tokens);
        if self.type_vocab_size > 0 {
            let types = table("token_type_embeddings", self.type_vocab_size);
            x = x + read.types.map_or_else(|| types.slice(-2, 0, 1), |t| types.gather(t));
        }
        let x = x + table("position_embeddings", self.max_position_embeddings).gather(self.positions(s, read));
        layer_norm(&s.at("LayerNorm"), x, self.layer_norm_eps)
    }

    /// The tokens' positions: [T] or [B, T].
    fn positions<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Tensor<'g> {
        let first = s.int(self.pad_token_id as i32 + 1);
        match (self.family, read.documents) {
            (Family::Bert, _) => read.positions(s),
            (Family::Roberta, Some(documents)) => documents.positions + first,
            (Family::Roberta, None) => counted(s, read.tokens, self.pad_token_id),
        }
    }

    fn block<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, place: &Place<'g>) -> Made<'g> {
        let (c, eps) = (self.hidden_size, self.layer_norm_eps);
        // what a part makes of its input is projected, dropped, added to it, and the sum is normed
        let added = |s: &Scope<'g>, y: Tensor<'g>, x: Tensor<'g>, n: u32| {
            let y = dropout(s, projection(&s.at("dense"), y, c, true), self.dropout, place.key.map(|k| k + s.uint(n)));
            layer_norm(&s.at("LayerNorm"), y + x, eps)
        };
        let at = s.at("attention");
        let x = added(&at.at("output"), self.attention(&at.at("self"), x, place), x, 1);
        let y = self.hidden_act.of(s, projection(&s.at("intermediate.dense"), x, self.intermediate_size, true));
        Made::new(added(&s.at("output"), y, x, 2), [])
    }

    /// softmax(q kᵀ / √d, tokens) v, per head
    fn attention<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, place: &Place<'g>) -> Tensor<'g> {
        let (n, c) = (self.num_attention_heads, self.hidden_size);
        let d = c / n;
        let qkv = ["query", "key", "value"].map(|name| heads(projection(&s.at(name), x, c, true), n, d)); // [B, H, T, D]
        attend_to(s, qkv, place.key, self.dropout, |scores| place.there(s, scores / (d as f64).sqrt()))
    }
}

/// How many of the tokens [B, T] up to each are not `pad`, and `pad` more; `pad` of those that are it.
fn counted<'g>(s: &Scope<'g>, tokens: Tensor<'g>, pad: usize) -> Tensor<'g> {
    let (b, t) = (tokens.dim(-2), tokens.dim(-1));
    let (pad, zero) = (s.int(pad as i32), s.num(0.0));
    let one = tokens.equals(pad).select(zero, s.num(1.0)).reshape((b, 1usize, t));
    let before = s.iota(-1, t).le(s.iota(-2, t)).select(one, zero); // [B, T, T]
    let number = before.sum().reshape((b, t)).cast(DType::I32);
    tokens.equals(pad).select(pad, number + pad)
}
