"""BERT and RoBERTa: with the heads they learn by, and alone."""

import torch
import transformers
from common import Case, cross_entropy, padding_mask
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
