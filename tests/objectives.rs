//! What a model is trained on: the loss's sum and count against plain arithmetic, and parts of a batch against the whole.

use crate::common::{Random, bound, difference, environment, gpt, llama};
use crate::running::compare_with;
use codegen::{Cpu, Program, Region, Target};
use ir::names::{LOSS, gradient_of};
use ir::{Env, Graph, Value, eval};
use llm::{Mode, Objective};
use models::Model;
use passes::{Adam, AdamW, Goal, Group, Lion, Optimizer, Options, Sgd, State, Update, Which, compile};

/// Labels with holes, of which the first row has only holes.
fn labels(r: &mut Random, batch: usize, time: usize, vocabulary: usize) -> Vec<f64> {
    let one = |r: &mut Random, row: usize| if row == 0 || r.below(3) == 0 { -100.0 } else { r.below(vocabulary) as f64 };
    (0..batch * time).map(|i| one(r, i / time)).collect()
}

fn with_labels(mut env: Env, labels: Vec<f64>) -> Env {
    let dims = env["labels"].dims.clone();
    env.insert("labels".into(), Value::new(dims, labels));
    env
}

#[test]
fn the_loss_is_a_sum_and_a_count() {
    for (model, v) in [(gpt(), 11), (llama(false), 13)] {
        let graph = bound(&model, 3, 5);
        let env = environment(&graph, 4, 9);
        let mut r = Random(1);
        for labels in [labels(&mut r, 3, 5, v), vec![-100.0; 15], (0..15).map(|i| f64::from(i % v as i32)).collect(), vec![-1.0; 15]] {
            let out = eval(&graph, &with_labels(env.clone(), labels.clone())).unwrap();
            let rows = out["logits"].data.chunks(v).zip(&labels).filter(|(_, l)| **l >= 0.0);
            let losses: Vec<f64> = rows.map(|(x, l)| x.iter().map(|x| x.exp()).sum::<f64>().ln() - x[*l as usize]).collect();
            assert_eq!(out["loss.count"].data[0], losses.len() as f64);
            assert!((out["loss.sum"].data[0] - losses.iter().sum::<f64>()).abs() < 1e-10, "{labels:?}");
        }
    }
}

/// What a step gives and makes of every tensor, by evaluation.
fn step(model: &Model, batch: usize, env: &Env, accumulate: u32) -> ir::Env {
    let graph = Objective::NextToken.bound(model, Mode::Train, batch, 5).unwrap().keep_outputs(&LOSS);
    let stages = compile(&graph, Goal::Step(&Update { accumulate, ..Update::default() }), &Options::default()).unwrap();
    let mut env = env.clone();
    for (name, ty) in stages.last().inputs.iter().zip(stages.last().main().inputs()) {
        let value = match name.as_str() {
            "lr" | "step" => vec![if name == "lr" { 0.1 } else { 1.0 }],
            _ => env[name].data.clone(),
        };
        env.insert(name.clone(), Value::new(ty.sizes(), value));
    }
    for (name, ty) in stages.last().params() {
        env.entry(name.to_string()).or_insert_with(|| Value::new(ty.sizes(), vec![0.0; ty.count()]));
    }
    eval(stages.last(), &env).unwrap()
}

/// Micro-batches that ask 0, few and many tokens are one batch, and one that asks nothing at all changes nothing but by decay.
#[test]
fn micro_batches_are_one_batch() {
    for (model, v) in [(gpt(), 11), (llama(true), 13)] {
        let env = environment(&bound(&model, 6, 5), 2, 9);
        let mut r = Random(5);
        // rows 0 and 1 ask nothing: the first of three micro-batches is empty
        let uneven: Vec<f64> = (0..30).map(|i| if i < 10 || (i < 20 && i != 13) || i == 27 { -100.0 } else { r.below(v) as f64 }).collect();
        for labels in [labels(&mut r, 6, 5, v), uneven, vec![-100.0; 30]] {
            let asked = labels.iter().filter(|l| **l >= 0.0).count();
            let env = with_labels(env.clone(), labels);
            let (whole, parts) = (step(&model, 6, &env, 1), step(&model, 2, &env, 3));
            assert_eq!(whole.keys().collect::<std::collections::BTreeSet<_>>(), parts.keys().collect());
            for (name, want) in &whole {
                assert!(want.data.iter().all(|x| x.is_finite()), "{name} is finite");
                // the first step is the sign of the gradient, so a gradient of rounding errors alone says nothing of the parameter
                let near = if State::parse(name.trim_start_matches('@')).is_parameter() && name.starts_with('@') { 1e-4 } else { 1e-9 };
                let d = difference(&parts[name], want);
                assert!(d < near, "{name} of {asked} tokens differs by {d}");
            }
            let loss = whole["loss"].data[0];
            assert_eq!((asked == 0, asked == 0), (loss == 0.0, whole["grad_norm"].data[0] == 0.0), "{loss}");
        }
    }
}

/// The gradient of the mean that `run` gives is the sum's, divided once.
#[test]
fn the_mean_is_the_sum_divided() {
    let graph = bound(&gpt(), 2, 5);
    let env = with_labels(environment(&graph, 2, 9), labels(&mut Random(3), 2, 5, 11));
    let sums = compile(&graph, Goal::Gradient("loss.sum"), &Options::default()).unwrap();
    let means = compile(&graph, Goal::MeanGradient, &Options::default()).unwrap();
    let (sums, means) = (eval(sums.last(), &env).unwrap(), eval(means.last(), &env).unwrap());
    let count = sums["loss.count"].data[0];
    assert!(count > 1.0 && !means.contains_key("loss.count") && !means.contains_key("loss.sum"));
    assert!((means["loss"].data[0] - sums["loss.sum"].data[0] / count).abs() < 1e-12);
    for (name, sum) in sums.iter().filter(|(n, _)| gradient_of(n).is_some()) {
        let want = Value::new(sum.dims.clone(), sum.data.iter().map(|x| x / count).collect());
        assert!(difference(&means[name], &want) < 1e-12, "{name}");
    }
    assert_eq!(means["logits"].data, sums["logits"].data);
    let plain = compile(&graph, Goal::Mean, &Options::default()).unwrap();
    assert_eq!(plain.last().outputs, ["logits", "loss"]);
    assert!(plain.grad.is_none() && plain.joint.is_none());
}

/// A parameter in no group is an operand and nothing more, in a loop too: no gradient, nothing kept, no result.
#[test]
fn what_is_frozen_costs_nothing() {
    for model in [gpt(), llama(true)] {
        let graph = bound(&model, 2, 5).keep_outputs(&LOSS);
        let adamw = Optimizer::AdamW(AdamW::default());
        let norms = Update { groups: vec![Group::new(Which::vectors(), adamw)], ..Update::default() };
        let (all, some) = (Update::default(), norms);
        let [all, some] = [&all, &some].map(|u| compile(&graph, Goal::Step(u), &Options::default()).unwrap());
        let trained = |g: &Graph| g.outputs.iter().filter_map(|o| gradient_of(o)).map(String::from).collect::<Vec<_>>();
        let names = trained(some.grad.as_ref().unwrap());
        assert!(!names.is_empty() && names.iter().all(|n| ["bias", "ln_", "norm"].iter().any(|w| n.contains(w))), "{names:?}");
        assert!(trained(all.grad.as_ref().unwrap()).len() > names.len());
        for (name, _) in some.last().params() {
            assert!(State::parse(&name).is_parameter() || names.iter().any(|n| name.ends_with(n.as_str())), "{name} is kept for nothing");
        }
        assert_eq!(some.last().outputs.len(), 2 + 3 * names.len());
        // products whose only reader was a frozen weight's gradient are gone
        let products = |g: &Graph| g.funcs.iter().flat_map(|f| &f.nodes).filter(|n| n.op.name() == "contract").count();
        assert!(products(some.last()) < products(all.last()), "{} products of {}", products(some.last()), products(all.last()));
        let env = environment(some.last(), 3, 9);
        ir::verify(some.last()).unwrap();
        eval(some.last(), &env).unwrap();
    }
}

/// A scalar, an empty tensor and a table of whole numbers among the parameters: the first two train, the third is read.
const ODD: &str = "\
main(%0 x: f32[3]) {
  @scale : f32[]
  @none : f32[0,3]
  @bias : f32[3]
  @order : i32[3]
  %1 = mul %0, @scale : f32[3]
  %2 = add %1, @bias : f32[3]
  %3 = cast[f32] @order : f32[3]
  %4 = mul %2, %3 : f32[3]
  %5 = mul %4, %4 : f32[3]
  %6 = sum[-1] %5 : f32[1]
  %7 = reshape[] %6 : f32[]
  %8 = sum[-1,-2] @none : f32[1,1]
  %9 = reshape[] %8 : f32[]
  %10 = add %7, %9 : f32[]
  return loss.sum=%10, loss.count=3.0
}
";

#[test]
fn odd_parameters_train() {
    let graph: Graph = ODD.parse().unwrap();
    for update in [Update::default(), Update { groups: vec![Group::new(Which::all(), Optimizer::Sgd(Sgd::default()))], ..Update::default() }] {
        let stages = compile(&graph, Goal::Step(&update), &Options::default()).unwrap();
        let slots = update.groups[0].optimizer.slots(&ir::Type::f32([3usize]), 0).len();
        let mut updated: Vec<&str> =
            stages.last().outputs.iter().filter_map(|o| o.strip_prefix('@')).filter(|n| State::parse(n).is_parameter()).collect();
        updated.sort_unstable();
        assert_eq!((updated, stages.last().outputs.len()), (vec!["bias", "none", "scale"], 2 + 3 * (1 + slots)));
        let mut env = environment(stages.last(), 6, 4);
        env.insert("step".into(), Value::new(vec![], vec![3.0]));
        for (name, value) in env.iter_mut().filter(|(n, _)| n.starts_with("adamw.v.")) {
            value.data.iter_mut().for_each(|x| *x = x.abs());
            assert!(name.len() > 8);
        }
        let target = Target::Cpu(codegen::llvm::host().target);
        let have = run_on_integers(stages.last(), &env, &target);
        compare_with(stages.last(), &env, "odd parameters", &have);
        assert!(eval(stages.last(), &env).unwrap().values().all(|v| v.data.iter().all(|x| x.is_finite())));
    }
}

/// `run_on` with the parameter of whole numbers as a constant, for it fills floats alone.
fn run_on_integers(graph: &Graph, env: &Env, target: &Target) -> std::collections::HashMap<String, Value> {
    let mut session = runtime::Session::for_target(graph, std::sync::Arc::new(runtime::Pool::new(2)), target).unwrap();
    for name in &graph.inputs {
        session.set_f32(name, &env[name].data.iter().map(|x| *x as f32).collect::<Vec<_>>()).unwrap();
    }
    for (name, ty) in graph.params() {
        let word = |x: &f64| if ty.dtype == ir::DType::I32 { (*x as i32).to_le_bytes() } else { (*x as f32).to_le_bytes() };
        session.set_param(&name, &env[name.as_ref()].data.iter().flat_map(word).collect::<Vec<u8>>()).unwrap();
    }
    session.run().unwrap();
    let read = |name: &String, ty: &ir::Type| {
        let bytes = match session.output(name) {
            Some(block) => block.bytes()[..ty.bytes()].to_vec(),
            None => session.param(name.trim_start_matches('@')).unwrap()[..ty.bytes()].to_vec(),
        };
        (name.clone(), Value::new(ty.sizes(), bytes.chunks(4).map(|c| f64::from(f32::from_le_bytes(c.try_into().unwrap()))).collect()))
    };
    graph.outputs.iter().zip(graph.main().outputs()).map(|(n, t)| read(n, &t)).collect()
}

/// One kernel updates a parameter and all that is kept for it, over the old values; parameters of one shape share it.
#[test]
fn an_update_is_one_kernel_in_place() {
    let text = "main(%0 ga: f32[64,300], %1 gb: f32[64,300], %2 gc: f32[300]) {\n  @a : f32[64,300]\n  @b : f32[64,300]\n  @c : f32[300]\n  return loss.sum=1.0, loss.count=2.0, grad.a=%0, grad.b=%1, grad.c=%2, x=@a, y=@b, z=@c\n}\n";
    for (optimizer, slots) in [
        (Optimizer::AdamW(AdamW::default()), 2),
        (Optimizer::Adam(Adam::default()), 2),
        (Optimizer::Lion(Lion::default()), 1),
        (Optimizer::Sgd(Sgd::default()), 1),
        (Optimizer::Sgd(Sgd { momentum: 0.0, weight_decay: 0.1, ..Sgd::default() }), 0),
    ] {
        let update = Update { groups: vec![Group::new(Which::all(), optimizer)], ..Update::default() };
        let step = passes::train_step(&text.parse().unwrap(), &update).unwrap();
        let program = Program::new(&step, &Target::Cpu(Cpu { lanes: 8, registers: 16, cache: 1 << 20, pairs: false }));
        let mut kernels = vec![];
        for (i, (name, ty)) in program.params.iter().enumerate() {
            let writes = |c: &codegen::Call| {
                c.args.iter().zip(&program.kernels[c.kernel].params).any(|(a, p)| p.written && matches!(a.region, Region::Param(j) if j == i))
            };
            let calls: Vec<codegen::Call> = program.calls().into_iter().filter(writes).collect();
            assert_eq!(calls.len(), 1, "{name}: {ty}");
            kernels.push((ty.to_string(), calls[0].kernel));
        }
        kernels.sort_unstable();
        kernels.dedup();
        assert_eq!(kernels.len(), 2, "one a shape: {kernels:?}");
        assert_eq!(program.params.len(), 3 * (1 + slots));
        // sums of squares and scalars; no copy of a parameter
        assert!(program.arena_bytes() < 64 * 300, "{} bytes of arena", program.arena_bytes());
    }
}

#[test]
fn a_program_over_its_budget_is_refused() {
    let graph = bound(&gpt(), 2, 5).keep_outputs(&LOSS);
    let stages = compile(&graph, Goal::Step(&Update::default()), &Options::default()).unwrap();
    let pool = || std::sync::Arc::new(runtime::Pool::new(1));
    let need = runtime::Session::new(stages.last(), pool()).unwrap().program().bytes();
    assert!(runtime::Session::within(stages.last(), pool(), Some(need)).is_ok() && runtime::Session::within(stages.last(), pool(), None).is_ok());
    let Err(error) = runtime::Session::within(stages.last(), pool(), Some(need - 1)) else { panic!("a byte is missing") };
    assert!([&format!("{need} bytes"), &format!("{}", need - 1), "--max-memory"].iter().all(|w| error.contains(*w)), "{error}");
}

/// Prices are the target's: no processor's for a graphics processor.
#[test]
fn prices_are_the_targets() {
    let cpu = Target::Cpu(Cpu { lanes: 8, registers: 16, cache: 1 << 20, pairs: false });
    let gpu = Target::Gpu(codegen::Gpu { processors: 132, shared: 1 << 16, tensor: true, hopper: true });
    assert_eq!((cpu.machine(), gpu.machine()), (passes::Machine::CPU, passes::Machine::GPU));
    let x = ir::Type::f32([1usize << 12, 1 << 12]);
    let seconds = |m: passes::Machine| m.seconds(&"contract[ac,cb->ab]".parse().unwrap(), &[&x, &x], &x);
    assert!(seconds(passes::Machine::CPU) > 100.0 * seconds(passes::Machine::GPU));
    // the plan's predicted seconds follow the machine
    let graph = bound(&gpt(), 2, 5);
    let total =
        |machine| compile(&graph, Goal::Results, &Options { machine, ..Options::default() }).unwrap().reports.iter().map(|r| r.seconds).sum::<f64>();
    assert!(total(passes::Machine::CPU) > total(passes::Machine::GPU));
}

/// Each prefix of a state's name is one, and the path comes back.
#[test]
fn names_of_state_read_back() {
    for (name, state) in [
        ("adamw.m.h.{}.w", State::Slot("adamw.m", "h.{}.w")),
        ("adamw.v.w", State::Slot("adamw.v", "w")),
        ("sgd.m.w", State::Slot("sgd.m", "w")),
        ("muon.m.h.{}.w", State::Slot("muon.m", "h.{}.w")),
        ("adafactor.r.w", State::Slot("adafactor.r", "w")),
        ("ema.h.{}.w", State::Average("h.{}.w")),
        ("outlier.loss", State::Outlier("loss")),
        ("emanation.w", State::Parameter("emanation.w")),
        ("past.k", State::Past("k")),
        ("adamw.weight", State::Parameter("adamw.weight")),
        ("adamw.mw", State::Parameter("adamw.mw")),
        ("pasta.k", State::Parameter("pasta.k")),
        ("h.{}.w", State::Parameter("h.{}.w")),
    ] {
        assert_eq!(State::parse(name), state);
        assert_eq!(state.to_string(), name);
        assert_eq!(state.is_parameter(), matches!(state, State::Parameter(_)));
    }
}

/// Operands of products are rounded, and nothing else is: not the log of the sum of exponentials, no scale, no parameter, no gradient.
#[test]
fn products_alone_are_rounded() {
    for model in [gpt(), llama(false)] {
        let graph = bound(&model, 2, 5).keep_outputs(&LOSS);
        let options = Options { precision: ir::DType::BF16, ..Options::default() };
        let stages = compile(&graph, Goal::Step(&Update::default()), &options).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for func in &stages.last().funcs {
            for node in &func.nodes {
                let half: Vec<bool> = node.args.iter().map(|a| func.ty(*a).dtype.is_half()).collect();
                match node.op.name() {
                    "contract" => assert_eq!(half, [true; 2]),
                    "attention" => assert_eq!(half, [true, true, true, false]),
                    "attention_bwd" => assert_eq!(half, [true, true, true, true, false, true, false]),
                    _ => continue,
                }
                seen.insert(node.op.name());
            }
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["attention", "attention_bwd", "contract"]);
        assert!(stages.last().params().iter().all(|p| !p.1.dtype.is_half()) && stages.last().main().outputs().iter().all(|t| !t.dtype.is_half()));
        assert_eq!(stages.rounded.outputs, stages.joint.unwrap().outputs);
    }
}
