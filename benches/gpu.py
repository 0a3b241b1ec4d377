"""Times one network call of PyTorch CUDA beside ours on a machine with a GPU: one script, calls taking turns, one table.

Written for torch 2.15.0 and diffusers 0.42.1 (others work if they have UNet2DModel). Run from the repository's root:

    cargo bench --features wgpu --bench gpu --no-run
    python benches/gpu.py [cifar|edge] [--device wgpu:INDEX] [--batch N ...] [--rounds N] [--no-compile]

PyTorch runs in this process; our side is the bench's program as a child that makes one call for each line it reads. The two never run
at the same time. PyTorch runs eager and compiled (inductor's default mode), in f32 without and with TF32, in bf16 and in f16, in
channels-last layout; ours in f32 and f16. Weights and inputs are random; speed does not depend on
them. Every figure has the samples in the host's memory before and after on our side, so PyTorch's copies both ways are timed as
well. A figure is the best and the median of all rounds.
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

    def __init__(self, program, name, batch, device, half):
        command = [program, "serve", name, "batch", str(batch)] + ([device] if device else []) + (["f16"] if half else [])
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.child.stdout.readline()
        if not line:
            raise SystemExit("the bench's program gave up; see its message above")
        self.what = line.removeprefix("ready ").strip()

    def call(self):
        """Milliseconds of one call, as the child measured it."""
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        return int(self.child.stdout.readline()) / 1e6

    def close(self):
        self.child.stdin.close()
        self.child.wait()


class Torch:
    """PyTorch in one precision, eager or compiled."""

    def __init__(self, config, batch, precision, compiled):
        torch.manual_seed(0)
        self.tf32 = precision == "tf32"
        self.what = f"PyTorch {'compiled' if compiled else 'eager'} {precision}"
        dtype = {"bf16": torch.bfloat16, "f16": torch.float16}.get(precision, torch.float32)
        model = UNet2DModel(**config).eval().to("cuda", dtype, memory_format=torch.channels_last)
        self.set_tf32()
        self.model = torch.compile(model) if compiled else model
        size = config["sample_size"]
        self.x = torch.randn(batch, config["in_channels"], size, size)
        self.t = torch.full((batch,), 500, device="cuda")
        self.dtype = dtype

    def set_tf32(self):
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        torch.backends.cudnn.allow_tf32 = self.tf32

    def call(self):
        """Milliseconds of one call, copies to and from the device included."""
        self.set_tf32()
        torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.inference_mode():
            x = self.x.to("cuda", self.dtype).contiguous(memory_format=torch.channels_last)
            self.model(x, self.t).sample.float().cpu()
        return (time.perf_counter() - start) * 1e3

    def close(self):
        del self.model
        torch.cuda.empty_cache()


def program():
    """The newest build of the bench."""
    built = [p for p in glob.glob(os.path.join(ROOT, "target/release/deps/gpu-*")) if os.access(p, os.X_OK)]
    built = [p for p in built if not p.endswith(".d")]
    if not built:
        raise SystemExit("no program: run `cargo bench --features wgpu --bench gpu --no-run` first")
    return max(built, key=os.path.getmtime)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=["cifar", "edge"], default="cifar")
    parser.add_argument("--device")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no CUDA device, so there is nothing to compare with")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, {args.name}, {args.rounds} rounds; milliseconds a call")
    with open(os.path.join(ROOT, "benches/common", args.name + ".json"), encoding="utf-8") as f:
        config = json.load(f)
    for batch in args.batch:
        sides = [Ours(program(), args.name, batch, args.device, half) for half in (False, True)]
        modes = [False] if args.no_compile else [False, True]
        sides += [Torch(config, batch, p, c) for c in modes for p in ("f32", "tf32", "bf16", "f16")]
        for side in sides:
            for _ in range(3):
                side.call()
        times = [[] for _ in sides]
        for _ in range(args.rounds):
            for side, t in zip(sides, times):
                t.append(side.call())
        for side, t in zip(sides, times):
            ratio = min(times[2]) / min(t)
            print(f"batch {batch:3}  {side.what:60}{min(t):10.3f} best{statistics.median(t):10.3f} median{ratio:8.2f} of eager f32's speed")
            side.close()


if __name__ == "__main__":
    main()
