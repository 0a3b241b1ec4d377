#!/usr/bin/env bash
# pytorch-image-translation-models' BiBBDMScheduler ends in NaN from target to source with a `var_scale` below 2, its
# default; from source to target it does not. "cosine" steps end in an IndexError, either way.
#
# The bridge has the variance var_scale m (1 - m), and of a step var_scale (m - m') m' / m is new noise. step_a2b has 2 in
# the place of var_scale. With 1 the new noise is more than what the bridge has there at all, and the root is of a
# negative number; the last step returns the network's estimate, which had NaN for its input.
#
# `sample_step_type="cosine"` begins at `num_timesteps`, one behind the last timestep.
#
# A target N(0.2, 0.3^2) for b of 0.5 and the other way around, with an exact network for either direction.
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
from src.schedulers.bibbdm import BiBBDMScheduler

print(NAME, version(NAME), "diffusers", version("diffusers"), "torch", torch.__version__)
torch.manual_seed(0)
MEAN, STD, GIVEN = 0.2, 0.3, 0.5


def run(scheduler, to_target):
    given = torch.full((4000, 1, 1, 1), GIVEN)
    x = given.clone()
    count = len(scheduler.steps)
    for i in range(count) if to_target else range(count - 1, -1, -1):
        t = int(scheduler.steps[i])
        m, variance = scheduler.m_t[t], scheduler.variance_t[t]
        weight = 1 - m if to_target else m  # Of the end that is sought.
        estimate = MEAN + weight * STD**2 / (weight**2 * STD**2 + variance) * (x - weight * MEAN - (1 - weight) * given)
        step = scheduler.step_b2a if to_target else scheduler.step_a2b
        x = step(estimate, i, x, given).prev_sample
    return x


for scale in (1.0, 2.0, 4.0):
    for to_target in (True, False):
        x = run(BiBBDMScheduler(var_scale=scale, objective="a" if to_target else "b"), to_target)
        name = "step_b2a" if to_target else "step_a2b"
        print(f"var_scale {scale}, {name}: {float(x.mean()):.2f} +- {float(x.std()):.2f} (should be {MEAN} +- {STD})")
        if scale < 2 and not to_target:
            assert x.isnan().all(), "it has var_scale now"
        else:
            assert abs(float(x.mean()) - MEAN) < 0.05 and abs(float(x.std()) - STD) < 0.1
try:
    run(BiBBDMScheduler(sample_step_type="cosine", objective="a"), True)
    raise SystemExit("the steps are inside of the schedule now")
except (RuntimeError, IndexError) as error:
    print(f"cosine: {type(error).__name__}:", str(error).splitlines()[0])
print("var_scale is in one direction only")
PY
"$dir/venv/bin/python" "$dir/run.py"
