#!/usr/bin/env bash
# pytorch-image-translation-models' LBMScheduler goes the whole way in each of its "Euler steps": -1.5 for 0 with four
# steps, -4.5 with ten. Only one step, the default, is right.
#
# In Latent Bridge Matching the network predicts source - target, and an Euler step from sigma to the next one is x -
# (sigma - sigma_next) v. Here step() is x - sigma v, the estimate of the target, whatever comes next; the sigmas 1, 3/4,
# 1/2, 1/4 of four steps add up to 2.5 times the way. LBMPipeline, whose num_inference_steps is documented as the
# number of Euler steps, adds noise of 0.001 between them and nothing that would lead back to the next sigma.
#
# Sources that are the target plus 1, so that v is 1 wherever one asks, and an exact network.
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
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import torch

# The package, which is named src, without its data sets and networks.
NAME = "pytorch-image-translation-models"
sys.modules["src"] = ModuleType("src")
sys.modules["src"].__path__ = [str(distribution(NAME).locate_file("src"))]
from src.schedulers.lbm import LBMScheduler

print(NAME, version(NAME), "diffusers", version("diffusers"), "torch", torch.__version__)
assert "single Euler step" in LBMScheduler.step.__doc__, "it is not documented so now"
target = torch.zeros(1, 1, 1, 1)
for steps, expected in ((1, 0.0), (2, -0.5), (4, -1.5), (10, -4.5)):
    scheduler = LBMScheduler()
    scheduler.set_timesteps(steps)
    sigmas = [*scheduler.sigmas.tolist(), 0.0]
    x = euler = target + 1
    for i, t in enumerate(scheduler.timesteps):
        velocity = torch.ones_like(x)
        x = scheduler.step(velocity, t, x).prev_sample
        euler = euler - (sigmas[i] - sigmas[i + 1]) * velocity
    print(f"{steps} steps: {x.item():.2f} by LBMScheduler, {euler.item():.2f} by Euler's steps (should be 0)")
    assert abs(euler.item()) < 1e-5
    assert abs(x.item() - expected) < 1e-4, "it has Euler's steps now"
print("each step goes the whole way")
PY
"$dir/venv/bin/python" "$dir/run.py"
