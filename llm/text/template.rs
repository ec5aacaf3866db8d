//! What a tokenizer's file puts around a text that a model reads.

use super::Tokenizer;
use serde_json::Value;

/// Ids around a text, such as that which begins every document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Before it.
    pub before: Vec<i32>,
    /// After it.
    pub after: Vec<i32>,
}

impl Tokenizer {
    /// What the file says of a single text. Encoding leaves it away, for a text is cut and joined as one likes.
    pub fn template(&self) -> Template {
        let Tokenizer::Subword(subword) = self else { return Template::default() };
        let file: Value = serde_json::from_str(subword.json()).unwrap_or_default();
        self.template_of(&file["post_processor"]).unwrap_or_default()
    }

    fn template_of(&self, processor: &Value) -> Option<Template> {
        match processor["type"].as_str()? {
            "Sequence" => processor["processors"].as_array()?.iter().find_map(|p| self.template_of(p)),
            "BertProcessing" | "RobertaProcessing" => {
                let id = |key: &str| Some(vec![self.own(processor[key].get(1)?)?]);
                Some(Template { before: id("cls")?, after: id("sep")? })
            }
            "TemplateProcessing" => {
                let parts = processor["single"].as_array()?;
                let text = parts.iter().position(|p| p.get("Sequence").is_some())?;
                let ids = |part: &Value| processor["special_tokens"][part["SpecialToken"]["id"].as_str()?]["ids"].as_array().cloned();
                let all = |parts: &[Value]| -> Option<Vec<i32>> {
                    let ids: Option<Vec<Vec<Value>>> = parts.iter().map(ids).collect();
                    ids?.concat().iter().map(|id| self.own(id)).collect()
                };
                Some(Template { before: all(&parts[..text])?, after: all(&parts[text + 1..])? })
            }
            _ => None,
        }
    }

    /// An id that is a token's of this tokenizer.
    fn own(&self, id: &Value) -> Option<i32> {
        id.as_u64().filter(|id| *id < self.size() as u64).map(|id| id as i32)
    }
}
