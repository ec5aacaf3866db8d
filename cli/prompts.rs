//! `eggcorn generate --prompts`: many prompts from a file, each behind the adapters that it names.

use super::generate::{Args, Text};
use super::options::read_input;
use super::say;
use eggcorn::llm::hub::Directory;
use eggcorn::llm::packed::Held;
use eggcorn::llm::{Error, Generator, Mode, Models, Objective, Result, Sampling, Specials, Tokenizer, load_weights};
use eggcorn::models::{Adaptation, Kind};
use eggcorn::passes::{Goal, Options, State, compile};
use eggcorn::runtime::{Device, Session};
use std::collections::BTreeMap;
use std::path::Path;

/// Prompts that are written behind at once.
const AT_ONCE: usize = 16;

/// A prompt of the file.
struct Prompt {
    text: String,
    ids: Vec<i32>,
    /// Its number, from 0.
    number: usize,
}

/// How texts are written.
pub(super) struct Writing<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) sampling: Sampling,
    pub(super) text: Text<'a>,
    pub(super) device: Device,
    pub(super) options: Options,
}

/// Writes a text behind each prompt of a file, in its order. There is one copy of the model, whatever adapters the prompts name.
pub(super) fn run(args: &Args, path: &Path, models: &Models, writing: &Writing) -> Result<()> {
    let all = read(args, path, writing.tokenizer)?;
    let longest = all.values().flatten().map(|p| p.ids.len()).max().unwrap_or(0);
    let directory = || Ok::<_, Error>(Directory::open(&args.directory, models)?.averaged(args.ema));
    let weights = weights(&directory()?, writing)?;
    let room = longest.saturating_add(args.max_tokens);
    let mut texts: BTreeMap<usize, String> = BTreeMap::new();
    for (name, prompts) in &all {
        let directory = args.adapters.beside_named(directory()?, name.as_deref(), models)?;
        for some in prompts.chunks(AT_ONCE) {
            texts.extend(written(args, &directory, room, some, &weights, writing)?);
        }
    }
    texts.values().for_each(|text| say!("{text}\n---"));
    Ok(())
}

/// A session that has the model's weights, for all others.
fn weights(plain: &Directory, writing: &Writing) -> Result<Session> {
    if plain.adapter().is_some() || plain.model().kind() != Kind::Decoder {
        let path = plain.path().display();
        return Err(Error(format!(
            "{path}: prompts that name adapters go on with a decoder alone; name what stands beside it with --adapter NAME=DIR"
        )));
    }
    let graph = Objective::NextToken.bound(plain.model(), Mode::Evaluate, 1, 1)?.keep_outputs(&["logits"]);
    let program = compile(&graph, Goal::Results, &writing.options)?;
    let mut session = Session::within(program.last(), writing.device.clone(), writing.options.budget)?;
    load_weights(&mut [&mut session], &plain.tensors()?, &|name| State::parse(name).is_parameter())?;
    Ok(session)
}

/// The prompts of each name, and of none.
fn read(args: &Args, path: &Path, tokenizer: &Tokenizer) -> Result<BTreeMap<Option<String>, Vec<Prompt>>> {
    let content = read_input(path)?;
    let mut all: BTreeMap<Option<String>, Vec<Prompt>> = BTreeMap::new();
    for (number, line) in content.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let fail = |why: String| Error(format!("{}:{}: {why}", path.display(), number + 1));
        let (name, text) = line.split_once('\t').map_or((None, line), |(name, text)| (Some(name), text));
        let name = name.filter(|name| !name.is_empty());
        name.map_or(Ok(()), |name| args.adapters.knows(name)).map_err(fail)?;
        let ids = tokenizer.encode_with(text, Specials::Token).map_err(|e| fail(e.to_string()))?;
        let ids = [tokenizer.template().before, ids].concat();
        if ids.is_empty() {
            return Err(fail("there is no prompt behind the name: give at least one character".into()));
        }
        all.entry(name.map(String::from)).or_default().push(Prompt { text: text.into(), ids, number });
    }
    if all.is_empty() {
        return Err(Error(format!("{}: there is no prompt in this file: a line has one, or a name, a tab and one", path.display())));
    }
    Ok(all)
}

/// The texts behind some prompts, by their numbers, of a directory's model over the weights of another's session.
fn written(args: &Args, directory: &Directory, room: usize, some: &[Prompt], weights: &Session, writing: &Writing) -> Result<Vec<(usize, String)>> {
    let model = directory.model().with_room(room);
    let mut generator = Generator::sharing_rows(&model, writing.device.clone(), &writing.options, some.len(), weights)?;
    if let (Some(adapter), Some(tensors)) = (directory.adapter(), directory.tensors_beside()?) {
        if adapter.parts().iter().any(|p| !p.settings.whole.is_empty()) {
            return Err(Error("an adapter that has modules of the model whole is in the place of these for all prompts: try merge first".into()));
        }
        if let Some(part) = adapter.parts().iter().find(|p| p.settings.base != Held::Whole) {
            let base = part.settings.base;
            return Err(Error(format!(
                "an adapter that stands beside matrices in few bits ({base}) has other weights than other prompts: try merge first"
            )));
        }
        let own = |name: &str| State::parse(name).is_parameter() && adapter.adds(name);
        load_weights(&mut generator.sessions_mut(), &tensors, &own)?;
    }
    let sampling = |p: &Prompt| Sampling { seed: writing.sampling.seed.wrapping_add(p.number as u64), ..writing.sampling.clone() };
    let rows: Vec<(&[i32], Sampling)> = some.iter().map(|p| (p.ids.as_slice(), sampling(p))).collect();
    let mut texts: Vec<Text> = some.iter().map(|_| writing.text.clone()).collect();
    generator.generate_rows(&rows, args.max_tokens, &mut |choice| Ok(texts[choice.row].push(&choice)?.1))?;
    let whole = |(p, text): (&Prompt, Text)| {
        let (shown, rest, lines) = text.finish();
        (p.number, [format!("{}{shown}{rest}", p.text)].into_iter().chain(lines).collect::<Vec<_>>().join("\n"))
    };
    Ok(some.iter().zip(texts).map(whole).collect())
}
