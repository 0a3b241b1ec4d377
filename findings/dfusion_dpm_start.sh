#!/usr/bin/env bash
# dfusion's KarrasSampler with sampler="dpm" starts from N(0, 1) where sigma is 80: samples have 0.004 for 0.300.
#
# The chain of Karras et al. 2022 begins at N(0, sigma_max^2). "heun" begins there; "dpm" and "ancestral" take noise of
# standard deviation 1. For the ODE that is 80 times too near the middle, so that all samples of "dpm" come out as the
# mean. "ancestral" draws its noise anew and hides it. s_tmax, which should end the churn above a sigma, has no
# effect either: churn with s_tmax=0 is churn everywhere.
#
# The exact noise of N(0.5, 0.3^2) as the network.
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
from dfusion import KarrasSampler, make_beta_schedule

torch.set_num_threads(1)
print("dfusion", version("dfusion"), "torch", torch.__version__)
MEAN, STD = 0.5, 0.3
betas = make_beta_schedule("linear", 1000)
kept = torch.tensor(np.cumprod(1 - betas), dtype=torch.float32)


def noise(x, t):
    a = kept[t].view(-1, 1)
    return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)


CHAINS = {"heun": "sample_heun", "dpm": "sample_dpm", "ancestral": "sample_euler_ancestral"}
found = {}
for name in CHAINS:
    for steps in (50, 200):
        sampler = KarrasSampler(betas, steps, sampler=name, clip_denoised=False)
        torch.manual_seed(0)
        first = float(next(getattr(sampler, CHAINS[name])(noise, (20000, 1)))[0].std())
        torch.manual_seed(0)
        x = sampler(noise, (20000, 1))
        found[name] = float(x.std())
        print(
            f"{name}, {steps} steps: starts from {first:.1f} (should be {sampler.sigma_max}), ends at"
            f" {float(x.mean()):.3f} +- {found[name]:.4f} (should be {MEAN} +- {STD})"
        )
        assert abs(first - (sampler.sigma_max if name == "heun" else 1)) < 0.02 * first, "starts elsewhere now"
assert abs(found["heun"] - STD) < 0.01
assert found["dpm"] < 0.01, "dpm has the right width now"
gammas = {s: float(KarrasSampler(betas, 50, s_churn=20.0, s_tmax=s).gammas.max()) for s in (0.0, float("inf"))}
print(f"largest churn by s_tmax: {gammas} (should be 0 with s_tmax=0)")
assert gammas[0.0] == gammas[float("inf")] > 0, "s_tmax has an effect now"
print("all samples of dpm are the mean")
PY
"$dir/venv/bin/python" "$dir/run.py"
