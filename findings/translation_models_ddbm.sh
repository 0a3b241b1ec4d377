#!/usr/bin/env bash
# pytorch-image-translation-models' DDBMScheduler by its default settings ends in NaN. With others, its sampler gives one
# and the same target for a source: standard deviation 0.00 for 0.30.
#
# sigma_max is 80 by default and pred_mode "vp", whose levels sqrt(1 - exp(-...)) are all below 1: at most of the levels
# from 80 on there is no time that belongs to one, 1 - sigma^2 is negative, and its logarithm is cut off.
#
# Denoising Diffusion Bridge Models (Zhou et al. 2024) start at the source, and so take a stochastic step before each of
# the ODE, with `churn_step_ratio` of the way, 0.33. DDBMPipeline takes the argument and does not use it, nor `generator`;
# the scheduler has steps of the ODE only.
#
# Targets N(0.2, 0.3^2) that do not depend on their source, and an exact network; Heun's steps, in both modes.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q diffusers==0.42.1 torch==2.15.0 numpy==2.4.6
# Without its requirements, some 200 pinned packages.
"$dir/venv/bin/pip" install -q --no-deps pytorch-image-translation-models==0.6.0
cat > "$dir/run.py" <<'PY'
import re
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import torch

# The package, which is named src, without its data sets and networks.
NAME = "pytorch-image-translation-models"
sys.modules["src"] = ModuleType("src")
sys.modules["src"].__path__ = [str(distribution(NAME).locate_file("src"))]
from src.schedulers.ddbm import DDBMScheduler

print(NAME, version(NAME), "diffusers", version("diffusers"), "torch", torch.__version__)
torch.manual_seed(0)
MEAN, STD = 0.2, 0.3


def target(scheduler, x, source, sigma):  # E[x_0 | x, source], with the moments that add_noise has.
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    level = sigma.expand(len(x))
    a = scheduler.add_noise(one, zero, level, zero)
    std = scheduler.add_noise(zero, one, level, zero)
    rest = x - scheduler.add_noise(zero, zero, level, source)
    return MEAN + a * STD**2 / (a**2 * STD**2 + std**2) * (rest - a * MEAN)


for settings in ({}, {"sigma_max": 0.99}, {"pred_mode": "ve"}, {"pred_mode": "ve", "sigma_max": 1.0}):
    scheduler = DDBMScheduler(**settings)
    scheduler.set_timesteps(100)
    source = torch.full((2000, 1), 0.5)
    x = source.clone()
    for i in range(100):
        now, then = scheduler.sigmas[i], scheduler.sigmas[i + 1]
        first = target(scheduler, x, source, now)
        euler = scheduler.step(first, i, x, source).prev_sample
        second = target(scheduler, euler, source, then)
        x = scheduler.step_heun(first, second, i, x, source).prev_sample
    print(settings or "default", f"mean {float(x.mean()):.2f} (should be {MEAN}), std {float(x.std()):.4f} (should be {STD})")
    if settings:
        assert float(x.std()) < 1e-3, "there is noise now"
    else:
        assert x.isnan().all(), "the default is finite now"
pipeline = (distribution(NAME).locate_file("src") / "pipelines" / "ddbm.py").read_text()
for argument in ("churn_step_ratio", "generator"):
    count = len(re.findall(rf"\b{argument}\b", pipeline))
    print(f"{argument}: named {count} time in the module of DDBMPipeline")
    assert count == 1, "it is used now"
print("one target for a source")
PY
"$dir/venv/bin/python" "$dir/run.py"
