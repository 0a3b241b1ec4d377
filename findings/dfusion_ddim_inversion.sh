#!/usr/bin/env bash
# dfusion's ddim_reverse_sample, DDIM's inversion, keeps the data of the step before: a mean of 1.40 for 0.00.
#
# Going from t to t + 1 the deterministic DDIM (Song et al. 2021, section 4.3) has sqrt(alpha_bar) and
# sqrt(1 - alpha_bar) of t + 1. Here the noise has that of t + 1, but the data sqrt(alpha_bar) of t - 1, so that they
# fade too little, and an image inverted so is no start from which sampling leads back to it.
#
# The exact noise of N(0.5, 0.3^2) as the network, 20,000 samples taken up 1,000 timesteps; the same steps written out
# from the equation; and both taken back by the package's own DDIM in 500 steps.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 scipy==1.17.1 einops==0.8.2
"$dir/venv/bin/pip" install -q --no-deps dfusion==0.0.2
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import numpy as np
import torch
from dfusion import DDIMSampler, make_beta_schedule

torch.set_num_threads(1)
print("dfusion", version("dfusion"), "torch", torch.__version__)
MEAN, STD = 0.5, 0.3
betas = make_beta_schedule("linear", 1000)
kept = torch.tensor(np.cumprod(1 - betas), dtype=torch.float32)


def noise(x, t):
    a = kept[t].view(-1, 1)
    return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)


sampler = DDIMSampler(betas, ddim_s=500, ddim_eta=0.0, clip_denoised=False)
torch.manual_seed(0)
data = MEAN + STD * torch.randn(20000, 1)
up, equation = data.clone(), data.clone()
for i in range(999):
    t = torch.full((len(data),), i)
    up = sampler.ddim_reverse_sample(noise, up, t)
    eps = noise(equation, t)
    start = (equation - (1 - kept[i]).sqrt() * eps) / kept[i].sqrt()
    equation = kept[i + 1].sqrt() * start + (1 - kept[i + 1]).sqrt() * eps
    if i + 1 in (100, 300, 999):
        a = float(kept[i + 1])
        print(
            f"t = {i + 1}: {float(up.mean()):.3f} +- {float(up.std()):.3f}, by the equation"
            f" {float(equation.mean()):.3f} +- {float(equation.std()):.3f} (should be {a**0.5 * MEAN:.3f} +-"
            f" {(a * STD**2 + 1 - a) ** 0.5:.3f})"
        )
back = [float((sampler(noise, data.shape, noise=x) - data).square().mean().sqrt()) for x in (up, equation)]
print(f"and back: off by {back[0]:.3f} from ddim_reverse_sample's, by {back[1]:.3f} from the equation's")
assert abs(float(equation.mean())) < 0.05 and abs(float(equation.std()) - 1) < 0.05 and back[1] < 0.03
assert float(up.mean()) > 1 and float(up.std()) > 1.2 and back[0] > 0.3, "the inversion inverts now"
print("the inversion takes data of two steps before")
PY
"$dir/venv/bin/python" "$dir/run.py"
