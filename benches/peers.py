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
import json
import os
import statistics
import time

import torch
from diffusers import UNet2DModel

from common.child import ROOT, Child, newest


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=["cifar", "edge"])
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = newest("network", "cargo bench --bench network --no-run")
    print(f"torch {torch.__version__}, {args.threads} threads, {args.rounds} rounds; milliseconds a call")
    print(f"{'network':8}{'batch':>6}  {'':16}{'ours':>10}{'torch':>10}{'channels_last':>15}{'torch / ours':>14}")
    for name in [args.name] if args.name else ["cifar", "edge"]:
        with open(os.path.join(ROOT, "benches/common", name + ".json"), encoding="utf-8") as f:
            config = json.load(f)
        for batch in [args.batch] if args.batch else [1, 16]:
            ours = Child(path, name, "batch", batch, "threads", args.threads)
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
