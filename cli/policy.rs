//! What `eggcorn grpo` and `eggcorn ppo` do with what was opened: a policy writes, is rewarded, and learns.

use super::interrupt::stop_on_interrupt;
use super::plot::plot;
use super::train::{Args, Opened, Way, begin, keep, stopped};
use super::view::View;
use super::{note, report};
use eggcorn::llm::record::{From, Recorder};
use eggcorn::llm::reward::Reward;
use eggcorn::llm::{Aim, Event, Models, Outcome, Policy, ROLLOUTS, Result, Teacher};
use std::path::Path;

pub fn run(args: &Args, opened: Opened, dir: &Path, models: &Models, way: &Way) -> Result<()> {
    let Opened { config, sources, tokenizer, start, template, .. } = opened;
    let device = args.device.open()?;
    let options = args.compile.options_on(&device, config.train.precision)?;
    config.check()?;
    let (t, p) = (&config.train, &config.policy);
    // of a prompt that is filled up, and what the answer ends with
    let rows = [t.step_rows(), t.context + 1];
    let mut policy = if config.aim() == Aim::Imitation {
        let teacher = Teacher::open(&config, models, &tokenizer, &device, &options)?;
        Policy::imitating(config.clone(), sources, tokenizer.clone(), teacher, device, &options)?
    } else {
        let reward = Reward::open(p, models, &tokenizer, rows, &device, &options)?;
        Policy::compiled(config.clone(), sources, tokenizer.clone(), reward, device, &options)?
    };
    if let Some(start) = &start {
        begin(args, models, &mut policy.step, start, &config)?;
    }
    let step = if args.resume { policy.resume(dir)? } else { 0 };
    keep(dir, &config, &tokenizer, template.as_ref(), start.as_ref())?;
    let mut record = Recorder::open(dir, From { step, to: t.steps })?;
    let stop = stop_on_interrupt("stopping after these answers; once more to stop at once, unsaved")?;
    let mut view = View::new(args.json);
    let outcome = policy.run(Some(dir), &stop, &mut |e: Event| {
        record.write(&e).unwrap_or_else(|e| note!("error: {e}"));
        view.show(&e);
        Ok(())
    });
    view.clear();
    let recorded = record.finish();
    let shown = report::write(dir, &config, policy.step.fused());
    let at = dir.display();
    match outcome? {
        Outcome::Stopped(step) => recorded.and(shown).and(Err(stopped(way, step, dir, args))),
        Outcome::Finished(missed) => {
            plot(dir)?;
            view.last_words(&format!("held-out prompts answered exactly: {:.1} %\n", 100.0 * (1.0 - missed)));
            view.last_words(&format!(
                "the run is in {at}: look at {at}/{}; see what was written, {at}/{ROLLOUTS}, with: eggcorn runs --rollouts {at}",
                report::FILE
            ));
            recorded.and(shown).and(view.finish())
        }
    }
}
