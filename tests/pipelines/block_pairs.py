"""Every pair of block types, downwards and upwards, with which diffusers' UNet2DModel runs: does it load here, with the same output?

Run by hand from the repository root, with torch 2.15.0, diffusers 0.42.1 and a built program:

    UNDIFFUSE=target/release/undiffuse python tests/pipelines/block_pairs.py

A pair is tried alone, twice (two blocks of its own on each way), and in a network whose other block is the plain one, before and after it; the
channels are equal or doubled. What makes a model there and runs there with random weights is saved by `save_pretrained`, and `undiffuse predict`
is compared with the network in float64. The table goes to standard output: for each pair the networks that run there, and the worst relative L2
error here. The exit status is 1 where a network that runs there is refused here or differs by more than 1e-5.
"""

import contextlib
import inspect
import io
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings

import diffusers
import numpy as np
import torch
from diffusers import UNet2DModel
from diffusers.models.unets import unet_2d_blocks
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore")
diffusers.logging.set_verbosity_error()

PROGRAM = pathlib.Path(os.environ.get("UNDIFFUSE", "target/release/undiffuse")).resolve()
# The types that diffusers' own table of blocks knows, in its order.
DOWN, UP = (re.findall(r'_block_type == "(\w+)"', inspect.getsource(f)) for f in (unet_2d_blocks.get_down_block, unet_2d_blocks.get_up_block))
PLAIN = ("DownBlock2D", "UpBlock2D")


def layouts(down, up):
    """The types on each way, finest first on the way down, and the channels."""
    pairs = {"alone": ([down], [up]), "twice": ([down] * 2, [up] * 2), "inside": ([PLAIN[0], down], [up, PLAIN[1]]), "outside": ([down, PLAIN[0]], [PLAIN[1], up])}
    for name, (d, u) in pairs.items():
        if name in ("inside", "outside") and (down, up) == PLAIN:
            continue
        for wide in (1, 2) if len(d) == 2 else (1,):
            yield name + (", doubled" if wide == 2 else ""), d, u, [32 * wide**i for i in range(len(d))]


def made(down, up, channels):
    """The network with random weights and what it makes, or None where it does not run there."""
    torch.manual_seed(0)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            net = UNet2DModel(sample_size=8, in_channels=3, out_channels=3, down_block_types=down, up_block_types=up, block_out_channels=channels,
                              layers_per_block=2, norm_num_groups=8, attention_head_dim=8).eval()
        for p in net.parameters():
            if p.ndim == 1:
                p.data.copy_(1 + 0.2 * torch.randn_like(p) if float(p.mean()) > 0.5 else 0.2 * torch.randn_like(p))
        x = torch.randn(1, 3, 8, 8)
        with torch.no_grad():
            want = net.double()(x.double(), 421).sample
        return net.float(), x, want.numpy()
    except Exception:
        return None


def error(net, x, want):
    """The relative L2 error of the program's prediction, or its refusal."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        net.save_pretrained(folder / "unet")
        save_file({"sample": x, "timestep": torch.tensor([421.0])}, folder / "in.safetensors")
        call = [PROGRAM, "predict", folder / "unet", "--input", folder / "in.safetensors", "--output", folder / "out.safetensors", "--quiet"]
        ran = subprocess.run(call, capture_output=True, text=True, check=False)
        if ran.returncode:
            return " ".join(ran.stderr.split())
        got = load_file(folder / "out.safetensors")["sample"].double().numpy()
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def main():
    torch.set_num_threads(1)
    pairs, networks, bad, worst = 0, 0, 0, 0.0
    print("| down | up | networks that run there | relative L2 error here, or why it is refused |\n|---|---|---|---|", flush=True)
    for down in DOWN:
        for up in UP:
            seen, errors, said = [], [], []
            for name, d, u, channels in layouts(down, up):
                net = made(d, u, channels)
                if net is None:
                    continue
                seen.append(name)
                e = error(*net)
                if isinstance(e, str):
                    said.append(f"{name}: {e}")
                else:
                    errors.append(e)
            if not seen:
                continue
            pairs, networks = pairs + 1, networks + len(seen)
            bad += len(said) + sum(not e <= 1e-5 for e in errors)
            worst = max([worst, *errors])
            text = "; ".join(([f"{max(errors):.1e}"] if errors else []) + said)
            print(f"| {down} | {up} | {', '.join(seen)} | {text} |", flush=True)
    print(f"\n{pairs} pairs of {len(DOWN)} x {len(UP)} run there, in {networks} networks; {bad} of these are refused here or differ; worst error {worst:.1e}")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
