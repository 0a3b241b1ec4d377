"""Times one network call of its peers beside ours: calls taking turns, one table of ratios.

Written for torch 2.15.0 and diffusers 0.42.1; timed where they are installed: onnxruntime 1.32 and openvino 2026.4 (with onnx 1.23), ncnn 1.0.20261020
(with pnnx 20261020), and the Rust library rten 0.27 as a small program, built by `--rust-peers` (a few minutes). Run from the repository's root:

    cargo bench --bench network --no-run
    python benches/peers.py [cifar|edge|celebahq|policy|adm] [--batch N...] [--threads N...] [--rounds N] [--peers NAME...] [--compiled] [--rust-peers]
        [--isa avx2] [--keep FOLDER] [--weights f32|f16|bf16|int8|int4...] [--precision bf16|int8...]

The Python peers run in this process, ours and rten as children that make one call for each line they read; no two ever run at the same
time. All use as many threads and compute in f32, but for those that say otherwise: "openvino own" takes bf16 where the processor has it (AVX-512's
or AMX), ncnn is timed in both. Weights and inputs are random, of which speed does not depend. ncnn knows no batches and makes one call after
another. `policy` is a robot's 1-D UNet of 251 million weights, `adm` guided-diffusion's at 64x64, both by tests/golden/references.py and at batch 1
only. PyTorch is eager, in both memory layouts, and with `--compiled` also by torch.compile with frozen weights, which takes a minute to begin.
`--isa avx2` holds all sides to AVX2 alike, where the processor lets its CPUID be answered for (Intel's do).

Before each timed call a side makes another, so that what it needs is in its caches and its threads are awake. A figure is the best or the median of
all rounds. "ours to it" is the ratio of both sides' best, then the middle half of the ratios of single rounds. The error of a peer's output is the
relative L2 to that of PyTorch eager. Ours can be timed with several types of weights and precisions, each in a process of its own; ratios are of the
first.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time

from common.child import Child, newest
from common.hold import held, hold


def ours(args, name, batch, threads):
    """Our sides."""
    program = newest("network", "cargo bench --bench network --no-run")
    kinds = [("weights", w, "" if args.weights == ["f32"] else f" {w}") for w in args.weights]
    kinds += [(p, None, f", {p}") for p in args.precision]
    for option, value, column in kinds:
        options = [option] if value is None else [option, value]
        side = Child(program, name, "batch", batch, "threads", threads, *options)
        side.column, side.error = f"ours{column}", None
        yield side


def error_of(output, expected):
    """The relative L2."""
    import numpy as np

    return np.linalg.norm(output.astype(np.float64).ravel() - expected.ravel()) / np.linalg.norm(expected)


def sides_of(args, task, skipped):
    """The peers, and in `skipped` those that there are not."""
    from common import sides

    for key, make in sides.PEERS.items():
        if args.peers and key not in args.peers or key == "compiled" and not args.compiled:
            continue
        try:
            side = make(task)
            side.error = error_of(side.output, task.expected)
            # bf16 is off by some hundredths.
            if not side.error < 0.2:
                side.close()
                raise sides.Skipped(f"what it says is not what the network says: relative L2 {side.error:.1e}")
            yield side
        except sides.Skipped as why:
            skipped.append((key, why))
        except Exception as e:  # noqa: BLE001 (a peer that cannot must not end the others)
            skipped.append((key, f"{type(e).__name__}: {str(e).strip().splitlines()[0]}"))


def row_of(side, calls, first):
    """A row of the table, of (wall, processor's) milliseconds of each round; `first` has ours."""
    (wall, work), (our_wall, our_work) = zip(*calls), zip(*first)
    rounds = [a / b for a, b in zip(our_wall, wall)]
    low, _, high = statistics.quantiles(rounds, n=4) if len(rounds) > 1 else rounds * 3
    ratios = [f"{min(our_wall) / min(wall):.2f} ({low:.2f} to {high:.2f})", f"{min(our_work) / min(work):.2f}"]
    to_wall, to_work = ["", ""] if calls is first else ratios
    error = "" if side.error is None else f"{side.error:.1e}"
    return "| " + " | ".join([side.column, f"{min(wall):.2f} / {statistics.median(wall):.2f}", to_wall, f"{min(work):.2f}", to_work, error]) + " |"


def table(args, task, name, batch, threads):
    skipped, all_sides = [], []
    with contextlib.ExitStack() as stack:
        for side in (side for some in (ours(args, name, batch, threads), sides_of(args, task, skipped)) for side in some):
            stack.callback(side.close)
            all_sides.append(side)
        times = [[] for _ in all_sides]
        for _ in range(args.rounds):
            for side, of_side in zip(all_sides, times):
                # Time for the other side's threads, which may spin a while, to fall asleep.
                time.sleep(0.05)
                side.call()
                begin = side.processor()
                of_side.append((side.call(), side.processor() - begin))
    isa = ", held to AVX2" if held() else ""
    print(f"\n{name}, batch {batch}, {threads} threads{isa} ({all_sides[0].ready}), load {os.getloadavg()[0]:.1f}\n")
    print("| | best / median, ms | ours to it | processor's time, best | ours to it | relative L2 |\n|---|---|---|---|---|---|")
    for side, of_side in zip(all_sides, times):
        print(row_of(side, of_side, times[0]))
    for key, why in skipped:
        print(f"skipped: {key}: {why}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=["cifar", "edge", "celebahq", "policy", "adm"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--weights", nargs="+", default=["f32"])
    parser.add_argument("--precision", nargs="+", default=[], choices=["bf16", "int8"], help="ours in these too")
    parser.add_argument("--peers", nargs="+", help="only these")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--rust-peers", action="store_true", help="build rten's program first")
    parser.add_argument("--keep", help="a folder for the converted networks, which later runs find there")
    parser.add_argument("--isa", choices=["avx2"])
    args = parser.parse_args()
    if args.isa and not held():
        hold()

    import torch
    from common import networks, sides

    if unknown := set(args.peers or ()) - set(sides.PEERS):
        parser.error(f"{', '.join(unknown)}: no such peer; there are {', '.join(sides.PEERS)}")
    if args.rust_peers:
        for name in sides.RUST:
            sides.build(name)
    for name in [args.name] if args.name else ["edge", "cifar"]:
        for batch in [1] if name in ("celebahq", "policy", "adm") else args.batch:
            with contextlib.ExitStack() as stack:
                folder = stack.enter_context(tempfile.TemporaryDirectory()) if args.keep is None else os.path.join(args.keep, f"{name}-{batch}")
                os.makedirs(folder, exist_ok=True)
                net, inputs = networks.network(name, batch)
                for threads in args.threads:
                    torch.set_num_threads(threads)
                    table(args, sides.Task(net, inputs, threads, folder), name, batch, threads)


if __name__ == "__main__":
    main()
