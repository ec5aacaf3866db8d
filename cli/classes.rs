//! What is found of classes when a run ends.

use super::corpus::Classes;
use super::report::matrix;
use eggcorn::llm::evaluate::NaiveBayes;
use eggcorn::llm::record::Tested;
use eggcorn::llm::{Confusion, Event, Result, Trainer, write_file};
use std::fmt::Write;
use std::path::Path;

/// The picture's name in a run directory.
pub const PICTURE: &str = "confusion.svg";

/// Classes of which each is told by itself at most.
const MOST: usize = 50;

/// Looks at the texts that nothing was learned from and nothing chosen by, and at what counting words would make of them; what is found is kept
/// in the run directory, with a picture.
pub fn test(trainer: &mut Trainer, texts: &mut Classes, dir: &Path) -> Result<Tested> {
    let (part, judged) = match texts.test() {
        Some(source) => ("test", trainer.judge_other(source)?),
        None => ("held-out", trainer.judge(None)?),
    };
    let classes = texts.classes().len();
    let bayes = NaiveBayes::of(classes, texts.learned());
    let of = |says: &dyn Fn(&str) -> usize| Confusion::of(classes, texts.looked_at().map(|(text, class)| (class, says(text))));
    let (counted, majority) = (of(&|text| bayes.class(text)), of(&|_| bayes.majority()));
    let tested = Tested {
        part: part.into(),
        classes: texts.classes().to_vec(),
        model: judged.classes.unwrap_or_else(|| Confusion::of(classes, [])).rows().to_vec(),
        naive_bayes: counted.rows().to_vec(),
        majority: majority.rows().to_vec(),
    };
    tested.write(dir)?;
    write_file(&dir.join(PICTURE), matrix::alone(&tested.classes, &tested.model).as_bytes())?;
    Ok(tested)
}

/// What is measured of that.
pub fn events(step: u64, tested: &Tested) -> Vec<Event> {
    let part = &tested.part;
    let each = |(who, found): &(&str, Confusion)| {
        let name = if *who == "this model" { part.to_string() } else { format!("{part}, {who}:") };
        [("accuracy", found.accuracy()), ("macro-F1", found.macro_f1())].map(|(what, value)| Event::Measured {
            step,
            what: format!("{name} {what}"),
            value,
        })
    };
    tested.all().iter().flat_map(each).collect()
}

/// The same as a person reads it.
pub fn words(tested: &Tested) -> String {
    let all = tested.all();
    let mut out = format!("{} texts, {}, which nothing was learned from:\n", all[0].1.count(), tested.part);
    let mut line = |text: std::fmt::Arguments| out.write_fmt(text).expect("a string takes what is written");
    line(format_args!("  {:20}{:>10}{:>10}\n", "", "accuracy", "macro-F1"));
    for (who, found) in &all {
        line(format_args!("  {who:20}{:>8.2} %{:>10.4}\n", 100.0 * found.accuracy(), found.macro_f1()));
    }
    line(format_args!("  {:20}{:>10}{:>10}{:>10}{:>8}\n", "class", "precision", "recall", "F1", "texts"));
    for (name, c) in tested.classes.iter().zip(all[0].1.of_classes()).take(MOST) {
        line(format_args!("  {name:20}{:>10.4}{:>10.4}{:>10.4}{:>8}\n", c.precision, c.recall, c.f1, c.texts));
    }
    out
}
