//! `eggcorn sft --show-mask`: which tokens of conversations are trained.

use super::sft::Talk;
use super::{say, train};
use eggcorn::llm::chat::{Chat, Encoded};
use eggcorn::llm::{Asked, Error, Models, Result};
use serde_json::json;
use std::io::IsTerminal;

/// What stands around what is trained: a colour, or marks where there are none.
const COLOUR: [&str; 2] = ["\x1b[30;42m", "\x1b[0m"];
const MARKS: [&str; 2] = ["⟦", "⟧"];

/// Shows the first conversations, and counts of all.
pub fn show(args: &train::Args, models: &Models, talk: &Talk, n: usize) -> Result<()> {
    let opened = train::open_with(args, models, None, &train::Way { talk: Some(talk), ..train::Way::default() })?;
    let Some(template) = &opened.template else { return Err(Error("there is no conversation to show".into())) };
    let (config, chat) = (&opened.config, Chat::new(template, &opened.tokenizer));
    let coloured = std::io::stdout().is_terminal() || std::env::var_os("CLICOLOR_FORCE").is_some();
    let (mut tokens, mut asked, mut straddling, mut count) = (0, 0, 0, 0);
    for parts in args.conversations(config)? {
        for conversation in &parts.train {
            let encoded = chat.encode(conversation, config.chat.asked == Asked::All)?;
            if args.json {
                if count < n {
                    say!("{}", json!({"place": conversation.place, "text": encoded.text, "input_ids": encoded.piece.ids, "asked": marks(&encoded)}));
                }
            } else if count < n {
                let own = encoded.piece.count();
                say!(
                    "--- {}: {} tokens, {own} asked\n{}",
                    conversation.place,
                    encoded.piece.ids.len(),
                    painted(&encoded, if coloured { COLOUR } else { MARKS })
                );
            }
            tokens += encoded.piece.ids.len();
            asked += encoded.piece.count();
            straddling += encoded.straddling;
            count += 1;
        }
    }
    if args.json {
        return Ok(());
    }
    let stop = opened.tokenizer.decode(&[chat.stop()?]);
    say!("---\n{count} conversations to train on: {tokens} tokens, {asked} asked ({:.1} %)", 100.0 * asked as f64 / tokens as f64);
    say!("the template is {}; each answer ends with {stop}, token {}, which is trained", template.name(), chat.stop()?);
    if straddling > 0 {
        say!(
            "{straddling} tokens begin before an answer and end in it: a model that answers never writes them; end what asks for an answer with a space or a special token"
        );
    }
    Ok(())
}

/// For each token 1 where it is asked, else 0.
fn marks(encoded: &Encoded) -> Vec<u8> {
    (0..encoded.piece.ids.len()).map(|i| u8::from(encoded.piece.asks(i))).collect()
}

/// A conversation's text with what is trained between two marks.
fn painted(encoded: &Encoded, [open, close]: [&str; 2]) -> String {
    let boundary = |at: usize| (0..=at.min(encoded.text.len())).rev().find(|at| encoded.text.is_char_boundary(*at)).unwrap_or(0);
    let (mut out, mut at, mut inside) = (String::new(), 0, false);
    for (i, place) in encoded.places.iter().enumerate() {
        let start = boundary(place.start).max(at);
        if encoded.piece.asks(i) != inside {
            out.push_str(&encoded.text[at..start]);
            out.push_str(if inside { close } else { open });
            (at, inside) = (start, !inside);
        }
    }
    let end = encoded.places.last().map_or(at, |p| boundary(p.end).max(at));
    out.push_str(&encoded.text[at..end]);
    if inside {
        out.push_str(close);
    }
    out.push_str(&encoded.text[end..]);
    out
}
