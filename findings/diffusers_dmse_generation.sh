#!/usr/bin/env bash
# diffusers-dmse's DMSEScheduler, documented for generation as "equivalent to DDIM with eta=0", gives the mean of the
# data for all samples: standard deviation 0.00 for 0.50.
#
# Its step is the mean of DDPM's, without the noise. DDIM without noise (Song et al. 2021, equation 12) has another
# coefficient for x_t, sqrt((1 - abar_s) / (1 - abar_t)) in the place of sqrt(abar_t / abar_s) (1 - abar_s) / (1 -
# abar_t), and keeps the marginals. The mean alone is a contraction: good for its first purpose, an estimate of a noisy
# image that is best on average, which is what the paper of the method shows, but not a sample of anything.
#
# Data N(0.2, 0.5^2), an exact network, by DMSEScheduler and by DDIMScheduler with the same betas and timesteps.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q diffusers==0.42.1 torch==2.15.0 numpy==2.4.6
"$dir/venv/bin/pip" install -q --no-deps diffusers-dmse==0.1.0
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from diffusers import DDIMScheduler
from diffusers_dmse import DMSEScheduler

print("diffusers-dmse", version("diffusers-dmse"), "diffusers", version("diffusers"), "torch", torch.__version__)
torch.set_num_threads(1)
MEAN, STD = 0.2, 0.5
assert "DDIM with ``eta=0``" in " ".join(DMSEScheduler.__doc__.split()), "it is not documented so now"
found = {}
for steps in (50, 1000):
    for Class in (DDIMScheduler, DMSEScheduler):
        torch.manual_seed(0)
        scheduler = Class(clip_sample=False)
        scheduler.set_timesteps(steps)
        x = torch.randn(5000, 1)
        for t in scheduler.timesteps:
            alpha = scheduler.alphas_cumprod[t]
            variance = alpha * STD**2 + 1 - alpha
            noise = (1 - alpha) ** 0.5 * (x - alpha**0.5 * MEAN) / variance
            x = scheduler.step(noise, t, x).prev_sample
        found[Class] = float(x.std())
        print(
            f"{steps} steps, {Class.__name__}: mean {float(x.mean()):.2f} (should be {MEAN}),"
            f" standard deviation {found[Class]:.4f} (should be {STD})"
        )
    assert abs(found[DDIMScheduler] - STD) < 0.05
    assert found[DMSEScheduler] < 0.05, "it is a sampler now"
print("all samples are the mean")
PY
"$dir/venv/bin/python" "$dir/run.py"
