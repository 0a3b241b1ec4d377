#!/usr/bin/env bash
# generative-diffusion's CosineScheduler bounds beta(t) by 1, and its chains do not reach the data.
#
# The times of the library are 0 to 1, and with them the cosine schedule's beta(t), -d/dt ln alpha_bar(t), is
# pi / (1 + s) tan(...), as its own docs say: above 1 from t = 0.2 on, without a bound. It is clamped to 0.99999, near
# the bound of 0.999 that Nichol and Dhariwal 2021 have for the betas of single steps. alpha_bar(t), by which the
# network is trained, is not: exp(-integral of beta) is 0.41 at t = 1, where alpha_bar is 0. Every sampler takes its
# drift and its noise from beta, and ends with much of the noise that it began with, however many steps it takes.
#
# Exact scores of N(0.5, 0.3^2), 1,000 steps: the linear schedule for comparison, then the cosine.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 tqdm==4.70.1 colorlog==6.12.0
# Without its requirements: it asks for a torch below 2.7.
"$dir/venv/bin/pip" install -q --no-deps generative-diffusion==0.1.3
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from generative_diffusion.samplers import EulerMaruyamaSampler, ProbabilityFlowODESampler
from generative_diffusion.schedulers import CosineScheduler, LinearScheduler
from generative_diffusion.sde import VPSDE

torch.set_num_threads(1)
print("generative-diffusion", version("generative-diffusion"), "torch", torch.__version__)
MEAN, STD = 0.5, 0.3


def score_of(sde):
    def score(x, t):
        a = sde.mu_t(torch.ones_like(x), t)
        return -(x - a * MEAN) / ((a * STD) ** 2 + sde.sigma_t(t).view(-1, 1, 1, 1) ** 2)

    return score


t = torch.linspace(0, 1, 10001)[:-1]
for scheduler in (LinearScheduler(), CosineScheduler()):
    kept = torch.exp(-torch.cumulative_trapezoid(scheduler.beta(t), t))
    rows = [f"{float(kept[i]):.3f} for {float(scheduler.alpha_bar(t)[i + 1]):.3f}" for i in (2500, 5000, 9900)]
    print(f"{type(scheduler).__name__}: exp(-integral of beta) for alpha_bar at t = 0.25, 0.5, 0.99: {', '.join(rows)}")
    for sampler in (EulerMaruyamaSampler(), ProbabilityFlowODESampler()):
        torch.manual_seed(0)
        sde = VPSDE(scheduler)
        x = sampler.sample(torch.randn(20000, 1, 1, 1), sde, score_of(sde), n_steps=1000, seed=1)[1][-1]
        mean, std = float(x.mean()), float(x.std())
        print(f"    {type(sampler).__name__}: mean {mean:.3f}, standard deviation {std:.3f}; should be {MEAN}, {STD}")
        if isinstance(scheduler, LinearScheduler):
            assert abs(mean - MEAN) < 0.01 and abs(std - STD) < 0.01
        else:
            assert mean < 0.45 and std > 0.32, "the cosine schedule reaches the data now"
print("with the cosine schedule the chain ends far from the data")
PY
"$dir/venv/bin/python" "$dir/run.py"
