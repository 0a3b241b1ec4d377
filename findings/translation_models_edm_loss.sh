#!/usr/bin/env bash
# The "edm" loss of pytorch-image-translation-models adds c_skip times the clean image, not the noisy one: 0.82 for 0.50
# by an ODE with the best network of that loss.
#
# Karras et al. 2022 have D(x) = c_skip x + c_out F, with x the image with its noise. The loss here, which is given the
# noise too, has the clean image in its place, which then mostly is where it should come to, so that the least loss is at
# F = (1 - c_skip) / c_out E[x_0 | x] in the place of (E[x_0 | x] - c_skip x) / c_out. The nearer the image, the less
# there is for the network to learn.
#
# Data N(0, 0.5^2) with sigma_data 0.5, for which the best F is 0 by the paper, at every sigma. Of the networks F = w x,
# which the true one is among, the w with the least loss is found by DiffusionLoss for each sigma of the paper's schedule,
# and the paper's ODE is integrated with it by Heun's method: 0.5 exp(1/2) = 0.82 in the limit of small steps.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6
# Without its requirements, some 200 pinned packages.
"$dir/venv/bin/pip" install -q --no-deps pytorch-image-translation-models==0.6.0
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import torch

# The package, which is named src, without its data sets and networks.
NAME = "pytorch-image-translation-models"
for name in ("src", "src.losses"):
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__path__ = [str(distribution(NAME).locate_file(name.replace(".", "/")))]
from src.losses.diffusion import DiffusionLoss

print(NAME, version(NAME), "torch", torch.__version__)
torch.manual_seed(0)
STD, COUNT, STEPS = 0.5, 50000, 100
loss_fn = DiffusionLoss(loss_type="edm", sigma_data=STD)
clean = STD * torch.randn(COUNT, 1, 1, 1)
noise = torch.randn_like(clean)


def coefficients(sigma):
    return STD**2 / (sigma**2 + STD**2), sigma * STD / (sigma**2 + STD**2) ** 0.5


def package(w, sigma):
    noisy = clean + sigma * noise
    return float(loss_fn(w * noisy, clean, noise, torch.full((COUNT,), sigma)))


def paper(w, sigma):
    c_skip, c_out = coefficients(sigma)
    noisy = clean + sigma * noise
    return float((((c_skip + c_out * w) * noisy - clean) ** 2).mean()) / c_out**2


def least(loss, sigma):  # The vertex of a parabola by three of its points.
    low, middle, high = (loss(w, sigma) for w in (-1.0, 0.0, 1.0))
    return (low - high) / (2 * (low - 2 * middle + high))


ramp = torch.linspace(0, 1, STEPS).double()
sigmas = ((80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7).tolist()
found = {}
for loss in (paper, package):
    slopes = []  # Of dx/dsigma = (x - D) / sigma, linear in x.
    for sigma in sigmas:
        c_skip, c_out = coefficients(sigma)
        slopes.append((1 - c_skip - c_out * least(loss, sigma)) / sigma)
    scale = 1.0
    for i in range(STEPS - 1):
        d = sigmas[i + 1] - sigmas[i]
        scale *= 1 + d * (slopes[i] + slopes[i + 1] * (1 + d * slopes[i])) / 2
    found[loss] = 80 * scale
    print(f"loss of the {loss.__name__}: w at sigma 0.5 is {least(loss, 0.5):.2f}, std {found[loss]:.2f} (should be {STD})")
assert abs(found[paper] - STD) < 0.02
assert found[package] > 0.75, "the noisy image is in it now"
print("it trains another network")
PY
"$dir/venv/bin/python" "$dir/run.py"
