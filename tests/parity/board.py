"""A run's events as TensorBoard itself reads them: every scalar at every step, once, also where a run was stopped and went on."""

import json
import pathlib
import subprocess
import tempfile

from skips import skip

SMALL = ["n_layer=1", "n_embd=16", "n_head=2", "train.batch=2", "train.context=8", "train.eval_every=4", "train.save_every=5"]


def train(eggcorn, run, text, steps, *more):
    sets = [word for key in [*SMALL, f"train.steps={steps}", "train.sample_every=6"] for word in ("--set", key)]
    command = [eggcorn, "train", "shakespeare-char", "--data", str(text), "--out", str(run), *sets, *more]
    subprocess.run(command, check=True, capture_output=True)


def wrong_of(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tb"))
    events.Reload()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    held_out = {line["step"]: line["loss"] for line in lines if line["event"] == "evaluated"}
    wrong = []
    for tag, key in [("loss/train", "loss"), ("grad_norm", "grad_norm"), ("lr", "lr"), ("tokens_per_second", "tokens_per_second"), ("mfu", "mfu")]:
        have = [(e.step, e.value) for e in events.Scalars(tag)]
        want = [(line["step"], line[key]) for line in steps]
        if [step for step, _ in have] != [step for step, _ in want]:
            wrong.append(f"{tag} is at steps {[step for step, _ in have]}")
        elif any(abs(a - b) > 1e-6 * abs(b) for (_, a), (_, b) in zip(have, want)):
            wrong.append(f"{tag} has other values")
    have = {e.step: e.value for e in events.Scalars("loss/held_out")}
    if have.keys() != held_out.keys() or any(abs(have[step] - held_out[step]) > 1e-6 * held_out[step] for step in have):
        wrong.append(f"loss/held_out is {have}, expected {held_out}")
    texts = [e.step for e in events.Tensors("sample")]
    if texts != [line["step"] for line in lines if line["event"] == "sampled"]:
        wrong.append(f"texts are at steps {texts}")
    return wrong, len(steps)


def checks(eggcorn):
    try:
        import tensorboard  # noqa: F401
    except ImportError as missing:
        skip(f"SKIPPED events of TensorBoard: {missing}; pip install tensorboard to run it", "tensorboard")
        return []
    with tempfile.TemporaryDirectory() as here:
        here = pathlib.Path(here)
        text, run = here / "text.txt", here / "run"
        text.write_text("the quick brown fox jumps over the lazy dog. " * 40)
        train(eggcorn, run, text, 13)
        train(eggcorn, run, text, 20, "--resume")
        wrong, steps = wrong_of(run)
        return [("events of TensorBoard", f"{steps} steps", wrong)]
