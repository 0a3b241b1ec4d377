#!/usr/bin/env bash
# diffgbm's sample with a seed adds the same noise twice: samples of flow matching are wider by up to a tenth.
#
# With seed=s the start of the chain is drawn from a generator of seed s, and the noise of its steps from another one of
# the same seed, so that the noise of the first step is the start itself. With velocity_stochasticity above 0 a sample
# begins 1 + stochasticity sqrt(dt) times as far out as it should, and the chain forgets it only in part. Without a
# seed the samples are right. The SDEs of the scores have the same lines, but forget their start.
#
# An exact velocity for N(+-0.866, 0.5^2), by the sign of x, in 50 steps.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 pandas==3.1.1 scikit-learn==1.9.1 scipy==1.17.1 lightgbm==4.7.0 \
  jaxtyping==0.3.11 einops==0.8.2 tqdm==4.70.1
"$dir/venv/bin/pip" install -q --no-deps diffgbm==0.1.2
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import numpy as np
from diffgbm import DiffGBM

print("diffgbm", version("diffgbm"), "numpy", np.__version__)
MEAN, STD = 0.866, 0.5
X = np.tile([-1.0, 1.0], 200)[:, None]
y = MEAN * X[:, 0] + STD * np.random.default_rng(0).standard_normal(len(X))
y = (y - y.mean()) / y.std()
model = DiffGBM(training_objective="flow_matching", residualize="off", n_repeats=1, n_estimators=1, n_jobs=1, seed=0)
model.fit(X, y)


def velocity(y, X, t):
    """Of (1 - t) y_0 + t z with y_0 from N(MEAN x, STD^2)."""
    variance = ((1 - t) * STD) ** 2 + t**2
    return -MEAN * X + (t - (1 - t) * STD**2) / variance * (y - (1 - t) * MEAN * X)


# Instead of the trees.
model.velocity_model.velocity = velocity
for schedule, stochasticity in (("linear", 0.0), ("linear", 1.0), ("quadratic", 1.0)):
    found = {}
    for seed in (None, 0):
        samples = model.sample(
            X[:2],
            n_samples=20000,
            n_parallel=20000,
            seed=seed,
            velocity_stochasticity=stochasticity,
            velocity_stochasticity_schedule=schedule,
        )
        found[seed] = float(samples[:, 1].std())
    print(
        f"{schedule}, velocity_stochasticity {stochasticity}: standard deviation {found[None]:.3f} without a seed,"
        f" {found[0]:.3f} with one (should be {STD})"
    )
    assert abs(found[None] - STD) < 0.025
    ratio = found[0] / found[None]
    assert ratio > 1.05 if stochasticity else abs(ratio - 1) < 0.02, "the seed changes nothing else now"
print("a seed makes the samples wider")
PY
"$dir/venv/bin/python" "$dir/run.py"
