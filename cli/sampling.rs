//! How the next token is chosen, as people say it.

use eggcorn::llm::{Error, Result, Sampling, Stop, Tokenizer};

/// The choice of each token, and the end of the text.
#[derive(clap::Args)]
pub struct SamplingArgs {
    /// Below 1 the likely becomes likelier; 0 takes the likeliest. 0.8 unless said, or what the model's generation_config.json says where
    /// neither this nor one of the next three is given.
    #[arg(long)]
    temperature: Option<f64>,
    /// Consider only this many; 0 for all, as unless said.
    #[arg(long)]
    top_k: Option<usize>,
    /// Consider only the likeliest that together have this share; 1 for all, as unless said.
    #[arg(long)]
    top_p: Option<f64>,
    /// Consider only what is at least this many times as likely as the likeliest; 0 for all, as unless said.
    #[arg(long)]
    min_p: Option<f64>,
    /// Above 1 what the text has becomes rarer, by a factor of the logits; 1 unless said, or what generation_config.json says.
    #[arg(long)]
    repetition_penalty: Option<f64>,
    /// Above 0 what the text has becomes rarer, by so much.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f64,
    /// Add to the logit of a token, as in --logit-bias e=-2.5; -inf forbids it. May be given several times.
    #[arg(long, value_name = "TOKEN=BIAS")]
    logit_bias: Vec<String>,
    /// End the text before this. May be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// The same seed writes the same text.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl SamplingArgs {
    /// How to choose, in terms of a tokenizer, where the model's own files say `meant`. What these say of drawing is one: who changes a
    /// part of it has said how to draw.
    pub fn sampling(&self, tokenizer: &Tokenizer, meant: Option<Sampling>) -> Result<Sampling> {
        let said = self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some();
        let usual = Sampling { temperature: 0.8, ..Sampling::default() };
        let repetition_penalty = meant.as_ref().map_or(1.0, |m| m.repetition_penalty);
        let meant = meant.filter(|_| !said).unwrap_or(usual);
        let out = Sampling {
            bias: self.logit_bias.iter().map(|b| bias(b, tokenizer)).collect::<Result<_>>()?,
            repetition_penalty: self.repetition_penalty.unwrap_or(repetition_penalty),
            presence_penalty: self.presence_penalty,
            temperature: self.temperature.unwrap_or(meant.temperature),
            top_k: self.top_k.unwrap_or(meant.top_k),
            top_p: self.top_p.unwrap_or(meant.top_p),
            min_p: self.min_p.unwrap_or(meant.min_p),
            seed: self.seed,
        };
        out.check()?;
        Ok(out)
    }

    /// Where to stop.
    pub fn stop(&self) -> Result<Stop> {
        Stop::new(&self.stop)
    }
}

/// A token and what is added to its logit.
fn bias(text: &str, tokenizer: &Tokenizer) -> Result<(i32, f32)> {
    let bad = |why: String| Error(format!("--logit-bias {text}: {why}; it is a token and a number, as in e=-2.5 or e=-inf"));
    let (token, number) = text.rsplit_once('=').ok_or_else(|| bad("there is no '='".into()))?;
    let bias = number.parse().map_err(|_| bad(format!("'{number}' is no number")))?;
    match tokenizer.encode(token).map_err(|e| bad(e.to_string()))?[..] {
        [id] => Ok((id, bias)),
        ref ids => Err(bad(format!("'{token}' is {} tokens, not one", ids.len()))),
    }
}
