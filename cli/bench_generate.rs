//! `eggcorn bench generate`: how fast a prompt is read and tokens follow, with what memory allows beside.

use super::bench::{Args, spread};
use super::options::mebibytes;
use super::say;
use eggcorn::ir::{Graph, Op};
use eggcorn::llm::{Error, Generator, Result, initialise, random};
use eggcorn::models::{Kind, Model};
use eggcorn::passes::State;
use eggcorn::runtime::Session;
use std::time::Instant;

/// Tokens that are read before the measured ones: the first runs compile and record.
const WARM: usize = 2;

/// A token needs few operations and all weights, so what memory gives in a second bounds it.
struct Bytes {
    /// Of weights that each token reads.
    weights: usize,
    /// Of keys and values that there is room for.
    room: usize,
}

/// A prompt for each row, then tokens one at a time.
pub fn run(args: &Args, model: Model) -> Result<()> {
    let (rows, _) = args.sizes.of(&model)?;
    let last = args.depth + WARM + args.steps.max(1);
    if last > model.context() {
        let most = model.context().saturating_sub(WARM + args.steps.max(1));
        return Err(Error(format!(
            "--depth is {} with {} --steps, and the model has {} positions; try --depth {most}",
            args.depth,
            args.steps,
            model.context()
        )));
    }
    let model = model.with_room(last);
    let device = args.device.open()?;
    let options = args.compile.options_on(&device, args.precision)?;
    let mut generator = Generator::batched(&model, device.clone(), &options, rows)?;
    for session in generator.sessions_mut() {
        initialise(session, &model, 1)?;
    }
    let bytes = bytes(&model, generator.session())?;
    if model.kind() == Kind::EncoderDecoder {
        let source: Vec<i32> = (0..args.depth.max(1)).map(|i| (random(9, i as u64) % model.vocab_size() as u64) as i32).collect();
        generator.answer(&vec![source.as_slice(); rows])?;
    }
    let token = |i: usize| (random(7, i as u64) % model.vocab_size() as u64) as i32;
    let prompt: Vec<i32> = (0..args.depth).map(token).collect();
    let read = |generator: &mut Generator, tokens: &[i32]| {
        let start = Instant::now();
        generator.read_rows(&vec![tokens; rows]).map(|()| start.elapsed().as_secs_f64())
    };
    // once to compile what the prompt needs, once to measure
    read(&mut generator, &prompt)?;
    generator.forget();
    let prompt = read(&mut generator, &prompt)?;
    for step in 0..WARM {
        read(&mut generator, &[token(step)])?;
    }
    let mut seconds = (0..args.steps.max(1)).map(|step| read(&mut generator, &[token(step)])).collect::<Result<Vec<f64>>>()?;
    let (median, fastest, slowest) = spread(&mut seconds);
    // as many are seen by the token in the middle
    let seen = args.depth + WARM + args.steps.div_ceil(2);
    let need = bytes.weights + bytes.room / model.context() * seen;
    let bandwidth = device.read_ceiling(need);
    let share = bandwidth.map(|b| need as f64 / b / median);
    if args.json {
        let line = serde_json::json!({
            "model": model.name(), "device": device.describe(), "batch": rows, "depth": args.depth,
            "tokens_per_second": rows as f64 / median, "prompt_seconds": prompt,
            "bytes": need, "bytes_per_second": need as f64 / median, "read_bytes_per_second": bandwidth, "share_of_read": share,
            "seconds": {"median": median, "min": fastest, "max": slowest, "steps": args.steps},
        });
        say!("{line}");
        return Ok(());
    }
    say!("{} a token at a time of {rows} after {}, {}", model.name(), args.depth, device.describe());
    if args.depth > 0 {
        say!("  prompt     {prompt:.3} s, {:.0} tokens/s", (rows * args.depth) as f64 / prompt);
    }
    say!("  token      {:.2} ms median of {}, {:.2} to {:.2}", 1e3 * median, args.steps, 1e3 * fastest, 1e3 * slowest);
    let of_peak = match (bandwidth, share) {
        (Some(b), Some(share)) => format!(", {:.0} % of {:.1} GB/s measured after it", 100.0 * share, b / 1e9),
        _ => String::new(),
    };
    let rate = need as f64 / median / 1e9;
    say!("  speed      {:.0} tokens/s; {} of weights, keys and values, {rate:.1} GB/s{of_peak}", rows as f64 / median, mebibytes(need));
    Ok(())
}

/// The bytes of a session's state that a token reads: what is only looked up in is not counted.
fn bytes(model: &Model, session: &Session) -> Result<Bytes> {
    let graph = model.step_graph().map_err(|e| Error(e.to_string()))?;
    let (mut weights, mut room) = (0, 0);
    for (path, ty) in session.params() {
        let bytes = ty.bytes();
        if matches!(State::parse(path), State::Past(_)) {
            room += bytes;
        } else if !only_looked_up(&graph, path) {
            weights += bytes;
        }
    }
    Ok(Bytes { weights, room })
}

/// Whether rows of a table are all that is read of it.
fn only_looked_up(graph: &Graph, path: &str) -> bool {
    let main = graph.main();
    let is = |n: &eggcorn::ir::Node| matches!(&n.op, Op::Param(name, _) if &**name == path);
    let table = |n: &eggcorn::ir::Node, at: usize| matches!(n.op, Op::Gather) && at == 0;
    main.nodes.iter().all(|n| n.args.iter().enumerate().all(|(at, a)| !is(main.node(*a)) || table(n, at)))
}
