#!/usr/bin/env bash
# flaxdiff's SimpleDDPMSampler adds no noise where the process does not scale the signal: a point for a distribution.
#
# The variance of its step, (sigma'^2 / sigma^2)(1 - alpha^2 / alpha'^2), is that of DDPM where alpha^2 + sigma^2 = 1.
# With KarrasVENoiseScheduler, whose alpha is 1 everywhere, it is 0, where the reverse step has
# (sigma'^2 / sigma^2)(sigma^2 - sigma'^2); the mean is the right one for both, so that nothing fails and all samples
# are the mean of the data. EulerAncestralSampler has the noise.
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
from flaxdiff.samplers import EulerAncestralSampler, SimpleDDPMSampler
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


for schedule, sampler in (
    (CosineNoiseScheduler(1000), SimpleDDPMSampler),
    (KarrasVENoiseScheduler(1), EulerAncestralSampler),
    (KarrasVENoiseScheduler(1), SimpleDDPMSampler),
):
    for steps in (100, 500):
        chain = sampler(Exact(schedule), schedule, DirectPredictionTransform(), NoInputs())
        seed = RandomMarkovState(jax.random.PRNGKey(1))
        x = chain.generate_samples({}, 16, 32, diffusion_steps=steps, start_step=1000, rngstate=seed)
        m, s = float(x.mean()), float(x.std())
        name = f"{sampler.__name__}, {type(schedule).__name__}, {steps} steps"
        print(f"{name}: mean {m:.3f}, standard deviation {s:.3f}; should be {MEAN}, {STD}")
        if sampler is SimpleDDPMSampler and isinstance(schedule, KarrasVENoiseScheduler):
            assert abs(m - MEAN) < 0.01 and s < 0.01, "the step has its noise now"
        else:
            assert abs(m - MEAN) < 0.01 and abs(s - STD) < 0.02
print("without a scaled signal all samples are the mean")
PY
"$dir/venv/bin/python" "$dir/run.py" 2>&1 | grep -v "it/s\|^$"
