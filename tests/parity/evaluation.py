"""Evaluation beside lm-evaluation-harness and sacreBLEU: the same random GPT-2, the same files, the same numbers."""

import json
import os
import pathlib
import random
import tempfile

import common
from skips import skip

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

# log-probabilities of a text of a few tokens, in 32 bits
TOLERANCE = 2e-3
LETTERS = "abcdefghij klmnop .é-'\n"

# as in the harness's own task files, for files on this disk
TASKS = {
    "hellaswag": ("{{query}}", "choices", "{{label}}", "hellaswag"),
    "arc": ("Question: {{question}}\nAnswer:", "{{choices.text}}", "{{choices.label.index(answerKey)}}", None),
    "piqa": ("Question: {{goal}}\nAnswer:", "{{[sol1, sol2]}}", "label", None),
    "blimp": ("", "{{[sentence_good, sentence_bad]}}", 0, None),
    "winogrande": (None, None, None, "winogrande"),
}


def text(draw, least, most):
    words = ["".join(draw.choice(LETTERS[:16]) for _ in range(draw.randint(1, 6))).strip() or "a" for _ in range(draw.randint(least, most))]
    return " ".join(words)


def documents(task, n, draw):
    t = lambda least=1, most=6: text(draw, least, most)
    for i in range(n):
        if task == "hellaswag":
            yield {"ind": i, "activity_label": t(1, 2), "ctx_a": t() + " [title] " + t(), "ctx_b": t(), "endings": [t() + draw.choice(["", " [step]", "  é"]) for _ in range(4)], "label": str(draw.randrange(4))}
        elif task == "arc":
            labels = draw.choice(["ABCD", "123", "ABC"])
            yield {"id": str(i), "question": t(2, 9), "choices": {"text": [t() for _ in labels], "label": list(labels)}, "answerKey": draw.choice(labels)}
        elif task == "piqa":
            yield {"goal": t(2, 9), "sol1": t(), "sol2": t(), "label": draw.randrange(2)}
        elif task == "winogrande":
            yield {"sentence": f"{t(2, 5)} _ {t(2, 5)}.", "option1": t(1, 1), "option2": t(1, 1), "answer": draw.choice("12")}
        else:
            yield {"sentence_good": t(3, 8), "sentence_bad": t(3, 8), "UID": draw.choice(["one", "two"])}


def harness_task(task, path, folder, shots):
    from lm_eval.tasks.hellaswag.utils import process_docs
    from lm_eval.tasks.winogrande import preprocess_winogrande as winogrande

    prompt, choices, target, special = TASKS[task]
    config = {
        "task": f"own_{task}", "dataset_path": "json", "dataset_kwargs": {"data_files": {"validation": path, "train": f"{path}.examples"}, "cache_dir": f"{folder}/cache"},
        "training_split": "train", "validation_split": "validation", "fewshot_split": "train", "fewshot_config": {"sampler": "first_n"}, "num_fewshot": shots,
        "output_type": "multiple_choice", "doc_to_text": prompt, "doc_to_choice": choices, "doc_to_target": target,
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "acc_norm", "acc_bytes")],
    }
    if special == "hellaswag":
        config["process_docs"] = process_docs
    if special == "winogrande":
        config |= {"doc_to_text": winogrande.doc_to_text, "doc_to_target": winogrande.doc_to_target, "doc_to_choice": winogrande.doc_to_choice}
    return config


def harness(task, path, folder, shots):
    """What the harness says: figures, and log-probabilities in order; and its file of samples."""
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.loggers import EvaluationTracker

    own = ConfigurableTask(config=harness_task(task, path, folder, shots))
    arguments = {"pretrained": f"{folder}/model", "device": "cpu", "dtype": "float32", "batch_size": 8}
    out = lm_eval.simple_evaluate(model="hf", model_args=arguments, tasks=[own], log_samples=True, bootstrap_iters=1, cache_requests=False)
    name = own.config.task
    samples = sorted(out["samples"][name], key=lambda s: s["doc_id"])
    said = [[float(p) for p, _ in s["filtered_resps"]] for s in samples]
    asked = [[list(a) for a in s["arguments"]] for s in samples]
    tracker = EvaluationTracker(output_path=f"{folder}/harness")
    tracker.general_config_tracker.model_name_sanitized, tracker.date_id = task, str(shots)
    tracker.save_results_samples(name, samples)
    return out["results"][name], asked, said, next(pathlib.Path(f"{folder}/harness/{task}").glob("samples_*.jsonl"))


def rows(eggcorn, arguments):
    lines = [json.loads(line) for line in common.run([eggcorn, "eval", *arguments, "--json"]).splitlines()]
    return next(line for line in lines if line["group"] is None)


def differ(ours, theirs):
    """Which figures are others."""
    wrong = []
    for metric in ("acc", "acc_norm", "acc_bytes"):
        for key, have in ((f"{metric},none", ours[metric]["mean"]), (f"{metric}_stderr,none", ours[metric]["stderr"])):
            if abs(theirs[key] - have) > 1e-6:
                wrong.append(f"{key} is {have}, and {theirs[key]} there")
    return wrong


def multiple_choice(eggcorn, folder):
    draw = random.Random(5)
    for task in TASKS:
        path = f"{folder}/{task}.jsonl"
        for name, n in ((path, 30), (f"{path}.examples", 4)):
            pathlib.Path(name).write_text("".join(json.dumps(d) + "\n" for d in documents(task, n, draw)))
        for shots in (0, 2) if task != "blimp" else (0,):
            theirs, asked, said, samples = harness(task, path, f"{folder}", shots)
            ours = rows(eggcorn, [f"{folder}/model", "--task", f"{task}={path}", "--num-fewshot", str(shots), "--examples", f"{path}.examples", "--out", f"{folder}/out"])
            stored = [json.loads(line) for line in open(f"{folder}/out/{task}.jsonl")]
            wrong = differ(ours, theirs)
            for i, (sample, arguments, own) in enumerate(zip(stored, asked, said, strict=True)):
                if sample["arguments"] != arguments:
                    wrong.append(f"question {i} asks {sample['arguments']}, and {arguments} there")
                    break
                worst = max(abs(a - b) for a, b in zip(sample["logprobs"], own, strict=True))
                if worst > TOLERANCE:
                    wrong.append(f"question {i}: log-probabilities differ by {worst:.1e}")
                    break
            wrong += differ(rows(eggcorn, ["--from", f"{folder}/out/{task}.jsonl"]), theirs)
            # there a text's answer is what follows it, and not the number of the right beginning
            if task != "winogrande":
                wrong += differ(rows(eggcorn, ["--from", str(samples)]), theirs)
            samples.unlink()
            yield f"eval {task}, {shots} examples", f"acc {ours['acc']['mean']:.3f}, {len(stored)} questions", wrong


def rolling(eggcorn, folder):
    """Bits a byte of a text, in windows."""
    import lm_eval.models.huggingface as hf
    from lm_eval.api.instance import Instance

    body = text(random.Random(9), 150, 150)
    pathlib.Path(f"{folder}/text.txt").write_text(body)
    model = hf.HFLM(pretrained=f"{folder}/model", device="cpu", dtype="float32", batch_size=4)
    said = model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (body,), 0)], disable_tqdm=True)[0]
    want = -said / len(body.encode()) / 0.6931471805599453
    line = json.loads(common.run([eggcorn, "eval", f"{folder}/model", "--data", f"{folder}/text.txt", "--json"]))
    have = line["rows"][0]["bits_per_byte"]
    wrong = [f"{have} bits a byte, and {want} there"] if abs(have - want) > 1e-4 else []
    yield "eval of a text", f"{have:.4f} bits a byte, {line['tokens']} tokens", wrong


def translations(eggcorn, folder):
    import sacrebleu

    draw = random.Random(7)
    lines = lambda: ["".join(draw.choice(LETTERS + "ABC012,;&\"()") for _ in range(draw.randint(0, 40))).replace("\n", " ") for _ in range(60)]
    hypotheses, wrong = lines(), []
    change = lambda line: "".join(c if draw.random() < 0.85 else draw.choice(LETTERS).replace("\n", "") for c in line)
    for count in (1, 3):
        references = [[change(line) for line in hypotheses] for _ in range(count)]
        for name, body in [("hypotheses", hypotheses)] + [(f"reference{i}", r) for i, r in enumerate(references)]:
            pathlib.Path(f"{folder}/{name}").write_text("".join(line + "\n" for line in body))
        files = [f for i in range(count) for f in ("--references", f"{folder}/reference{i}")]
        ours = json.loads(common.run([eggcorn, "eval", "--hypotheses", f"{folder}/hypotheses", *files, "--json"]))
        theirs = {"bleu": sacrebleu.corpus_bleu(hypotheses, references).score}
        theirs |= {key: sacrebleu.corpus_chrf(hypotheses, references, word_order=n).score for key, n in (("chrf", 0), ("chrf++", 2))}
        wrong += [f"{key} is {ours[key]}, and {want} there" for key, want in theirs.items() if abs(ours[key] - want) > 1e-9]
    yield "eval of translations", f"BLEU {ours['bleu']:.2f}, chrF2 {ours['chrf']:.2f}", wrong


def checks(eggcorn):
    """Names of checks and what each found to be wrong."""
    try:
        import accelerate  # noqa: F401
        import lm_eval  # noqa: F401
        import sacrebleu  # noqa: F401
    except ImportError as missing:
        return skip(f"SKIPPED parity of evaluation: {missing}; pip install 'lm-eval[api]==0.4.13' accelerate sacrebleu==2.6.0 to run it", "lm_eval")
    with tempfile.TemporaryDirectory() as folder:
        model(folder)
        for check in (multiple_choice, rolling, translations):
            yield from check(eggcorn, folder)


def model(folder):
    """A random GPT-2 with a learned tokenizer of bytes, as transformers save them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([text(random.Random(i), 20, 40) for i in range(200)], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>").save_pretrained(f"{folder}/model")
    torch.manual_seed(3)
    config = GPT2Config(vocab_size=tokenizer.get_vocab_size(), n_positions=96, n_layer=2, n_head=2, n_embd=16, bos_token_id=0, eos_token_id=0)
    made = GPT2LMHeadModel(config).eval()
    for p in made.parameters():
        p.data *= 6 if p.dim() > 1 else 1
    made.save_pretrained(f"{folder}/model")
