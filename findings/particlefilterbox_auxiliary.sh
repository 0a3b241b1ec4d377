#!/usr/bin/env bash
# particlefilterbox's AuxiliaryPF has a log likelihood of -0.2 where it is -83: the larger part of it is missing.
#
# The auxiliary filter (Pitt and Shephard 1999) selects its particles by a guess of the likelihood and weighs them by
# the likelihood over the guess. The estimate of a step is the mean of those weights times the mean of the guesses. The
# library has the first factor only, which is near 1 where the guess is good. Comparing models by it, or a Markov chain
# over parameters, prefers those whose guess is poor. Its other filters have the likelihood.
#
# A linear model with Gaussian noise, whose likelihood the Kalman filter has exactly.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 scipy==1.17.1 pandas==3.1.1
"$dir/venv/bin/pip" install -q --no-deps particlefilterbox==0.1.0
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import numpy as np
from particlefilterbox.core.config import PFConfig
from particlefilterbox.core.model import ParticleFilterModel
from particlefilterbox.filters.auxiliary import AuxiliaryPF
from particlefilterbox.filters.bootstrap import BootstrapPF

print("particlefilterbox", version("particlefilterbox"), "numpy", np.__version__)


class Linear(ParticleFilterModel):
    """x_t = 0.9 x_(t - 1) + noise, seen with noise of the standard deviation `width`."""

    k_states = k_obs = 1

    def __init__(self, width):
        self.width = width

    def initial_distribution(self, n_particles, rng):
        return rng.standard_normal((n_particles, 1))

    def transition_mean(self, particles, t):
        return 0.9 * particles

    def transition(self, particles, t, rng):
        return 0.9 * particles + 0.3 * rng.standard_normal(particles.shape)

    def log_observation_likelihood(self, particles, y_t, t):
        return -0.5 * ((y_t[0] - particles[:, 0]) / self.width) ** 2 - np.log(self.width * np.sqrt(2 * np.pi))


def exact(y, width):
    mean, variance, total = 0.0, 1.0, 0.0
    for value in y:
        mean, variance = 0.9 * mean, 0.81 * variance + 0.09
        seen = variance + width**2
        total += -0.5 * (value - mean) ** 2 / seen - 0.5 * np.log(2 * np.pi * seen)
        mean, variance = mean + variance / seen * (value - mean), variance * width**2 / seen
    return total


rng = np.random.default_rng(0)
state, y = rng.standard_normal(), []
for _ in range(60):
    state = 0.9 * state + 0.3 * rng.standard_normal()
    y.append(state + 0.9 * rng.standard_normal())
y = np.array(y)
found, should = {}, {}
for width in (0.9, 2.0):
    should[width] = exact(y, width)
    for Class in (BootstrapPF, AuxiliaryPF):
        results = Class(Linear(width), PFConfig(n_particles=2000, seed=0)).filter(y)
        found[Class, width] = float(results.log_likelihood)
        what = f"{Class.__name__}, noise of {width}"
        print(f"{what}: log likelihood {found[Class, width]:.1f} (should be {should[width]:.1f})")
    assert abs(found[BootstrapPF, width] - should[width]) < 1
    assert abs(found[AuxiliaryPF, width]) < 0.2 * abs(should[width]), "the likelihood is whole now"
print("the guesses are left out of the likelihood")
PY
"$dir/venv/bin/python" "$dir/run.py"
