"""Times this tree beside another commit: network calls and gradients, calls taking turns, one table of ratios.

Run from anywhere in the repository; no package is needed beside Python:

    python benches/against.py COMMIT [--rounds N] [--only NAME ...] [--most RATIO] [--instructions] [--config KEY=VALUE ...]

It builds benches/calls.rs in this tree and, in a temporary worktree, in COMMIT (its build is kept below target/against, so a second run
is quick). Each row is one network, kind of call, number of threads and batch: two children, one of each build, take turns, first one
then the other ahead. A figure is the least of all rounds, so other work on the machine moves both sides little, and rounds go on until
the least of neither side has moved for a third of them. With `--most 1.02` it fails if a row's ratio, ours over theirs, is above that.

`--instructions` adds what a call executes in one thread, counted by valgrind's callgrind, which has no AVX-512: there both run
the AVX2 kernels. It does not depend on what else the machine does. `--config` is for cargo, of this tree's build alone: what
`profile.release.opt-level="s"` costs, say.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

from common.child import ROOT, Child

BENCHES = os.path.join(ROOT, "benches")
KEPT = os.path.join(ROOT, "target", "against")
ROWS = [
    (name, what, threads, batch)
    for what in ["forward", "gradient", "recompute"]
    for name in ["edge", "cifar"]
    for batch in [1, 16]
    for threads in [1, 2]
]


def run(*command, cwd=ROOT, **options):
    return subprocess.run(command, cwd=cwd, check=True, text=True, **options)


def build(tree, target, config):
    """Puts calls.rs among a tree's examples, where cargo finds it without a line in Cargo.toml, and gives the program's path."""
    folder = os.path.join(tree, "examples", "calls")
    os.makedirs(os.path.join(folder, "common"))
    try:
        shutil.copy(os.path.join(BENCHES, "calls.rs"), os.path.join(folder, "main.rs"))
        for name in ["random.rs", "cifar.json", "edge.json"]:
            shutil.copy(os.path.join(BENCHES, "common", name), os.path.join(folder, "common", name))
        settings = [word for c in config for word in ("--config", c)]
        run("cargo", "build", "--release", "--example", "calls", "--target-dir", target, *settings, cwd=tree)
    finally:
        shutil.rmtree(folder)
    return os.path.join(target, "release", "examples", "calls")


def build_commit(commit):
    """The program of another commit."""
    full = run("git", "rev-parse", "--verify", commit + "^{commit}", stdout=subprocess.PIPE).stdout.strip()
    target = os.path.join(KEPT, full[:12])
    with tempfile.TemporaryDirectory() as parent:
        tree = os.path.join(parent, "tree")
        run("git", "worktree", "add", "--quiet", "--detach", tree, full)
        try:
            return build(tree, target, [])
        finally:
            run("git", "worktree", "remove", "--force", tree)


def time(programs, row, rounds):
    """The least milliseconds of a call of each."""
    children = [Child(program, *row, serve=False) for program in programs]
    least, still, made = [float("inf")] * 2, 0, 0
    try:
        for child in children:
            child.call()
        while made < rounds or still < made / 3 and made < 5 * rounds:
            order = [0, 1] if made % 2 == 0 else [1, 0]
            still += 1
            for i in order:
                # The first brings what it needs into cache and wakes its threads.
                children[i].call()
                took = children[i].call()
                if took < 0.995 * least[i]:
                    still = 0
                least[i] = min(least[i], took)
            made += 1
    finally:
        for child in children:
            child.close()
    return least


def instructions(program, row):
    """What one call executes: the difference between a run of two calls and a run of one."""
    counts = []
    for calls in [1, 2]:
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, *map(str, row)]
        done = subprocess.run(command, input="\n" * calls, capture_output=True, text=True, check=True)
        counts.append(int(re.search(r"Collected : (\d+)", done.stderr).group(1)))
    return counts[1] - counts[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", default=[], help="rows that have these words: edge forward")
    parser.add_argument("--most", type=float)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--config", nargs="+", default=[])
    options = parser.parse_args()
    programs = [build(ROOT, os.path.join(KEPT, "ours"), options.config), build_commit(options.commit)]
    print(f"| call | network | threads | batch | ours, ms | {options.commit}, ms | ratio |" + " instructions |" * options.instructions)
    print("|---|---|---|---|---|---|---|" + "---|" * options.instructions)
    over = []
    for row in ROWS:
        name, what, threads, batch = row
        if not set(options.only) <= {name, what, f"threads{threads}", f"batch{batch}"}:
            continue
        ours, theirs = time(programs, row, options.rounds)
        line = f"| {what} | {name} | {threads} | {batch} | {ours:.3f} | {theirs:.3f} | {ours / theirs:.3f} |"
        if options.instructions and threads == 1 and batch == 1:
            ours_executed, theirs_executed = (instructions(p, row) for p in programs)
            line += f" {ours_executed / theirs_executed:.3f} |"
        elif options.instructions:
            line += " |"
        print(line, flush=True)
        if options.most and ours / theirs > options.most:
            over.append(line)
    if over:
        sys.exit(f"{len(over)} rows are above {options.most}:\n" + "\n".join(over))


if __name__ == "__main__":
    main()
