//! `eggcorn sft`: a model learns to answer.

use super::mask;
use super::options::CompileArgs;
use super::{note, say, train};
use eggcorn::llm::chat::{Chat, Conversation, Template};
use eggcorn::llm::{Config, Generator, Models, Result, Sampling, Tokenizer, Trainer, write_file};
use eggcorn::runtime::Device;
use serde_json::json;
use std::ops::ControlFlow;
use std::path::Path;

/// Teach a model to answer: the loss is of answers alone.
#[derive(clap::Args)]
#[group(skip)]
#[command(
    after_help = "--data is a file of records, a list in JSON or an object a line: Alpaca's instruction, input and output; messages of role and content, as\nChatML and ShareGPT have them; or prompt and completion. The settings [chat] say which template makes a text of them and what is trained;\nthe template stays in the run directory as chat_template.jinja.\n\nExamples:\n  eggcorn sft instruct --data instruction-data.json --out runs/instruct\n  eggcorn sft instruct --data instruction-data.json --show-mask\n  eggcorn sft instruct --init-from runs/base --data instruction-data.json\n  eggcorn sft --init-from SmolLM2-135M-Instruct/ --data chats.jsonl --set train.context=256 --set train.lr=1e-4\n  eggcorn sft instruct --data chats.jsonl --set chat.template=chatml --set data.packing=padded\n  eggcorn chat runs/instruct"
)]
pub struct Args {
    #[command(flatten)]
    train: train::Args,
    /// Show so many conversations, 3 unless said, with what is trained of each, and train nothing.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "3")]
    show_mask: Option<usize>,
    /// Let the model answer so many held-out questions, before it is trained and after.
    #[arg(long, value_name = "N", default_value_t = 2)]
    answers: usize,
    /// The most tokens of such an answer.
    #[arg(long, value_name = "N", default_value_t = 64)]
    answer_tokens: usize,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let talk = Talk { answers: args.answers, tokens: args.answer_tokens };
    match args.show_mask {
        Some(n) => mask::show(&args.train, models, &talk, n),
        None => train::run_way(&args.train, models, &train::Way { command: "sft", talk: Some(&talk), ..train::Way::default() }),
    }
}

/// What is asked of a run of conversations besides training.
pub struct Talk {
    answers: usize,
    tokens: usize,
}

/// Held-out questions, and what a model answers them.
pub struct Answers<'a> {
    chat: Chat<'a>,
    tokenizer: &'a Tokenizer,
    questions: Vec<Conversation>,
    tokens: usize,
    generator: Option<Generator>,
    before: Vec<String>,
}

impl<'a> Answers<'a> {
    /// The first of the questions that are held out, answered with the weights as they are.
    pub fn before(
        talk: &Talk,
        held_out: Vec<Conversation>,
        config: &Config,
        (template, tokenizer): (&'a Template, &'a Tokenizer),
        trainer: &Trainer,
        (device, compile): (&Device, &CompileArgs),
    ) -> Result<Answers<'a>> {
        let questions: Vec<Conversation> = held_out.into_iter().take(talk.answers).collect();
        let options = compile.options_on(device, config.train.precision)?;
        let generator = match questions.len() {
            0 => None,
            _ => Some(Generator::sharing(&config.model, device.clone(), &options, trainer.step.session())?),
        };
        let mut answers = Answers { chat: Chat::new(template, tokenizer), tokenizer, questions, tokens: talk.tokens, generator, before: vec![] };
        answers.before = answers.written()?;
        Ok(answers)
    }

    /// What the model answers now, taking the likeliest token each time.
    fn written(&mut self) -> Result<Vec<String>> {
        let Some(generator) = &mut self.generator else { return Ok(vec![]) };
        let (stop, greedy) = (self.chat.stop()?, Sampling { temperature: 0.0, ..Sampling::default() });
        let one = |question: &Conversation| {
            let prompt = self.chat.prompt(&question.messages[..question.messages.len() - 1])?;
            let flow = |token: i32| if token == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            let ids = generator.generate(&prompt, self.tokens, &greedy, &mut |choice| Ok(flow(choice.token)))?;
            Ok(self.tokenizer.decode(ids.strip_suffix(&[stop]).unwrap_or(&ids)))
        };
        self.questions.iter().map(one).collect()
    }

    /// Shows the questions with both answers, and keeps them in a run directory.
    pub fn after(mut self, dir: &Path) -> Result<()> {
        let after = self.written()?;
        let mut kept = String::new();
        for ((question, before), after) in self.questions.iter().zip(&self.before).zip(&after) {
            let [.., asked, expected] = &question.messages[..] else { continue };
            say!("question: {}\nexpected: {}\nbefore:   {}\nafter:    {}\n", asked.content, expected.content, before.trim(), after.trim());
            kept += &(json!({"question": asked.content, "expected": expected.content, "before": before, "after": after}).to_string() + "\n");
        }
        if !kept.is_empty() {
            write_file(&dir.join(FILE), kept.as_bytes())?;
            note!("these answers are in {}", dir.join(FILE).display());
        }
        Ok(())
    }
}

/// Where answers are kept in a run directory.
pub const FILE: &str = "answers.jsonl";
