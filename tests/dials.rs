//! What helps to choose settings, as a person uses it: lr-find, coord-check, sweep, --depth, averages.

use crate::cli::{Directory, SMALL, fails, works};

fn text(d: &Directory) -> String {
    d.write("input.txt", llm::OWN_TEXT)
}

#[test]
fn a_rate_is_suggested_and_drawn() {
    let d = Directory::new("dials-rate");
    let (text, plot) = (text(&d), d.path("rate.svg"));
    let find = [&["lr-find", "shakespeare-char", "--data", &text, "--plot", &plot, "--points", "40"], &SMALL[..]].concat();
    let said = works(&find);
    let suggested = said.split("train.lr=").nth(1).unwrap().split('.').next().unwrap();
    assert!((1e-5..1.0).contains(&suggested.parse::<f64>().unwrap()), "{said}");
    let svg = std::fs::read_to_string(&plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("learning rate") && svg.contains("polyline"), "{svg}");
    fails(&[&find[..], &["--to", "1e-9"]].concat(), &["growing rate"]);
}

#[test]
fn widths_are_compared() {
    let d = Directory::new("dials-width");
    let (text, plot) = (text(&d), d.path("width.svg"));
    let check = [&["coord-check", "shakespeare-char", "--data", &text, "--plot", &plot, "--steps", "2"], &SMALL[..]].concat();
    let own = ["--set", "tie_word_embeddings=false", "--set", "optimizer.base_width=16"];
    let said = works(&[&check[..], &own, &["--widths", "16,32"]].concat());
    for words in ["standard width    16", "muP      width    32", "standard step 1", "muP      step 2", "to the power"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(std::fs::read_to_string(&plot).unwrap().contains("muP, step 2"));
    fails(&[&check[..], &["--widths", "16,32"]].concat(), &["optimizer.mup", "tie_word_embeddings=false"]);
    fails(&[&check[..], &own, &["--widths", "16"]].concat(), &["two widths or more"]);
    fails(&[&check[..], &own, &["--widths", "16,20"]].concat(), &["n_head has no share at a width of 20"]);
}

#[test]
fn a_sweep_shows_the_best_and_goes_on() {
    let d = Directory::new("dials-sweep");
    let (text, out) = (text(&d), d.path("sweep"));
    let sweep = |values: &str| {
        let grid = format!("train.lr={values}");
        let args = ["sweep", "--grid", &grid, "--grid", "train.seed=1,2", "--out", &out, "--", "shakespeare-char", "--data", &text];
        works(&[&args[..], &SMALL].concat())
    };
    let said = sweep("1e-9,1e-2");
    assert!(said.contains("run 4 of 4: train.lr=1e-2 train.seed=2") && said.contains("the best is train.lr=1e-2 train.seed="), "{said}");
    assert_eq!(std::fs::read_to_string(d.0.join("sweep/sweep.csv")).unwrap().lines().count(), 5);
    // what is there is not run again, and what is new is
    let again = sweep("1e-2,3e-2");
    assert!(!again.contains("run 1 of 4") && !again.contains("run 2 of 4") && again.contains("run 3 of 4"), "{again}");
    fails(&["sweep", "--grid", "train.lr", "--out", &out, "--", "shakespeare-char"], &["--grid train.lr", "train.lr=1e-3,3e-3"]);
    fails(&["sweep", "--grid", "train.lr=1", "--", "shakespeare-char", "--out", &out], &["--out is the sweep's"]);
    fails(&["sweep", "--grid", "train.lr=-1", "--out", &d.path("none"), "--", "shakespeare-char", "--data", &text], &["no run of the sweep"]);
}

/// `--depth` says what it chose, and `--set` counts; what a run keeps of averages is what is written with.
#[test]
fn depth_is_one_dial() {
    let d = Directory::new("dials-depth");
    let (text, out) = (text(&d), d.path("run"));
    let more =
        ["--set", "train.steps=2", "--set", "train.accumulate=1", "--set", "train.batch=1", "--set", "train.context=8", "--set", "train.ema=0.5"];
    let train = [&["train", "gpt2", "--depth", "1", "--data", &text, "--out", &out], &more[..]].concat();
    let said = crate::cli::eggcorn(&train);
    let error = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && error.contains("depth 1: 64 wide, 1 heads"), "{error}");
    let config = std::fs::read_to_string(d.0.join("run/config.toml")).unwrap();
    for line in ["n_layer = 1", "n_embd = 64", "steps = 2", "accumulate = 1", "lr = 0.00208"] {
        assert!(config.contains(line), "{line}: {config}");
    }
    let generate = |more: &[&str]| works(&[&["generate", &out, "--max-tokens", "20", "--seed", "3"], more].concat());
    assert!(generate(&["--ema"]) != generate(&[]) || generate(&["--ema"]).len() > 1);
    works(&["export", &out, &d.path("averaged"), "--ema"]);
    fails(&["train", "t5", "--depth", "2", "--data", &text, "--out", &d.path("t5"), "--set", "objective.kind=spans"], &["--depth", "t5", "gpt2"]);
    let plain = d.path("plain");
    works(&[&["train", "shakespeare-char", "--data", &text, "--out", &plain], &SMALL[..]].concat());
    fails(&["generate", &plain, "--ema"], &["keeps no averages", "train.ema=0.999"]);
}
