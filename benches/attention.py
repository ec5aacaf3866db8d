"""Attention of each kind, forward and forward with backward, beside PyTorch: written as mathematics here, as calls there.

Usage: python benches/attention.py path/to/eggcorn [rounds] [kind ...]
Needs torch; compiled flex_attention needs a C++ compiler and is left out, and said to be, where it cannot be compiled.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention as sdpa

THREADS, HEADS, DEPTH, WINDOW = 2, 12, 64, 256
LENGTHS = (1024, 4096)
torch.set_num_threads(THREADS)


class Program:
    """The text of a program, a line an operation."""

    def __init__(self, length):
        self.t, self.lines, self.inputs, self.params = length, [], [], {}
        self.scores = f"f32[1,{HEADS},{length},{length}]"

    def param(self, name, ty):
        self.params[name] = ty
        return f"@{name}"

    def input(self, name, ty):
        self.inputs.append((name, ty))
        return f"%{name}"

    def op(self, text, ty):
        name = f"%v{len(self.lines)}"
        self.lines.append(f"  {name} = {text} : {ty}")
        return name

    def positions(self):
        return self.op(f"iota[-2,{self.t}]", f"i32[{self.t},1]"), self.op(f"iota[-1,{self.t}]", f"i32[{self.t}]")

    def hide(self, mask, score):
        return self.op(f"select {mask}, {score}, -inf", self.scores)

    def pairs(self, op, a, b, kind="bool"):
        return self.op(f"{op} {a}, {b}", f"{kind}[{self.t},{self.t}]")

    def text(self, kind):
        t, depth = self.t, f"f32[1,{HEADS},{self.t},{DEPTH}]"
        q, k, v = (self.param(n, depth) for n in "qkv")
        score = self.op(f"contract[abce,abde->abcd] {q}, {k}", self.scores)
        score = kind(self, self.op(f"mul {score}, 0.125", self.scores))
        row = f"f32[1,{HEADS},{t},1]"
        top = self.op(f"max[-1] {score}", row)
        e = self.op(f"exp {self.op(f'sub {score}, {top}', self.scores)}", self.scores)
        p = self.op(f"div {e}, {self.op(f'sum[-1] {e}', row)}", self.scores)
        out = self.op(f"contract[abce,abed->abcd] {p}, {v}", depth)
        g = self.input("g", depth)
        loss = self.op(f"sum[-4,-3,-2,-1] {self.op(f'mul {out}, {g}', depth)}", "f32[1,1,1,1]")
        loss = self.op(f"reshape[] {loss}", "f32[]")
        count = self.op("add %one, 0.0", "f32[]")
        inputs = ", ".join(f"%{n} {n}: {ty}" for n, ty in [*self.inputs, ("one", "f32[]")])
        numbers = {f"%{n}": f"%{i}" for i, n in enumerate([*(n for n, _ in self.inputs), "one"])}
        lines = [f"  @{n} : {ty}" for n, ty in self.params.items()] + self.lines
        numbers |= {f"%v{i}": f"%{len(numbers) + i}" for i in range(len(self.lines))}
        body = "\n".join(lines) + f"\n  return y={out}, loss.sum={loss}, loss.count={count}\n"
        for name in sorted(numbers, key=len, reverse=True):
            body = body.replace(name, "%#" + numbers[name][1:])
            inputs = inputs.replace(name + " ", "%#" + numbers[name][1:] + " ")
        return f"main({inputs}) {{\n{body}}}\n".replace("%#", "%")


def causal(p, s):
    i, j = p.positions()
    return p.hide(p.pairs("le", j, i), s)


def window(p, s):
    i, j = p.positions()
    after = p.op(f"add {j}, {WINDOW}", f"i32[{p.t}]")
    return p.hide(p.pairs("lt", i, after), p.hide(p.pairs("le", j, i), s))


def padding(p, s):
    """Every key is flagged by itself, about half of them."""
    return p.hide(p.op(f"lt 0.0, {p.input('keep', f'f32[1,1,1,{p.t}]')}", f"bool[1,1,1,{p.t}]"), s)


def documents(p, s):
    """Four of equal length, by their numbers."""

    def number(x, shape):
        ends = [p.op(f"cast[i32] {p.op(f'le {n * p.t // 4}, {x}', f'bool{shape}')}", f"i32{shape}") for n in (1, 2, 3)]
        return p.op(f"add {p.op(f'add {ends[0]}, {ends[1]}', f'i32{shape}')}, {ends[2]}", f"i32{shape}")

    i, j = p.positions()
    same = p.pairs("eq", number(i, f"[{p.t},1]"), number(j, f"[{p.t}]"))
    return p.hide(same, p.hide(p.pairs("le", j, i), s))


def alibi(p, s):
    i, j = p.positions()
    d = p.op(f"cast[f32] {p.op(f'sub {j}, {i}', f'i32[{p.t},{p.t}]')}", f"f32[{p.t},{p.t}]")
    slopes = p.param("slopes", f"f32[{HEADS},1,1]")
    b = p.op(f"mul {slopes}, {d}", f"f32[{HEADS},{p.t},{p.t}]")
    return p.hide(p.pairs("le", j, i), p.op(f"add {s}, {b}", p.scores))


def bias(p, s):
    return p.op(f"add {s}, {p.param('bias', f'f32[{HEADS},{p.t},{p.t}]')}", p.scores)


def cap(p, s):
    x = p.op(f"tanh {p.op(f'mul {s}, 0.05', p.scores)}", p.scores)
    return causal(p, p.op(f"mul {x}, 20.0", p.scores))


class Case:
    """What PyTorch is asked for: a mask or bias of pairs, or a function of a score and its place."""

    def __init__(self, ours, mask=None, learned=False, score=None, block=None, call=sdpa):
        self.ours, self.mask, self.learned, self.score, self.block, self.call = ours, mask, learned, score, block, call


def places(t):
    return torch.arange(t)[:, None], torch.arange(t)[None, :]


def capped(q, k, v, attn_mask, is_causal):
    s = 20.0 * torch.tanh(q @ k.transpose(-1, -2) * (DEPTH**-0.5 / 20.0))
    return torch.softmax(s.masked_fill(~attn_mask, -torch.inf), -1) @ v


def near(t):
    i, j = places(t)
    return (j <= i) & (i < j + WINDOW)


def slopes():
    return 2.0 ** (-8.0 * (torch.arange(HEADS) + 1) / HEADS)


def kept(t):
    return torch.rand(t, generator=torch.Generator().manual_seed(1)) < 0.5


def document(t):
    return torch.arange(t) * 4 // t


def sloped(t):
    i, j = places(t)
    return (slopes()[:, None, None] * (j - i)).masked_fill(j > i, -torch.inf)[None]


SLOPES = slopes()
CASES = {
    "plain": Case(lambda p, s: s, score=lambda s, b, h, i, j: s),
    "causal": Case(causal, mask="causal", block=lambda b, h, i, j: j <= i),
    "window": Case(window, mask=near, block=lambda b, h, i, j: (j <= i) & (i < j + WINDOW)),
    "padding": Case(padding, mask=lambda t: kept(t)[None, None, None], block="padding"),
    "documents": Case(documents, mask=lambda t: (document(t)[:, None] == document(t)) & (places(t)[1] <= places(t)[0]), block="documents"),
    "alibi": Case(alibi, mask=sloped, learned=True, score=lambda s, b, h, i, j: s + SLOPES[h] * (j - i), block=lambda b, h, i, j: j <= i),
    "bias": Case(bias, mask=lambda t: torch.randn(1, HEADS, t, t), learned=True),
    "cap": Case(cap, mask=lambda t: places(t)[1] <= places(t)[0], call=capped, score=lambda s, b, h, i, j: 20.0 * torch.tanh(s / 20.0), block=lambda b, h, i, j: j <= i),
}


def best_of(f, seconds=0.4):
    """The median of calls for about so long."""
    f()
    out, end = [], time.perf_counter() + seconds
    while len(out) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        f()
        out.append(time.perf_counter() - start)
    return statistics.median(out)


def block_of(case, t):
    if case.block == "padding":
        keep = kept(t)
        return lambda b, h, i, j: keep[j]
    if case.block == "documents":
        ids = document(t)
        return lambda b, h, i, j: (ids[i] == ids[j]) & (j <= i)
    return case.block


def theirs(case, t):
    """Seconds of PyTorch's forward, forward with backward, and of flex_attention's forward."""
    q, k, v, g = (torch.randn(1, HEADS, t, DEPTH) for _ in range(4))
    mask = None if case.mask in (None, "causal") else case.mask(t)
    with torch.no_grad():
        forward = best_of(lambda: case.call(q, k, v, attn_mask=mask, is_causal=case.mask == "causal"))
        flex = None
        if case.score or case.block:
            try:
                call = torch.compile(flex_attention)
                blocks = create_block_mask(block_of(case, t), None, None, t, t, device="cpu") if case.block else None
                flex = best_of(lambda: call(q, k, v, score_mod=case.score, block_mask=blocks))
            except Exception as why:
                print(f"  flex_attention: {str(why).splitlines()[0][:100]}", file=sys.stderr)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    if case.learned:
        leaves.append(mask.requires_grad_())

    def both():
        for x in leaves:
            x.grad = None
        case.call(q, k, v, attn_mask=mask, is_causal=case.mask == "causal").backward(g)

    return forward, best_of(both), flex


def ours(eggcorn, path, more):
    command = [eggcorn, "bench", "run", path, "--threads", str(THREADS), "--steps", "7", "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{path.read_text()}\n{done.stderr}")
    return json.loads(done.stdout)["seconds"]["median"]


def main():
    eggcorn, rounds, only = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3, sys.argv[3:]
    print(f"torch {torch.__version__}, {THREADS} threads, {HEADS} heads x {DEPTH}, ms, medians of {rounds} alternating rounds (least to greatest)")
    for name, case in CASES.items():
        if only and name not in only:
            continue
        for t in LENGTHS:
            with tempfile.TemporaryDirectory() as d:
                whole = pathlib.Path(d, "whole.ir")
                text = Program(t).text(case.ours)
                whole.write_text(text)
                forward = pathlib.Path(d, "forward.ir")
                # a result that nobody asks for is not computed
                forward.write_text("".join(line for line in text.splitlines(True)).replace(text[text.rindex(", loss.sum=") : text.rindex("\n}")], ""))
                rows = []
                for _ in range(rounds):
                    a = theirs(case, t)
                    rows.append((ours(eggcorn, forward, []), ours(eggcorn, whole, ["--grad"]), *a))
            show = lambda i: [1e3 * r[i] for r in rows if r[i] is not None]
            f, fb, tf, tfb, flex = (show(i) for i in range(5))
            spread = lambda x: f"{statistics.median(x):.2f} ({min(x):.2f} to {max(x):.2f})" if x else "none"
            best = min(statistics.median(x) for x in (tf, flex) if x)
            print(
                f"{name:10} {t:5}: forward {spread(f)}, torch {spread(tf)}, flex {spread(flex)}, {best / statistics.median(f):.2f} x; "
                f"with backward {spread(fb)}, torch {spread(tfb)}, {statistics.median(tfb) / statistics.median(fb):.2f} x",
                flush=True,
            )


if __name__ == "__main__":
    main()
