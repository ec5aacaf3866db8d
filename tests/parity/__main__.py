"""Models of this project beside transformers: the same directory is a model for both.

Usage: python tests/parity path/to/eggcorn [words]
Random checkpoints are saved by transformers, whole and in shards. Of each: logits, loss and every gradient; greedy text; and what eggcorn
imports and exports, which transformers must load to the same tensors and logits. Words choose cases whose names have one of them.

Every file here with a function `cases()` adds its architectures: a list of `common.Case`.
Needs torch, transformers and safetensors; says so and skips where they are missing, and fails there where REQUIRE names torch.
"""

import importlib
import pathlib
import sys

from skips import skip


def main():
    eggcorn, words = str(pathlib.Path(sys.argv[1]).resolve()), sys.argv[2:]
    try:
        import common
    except ImportError as missing:
        return skip(f"SKIPPED parity: {missing}; pip install torch transformers safetensors to run it", "torch")
    here = pathlib.Path(__file__).parent
    modules = [importlib.import_module(p.stem) for p in sorted(here.glob("*.py")) if p.stem != "__main__"]
    cases = [case for module in modules for case in getattr(module, "cases", list)()]
    chosen = [case for case in cases if not words or any(word in case.name for word in words)]
    failed = [case.name for number, case in enumerate(chosen) if not common.check(eggcorn, case, number)]
    for module in modules if not words else []:
        for name, said, wrong in getattr(module, "checks", lambda _: [])(eggcorn):
            print(f"{'FAIL' if wrong else 'ok  '} {name}: {', '.join(wrong) or said}")
            failed += [name] if wrong else []
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed" + "".join(f"\n  {name}" for name in failed))
    sys.exit(1 if failed or not chosen else 0)


main()
