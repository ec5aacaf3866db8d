//! The program of a model that imitates another on a text.

use crate::config::Config;
use crate::error::{Error, Result};
use ir::{Builder, DType, Dim, Graph};
use models::losses::{self, Loss};
use models::{Kind, Reading};

/// What the teacher says of each token, `f32[B,T,V]`.
pub(crate) const TEACHER: &str = "teacher";

/// The program that learns: the distance from the teacher, and the text's own loss as far as it counts.
pub(super) fn imitation(config: &Config) -> Result<Graph> {
    let (b, how, model) = (Builder::default(), &config.distill, &config.model);
    if model.kind() != Kind::Decoder || !model.guesses() {
        return Err(Error(format!("the model {} guesses no successors, which are what is imitated; try a decoder", model.name())));
    }
    {
        let (s, shape) = (b.scope(), || (Dim::sym('B'), Dim::sym('T')));
        let [ids, labels] = ["input_ids", "labels"].map(|name| s.input(name, DType::I32, shape()));
        let teacher = s.input(TEACHER, DType::F32, (Dim::sym('B'), Dim::sym('T'), model.vocab_size()));
        let key = (model.dropout() > 0.0).then(|| s.input("key", DType::U32, [] as [Dim; 0]));
        let hidden = model.hidden(&s, &Reading { key, ..Reading::of(ids) });
        let logits = model.head(&s, hidden.x);
        let distance = losses::imitation(&s, [logits, teacher], labels, how.imitation(), how.temperature);
        let text = losses::cross_entropy_with(&s, logits, labels, config.objective.terms());
        let sum = if how.text > 0.0 { distance.sum * (1.0 - how.text) + text.sum * how.text } else { distance.sum };
        Loss { sum, ..distance }.with(&hidden.losses).output(&b);
        distance.output_named(&b, "distance");
        text.output_named(&b, "text_loss");
    }
    Ok(model.finish(b, true)?)
}
