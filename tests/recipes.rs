//! Recipes, each taken a few steps: what it says is a model, a text and an objective that go together.

use llm::text::Learning;
use llm::{Collator, Config, Event, Models, Source, Task, Tokenizer, Trainer, recipe, symbols};
use passes::Options;
use runtime::Pool;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A recipe with changed settings, trained on a text from its beginning; the events.
fn trained(name: &str, sets: &[&str], text: &str) -> Vec<Event> {
    let config = sets.iter().fold(recipe(name, &Models::default()).unwrap(), |c, s| c.set(s).unwrap());
    let text = if config.data.task == Task::None { text } else { symbols(&config) };
    let learning = Learning { specials: config.specials(), ..config.data.learning() };
    let tokenizer = Tokenizer::learned(config.data.tokenizer, &learning, text).unwrap().with_specials(&config.specials()).unwrap();
    let source = Source::of("a text", text, &config, &tokenizer).unwrap();
    let config = Config { model: config.model.with_vocabulary(tokenizer.size()).unwrap(), ..config };
    assert!(Collator::new(config.aim(), &config.objective, &config.data, &source.marks).is_ok());
    let mut trainer = Trainer::compiled(config, vec![source], Arc::new(Pool::new(2)), &Options::default()).unwrap();
    let mut events = vec![];
    let keep = &mut |e: Event| {
        events.push(e);
        Ok(())
    };
    trainer.run(None, &AtomicBool::new(false), keep).unwrap();
    events
}

fn text() -> String {
    let words = ["thou", "art", "a", "summer", "day", "and", "more", "lovely", "winds", "shake", "buds", "of", "may"];
    let word = |i: u64| words[llm::random(7, i) as usize % words.len()];
    (0..3000).map(|i| format!("{}{}", word(i), if i % 9 == 8 { "\n" } else { " " })).collect()
}

/// Each takes its steps, its losses are numbers, and what it measures besides is there.
#[test]
fn recipes_train() {
    let few = ["train.steps=4", "train.batch=3", "train.eval_every=2", "train.eval_batches=2"];
    let small = "data.vocabulary=200";
    for (name, sets, measured) in [
        ("sort", vec![], vec!["exact match"]),
        ("names", vec![], vec![]),
        ("seq2seq-reverse", vec!["encoder_layers=1", "decoder_layers=1"], vec!["unigram baseline", "exact match"]),
        ("bert-tiny", vec![small, "num_hidden_layers=1", "hidden_size=32", "intermediate_size=48"], vec!["unigram baseline"]),
        ("t5-tiny", vec![small, "num_layers=1", "num_decoder_layers=1", "d_model=32", "d_ff=48"], vec!["unigram baseline"]),
        ("moe-tiny", vec!["num_hidden_layers=1", "hidden_size=32", "intermediate_size=24"], vec![]),
    ] {
        let events = trained(name, &[&few[..], &sets].concat(), &text());
        let losses: Vec<f64> = events.iter().filter_map(|e| if let Event::Step { loss, .. } = e { Some(*loss) } else { None }).collect();
        assert!(losses.len() == 4 && losses.iter().all(|l| l.is_finite() && *l > 0.1), "{name}: {losses:?}");
        let found: Vec<&str> = events.iter().filter_map(|e| if let Event::Measured { what, .. } = e { Some(what.as_str()) } else { None }).collect();
        assert_eq!(found, measured, "{name}");
    }
}

/// The recipe of classes, on texts that have some.
#[test]
fn classes_are_trained() {
    let lines: String = text().lines().enumerate().map(|(i, l)| format!("{}\t{l}\n", if i % 3 == 0 { "spam" } else { "ham" })).collect();
    let small = ["data.vocabulary=200", "num_hidden_layers=1", "hidden_size=32", "intermediate_size=48", "classify.classes=[\"ham\", \"spam\"]"];
    let few = ["train.steps=4", "train.batch=3", "train.eval_every=2", "train.eval_batches=2"];
    let events = trained("spam", &[&few[..], &small].concat(), &lines);
    let found: Vec<&str> = events.iter().filter_map(|e| if let Event::Measured { what, .. } = e { Some(what.as_str()) } else { None }).collect();
    assert_eq!(found, ["accuracy", "macro-F1", "accuracy", "macro-F1"]);
}

/// A task that is easy is learned: sequences that were not trained on are sorted right.
#[test]
fn a_task_is_learned() {
    let sets = ["data.task_length=3", "data.task_symbols=5", "train.context=5", "n_layer=1", "dropout=0.0", "train.steps=250", "train.lr=5e-3"];
    let events = trained("sort", &sets, "");
    let exact =
        events.iter().find_map(|e| if let Event::Measured { what, value, .. } = e { (what == "exact match").then_some(*value) } else { None });
    assert!(exact.unwrap() > 0.9, "{exact:?}");
    let made = events.iter().find_map(|e| if let Event::Ready { sources, .. } = e { Some(sources[0].tokens) } else { None });
    assert_eq!(made, Some(None), "nobody counts what is made as it is read");
}

/// A RoBERTa whose positions would count what fills rows up is refused, and the setting is named.
#[test]
fn what_fills_rows_up_is_no_text() {
    let trainer = |pad: i32| {
        let sets = ["family=roberta", "num_hidden_layers=1", "hidden_size=16", "train.batch=2", "max_position_embeddings=128"];
        let config = sets.iter().fold(recipe("bert-tiny", &Models::default()).unwrap(), |c, s| c.set(s).unwrap());
        let tokenizer = Tokenizer::of(llm::Kind::Char, &text()).unwrap().with_specials(&config.specials()).unwrap();
        let source = Source::of("a text", &text(), &config, &tokenizer).unwrap();
        let (size, fills) = (tokenizer.size(), source.marks.pad);
        let config = Config { model: config.model.with_vocabulary(size).unwrap(), ..config }.set(&format!("pad_token_id={}", fills + pad)).unwrap();
        (fills, Trainer::compiled(config, vec![source], Arc::new(Pool::new(1)), &Options::default()).err().map(|e| e.to_string()))
    };
    let (fills, error) = trainer(-1);
    assert!(error.unwrap().contains(&format!("try --set pad_token_id={fills}")));
    assert_eq!(trainer(0).1, None);
}

/// Texts with classes in rows as short as they may be take the same steps as in long ones.
#[test]
fn classes_in_short_rows_are_the_same() {
    let lines: String = text().lines().enumerate().map(|(i, l)| format!("{}\t{}\n", ["ham", "spam"][i % 2], &l[..l.len() / (1 + i % 4)])).collect();
    let small = ["data.vocabulary=200", "num_hidden_layers=1", "hidden_size=32", "intermediate_size=48", "classify.classes=[\"ham\", \"spam\"]"];
    let few = ["train.steps=6", "train.batch=2", "train.accumulate=2", "train.context=40", "dropout=0.0", "train.eval_every=9"];
    let losses = |packing: &[&str]| -> Vec<f64> {
        let events = trained("spam", &[&small[..], &few, packing].concat(), &lines);
        events.iter().filter_map(|e| if let Event::Step { loss, .. } = e { Some(*loss) } else { None }).collect()
    };
    let tokens = |packing: &[&str]| {
        let events = trained("spam", &[&small[..], &few, packing].concat(), &lines);
        events.iter().filter_map(|e| if let Event::Step { cost, .. } = e { Some(cost.tokens) } else { None }).max().unwrap()
    };
    let (long, short) = (["data.packing=padded"], ["data.packing=bucketed", "train.lengths=[10, 20, 30]"]);
    assert!(losses(&long).iter().zip(losses(&short)).all(|(a, b)| (a - b).abs() < 1e-5), "{:?} {:?}", losses(&long), losses(&short));
    assert!(tokens(&short) < tokens(&long), "fewer are read");
}
