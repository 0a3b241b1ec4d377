#!/usr/bin/env bash
# torchdeltaflow's PosteriorSolver gives the measurement for all samples of a posterior: 2.00 +- 0.00 for 1.00 +- 0.71.
#
# It is documented to sample the posterior of y = A(x) + n. Each step of the flow, which goes dt of the way, is followed
# by a push along the gradient of the log likelihood, and the push has no dt: 50 steps push five times as far as ten,
# and what spread a posterior has is gone after a few of them. With a guidance_scale divided by the number of steps the
# result hardly depends on that number, 1.3 +- 0.46.
#
# Data N(0, 1), an exact velocity, a measurement of 2 with noise of N(0, 1): the posterior is N(1, 1/2).
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 scipy==1.17.1 einops==0.8.2 tqdm==4.70.1
"$dir/venv/bin/pip" install -q --no-deps torchdeltaflow==0.2.7
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from deltaflow.inverse import GaussianLikelihood, IdentityOperator
from deltaflow.solvers import EulerSolver, HeunSolver, PosteriorSolver

print("torchdeltaflow", version("torchdeltaflow"), "torch", torch.__version__)
torch.set_num_threads(1)
COUNT = 2000
assert "this samples from" in PosteriorSolver.__doc__, "it is not documented so now"


def velocity(x, t):
    t = t.view(-1, 1)
    return (2 * t - 1) / ((1 - t) ** 2 + t**2) * x


def run(Class, steps, scale):
    torch.manual_seed(0)
    solver = Class(velocity)
    if scale is not None:
        likelihood = GaussianLikelihood(torch.full((COUNT, 1), 2.0), IdentityOperator(), sigma=1.0)
        solver = PosteriorSolver(solver, likelihood, guidance_scale=scale)
    x = solver.sample(torch.randn(COUNT, 1), n_steps=steps, show_progress=False)
    should = "0 +- 1" if scale is None else "1 +- 0.71"
    what = "no measurement" if scale is None else f"guidance_scale {scale:g}"
    mean, std = float(x.mean()), float(x.std())
    print(f"{Class.__name__}, {steps} steps, {what}: {mean:.4f} +- {std:.4f} (should be {should})")
    return mean, std


for Class in (EulerSolver, HeunSolver):
    assert abs(run(Class, 50, None)[1] - 1) < 0.05
    for steps in (10, 50, 200):
        mean, std = run(Class, steps, 1.0)
        assert abs(mean - 2) < 0.02 and std < 0.02, "it has a spread now"
divided = [run(EulerSolver, steps, 1.0 / steps) for steps in (50, 200, 800)]
assert max(std for _, std in divided) - min(std for _, std in divided) < 0.03
print("all samples are the measurement")
PY
"$dir/venv/bin/python" "$dir/run.py"
