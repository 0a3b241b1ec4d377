#!/usr/bin/env bash
# particlefilterbox's SMCSampler has a log evidence of -8.5 for -5.8 with one move a step, and of -6.6 with its default
# of five.
#
# Each step of the tempering multiplies the weights and adds the logarithm of the mean of the factors to the log
# evidence. The mean is to be taken by the weights that the particles have (Del Moral et al. 2006); the library takes
# the plain one, which is right after a resampling only. Its steps are as long as the effective size stays just above
# half of the particles, and it resamples below half: every other step has weights that it leaves out. With
# `ess_threshold=1.0`, which resamples each time, the evidence is right.
#
# Prior N(0, 1) and a Gaussian likelihood of width 0.1 around (2, -2) in two dimensions.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 scipy==1.17.1
# Without pandas, which is for reports.
"$dir/venv/bin/pip" install -q --no-deps particlefilterbox==0.1.0
cat > "$dir/run.py" <<'PY'
import inspect
from importlib.metadata import version

import numpy as np
from particlefilterbox.smc.sampler import SMCSampler

print("particlefilterbox", version("particlefilterbox"), "numpy", np.__version__)
CENTRE, WIDTH = np.array([2.0, -2.0]), 0.1
should = -0.5 * CENTRE @ CENTRE / (1 + WIDTH**2) - np.log(2 * np.pi * (1 + WIDTH**2))
defaults = inspect.signature(SMCSampler.__init__).parameters
print("default moves", defaults["n_mcmc_moves"].default, "threshold", defaults["ess_threshold"].default)


def log_prior(x):
    return -0.5 * float(x @ x) - np.log(2 * np.pi)


def log_posterior(x):
    return log_prior(x) - 0.5 * float((x - CENTRE) @ (x - CENTRE)) / WIDTH**2 - np.log(2 * np.pi * WIDTH**2)


def run(moves, threshold):
    found = []
    for seed in range(4):
        sampler = SMCSampler(
            target_logpdf=log_posterior,
            prior_logpdf=log_prior,
            prior_sample=lambda rng: rng.standard_normal(2),
            n_particles=300,
            n_mcmc_moves=moves,
            ess_threshold=threshold,
            seed=seed,
        )
        found.append(sampler.run().log_evidence)
    print(f"{moves} moves, threshold {threshold}: log evidence {np.round(found, 1)} (should be {should:.1f})")
    return np.mean(found) - should


assert run(1, 0.5) < -1.2, "the weights count now"
assert run(5, 0.5) < -0.3, "the weights count now"
assert abs(run(5, 1.0)) < 0.3
print("the weights are left out of the evidence")
PY
"$dir/venv/bin/python" "$dir/run.py"
