#!/usr/bin/env bash
# flaxdiff's generate_samples starts at the end of the chain where a schedule has other than 1,000 timesteps.
#
# start_step is documented to default to the greatest, and is the schedule's number of timesteps then; but the steps
# are multiplied by that number over 1,000 afterwards. KarrasVENoiseScheduler(1), whose times are 0 to 1, makes one call
# at its least sigma, 0.002, whatever diffusion_steps says: noise comes out as it went in. With
# CosineNoiseScheduler(100) the chain begins at step 10 of 100, with noise that should be at 100. Given
# start_step=1000, as in the README's example, which is not the greatest in either, both give the law of the data.
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
from flaxdiff.samplers import DDIMSampler
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


for schedule in (CosineNoiseScheduler(1000), CosineNoiseScheduler(100), KarrasVENoiseScheduler(1)):
    for given in ({"start_step": 1000}, {}):
        sampler = DDIMSampler(Exact(schedule), schedule, DirectPredictionTransform(), NoInputs())
        seed = RandomMarkovState(jax.random.PRNGKey(1))
        x = sampler.generate_samples({}, 16, 32, diffusion_steps=100, rngstate=seed, **given)
        m, s = float(x.mean()), float(x.std())
        start = given.get("start_step", "by default")
        name = f"{type(schedule).__name__}({schedule.max_timesteps}), start_step {start}"
        print(f"{name}: mean {m:.3f}, standard deviation {s:.3f}; should be {MEAN}, {STD}")
        if given or schedule.max_timesteps == 1000:
            assert abs(m - MEAN) < 0.01 and abs(s - STD) < 0.02
        else:
            assert s > 0.3 and m < 0.2, "the default start is the right one now"
print("where the timesteps are not 1,000 the default start gives noise")
PY
"$dir/venv/bin/python" "$dir/run.py" 2>&1 | grep -v "it/s\|^$"
