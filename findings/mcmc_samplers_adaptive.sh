#!/usr/bin/env bash
# mcmc-samplers' adaptive Metropolis does not adapt where the target lies far from 0: after 5000 iterations its
# proposals are as wide as at the start for N(100, 1), and the chain has the spread 0.2 for 1. Around 0 it adapts.
#
# The running covariance (Haario et al. 2001, equation 3) subtracts (k + 1) times the square of the mean of k points,
# since it takes the paper's k, which counts from 0, for the number of points. What is left is the variance less 1 / k
# of the mean's square: negative until k is the square of the mean over the standard deviation, 10,000 iterations for
# N(100, 1). Its Cholesky factor then fails, which is caught, and the loop that would add to the diagonal is over
# range(-8, 1, -1), which is empty.
#
# DelayedRejectionAdaptiveMetropolis with proposals of 0.01 to begin with, in two dimensions.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6
# Without matplotlib, which is for plots.
"$dir/venv/bin/pip" install -q --no-deps mcmc-samplers==0.0.3
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import version
from types import ModuleType

import torch

for name in ("matplotlib", "matplotlib.pyplot"):
    sys.modules[name] = ModuleType(name)
sys.modules["matplotlib.pyplot"].Figure = object
from mcmc_samplers import DelayedRejectionAdaptiveMetropolis

print("mcmc-samplers", version("mcmc-samplers"), "torch", torch.__version__)
torch.set_num_threads(1)
for mean in (0.0, 10.0, 100.0):
    torch.manual_seed(0)
    sampler = DelayedRejectionAdaptiveMetropolis(
        lambda x: -0.5 * ((x - mean) ** 2).sum(-1), torch.full((2,), mean), cov=1e-4 * torch.eye(2)
    )
    start = float(sampler.proposals[0].sqrt_cov[0, 0])
    x, _ = sampler(5000)
    width, std = float(sampler.proposals[0].sqrt_cov[0, 0]), x[2500:].std(0)
    print(
        f"N({mean:g}, 1): proposals of {start:.3f} at first, of {width:.3f} in the end,"
        f" standard deviations {[round(float(s), 2) for s in std]} (should be 1)"
    )
    if mean == 100:
        assert width == start, "it adapts there now"
        assert float(std.max()) < 0.6
    else:
        assert width > 0.5 and float(std.min()) > 0.7
print("it adapts near 0 only")
PY
"$dir/venv/bin/python" "$dir/run.py"
