"""What is asked beside transformers and PEFT: log-probabilities of preferred answers in messages, as chat templates write them, and an adapter
with a head of classes."""

import json
import pathlib
import tempfile

import torch
import transformers

from common import run
from skips import skip

FEW = ["train.steps=3", "train.batch=4", "train.eval_every=2", "train.eval_batches=1", "train.lr=1e-2"]
SMALL = ["n_layer=1", "n_embd=16", "n_head=2", "n_positions=96", "dropout=0.0", "data.tokenizer=bpe", "data.vocabulary=300"]


def settings(*all):
    return [word for some in all for setting in some for word in ("--set", setting)]


def letter(i):
    return chr(97 + i % 20)


def written(folder, name, records):
    path = pathlib.Path(folder) / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def log_probability(model, first, whole):
    """Of the tokens from one on."""
    logits = model(torch.tensor([whole])).logits[0, :-1].log_softmax(-1)
    return sum(logits[i - 1, whole[i]].item() for i in range(first, len(whole)))


def preferences(eggcorn, folder, template):
    """What a model says of both answers, by its template: of all records, in whatever order."""
    message = lambda role, content: {"role": role, "content": content}
    talks = written(folder, "talks.jsonl", ({"prompt": f"say {letter(i)}", "completion": f"please {letter(i)} no"} for i in range(40)))
    records = [
        {"prompt": [message("user", f"say {letter(i)}")], "chosen": [message("assistant", f"please {letter(i)}")],
         "rejected": [message("assistant", f"no {letter(i)}")]}
        for i in range(20)
    ]
    pairs = written(folder, "pairs.jsonl", records)
    sft, theirs, dpo = (f"{folder}/{name}" for name in ("sft", "hf", "dpo"))
    short = ["train.context=90"]
    run([eggcorn, "sft", "gpt2", "--data", talks, "--out", sft, "--answers", "0", *settings(SMALL, FEW, short, [f"chat.template={template}"])])
    run([eggcorn, "export", sft, theirs])
    run([eggcorn, "dpo", "--init-from", sft, "--data", pairs, "--out", dpo, *settings(FEW, short, ["adapter.kind=lora", "adapter.rank=2"])])
    model = transformers.AutoModelForCausalLM.from_pretrained(theirs).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(theirs)
    want = []
    for record in records:
        # the answer begins where its text does: line ends before it are other tokens where nothing follows them
        prompt = tokens.apply_chat_template(record["prompt"], add_generation_prompt=True, tokenize=False)
        both = []
        for name in ("chosen", "rejected"):
            text = tokens.apply_chat_template(record["prompt"] + record[name], tokenize=False)
            found = tokens(text, add_special_tokens=False, return_offsets_mapping=True)
            whole, first = found["input_ids"], next(i for i, (at, _) in enumerate(found["offset_mapping"]) if at >= len(prompt))
            while not tokens.decode([whole[-1]]).strip():
                whole = whole[:-1]
            both.append(log_probability(model, first, whole))
        want.append(both)
    parts = json.loads(pathlib.Path(dpo, "reference.json").read_text())["pairs"][0]
    have = sorted(pair for part in parts for pair in part)
    worst = max(abs(a - b) for x, y in zip(have, sorted(want)) for a, b in zip(x, y))
    first = next(json.loads(line)["loss"] for line in pathlib.Path(dpo, "metrics.jsonl").read_text().splitlines() if '"step"' in line and '"loss"' in line)
    wrong = [f"{len(have)} pairs of {len(want)}"] * (len(have) != len(want)) + [f"log-probabilities differ by {worst:.1e}"] * (worst > 2e-5)
    wrong += [f"the first loss is {first}"] * (abs(first - 0.6931471805599453) > 1e-6)
    return f"log-probabilities of {len(have)} pairs differ by {worst:.1e}, the first loss is ln 2", wrong


def classes(eggcorn, folder):
    """A head of classes beside a model, as PEFT reads it."""
    from peft import PeftModel

    texts = [("spam" if i % 3 == 0 else "ham", f"see {'win' if i % 3 == 0 else 'home'} now {letter(i)}") for i in range(60)]
    data = pathlib.Path(folder, "classes.tsv")
    data.write_text("".join(f"{name}\t{text}\n" for name, text in texts))
    base, theirs, ours, adapter = (f"{folder}/{name}" for name in ("base", "hf", "run", "peft"))
    short = ["train.context=16"]
    run([eggcorn, "train", "gpt2", "--data", str(data), "--out", base, *settings(SMALL, FEW, short)])
    run([eggcorn, "export", base, theirs])
    more = ["train.steps=20", "adapter.kind=lora", "adapter.rank=2"]
    run([eggcorn, "finetune", "classify", "--init-from", base, "--data", str(data), "--out", ours, *settings(FEW, short, more)])
    run([eggcorn, "export", ours, adapter, "--adapter"])
    some = pathlib.Path(folder, "some.txt")
    some.write_text("".join(text + "\n" for _, text in texts[:5]))
    said = [json.loads(line)["probabilities"] for line in run([eggcorn, "predict", ours, str(some), "--json"]).splitlines()]
    tokens = transformers.AutoTokenizer.from_pretrained(theirs)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(theirs, num_labels=2)
    model.config.pad_token_id = 0
    model = PeftModel.from_pretrained(model, adapter).eval()
    worst = 0.0
    for have, (_, text) in zip(said, texts):
        want = model(tokens(text, return_tensors="pt").input_ids).logits[0].softmax(-1).tolist()
        worst = max(worst, *(abs(a - b) for a, b in zip([have["ham"], have["spam"]], want)))
    return f"probabilities of {len(said)} texts differ by {worst:.1e}", [f"probabilities differ by {worst:.1e}"] * (worst > 1e-5)


def checks(eggcorn):
    """Names of checks and what each found to be wrong."""
    for template in ("chatml", "llama-3", "alpaca"):
        with tempfile.TemporaryDirectory() as d:
            said, wrong = preferences(eggcorn, d, template)
        yield f"preferences by the template {template}", said, wrong
    try:
        import peft  # noqa: F401
    except ImportError as missing:
        skip(f"SKIPPED classes beside PEFT: {missing}; pip install peft==0.21.2 to run them", "peft")
        return
    with tempfile.TemporaryDirectory() as d:
        said, wrong = classes(eggcorn, d)
    yield "classes with an adapter, read by PEFT", said, wrong
