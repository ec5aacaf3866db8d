//! A program over whole texts, many at a time: rows filled up to a few lengths, each compiled once, over one memory of weights.

use crate::error::{Error, Result};
use crate::hub::Directory;
use crate::weights::named::Tensors;
use ir::{Graph, Type};
use passes::{Goal, Options, compile};
use runtime::{Device, Session};

/// Tokens of a text in the shortest program: there is one for each power of two up to what texts have.
const SHORTEST: usize = 16;

/// A model with its weights that says something of texts.
pub struct Batched {
    /// Inputs `input_ids` and `attention_mask` `i32[B,T]`, of which each row begins with its tokens; one result a row.
    graph: Graph,
    result: String,
    vocabulary: usize,
    context: usize,
    device: Device,
    options: Options,
    rows: usize,
    /// Programs by the tokens of a row they read, over one memory of weights.
    programs: Vec<(usize, Session)>,
}

impl Batched {
    /// Compiles a program of a directory's model for so many texts at a time, and reads its weights: those of the program, and of the others
    /// that are named there may be more, which are of no use here.
    pub fn open(
        directory: &Directory,
        graph: Graph,
        result: &str,
        others: &[(String, Type)],
        device: Device,
        options: &Options,
        rows: usize,
    ) -> Result<Batched> {
        let options = Options { machine: device.target()?.machine(), ..options.clone() };
        let (vocabulary, context) = (directory.model().vocab_size(), directory.model().context());
        let mut out = Batched { graph, result: result.into(), vocabulary, context, device, options, rows: rows.max(1), programs: vec![] };
        let first = out.program(SHORTEST.min(context))?;
        let tensors = directory.tensors()?;
        out.load(first, &tensors, others)?;
        Ok(out)
    }

    fn load(&mut self, program: usize, tensors: &Tensors, others: &[(String, Type)]) -> Result<()> {
        let session = &mut self.programs[program].1;
        let own: Vec<(String, Type)> = session.params().map(|p| (p.0.to_string(), p.1.clone())).collect();
        for (name, ty) in others.iter().chain(&own) {
            tensors.check(name, ty)?;
        }
        tensors.check_all_read()?;
        own.iter().try_for_each(|(name, ty)| tensors.each(name, ty, &mut |at, bytes| Ok(session.set_param_part(name, at, bytes)?)))
    }

    /// What the program says of each text, which is given by its ids: at least one, and no more than the model reads. Texts of like length
    /// are read together, so that little is filled up.
    pub fn read(&mut self, texts: &[Vec<i32>]) -> Result<Vec<Vec<f32>>> {
        for text in texts {
            if text.is_empty() || text.len() > self.context || text.iter().any(|t| !(0..self.vocabulary as i64).contains(&i64::from(*t))) {
                let (n, context) = (text.len(), self.context);
                return Err(Error(format!("a text of {n} tokens: expected 1 to {context} of the model's 0 to {}", self.vocabulary - 1)));
            }
        }
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|i| texts[*i].len());
        let mut out = vec![vec![]; texts.len()];
        for batch in order.chunks(self.rows) {
            let own: Vec<&[i32]> = batch.iter().map(|i| texts[*i].as_slice()).collect();
            for (i, vector) in batch.iter().zip(self.read_rows(&own)?) {
                out[*i] = vector;
            }
        }
        Ok(out)
    }

    /// The same of at most as many texts as there are rows.
    fn read_rows(&mut self, texts: &[&[i32]]) -> Result<Vec<Vec<f32>>> {
        let longest = texts.iter().map(|t| t.len()).max().unwrap_or(0);
        let tokens = longest.next_power_of_two().clamp(SHORTEST.min(self.context), self.context);
        let at = |row: usize, i: usize| texts.get(row).and_then(|text| text.get(i)).copied();
        let all = |of: &dyn Fn(Option<i32>) -> i32| -> Vec<i32> { (0..self.rows * tokens).map(|i| of(at(i / tokens, i % tokens))).collect() };
        let (ids, mask) = (all(&|id| id.unwrap_or(0)), all(&|id| i32::from(id.is_some())));
        let program = self.program(tokens)?;
        let session = &mut self.programs[program].1;
        session.set_i32("input_ids", &ids)?;
        session.set_i32("attention_mask", &mask)?;
        session.run().map_err(|e| Error(e.to_string()))?;
        let all = session.output(&self.result).expect("it is the program's result").f32s();
        let width = all.len() / self.rows;
        Ok(texts.iter().enumerate().map(|(row, _)| all[row * width..][..width].to_vec()).collect())
    }

    /// The number of the program for so many tokens of a row.
    fn program(&mut self, tokens: usize) -> Result<usize> {
        if let Some(found) = self.programs.iter().position(|p| p.0 == tokens) {
            return Ok(found);
        }
        let size = |s: char| match s {
            'B' => Some(self.rows as u64),
            'T' => Some(tokens as u64),
            _ => None,
        };
        let program = compile(&self.graph.bind(&size)?, Goal::Results, &self.options)?;
        let from: Vec<&Session> = self.programs.first().map(|p| &p.1).into_iter().collect();
        let session = Session::sharing_all(program.last(), self.device.clone(), self.options.budget, &from)?;
        self.programs.push((tokens, session));
        Ok(self.programs.len() - 1)
    }
}
