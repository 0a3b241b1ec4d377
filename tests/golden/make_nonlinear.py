"""Golden derivatives of the operators that are not linear, by autograd in float64.

Written with torch 2.15.0, numpy 2.4.6 and safetensors 0.8.0 alone; nothing is downloaded. Run by hand from the repository root:

    python tests/golden/make_nonlinear.py

Samples of 2 x 3 x 4 and the cotangents come from pcg.py and are not stored. For each operator it writes A(x) and J(x)^T v to
tests/golden/nonlinear.safetensors.
"""

import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file

from pcg import uniform

C, H, W = 2, 3, 4


def clip(x):
    return torch.clamp(1.7 * x, -1, 1)


def gamma(g):
    def of(x):
        u = 0.5 * (x + 1)
        on = torch.clamp(u, 1 / 512, 1)
        return 2 * (on**g + (u - on) * g * on.detach() ** (g - 1)) - 1

    return of


def quantize(x):
    """Straight through: the identity's gradient."""
    nearest = 2 * torch.round(0.5 * (torch.clamp(x, -1, 1) + 1) * 6) / 6 - 1
    return x + (nearest - x).detach()


def phase(x):
    """ceil(1.6 * 3) = 5, ceil(1.6 * 4) = 7."""
    return torch.fft.fft2(0.5 * x + 0.5, s=(5, 7), norm="ortho").abs()


def main():
    arrays = {}
    for i, (name, f) in enumerate([("clip", clip), ("gamma_045", gamma(0.45)), ("gamma_22", gamma(2.2)), ("quantize", quantize), ("phase", phase)]):
        # Beyond the range too.
        x = torch.tensor(uniform(40, i, C * H * W, 1.3).astype(np.float64).reshape(C, H, W), requires_grad=True)
        y = f(x)
        v = torch.tensor(uniform(41, i, y.numel(), 1.0).astype(np.float64).reshape(y.shape))
        (gradient,) = torch.autograd.grad(y, x, v)
        arrays[f"{name}.y"] = y.detach().numpy().astype(np.float32)
        arrays[f"{name}.vjp"] = gradient.numpy().astype(np.float32)
    save_file(arrays, pathlib.Path(__file__).with_name("nonlinear.safetensors"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
