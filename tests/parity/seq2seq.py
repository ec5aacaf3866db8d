"""T5, and the Transformer in Marian's form: a text and its answer."""

import torch
import transformers
from common import Case, character, cross_entropy, padding_mask, run
from transformers import MarianConfig, MarianMTModel, T5Config, T5ForConditionalGeneration

# tokens of a greedy text, of one that is searched, and ways to search: transformers' names and those here
TEXT, SEARCHED = 64, 24
SEARCHES = [(1.0, False, "guess"), (1.0, True, "full"), (2.0, "never", "never"), (-0.5, False, "guess")]


class Answer:
    """Reads a text, some of it filled up, and guesses each successor of its answer."""

    auto = transformers.AutoModelForSeq2SeqLM

    @staticmethod
    def columns(case, vocabulary):
        source = torch.randint(2, vocabulary, (case.batch, case.source))
        answer, labels = (torch.randint(2, vocabulary, (case.batch, case.time)) for _ in range(2))
        labels[0, 0] = -100
        columns = {"input_ids": source, "decoder_input_ids": answer, "labels": labels}
        if case.padding:
            columns["attention_mask"] = padding_mask(case, case.source)
            source[columns["attention_mask"] == 0] = 0
        return columns

    @staticmethod
    def forward(model, columns):
        logits = model(**{k: v for k, v in columns.items() if k != "labels"}).logits
        return logits, cross_entropy(logits, columns["labels"])

    @staticmethod
    def asked(columns):
        return torch.ones_like(columns["decoder_input_ids"]).bool()

    @staticmethod
    def check_text(eggcorn, model, places, vocabulary, positions):
        """Greedy text, and the best of four beams, of texts of several lengths."""
        words, longest = 0, 0
        for number, length in enumerate((1, 5, 17, 20)):
            source = torch.randint(2, vocabulary, (length,))
            text = "".join(map(character, source.tolist()))

            def same(count, flags, **more):
                nonlocal words, longest
                made = model.generate(source[None], max_new_tokens=count, do_sample=False, **more)[0].tolist()[1:]
                want = made[: made.index(1)] if 1 in made else made
                for place in places if number == 0 else places[:1]:
                    said = run([eggcorn, "generate", place, "--source", text, "--max-tokens", str(count), *flags]).rstrip("\n")
                    have = [ord(c) - ord(character(0)) for c in said]
                    assert have == want, f"{flags} of {length} tokens: {have} instead of {want}"
                words, longest = words + 1, max(longest, len(want))

            same(min(TEXT, positions - 1), ["--temperature", "0"])
            for penalty, early, stopping in SEARCHES:
                flags = ["--beams", "4", "--length-penalty", str(penalty), "--stopping", stopping]
                same(SEARCHED, flags, num_beams=4, length_penalty=penalty, early_stopping=early)
        return f"{words} texts of up to {longest} tokens"


def t5(vocab, width, layers, heads, depth, inner, **more):
    def make():
        model = T5ForConditionalGeneration(T5Config(
            vocab_size=vocab, d_model=width, num_layers=layers, num_heads=heads, d_kv=depth, d_ff=inner, dropout_rate=0.0,
            decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, attn_implementation="eager", **more,
        ))
        if more.get("tie_word_embeddings") is False:
            # as in the files of T5 1.1, where the head is its own
            model.lm_head.weight = torch.nn.Parameter(torch.zeros(vocab, width))
        return model
    return make


def marian(vocab, positions, width, layers, heads, inner, **more):
    def make():
        model = MarianMTModel(MarianConfig(
            vocab_size=vocab, max_position_embeddings=positions, d_model=width, encoder_layers=layers[0], decoder_layers=layers[1],
            encoder_attention_heads=heads[0], decoder_attention_heads=heads[1], encoder_ffn_dim=inner[0], decoder_ffn_dim=inner[1], dropout=0.0,
            decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, forced_eos_token_id=None, attn_implementation="eager", **more,
        ))
        torch.nn.init.normal_(model.final_logits_bias)
        return model
    return make


def cases():
    padded = dict(padding=(0, 4, 8))
    return [
        Case("t5", t5(101, 32, 3, 2, 16, 48), 2, 17, Answer, source=9, device=True),
        Case("t5 1.1: gate, own head", t5(101, 32, 2, 4, 6, 50, feed_forward_proj="gated-gelu", tie_word_embeddings=False), 2, 5, Answer, source=23),
        Case("t5 filled up right, odd widths", t5(101, 33, 3, 3, 5, 51, num_decoder_layers=2), 3, 11, Answer, source=9, **padded),
        Case("t5 filled up left, silu gate", t5(101, 32, 2, 1, 7, 48, feed_forward_proj="gated-silu"), 3, 7, Answer, source=9, side="left", **padded),
        Case("t5 one token to one token", t5(257, 32, 2, 2, 16, 48), 3, 1, Answer, source=1),
        Case("t5 few kinds of distances", t5(101, 32, 2, 2, 16, 48, relative_attention_num_buckets=7, relative_attention_max_distance=20,
                                             feed_forward_proj="gelu"), 2, 60, Answer, source=70),
        Case("transformer", marian(101, 70, 32, (3, 2), (2, 4), (48, 40), activation_function="relu", scale_embedding=True), 2, 17, Answer,
             source=9, device=True),
        Case("transformer filled up left", marian(101, 70, 33, (2, 2), (3, 1), (48, 50), activation_function="silu"), 3, 7, Answer, source=9,
             side="left", **padded),
        Case("transformer filled up right", marian(101, 70, 32, (1, 2), (4, 4), (48, 48), activation_function="gelu"), 3, 11, Answer, source=9,
             **padded),
    ]
