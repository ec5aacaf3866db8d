"""Models that say which class a text is of: scores, losses and gradients; what is exported; which class lines are of."""

import json
import pathlib
import tempfile

import torch
import transformers
from common import Case, character, cross_entropy, padding_mask, run, save, spread
from transformers import (
    BertConfig, BertForSequenceClassification, GPT2Config, GPT2ForSequenceClassification, LlamaConfig, LlamaForSequenceClassification,
    RobertaConfig, RobertaForSequenceClassification,
)

CLASSES = 3


class Classes:
    """Reads texts, some of them filled up behind, and says which class each is of."""

    auto = transformers.AutoModelForSequenceClassification
    # the token that fills up, which no text has
    pad = 0

    @classmethod
    def columns(cls, case, vocabulary):
        ids = torch.randint(2, vocabulary, (case.batch, case.time))
        mask = padding_mask(case, case.time)
        ids[mask == 0] = cls.pad
        return {"input_ids": ids, "attention_mask": mask, "labels": torch.randint(CLASSES, (case.batch, 1))}

    @staticmethod
    def forward(model, columns):
        logits = model(input_ids=columns["input_ids"], attention_mask=columns["attention_mask"]).logits
        return logits, cross_entropy(logits, columns["labels"])

    @staticmethod
    def asked(columns):
        return torch.ones(columns["input_ids"].shape[0], dtype=torch.bool)


class ClassesRoberta(Classes):
    pad = 1


def decoder(config, model, **given):
    return lambda: model(config(num_labels=CLASSES, pad_token_id=0, attn_implementation="eager", **given))


def encoder(config, model, **given):
    sizes = dict(vocab_size=101, max_position_embeddings=24, num_hidden_layers=2, num_attention_heads=2, hidden_size=32, intermediate_size=48)
    dropout = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return lambda: model(config(num_labels=CLASSES, attn_implementation="eager", **{**sizes, **dropout, **given}))


def gpt2():
    dropout = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return decoder(GPT2Config, GPT2ForSequenceClassification, vocab_size=101, n_positions=24, n_layer=2, n_head=2, n_embd=32, **dropout)


def llama():
    sizes = dict(vocab_size=101, max_position_embeddings=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    return decoder(LlamaConfig, LlamaForSequenceClassification, hidden_size=32, intermediate_size=48, **sizes)


def cases():
    padded = dict(padding=(0, 4, 8))
    return [
        Case("gpt2 with classes", gpt2(), 3, 9, Classes, device=True, **padded),
        Case("llama with classes", llama(), 3, 9, Classes, **padded),
        Case("bert with classes", encoder(BertConfig, BertForSequenceClassification), 3, 9, Classes, device=True, **padded),
        Case("roberta with classes", encoder(RobertaConfig, RobertaForSequenceClassification, type_vocab_size=1), 3, 9, ClassesRoberta, **padded),
    ]


def checks(eggcorn):
    """Probabilities of lines, by the command."""
    for name, make in (("gpt2", gpt2()), ("bert", encoder(BertConfig, BertForSequenceClassification))):
        with tempfile.TemporaryDirectory() as d:
            torch.manual_seed(5)
            model = make().eval()
            spread(model, 5)
            model.config.id2label = {i: f"class {i}" for i in range(CLASSES)}
            save(model, f"{d}/model", 101)
            texts = [torch.randint(2, 101, (n,)).tolist() for n in (1, 20, 3, 17, 24, 16, 3)]
            pathlib.Path(f"{d}/lines.txt").write_text("".join("".join(map(character, ids)) + "\n" for ids in texts))
            said = run([eggcorn, "predict", f"{d}/model", f"{d}/lines.txt", "--json", "--batch", "3"])
            have = torch.tensor([[json.loads(line)["probabilities"][f"class {i}"] for i in range(CLASSES)] for line in said.splitlines()])
            with torch.no_grad():
                want = torch.cat([model(torch.tensor([ids])).logits.softmax(-1) for ids in texts])
            error = (have - want).abs().max().item()
            yield f"predict, {name}", f"{len(texts)} texts, worst {error:.1e}", [f"probabilities differ by {error:.1e}"] if error > 1e-5 else []
