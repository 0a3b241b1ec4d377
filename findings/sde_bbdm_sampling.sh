#!/usr/bin/env bash
# sde-bbdm's bridges make one image at a time: two end in a RuntimeError. BBDMModule ends in NaN even then, and its fast
# sampling in a ValueError.
#
# torchmanager-diffusion's Manager, with which the README trains and evaluates, hands a step the times of a batch. The
# steps of the three bridges ask whether "the" time is the last or the first, which several times do not answer.
#
# BBDMModule begins at t = T, where the bridge has no width, and divides by it. Its fast sampling unpacks the network's
# answer, a tensor, as two things. SDEBBDMModule has that too, but its other step, which does not divide, shows what
# should come out.
#
# Targets N(0.3, 0.2^2) in 20,000 pixels of one image, whatever the source, and an exact network; 1,000 steps.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 einops==0.6.1 torchmanager==1.5 tqdm==4.70.1
# Without lpips and torchvision, which a metric needs.
"$dir/venv/bin/pip" install -q --no-deps torchmanager-diffusion==1.2.2 sde-bbdm==1.1
cat > "$dir/run.py" <<'PY'
import sys
import warnings
from importlib.metadata import version
from types import ModuleType

import torch

warnings.filterwarnings("ignore")
sys.modules["lpips"] = ModuleType("lpips")
sys.modules["lpips"].LPIPS = torch.nn.Module
from diffusion import Manager
from sde_bbdm.nn import ABridgeModule, BBDMModule, SDEBBDMModule

names = ("sde-bbdm", "torchmanager-diffusion", "torchmanager", "torch")
print(*(f"{name} {version(name)}" for name in names))
torch.manual_seed(0)
MEAN, STD, SOURCE, STEPS = 0.3, 0.2, -0.5, 1000


class Exact(torch.nn.Module):  # E[x_t - x_0 | x_t], for the width of either bridge.
    def __init__(self, square):
        super().__init__()
        self.square = square

    def forward(self, x, t, condition=None):
        m = (t / STEPS).view(-1, 1, 1, 1).double().clamp(max=1 - 1e-12)
        estimate = MEAN + (1 - m) * STD**2 / ((1 - m) ** 2 * STD**2 + self.square(m)) * (x - (1 - m) * MEAN - m * SOURCE)
        return (x - estimate).to(x.dtype)


def sample(module, images, size=(4, 4), fast=None):
    source = torch.full((images, 1, *size), SOURCE)
    module.fast_sampling_steps = fast
    return torch.stack(Manager(module).sampling(images, source, condition=source, sampling_range=fast))


def brownian(m):
    return 2 * m * (1 - m)


bridges = (
    BBDMModule(Exact(brownian), STEPS),
    SDEBBDMModule(Exact(brownian), STEPS),
    ABridgeModule(Exact(lambda m: 4 * (1 - m) ** 2 * -torch.log(1 - m)), STEPS, c_lambda=2),
)
for bridge in bridges:
    name = type(bridge).__name__
    x = sample(bridge, 1, (100, 200))
    print(f"{name}, one image: {float(x.mean()):.2f} +- {float(x.std()):.2f} (should be {MEAN} +- {STD})")
    if name == "BBDMModule":
        assert x.isnan().all(), "it is finite now"
    else:
        assert abs(float(x.mean()) - MEAN) < 0.05 and abs(float(x.std()) - STD) < 0.06
    try:
        sample(bridge, 2)
        raise SystemExit("two images are possible now")
    except RuntimeError as error:
        print(f"{name}, two images: RuntimeError:", error)
try:
    sample(bridges[0], 4, fast=[1000, 750, 500, 250, 1])
    raise SystemExit("fast sampling is possible now")
except ValueError as error:
    print("BBDMModule, fast sampling: ValueError:", error)
print("one image at a time, or none")
PY
"$dir/venv/bin/python" "$dir/run.py"
