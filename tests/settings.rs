//! Settings: near misses are understood, everything else is refused in words that help; and what follows from them.

use llm::{Config, Models, RECIPES, TrainConfig, recipe};

fn usual() -> Config {
    recipe("shakespeare-char", &Models::default()).unwrap()
}

#[track_caller]
fn sets(assignment: &str) -> Config {
    usual().set(assignment).unwrap_or_else(|e| panic!("{assignment}: {e}"))
}

/// The error of a setting: of reading it, or of its range.
#[track_caller]
fn refused(config: &Config, assignment: &str) -> String {
    let checked = config.set(assignment).and_then(|c| c.check());
    checked.expect_err(assignment).to_string()
}

#[track_caller]
fn contains(error: &str, words: &[&str]) {
    assert!(words.iter().all(|w| error.contains(w)), "{error}\nshould have {words:?}");
    // the words of people, not of types
    assert!(["f64", "u64", "usize", "i64", "integer", "float", "string", "variant"].iter().all(|w| !error.contains(w)), "{error}");
}

#[test]
fn near_misses_are_understood() {
    for (text, want) in [
        ("train.lr=.001", 0.001),
        ("train.lr=1e-3", 0.001),
        ("train.lr = 1E-3 ", 0.001),
        ("train.lr=5.", 5.0),
        ("train.lr=+.5", 0.5),
        ("train.lr=1", 1.0),
        ("train.lr=0_1", 1.0),
    ] {
        assert_eq!(sets(text).train.lr, want, "{text}");
    }
    for (text, want) in [
        ("train.steps=1e3", 1000),
        ("train.steps=1_000", 1000),
        ("train.steps=+5", 5),
        ("train.steps=5.0", 5),
        ("train.steps=007", 7),
        ("train.steps=0x10", 16),
    ] {
        assert_eq!(sets(text).train.steps, want, "{text}");
    }
    let tied = |text: &str| Config::of(models::by_name("llama").unwrap()).set(text).unwrap().model.settings()["tie_word_embeddings"].as_bool();
    for (text, want) in [("true", true), ("True", true), ("FALSE", false), ("false", false)] {
        assert_eq!(tied(&format!("tie_word_embeddings={text}")), Some(want), "{text}");
    }
    assert_eq!(sets("data.tokenizer=byte"), sets("data.tokenizer=\"byte\""));
    assert_eq!(sets("model.n_layer=2"), sets("n_layer=2"));
    // of two changes the later counts
    assert_eq!(sets("n_layer=2").set("n_layer=3").unwrap(), sets("n_layer=3"));
}

#[test]
fn what_is_no_value_is_refused_in_words() {
    let error = |text: &str| usual().set(text).expect_err(text).to_string();
    contains(&error("train.steps=many"), &["--set train.steps=many", "train.steps is \"many\"", "a whole number", "steps = 2000"]);
    contains(&error("train.steps=1.5"), &["train.steps is 1.5", "a whole number"]);
    contains(&error("train.steps=1e300"), &["a whole number"]);
    contains(&error("train.steps=-5"), &["train.steps is -5", "at least 0"]);
    contains(&error("train.steps=true"), &["train.steps is true", "a whole number"]);
    contains(&error("train.steps="), &["train.steps", "a whole number"]);
    contains(&error("train.steps=[1]"), &["a whole number"]);
    contains(&error("train.lr=fast"), &["train.lr is \"fast\"", "a number", "lr = 0.001"]);
    contains(&error("train.precision=f8"), &["train.precision", "'f8' is no precision", "f32, bf16 or f16"]);
    contains(&error("train.precision=32"), &["train.precision is 32", "a word"]);
    contains(&error("data.tokenizer=word"), &["data.tokenizer", "word", "char"]);
    contains(&error("train.lr"), &["key=value", "train.lr=3e-4"]);
    contains(&error("train.lr=1\nx = 2"), &["train.lr"]);
    contains(&error("n_layer=-1"), &["model.n_layer is -1", "at least 0"]);
}

#[test]
fn hints_only_when_near() {
    let error = |text: &str| usual().set(text).expect_err(text).to_string();
    for (text, hint) in [
        ("train.stpes=5", "; did you mean train.steps?"),
        ("n_layers=5", "; did you mean model.n_layer?"),
        ("steps=5", "; did you mean train.steps?"),
        ("held_out=0.2", "; did you mean data.held_out?"),
        ("trian.lr=1", "; did you mean train.lr?"),
        ("train.minlr=1", "; did you mean train.min_lr?"),
    ] {
        assert!(error(text).ends_with(hint), "{}", error(text));
    }
    for text in ["foo=1", "train.foo=1", "x=1", "=1", ".=1", "model.=1", "a.b.c=1", "zzzzzzzzzzzz=1"] {
        assert!(error(text).contains("there is no setting") && !error(text).contains("did you mean"), "{}", error(text));
    }
    contains(&error("model.arch=llama"), &["recipe", "--config"]);
    assert_eq!(llm::nearest("gpt3", ["gpt2", "llama"]), Some("gpt2"));
    assert_eq!(llm::nearest("foo", ["arch", "seed", "lr"]), None);
    assert_eq!(llm::nearest("a", ["b"]), None);
}

/// Each number has a range: its edges are in it, what lies beyond is refused with the key, the value, the range and something to try.
#[test]
fn every_number_has_a_range() {
    for (text, words) in [
        ("train.steps=0", ["train.steps is 0", "at least 1"]),
        ("train.steps=1000000001", ["train.steps is 1000000001", "at most 1000000000"]),
        ("train.batch=0", ["train.batch is 0", "at least 1"]),
        ("train.context=0", ["train.context is 0", "at least 1"]),
        ("train.context=65", ["train.context is 65", "64 positions"]),
        ("train.accumulate=0", ["train.accumulate is 0", "at least 1"]),
        ("train.lr=0", ["train.lr is 0", "above 0"]),
        ("train.lr=-1e-3", ["train.lr is -0.001", "above 0"]),
        ("train.lr=nan", ["train.lr is NaN", "above 0"]),
        ("train.lr=inf", ["train.lr is inf", "at most 1e30"]),
        ("train.min_lr=0.0011", ["train.min_lr is 0.0011", "at most 0.001"]),
        ("train.min_lr=-1e-9", ["train.min_lr is -1e-9", "at least 0"]),
        ("train.min_lr=nan", ["train.min_lr is NaN", "at most 0.001"]),
        ("train.warmup=2001", ["train.warmup is 2001", "at most 2000"]),
        ("train.warmup=-1", ["train.warmup is -1", "at least 0"]),
        ("train.warmup=1.5", ["train.warmup is 1.5", "whole steps"]),
        ("train.warmup=nan", ["train.warmup is NaN", "at most 2000"]),
        ("optimizer.beta1=1", ["optimizer.beta1 is 1", "below 1"]),
        ("optimizer.beta1=-0.1", ["optimizer.beta1 is -0.1", "at least 0"]),
        ("optimizer.beta2=1", ["optimizer.beta2 is 1", "below 1"]),
        ("optimizer.beta2=nan", ["optimizer.beta2 is NaN", "below 1"]),
        ("optimizer.weight_decay=-1", ["optimizer.weight_decay is -1", "at least 0"]),
        ("optimizer.weight_decay=inf", ["optimizer.weight_decay is inf", "at most"]),
        ("train.grad_clip=-1", ["train.grad_clip is -1", "at least 0"]),
        ("train.grad_clip=nan", ["train.grad_clip is NaN", "at least 0"]),
        ("train.decay=2001", ["train.decay is 2001", "at most 2000"]),
        ("train.decay=1.5", ["train.decay is 1.5", "whole steps"]),
        ("train.ema=1", ["train.ema is 1", "below 1"]),
        ("train.skip_loss=12", ["train.skip_loss is 12", "at most 11"]),
        ("train.skip_norm=-1", ["train.skip_norm is -1", "at least 0"]),
        ("optimizer.momentum=1", ["optimizer.momentum is 1", "below 1"]),
        ("train.time_limit=-1", ["train.time_limit is -1", "at least 0"]),
        ("train.eval_every=0", ["train.eval_every is 0", "at least 1"]),
        ("train.eval_batches=0", ["train.eval_batches is 0", "at least 1"]),
        ("train.save_every=0", ["train.save_every is 0", "at least 1"]),
        ("data.held_out=0", ["data.held_out is 0", "above 0"]),
        ("data.held_out=1", ["data.held_out is 1", "below 1"]),
        ("data.held_out=nan", ["data.held_out is NaN", "above 0"]),
        ("n_layer=0", ["n_layer is 0", "at least 1"]),
        ("dropout=1", ["dropout is 1", "below 1"]),
    ] {
        let error = refused(&usual(), text);
        contains(&error, &words);
        assert!(error.contains("; try "), "{error}");
    }
    for text in [
        "train.steps=1",
        "train.context=1",
        "train.lr=1e30",
        "train.min_lr=0",
        "train.min_lr=0.001",
        "train.warmup=0",
        "train.warmup=2000",
        "train.warmup=0.999",
        "optimizer.beta1=0",
        "optimizer.beta2=0",
        "optimizer.weight_decay=0",
        "train.grad_clip=0",
        "train.ema=0.9999",
        "train.skip_loss=11",
        "optimizer.momentum=0",
        "optimizer.name=muon",
        "train.seed=0",
        "train.seed=9007199254740993",
        "train.eval_every=1",
        "train.save_every=1",
        "data.held_out=0.999",
    ] {
        sets(text).check().unwrap_or_else(|e| panic!("{text}: {e}"));
    }
    assert_eq!(sets("train.seed=9007199254740993").train.seed, 9_007_199_254_740_993, "whole numbers are exact");
    contains(&refused(&usual(), "train.precision=f16"), &["train.precision is f16", "f32 or bf16"]);
    // a step's tokens together
    let large = sets("train.batch=1_000_000").set("train.accumulate=34").unwrap();
    contains(&large.check().unwrap_err().to_string(), &["2176000000 tokens", "2147483647"]);
    sets("train.batch=1_000_000").set("train.accumulate=33").unwrap().check().unwrap();
}

/// A file is told of with the line.
#[test]
fn files_are_told_of_by_line() {
    let read = |text: &str| Config::parse(text, "my.toml", &Models::default());
    let error = |text: &str| read(text).and_then(|c| c.check()).expect_err(text).to_string();
    let model = "[model]\narch = \"gpt2\"\n";
    contains(&error(&format!("{model}n_layr = 2\n")), &["my.toml:3: there is no setting n_layr; did you mean model.n_layer?"]);
    contains(&error(&format!("{model}[train]\n# twice as fast\nlr = \"fast\"\n")), &["my.toml:5: train.lr is \"fast\", expected a number"]);
    contains(&error(&format!("{model}[train]\nsteps = 2.5\n")), &["my.toml:4: train.steps is 2.5, expected a whole number"]);
    contains(&error(&format!("{model}[train]\nlr = .001\n")), &["my.toml:4: ", "; try lr = 0.001"]);
    contains(&error(&format!("{model}n_layer = 2\nn_layer = 3\n")), &["my.toml:4: ", "n_layer = 3"]);
    contains(&error(&format!("{model}[trian]\nlr = 1\n")), &["my.toml:4: there is no section [trian]", "did you mean train?"]);
    contains(&error(&format!("lr = 1\n{model}")), &["my.toml:1: lr is in no section"]);
    contains(&error("[model\n"), &["my.toml:1: "]);
    contains(&error(""), &["my.toml: model.arch is missing", "gpt2, llama"]);
    contains(&error("[model]\narch = \"lama\"\n"), &["my.toml:2: ", "there is no model lama", "did you mean llama?"]);
    contains(&error("[model]\narch = 5\n"), &["model.arch is missing"]);
    // what is not said is as it is by default
    let least = read(model).unwrap();
    assert_eq!((least.train.clone(), least.model.name()), (TrainConfig::default(), "gpt2"));
    assert_eq!(read(&format!("{model}[train]\nsteps = 1e3\n")).unwrap().train.steps, 1000);
}

/// What is written reads back, also what earlier versions wrote.
#[test]
fn configurations_read_back() {
    let models = Models::default();
    for r in RECIPES {
        let config = recipe(r.name, &models).unwrap();
        config.check().unwrap();
        assert_eq!(Config::parse(&config.to_toml(), "again", &models).unwrap(), config, "{}", r.name);
        assert!(!r.about().is_empty() && r.text.starts_with("# "), "{} says what it is for", r.name);
        let changed = config.set("train.min_lr=1e-5").unwrap();
        assert_eq!(Config::parse(&changed.to_toml(), "again", &models).unwrap(), changed);
    }
    let old = "[model]\narch = \"gpt\"\nvocab_size = 65\nn_positions = 64\nn_layer = 4\nn_head = 4\nn_embd = 128\ndropout = 0.0\n\n[data]\ntokenizer = \
               \"char\"\nheld_out = 0.1\n\n[train]\nsteps = 2000\nbatch = 12\ncontext = 64\naccumulate = 1\nprecision = \"f32\"\nlr = 0.001\nmin_lr = \
               0.0001\nwarmup = 100\nbeta1 = 0.9\nbeta2 = 0.99\nweight_decay = 0.1\ngrad_clip = 1.0\nseed = 1337\neval_every = 250\neval_batches = \
               20\nsave_every = 500\n";
    let old = Config::parse(old, "config.toml", &models).unwrap();
    old.check().unwrap();
    let new = Config { model: usual().model.with_vocabulary(65).unwrap(), ..usual() };
    assert_eq!(old.model, new.model);
    // the recipe's rates are what they were
    for step in [0, 1, 99, 100, 101, 1000, 1999, 2000] {
        assert_eq!(old.train.lr_at(step).to_bits(), new.train.lr_at(step).to_bits(), "step {step}");
    }
    assert_eq!(recipe("self", &models).unwrap().train.schedule().warmup, 50);
    // a model is a recipe with the usual training
    assert_eq!(recipe("llama", &models).unwrap(), Config::of(models.by_name("llama").unwrap()));
    // whose windows are no longer than it can read
    let short = |n| Config::of(models.by_name("gpt2").unwrap()).set(&format!("n_positions={n}")).unwrap().model;
    assert_eq!([16, 63, 64, 65].map(|n| Config::of(short(n)).train.context), [16, 63, 64, 64]);
    let error = recipe("shakespere", &models).unwrap_err().to_string();
    contains(&error, &["there is no recipe or model shakespere", "self, ", "shakespeare-char, ", "gpt2, llama"]);
}

/// Warm-up is a straight line to the highest rate, and a cosine goes from there to the lowest.
#[test]
fn rates_of_the_steps() {
    let train = |text: &[&str]| text.iter().fold(usual(), |c, s| c.set(s).unwrap()).train;
    let t = train(&["train.steps=1000", "train.warmup=100", "train.lr=2e-3", "train.min_lr=5e-4"]);
    let near = |have: f64, want: f64| assert!((have - want).abs() < 1e-15, "{have}, expected {want}");
    near(t.lr_at(0), 2e-3 / 101.0);
    near(t.lr_at(49), 2e-3 * 50.0 / 101.0);
    near(t.lr_at(99), 2e-3 * 100.0 / 101.0);
    near(t.lr_at(100), 2e-3);
    // a quarter, half and three quarters of the way
    let cosine = |share: f64| 5e-4 + 1.5e-3 * (1.0 + (std::f64::consts::PI * share).cos()) / 2.0;
    near(t.lr_at(325), cosine(0.25));
    near(t.lr_at(550), 1.25e-3);
    near(t.lr_at(775), cosine(0.75));
    near(t.lr_at(1000), 5e-4);
    near(t.lr_at(5000), 5e-4);
    assert!((0..999).all(|i| if i < 100 { t.lr_at(i) < t.lr_at(i + 1) } else { t.lr_at(i) > t.lr_at(i + 1) }));
    // the end is a tenth of the highest, whatever that is
    let low = train(&["train.lr=1e-5"]);
    assert_eq!(low.min_lr, None);
    near(low.lr_at(2000), 1e-6);
    assert!((0..2000).all(|i| low.lr_at(i) <= 1e-5));
    assert_eq!(train(&["train.min_lr=1e-5", "train.lr=1e-4"]).lr_at(2000), 1e-5);
    // warm-up as a share, and none
    assert_eq!(train(&["train.steps=1000"]).schedule().warmup, 50);
    assert_eq!(train(&["train.steps=6"]).schedule().warmup, 0);
    assert_eq!(train(&["train.warmup=1"]).schedule().warmup, 1);
    assert_eq!(train(&["train.warmup=0"]).lr_at(0), 1e-3);
    let one = train(&["train.steps=1", "train.warmup=1"]);
    near(one.lr_at(0), 5e-4);
    near(one.lr_at(1), 1e-3);
}

/// Only how long a run is and how often it is looked at may change when it goes on.
#[test]
fn what_may_change_when_a_run_goes_on() {
    for text in ["train.steps=3000", "train.eval_every=7", "train.eval_batches=3", "train.save_every=9", "train.time_limit=2", "train.patience=3"] {
        assert_eq!(usual().differences(&sets(text)), [""; 0], "{text}");
    }
    for (text, line) in [
        ("train.lr=1e-5", "  train.lr: saved 0.001, now 0.00001"),
        ("n_layer=5", "  model.n_layer: saved 4, now 5"),
        ("data.held_out=0.2", "  data.held_out: saved 0.1, now 0.2"),
        ("train.batch=13", "  train.batch: saved 12, now 13"),
        ("train.seed=1", "  train.seed: saved 1337, now 1"),
        ("train.warmup=0", "  train.warmup: saved 0.05, now 0.0"),
    ] {
        let lines = usual().differences(&sets(text));
        assert!(lines.iter().any(|l| l == line), "{text}: {lines:?}");
    }
    let other = Config { model: models::by_name("llama").unwrap(), ..usual() };
    assert_eq!(usual().differences(&other)[0], "  model.arch: saved gpt2, now llama");
}
