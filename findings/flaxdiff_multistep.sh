#!/usr/bin/env bash
# flaxdiff's MultiStepDPM goes on with the history of its last run, and knows no alpha.
#
# The predictions of earlier steps are a list of the sampler object that nothing empties, so that the first steps of a
# second generate_samples take their differences to the last steps of the first, from another noise level and another
# image. The same seed then gives another image; of N(0.3, 0.2^2) 50 steps have a standard deviation of 0.198 in the
# first run and 0.235 in the second. And its step is x + noise (sigma' - sigma), which is that of a process whose signal
# is not scaled (KarrasVENoiseScheduler): with the schedules that scale it, which the README lists beside it, the mean
# comes out as 0.22, at any number of steps, where EulerSampler has 0.30.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q jax==0.4.38 flax==0.10.4 optax==0.2.5 einops==0.8.2 tqdm==4.70.1 termcolor==3.3.0 \
    numpy==2.4.6
# Without its requirements, which are data loaders and more.
"$dir/venv/bin/pip" install -q --no-deps flaxdiff==0.2.11
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import jax
import jax.numpy as jnp
from flaxdiff.predictors import DirectPredictionTransform
from flaxdiff.samplers import EulerSampler, MultiStepDPM
from flaxdiff.schedulers import CosineNoiseScheduler, KarrasVENoiseScheduler
from flaxdiff.utils import RandomMarkovState

print("flaxdiff", version("flaxdiff"), "jax", jax.__version__)
MEAN, STD = 0.3, 0.2


class Exact:
    """The mean of x_0 given x_t, for x_0 from N(0.3, 0.2^2)."""

    def __init__(self, schedule):
        self.schedule = schedule

    def apply(self, params, x, t):
        # KarrasVENoiseScheduler hands the network ln(sigma) / 4, the others the step.
        if isinstance(self.schedule, KarrasVENoiseScheduler):
            a, s = 1.0, jnp.exp(4 * t).reshape(-1, 1, 1, 1)
        else:
            a, s = self.schedule.get_rates(t)
        return MEAN + a * STD**2 * (x - a * MEAN) / ((a * STD) ** 2 + s**2)


class NoInputs:
    conditions = []

    def get_unconditionals(self):
        return []


def runs(sampler, schedule, steps):
    """Two runs of one sampler object with one seed: mean and standard deviation of each, and the largest difference."""
    sampler = sampler(Exact(schedule), schedule, DirectPredictionTransform(), NoInputs())
    seed = jax.random.PRNGKey(1)
    one, two = (
        sampler.generate_samples({}, 16, 32, diffusion_steps=steps, start_step=1000, rngstate=RandomMarkovState(seed))
        for _ in range(2)
    )
    return float(one.mean()), float(one.std()), float(two.mean()), float(two.std()), float(jnp.abs(one - two).max())


for schedule in (KarrasVENoiseScheduler(1), CosineNoiseScheduler(1000)):
    for sampler in (EulerSampler, MultiStepDPM):
        for steps in (50, 200):
            m, s, again, s_again, apart = runs(sampler, schedule, steps)
            name = f"{type(schedule).__name__}, {sampler.__name__}, {steps} steps"
            print(f"{name}: {m:.3f} +- {s:.3f}; once more: {again:.3f} +- {s_again:.3f}, up to {apart:.3f} apart")
            if sampler is EulerSampler:
                assert apart == 0 and abs(m - MEAN) < 0.01
            elif isinstance(schedule, CosineNoiseScheduler):
                assert m < 0.25, "the mean is right now"
            elif steps == 50:
                assert abs(s - STD) < 0.01 and s_again > 0.22 and apart > 0.1, "the second run equals the first now"
print("a second run is another one, and schedules that scale the signal move the mean")
PY
"$dir/venv/bin/python" "$dir/run.py" 2>&1 | grep -v "it/s\|^$"
