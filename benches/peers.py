"""Times one network call of PyTorch eager beside ours: one script, calls taking turns, one table of ratios.

Written for torch 2.15.0 and diffusers 0.42.1 (others work if they have UNet2DModel). Run from the repository's root:

    cargo bench --bench network --no-run
    python benches/peers.py [cifar|edge] [--batch N] [--threads N] [--rounds N]

PyTorch runs in this process; our side is the bench's program as a child that makes one call for each line it reads. The
two never run at the same time. Both use f32 and as many threads; weights and inputs are random (speed does not depend on them).
PyTorch runs in its faster layout of the two it has, measured in the same rounds. A figure is the best or the median of
all rounds, so a busy machine moves both sides alike.
"""

import argparse
import glob
import json
import os
import statistics
import subprocess
import time

import torch
from diffusers import UNet2DModel

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Ours:
    """The bench's program, ready to make calls."""

    def __init__(self, program, name, batch, threads):
        command = [program, "serve", name, "batch", str(batch), "threads", str(threads)]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.what = self.child.stdout.readline().removeprefix("ready ").strip()

    def call(self):
        """Milliseconds of one call, as the child measured it."""
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        return int(self.child.stdout.readline()) / 1e6

    def close(self):
        self.child.stdin.close()
        self.child.wait()


class Torch:
    """PyTorch eager in one memory layout."""

    def __init__(self, config, batch, layout):
        torch.manual_seed(0)
        self.model = UNet2DModel(**config).eval().to(memory_format=layout)
        size = config["sample_size"]
        self.x = torch.randn(batch, config["in_channels"], size, size).to(memory_format=layout)
        self.t = torch.full((batch,), 500)

    def call(self):
        """Milliseconds of one call."""
        start = time.perf_counter()
        with torch.inference_mode():
            self.model(self.x, self.t)
        return (time.perf_counter() - start) * 1e3


def program():
    """The newest build of the bench."""
    built = [p for p in glob.glob(os.path.join(ROOT, "target/release/deps/network-*")) if os.access(p, os.X_OK)]
    built = [p for p in built if not p.endswith(".d")]
    if not built:
        raise SystemExit("no program: run `cargo bench --bench network --no-run` first")
    return max(built, key=os.path.getmtime)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=["cifar", "edge"])
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} threads, {args.rounds} rounds; milliseconds a call")
    print(f"{'network':8}{'batch':>6}  {'':16}{'ours':>10}{'torch':>10}{'channels_last':>15}{'torch / ours':>14}")
    for name in [args.name] if args.name else ["cifar", "edge"]:
        with open(os.path.join(ROOT, "benches/common", name + ".json"), encoding="utf-8") as f:
            config = json.load(f)
        for batch in [args.batch] if args.batch else [1, 16]:
            ours = Ours(program(), name, batch, args.threads)
            sides = [ours] + [Torch(config, batch, f) for f in (torch.contiguous_format, torch.channels_last)]
            times = [[] for _ in sides]
            for side in sides:
                side.call()
            for _ in range(args.rounds):
                for side, t in zip(sides, times):
                    # Time for the other side's threads, which may spin a while, to fall asleep.
                    time.sleep(0.05)
                    t.append(side.call())
            for what, pick in (("best", min), ("median", statistics.median)):
                a, b, c = map(pick, times)
                print(f"{name:8}{batch:6}  {what:16}{a:10.2f}{b:10.2f}{c:15.2f}{min(b, c) / a:14.2f}")
            ours.close()


if __name__ == "__main__":
    main()
