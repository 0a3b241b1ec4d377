#!/usr/bin/env bash
# score-models' variance-exploding SDE is wrong for any time horizon T but 1: with T = 2 the probability flow ODE gives
# N(0, 1) a standard deviation of 0.01, with T = 1/2 one of 10.
#
# VESDE(sigma_min, sigma_max, T), "the time horizon for the VESDE", has sigma(t) = sigma_min (sigma_max /
# sigma_min)^(t / T). The square of the diffusion coefficient is the derivative of sigma^2, which is 2 ln(sigma_max /
# sigma_min) / T sigma^2; the library leaves out the T. So an ODE or SDE over [0, T] goes T times too far: from the
# prior at sigma_max it contracts as if there were T schedules in a row. log_likelihood stops at t = 1, its default,
# and compares that with the prior of T.
#
# An exact network for N(0, 1); the reverse SDE, the probability flow ODE and the likelihood.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q score-models==0.5.11 torch==2.15.0 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import math
from importlib.metadata import version

import torch
from score_models import ScoreModel
from score_models.ode.heun import heun

torch.set_num_threads(1)
print("score-models", version("score-models"), "torch", torch.__version__)
LOW, HIGH, COUNT = 0.01, 100.0, 4000


class Exact(torch.nn.Module):
    """sigma times the score of N(0, 1 + sigma^2)."""

    def __init__(self, horizon):
        super().__init__()
        self.horizon = horizon

    def forward(self, t, x):
        sigma = (LOW * (HIGH / LOW) ** (t / self.horizon))[:, None]
        return -sigma * x / (1 + sigma**2)


out = {}
for horizon in (1.0, 2.0, 0.5):
    model = ScoreModel(Exact(horizon), sde="ve", sigma_min=LOW, sigma_max=HIGH, T=horizon, device="cpu")
    t = torch.tensor([horizon / 2], dtype=torch.float64)
    x = torch.zeros(1, 1, dtype=torch.float64)
    g2 = float(model.sde.diffusion(t, x) ** 2)
    step = 1e-6
    slope = float((model.sde.sigma(t + step) ** 2 - model.sde.sigma(t - step) ** 2) / (2 * step))
    torch.manual_seed(0)
    sde = float(model.sample((COUNT, 1), steps=1000).std())
    start = HIGH * torch.randn(COUNT, 1)
    with torch.no_grad():
        ode = float(heun(start, model.ode_drift, 1000, t0=horizon, t1=0.0).std())
    density = float(model.log_likelihood(torch.zeros(1, 1), ode_steps=2000, method="Heun"))
    right = -0.5 * math.log(2 * math.pi)
    out[horizon] = g2 / slope, sde, ode, density - right
    print(
        f"T = {horizon}: g^2 at T / 2 is {g2:.2f}, the derivative of sigma^2 {slope:.2f}; standard deviation by SDE {sde:.3f},"
        f" by ODE {ode:.3f} (should be 1); log density at 0 {density:.2f} (should be {right:.2f})"
    )
    assert abs(out[horizon][0] - horizon) < 0.01, "the horizon is in the diffusion coefficient now"
assert all(abs(v - 1) < 0.05 for v in out[1.0][1:3]) and abs(out[1.0][3]) < 0.05
assert out[2.0][1] < 0.9 and out[2.0][2] < 0.1 and out[0.5][2] > 5, "the horizon makes no difference now"
assert abs(out[2.0][3]) > 1 and abs(out[0.5][3]) > 1
print("the diffusion coefficient does not know of the horizon")
PY
# The bars of progress go to a file.
"$dir/venv/bin/python" "$dir/run.py" 2> "$dir/bars" || { cat "$dir/bars"; exit 1; }
