"""What is asked of every model, and what a kind of model reads."""

import contextlib
import dataclasses
import json
import logging
import os
import subprocess
import tempfile
import traceback
import typing

import torch
import transformers
from safetensors.torch import load_file, save_file

from skips import skip

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
logging.getLogger("transformers").setLevel(logging.ERROR)
torch.set_num_threads(2)

# relative to the largest element of each tensor
TOLERANCE = 1e-4
OWN_TOKENIZER = transformers.models.auto.tokenization_auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS
DEVICE = "wgpu:software"
# the first tokens of a greedy text, which the rest follows
PROMPT, TEXT = 3, 64


@dataclasses.dataclass
class Case:
    """A random model, made when it is asked for, and what it is to read."""

    name: str
    make: typing.Callable[[], typing.Any]
    batch: int
    time: int
    # what it reads and says: one of the classes below
    kind: typing.Any = None
    # how many tokens are filled up in each row, on which side; none where it is empty
    padding: tuple = ()
    side: str = "right"
    # how many kinds of segments its tokens are of, and how long the text is that it answers
    types: int = 0
    source: int = 0
    # whether it also runs on a device in software
    device: bool = False
    # what it is exported as, where a plainer model has all of its settings
    exported: str = ""


class Decoder:
    """Reads a text and guesses each token's successor."""

    auto = transformers.AutoModelForCausalLM

    @staticmethod
    def columns(case, vocabulary):
        ids, labels = (torch.randint(vocabulary, (case.batch, case.time)) for _ in range(2))
        if labels.numel() > 1:
            labels[0, -1 if case.side == "left" else 0] = -100
        columns = {"input_ids": ids, "labels": labels}
        if case.padding:
            mask = padding_mask(case, case.time)
            labels[mask == 0] = -100
            columns["attention_mask"] = mask
        return columns

    @staticmethod
    def forward(model, columns):
        """Logits, and the loss of labels that are shifted already."""
        logits = model(**{k: v for k, v in columns.items() if k != "labels"}).logits
        return logits, cross_entropy(logits, columns["labels"])

    @staticmethod
    def asked(columns):
        """Where logits mean anything."""
        return columns.get("attention_mask", torch.ones_like(columns["input_ids"])).bool()

    @staticmethod
    def greedy(model, prompt, count):
        # unless a mask says so, tokens that are the padding's would be hidden
        tokens = torch.tensor([prompt])
        made = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=count, do_sample=False, pad_token_id=0)
        return made[0, len(prompt):].tolist()


def cross_entropy(logits, labels):
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=-100)


def padding_mask(case, time):
    """1 where there is a token; rows are filled up by `case.padding`."""
    mask = torch.ones(case.batch, time, dtype=torch.int64)
    for row, n in enumerate(case.padding):
        mask[row, :n] = mask[row, :n] if case.side == "right" else 0
        if case.side == "right" and n:
            mask[row, -n:] = 0
    return mask


def relative(have, want, scale=0.0):
    """The largest difference, of the largest element there is, and that not below 1/250 of `scale`, for rounding is of what is added up; of
    what is nothing beside `scale`, of that: rounding leaves something of zeros."""
    most = want.abs().max()
    return ((have - want).abs().max() / (most.clamp_min(4e-3 * scale) if most > 1e-5 * scale else scale)).item()


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def spread(model, seed):
    """Random parameters, larger than the usual start, so that attention is not flat."""
    torch.manual_seed(seed)
    # what is frozen is a constant of the model
    for name, p in ((name, p) for name, p in model.named_parameters() if p.requires_grad):
        with torch.no_grad():
            torch.nn.init.normal_(p, 0.0, 0.2 if p.dim() > 1 else 0.5)


def save(model, folder, vocabulary, **more):
    model.save_pretrained(folder, **more)
    # a character a token, so that texts are ids
    vocab = {character(i): i for i in range(vocabulary)}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
        "post_processor": None, "decoder": {"type": "Fuse"}, "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }
    with open(f"{folder}/tokenizer.json", "w") as file:
        json.dump(tokenizer, file)


def character(token):
    return chr(0x4E00 + token)


def compared(eggcorn, folder, columns, expected, scratch, more=()):
    """The largest relative error of all results, and which it is."""
    save_file(columns, f"{scratch}/in.safetensors")
    grad = ["--grad"] if "loss" in expected else []
    run([eggcorn, "run", folder, "--input", f"{scratch}/in.safetensors", "--out", f"{scratch}/out.safetensors", *grad, *more])
    have = load_file(f"{scratch}/out.safetensors")
    errors = {}
    scale = max((want.abs().max().item() for name, (want, _) in expected.items() if name.startswith("grad.")), default=0.0)
    for name, (want, where) in expected.items():
        out = have[name]
        of_gradients = scale if name.startswith("grad.") else 0.0
        errors[name] = relative(out[where], want[where], of_gradients) if where is not None else relative(out, want, of_gradients)
    worst = max(errors, key=errors.get)
    return errors[worst], worst, len(errors)


def expectations(kind, model, columns):
    """Logits, loss, gradients and what else is said, by name: each with where it means anything."""
    model.zero_grad()
    further = {n: (t.detach(), where) for n, (t, where) in kind.further(model, columns).items()} if hasattr(kind, "further") else {}
    logits, loss = kind.forward(model, columns)
    if loss is None:
        return further
    loss.backward()
    named = getattr(kind, "gradients", lambda model: ((n, p.grad) for n, p in model.named_parameters()))
    grads = {f"grad.{n}": (grad, None) for n, grad in named(model) if grad is not None}
    return {"logits": (logits.detach(), kind.asked(columns)), "loss": (loss.detach(), None), **grads, **further}


def check_numbers(eggcorn, case, model, folders, columns, scratch):
    """Logits, loss and gradients: of the whole file and of shards, and on a device."""
    expected = expectations(case.kind, model, columns)
    error, worst, count = compared(eggcorn, folders[0], columns, expected, scratch)
    said = f"{count} tensors, worst {error:.1e} ({worst})"
    assert error <= TOLERANCE, said
    whole = load_file(f"{scratch}/out.safetensors")
    compared(eggcorn, folders[1], columns, expected, scratch)
    assert all(torch.equal(t, whole[n]) for n, t in load_file(f"{scratch}/out.safetensors").items()), "shards give other bits"
    return said + on_device(eggcorn, folders[0], columns, expected, scratch) if case.device else said


def on_device(eggcorn, folder, columns, expected, scratch):
    """The same on a device in software, where the build and the machine have one."""
    try:
        error, worst, _ = compared(eggcorn, folder, columns, expected, scratch, ["--device", DEVICE])
    except RuntimeError as failure:
        if f"device {DEVICE}" not in str(failure):
            raise
        skip("SKIPPED parity on a device: " + str(failure).split("error: ")[-1], "vulkan")
        return ""
    assert error <= TOLERANCE, f"on {DEVICE}: {worst} differs by {error:.1e}"
    return f", on {DEVICE} {error:.1e}"


def check_export(eggcorn, case, model, folder, columns, scratch):
    """What is imported and exported is the same model for transformers: tensors to the bit, and logits."""
    run([eggcorn, "import", folder, "--out", f"{scratch}/run"])
    run([eggcorn, "export", f"{scratch}/run", f"{scratch}/back"])
    back = case.kind.auto.from_pretrained(f"{scratch}/back", attn_implementation="eager", **getattr(case.kind, "loading", {})).eval()
    assert type(back).__name__ == (case.exported or type(model).__name__), f"exported as {type(back).__name__}"
    want, have = model.state_dict(), back.state_dict()
    more = have.keys() - want.keys() - getattr(case.kind, "may_lack", set())
    assert not more and want.keys() <= have.keys() and all(torch.equal(want[n], have[n]) for n in want), "exported tensors are others"
    with torch.no_grad():
        want, have = (case.kind.forward(m, columns)[0][case.kind.asked(columns)] for m in (model, back))
        # the same tensors at other addresses may be summed in another order
        assert relative(have, want) <= 1e-6, "exported logits are others"
    # a few types have a tokenizer of their own whatever the files say
    auto = transformers.PreTrainedTokenizerFast if model.config.model_type in OWN_TOKENIZER else transformers.AutoTokenizer
    tokenizer = auto.from_pretrained(f"{scratch}/back")
    some = [5, 0, 3]
    assert tokenizer("".join(map(character, some)), add_special_tokens=False)["input_ids"] == some, "the exported tokenizer is another"
    return back


def check_text(eggcorn, case, model, folder, vocabulary, positions, scratch):
    """Greedy text, of the directory and of what was exported."""
    prompt = torch.randint(vocabulary, (PROMPT,)).tolist()
    count = min(TEXT, positions - PROMPT)
    want = case.kind.greedy(model, prompt, count)
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    if want[-1] in ends:
        want = want[:-1]
    for place in (folder, f"{scratch}/back"):
        text = run([eggcorn, "generate", place, "--prompt", "".join(map(character, prompt)), "--max-tokens", str(count), "--temperature", "0"])
        have = [ord(c) - 0x4E00 for c in text.rstrip("\n")][PROMPT:]
        assert have == want, f"greedy text {have} instead of {want}"
    return f"{len(want)} tokens of text"


def check(eggcorn, case, seed):
    case.kind = case.kind or Decoder
    try:
        torch.manual_seed(seed)
        model = case.make().eval()
        spread(model, seed)
        vocabulary = model.config.vocab_size
        # of a model of distances as many as this project has room for
        positions = getattr(model.config, "n_positions", None) or getattr(model.config, "max_position_embeddings", 512)
        columns = case.kind.columns(case, vocabulary)
        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stderr(open(os.devnull, "w")):
            folders = [f"{scratch}/whole", f"{scratch}/shards"]
            save(model, folders[0], vocabulary)
            save(model, folders[1], vocabulary, max_shard_size="20KB")
            assert os.path.exists(f"{folders[1]}/model.safetensors.index.json"), "the model is too small for shards"
            said = [check_numbers(eggcorn, case, model, folders, columns, scratch)]
            check_export(eggcorn, case, model, folders[1], columns, scratch)
            if hasattr(case.kind, "greedy"):
                said.append(check_text(eggcorn, case, model, folders[0], vocabulary, positions, scratch))
            if hasattr(case.kind, "check_text"):
                said.append(case.kind.check_text(eggcorn, model, [folders[0], f"{scratch}/back"], vocabulary, positions))
        print(f"ok   {case.name:44} {case.batch}x{case.time}: {', '.join(said)}", flush=True)
        return True
    except Exception as failure:
        what = failure if isinstance(failure, (AssertionError, RuntimeError)) else traceback.format_exc()
        print(f"FAIL {case.name:44} {case.batch}x{case.time}: {what}", flush=True)
        return False
