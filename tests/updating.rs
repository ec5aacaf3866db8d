//! `[optimizer]` and the learning rate: which parameter is updated how, and at what rate, by what people write.

use ir::Type;
use llm::{Config, Models, parameters, recipe};
use passes::{Group, Optimizer, Scale};

fn with(sets: &[&str]) -> Config {
    let config = recipe("shakespeare-char", &Models::default()).unwrap();
    sets.iter().fold(config, |c, s| c.set(s).unwrap_or_else(|e| panic!("{e}")))
}

/// How each parameter of a model is updated.
fn groups(config: &Config) -> Vec<(String, Type, Option<Group>)> {
    let update = config.update().unwrap();
    let of = |(path, ty): (String, Type)| {
        let group = update.group(&path, &ty).cloned();
        (path, ty, group)
    };
    parameters(&config.model).unwrap().into_iter().map(of).collect()
}

/// What weight decays, and at what share of the rate; nothing of what is frozen.
fn decay(group: &Group) -> f64 {
    match group.optimizer {
        Optimizer::AdamW(o) => o.weight_decay,
        Optimizer::Adam(o) => o.weight_decay,
        Optimizer::Sgd(o) => o.weight_decay,
        Optimizer::Lion(o) => o.weight_decay,
        Optimizer::Adafactor(o) => o.weight_decay,
        Optimizer::Muon(o) => o.weight_decay,
    }
}

#[test]
fn matrices_decay_and_nothing_else() {
    for (name, usual) in [("adamw", 0.1), ("adam", 0.0), ("sgd", 0.0), ("lion", 0.1), ("adafactor", 0.0), ("muon", 0.1)] {
        let config = |more: &[&str]| {
            let name = format!("optimizer.name={name}");
            let mut c = Config::of(with(&[]).model).set(&name).unwrap();
            c = more.iter().fold(c, |c, s| c.set(s).unwrap());
            c.check().unwrap();
            c
        };
        for (config, want) in [(config(&[]), usual), (config(&["optimizer.weight_decay=0.3"]), 0.3)] {
            for (path, _, group) in groups(&config) {
                let vector = path.ends_with("bias") || path.contains("ln_");
                assert_eq!(decay(&group.unwrap()), if vector { 0.0 } else { want }, "{name}: {path}");
            }
        }
    }
}

/// Muon has the matrices inside of layers; embeddings, heads, biases and gains are AdamW's.
#[test]
fn muon_is_for_layers() {
    for model in ["gpt2", "llama", "gemma", "t5", "bert", "mixtral", "deepseek"] {
        let model = Models::default().by_name(model).unwrap();
        let mut of = [0, 0];
        let settings = ["optimizer.name=muon", "optimizer.momentum=0.8", "optimizer.beta2=0.95", "optimizer.scale=original"];
        let config = settings.iter().fold(Config::of(model), |c, s| c.set(s).unwrap());
        for (path, ty, group) in groups(&config) {
            let own = ty.rank() - ir::names::loops(&path);
            let layer = own >= 2 && path.contains(['{', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) && !path.contains("bias");
            match group.unwrap().optimizer {
                Optimizer::Muon(o) => {
                    assert!(layer, "{}: {path}", config.model.name());
                    assert_eq!((o.momentum, o.nesterov, o.scale), (0.8, true, Scale::Original));
                    of[0] += 1;
                }
                Optimizer::AdamW(o) => {
                    assert!(!layer && o.beta2 == 0.95, "{}: {path}", config.model.name());
                    of[1] += 1;
                }
                o => panic!("{path}: {o:?}"),
            }
        }
        assert!(of.iter().all(|n| *n >= 2), "{}: {of:?}", config.model.name());
    }
}

/// The first group that holds a parameter decides; what it does not say is as of all others.
#[test]
fn groups_decide_in_order() {
    let config = Config::parse(
        "[model]\narch = \"gpt2\"\n[optimizer]\nname = \"lion\"\nbeta1 = 0.8\n\
         [[optimizer.groups]]\npath = \"*.wpe.weight\"\nfrozen = true\n\
         [[optimizer.groups]]\npath = \"transformer.h.#.mlp.*\"\nrank = 2\nname = \"muon\"\nlr = 0.5\nweight_decay = 0.7\n\
         [[optimizer.groups]]\npath = \"*.weight\"\nlr = 2.0\n\
         [[optimizer.groups]]\npath = \"*.attn.*\"\nweight_decay = 0.2\n",
        "my.toml",
        &Models::default(),
    )
    .unwrap();
    config.check().unwrap();
    assert_eq!(Config::parse(&config.to_toml(), "again", &Models::default()).unwrap(), config);
    for (path, ty, group) in groups(&config) {
        let rank = ty.rank() - ir::names::loops(&path);
        let Some(group) = group else {
            assert_eq!(path, "transformer.wpe.weight");
            continue;
        };
        let is = |lr: f64, d: f64| assert_eq!((group.lr, decay(&group)), (lr, d), "{path}");
        match () {
            () if path.contains(".mlp.") && rank == 2 => {
                is(0.5, 0.7);
                assert!(matches!(group.optimizer, Optimizer::Muon(_)));
                continue;
            }
            () if path.ends_with(".weight") => is(2.0, if rank == 2 { 0.1 } else { 0.0 }),
            () if path.contains(".attn.") => is(1.0, 0.2),
            () => is(1.0, 0.0),
        }
        assert!(matches!(group.optimizer, Optimizer::Lion(o) if o.beta1 == 0.8), "{path}");
    }
}

#[test]
fn groups_that_decide_nothing_are_named() {
    let error = |groups: &str| with(&[&format!("optimizer.groups=[{groups}]")]).update().unwrap_err().to_string();
    for (groups, words) in [
        ("{path = 'h.0.*'}", &["path \"h.0.*\" holds no parameter", "transformer.wte.weight", "{} or #"][..]),
        ("{path = '*', rank = 7}", &["path \"*\" and rank 7 holds no parameter"]),
        ("{path = '*.mlp.*'}, {path = '*.mlp.c_fc.*', frozen = true}", &["path \"*.mlp.c_fc.*\" decides nothing", "put it above"]),
        ("{path = '*.bias'}, {path = '*.bias'}", &["path \"*.bias\" decides nothing"]),
    ] {
        let error = error(groups);
        assert!(words.iter().all(|w| error.contains(w)), "{error}");
    }
    // in part is fine
    with(&["optimizer.groups=[{path = '*.mlp.*'}, {path = '*.c_proj.*', frozen = true}]"]).update().unwrap();
    let refused = |set: &str| with(&[]).set(set).and_then(|c| c.check()).expect_err(set).to_string();
    for (set, words) in [
        ("optimizer.name=adamm", &["'adamm' is no optimizer", "adamw, adam, sgd"][..]),
        ("optimizer.scale=large", &["'large' is no scale", "match-adamw"]),
        ("optimizer.groups=[{rank = 1}]", &["missing field `path`"]),
        ("optimizer.groups=[{path = 'a', lrr = 1.0}]", &["unknown field `lrr`"]),
        ("optimizer.groups=[{path = 'a', lr = -1.0}]", &["path \"a\": lr is -1"]),
        ("optimizer.groups=[{path = 'a', weight_decay = nan}]", &["path \"a\": weight_decay is NaN"]),
        ("optimizer.lr=1", &["no setting optimizer.lr", "did you mean train.lr?"]),
    ] {
        let error = refused(set);
        assert!(words.iter().all(|w| error.contains(w)), "{error}");
    }
}

/// What is a setting of the optimizer is none of the training, and the section is named.
#[test]
fn settings_of_another_section_are_told_of() {
    for key in ["beta1", "beta2", "weight_decay"] {
        let error = with(&[]).set(&format!("train.{key}=0.5")).unwrap_err().to_string();
        assert!(error.contains(&format!("no setting train.{key}; did you mean optimizer.{key}?")), "{error}");
    }
    let mut differences = with(&[]).differences(&with(&["optimizer.beta1=0.7", "optimizer.weight_decay=0.2"]));
    differences.sort();
    assert_eq!(differences, ["  optimizer.beta1: saved 0.9, now 0.7", "  optimizer.weight_decay: saved 0.1, now 0.2"]);
}

/// What the optimizer does not have is told of.
#[test]
fn settings_without_a_meaning_are_told_of() {
    let ignored = |sets: &[&str]| with(sets).optimizer.ignored();
    assert_eq!(ignored(&[]), [""; 0]);
    assert_eq!(ignored(&["optimizer.momentum=0.8"]), ["momentum"]);
    assert_eq!(ignored(&["optimizer.momentum=0.8", "optimizer.name=sgd"]), [""; 0]);
    assert_eq!(ignored(&["optimizer.beta1=0.8", "optimizer.name=sgd"]), ["beta1"]);
    assert_eq!(ignored(&["optimizer.beta1=0.8", "optimizer.name=muon"]), [""; 0]);
    assert_eq!(ignored(&["optimizer.d=2", "optimizer.groups=[{path='*', name='adafactor'}]"]), [""; 0]);
}

#[track_caller]
fn rates(sets: &[&str], want: &[f64]) {
    let train = with(&[&["train.steps=20", "train.lr=1"], sets].concat()).train;
    train.check().unwrap();
    for (step, want) in want.iter().enumerate() {
        let have = train.lr_at(step as u64);
        assert!((have - want).abs() < 1e-7, "{sets:?}: step {step}: {have}, expected {want}");
    }
}

/// PyTorch's and transformers' own numbers, which they print. Their warm-up begins at 0, with a step that does nothing, and this one a step
/// later: n steps here are n + 1 there.
#[test]
fn schedules_are_transformers() {
    let linear = [
        0.2,
        0.4,
        0.6,
        0.8,
        1.0,
        0.933333333,
        0.866666667,
        0.8,
        0.733333333,
        0.666666667,
        0.6,
        0.533333333,
        0.466666667,
        0.4,
        0.333333333,
        0.266666667,
        0.2,
        0.133333333,
        0.066666667,
        0.0,
        0.0,
    ];
    rates(&["train.schedule=linear", "train.min_lr=0", "train.steps=19", "train.warmup=4"], &linear);
    let cosine = [
        0.2,
        0.4,
        0.6,
        0.8,
        1.0,
        0.9890738,
        0.956772729,
        0.904508497,
        0.834565303,
        0.75,
        0.654508497,
        0.552264232,
        0.447735768,
        0.345491503,
        0.25,
        0.165434697,
        0.095491503,
        0.043227271,
        0.0109262,
        0.0,
    ];
    rates(&["train.schedule=cosine", "train.min_lr=0", "train.steps=19", "train.warmup=4"], &cosine);
    // Stanford's CS336: 1 at most, 0.1 at least, 7 steps of warm-up, 21 in all
    let course = [0.14285714, 0.28571429, 0.42857143, 0.57142857, 0.71428571, 0.85714286, 1.0, 0.98871756, 0.95543598, 0.90182417];
    rates(&["train.min_lr=0.1", "train.steps=20", "train.warmup=6"], &course);
    let stays = [1.0; 15];
    let line = [&stays[..], &[0.85, 0.7, 0.55, 0.4, 0.25, 0.1, 0.1]].concat();
    rates(&["train.schedule=wsd", "train.warmup=0", "train.decay=6"], &line);
    let root = [&stays[..], &[0.59175171, 0.422649731, 0.292893219, 0.183503419, 0.087129071, 0.0, 0.0]].concat();
    rates(&["train.schedule=wsd", "train.warmup=0", "train.decay=0.3", "train.decay_shape=1-sqrt", "train.min_lr=0"], &root);
    let inverse = [
        1.0 / 6.0,
        2.0 / 6.0,
        3.0 / 6.0,
        4.0 / 6.0,
        5.0 / 6.0,
        1.0,
        0.912870929,
        0.845154255,
        0.790569415,
        0.745355992,
        0.707106781,
        0.674199862,
        0.645497224,
        0.620173673,
        0.597614305,
        0.577350269,
        0.559016994,
        0.542326145,
        0.527046277,
        0.512989176,
        0.5,
    ];
    rates(&["train.schedule=inverse-sqrt", "train.warmup=5"], &inverse);
    let cycle = [
        0.04,
        0.131671843,
        0.371671843,
        0.668328157,
        0.908328157,
        1.0,
        0.987464006,
        0.950484632,
        0.890916178,
        0.811745654,
        0.716943002,
        0.611262022,
        0.500002,
        0.388741978,
        0.283060998,
        0.188258346,
        0.109087822,
        0.049519368,
        0.012539994,
    ];
    rates(&["train.schedule=one-cycle", "train.warmup=0.3"], &cycle);
    rates(&["train.schedule=constant", "train.warmup=3"], &[0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    // Vaswani et al.: width^-½ min(step^-½, step · warmup^-1.5), whose highest is at the end of the warm-up
    let noam = |step: f64| f64::min(step.powf(-0.5), step * 4f64.powf(-1.5)) * 2.0;
    rates(&["train.schedule=noam", "train.warmup=4"], &(1..30).map(|i| noam(f64::from(i))).collect::<Vec<_>>());
}

/// Rates are numbers, at most the highest, whatever the lengths.
#[test]
fn rates_have_bounds() {
    for curve in ["cosine", "linear", "constant", "wsd", "inverse-sqrt", "noam", "one-cycle"] {
        for (steps, warmup, decay) in [(1, 0, 0), (1, 1, 0), (2, 1, 1), (7, 0, 7), (9, 3, 2), (9, 9, 0)] {
            let sets =
                [format!("train.schedule={curve}"), format!("train.steps={steps}"), format!("train.warmup={warmup}"), format!("train.decay={decay}")];
            let train = with(&sets.iter().map(String::as_str).collect::<Vec<_>>()).train;
            train.check().unwrap_or_else(|e| panic!("{curve} {steps} {warmup} {decay}: {e}"));
            for step in 0..3 * steps {
                let rate = train.lr_at(step);
                assert!((0.0..=1e-3 * (1.0 + 1e-12)).contains(&rate), "{curve}: step {step} of {steps}: {rate}");
            }
        }
    }
    let long = with(&["train.schedule=wsd", "train.warmup=1500", "train.decay=501"]).check().unwrap_err().to_string();
    assert!(long.contains("1500 and 501 steps, and train.steps is 2000"), "{long}");
}

/// One dial: what follows from the depth, and what it leaves.
#[test]
fn a_dial_sets_the_whole_run() {
    for model in ["gpt2", "llama"] {
        let base = Config::of(Models::default().by_name(model).unwrap().with_vocabulary(65).unwrap());
        let mut last = (f64::MAX, 0, 0);
        for depth in [1, 2, 4, 12] {
            let (c, chosen) = base.at_depth(depth).unwrap();
            c.check().unwrap();
            let count: usize = parameters(&c.model).unwrap().iter().map(|p| p.1.count()).sum();
            let rows = c.train.step_rows() * c.train.context;
            let tokens = c.train.steps as usize * rows;
            assert!((20 * count..20 * count + rows).contains(&tokens), "{model} {depth}: {tokens} tokens for {count} parameters");
            let now = (c.train.lr, count, rows);
            assert!(now.0 < last.0 && now.1 > last.1 && now.2 >= last.2, "{model} {depth}: {now:?} after {last:?}");
            last = now;
            assert!((c.train.lr * (64.0 * depth as f64).sqrt() - 6e-4 * 768f64.sqrt()).abs() < 1e-4, "{}", c.train.lr);
            assert!(chosen.contains(&format!("depth {depth}: {} wide, {depth} heads, {count} parameters", 64 * depth)), "{chosen}");
            assert_eq!((c.train.batch, c.train.context), (base.train.batch, base.train.context));
            if model == "gpt2" && depth == 12 {
                assert_eq!(c.model, base.model, "GPT-2 small is 12 deep");
            }
        }
        let error = base.at_depth(0).err().unwrap().to_string();
        assert!(error.contains("--depth 0") && error.contains("--depth 4"), "{error}");
    }
    let error = Config::of(Models::default().by_name("t5").unwrap()).at_depth(3).err().unwrap().to_string();
    assert!(error.contains("t5 has no such dial"), "{error}");
}

/// muP, table 3 of Tensor Programs V: rates and starts by the width; decay in a step is the same.
#[test]
fn rates_and_starts_follow_the_width() {
    let config = |wide: usize| {
        let c = with(&["optimizer.mup=true", "optimizer.base_width=64", "tie_word_embeddings=false"]);
        Config { model: llm::of_width(&c.model, wide).unwrap(), ..c }
    };
    for (wide, n) in [(64, 1.0), (128, 2.0), (512, 8.0)] {
        let config = config(wide);
        config.check().unwrap();
        let start = config.start().unwrap();
        for (path, ty, group) in groups(&config) {
            let group = group.unwrap();
            let (hidden, head) = (path.contains("{}") && ty.rank() == 3, path.contains("lm_head"));
            let n = if hidden || head { n } else { 1.0 };
            assert_eq!(group.lr, 1.0 / n, "{path} at {wide}");
            let want = if head { 1.0 / n } else { n.powf(-0.5) };
            assert!((f64::from(start(&path, &ty)) - want).abs() < 1e-6, "{path} at {wide}");
            if ty.rank() > 1 && !path.ends_with("bias") && !path.contains("ln_") {
                assert!((decay(&group) * group.lr - 0.1).abs() < 1e-12, "{path}");
            }
        }
    }
    // at the base all is as ever
    let plain = with(&["tie_word_embeddings=false"]);
    let base = with(&["tie_word_embeddings=false", "optimizer.mup=true"]);
    assert_eq!(plain.update().unwrap(), base.update().unwrap());
    let tied = with(&["optimizer.mup=true"]).update().unwrap_err().to_string();
    assert!(tied.contains("tie_word_embeddings=false"), "{tied}");
    let sgd = with(&["optimizer.mup=true", "optimizer.name=sgd"]).check().unwrap_err().to_string();
    assert!(sgd.contains("adamw, adam and lion") && sgd.contains("sgd"), "{sgd}");
    assert!(llm::of_width(&plain.model, 100).is_err() && llm::of_width(&plain.model, 256).is_ok());
}
