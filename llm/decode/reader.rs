//! Tokens read into kept keys and values, several at a time: one program a size of chunk, compiled when first needed, all over one memory.

use super::source::Sources;
use crate::error::{Error, Result};
use models::{Kind, Model};
use passes::{Goal, Options, compile};
use runtime::{Device, Session};

/// Tokens of a row that one run reads, unless said: programs for these are compiled when a text first has as many.
const CHUNKS: [usize; 3] = [1, 16, 256];

/// What a run costs beside its tokens, in tokens: it reads all weights, whether for one token or for many.
const RUN: usize = 16;

/// What opens a program's session, over the memory of others.
pub(super) type Open<'a> = &'a dyn Fn(&ir::Graph, &Device, &Options, &[&Session]) -> std::result::Result<Session, String>;

/// A program that reads so many tokens of each row.
pub(super) struct Program {
    pub(super) tokens: usize,
    pub(super) session: Session,
}

/// Rows of text, each with its own length, and the keys and values of their tokens.
pub(crate) struct Reader {
    model: Model,
    device: Device,
    options: Options,
    /// The program for one token, which has the weights and what is kept.
    one: Session,
    /// Others, over the same memory.
    more: Vec<Program>,
    /// The texts that are answered, by a model that answers some.
    sources: Option<Sources>,
    /// The program that reads what stands before every text, of a model that has such.
    begin: Option<Session>,
    /// Whether it has.
    begun: bool,
    /// The program that puts rows in another order, once one was wanted.
    order: Option<Session>,
    /// The tokens that a run may read, rising from 1.
    chunks: Vec<usize>,
    rows: Vec<Row>,
    /// Of each row the logits after its last token.
    logits: Vec<f32>,
}

/// The tokens that a row sees, and of how many keys and values are kept.
#[derive(Clone, Default)]
struct Row {
    tokens: Vec<i32>,
    kept: usize,
}

impl Row {
    /// Adds tokens. When the context is full, its later half is kept, rounded down, to be read again.
    fn push(&mut self, tokens: &[i32], context: usize) {
        for t in tokens {
            if self.tokens.len() == context {
                self.tokens.drain(..context - context / 2);
                self.kept = 0;
            }
            self.tokens.push(*t);
        }
    }

    fn waiting(&self) -> &[i32] {
        &self.tokens[self.kept..]
    }
}

impl Reader {
    /// Compiles the program for one token of each of so many rows, in a session that `open` makes.
    pub(crate) fn new(model: &Model, device: Device, options: &Options, rows: usize, open: Open) -> Result<Reader> {
        if model.kind() == Kind::Encoder {
            return Err(Error(format!("the model {} reads texts and writes none", model.name())));
        }
        if rows == 0 {
            return Err(Error("there is no row to read: a batch has at least one".into()));
        }
        let options = Options { machine: device.target()?.machine(), ..options.clone() };
        let one = open(&program(model, &options, rows, 1)?, &device, &options, &[])?;
        let sources = Sources::open(model, &device, &options, rows, open, &one)?;
        let begin = model.before().map(|_| optimised(model.begin_graph()?, &options, rows, 0)).transpose()?;
        let begin = begin.map(|graph| open(&graph, &device, &options, &[&one])).transpose()?;
        let logits = vec![0.0; rows * model.vocab_size()];
        let (model, rows, chunks) = (model.clone(), vec![Row::default(); rows], CHUNKS.to_vec());
        Ok(Reader { model, device, options, one, more: vec![], sources, begin, begun: false, order: None, chunks, rows, logits })
    }

    /// The session with the weights.
    pub(crate) fn session(&self) -> &Session {
        &self.one
    }

    /// The same, to change. Programs that have them from it are made again, for it may get others.
    pub(crate) fn session_mut(&mut self) -> &mut Session {
        self.more.clear();
        (self.order, self.begun) = (None, false);
        &mut self.one
    }

    /// All sessions that have weights: that one, of a model that answers texts the encoder's, and that of what stands before every text.
    pub(crate) fn sessions_mut(&mut self) -> Vec<&mut Session> {
        self.more.clear();
        (self.order, self.begun) = (None, false);
        std::iter::once(&mut self.one).chain(self.sources.as_mut().map(Sources::session_mut)).chain(&mut self.begin).collect()
    }

    /// Gives each row the text that it answers, and forgets what was read.
    pub(crate) fn answer(&mut self, texts: &[&[i32]]) -> Result<()> {
        let Some(sources) = &mut self.sources else {
            return Err(Error(format!("the model {} answers no text: give it a prompt alone", self.model.name())));
        };
        check_tokens(&self.model, texts)?;
        sources.read(&self.model, &self.device, &self.options, texts)?;
        self.clear();
        Ok(())
    }

    /// Reads so many tokens at a time, 1 among them.
    pub(crate) fn set_chunks(&mut self, sizes: &[usize]) -> Result<()> {
        let rising = sizes.windows(2).all(|w| w[0] < w[1]);
        if sizes.first() != Some(&1) || !rising {
            return Err(Error(format!("{sizes:?} are no sizes of chunks: they rise from 1, as in [1, 16, 256]")));
        }
        self.chunks = sizes.to_vec();
        Ok(())
    }

    /// The sizes of the chunks in which so many tokens are read.
    pub(crate) fn chunks(&self, tokens: usize) -> Vec<usize> {
        let (mut out, mut rest) = (vec![], tokens);
        while let Some(size) = self.chunk(rest) {
            out.push(size);
            rest = rest.saturating_sub(size);
        }
        out
    }

    /// The size of the next chunk of so many tokens, that which costs the least a token: it may be larger than what is left to read.
    fn chunk(&self, tokens: usize) -> Option<usize> {
        let cost = |size: &usize| (RUN + size) as f64 / tokens.min(*size) as f64;
        self.chunks.iter().copied().filter(|_| tokens > 0).min_by(|a, b| cost(a).total_cmp(&cost(b)))
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn context(&self) -> usize {
        self.model.context()
    }

    /// The logits after the last token of a row.
    pub(crate) fn logits(&self, row: usize) -> &[f32] {
        let n = self.model.vocab_size();
        &self.logits[row * n..][..n]
    }

    /// Forgets what was read.
    pub(crate) fn clear(&mut self) {
        self.rows.fill(Row::default());
        self.begun = false;
    }

    /// Reads what stands before every text, whose places nothing else writes.
    fn begin(&mut self) -> Result<()> {
        if let Some(session) = self.begin.as_mut().filter(|_| !self.begun) {
            session.run().map_err(|e| Error(e.to_string()))?;
            self.begun = true;
        }
        Ok(())
    }

    /// Each row becomes the one of a number.
    pub(crate) fn reorder(&mut self, from: &[usize]) -> Result<()> {
        if from.iter().copied().eq(0..self.rows.len()) {
            return Ok(());
        }
        if self.sources.as_ref().is_some_and(|sources| !sources.alike(from)) {
            return Err(Error(format!("{from:?}: a row goes on from another that answers the same text alone")));
        }
        if self.order.is_none() {
            let graph = self.model.reorder_graph().map_err(|e| Error(e.to_string()))?.bind(&|s| (s == 'B').then_some(self.rows.len() as u64))?;
            let program = compile(&graph, Goal::Results, &self.options)?;
            self.order = Some(Session::sharing(program.last(), self.device.clone(), self.options.budget, &self.one)?);
        }
        let session = self.order.as_mut().expect("it was just made");
        session.set_i32("rows", &from.iter().map(|r| *r as i32).collect::<Vec<_>>())?;
        session.run().map_err(|e| Error(e.to_string()))?;
        self.logits = from.iter().flat_map(|r| self.logits(*r).to_vec()).collect();
        self.rows = from.iter().map(|r| self.rows[*r].clone()).collect();
        Ok(())
    }

    /// Reads further tokens of each row, none of some perhaps.
    pub(crate) fn read(&mut self, tokens: &[&[i32]]) -> Result<()> {
        check_tokens(&self.model, tokens)?;
        assert_eq!(tokens.len(), self.rows.len(), "each row has its tokens");
        self.begin()?;
        let context = self.context();
        self.rows.iter_mut().zip(tokens).for_each(|(row, tokens)| row.push(tokens, context));
        while let Some(size) = self.chunk(self.rows.iter().map(|r| r.waiting().len()).max().unwrap_or(0)) {
            match self.compile(size) {
                Ok(()) => self.run(size)?,
                // what has no room for large chunks reads small ones
                Err(_) if size > 1 && self.options.budget.is_some() => self.chunks.retain(|s| *s < size),
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// Reads the next tokens of each row, at most so many. A row that has fewer is filled up: what stands behind its last token is written
    /// over before anything sees it.
    fn run(&mut self, size: usize) -> Result<()> {
        let take: Vec<usize> = self.rows.iter().map(|r| r.waiting().len().min(size)).collect();
        let filled = |(row, n): (&Row, &usize)| {
            let rest = row.tokens.last().copied().unwrap_or(0);
            row.waiting()[..*n].iter().copied().chain(std::iter::repeat_n(rest, size - n)).collect::<Vec<i32>>()
        };
        let ids: Vec<i32> = self.rows.iter().zip(&take).flat_map(filled).collect();
        let position: Vec<i32> = self.rows.iter().map(|r| r.kept as i32).collect();
        let last: Vec<i32> = take.iter().map(|n| n.saturating_sub(1) as i32).collect();
        let vocabulary = self.model.vocab_size();
        let mask = self.sources.as_ref().map(Sources::mask).transpose()?.map(<[i32]>::to_vec);
        let session = self.reading(size);
        mask.map_or(Ok(()), |mask| session.set_i32("attention_mask", &mask))?;
        session.set_i32("input_ids", &ids)?;
        session.set_i32("position", &position)?;
        session.set_i32("last", &last)?;
        session.run().map_err(|e| Error(e.to_string()))?;
        let logits = session.output("logits").expect("the program has logits").f32s().to_vec();
        for (i, n) in take.iter().enumerate().filter(|(_, n)| **n > 0) {
            self.rows[i].kept += n;
            self.logits[i * vocabulary..][..vocabulary].copy_from_slice(&logits[i * vocabulary..][..vocabulary]);
        }
        Ok(())
    }

    /// Sees to it that there is a program for so many tokens.
    fn compile(&mut self, size: usize) -> Result<()> {
        if size > 1 && self.more.iter().all(|p| p.tokens != size) {
            let graph = program(&self.model, &self.options, self.rows.len(), size)?;
            let session = Session::sharing(&graph, self.device.clone(), self.options.budget, &self.one)?;
            self.more.push(Program { tokens: size, session });
        }
        Ok(())
    }

    /// The session that reads so many tokens a row.
    fn reading(&mut self, size: usize) -> &mut Session {
        self.more.iter_mut().find(|p| p.tokens == size).map_or(&mut self.one, |p| &mut p.session)
    }
}

/// Refuses tokens that the model does not have.
fn check_tokens(model: &Model, tokens: &[&[i32]]) -> Result<()> {
    let n = model.vocab_size();
    match tokens.iter().copied().flatten().find(|t| !(0..n as i64).contains(&i64::from(**t))) {
        Some(t) => Err(Error(format!("there is no token {t}; the model has 0 to {}", n - 1))),
        None => Ok(()),
    }
}

/// The optimised program that reads so many tokens of each of so many rows.
fn program(model: &Model, options: &Options, rows: usize, tokens: usize) -> Result<ir::Graph> {
    optimised(model.step_graph()?, options, rows, tokens)
}

fn optimised(graph: ir::Graph, options: &Options, rows: usize, tokens: usize) -> Result<ir::Graph> {
    let size = |s: char| match s {
        'B' => Some(rows as u64),
        'T' => Some(tokens as u64),
        _ => None,
    };
    Ok(compile(&graph.bind(&size)?, Goal::Results, options)?.last().clone())
}
