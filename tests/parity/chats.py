"""Conversations beside transformers and trl: what templates write, which tokens are trained, and the loss of those that are held out."""

import datetime
import json
import pathlib
import random
import re
import subprocess
import tempfile

import common
import torch
import transformers
from skips import skip

SHIPPED = pathlib.Path(__file__).resolve().parents[2] / "llm" / "chat" / "templates"
# what each writes for the tokens that begin and end a text
TOKENS = {
    "chatml": ("", "<|im_end|>"),
    "llama-3": ("<|begin_of_text|>", "<|eot_id|>"),
    "mistral": ("<s>", "</s>"),
    "gemma": ("<bos>", "<end_of_turn>"),
    "alpaca": ("", "<|endoftext|>"),
}
SPECIALS = ["<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<s>", "</s>", "[INST]", "[/INST]", "<bos>", "<start_of_turn>", "<end_of_turn>", "<|endoftext|>"]
WORDS = ["the", "sky", "is", "blue", "Why?", "über", "two  spaces", "a\nline", "1.5", "(so)", "\"it\"", "日本", "###", "end."]
TOLERANCE = 2e-4


def conversations(n, draw, system):
    text = lambda: " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 6)))
    for _ in range(n):
        messages = [{"role": "system", "content": text()}] if system and draw.random() < 0.5 else []
        for _ in range(draw.randint(1, 3)):
            messages += [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]
        yield {"messages": messages}


def tokenizer(folder, texts):
    """A tokenizer of bytes that was learned, with every special token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIALS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    own.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=own)


def model(folder, tokens, context=256):
    torch.manual_seed(3)
    config = transformers.LlamaConfig(vocab_size=len(tokens), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=context)
    made = transformers.LlamaForCausalLM(config)
    made.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return made


def shown(eggcorn, *args):
    """Conversations as eggcorn encodes them."""
    out = subprocess.run([eggcorn, "sft", *args, "--show-mask", "100000", "--json"], capture_output=True, text=True)
    if out.returncode:
        raise RuntimeError(out.stderr.strip().splitlines()[-1])
    return [json.loads(line) for line in out.stdout.splitlines()]


def theirs(tokens, template, record, marks=True):
    kept = {k: v for k, v in record.items()}
    out = tokens.apply_chat_template(kept["messages"], chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=marks)
    return out["input_ids"], out.get("assistant_masks")


def alike(tokens, ids, own, mask, exact):
    """Whether the same tokens are asked; or all but what trl's templates ask besides, which no model has to write: what asks for an answer, and
    spaces and ends behind its end."""
    other = [tokens.decode([i]) for i, a, b in zip(ids, own, mask) if a != b]
    return own == mask or not exact and all(a <= b for a, b in zip(own, mask)) and not re.sub(r"<[^>]*>|\s|assistant", "", "".join(other))


def compare(eggcorn, folder, tokens, template, records, marked, args, exact=True):
    path = folder / "chats.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    ours = shown(eggcorn, "--init-from", str(folder), "--data", str(path), "--set", "train.context=256", "--set", "data.held_out=0.01", *args)
    wrong = []
    for record, own in zip(records, ours):
        text = tokens.apply_chat_template(record["messages"], chat_template=template, tokenize=False)
        ids, _ = theirs(tokens, template, record, False)
        _, mask = theirs(tokens, marked, record)
        if own["text"] != text:
            wrong.append(f"text {own['text']!r} for {text!r}")
        elif own["input_ids"] != ids:
            wrong.append("ids differ")
        elif tokens.apply_chat_template(record["messages"], chat_template=marked, tokenize=False) == text and not alike(tokens, ids, own["asked"], list(mask), exact):
            wrong.append(f"marks differ in {text!r}")
    return len(ours), wrong[:2]


def shipped(eggcorn, draw):
    """Every template that is shipped: text, ids and marks as transformers gives them."""
    for path in sorted(SHIPPED.glob("*.jinja")):
        with tempfile.TemporaryDirectory() as folder:
            folder, template = pathlib.Path(folder), path.read_text()
            tokens = tokenizer(folder, WORDS * 3)
            tokens.bos_token, tokens.eos_token = TOKENS[path.stem][0] or None, TOKENS[path.stem][1]
            tokens.chat_template = template
            model(folder, tokens)
            n, wrong = compare(eggcorn, folder, tokens, template, list(conversations(60, draw, True)), template, [])
            yield f"chat template {path.stem}", f"{n} conversations: text, ids and marks", wrong


def of_models(eggcorn, draw):
    """Templates of models in trl, run by this engine; those without marks, where answers must be found, against those with."""
    import trl

    folder = pathlib.Path(trl.__file__).parent / "chat_templates"
    pairs = [(p, folder / f"{p.stem}_training.jinja") for p in sorted(folder.glob("*.jinja")) if not p.stem.endswith("_training")]
    same, refused, failed = [], [], []
    for plain, training in pairs:
        if not training.exists():
            continue
        with tempfile.TemporaryDirectory() as place:
            place, template, marked = pathlib.Path(place), plain.read_text(), training.read_text()
            tokens = tokenizer(place, WORDS * 3)
            named = sorted(set(re.findall(r"<[|｜]?[A-Za-z_/▁]+[|｜]?>|<[a-z_]+>|\[/?[A-Z_]+\]", template)))
            tokens.add_special_tokens({"additional_special_tokens": [t for t in named if t not in SPECIALS]})
            tokens.bos_token, tokens.eos_token = "<s>", "</s>"
            tokens.chat_template = template
            model(place, tokens)
            records = list(conversations(20, draw, False))
            try:
                n, wrong = compare(eggcorn, place, tokens, template, records, marked, ["--set", f'chat.date="{datetime.date.today()}"'], False)
                (failed if wrong else same).append(f"{plain.stem}: {wrong[0]}" if wrong else plain.stem)
            except Exception as why:
                refused.append(f"{plain.stem}: {str(why)[-160:]}")
    failed += [] if len(same) >= 15 else ["too few are alike"]
    yield "chat templates of trl", f"{len(same)} alike ({', '.join(same)}); {len(refused)} refused: " + "; ".join(refused), failed


def loss(eggcorn, draw):
    """The loss over held-out answers is the mean of every answer's tokens, whatever is packed; trl's collator asks the same tokens."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        template = (SHIPPED / "alpaca.jinja").read_text()
        tokens = tokenizer(folder, WORDS * 3)
        tokens.eos_token = tokens.pad_token = "<|endoftext|>"
        tokens.chat_template = template
        made = model(folder, tokens, 512)
        records = list(conversations(40, draw, False))
        (folder / "chats.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        examples = [dict(zip(("input_ids", "assistant_masks"), theirs(tokens, template, r))) for r in records]
        collator = DataCollatorForLanguageModeling(pad_token_id=tokens.pad_token_id)
        batch = collator([{"input_ids": e["input_ids"], "labels": [i if m else -100 for i, m in zip(e["input_ids"], e["assistant_masks"])]} for e in examples[20:]])
        with torch.no_grad():
            want = float(made(**{k: v for k, v in batch.items() if k in ("input_ids", "attention_mask", "labels")}).loss)
        asked = int((batch["labels"][:, 1:] >= 0).sum())
        wrong, said = [], []
        for packing in ["best-fit", "padded"]:
            run = [eggcorn, "sft", "--init-from", str(folder), "--data", str(folder / "chats.jsonl"), "--out", str(folder / packing), "--answers", "0", "--json"]
            sets = ["train.context=512", "data.held_out=0.5", "train.steps=1", "train.lr=1e-25", "train.batch=3", f"data.packing={packing}"]
            out = subprocess.run([*run, *(x for s in sets for x in ("--set", s))], capture_output=True, text=True)
            events = [json.loads(line) for line in out.stdout.splitlines() if line.startswith("{")]
            value = next((e["loss"] for e in events if e.get("whole")), float("nan"))
            if not abs(value - want) < TOLERANCE * want:
                wrong.append(f"{packing}: {value} for {want}: {out.stderr[-300:]}")
            said.append(f"{packing} {value}")
        yield "masked loss", f"{asked} tokens asked, {want:.6f}; {', '.join(said)}", wrong


def checks(eggcorn):
    draw = random.Random(4)
    yield from shipped(eggcorn, draw)
    try:
        import trl  # noqa: F401
    except ImportError as missing:
        skip(f"SKIPPED conversations beside trl: {missing}; pip install --no-deps trl accelerate to run them", "trl")
        return
    yield from loss(eggcorn, draw)
    yield from of_models(eggcorn, draw)
