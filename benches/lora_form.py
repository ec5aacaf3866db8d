"""How an adapter is applied: x W + (x A) B beside x (W + A B), as written and as the e-graph chooses, by how many rows x has.

Usage: python benches/lora_form.py path/to/eggcorn [inner] [outer] [rank]
Times the forward product alone and with the gradients of x, A and B, medians of `bench run`; "chosen" is the first form after rewriting.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

ROWS = [1, 16, 256, 1024, 4096, 16384]
STEPS = 7


def program(form, rows, inner, outer, rank):
    head = f"main(%0 x: f32[{rows},{inner}], %1 w: f32[{inner},{outer}]) {{\n  @a : f32[{inner},{rank}]\n  @b : f32[{rank},{outer}]\n"
    y = f"f32[{rows},{outer}]"
    body = {
        "beside": f"  %2 = contract[ab,bc->ac] %0, %1 : {y}\n  %3 = contract[ab,bc->ac] %0, @a : f32[{rows},{rank}]\n"
                  f"  %4 = contract[ab,bc->ac] %3, @b : {y}\n  %5 = add %2, %4 : {y}\n",
        "summed": f"  %2 = contract[ab,bc->ac] @a, @b : f32[{inner},{outer}]\n  %3 = add %1, %2 : f32[{inner},{outer}]\n"
                  f"  %4 = mul %0, 1.0 : f32[{rows},{inner}]\n  %5 = contract[ab,bc->ac] %4, %3 : {y}\n",
    }[form]
    rest = f"  %6 = mul %5, %5 : {y}\n  %7 = sum[-1,-2] %6 : f32[1,1]\n  %8 = reshape[] %7 : f32[]\n  %9 = broadcast[] 1.0 : f32[]\n"
    return head + body + rest + "  return loss.sum=%8, loss.count=%9\n}\n"


def time(eggcorn, path, opt, grad):
    command = [eggcorn, "bench", "run", str(path), "--threads", "2", "--steps", str(STEPS), "--opt", opt, "--json"] + (["--grad"] if grad else [])
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    result = json.loads(done.stdout)
    return 1e3 * result["seconds"]["median"], result["flops"] / 1e9


def main():
    eggcorn, inner, outer, rank = sys.argv[1], *(int(x) for x in (sys.argv[2:5] + ["768", "3072", "8"][len(sys.argv) - 2:]))
    print(f"{inner} x {outer}, rank {rank}; milliseconds (and GFLOP of products)")
    with tempfile.TemporaryDirectory() as folder:
        for grad in (False, True):
            for rows in ROWS:
                figures = []
                for name, form, opt in [("beside", "beside", "off"), ("summed", "summed", "off"), ("chosen", "beside", "egg")]:
                    path = pathlib.Path(folder) / f"{form}.ir"
                    path.write_text(program(form, rows, inner, outer, rank))
                    ms, gflop = time(eggcorn, path, opt, grad)
                    figures.append(f"{name} {ms:8.3f} ({gflop:.3f})")
                print(f"{'with gradients' if grad else 'forward':14} {rows:6} rows: {', '.join(figures)}", flush=True)


main()
