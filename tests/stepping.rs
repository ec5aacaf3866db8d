//! The step of a training loop and the loop around it: what happens when, what a batch must hold, and what a run may become.

use crate::cli::Directory;
use ir::{DType, Dim, Scope, Tensor};
use llm::{Batch, Config, Event, Outcome, TrainConfig, Trainer, Values};
use models::{Architecture, Gpt, Hidden, Init, Kept, Model, Reading, Shape};
use runtime::{Device, Pool, Session};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn config(steps: u64, eval_every: u64, save_every: u64) -> Config {
    let model = Model::from(Gpt { vocab_size: 20, n_positions: 8, n_layer: 1, n_head: 2, n_embd: 8, ..Gpt::default() });
    let train = TrainConfig { steps, batch: 3, context: 8, warmup: 2.0, eval_every, save_every, eval_batches: 2, ..TrainConfig::default() };
    Config { train, ..Config::of(model) }
}

fn tokens() -> Vec<i32> {
    (0..2000u64).map(|i| (llm::random(3, i / 3) % 20) as i32).collect()
}

fn trainer(config: &Config) -> Trainer {
    Trainer::new(config.clone(), tokens(), Arc::new(Pool::new(1))).unwrap()
}

/// What happened, a word each, and the rates of the steps.
fn events(trainer: &mut Trainer, dir: &Directory) -> (Vec<String>, Vec<f64>) {
    let (mut words, mut rates) = (vec![], vec![]);
    let outcome = trainer.run(Some(&dir.0), &AtomicBool::new(false), &mut |e| {
        match e {
            Event::Ready { from_step, parameters, .. } => {
                assert!(parameters > 0);
                words.push(format!("from {from_step}"));
            }
            Event::Step { step, lr, .. } => {
                words.push(format!("step {step}"));
                rates.push(lr);
            }
            Event::Evaluated { step, whole, .. } => words.push(format!("{} {step}", if whole { "whole" } else { "part" })),
            Event::Saved { step } => words.push(format!("save {step}")),
            Event::Notice(_) | Event::Sampled { .. } | Event::Measured { .. } => {}
        }
        Ok(())
    });
    assert!(matches!(outcome.unwrap(), Outcome::Finished(loss) if loss.is_finite()));
    (words, rates)
}

#[test]
fn what_happens_when() {
    let dir = Directory::new("step-when");
    let (words, _) = events(&mut trainer(&config(6, 2, 3)), &dir);
    let want = "from 0, step 1, step 2, part 2, step 3, save 3, step 4, part 4, step 5, step 6, save 6, whole 6";
    assert_eq!(words.join(", "), want);
}

/// A finished run goes on to more steps: where it stood, at the rates of a run that had so many from its beginning.
#[test]
fn a_finished_run_goes_on() {
    let dir = Directory::new("step-on");
    let short = config(4, 100, 100);
    events(&mut trainer(&short), &dir);
    let long = short.set("train.steps=7").unwrap();
    assert_eq!(short.differences(&long), [""; 0]);
    let mut second = trainer(&long);
    assert_eq!(second.resume(&dir.0).unwrap(), 4);
    assert_eq!(second.step.done(), 4);
    let (words, rates) = events(&mut second, &dir);
    assert_eq!(words.join(", "), "from 4, step 5, step 6, step 7, save 7, whole 7");
    assert_eq!(rates, [4, 5, 6].map(|i| long.train.lr_at(i)));
    // two steps of warm-up, then a cosine over five
    let cosine = |i: f64| 1e-4 + 9e-4 * (1.0 + (std::f64::consts::PI * i / 5.0).cos()) / 2.0;
    assert!(rates.iter().zip([2.0, 3.0, 4.0]).all(|(r, i)| (r - cosine(i)).abs() < 1e-15), "{rates:?}");
    // to as many as it has there is nothing to do, and to fewer it does not go
    let mut done = trainer(&long);
    done.resume(&dir.0).unwrap();
    assert_eq!(events(&mut done, &dir).0.join(", "), "from 7, save 7, whole 7");
    let error = trainer(&long.set("train.steps=6").unwrap()).resume(&dir.0).unwrap_err().to_string();
    assert!(error.contains("train.steps is 6") && error.contains("after step 7") && error.contains("train.steps=8"), "{error}");
}

/// What is dropped differs from step to step, from micro-batch to micro-batch and by the seed, and is nothing where nothing is asked.
#[test]
fn no_two_steps_drop_alike() {
    let step = |dropout: f64, accumulate: u32, seed: u64| {
        let model = Model::from(Gpt { vocab_size: 20, n_positions: 8, n_layer: 1, n_head: 2, n_embd: 8, dropout, ..Gpt::default() });
        let mut c = Config { model, ..config(9, 100, 100) };
        // so slow that the weights stay what they are
        (c.train.accumulate, c.train.seed, c.train.lr, c.train.warmup) = (accumulate, seed, 1e-20, 0.0);
        llm::Step::new(&c, Device::Cpu(Arc::new(Pool::new(1))), &passes::Options::default()).unwrap()
    };
    // both micro-batches read the same
    let batch = |n: usize| {
        let ids = |from: i32| Values::I32((0..n as i32).flat_map(|_| (0..24).map(move |i| (i * 7 + from) % 20)).collect());
        Batch::default().with("input_ids", &[3 * n, 8], ids(0)).with("labels", &[3 * n, 8], ids(7))
    };
    let losses = |mut s: llm::Step, n: usize| [(); 4].map(|()| s.take(&batch(n)).unwrap().loss);
    let plain = losses(step(0.0, 1, 1), 1);
    assert!(plain.iter().all(|l| *l == plain[0]), "{plain:?}");
    let one = losses(step(0.5, 1, 1), 1);
    assert!((0..4).all(|i| (0..i).all(|j| (one[i] - one[j]).abs() > 1e-6)), "{one:?}");
    let two = losses(step(0.5, 2, 1), 2);
    for (i, pair) in one.chunks(2).enumerate() {
        let mean = (pair[0] + pair[1]) / 2.0;
        assert!((two[i] - mean).abs() < 1e-6, "step {i}: {} of two micro-batches, {mean} expected", two[i]);
    }
    let other = losses(step(0.0, 1, 2), 1);
    assert_ne!(other[0], plain[0], "another seed starts elsewhere");
}

/// An evaluation on the way takes batches spread evenly over the held-out text; the mean is over labels, not over batches.
#[test]
fn what_an_evaluation_takes() {
    let c = config(5, 100, 100);
    let mut t = trainer(&c);
    t.one_step().unwrap();
    let data = llm::Data::split(tokens(), c.data.held_out, c.train.context).unwrap();
    let batches = data.held_out(c.train.batch, c.train.context).unwrap();
    assert_eq!(batches.count(), 9, "200 tokens in windows of 8, three a batch");
    let mut evaluation = llm::Evaluation::new(&c, Device::Cpu(Arc::new(Pool::new(1))), &passes::Options::default(), t.step.session()).unwrap();
    let mut loss = |i: usize| evaluation.mean_loss([batches.batch(i)]).unwrap();
    let asked = |i: usize| batches.batch(i).unwrap().i32s("labels").iter().filter(|l| **l >= 0).count() as f64;
    let losses: Vec<f64> = (0..9).map(&mut loss).collect();
    let mean = |of: &[usize]| of.iter().map(|i| losses[*i] * asked(*i)).sum::<f64>() / of.iter().map(|i| asked(*i)).sum::<f64>();
    assert!(asked(8) < asked(0), "the last batch is not full");
    assert!(losses.iter().all(|l| *l > 0.5) && losses[0] != losses[4]);
    for (n, of) in [(1, vec![0]), (2, vec![0, 4]), (4, vec![0, 2, 4, 6]), (9, (0..9).collect()), (100, (0..9).collect())] {
        let have = t.evaluate(Some(n)).unwrap();
        assert!((have - mean(&of)).abs() < 1e-6, "{n} batches: {have}, expected {}", mean(&of));
    }
    assert_eq!(t.evaluate(None).unwrap(), t.evaluate(Some(9)).unwrap());
    let nothing = evaluation.mean_loss([]).unwrap();
    assert_eq!(nothing, 0.0);
}

/// A session is filled by the names, types and sizes of columns, and by no others.
#[test]
fn a_batch_fits_what_reads_it() {
    let graph: ir::Graph = "\
main(%0 x: f32[2,3], %1 i: i32[2,3], %2 k: u32[2], %3 lr: f32[]) {
  %4 = mul %0, %3    : f32[2,3]
  %5 = cast[f32] %1  : f32[2,3]
  %6 = add %4, %5    : f32[2,3]
  %7 = cast[f32] %2  : f32[2]
  return y=%6, z=%7
}
"
    .parse()
    .unwrap();
    let mut session = Session::new(&graph, Arc::new(Pool::new(1))).unwrap();
    session.set_f32("lr", &[2.0]).unwrap();
    let x = || Values::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let i = || Values::I32(vec![10, 20, 30, 40, 50, 60]);
    let k = || Values::U32(vec![7, 8]);
    // columns may be more than are read, and in any order; rows may be counted together
    let whole = Batch::default().with("k", &[2], k()).with("i", &[2, 3], i()).with("more", &[1], k_one()).with("x", &[1, 2, 3], x());
    whole.fill(&mut session, &["lr"]).unwrap();
    session.run().unwrap();
    assert_eq!(session.output("y").unwrap().f32s()[..6], [12.0, 24.0, 36.0, 48.0, 60.0, 72.0]);
    assert_eq!(session.output("z").unwrap().f32s()[..2], [7.0, 8.0]);
    assert_eq!((whole.column("i").unwrap().values.dtype(), whole.column("j")), (DType::I32, None));
    assert_eq!((whole.i32s("i").len(), whole.i32s("x").len(), whole.i32s("j").len()), (6, 0, 0));
    let mut refused = |batch: Batch, others: &[&str], words: &[&str]| {
        let error = batch.fill(&mut session, others).unwrap_err().to_string();
        assert!(words.iter().all(|w| error.contains(w)), "{error} should have {words:?}");
    };
    let with = |name, shape: &[usize], values| Batch::default().with("k", &[2], k()).with(name, shape, values);
    refused(with("i", &[2, 3], i()), &["lr"], &["the program reads x", "no such column", "k, i"]);
    refused(with("i", &[2, 3], i()).with("x", &[2, 3], i()), &["lr"], &["column x is i32[2, 3]", "reads f32[2, 3]"]);
    refused(with("i", &[2, 3], i()).with("x", &[3, 2], x()), &["lr"], &["column x is f32[3, 2]", "reads f32[2, 3]"]);
    refused(with("i", &[1, 3], Values::I32(vec![1; 3])).with("x", &[2, 3], x()), &["lr"], &["column i is i32[1, 3]"]);
    refused(whole.clone(), &[], &["the program reads lr"]);
}

fn k_one() -> Values {
    Values::U32(vec![1])
}

/// A model whose gain is a scalar, and which keeps nothing of tokens before.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scalar {
    vocab_size: usize,
}

impl Default for Scalar {
    fn default() -> Scalar {
        Scalar { vocab_size: 20 }
    }
}

impl Architecture for Scalar {
    fn name() -> &'static str {
        "scalar"
    }
    fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Hidden<'g> {
        let gain = s.param("gain", [] as [Dim; 0]);
        Hidden::from(s.param("words", [self.vocab_size, 4]).gather(read.tokens) * gain)
    }
    fn head<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        x.contract("btc,vc->btv", s.param("out", [self.vocab_size, 4]))
    }
    fn cache(&self) -> Vec<Kept> {
        vec![]
    }
    fn init(&self, path: &str) -> Init {
        if path == "gain" { Init::Ones } else { Init::Normal(0.3) }
    }
    fn shape(&self) -> Shape {
        Shape { vocabulary: self.vocab_size, context: 64, dropout: 0.0 }
    }
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A scalar is trained, saved, and gone on from like any parameter; a model that keeps nothing writes.
#[test]
fn a_scalar_is_a_parameter() {
    let dir = Directory::new("step-scalar");
    let c = Config { model: Model::from(Scalar::default()), ..config(6, 100, 3) };
    let gain = |t: &Trainer| f32::from_le_bytes(t.session().param("gain").unwrap()[..4].try_into().unwrap());
    let mut t = trainer(&c);
    assert_eq!(gain(&t), 1.0);
    events(&mut t, &dir);
    assert_ne!(gain(&t), 1.0);
    let mut again = trainer(&c);
    again.resume(&dir.0).unwrap();
    assert_eq!(gain(&again), gain(&t));
    let mut generator = llm::Generator::new(&c.model, Arc::new(Pool::new(1))).unwrap();
    llm::initialise(generator.session_mut(), &c.model, 1).unwrap();
    assert_eq!(generator.read(3).unwrap().len(), 20);
}

/// A layer's start does not depend on how many there are, but for the scale of its way out.
#[test]
fn a_layer_starts_alike_at_any_depth() {
    let start = |layers: usize, name: &str| -> Vec<u8> {
        let model = Model::from(Gpt { vocab_size: 20, n_positions: 8, n_layer: layers, n_head: 2, n_embd: 8, ..Gpt::default() });
        let graph = llm::bound(&model, 1, 4).unwrap().keep_outputs(&["logits"]);
        let mut session = Session::new(&graph, Arc::new(Pool::new(1))).unwrap();
        llm::initialise(&mut session, &model, 5).unwrap();
        session.param(name).unwrap().to_vec()
    };
    let name = "transformer.h.{}.attn.c_attn.weight";
    let (two, three) = (start(2, name), start(3, name));
    assert_eq!(two.len() * 3, three.len() * 2);
    assert!(three.starts_with(&two));
    assert_ne!(two[..two.len() / 2], two[two.len() / 2..], "no two layers start alike");
    let bias = start(2, "transformer.h.{}.attn.c_attn.bias");
    assert!(bias.iter().all(|b| *b == 0));
    assert_eq!(start(2, "transformer.wte.weight"), start(3, "transformer.wte.weight"));
    assert_ne!(start(2, "transformer.h.{}.attn.c_proj.weight"), start(3, "transformer.h.{}.attn.c_proj.weight")[..2 * 64 * 4]);
}

/// Every optimizer learns, with stacked layers, micro-batches, a clipped gradient and tied weights; what it keeps is saved, and a run that goes
/// on has the bits of one that never stopped.
#[test]
fn every_optimizer_goes_on_to_the_bit() {
    let base = ["train.ema=0.9", "train.accumulate=2", "train.grad_clip=0.5", "train.skip_loss=5", "n_layer=2", "train.lr=1e-2"];
    for name in ["adamw", "adam", "sgd", "lion", "adafactor", "muon"] {
        // steps of adafactor are relative to a parameter's size
        let rate = if name == "adafactor" { "train.lr=0.5" } else { base[5] };
        let name = format!("optimizer.name={name}");
        let c = base.iter().chain([&name.as_str(), &rate]).fold(config(40, 100, 100), |c, s| c.set(s).unwrap());
        let dir = Directory::new("step-optimizer");
        let mut whole = trainer(&c);
        let losses: Vec<f64> = (0..40).map(|_| whole.one_step().unwrap().0).collect();
        let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
        assert!(mean(&losses[35..]) < mean(&losses[..5]) - 0.05, "{name}: {losses:?}");
        let mut first = trainer(&c);
        (0..17).for_each(|_| assert!(first.one_step().is_ok()));
        first.run(Some(&dir.0), &AtomicBool::new(true), &mut |_| Ok(())).unwrap();
        let mut second = trainer(&c);
        assert_eq!(second.resume(&dir.0).unwrap(), 17);
        (17..40).for_each(|i| assert_eq!(second.one_step().unwrap().0.to_bits(), losses[i].to_bits(), "{name}: step {}", i + 1));
        for (path, _) in whole.session().params() {
            assert_eq!(whole.session().param(path).unwrap(), second.session().param(path).unwrap(), "{name}: {path}");
        }
    }
}

/// The evaluation is of the averages, which are others than the weights and near to them.
#[test]
fn averages_are_evaluated() {
    let c = config(30, 100, 100).set("train.ema=0.9").unwrap().set("train.lr=1e-2").unwrap();
    let mut averaged = trainer(&c);
    let mut plain = trainer(&c.set("train.ema=0").unwrap());
    (0..30).for_each(|_| assert_eq!(averaged.one_step().unwrap(), plain.one_step().unwrap(), "an average changes no step"));
    let [a, p] = [&mut averaged, &mut plain].map(|t| t.evaluate(None).unwrap());
    assert!(a != p && (a - p).abs() < 0.2, "{a} and {p}");
    let values = |bytes: Vec<u8>| bytes.chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect::<Vec<_>>();
    let param = |t: &Trainer, path: &str| values(t.session().param(path).unwrap());
    let path = "transformer.wte.weight";
    let (kept, now) = (param(&averaged, &format!("ema.{path}")), param(&averaged, path));
    assert!(kept.iter().zip(&now).any(|(a, b)| a != b) && kept.iter().zip(&now).all(|(a, b)| (a - b).abs() < 0.1));
    // weights that are their own averages have the loss that was evaluated
    let mut same = trainer(&c.set("train.ema=0").unwrap());
    let dir = Directory::new("step-averages");
    averaged.run(Some(&dir.0), &AtomicBool::new(true), &mut |_| Ok(())).unwrap();
    let tensors = llm::open_checkpoint(&dir.0).unwrap().tensors.averaged().unwrap();
    same.step.start_from(&tensors, &|_| true).unwrap();
    assert_eq!(same.evaluate(None).unwrap(), a);
    plain.run(Some(&dir.0), &AtomicBool::new(true), &mut |_| Ok(())).unwrap();
    let none = llm::open_checkpoint(&dir.0).unwrap().tensors.averaged().err().unwrap().to_string();
    assert!(none.contains("keeps no averages") && none.contains("train.ema"), "{none}");
}

/// One batch is learned by heart, a run that learns no more ends, and so does one whose time is over; each says so and has saved.
#[test]
fn runs_that_end_early() {
    let told = |c: &Config| {
        let (dir, mut notices, mut saved, mut losses) = (Directory::new("step-early"), vec![], 0, vec![]);
        let mut trainer = trainer(c);
        let outcome = trainer.run(Some(&dir.0), &AtomicBool::new(false), &mut |e| {
            match e {
                Event::Notice(text) => notices.push(text),
                Event::Saved { step } => saved = step,
                Event::Step { loss, .. } => losses.push(loss),
                _ => {}
            }
            Ok(())
        });
        assert!(matches!(outcome.unwrap(), Outcome::Finished(_)));
        assert_eq!((saved, losses.len() as u64), (trainer.step.done(), trainer.step.done()));
        (trainer.step.done(), notices.join("\n"), losses)
    };
    let learning = config(150, 1000, 1000).set("train.lr=2e-2").unwrap();
    let (_, _, apart) = told(&learning);
    let (_, _, one) = told(&learning.set("train.one_batch=true").unwrap());
    assert!(one[149] < 0.2 && apart[149] > 0.5, "{} by heart, {} else", one[149], apart[149]);
    // nothing is learned at a rate of next to nothing
    let stuck =
        ["train.lr=1e-30", "train.patience=3", "train.steps=50", "train.eval_every=2"].iter().fold(learning.clone(), |c, s| c.set(s).unwrap());
    let (steps, notices, _) = told(&stuck);
    assert!(
        steps == 8 && notices.contains("in 3 evaluations") && notices.contains("after step 8 of 50") && notices.contains("--resume"),
        "{steps}: {notices}"
    );
    let (steps, notices, _) = told(&learning.set("train.time_limit=1e-9").unwrap());
    assert!(steps <= 1 && notices.contains("train.time_limit is over"), "{steps}: {notices}");
    let (_, notices, _) = told(&config(3, 9, 9).set("train.batch=2000").unwrap());
    assert!(notices.contains("the text is read 27 times over") || notices.is_empty(), "{notices}");
    let (_, notices, _) = told(&config(3, 9, 9).set("train.batch=4000").unwrap());
    assert!(notices.contains("times over, and reading it more than about 40 times"), "{notices}");
}

/// Rates that grow find where the loss is lowest, and end where it is lost.
#[test]
fn a_rate_is_found() {
    let c = config(1000, 1000, 1000);
    let rates = trainer(&c).find_rate(1e-5, 10.0, 60).unwrap();
    let losses: Vec<f64> = rates.points.iter().map(|p| p.1).collect();
    assert!(losses.len() < 60 && losses.iter().all(|l| l.is_finite()), "{losses:?}");
    assert!(rates.points.windows(2).all(|w| (w[1].0 / w[0].0 - 10f64.powf(6.0 / 59.0)).abs() < 1e-9), "each rate is the same factor above the last");
    assert!((1e-3..3.0).contains(&rates.lowest()), "{}", rates.lowest());
    assert!((0.03..0.3).contains(&(rates.suggestion() / rates.lowest())), "{} of {}", rates.suggestion(), rates.lowest());
    let error = trainer(&c).find_rate(1e-3, 1e-4, 60).unwrap_err().to_string();
    assert!(error.contains("growing rate"), "{error}");
}

/// The coordinate check: with muP logits move as far at every width; without it farther at a larger one.
#[test]
fn logits_move_alike_at_every_width() {
    let c = ["optimizer.base_width=16", "tie_word_embeddings=false", "train.lr=1e-2", "optimizer.weight_decay=0"];
    let c = c.iter().fold(config(9, 9, 9), |c, s| c.set(s).unwrap());
    let moved = |wide: usize, mup: bool| {
        let mut c = Config { model: llm::of_width(&c.model, wide).unwrap(), ..c.clone() };
        c.optimizer.mup = mup;
        let device = Device::Cpu(Arc::new(Pool::new(1)));
        trainer(&c).coordinates(3, device, &passes::Options::default()).unwrap()[2]
    };
    let ratio = |mup: bool| moved(256, mup) / moved(16, mup);
    let (standard, mup) = (ratio(false), ratio(true));
    assert!(standard > 3.0 * mup && (0.3..2.5).contains(&mup), "16 times as wide: {standard} times as far, {mup} with muP");
}

/// Steps that begin small: rows follow those of the steps before, each row's first tokens are read, and a run that goes on is the same to the bit.
#[test]
fn steps_may_begin_small() {
    let ramp = "train.ramp=[{until = 2, accumulate = 1, context = 3}, {until = 4, accumulate = 1}, {until = 5, context = 5}]";
    let c = ["train.accumulate=3", ramp, "dropout=0.1", "train.steps=8"].iter().fold(config(8, 100, 100), |c, s| c.set(s).unwrap());
    c.check().unwrap();
    let sizes: Vec<(u32, usize)> = (0..7).map(|i| c.train.size(i)).map(|s| (s.accumulate, s.context)).collect();
    assert_eq!(sizes, [(1, 3), (1, 3), (1, 8), (1, 8), (3, 5), (3, 8), (3, 8)]);
    assert_eq!([0, 1, 2, 4, 5, 7].map(|i| c.train.micro_batches(i)), [0, 1, 2, 4, 7, 13]);
    assert_eq!((c.train.rows(), c.train.tokens(0), c.train.tokens(4), c.train.tokens(7)), (3 * 16, 9, 45, 72));
    assert_eq!(Config::parse(&c.to_toml(), "again", &llm::Models::default()).unwrap(), c);
    // a step of the same parameters alone, on the rows that are its own
    let data = llm::Data::split(tokens(), c.data.held_out, 8).unwrap();
    let mut t = trainer(&c.set("dropout=0").unwrap());
    let mut alone = trainer(&c.set("dropout=0").unwrap().set("train.ramp=[]").unwrap().set("train.accumulate=1").unwrap());
    let rows = data.rows(c.train.seed, 0, 3, 8).unwrap();
    let mut masked = rows.i32s("labels").to_vec();
    masked.iter_mut().enumerate().filter(|(i, _)| i % 8 >= 3).for_each(|(_, label)| *label = -100);
    let masked =
        Batch::default().with("input_ids", &[3, 8], Values::I32(rows.i32s("input_ids").to_vec())).with("labels", &[3, 8], Values::I32(masked));
    let want = alone.step.take(&masked).unwrap();
    let (loss, norm) = t.one_step().unwrap();
    assert!((loss - want.loss).abs() < 1e-6 && (norm - want.grad_norm).abs() < 1e-5, "{loss} {norm}, expected {want:?}");
    // to the bit, whenever it stops
    let mut whole = trainer(&c);
    let losses: Vec<f64> = (0..8).map(|_| whole.one_step().unwrap().0).collect();
    for stop in [1, 3, 5] {
        let dir = Directory::new("step-ramp");
        let mut first = trainer(&c);
        (0..stop).for_each(|_| assert!(first.one_step().is_ok()));
        first.run(Some(&dir.0), &AtomicBool::new(true), &mut |_| Ok(())).unwrap();
        let mut second = trainer(&c);
        second.resume(&dir.0).unwrap();
        (stop..8).for_each(|i| assert_eq!(second.one_step().unwrap().0.to_bits(), losses[i].to_bits(), "stopped after {stop}, step {i}"));
    }
    for (ramp, words) in [
        ("[{until = 0}]", "until = 0 comes after 0"),
        ("[{until = 5}, {until = 5}]", "until = 5 comes after 5"),
        ("[{until = 5, context = 9}]", "context is 9, expected at least 1 and at most 8"),
        ("[{until = 5, accumulate = 0}]", "accumulate is 0"),
    ] {
        let error = config(8, 9, 9).set(&format!("train.ramp={ramp}")).unwrap().check().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let packed = config(8, 9, 9).set("train.ramp=[{until = 5, context = 4}]").unwrap().set("data.packing=best-fit").unwrap();
    assert!(packed.check().unwrap_err().to_string().contains("cut from windows"));
}

/// Every recipe of a model that goes on with texts takes steps, made small: fewer layers, heads and rows, all else as it is.
#[test]
fn recipes_take_steps() {
    let text = llm::OWN_TEXT;
    let tokenizer = llm::Tokenizer::of(llm::Kind::Char, text).unwrap();
    let ids = tokenizer.encode(text).unwrap();
    let mut ran = 0;
    for r in llm::RECIPES {
        let whole = llm::recipe(r.name, &llm::Models::default()).unwrap();
        // tasks make rows of their own
        if whole.aim() != llm::Aim::NextToken || whole.data.packing != llm::Packing::Windows || whole.model.context() < 16 {
            continue;
        }
        let settings = whole.model.settings();
        let heads = ["n_head", "num_attention_heads"].iter().find_map(|k| settings.get(*k)).and_then(toml::Value::as_integer).unwrap() as usize;
        let wide = ["n_embd", "hidden_size"].iter().find_map(|k| settings.get(*k)).and_then(toml::Value::as_integer).unwrap() as usize;
        let layers = if settings.contains_key("n_layer") { "n_layer=1" } else { "num_hidden_layers=1" };
        let Ok(narrow) = llm::of_width(&whole.model, wide / heads) else { continue };
        let sets = [layers, "train.batch=2", "train.context=16", "train.accumulate=1", "train.ramp=[]", "train.warmup=0", "train.steps=6"];
        let mut c = Config { model: narrow.with_vocabulary(tokenizer.size()).unwrap(), ..whole };
        c = sets.iter().fold(c, |c, s| c.set(s).unwrap());
        c.data.held_out = 0.1;
        c.check().unwrap_or_else(|e| panic!("{}: {e}", r.name));
        let mut t = Trainer::new(c, ids.clone(), Arc::new(Pool::new(2))).unwrap();
        let first = t.one_step().unwrap().0;
        assert!((1..6).all(|_| t.one_step().unwrap().0.is_finite()) && first.is_finite(), "{}", r.name);
        let uniform = (tokenizer.size() as f64).ln();
        assert!((first - uniform).abs() < 0.5, "{}: the first loss is {first}, and a guess's {uniform}", r.name);
        ran += 1;
    }
    assert!(ran >= 7, "{ran} recipes");
}

/// With products in 16 bits, weights are kept in 32: steps far smaller than what bf16 tells apart beside 1 add up, as they do in f32.
#[test]
fn weights_of_32_bits_learn_what_16_could_not_hold() {
    let gain = |precision: &str| {
        let c = config(20, 100, 100).set(&format!("train.precision={precision}")).unwrap();
        let c = ["optimizer.name=sgd", "optimizer.weight_decay=0", "train.lr=1e-3", "train.schedule=constant", "train.grad_clip=0"]
            .iter()
            .fold(c, |c, set| c.set(set).unwrap());
        let mut trainer = trainer(&c);
        assert!(trainer.session().params().all(|(_, ty)| ty.dtype == DType::F32), "{precision}");
        (0..20).for_each(|_| {
            trainer.one_step().unwrap();
        });
        let bytes = trainer.session().param("transformer.ln_f.weight").unwrap();
        bytes.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())) - 1.0).collect::<Vec<f64>>()
    };
    let (whole, half) = (gain("f32"), gain("bf16"));
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    // the next number of bf16 above 1 is 2⁻⁷ away, the one below 2⁻⁸
    assert!(half.iter().all(|x| x.abs() < 0.5 / 256.0) && half.iter().any(|x| *x != 0.0), "{half:?}");
    let apart: Vec<f64> = whole.iter().zip(&half).map(|(a, b)| a - b).collect();
    // products of a layer each round twice to 8 bits
    assert!(norm(&apart) < norm(&whole) / 16.0, "{whole:?}, {half:?}");
    assert_ne!(whole, half, "products are rounded");
}
