//! Settings as Hugging Face's `config.json` has them, read and written. Which key means what stands in each model's own file.

use serde_json::Value;
use std::collections::BTreeSet;

/// The keys of a `config.json`.
pub type Fields = serde_json::Map<String, Value>;

/// A `config.json`, or an object inside one, as it is read: a key that nobody asked for, and that may change the arithmetic, is refused by
/// [`finish`](Self::finish). A key that is null is one that is not there.
///
/// Defaults are those of the library that wrote the file, for it leaves keys out.
pub struct Config<'a> {
    fields: &'a Fields,
    /// What stands before a key in an error: nothing, or the object's name and a dot.
    place: String,
    asked: BTreeSet<&'a str>,
    /// Says whether there is a tensor of a name, where that is known.
    tensors: Option<&'a dyn Fn(&str) -> bool>,
}

/// Keys that change no arithmetic, of every model.
const NEUTRAL: &[&str] = &[
    "_attn_implementation_autoset",
    "_commit_hash",
    "_from_model_config",
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cls_token_id",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "use_cache",
];

/// Keys that change no arithmetic as long as they say no.
const NO: &[&str] = &["add_cross_attention", "is_decoder", "is_encoder_decoder", "tie_encoder_decoder", "use_bfloat16"];

impl<'a> Config<'a> {
    /// Begins to read a file's keys.
    pub fn of(fields: &'a Fields) -> Config<'a> {
        Config { fields, place: String::new(), asked: BTreeSet::new(), tensors: None }
    }

    /// The same, where it is known which tensors come with the settings.
    pub fn with(self, tensors: &'a dyn Fn(&str) -> bool) -> Config<'a> {
        Config { tensors: Some(tensors), ..self }
    }

    /// Whether a tensor comes with the settings, where that is known: settings leave away what files tell.
    pub fn tensor(&self, name: &str) -> Option<bool> {
        self.tensors.map(|there| there(name))
    }

    /// The first of `architectures`: which model the file is of, and with which head.
    pub fn architecture(&self) -> Result<&'a str, String> {
        let first = self.fields.get("architectures").and_then(|a| a.get(0)).and_then(Value::as_str);
        first.ok_or_else(|| "architectures is missing: expected the model's name, as in [\"LlamaForCausalLM\"]".into())
    }

    /// What a key says, if it says anything. It counts as asked for.
    pub fn get(&mut self, key: &str) -> Option<&'a Value> {
        let (key, value) = self.fields.get_key_value(key)?;
        self.asked.insert(key);
        (!value.is_null()).then_some(value)
    }

    /// Whether a key is there and says nothing, for settings that a file's library has where the key is not there.
    pub fn is_null(&self, key: &str) -> bool {
        self.fields.get(key).is_some_and(Value::is_null)
    }

    /// A number of things, which must be there.
    pub fn size(&mut self, key: &str) -> Result<usize, String> {
        self.maybe_size(key)?.ok_or_else(|| self.missing(key, "a whole number"))
    }

    /// A number of things; `default` where the file says nothing.
    pub fn size_or(&mut self, key: &str, default: usize) -> Result<usize, String> {
        Ok(self.maybe_size(key)?.unwrap_or(default))
    }

    /// A number of things, if the file says one.
    pub fn maybe_size(&mut self, key: &str) -> Result<Option<usize>, String> {
        // settings are written as TOML, which counts to where signed numbers do
        let number = |v: &Value| v.as_i64().and_then(|n| usize::try_from(n).ok());
        self.read(key, "a whole number", number)
    }

    /// A number, which must be there.
    pub fn number(&mut self, key: &str) -> Result<f64, String> {
        self.maybe_number(key)?.ok_or_else(|| self.missing(key, "a number"))
    }

    /// A number; `default` where the file says nothing.
    pub fn number_or(&mut self, key: &str, default: f64) -> Result<f64, String> {
        Ok(self.maybe_number(key)?.unwrap_or(default))
    }

    /// A number, if the file says one.
    pub fn maybe_number(&mut self, key: &str) -> Result<Option<f64>, String> {
        self.read(key, "a number", Value::as_f64)
    }

    /// Yes or no; `default` where the file says nothing.
    pub fn flag(&mut self, key: &str, default: bool) -> Result<bool, String> {
        Ok(self.read(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// One of some words; the first where the file says nothing.
    pub fn one_of(&mut self, key: &str, words: &[&'static str]) -> Result<&'static str, String> {
        let Some(value) = self.get(key) else { return Ok(words[0]) };
        let quoted: Vec<String> = words.iter().map(|w| format!("{w:?}")).collect();
        words.iter().find(|w| value.as_str() == Some(w)).copied().ok_or_else(|| self.other(key, value, &quoted.join(" or ")))
    }

    /// A list of words, if the file has one.
    pub fn words(&mut self, key: &str) -> Result<Option<Vec<&'a str>>, String> {
        self.read(key, "a list of words", |v| v.as_array()?.iter().map(Value::as_str).collect())
    }

    /// A list of numbers, if the file has one.
    pub fn numbers(&mut self, key: &str) -> Result<Option<Vec<f64>>, String> {
        self.read(key, "a list of numbers", |v| v.as_array()?.iter().map(Value::as_f64).collect())
    }

    /// What an object inside says, if there is one; every key of it must be asked for, too.
    pub fn within<R>(&mut self, key: &str, read: impl FnOnce(&mut Config<'a>) -> Result<R, String>) -> Result<Option<R>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let fields = value.as_object().ok_or_else(|| self.other(key, value, "an object"))?;
        let mut inside = Config { fields, place: format!("{}{key}.", self.place), asked: BTreeSet::new(), tensors: self.tensors };
        let found = read(&mut inside)?;
        inside.finish()?;
        Ok(Some(found))
    }

    /// A setting that this project has at one value alone: the file says that, or nothing. Numbers are compared as numbers.
    pub fn must(&mut self, key: &str, value: impl Into<Value>) -> Result<(), String> {
        let (Some(have), want) = (self.get(key), value.into()) else { return Ok(()) };
        let alike = *have == want || have.as_f64().is_some_and(|x| Some(x) == want.as_f64());
        if alike { Ok(()) } else { Err(self.other(key, have, &want.to_string())) }
    }

    /// Keys that change no arithmetic of this model, whatever they say.
    pub fn neutral(&mut self, keys: &[&str]) {
        for key in keys {
            self.get(key);
        }
    }

    /// Refuses a key that nobody has asked for, unless it is known to change no arithmetic or says nothing.
    pub fn finish(&self) -> Result<(), String> {
        let says_nothing = |v: &Value| v.is_null() || v.as_array().is_some_and(Vec::is_empty) || v.as_object().is_some_and(Fields::is_empty);
        let harmless = |(key, value): &(&String, &Value)| {
            let key = key.as_str();
            self.asked.contains(key) || NEUTRAL.contains(&key) || NO.contains(&key) && value.as_bool() == Some(false) || says_nothing(value)
        };
        let Some((key, value)) = self.fields.iter().find(|field| !harmless(field)) else { return Ok(()) };
        let why = "the model has no such setting here, and it may change the arithmetic; remove it from the file if it does not";
        Err(format!("{}{key} is {}: {why}", self.place, shown(value)))
    }

    fn read<R>(&mut self, key: &str, what: &str, read: impl FnOnce(&'a Value) -> Option<R>) -> Result<Option<R>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.other(key, value, what))
    }

    fn missing(&self, key: &str, what: &str) -> String {
        format!("{}{key} is missing: expected {what}", self.place)
    }

    /// The error of a key that says something else than it may, for models whose settings depend on each other.
    pub fn other(&self, key: &str, have: &Value, want: &str) -> String {
        format!("{}{key} is {}, expected {want}: anything else is other arithmetic than this model's here", self.place, shown(have))
    }
}

/// A value as it stands in the file, cut where it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let cut = text.char_indices().nth(80).map(|(at, _)| &text[..at]);
    cut.map_or(text.clone(), |start| format!("{start}…"))
}

/// What a model writes into its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The model's name there, as in `LlamaForCausalLM`.
    pub architecture: &'static str,
    /// The family's, as in `llama`.
    pub model_type: &'static str,
    /// The settings.
    pub fields: Fields,
}

impl Written {
    /// A model without settings.
    pub fn new(architecture: &'static str, model_type: &'static str) -> Written {
        Written { architecture, model_type, fields: Fields::new() }
    }

    /// The same with a setting.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Written {
        self.fields.insert(key.into(), value.into());
        self
    }

    /// All keys of the file.
    pub fn into_fields(self) -> Fields {
        let (architectures, model_type) = (vec![self.architecture], self.model_type);
        self.with("architectures", architectures).with("model_type", model_type).fields
    }
}
