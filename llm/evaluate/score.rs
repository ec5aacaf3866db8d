//! The log-probabilities of tokens, for many texts at once.

use super::rows::{Request, Row, rows};
use crate::error::{Error, Result};
use crate::weights::averaged;
use ir::{Builder, DType, Dim, Graph};
use models::{Branches, Kind, Model, Reading};
use passes::{Goal, Options, compile};
use runtime::{Device, Session};
use std::time::{Duration, Instant};

/// What a model says of the tokens that were asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// The sum of the natural logarithms of their probabilities.
    pub log_probability: f64,
    /// Whether each is the likeliest where it stands; of equally likely ones the first is.
    pub greedy: bool,
}

/// The program: inputs `input_ids` `i32[B,T]`, and in rows of trees `until_ids` and `position_ids` `i32[B,T]` (see [`Branches`]); `at` `i32[L]`, the numbers of
/// tokens in all rows one after another, and `labels` `i32[L]`, what is asked to follow each. Results `log_probabilities` and `greedy`, which is 1
/// for the likeliest of all, `f32[L]`.
///
/// Trees are refused where the model takes no notice of them.
pub fn score_graph(model: &Model, trees: bool) -> Result<Graph> {
    if model.kind() != Kind::Decoder {
        return Err(Error(format!(
            "the model {} does not guess the next token of a text, which is what evaluation asks; try a decoder",
            model.name()
        )));
    }
    let b = Builder::default();
    let s = b.scope();
    let (rows, tokens, asked) = (Dim::sym('B'), Dim::sym('T'), Dim::sym('L'));
    let ids = s.input("input_ids", DType::I32, (rows, tokens));
    let column = |name| s.input(name, DType::I32, (rows, tokens));
    let branches = trees.then(|| Branches { until: column("until_ids"), positions: column("position_ids") });
    let at = s.input("at", DType::I32, [asked]);
    let labels = s.input("labels", DType::I32, [asked]).reshape((1usize, asked, 1usize));
    let x = model.hidden(&s, &Reading { branches, ..Reading::of(ids) }).x;
    let width = x.dim(-1);
    // the head is asked only for what is asked
    let all = rows.times(tokens).expect("two names have a product");
    let logits = model.head(&s, x.reshape((all, width)).gather(at).reshape((1usize, asked, width)));
    let (number, none) = (s.iota(-1, logits.dim(-1)), s.num(f64::NEG_INFINITY));
    let m = logits.max();
    let picked = number.equals(labels).select(logits, s.num(0.0)).sum();
    let before = number.lt(labels).select(logits, none).max();
    let (yes, no) = (s.num(1.0), s.num(0.0));
    let greedy = m.le(picked).select(before.lt(picked).select(yes, no), no);
    b.output("log_probabilities", ((picked - m) - (logits - m).exp().sum().log()).reshape([asked]));
    b.output("greedy", greedy.reshape([asked]));
    let graph = model.finish(b, false)?;
    if trees && !crate::objective::reads(&graph, "until_ids") {
        return Err(Error(format!("the model {} takes no notice of trees of texts: its attention must ask Place::visible", model.name())));
    }
    Ok(graph)
}

/// What fills the parameters of a program's session.
pub type Fill<'a> = Box<dyn Fn(&mut Session) -> Result<()> + 'a>;

/// A program that reads so many rows of so many tokens, of which so many are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Size {
    rows: usize,
    tokens: usize,
    asked: usize,
}

/// A model that is asked.
pub struct Scorer<'a> {
    model: Model,
    device: Device,
    options: Options,
    /// Tokens in a run.
    batch: usize,
    trees: bool,
    fill: Fill<'a>,
    /// Programs over one memory of weights.
    programs: Vec<(Size, Session)>,
    compiling: Duration,
}

/// Tokens of the shortest row.
const SHORTEST: usize = 16;

/// Tokens of a row of several texts; attention over longer ones costs more than it saves.
const ROW: usize = 512;

impl<'a> Scorer<'a> {
    /// A model whose programs read about `batch` tokens at once, and whose weights are as `fill` makes them. Nothing is compiled yet.
    pub fn new(model: &Model, device: Device, options: &Options, batch: usize, fill: Fill<'a>) -> Result<Scorer<'a>> {
        let trees = score_graph(model, true).is_ok();
        score_graph(model, trees)?;
        let options = Options { machine: device.target()?.machine(), ..options.clone() };
        Ok(Scorer { model: model.clone(), device, options, batch: batch.max(1), trees, fill, programs: vec![], compiling: Duration::ZERO })
    }

    /// The same with the weights of a session, such as one in training, which holds the only copy of them; where it keeps averages of them,
    /// with those.
    pub fn sharing(model: &Model, device: Device, options: &Options, batch: usize, weights: &Session) -> Result<Scorer<'a>> {
        let mut scorer = Scorer::new(model, device, options, batch, Box::new(|_| Ok(())))?;
        let size = Size { rows: 1, tokens: SHORTEST, asked: SHORTEST };
        let session = scorer.open(size, Some(weights))?;
        scorer.programs.push((size, session));
        Ok(scorer)
    }

    /// What it took to compile programs and to fill weights.
    pub fn compiling(&self) -> Duration {
        self.compiling
    }

    /// The most tokens of a request that are read.
    pub fn context(&self) -> usize {
        self.model.context()
    }

    /// What the model says of each request, each with 1 token at least before what is asked, and no more than are read. `each` is told how many
    /// of the tokens are done, and how many there are.
    pub fn score(&mut self, requests: &[Request], each: &mut dyn FnMut(usize, usize)) -> Result<Vec<Score>> {
        requests.iter().try_for_each(|r| self.check(r))?;
        let longest = requests.iter().map(|r| r.read().len()).max().unwrap_or(0);
        let all = rows(requests, ROW.min(self.batch).max(longest), self.trees);
        let (mut done, total) = (0, all.iter().map(|r| r.tokens.len()).sum());
        let mut out = vec![Score { log_probability: 0.0, greedy: true }; requests.len()];
        let mut rest = &all[..];
        while let Some(first) = rest.first() {
            let tokens = length(first.tokens.len());
            let rows = self.rows_of(tokens, rest.len());
            let together = rest.iter().take(rows).take_while(|r| length(r.tokens.len()) <= tokens).count().max(1);
            let (now, later) = rest.split_at(together);
            self.run(now, rows, tokens, &mut out)?;
            done += now.iter().map(|r| r.tokens.len()).sum::<usize>();
            each(done, total);
            rest = later;
        }
        Ok(out)
    }

    /// The rows of a program for rows of so many tokens, of which so many are to be read: as there is one, if it reads as many.
    fn rows_of(&self, tokens: usize, rest: usize) -> usize {
        let rows = (self.batch / tokens).clamp(1, rest);
        self.programs.iter().map(|p| p.0).filter(|size| size.tokens == tokens && size.rows >= rows).map(|size| size.rows).max().unwrap_or(rows)
    }

    fn check(&self, request: &Request) -> Result<()> {
        let (n, most) = (request.tokens.len(), self.context());
        if request.asked == 0 || request.asked >= n || n - 1 > most {
            let asked = request.asked;
            return Err(Error(format!("{asked} of {n} tokens are asked: expected 1 at least, one before it, and {most} before the last at most")));
        }
        let vocabulary = self.model.vocab_size() as i64;
        match request.tokens.iter().find(|t| !(0..vocabulary).contains(&i64::from(**t))) {
            Some(t) => Err(Error(format!("there is no token {t}; the model has 0 to {}", vocabulary - 1))),
            None => Ok(()),
        }
    }

    /// Reads rows, and adds what is said of the requests in them.
    fn run(&mut self, now: &[Row], rows: usize, tokens: usize, to: &mut [Score]) -> Result<()> {
        let asked: usize = now.iter().map(|r| r.asked.len()).sum();
        let size = Size { rows, tokens, asked: places(asked, rows * tokens) };
        let trees = self.trees;
        let session = self.program(size)?;
        let column = |of: &dyn Fn(&Row) -> &[i32]| {
            let mut all: Vec<i32> = now.iter().flat_map(|r| of(r).iter().copied().chain(std::iter::repeat_n(0, tokens - r.tokens.len()))).collect();
            all.resize(rows * tokens, 0);
            all
        };
        session.set_i32("input_ids", &column(&|r| &r.tokens))?;
        if trees {
            session.set_i32("until_ids", &ends(&column(&|r| &r.until)))?;
            session.set_i32("position_ids", &column(&|r| &r.positions))?;
        }
        let all = || now.iter().enumerate().flat_map(|(i, row)| row.asked.iter().map(move |a| (i * tokens + a.place, a)));
        let filled = |mut ids: Vec<i32>| {
            ids.resize(size.asked, 0);
            ids
        };
        session.set_i32("at", &filled(all().map(|a| a.0 as i32).collect()))?;
        session.set_i32("labels", &filled(all().map(|a| a.1.label).collect()))?;
        session.run().map_err(|e| Error(e.to_string()))?;
        let result = |name: &str| session.output(name).expect("it is the program's result").f32s();
        for (((_, asked), p), greedy) in all().zip(result("log_probabilities")).zip(result("greedy")) {
            if !p.is_finite() {
                return Err(Error(format!("the model says {p} of token {}: its weights are no model's, or its numbers overflow", asked.label)));
            }
            to[asked.request].log_probability += f64::from(*p);
            to[asked.request].greedy &= *greedy > 0.5;
        }
        Ok(())
    }

    fn program(&mut self, size: Size) -> Result<&mut Session> {
        let found = self.programs.iter().position(|p| p.0 == size);
        let number = found.map_or_else(|| self.compile(size), Ok)?;
        Ok(&mut self.programs[number].1)
    }

    fn compile(&mut self, size: Size) -> Result<usize> {
        let start = Instant::now();
        let mut session = self.open(size, self.programs.first().map(|p| &p.1))?;
        if self.programs.is_empty() {
            (self.fill)(&mut session)?;
        }
        self.programs.push((size, session));
        self.compiling += start.elapsed();
        Ok(self.programs.len() - 1)
    }

    /// The program of a size, with the weights of a session where there is one.
    fn open(&self, size: Size, weights: Option<&Session>) -> Result<Session> {
        let bound = |s: char| match s {
            'B' => Some(size.rows as u64),
            'T' => Some(size.tokens as u64),
            'L' => Some(size.asked as u64),
            _ => None,
        };
        let stages = compile(&score_graph(&self.model, self.trees)?.bind(&bound)?, Goal::Results, &self.options)?;
        let (device, budget) = (self.device.clone(), self.options.budget);
        Ok(match weights {
            Some(weights) => Session::sharing(&averaged(stages.last(), weights), device, budget, weights)?,
            None => Session::within(stages.last(), device, budget)?,
        })
    }
}

/// The length of the program for a row of so many tokens: few sizes, each of which is compiled once.
fn length(tokens: usize) -> usize {
    match tokens {
        n if n <= SHORTEST => SHORTEST,
        n if n <= ROW => tokens.next_power_of_two(),
        _ => tokens.next_multiple_of(ROW / 2),
    }
}

/// The places of the program for so many that are asked of so many tokens.
fn places(asked: usize, tokens: usize) -> usize {
    [8, 4, 2].iter().map(|part| tokens / part).find(|n| asked <= *n).unwrap_or(asked.max(tokens))
}

/// Behind a row's last token each sees itself, so that none sees nothing.
fn ends(until: &[i32]) -> Vec<i32> {
    until.iter().map(|end| if *end == 0 { i32::MAX } else { *end }).collect()
}
