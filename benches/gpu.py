"""Times one network call of PyTorch beside ours: one command, calls taking turns, and the table of benches/README.md at the end.

Written for torch 2.15.0 and diffusers 0.42.1 (others work if they have UNet2DModel). On a machine with a GPU, from anywhere:

    python benches/gpu.py

It builds the bench's program with cargo and times ddpm-cifar10-32 at batches 1, 16 and 64. `--help` names the options. Without a GPU the
whole script can be tried in small, with PyTorch on the CPU and ours on a software adapter (`undiffuse devices` lists them):

    python benches/gpu.py edge --torch-device cpu --device wgpu:0 --batch 1 --rounds 2 --no-compile

PyTorch runs in this process; our side is the bench's program as a child that makes one call for each line it reads. The two never run
at the same time. PyTorch runs eager and compiled (inductor's default mode), in f32 without and with TF32, in bf16 and in f16, in
channels-last layout; ours in f32 and f16. Weights and inputs are random; speed does not depend on them. Every figure has the
samples in the host's memory before and after on our side, so PyTorch's copies both ways are timed as well. Lines give the
best and the median of all rounds, the table the best.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

import torch
from diffusers import UNet2DModel

from common.child import ROOT, Child



class Ours(Child):
    """The bench's program in one precision."""

    def __init__(self, program, name, batch, device, half):
        options = [name, "batch", batch] + ([device] if device else []) + (["f16"] if half else [])
        super().__init__(program, *options)
        self.what = "ours: " + self.ready
        self.column = "ours f16" if half else "ours f32"


class Torch:
    """PyTorch in one precision, eager or compiled."""

    def __init__(self, config, batch, precision, compiled, device):
        torch.manual_seed(0)
        self.tf32 = precision == "tf32"
        self.column = f"{'compiled' if compiled else 'eager'} {precision}"
        self.what = f"PyTorch {self.column}"
        self.device = device
        dtype = {"bf16": torch.bfloat16, "f16": torch.float16}.get(precision, torch.float32)
        model = UNet2DModel(**config).eval().to(device, dtype, memory_format=torch.channels_last)
        self.set_tf32()
        self.model = torch.compile(model) if compiled else model
        size = config["sample_size"]
        self.x = torch.randn(batch, config["in_channels"], size, size)
        self.t = torch.full((batch,), 500, device=device)
        self.dtype = dtype

    def set_tf32(self):
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        torch.backends.cudnn.allow_tf32 = self.tf32

    def call(self):
        """Milliseconds of one call, copies to and from the device included."""
        self.set_tf32()
        if self.device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.inference_mode():
            x = self.x.to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)
            self.model(x, self.t).sample.float().cpu()
        return (time.perf_counter() - start) * 1e3

    def close(self):
        del self.model
        if self.device == "cuda":
            torch.cuda.empty_cache()


def program():
    """The bench's program, built now."""
    command = ["cargo", "bench", "--features", "wgpu", "--bench", "gpu", "--no-run", "--message-format", "json"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = (json.loads(line) for line in built.stdout.splitlines() if line.startswith("{"))
    names = [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "gpu"]
    if not names:
        raise SystemExit("cargo built no program of the bench")
    return names[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=["cifar", "edge"], default="cifar", help="ddpm-cifar10-32 or the digits model")
    parser.add_argument("--device", help="our adapter, wgpu:INDEX; without it the first real GPU")
    parser.add_argument("--torch-device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    on = args.torch_device
    if on == "cuda" and not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no CUDA device, so there is nothing to compare with (--torch-device cpu tries the script)")
    card = torch.cuda.get_device_name() if on == "cuda" else "cpu"
    # TF32 is of CUDA alone.
    precisions = ["f32", "tf32", "bf16", "f16"] if on == "cuda" else ["f32", "bf16", "f16"]
    modes = [False] if args.no_compile else [False, True]
    with open(os.path.join(ROOT, "benches/common", args.name + ".json"), encoding="utf-8") as f:
        config = json.load(f)
    path = program()
    print(f"torch {torch.__version__}, {card}, {args.name}, {args.rounds} rounds; milliseconds a call")
    rows = []
    for batch in args.batch:
        sides = [Ours(path, args.name, batch, args.device, half) for half in (False, True)]
        sides += [Torch(config, batch, p, c, on) for c in modes for p in precisions]
        for side in sides:
            for _ in range(3):
                side.call()
        times = [[] for _ in sides]
        for _ in range(args.rounds):
            for side, t in zip(sides, times):
                t.append(side.call())
        eager = min(t for side, ts in zip(sides, times) if side.column == "eager f32" for t in ts)
        for side, t in zip(sides, times):
            print(f"batch {batch:3}  {side.what:70}{min(t):10.3f} best{statistics.median(t):10.3f} median{eager / min(t):8.2f} of eager f32's speed", flush=True)
            side.close()
        rows.append([card, str(batch)] + [f"{min(t):.2f}" for t in times])
    columns = ["GPU", "batch"] + [side.column for side in sides]
    for row in [columns, ["---"] * len(columns)] + rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
