//! Classes of texts: heads against plain arithmetic, losses, files, parts, figures.

use crate::common::{Directory, Random, difference, environment, gpt, llama};
use ir::{Builder, DType, Dim, Env, Graph, Value, eval};
use llm::evaluate::NaiveBayes;
use llm::{ClassifyConfig, Config, Confusion, Kind, Labelled, Mode, Models, Objective, TextReader, Tokenizer};
use models::{Bert, Family, Head, Model, Pooling, heads};
use std::path::Path;

fn bert(family: Family, pooler: bool) -> Model {
    Model::from(Bert {
        family,
        vocab_size: 17,
        max_position_embeddings: 12,
        type_vocab_size: 2,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        hidden_size: 9,
        intermediate_size: 7,
        pooler,
        ..Bert::default()
    })
}

fn sized(graph: Graph, batch: u64, time: u64) -> Graph {
    graph.bind(&|s| if s == 'B' { Some(batch) } else { Some(time) }).unwrap()
}

/// Every model and pooling that there is a head for.
fn cases() -> Vec<(Model, Pooling)> {
    let models = [gpt(), llama(true), bert(Family::Bert, true), bert(Family::Bert, false), bert(Family::Roberta, false)];
    models.into_iter().flat_map(|m| [Pooling::Mean, Pooling::First, Pooling::Last].map(|p| (m.clone(), p))).collect()
}

/// What is behind a text's last token changes nothing: a row that is filled up gives what it gives alone.
#[test]
fn rows_that_are_filled_up_are_as_alone() {
    for (model, pooling) in cases() {
        let graph = Objective::Classes(Head { classes: 3, pooling }).graph(&model, Mode::Evaluate).unwrap();
        let graph = graph.keep_outputs(&["logits"]);
        let whole = sized(graph.clone(), 3, 5);
        let mut env = environment(&whole, 3, 9);
        let lengths = [5, 2, 1];
        let mask = lengths.iter().flat_map(|n| (0..5).map(|t| f64::from(t < *n))).collect();
        env.insert("attention_mask".into(), Value::new(vec![3, 5], mask));
        // the token that fills RoBERTa's rows up counts no position: rows have it where the mask says, and nowhere else
        let ids: Vec<f64> = lengths.iter().flat_map(|n| (0..5).map(|t| if t < *n { 2.0 + f64::from(t) } else { 0.0 })).collect();
        env.insert("input_ids".into(), Value::new(vec![3, 5], ids.clone()));
        let all = eval(&whole, &env).unwrap()["logits"].clone();
        for (row, n) in lengths.iter().enumerate() {
            let alone = sized(graph.clone(), 1, *n as u64);
            let mut own = env.clone();
            own.insert("input_ids".into(), Value::new(vec![1, *n as usize], ids[row * 5..row * 5 + *n as usize].to_vec()));
            own.insert("attention_mask".into(), Value::new(vec![1, *n as usize], vec![1.0; *n as usize]));
            let one = eval(&alone, &own).unwrap()["logits"].clone();
            let here = Value::new(vec![1, 3], all.data[row * 3..row * 3 + 3].to_vec());
            assert!(difference(&here, &one) < 1e-12, "{} {pooling} row {row}", model.name());
        }
    }
}

/// Names are those of Hugging Face's heads, and the other heads' parameters are not there.
#[test]
fn parameters_have_the_names_of_hugging_face() {
    let names = |model: &Model, pooling| -> Vec<String> {
        let all = Objective::Classes(Head { classes: 3, pooling }).parameters(model).unwrap();
        let own = |(name, ty): &(String, ir::Type)| (!name.contains("{}")).then(|| format!("{name} {:?}", ty.sizes()));
        all.iter().filter_map(own).filter(|n| !n.contains("embeddings") && !n.contains("wte") && !n.contains("wpe")).collect()
    };
    assert_eq!(names(&gpt(), Pooling::Last), ["transformer.ln_f.weight [6]", "transformer.ln_f.bias [6]", "score.weight [3, 6]"]);
    assert_eq!(names(&llama(false), Pooling::Last), ["model.embed_tokens.weight [13, 16]", "model.norm.weight [16]", "score.weight [3, 16]"]);
    let dense = ["bert.pooler.dense.weight [9, 9]", "bert.pooler.dense.bias [9]"];
    let classifier = ["classifier.weight [3, 9]", "classifier.bias [3]"];
    assert_eq!(names(&bert(Family::Bert, true), Pooling::First), [dense, classifier].concat());
    assert_eq!(names(&bert(Family::Bert, true), Pooling::Mean), classifier);
    let [dense, out] =
        [("dense", 9), ("out_proj", 3)].map(|(name, n)| [format!("classifier.{name}.weight [{n}, 9]"), format!("classifier.{name}.bias [{n}]")]);
    assert_eq!(names(&bert(Family::Roberta, false), Pooling::First), [dense, out].concat());
}

/// The loss is a weighted sum and the sum of weights; labels that are not asked have neither.
#[test]
fn weights_are_in_the_sum_and_in_the_count() {
    let model = gpt();
    let graph = Objective::Classes(Head { classes: 4, pooling: Pooling::Last }).graph_of(&model, Mode::Train, &["label_weights"]).unwrap();
    let graph = sized(graph, 5, 3);
    let mut env = environment(&graph, 1, 9);
    env.insert("attention_mask".into(), Value::new(vec![5, 3], vec![1.0; 15]));
    let (labels, weights) = ([2.0, 0.0, -100.0, 3.0, 0.0], [0.5, 2.0, 0.0, 1.5, 2.0]);
    env.insert("labels".into(), Value::new(vec![5, 1], labels.to_vec()));
    env.insert("label_weights".into(), Value::new(vec![5, 1], weights.to_vec()));
    let out = eval(&graph, &env).unwrap();
    let (mut sum, mut count) = (0.0, 0.0);
    for ((x, label), weight) in out["logits"].data.chunks(4).zip(labels).zip(weights).filter(|((_, l), _)| *l >= 0.0) {
        sum += weight * (x.iter().map(|x| x.exp()).sum::<f64>().ln() - x[label as usize]);
        count += weight;
    }
    assert!((out["loss.sum"].data[0] - sum).abs() < 1e-10 && out["loss.count"].data[0] == count);
}

/// A value of each token and a reward of the last are projections of it.
#[test]
fn values_and_rewards() {
    let b = Builder::default();
    let s = b.scope();
    let (rows, tokens) = (Dim::sym('B'), Dim::sym('T'));
    let x = s.input("x", DType::F32, (rows, tokens, 4usize));
    let mask = s.input("mask", DType::I32, (rows, tokens));
    b.output("value", heads::value(&s, x));
    b.output("reward", heads::reward(&s, x, Some(mask)));
    b.output("whole", heads::reward(&s, x, None));
    let graph = sized(b.finish().unwrap(), 2, 3);
    let mut env = environment(&graph, 5, 9);
    env.insert("mask".into(), Value::new(vec![2, 3], vec![1.0, 1.0, 0.0, 0.0, 0.0, 0.0]));
    let out = eval(&graph, &env).unwrap();
    let of = |name: &str, at: usize| -> f64 { (0..4).map(|i| env[name].data[i] * env["x"].data[at * 4 + i]).sum() };
    for at in 0..6 {
        assert!((out["value"].data[at] - of("v_head.summary.weight", at) - env["v_head.summary.bias"].data[0]).abs() < 1e-12);
    }
    // the last that is there; of none the row's first place
    for (row, at) in [(0, 1), (1, 3)] {
        assert!((out["reward"].data[row] - of("score.weight", at)).abs() < 1e-12);
        assert!((out["whole"].data[row] - of("score.weight", row * 3 + 2)).abs() < 1e-12);
    }
}

/// Which classes are taken for which, counted in the program and by hand; of several that are likeliest the first counts.
#[test]
fn confusion_is_counted() {
    let b = Builder::default();
    let s = b.scope();
    let logits = s.input("logits", DType::F32, (7usize, 1usize, 3usize));
    let labels = s.input("labels", DType::I32, (7usize, 1usize));
    b.output("confusion", heads::confusion(&s, logits, labels));
    let graph = b.finish().unwrap();
    let x = [[0.0, 2.0, 1.0], [5.0, 5.0, 4.0], [-1.0, -2.0, -1.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [9.0, 0.0, 0.0]];
    let labels = [1.0, 1.0, 2.0, 0.0, 2.0, 0.0, -100.0];
    let env: Env = [("logits".into(), Value::new(vec![7, 1, 3], x.concat())), ("labels".into(), Value::new(vec![7, 1], labels.to_vec()))].into();
    let counts = eval(&graph, &env).unwrap()["confusion"].data.clone();
    assert_eq!(counts, [1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    let mut found = Confusion::default();
    found.add(&counts.iter().map(|c| *c as f32).collect::<Vec<_>>());
    assert_eq!(found, Confusion::of(3, [(1, 1), (1, 0), (2, 0), (0, 0), (2, 2), (0, 2)]));
    assert_eq!((found.count(), found.accuracy()), (6, 0.5));
    // scikit-learn's precision_recall_fscore_support of the same
    let of: Vec<[f64; 3]> = found.of_classes().iter().map(|c| [c.precision, c.recall, c.f1]).collect();
    let third = 1.0 / 3.0;
    for (have, want) in of.iter().zip([[third, 0.5, 0.4], [1.0, 0.5, 2.0 * third], [0.5, 0.5, 0.5]]) {
        assert!(have.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{have:?}");
    }
    assert!((found.macro_f1() - (0.4 + 2.0 * third + 0.5) / 3.0).abs() < 1e-12);
    assert_eq!(Confusion::default().macro_f1(), 0.0);
}

fn read(name: &str, text: &str, config: &ClassifyConfig) -> Result<Labelled, String> {
    Labelled::read(Path::new(name), text, config).map_err(|e| e.to_string())
}

/// Every format is the same texts.
#[test]
fn files_of_every_format() {
    let usual = ClassifyConfig::default();
    let want = Labelled {
        classes: vec!["ham".into(), "spam".into()],
        texts: vec![("see you, then".into(), 0), ("WIN £5 \"now\"".into(), 1), ("ok".into(), 0)],
    };
    let tsv = "ham\tsee you, then\nspam\tWIN £5 \"now\"\n\nham\tok\n";
    assert_eq!(read("a.tsv", tsv, &usual).unwrap(), want);
    assert_eq!(read("a.tsv", &format!("label\ttext\n{tsv}"), &usual).unwrap(), want);
    assert_eq!(read("a.txt", "text\tlabel\nsee you, then\tham\nWIN £5 \"now\"\tspam\nok\tham", &usual).unwrap(), want);
    let csv = "id,label,text\n1,ham,\"see you, then\"\n2,spam,\"WIN £5 \"\"now\"\"\"\n3,ham,ok\n";
    assert_eq!(read("a.csv", csv, &usual).unwrap(), want);
    let jsonl = "{\"text\": \"see you, then\", \"label\": \"ham\"}\n{\"label\": \"spam\", \"text\": \"WIN £5 \\\"now\\\"\"}\n{\"text\": \"ok\", \"label\": \"ham\"}\n";
    assert_eq!(read("a.jsonl", jsonl, &usual).unwrap(), want);
    let other = ClassifyConfig { text: "sms".into(), label: "kind".into(), ..usual.clone() };
    assert_eq!(read("a.csv", "kind,sms\nham,\"see you, then\"\nspam,\"WIN £5 \"\"now\"\"\"\nham,ok\n", &other).unwrap(), want);
    // numbers of classes are names, too, and named classes have the order that is said
    let numbers = read("a.jsonl", "{\"text\": \"a\", \"label\": 1}\n{\"text\": \"b\", \"label\": 0}\n", &usual).unwrap();
    assert_eq!((numbers.classes, numbers.texts[0].1), (vec!["0".to_string(), "1".into()], 1));
    let named = ClassifyConfig { classes: ["spam", "ham", "other"].map(String::from).to_vec(), ..usual };
    let turned = read("a.tsv", tsv, &named).unwrap();
    assert_eq!((turned.classes.len(), turned.texts[0].1), (3, 1));
}

#[test]
fn bad_files_are_told_by_line() {
    let usual = ClassifyConfig::default();
    let named = ClassifyConfig { classes: ["ham", "spam"].map(String::from).to_vec(), ..usual.clone() };
    let sentences: String = (0..30).map(|i| format!("the sentence {i}\tham\n")).collect();
    for (name, text, config, words) in [
        ("a.tsv", "ham\tx\nspma\ty\n", &named, vec!["a.tsv:2:", "\"spma\"", "ham or spam", "did you mean spam"]),
        ("a.tsv", "ham\tx\nspam\n", &usual, vec!["a.tsv:2:", "0 tabs", "class and its text"]),
        ("a.tsv", "ham\tx\n\nspam\ty\tz\n", &usual, vec!["a.tsv:3:", "2 tabs"]),
        ("a.tsv", "ham\tx\nspam\t \n", &usual, vec!["a.tsv:2:", "text is empty"]),
        ("a.tsv", "ham\tx\n\ty\n", &usual, vec!["a.tsv:2:", "class is empty"]),
        ("a.tsv", "ham\tx\nham\ty\n", &usual, vec!["a.tsv", "every text", "ham"]),
        ("a.tsv", &sentences, &usual, vec!["30 classes in 30 texts", "text, a tab and label"]),
        ("a.csv", "a,b\n1,2\n", &usual, vec!["a.csv:1:", "\"text\"", "a or b", "classify.text"]),
        ("a.csv", "text,label\nx,ham\ny\n", &usual, vec!["a.csv:3:"]),
        ("a.jsonl", "{\"text\": \"x\", \"label\": \"ham\"}\n{\"text\"\n", &usual, vec!["a.jsonl:2:", "no JSON"]),
        ("a.jsonl", "{\"text\": 5, \"label\": \"ham\"}\n", &usual, vec!["a.jsonl:1:", "\"text\"", "classify.text"]),
        ("a.jsonl", "[1]\n", &usual, vec!["a.jsonl:1:", "no object"]),
    ] {
        let error = read(name, text, config).unwrap_err();
        words.iter().for_each(|w| assert!(error.contains(w), "'{w}' is not in: {error}"));
    }
}

fn many(counts: &[usize]) -> Labelled {
    let mut r = Random(9);
    let mut texts: Vec<(u32, (String, usize))> =
        counts.iter().enumerate().flat_map(|(class, n)| (0..*n).map(move |i| (format!("text {class} {i}"), class))).map(|t| (r.bits(), t)).collect();
    texts.sort();
    Labelled { classes: (0..counts.len()).map(|i| format!("c{i}")).collect(), texts: texts.into_iter().map(|t| t.1).collect() }
}

/// No text is in two parts, shares are as they are said, and the same settings give the same.
#[test]
fn parts_share_nothing() {
    let all = many(&[4825, 747]);
    let config = ClassifyConfig { balance: true, ..ClassifyConfig::default() };
    let parts = all.parts(&config, 0.1).unwrap();
    let mut together = [&parts.train[..], &parts.validation, &parts.test].concat();
    together.sort_unstable();
    together.dedup();
    assert_eq!(together.len(), 2 * 747, "each class is cut to the smallest, and each text is once there");
    assert_eq!([&parts.train, &parts.validation, &parts.test].map(|p| all.counts(p)), [[522, 522], [74, 74], [151, 151]]);
    assert_eq!(parts, all.parts(&config, 0.1).unwrap());
    assert_ne!(parts, all.parts(&ClassifyConfig { seed: 124, ..config.clone() }, 0.1).unwrap());
    // as the book has it: all are shuffled, and cut where 7 tenths and 8 tenths end
    let plain = all.parts(&ClassifyConfig { stratified: false, ..config.clone() }, 0.1).unwrap();
    assert_eq!([&plain.train, &plain.validation, &plain.test].map(Vec::len), [1045, 149, 300]);
    assert_ne!(all.counts(&plain.train), [522, 523]);
    // without a test all that is not learned from is looked at
    let none = all.parts(&ClassifyConfig { test: 0.0, balance: false, ..config.clone() }, 0.1).unwrap();
    assert_eq!((all.counts(&none.validation), none.test.len()), (vec![483, 75], 0));
    assert!(many(&[3, 3]).parts(&config, 0.1).unwrap_err().to_string().contains("none is left"));
}

/// A text has what its kind of model puts around it, and keeps that where it is cut.
#[test]
fn texts_are_cut_inside_of_what_is_around_them() {
    let specials = ["[PAD]", "[CLS]", "[SEP]"].map(String::from);
    let tokenizer = Tokenizer::of(Kind::Char, "abcdefgh").unwrap().with_specials(&specials).unwrap();
    let id = |t: &str| tokenizer.id(t).unwrap();
    let of = |kind, longest, text: &str| TextReader::new(&tokenizer, kind, longest).ids(text).unwrap();
    let plain = tokenizer.encode("abc").unwrap();
    assert_eq!(of(models::Kind::Decoder, 3, "abcdef"), plain);
    assert_eq!(of(models::Kind::Encoder, 5, "abcdef"), [&[id("[CLS]")][..], &plain, &[id("[SEP]")]].concat());
    assert_eq!(of(models::Kind::Encoder, 9, ""), [id("[CLS]"), id("[SEP]")]);
    assert_eq!(of(models::Kind::Decoder, 9, "").len(), 0);
}

#[test]
fn settings_say_what_does_not_fit() {
    let config = |sets: &[&str]| sets.iter().fold(Config::of(gpt()), |c, s| c.set(s).unwrap());
    let asked = ["objective.kind=classify", "data.documents=classes"];
    config(&asked).check_text().unwrap();
    for (more, words) in [
        (vec!["data.documents=lines"], vec!["classify", "data.documents"]),
        (vec!["objective.kind=next-token"], vec!["finetune classify"]),
        (vec!["classify.test=0.95"], vec!["classify.test", "below 0.9"]),
        (vec!["classify.classes=[\"a\"]"], vec!["has 1"]),
        (vec!["classify.classes=[\"a\", \"b\", \"a\"]"], vec!["\"a\" twice"]),
        (vec!["classify.classes=[\"a\", \"b\"]", "classify.weights=[1.0]"], vec!["classify.weights", "2 classes"]),
        (vec!["classify.weights=[-1.0]"], vec!["classify.weights"]),
        (vec!["data.packing=best-fit"], vec!["one text a row"]),
    ] {
        let error = config(&[&asked[..], &more].concat()).check_text().unwrap_err().to_string();
        words.iter().for_each(|w| assert!(error.contains(w), "'{w}' is not in: {error}"));
    }
    let both = Config::of(Models::default().by_name("t5").unwrap()).set(asked[0]).unwrap().set(asked[1]).unwrap();
    assert!(both.check_text().unwrap_err().to_string().contains("a decoder or an encoder alone"));
}

/// Naive Bayes is what its formula says: words of two letters at least, whatever their case; words that were never seen say nothing.
#[test]
fn naive_bayes_by_hand() {
    let texts = [("Win WIN prize!", 1), ("see you a", 0), ("you won", 0), ("win you", 1)];
    let bayes = NaiveBayes::of(2, texts);
    // kinds of words: win, prize, see, you, won; in class 0 see, you twice, won; in class 1 win three times, prize, you
    let p = |count: f64, all: f64| ((count + 1.0) / (all + 5.0)).ln();
    let scores = |words: &[(f64, f64)]| [words.iter().map(|w| p(w.0, 4.0)).sum::<f64>(), words.iter().map(|w| p(w.1, 5.0)).sum()];
    let [a, b] = scores(&[(2.0, 1.0), (0.0, 3.0), (2.0, 1.0)]);
    assert_eq!(bayes.class("You win, you xyz"), usize::from(b > a));
    assert_eq!([bayes.class("see"), bayes.class("PRIZE"), bayes.class("nothing known")], [0, 1, 0]);
    assert_eq!(NaiveBayes::of(3, [("a", 2), ("b", 2), ("c", 1)]).majority(), 2);
    assert_eq!(NaiveBayes::of(3, [("aa", 2), ("bb", 1)]).class("cc dd"), 1, "a class without a text is never said");
}

/// A head on a model from scratch learns what a word gives away, and the run says how much of what it never saw it knows.
#[cfg(feature = "llvm")]
#[test]
fn classes_are_learned_from_the_command_line() {
    use crate::cli::{fails, works};
    let d = Directory::new("classes");
    let mut r = Random(3);
    let words = ["see", "you", "now", "and", "then", "there"];
    let mut line = |spam: bool| {
        let mut all: Vec<&str> = (0..4).map(|_| words[r.below(6)]).collect();
        all.insert(r.below(5), if spam { "win" } else { "home" });
        format!("{}\t{}\n", if spam { "spam" } else { "ham" }, all.join(" "))
    };
    let data = d.write("sms.tsv", (0..200).map(|i| line(i % 3 == 0)).collect::<String>());
    let sets = "data.tokenizer=bpe data.vocabulary=300 train.steps=120 train.batch=16 train.context=12 train.lr=5e-3 train.eval_every=60";
    for (model, small) in [("gpt2", "n_layer=1 n_embd=16 n_head=2"), ("bert", "num_hidden_layers=1 hidden_size=16 num_attention_heads=2 pooler=true")]
    {
        let run = d.path(model);
        let args: Vec<&str> = ["finetune", "classify", model, "--data", &data, "--out", &run].into_iter().collect();
        let sets: Vec<&str> = sets.split(' ').chain(small.split(' ')).flat_map(|s| ["--set", s]).collect();
        let out = works(&[&args[..], &sets].concat());
        let accuracy = |who: &str| -> f64 {
            let line = out.lines().find(|l| l.trim_start().starts_with(who)).unwrap_or_else(|| panic!("{out}"));
            line.split_whitespace().rev().nth(2).unwrap().parse().unwrap()
        };
        assert!(accuracy("this model") > 90.0 && accuracy("naive Bayes") == 100.0 && accuracy("majority class") < 75.0, "{out}");
        let report = std::fs::read_to_string(d.0.join(model).join("report.html")).unwrap();
        assert!(report.contains("<h2>Classes</h2>") && report.contains("class=\"matrix\""));
        assert!(std::fs::read_to_string(d.0.join(model).join("confusion.svg")).unwrap().contains("<rect class=\"cell\""));
        let metrics = std::fs::read_to_string(d.0.join(model).join("metrics.jsonl")).unwrap();
        assert!(["\"accuracy\"", "\"test macro-F1\"", "\"test, naive Bayes: accuracy\""].iter().all(|w| metrics.contains(w)), "{metrics}");
        // the same is said by the run, by what is exported of it, and by what is imported of that
        let messages = d.write("messages.txt", "see you home now\nnow win and there\n\n");
        let said = works(&["predict", &run, &messages]);
        assert_eq!(said.lines().map(|l| l.split('\t').next().unwrap()).collect::<Vec<_>>()[..2], ["ham", "spam"]);
        let objects = d.write("messages.jsonl", "{\"body\": \"see you home now\"}\n\n{\"body\": \"now win and there\"}\n");
        let json = works(&["predict", &run, &objects, "--field", "body", "--json", "--batch", "1"]);
        assert!(json.lines().count() == 2 && json.contains("\"probabilities\":{\"ham\":"), "{json}");
        fails(&["predict", &run, &objects], &["messages.jsonl:1", "--field"]);
        let (exported, imported) = (d.path(&format!("{model}-hf")), d.path(&format!("{model}-again")));
        works(&["export", &run, &exported]);
        assert!(std::fs::read_to_string(format!("{exported}/config.json")).unwrap().contains("ForSequenceClassification"));
        works(&["import", &exported, "--out", &imported]);
        for other in [&exported, &imported] {
            assert_eq!(works(&["predict", other, &messages]), said);
        }
        // and learned on from, with the head that is there
        let small = ["--set", "train.steps=1", "--set", "train.lr=1e-9"];
        let on = d.path("on");
        let out = works(&[&["finetune", "classify", "--init-from", &run, "--data", &data, "--out", &on][..], &sets, &small].concat());
        let line = out.lines().find(|l| l.trim_start().starts_with("this model")).unwrap();
        assert_eq!(line.split_whitespace().rev().nth(2).unwrap().parse::<f64>().unwrap(), accuracy("this model"));
        std::fs::remove_dir_all(&on).unwrap();
    }
    fails(&["predict", &d.path("gpt2"), "missing.txt"], &["missing.txt"]);
    let bad = d.write("bad.tsv", "ham\ta\nspam\tb\nsomething else\n");
    fails(&["finetune", "classify", "gpt2", "--data", &bad, "--out", &d.path("none")], &["bad.tsv:3"]);
    fails(&["finetune", "classify", "gpt2", "--out", &d.path("none")], &["--data"]);
}

/// A vocabulary grows: old rows stay, new ones are the mean of the old, or as from scratch, tied or not; another vocabulary is refused.
#[cfg(feature = "llvm")]
#[test]
fn a_vocabulary_grows() {
    use crate::cli::{SMALL, fails, text, works};
    let d = Directory::new("grown");
    let data = d.write("text.txt", text());
    let bpe = ["--set", "data.tokenizer=bpe", "--set", "data.vocabulary=280"];
    let rows = |run: &str, name: &str| -> Vec<Vec<f32>> {
        let tensors = llm::open_checkpoint(Path::new(run)).unwrap().tensors;
        let shape = tensors.shape(name).unwrap();
        let bytes = tensors.expect(name, &ir::Type::f32([shape[0], shape[1]])).unwrap();
        let all: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        all.chunks(shape[1]).map(<[f32]>::to_vec).collect()
    };
    for (tied, names) in [("true", vec!["transformer.wte.weight"]), ("false", vec!["transformer.wte.weight", "lm_head.weight"])] {
        let (run, own) = (d.path(&format!("run-{tied}")), format!("tie_word_embeddings={tied}"));
        let tie = ["--set", own.as_str()];
        works(&[&["train", "gpt2", "--data", &data, "--out", &run, "--set", "n_positions=8"][..], &SMALL, &bpe, &tie].concat());
        let extended = d.path(&format!("extended-{tied}.json"));
        let mark = "<|user|>";
        works(&["tokenizer", "extend", &format!("{run}/tokenizer.json"), "--special", mark, "--special", "<|bot|>", "--out", &extended]);
        for how in ["mean", "seed"] {
            let (grown, new) = (d.path(&format!("grown-{tied}-{how}")), format!("data.new_tokens={how}"));
            let still = ["--set", "train.steps=1", "--set", "train.batch=2", "--set", "train.context=8", "--set", "train.lr=1e-30", "--set", &new];
            works(&[&["train", "--init-from", &run, "--data", &data, "--tokenizer", &extended, "--out", &grown][..], &still].concat());
            for name in &names {
                let (old, new) = (rows(&run, name), rows(&grown, name));
                assert_eq!(new.len(), old.len() + 2);
                assert_eq!(new[..old.len()], old[..], "{name} {how}");
                let mean = |i: usize| old.iter().map(|row| f64::from(row[i])).sum::<f64>() / old.len() as f64;
                let is_mean = |row: &[f32]| row.iter().enumerate().all(|(i, x)| (f64::from(*x) - mean(i)).abs() < 1e-6);
                assert_eq!(new[old.len()..].iter().all(|row| is_mean(row)), how == "mean", "{name} {how}");
                assert!(new[old.len()..].iter().flatten().any(|x| *x != 0.0));
            }
        }
    }
    let other = d.path("other.json");
    let longer = d.write("longer.txt", "a long time ago ".repeat(40) + &text());
    works(&["tokenizer", "train", &longer, "--vocabulary", "290", "--out", &other]);
    fails(&["train", "--init-from", &d.path("run-true"), "--data", &data, "--tokenizer", &other, "--out", &d.path("none")], &["tokenizer extend"]);
}
