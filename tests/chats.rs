//! Conversations: records of every kind, templates in bounds, answers marked and found, tokens with their marks.

use crate::common::Random;
use llm::chat::{Chat, Conversation, Message, Parts, Role, SHIPPED, Template, lines, read_records};
use llm::text::Learning;
use llm::{Config, Kind, Models, Packing, Specials, Tokenizer, recipe};
use std::path::Path;

const DATE: &str = "2024-07-26";

fn read(text: &str) -> llm::Result<Vec<Conversation>> {
    read_records(Path::new("chats.jsonl"), text)
}

fn shown(conversation: &Conversation) -> Vec<(Role, &str)> {
    conversation.messages.iter().map(|m| (m.role, m.content.as_str())).collect()
}

fn said(messages: &[(Role, &str)]) -> Vec<Message> {
    messages.iter().map(|(role, content)| Message::new(*role, *content)).collect()
}

/// Records of every kind are the same conversation.
#[test]
fn records_of_every_kind() {
    let one = vec![(Role::User, "Why?"), (Role::Assistant, "So.")];
    for record in [
        r#"{"instruction": "Why?", "input": "", "output": "So."}"#,
        r#"{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}"#,
        r#"{"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}"#,
        r#"{"prompt": "Why?", "completion": "So."}"#,
    ] {
        assert_eq!(shown(&read(record).unwrap()[0]), one);
        let list = read(&format!("[{record},\n{record}]")).unwrap();
        assert_eq!((list.len(), shown(&list[1]), list[1].place.as_str()), (2, one.clone(), "chats.jsonl: record 2"));
    }
    let alpaca = read(r#"{"instruction": "Add.", "input": "1 2", "output": "3"}"#).unwrap();
    assert_eq!(shown(&alpaca[0])[0], (Role::User, "Add.\n\n1 2"));
    let many = read(r#"{"system": "Be brief.", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}"#).unwrap();
    assert_eq!(shown(&many[0])[0], (Role::System, "Be brief."));
    assert_eq!(llm::chat::records_of(&lines(&many)).unwrap(), many);
    let with = many[0].clone().with_system("Other.");
    assert_eq!(with, many[0], "what the system says already stays");
    assert_eq!(shown(&alpaca[0].clone().with_system("Be brief."))[0], (Role::System, "Be brief."));
}

/// What is no conversation is refused with its file, its record and what was expected.
#[test]
fn records_that_are_none() {
    let good = r#"{"prompt": "a", "completion": "b"}"#;
    for (bad, words) in [
        (r#"{"messages": [{"role": "user", "content": "a"}]}"#, "no answer"),
        (r#"{"messages": []}"#, "no answer"),
        (r#"{"instruction": "a"}"#, "no answer: \"output\" is missing"),
        (
            r#"{"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}"#,
            "message 1 is the assistant's, expected the user's",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "assistant", "content": "c"}]}"#,
            "message 3",
        ),
        (r#"{"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}"#, "message 2 is the system's"),
        (r#"{"messages": [{"role": "tool", "content": "a"}]}"#, "'tool' is no role"),
        (r#"{"prompt": "a", "completion": " \n"}"#, "message 2, the assistant's, is empty"),
        (r#"{"instruction": "", "output": "b"}"#, "message 1, the user's, is empty"),
        (r#"{"messages": [{"role": "user"}]}"#, "it has no content"),
        (r#"{"messages": [{"role": "user", "content": [1]}]}"#, "is no text"),
        (r#"{"text": "a"}"#, "it has text"),
        ("[1]", "a record is an object"),
        ("{", "no record in JSON"),
    ] {
        let error = read(&format!("{good}\n\n{bad}")).unwrap_err().to_string();
        assert!(error.starts_with("chats.jsonl:3: ") && error.contains(words), "{words}: {error}");
    }
    let error = read(&format!("[{good}, {{}}]")).unwrap_err().to_string();
    assert!(error.starts_with("chats.jsonl: record 2: expected"), "{error}");
    assert!(read(" \n").unwrap_err().to_string().contains("no record"));
    assert!(read("[1,").unwrap_err().to_string().contains("no list of records"));
}

/// What templates make of two turns behind what the system says.
#[test]
fn templates_that_are_shipped() {
    let messages = said(&[(Role::System, "Be brief."), (Role::User, " Why? "), (Role::Assistant, "So."), (Role::User, "And?")]);
    for (name, text) in [
        (
            "chatml",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Why? <|im_end|>\n<|im_start|>assistant\nSo.<|im_end|>\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "llama-3",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nSo.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAnd?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("mistral", "<s>[INST] Be brief.\n\n Why?  [/INST] So.</s>[INST] And? [/INST]"),
        (
            "gemma",
            "<bos><start_of_turn>user\nBe brief.\n\nWhy?<end_of_turn>\n<start_of_turn>model\nSo.<end_of_turn>\n<start_of_turn>user\nAnd?<end_of_turn>\n<start_of_turn>model\n",
        ),
        ("alpaca", "Be brief.\n\n### Instruction:\n Why? \n\n### Response:\nSo.<|endoftext|>\n\n### Instruction:\nAnd?\n\n### Response:\n"),
    ] {
        assert_eq!(Template::named(name, DATE).unwrap().text(&messages, true).unwrap(), text);
    }
    // the book's prompt, chapter 7
    let record = &read(r#"{"instruction": "Add.", "input": "1 2", "output": "3"}"#).unwrap()[0].messages;
    let book = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n\
                ### Input:\n1 2\n\n### Response:\n3<|endoftext|>";
    assert_eq!(Template::named("alpaca", DATE).unwrap().text(record, false).unwrap(), book);
    assert!(Template::named("alpacca", DATE).err().unwrap().to_string().contains("chatml, llama-3, mistral, gemma or alpaca"));
}

fn rendered(template: &str, messages: &[Message], specials: &[&str]) -> llm::Result<llm::chat::Rendered> {
    let specials: Vec<String> = specials.iter().map(ToString::to_string).collect();
    Template::parse("mine", template, DATE).unwrap().render(messages, &specials)
}

/// A template that loops, calls itself, or makes more and more is stopped, and the limit is named.
#[test]
fn templates_have_limits() {
    let messages = said(&[(Role::User, "a"), (Role::Assistant, "b")]);
    let steps = llm::chat::STEPS.to_string();
    let bytes = llm::chat::BYTES.to_string();
    let depth = format!("more than {} deep", llm::chat::DEPTH);
    for (template, words) in [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", &[steps.as_str(), "steps"][..]),
        ("{% set n = namespace(x='ab') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}", &[steps.as_str(), "grows"]),
        ("{{ 'ab' * 900000000 }}", &["limit"]),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", &[depth.as_str()]),
        ("{{ raise_exception('no ' ~ messages[0].role) }}", &["refuses the conversation: no user"]),
        ("{{ messages[0].nothing.at_all }}", &["line 1"]),
    ] {
        let error = rendered(template, &messages, &["</s>"]).unwrap_err().to_string();
        assert!(error.starts_with("the chat template mine: ") && words.iter().all(|w| error.contains(w)), "{template}: {error}");
    }
    assert!(bytes.len() > 6);
    for bad in ["{% if %}", "{{ a", "{% for m in messages %}"] {
        let error = Template::parse("mine", bad, DATE).err().unwrap().to_string();
        assert!(error.starts_with("mine: the chat template cannot be read: line 1"), "{error}");
    }
    assert!(Template::parse("mine", "a", "26 July").err().unwrap().to_string().contains("2024-07-26"));
}

/// Blocks take the spaces before and the line's end behind them, JSON is as Python writes it, and the date is the one that is given.
#[test]
fn templates_are_read_as_transformers_does() {
    let messages = said(&[(Role::User, "a\"é<"), (Role::Assistant, "b")]);
    for (template, text) in [
        ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
        ("a\n  {%- if true %} b {%+ endif -%}\n c", "a b c"),
        ("{{ messages[0].content | tojson }}", "\"a\\\"é<\""),
        ("{{ {'b': [1, 2.5, none], 'a': {}} | tojson }}", "{\"b\": [1, 2.5, null], \"a\": {}}"),
        ("{{ {'b': 1, 'a': 'é'} | tojson(indent=2, sort_keys=true, ensure_ascii=true) }}", "{\n  \"a\": \"\\u00e9\",\n  \"b\": 1\n}"),
        ("{{ strftime_now('%d %b %Y, %A') }}", "26 Jul 2024, Friday"),
        ("{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m['content'].upper().strip() }}{% endfor %}", "A\"É<"),
        ("{{ messages[0].content.split('\"')[-1].startswith('é') }}", "True"),
        ("{{ bos_token is defined and tools is not defined }}", "True"),
    ] {
        let written = Template::parse("mine", template, DATE).unwrap().text(&messages, false);
        assert_eq!(written.unwrap().to_lowercase(), text.to_lowercase(), "{template}");
    }
}

/// A template without the marks of what is generated.
fn unmarked(template: &str) -> String {
    ["{% generation %}", "{% endgeneration %}"].iter().fold(template.to_string(), |t, mark| {
        // as blocks they take the spaces before them, too
        t.replace(&format!("{{%- {}", &mark[3..]), "{%- if true %}{% endif %}").replace(mark, "")
    })
}

/// Where nothing is marked, answers are found where they are marked otherwise, in conversations of every length.
#[test]
fn answers_are_found_as_they_are_marked() {
    let mut r = Random(5);
    let words = ["yes", "no ", " a\nb", "é?", "[x]", "so. ", "assistant"];
    for shipped in SHIPPED {
        let specials: Vec<&str> = shipped.specials.iter().copied().filter(|s| !s.starts_with('[')).collect();
        let marked = Template::named(shipped.name, DATE).unwrap();
        for turns in 1..5 {
            let mut text = |_: usize| (0..1 + r.below(4)).map(|_| words[r.below(words.len())]).collect::<String>();
            let mut messages: Vec<Message> = vec![];
            for i in 0..2 * turns {
                let role = if i % 2 == 0 { Role::User } else { Role::Assistant };
                messages.push(Message::new(role, format!("{} {i}", text(i))));
            }
            let want = marked.render(&messages, &specials.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
            assert_eq!(want.answers.len(), turns, "{}", shipped.name);
            for (answer, message) in want.answers.iter().zip(messages.iter().filter(|m| m.role == Role::Assistant)) {
                let trained = &want.text[answer.clone()];
                assert!(specials.iter().any(|s| trained.ends_with(s)) && trained.contains(message.content.trim()), "{}: {trained:?}", shipped.name);
            }
            let plain =
                unmarked(shipped.text).replace("bos_token", &format!("'{}'", shipped.begin)).replace("eos_token", &format!("'{}'", shipped.end));
            assert!(!plain.contains("generation %}"));
            let found = rendered(&plain, &messages, &specials).unwrap();
            assert_eq!(found, want, "{}", shipped.name);
        }
    }
}

/// What cannot be told is refused, and so is an answer that nothing ends.
#[test]
fn answers_that_cannot_be_told() {
    let messages = said(&[(Role::User, "a"), (Role::Assistant, "b"), (Role::User, "c"), (Role::Assistant, "d")]);
    let all = "{% for m in messages %}";
    for (template, words) in [
        (format!("{all}[{{{{ m.role }}}}]{{{{ m.content }}}}{{{{ m.content }}}}</s>{{% endfor %}}"), "it writes an answer 2 times"),
        (format!("{all}[{{{{ m.role }}}}]{{{{ m.content | length }}}}</s>{{% endfor %}}"), "it writes an answer 0 times"),
        (format!("{all}[{{{{ m.role }}}}]{{{{ m.content | upper }}}}</s>{{% endfor %}}"), "it writes"),
        (
            format!("{all}[{{{{ m.role }}}}]{{{{ m.content }}}};{{% endfor %}}{{% if add_generation_prompt %}}[assistant]{{% endif %}}"),
            "no special token",
        ),
        (format!("{all}[{{{{ m.role }}}}]{{{{ m.content }}}}</s>{{% endfor %}}{{% if add_generation_prompt %}}[bot]{{% endif %}}"), "goes on with"),
        (format!("{all}{{% generation %}}{{{{ m.content }}}}</s>{{% endgeneration %}}{{% endfor %}}"), "marks 4 parts"),
        (
            format!("{all}{{% if m.role == 'assistant' %}}{{% generation %}}{{{{ m.content }}}}{{% endgeneration %}}</s>{{% endif %}}{{% endfor %}}"),
            "move {% endgeneration %} behind </s>",
        ),
        (
            format!("{all}{{% if m.role == 'assistant' %}}{{% generation %}}{{{{ m.content }}}}{{% endgeneration %}}{{% endif %}}{{% endfor %}}"),
            "would not stop",
        ),
    ] {
        let error = rendered(&template, &messages, &["</s>"]).unwrap_err().to_string();
        assert!(error.contains(words), "{template}: {words}: {error}");
    }
    let odd = said(&[(Role::User, "a\u{FDD0}"), (Role::Assistant, "b")]);
    assert!(rendered("x", &odd, &[]).unwrap_err().to_string().contains("U+FDD0"));
}

fn conversations(n: usize) -> Vec<Conversation> {
    let mut r = Random(11);
    let words = ["red", "green", "blue", "sky", "tree", "is", "the", "not", "what", "colour", "has"];
    let mut text = |least: usize| (0..least + r.below(6)).map(|_| words[r.below(words.len())]).collect::<Vec<_>>().join(" ");
    let one = |i: usize| Conversation {
        place: format!("record {}", i + 1),
        messages: vec![
            Message::new(Role::User, text(2) + "?"),
            Message::new(Role::Assistant, text(1) + "."),
            Message::new(Role::User, text(1)),
            Message::new(Role::Assistant, text(1)),
        ],
    };
    (0..n).map(one).collect()
}

/// The tokens that are asked are the answers and what ends each, of tokenizers of every kind.
#[test]
fn tokens_have_marks() {
    let all = conversations(12);
    for (shipped, kind) in SHIPPED.iter().zip([Kind::Bpe, Kind::Char, Kind::Byte, Kind::Bpe, Kind::Char]) {
        let template = Template::named(shipped.name, DATE).unwrap();
        let specials: Vec<String> = template.specials().to_vec();
        let text: String = all.iter().map(|c| template.text(&c.messages, false).unwrap()).collect();
        let learning = Learning { vocabulary: 320, specials: specials.clone(), ..Learning::default() };
        let tokenizer = Tokenizer::learned(kind, &learning, &text).unwrap().with_specials(&specials).unwrap();
        let chat = Chat::new(&template, &tokenizer);
        let stop = chat.stop().unwrap();
        assert_eq!(tokenizer.decode(&[stop]), shipped.end);
        for conversation in &all {
            let (encoded, rendered) = (chat.encode(conversation, false).unwrap(), chat.render(conversation).unwrap());
            assert_eq!(encoded.piece.ids, tokenizer.encode_with(&rendered.text, Specials::Token).unwrap());
            let asked: Vec<i32> = (0..encoded.piece.ids.len()).filter(|i| encoded.piece.asks(*i)).map(|i| encoded.piece.ids[i]).collect();
            let answers: String = rendered.answers.iter().map(|a| &rendered.text[a.clone()]).collect();
            assert_eq!((tokenizer.decode(&asked).trim_start(), encoded.straddling), (answers.trim_start(), 0), "{}", shipped.name);
            assert_eq!(asked.iter().filter(|id| **id == stop).count(), 2);
            let whole = chat.encode(conversation, true).unwrap().piece;
            assert!((0..whole.ids.len()).all(|i| whole.asks(i)));
            // what is read before the last answer begins the whole
            let prompt = chat.prompt(&conversation.messages[..3]).unwrap();
            assert!(encoded.piece.ids.starts_with(&prompt), "{}", shipped.name);
        }
        let mut steered = all[0].clone();
        steered.messages[0].content += shipped.end;
        let error = chat.encode(&steered, false).unwrap_err().to_string();
        assert!(error.contains("record 1: message 1") && error.contains(shipped.end), "{error}");
    }
}

fn config(sets: &[&str]) -> Config {
    sets.iter().fold(recipe("instruct", &Models::default()).unwrap(), |c, s| c.set(s).unwrap())
}

/// The file's order is kept: the first are trained on, the last held out, as the book splits its 1,100.
#[test]
fn conversations_are_split_as_the_book_does() {
    let all = conversations(1100);
    let parts = Parts::of(&lines(&all), &config(&[])).unwrap();
    assert_eq!([parts.train.len(), parts.test.len(), parts.held_out.len()], [935, 110, 55]);
    assert_eq!((&parts.train[934], &parts.test[0], &parts.held_out[0]), (&all[934], &all[935], &all[1045]));
    let error = Parts::of(&lines(&all[..1]), &config(&[])).unwrap_err().to_string();
    assert!(error.contains("of 1 conversations"), "{error}");
    let parts = Parts::of(&lines(&all[..2]), &config(&["chat.test=0.0", "data.held_out=0.5", "chat.system=Be brief."])).unwrap();
    assert_eq!((parts.train.len(), parts.held_out.len(), parts.train[0].messages[0].role), (1, 1, Role::System));
}

/// What is too long is cut, and left away where no answer begins before that; both are said.
#[test]
fn conversations_are_cut() {
    let all = conversations(40);
    let template = Template::named("alpaca", DATE).unwrap();
    let text: String = all.iter().map(|c| template.text(&c.messages, false).unwrap()).collect();
    let learning = Learning { vocabulary: 400, ..Learning::default() };
    let tokenizer = Tokenizer::learned(Kind::Bpe, &learning, &text).unwrap().with_specials(template.specials()).unwrap();
    let chat = Chat::new(&template, &tokenizer);
    for context in [256, 60, 45, 8] {
        let config = Config { train: llm::TrainConfig { context, ..config(&[]).train }, ..config(&["data.held_out=0.2", "chat.test=0.0"]) };
        let parts = Parts::of(&lines(&all), &config).unwrap();
        let got = parts.source("chats", &config, &tokenizer, &template);
        let whole: Vec<_> = all.iter().map(|c| chat.encode(c, false).unwrap().piece).collect();
        let fits = |p: &&llm::Piece| (1..p.ids.len().min(context + 1)).any(|i| p.asks(i));
        let dropped = whole.iter().filter(|p| !fits(p)).count();
        if dropped == 40 {
            assert!(got.unwrap_err().to_string().contains("train.context = 8"));
            continue;
        }
        let (source, counts) = got.unwrap();
        assert_eq!(counts.dropped, dropped);
        assert_eq!(counts.cut, whole.iter().filter(|p| fits(p) && p.ids.len() > context + 1).count());
        let kept: usize = whole[..32].iter().filter(fits).map(|p| p.ids.len().min(context + 1)).sum();
        assert_eq!((counts.tokens[0], source.train.count()), (kept, kept as u64));
    }
    assert_eq!(config(&[]).data.packing, Packing::BestFit);
}

/// A source of conversations, each once, with a tokenizer of characters.
fn chats(all: &[Conversation], config: &Config) -> (llm::Source, Tokenizer, Template) {
    let template = Template::named("alpaca", DATE).unwrap();
    let text: String = all.iter().map(|c| template.text(&c.messages, false).unwrap()).collect();
    let tokenizer = Tokenizer::of(Kind::Char, &text).unwrap().with_specials(template.specials()).unwrap();
    let source = Parts::of(&lines(all), config).unwrap().source("chats", config, &tokenizer, &template).unwrap().0;
    (source, tokenizer, template)
}

/// Rows of a step are of like lengths, the longest first of all; each document is read once an epoch, and the last step is filled up.
#[test]
fn bucketed_rows_are_of_like_lengths() {
    let all = conversations(45);
    let config = config(&["data.packing=bucketed", "data.held_out=0.1", "chat.test=0.0", "train.context=400"]);
    let (source, ..) = chats(&all, &config);
    let marks = source.marks.clone();
    let collator = llm::Collator::new(config.aim(), &config.objective, &config.data, &marks).unwrap();
    let data = llm::Data::asking(vec![source], &config.data, collator, 400, 1000).unwrap();
    let length = |row: &[i32]| row.iter().rposition(|l| *l >= 0).map_or(0, |last| last + 1);
    let mut epochs = vec![];
    for epoch in 0..3 {
        let mut seen = vec![];
        let mut spreads = vec![];
        for step in 0..10 {
            let batch = data.batch(3, epoch * 10 + step, 4, 400).unwrap();
            let own: Vec<usize> = batch.i32s("labels").chunks(400).map(length).collect();
            spreads.push((*own.iter().max().unwrap(), *own.iter().filter(|n| **n > 0).min().unwrap_or(&0)));
            seen.extend(batch.i32s("input_ids").chunks(400).filter(|r| r.iter().any(|id| *id != 0)).map(<[i32]>::to_vec));
        }
        // 40 documents in 10 steps of 4: no step reaches into another's lengths
        let mut sorted = spreads.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|w| w[0].0 <= w[1].1), "{sorted:?}");
        if epoch == 0 {
            assert_eq!(spreads[0].0, sorted[9].0, "the longest come first");
        }
        seen.sort_unstable();
        epochs.push((seen, spreads));
    }
    assert!(epochs[0].0.len() == 40 && epochs[0].0 == epochs[1].0 && epochs[0].0 == epochs[2].0);
    assert_ne!(epochs[1].1, epochs[2].1, "steps are in another order");
    assert_eq!(llm::TrainConfig { context: 100, ..llm::TrainConfig::default() }.lengths(), [25, 50, 100]);
    let ramp = config.set("train.ramp=[{until = 2, accumulate = 1}]").unwrap();
    assert!(ramp.check().unwrap_err().to_string().contains("bucketed"));
}

#[cfg(feature = "llvm")]
mod trained {
    use super::*;
    use crate::cli::{fails, works};
    use crate::common::Directory;
    use llm::{Generator, Sampling, Trainer};
    use passes::Options;
    use runtime::Pool;
    use std::ops::ControlFlow;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    const SMALL: [&str; 7] = [
        "num_hidden_layers=2",
        "hidden_size=32",
        "num_attention_heads=4",
        "num_key_value_heads=2",
        "intermediate_size=64",
        "chat.test=0.0",
        "data.tokenizer=char",
    ];

    fn trainer(all: &[Conversation], sets: &[&str]) -> (Trainer, Tokenizer, Template) {
        let config = config(&[&SMALL[..], sets].concat());
        let (source, tokenizer, template) = chats(all, &config);
        let config = Config { model: config.model.with_vocabulary(tokenizer.size()).unwrap(), ..config };
        (Trainer::compiled(config, vec![source], Arc::new(Pool::new(2)), &Options::default()).unwrap(), tokenizer, template)
    }

    /// The same conversations in one step give the same loss and the same norm of its gradient, however they are put into rows.
    #[test]
    fn rows_of_every_kind_are_one_step() {
        let all = conversations(9);
        let step = |sets: &[&str]| trainer(&all, &[&["data.held_out=0.1", "train.steps=1"], sets].concat()).0.one_step().unwrap();
        let want = step(&["data.packing=padded", "train.batch=8", "train.context=300"]);
        for sets in [
            ["data.packing=padded", "train.batch=2", "train.context=300", "train.accumulate=4"],
            ["data.packing=bucketed", "train.batch=8", "train.context=300", "train.lengths=[220, 260]"],
            ["data.packing=bucketed", "train.batch=4", "train.context=400", "train.accumulate=2"],
        ] {
            let got = step(&sets);
            assert!((got.0 - want.0).abs() < 1e-5 && (got.1 - want.1).abs() < 1e-4 * want.1, "{sets:?}: {got:?} for {want:?}");
        }
    }

    /// A model that is small learns its answers by heart, and stops where they do.
    #[test]
    fn answers_are_learned_by_heart() {
        let all: Vec<Conversation> = conversations(12)
            .into_iter()
            .map(|mut c| {
                c.messages.truncate(2);
                c
            })
            .collect();
        let sets = [
            "train.steps=220",
            "train.batch=5",
            "train.lr=8e-3",
            "train.context=240",
            "data.held_out=0.2",
            "data.packing=bucketed",
            "train.eval_every=1000",
        ];
        let (mut trainer, tokenizer, template) = trainer(&all, &[&sets[..], &["hidden_size=64"]].concat());
        trainer.run(None, &AtomicBool::new(false), &mut |_| Ok(())).unwrap();
        let config = config(&[&SMALL[..], &["hidden_size=64"]].concat());
        let model = config.model.with_vocabulary(tokenizer.size()).unwrap();
        let mut generator = Generator::sharing(&model, Arc::new(Pool::new(2)), &Options::default(), trainer.session()).unwrap();
        let chat = Chat::new(&template, &tokenizer);
        let (stop, greedy) = (chat.stop().unwrap(), Sampling { temperature: 0.0, ..Sampling::default() });
        let right = all[..9].iter().filter(|c| {
            let prompt = chat.prompt(&c.messages[..1]).unwrap();
            let flow = |token: i32| if token == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            let ids = generator.generate(&prompt, 80, &greedy, &mut |choice| Ok(flow(choice.token))).unwrap();
            ids.last() == Some(&stop) && tokenizer.decode(&ids[..ids.len() - 1]) == c.messages[1].content
        });
        assert!(right.count() >= 8, "nine answers were learned");
    }

    /// The commands as a person uses them.
    #[test]
    fn sft_and_chat() {
        let d = Directory::new("chats");
        let record = |c: &Conversation| format!("{{\"prompt\": \"{}\", \"completion\": \"{}\"}}\n", c.messages[0].content, c.messages[1].content);
        let file = d.write("chats.jsonl", conversations(20).iter().map(record).collect::<String>());
        let run = d.path("run");
        let sets: Vec<&str> = SMALL
            .iter()
            .flat_map(|s| ["--set", s])
            .chain(["--set", "data.held_out=0.2", "--set", "train.steps=4", "--set", "train.batch=2"])
            .collect();
        let shown = works(&[&["sft", "instruct", "--data", &file, "--show-mask", "2"], &sets[..]].concat());
        assert!(shown.matches('⟦').count() == 2 && shown.contains("<|endoftext|>⟧") && shown.contains("16 conversations to train on"), "{shown}");
        let trained = works(&[&["sft", "instruct", "--data", &file, "--out", &run, "--answers", "1", "--answer-tokens", "5"], &sets[..]].concat());
        assert!(trained.contains("before:") && trained.contains("eggcorn chat"), "{trained}");
        assert!(std::path::Path::new(&run).join(llm::chat::FILE).exists());
        let out = d.path("hf");
        works(&["export", &run, &out]);
        let template = std::fs::read_to_string(std::path::Path::new(&out).join(llm::chat::FILE)).unwrap();
        assert_eq!(template, SHIPPED[4].text);
        works(&["sft", "--resume", "--out", &run, "--data", &file, "--set", "train.steps=5", "--answers", "0"]);
        let bad = d.write("bad.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}");
        fails(&["sft", "instruct", "--data", &bad], &["bad.jsonl:1: ", "no answer"]);
        fails(&["sft", "instruct", "--data", &file, "--set", "chat.template=none"], &["chat.template is none", "alpaca"]);
        fails(&[&["sft", "instruct", "--data", &file, "--set", "train.context=8"], &sets[..]].concat(), &["train.context = 8"]);
    }
}
