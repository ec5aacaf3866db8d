//! Tasks that are asked again and again while a model is trained.

use super::asked::{Asked, TaskFiles, scores};
use super::metrics::Summary;
use super::question::Examples;
use super::samples::Sample;
use super::score::Scorer;
use super::seam::Seam;
use crate::error::Result;
use crate::run::Event;

/// A model in training and what it is asked.
pub struct Tracked<'a> {
    scorer: Scorer<'a>,
    /// Of each file the first questions.
    some: Vec<Asked>,
    /// All questions.
    all: Vec<Asked>,
}

impl<'a> Tracked<'a> {
    /// Reads the tasks: on the way the first `limit` questions of each file are asked, without examples.
    pub fn new(scorer: Scorer<'a>, tasks: &[TaskFiles], limit: usize, seam: &Seam) -> Result<Tracked<'a>> {
        let read = |limit| tasks.iter().map(|t| Asked::read(t, &Examples::default(), limit, seam)).collect::<Result<_>>();
        Ok(Tracked { scorer, some: read(Some(limit))?, all: read(None)? })
    }

    /// What was found after something happened: whenever held-out text is evaluated, the tasks are asked.
    pub fn after(&mut self, event: &Event) -> Result<Vec<Event>> {
        match *event {
            Event::Ready { .. } => Ok(self.notices().into_iter().map(Event::Notice).collect()),
            Event::Evaluated { step, whole, .. } => {
                Ok(self.ask(whole)?.into_iter().map(|(what, value)| Event::Measured { step, what, value }).collect())
            }
            Event::Notice(_) | Event::Step { .. } | Event::Measured { .. } | Event::Saved { .. } | Event::Sampled { .. } => Ok(vec![]),
        }
    }

    /// What there is to know before the first step: how many questions there are, and what chance would get right.
    fn notices(&self) -> Vec<String> {
        let one = |(some, all): (&Asked, &Asked)| {
            let chance = all.questions.iter().map(|q| 1.0 / q.choices.len() as f64).sum::<f64>() / all.questions.len().max(1) as f64;
            let (name, on_the_way, questions) = (&all.task.name, some.questions.len(), all.questions.len());
            format!("{name}: {questions} questions, the first {on_the_way} on the way; chance gets {chance:.4} right")
        };
        self.some.iter().zip(&self.all).map(one).chain(self.all.iter().filter_map(Asked::notice)).collect()
    }

    /// Asks, and says of each task by name the share that is right, by log-probability and by that over characters.
    pub fn ask(&mut self, whole: bool) -> Result<Vec<(String, f64)>> {
        let asked = if whole { &self.all } else { &self.some };
        let scores = scores(asked, &mut self.scorer, &mut |_, _| ())?;
        let one = |(asked, scores): (&Asked, &Vec<_>)| {
            let samples: Vec<Sample> = asked.samples(scores);
            let (name, summary) = (&asked.task.name, Summary::of(&samples.iter().collect::<Vec<_>>()));
            [(format!("{name} acc"), summary.acc.mean), (format!("{name} acc_norm"), summary.acc_norm.mean)]
        };
        Ok(asked.iter().zip(&scores).flat_map(one).collect())
    }
}
