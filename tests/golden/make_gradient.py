"""DPS's gradient through a UNet by PyTorch's autograd, for tests/posterior/gradient.rs.

Made with torch 2.15.0, diffusers 0.42.1, safetensors 0.8.0 and numpy 2.4.6; nothing is downloaded. Run by hand:

    python tests/golden/make_gradient.py

The network is the tiny one of make_unet.py (chain_weights.safetensors, its configuration in unet.json), in float64. For x_t of
uniform(31, t, sqrt(3)) at three timesteps of diffusers' default schedule and A the average over blocks of 2 x 2, it writes
gradient.safetensors: the gradient by x_t of |y - A x_0(x_t)| of each sample, y = uniform(32, 0, 0.8). x_0 is not clipped.
"""

import json
import pathlib

import numpy as np
import torch
from diffusers import UNet2DModel
from safetensors.numpy import load_file, save_file

import pcg

HERE = pathlib.Path(__file__).parent


def main():
    chain = json.loads((HERE / "unet.json").read_text())["chain"]
    shape = chain["shape"]
    model = UNet2DModel(**chain["config"]).double().eval()
    stored = load_file(HERE / "chain_weights.safetensors")
    model.load_state_dict({k: torch.from_numpy(v.astype(np.float64)) for k, v in stored.items()}, strict=True)
    abars = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    small = [shape[1], shape[2] // 2, shape[3] // 2]
    y = torch.from_numpy(pcg.uniform(32, 0, int(np.prod(small)), 0.8).astype(np.float64)).reshape(small)
    out = {}
    for t in (900, 300, 20):
        x = pcg.uniform(31, t, int(np.prod(shape)), 3.0**0.5).astype(np.float64).reshape(shape)
        x = torch.from_numpy(x).requires_grad_()
        x0 = (x - (1 - abars[t]) ** 0.5 * model(x, t).sample) / abars[t] ** 0.5
        r = y - torch.nn.functional.avg_pool2d(x0, 2)
        r.flatten(1).norm(dim=1).sum().backward()
        out[f"gradient.{t}"] = x.grad.float().numpy()
    save_file(out, HERE / "gradient.safetensors")


if __name__ == "__main__":
    main()
