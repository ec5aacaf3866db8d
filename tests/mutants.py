"""Small mistakes put into the code one at a time, each to be noticed by the fast suite: ./x mutants.

tests/mutants/*.toml lists them: an expression of a file, and what a developer could have written instead. All go into one build of a
copy of the tree, as `if mutant(n) { mistake } else { code }`; EGGCORN_MUTANT=n switches one on. A mistake is noticed when a test fails,
or when the suite takes far longer than without it. Nothing of this is in any other build.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "mutants"
TREE = WORK / "tree"
SWITCH = '''
/// Whether a mistake is switched on.
#[doc(hidden)]
pub fn mutant(n: u32) -> bool {
    static ON: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *ON.get_or_init(|| std::env::var("EGGCORN_MUTANT").ok().and_then(|v| v.parse().ok()).unwrap_or(0)) == n
}
'''


def read_lists():
    """Every mutant, numbered from 1, with the span of its expression."""
    out, names = [], set()
    for path in sorted((ROOT / "tests" / "mutants").glob("*.toml")):
        for m in tomllib.loads(path.read_text()).get("mutant", []):
            m["area"], m["number"] = path.stem, len(out) + 1
            if m["name"] in names:
                sys.exit(f"{path.name}: two mutants are named {m['name']}")
            names.add(m["name"])
            m["span"] = span(path.name, m)
            out.append(m)
    return out


def span(where, m):
    """Where a mutant's expression begins and ends; it must be in one place."""
    source = ROOT / m["file"]
    if not source.exists():
        sys.exit(f"{where}: {m['name']}: there is no {m['file']}")
    text, find = source.read_text(), m["find"]
    at, places = text.find(find), []
    while at >= 0:
        line = text[text.rfind("\n", 0, at) + 1 : text.find("\n", at)]
        if m.get("line", "") in line:
            places.append(at)
        at = text.find(find, at + 1)
    if len(places) != 1:
        sys.exit(f"{where}: {m['name']}: {find!r} is in {len(places)} places of {m['file']}, expected one; add more of it, or line = \"...\"")
    return places[0], places[0] + len(find)


def switched(text, mutants, switch, lo, hi):
    """The text from lo to hi with the mutants inside it; what encloses others comes first."""
    mutants = sorted(mutants, key=lambda m: (m["span"][0], -m["span"][1], m["number"]))
    out, at, i = "", lo, 0
    while i < len(mutants):
        m = mutants[i]
        a, b = m["span"]
        inner = [n for n in mutants[i + 1 :] if n["span"][0] < b]
        for n in inner:
            if n["span"][1] > b:
                sys.exit(f"{m['name']} and {n['name']} overlap")
        code = switched(text, inner, switch, a, b)
        out += text[at:a] + f"(if {switch}({m['number']}) {{ {m['replace']} }} else {{ {code} }})"
        at, i = b, i + 1 + len(inner)
    return out + text[at:hi]


def with_mutants(name, content, mutants):
    """A file's bytes with its mutants in."""
    own = [m for m in mutants if m["file"] == name]
    if not own:
        return content
    text = content.decode()
    return switched(text, own, "crate::mutant" if name.startswith("ir/") else "::ir::mutant", 0, len(text)).encode()


def make_tree(mutants):
    """A copy of the tracked and new files, mutants in; only what changed is written, so that a second build is short."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [n for n in listed.stdout.split("\n") if n and (ROOT / n).is_file()]
    for name in names:
        content = with_mutants(name, (ROOT / name).read_bytes(), mutants)
        if name == "ir/lib.rs":
            content += SWITCH.encode()
        target = TREE / name
        if not target.exists() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            shutil.copymode(ROOT / name, target)
    known = set(names)
    for path in [p for p in TREE.rglob("*") if p.is_file() and str(p.relative_to(TREE)) not in known]:
        path.unlink()


def build(features):
    """The test binaries, each with the folder it runs in."""
    env = os.environ | {"CARGO_TARGET_DIR": str(WORK / "build")}
    command = ["cargo", "test", "--workspace", "--no-run", "--message-format=json"] + features
    done = subprocess.run(command, cwd=TREE, env=env, capture_output=True, text=True)
    messages = [json.loads(line) for line in done.stdout.split("\n") if line.startswith("{")]
    if done.returncode != 0:
        for m in messages:
            if m.get("message", {}).get("level") == "error":
                print(m["message"]["rendered"])
        sys.exit(f"the tree with mutants does not compile: each find and replace must be an expression of one type\n{done.stderr[-2000:]}")
    made = [m for m in messages if m.get("executable") and m.get("profile", {}).get("test")]
    return [(m["executable"], str(pathlib.Path(m["manifest_path"]).parent)) for m in made]


def run(binary, folder, number, test_filter, seconds):
    """The first test that fails, or None; 'hangs' where time ran out."""
    with tempfile.TemporaryDirectory() as own:
        env = os.environ | {"EGGCORN_MUTANT": str(number), "EGGCORN_CACHE": own, "INSTA_UPDATE": "no", "TMPDIR": own}
        env |= {"INSTA_WORKSPACE_ROOT": str(TREE), "RUST_BACKTRACE": "0"}
        command = [binary] + ([test_filter] if test_filter else [])
        child = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)
        hung = []
        timer = threading.Timer(seconds, lambda: (hung.append(True), stop(child)))
        timer.start()
        failed = None
        for line in child.stdout:
            if line.startswith("test ") and line.rstrip().endswith("FAILED"):
                failed = line.split()[1]
                stop(child)
        child.wait()
        timer.cancel()
        if failed or child.returncode == 0:
            return failed
        return "hangs" if hung else f"exit status {child.returncode}"


def stop(child):
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def main():
    args = argparse.ArgumentParser(description="Put small mistakes into the code and see whether the tests notice.")
    args.add_argument("--area", help="only the list of this name")
    args.add_argument("--only", help="only mutants whose name has this in it")
    args.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args.add_argument("--features", default="--all-features", help="features of the build, as cargo takes them")
    args.add_argument("--named", action="store_true", help="run the tests that each mistake names, and not the rest of the suite after them")
    args.add_argument("--check", action="store_true", help="only see that every mistake has its place in the code")
    args = args.parse_args()
    mutants = read_lists()
    if args.check:
        for name in sorted({m["file"] for m in mutants}):
            with_mutants(name, (ROOT / name).read_bytes(), mutants)
        print(f"{len(mutants)} mutants, each in one place")
        return
    print(f"== building {len(mutants)} mutants in one tree", flush=True)
    make_tree(mutants)
    binaries = build(args.features.split())
    start = time.time()
    for binary, folder in binaries:
        failed = run(binary, folder, 0, None, 3600)
        if failed:
            sys.exit(f"without a mutant, {failed} of {binary} fails")
    seconds = time.time() - start
    print(f"== the suite without a mutant: {seconds:.0f} s", flush=True)
    wanted = [m for m in mutants if args.area in (None, m["area"]) and (args.only or "") in m["name"]]

    def judge(m):
        limit = 60 + 6 * seconds
        named = [(*b, m["tests"]) for b in binaries if m.get("tests")]
        tries = named if args.named and named else named + [(*b, None) for b in binaries]
        for binary, folder, test_filter in tries:
            failed = run(binary, folder, m["number"], test_filter, limit)
            if failed:
                return m, failed
        return m, None

    survivors = []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for m, failed in pool.map(judge, wanted):
            reason = m.get("equivalent")
            print(f"{m['area']:10} {m['name']:50} {failed or ('equivalent: ' + reason if reason else 'NOT NOTICED')}", flush=True)
            if not failed:
                survivors.append(m)
    open_ones = [m for m in survivors if "equivalent" not in m]
    counted = len(wanted) - (len(survivors) - len(open_ones))
    print(f"noticed {counted - len(open_ones)} of {counted}, {len(survivors) - len(open_ones)} equivalent")
    for m in open_ones:
        print(f"NOT NOTICED: {m['area']}: {m['name']}: {m['file']}: {m['find']} -> {m['replace']}")
    sys.exit(0 if len(open_ones) <= 0.03 * counted else 1)


if __name__ == "__main__":
    main()
