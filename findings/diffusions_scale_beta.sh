#!/usr/bin/env bash
# diffusions' DDIM scheduler has other betas than its DDPM scheduler by default, and they are square roots.
#
# Its default scale_beta=True takes betas evenly spaced in their square roots, the schedule of latent diffusion, but
# does not square them again: they go from 0.01 to 0.14 where DDPM's go from 0.0001 to 0.02. A network trained with the
# package's DDPM and sampled with its DDIM, both as they come, is told another amount of noise than there is: at
# timestep 250 alpha_bar is 0.0012 for one and 0.52 for the other. With 1,000 steps it ends in NaN, since the last
# alpha_bar is 3e-35. Training with DDIM's own add_noise, three quarters of the timesteps hold nothing but noise.
#
# An exact network for N(0.1, 0.2^2) of DDPM's noise; DDIM as it comes, and with scale_beta=False.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6
# Without its requirements: it asks for a torch below 2.
"$dir/venv/bin/pip" install -q --no-deps diffusions==0.1.13
cat > "$dir/run.py" <<'PY'
import math
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import torch

# The package without the modules of its networks.
package = ModuleType("diffusions")
package.__path__ = [str(distribution("diffusions").locate_file("diffusions"))]
sys.modules["diffusions"] = package
from diffusions.schedulers import DDIM, DDPM

torch.set_num_threads(1)
print("diffusions", version("diffusions"), "torch", torch.__version__)
MEAN, STD = 0.1, 0.2
trained = DDPM().alphas_cumprod
for scheduler in (DDPM(), DDIM()):
    kept = ", ".join(f"{float(scheduler.alphas_cumprod[t]):.2g}" for t in (100, 250, 999))
    ends = f"{float(scheduler.betas[0]):.4f} to {float(scheduler.betas[-1]):.4f}"
    print(f"{type(scheduler).__name__}(): betas from {ends}; alpha_bar at 100, 250, 999: {kept}")


def sample(scheduler, steps):
    torch.manual_seed(0)
    scheduler.set_timesteps(steps)
    x = torch.randn(1, 1, 128, 128)
    for t in scheduler.timesteps:
        kept = trained[t]
        noise = (1 - kept) ** 0.5 * (x - kept**0.5 * MEAN) / (kept * STD**2 + 1 - kept)
        x = scheduler.step(noise, int(t), x)["prev_sample"]
    return float(x.mean()), float(x.std())


out = {}
for scale in (False, True):
    for steps in (50, 250, 1000):
        out[scale, steps] = sample(DDIM() if scale else DDIM(scale_beta=False), steps)
        mean, std = out[scale, steps]
        print(
            f"DDIM(scale_beta={scale}), {steps} steps: mean {mean:.3f}, standard deviation {std:.3f}"
            f" (should be {MEAN}, {STD})"
        )
assert abs(out[False, 1000][0] - MEAN) < 0.01 and abs(out[False, 1000][1] - STD) < 0.01
assert abs(float(DDIM().betas[-1]) - 0.02**0.5) < 1e-6, "the betas are squared now"
assert out[True, 50][1] > 0.5 and out[True, 250][1] > 0.5 and math.isnan(out[True, 1000][0])
print("the betas of DDIM are square roots")
PY
"$dir/venv/bin/python" "$dir/run.py"
