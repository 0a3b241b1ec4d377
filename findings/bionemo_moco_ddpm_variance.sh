#!/usr/bin/env bash
# bionemo-moco's DDPM.step adds the noise of the step before: 0.37 for 0.5 with 20 steps, where step_noise, the same
# step by way of the noise, gives 0.43.
#
# The variance of the step from t to t - 1 is (1 - abar_{t-1}) / (1 - abar_t) beta_t (DDPM, Ho et al. 2020, equation 7).
# It is 0 at the first time, and Improved DDPM puts the second in its place before it takes logarithms. The library
# moves all of them by one for that, so each step has the variance of its neighbour, and the last one that adds noise
# has the 0. With the cosine schedule the variances grow with t, and the samples have too little noise everywhere.
#
# Exact networks for N(0, 0.5^2) and N(0, 1).
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 jaxtyping==0.3.11 pot==0.9.7.post1 scikit-learn==1.9.1
# Without its requirements, which ask for a NumPy below 2.
"$dir/venv/bin/pip" install -q --no-deps bionemo-moco==0.0.2.2
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from bionemo.moco.distributions.prior import GaussianPrior
from bionemo.moco.distributions.time import UniformTimeDistribution
from bionemo.moco.interpolants import DDPM
from bionemo.moco.schedules.noise.discrete_noise_schedules import DiscreteCosineNoiseSchedule

torch.set_num_threads(1)
print("bionemo-moco", version("bionemo-moco"), "torch", torch.__version__)
COUNT = 20000


def sample(ddpm, steps, spread, by):
    torch.manual_seed(0)
    x = torch.randn(COUNT, 1)
    for i in reversed(range(steps)):
        a, s = ddpm.forward_data_schedule[i], ddpm.forward_noise_schedule[i]
        x = getattr(ddpm, by)(a * spread**2 / (a**2 * spread**2 + s**2) * x, torch.full((COUNT,), i), x)
    return float(x.std())


for steps in (20, 50, 200):
    ddpm = DDPM(UniformTimeDistribution(discrete_time=True, nsteps=steps), GaussianPrior(), DiscreteCosineNoiseSchedule(nsteps=steps))
    alpha = ddpm.noise_schedule.generate_schedule()
    bar = alpha.cumprod(0)
    right = ((1 - alpha[1:]) * (1 - bar[:-1]) / (1 - bar[1:])).sqrt()
    # A step with x_0 = x_t = 0 leaves the noise only.
    zero = torch.zeros(COUNT, 1)
    found = {by: [float(getattr(ddpm, by)(zero, torch.full((COUNT,), t), zero).std()) for t in (1, 2, steps // 2)] for by in ("step", "step_noise")}
    print(f"{steps} steps: noise at times 1, 2 and {steps // 2} by step", " ".join(f"{v:.4f}" for v in found["step"]), end=", ")
    print("by step_noise", " ".join(f"{v:.4f}" for v in found["step_noise"]), end="; ")
    print("should be", " ".join(f"{float(right[t - 1]):.4f}" for t in (1, 2, steps // 2)))
    assert found["step"][0] == 0 and abs(found["step"][1] / float(right[0]) - 1) < 0.05, "step has its own variance now"
    assert abs(found["step_noise"][0] / float(right[0]) - 1) < 0.05
    for spread in (0.5, 1.0):
        step, noise = (sample(ddpm, steps, spread, by) for by in ("step", "step_noise"))
        print(f"{steps} steps: standard deviation by step {step:.3f}, by step_noise {noise:.3f} (should be {spread})")
        assert step < noise < spread * 1.02
        assert steps > 20 or step / noise < 0.92, "step and step_noise are one now"
print("each step has the variance of the step before")
PY
"$dir/venv/bin/python" "$dir/run.py"
