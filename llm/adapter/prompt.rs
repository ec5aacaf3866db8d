//! Tokens before every text, of which what the model reads is learned: a prompt (Lester et al. 2021), or a prefix (Li & Liang 2021).

use super::Part;
use crate::config::AdapterKind;
use crate::data::random;
use ir::{Graph, Op, Type};
use models::{Alike, Before, Init, Kind, Learned, Model};

/// What the parameter is called, here as in PEFT's files.
pub const EMBEDDINGS: &str = "prompt_embeddings";
/// What draws the tokens that a prompt starts as, and nothing else.
const DRAWS: u64 = 0x7072_6F6D;

/// Tokens before every text of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// What the model is told of them.
    pub before: Before,
    /// The path of the embedding whose rows a prompt starts as, and its type; none of a prefix.
    words: Option<(String, Type)>,
    /// What each layer keeps of a token.
    pub alike: Option<Alike>,
}

impl Prompt {
    /// What a part's settings say, of a model whose program is given.
    pub(super) fn of(model: &Model, program: &Graph, part: &Part) -> Result<Prompt, String> {
        let Part { name, settings, weight } = part;
        let (kind, tokens, context) = (settings.kind, settings.tokens, model.context());
        if model.kind() != Kind::Decoder {
            let why = "whose tokens see what follows them, or another text";
            return Err(format!(
                "adapter.kind is {kind}, and {} is a model {why}: a decoder has a beginning; try adapter.kind = \"lora\"",
                model.name()
            ));
        }
        if *weight != 1.0 {
            return Err(format!("an adapter of kind {kind} counts as it is, and has no weight: {weight} is asked for; leave it away"));
        }
        if tokens >= context {
            return Err(format!("adapter.tokens is {tokens}, and the model has {context} positions for them and the text; try adapter.tokens = 8"));
        }
        let path = name.as_ref().map_or(EMBEDDINGS.into(), |name| format!("{EMBEDDINGS}.{name}"));
        let alike = Alike::of(&model.cache());
        if kind == AdapterKind::Prefix {
            let none = || format!("adapter.kind is prefix, and layers of the model {} keep no keys and values that are alike", model.name());
            let alike = Some(alike.ok_or_else(none)?);
            return Ok(Prompt { before: Before { tokens, learned: Learned::Kept, path }, words: None, alike });
        }
        let none = || format!("adapter.kind is prompt, and in the model {} no table has a row for each token of a text", model.name());
        let words = words(program).ok_or_else(none)?;
        let width = words.1.dim(-1).size();
        Ok(Prompt { before: Before { tokens, learned: Learned::Embedding(width), path }, words: Some(words), alike })
    }

    /// The parameter's type.
    pub fn ty(&self) -> Type {
        let width = match self.before.learned {
            Learned::Embedding(width) => width,
            Learned::Kept => self.alike.map_or(0, Alike::width),
        };
        Type::f32([self.before.tokens, width])
    }

    /// Near nothing; a prompt is given rows of the embedding then.
    pub fn init(&self) -> Init {
        Init::Normal(0.02)
    }

    /// What a prompt starts as: rows of the embedding, of tokens that are drawn.
    pub(super) fn follow(&self, read: &dyn Fn(&str) -> Result<Vec<f32>, String>) -> Result<Option<(String, Vec<f32>)>, String> {
        let Some((words, ty)) = &self.words else { return Ok(None) };
        let (table, [rows, width]) = (read(words)?, [ty.dim(-2).size(), ty.dim(-1).size()]);
        let row = |i: usize| (random(DRAWS, i as u64) % rows as u64) as usize;
        let values = (0..self.before.tokens).flat_map(|i| &table[row(i) * width..][..width]).copied().collect();
        Ok(Some((self.before.path.clone(), values)))
    }

    /// Refuses a model that takes no notice of what stands before its texts.
    pub(super) fn is_read(&self, model: &Model, program: &Graph) -> Result<(), String> {
        if program.params().iter().any(|p| *p.0 == *self.before.path) {
            return Ok(());
        }
        let (name, asks) = (model.name(), "its embedding must ask Reading::embed, and its attention Place::with_kept");
        Err(format!("the model {name} takes no notice of what stands before a text: {asks}"))
    }
}

/// The table of which each token of a text takes a row.
fn words(program: &Graph) -> Option<(String, Type)> {
    let (main, input) = (program.main(), program.inputs.iter().position(|i| i == "input_ids")?);
    let of_tokens = |id: &ir::NodeId| matches!(main.node(*id).op, Op::Input(i, _) if i as usize == input);
    main.nodes.iter().filter(|n| matches!(n.op, Op::Gather) && of_tokens(&n.args[1])).find_map(|n| match &main.node(n.args[0]).op {
        Op::Param(path, ty) if ty.rank() == 2 => Some((path.to_string(), ty.clone())),
        _ => None,
    })
}
