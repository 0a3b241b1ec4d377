#!/usr/bin/env bash
# bayesnest leaves the prior but with its "uniform" sampler: 0.97 of a posterior by "mcmc" lies where the prior is 0,
# and the log evidence is -1.5 for -3.8. By "ellipsoid", the default, it is 1.2 for 0 well inside the prior.
#
# Nested sampling replaces the worst point by a draw from the prior above its likelihood. "mcmc" and "diffusive" ask for
# the likelihood only, not for the prior, wherever their walk leads. "diffusive" also prefers the larger likelihood,
# which is in the draws' weights already.
#
# "ellipsoid" draws from ellipsoids of 1.2 standard deviations of the live points. Points that fill an ellipse have half
# of its radius for a standard deviation, so that two thirds of the area are never drawn from, and the likelihood rises
# faster than the prior's volume is taken to shrink.
#
# A Gaussian likelihood in the unit square with a uniform prior, once around a point inside and once outside.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
# Without corner and matplotlib, which are for plots.
"$dir/venv/bin/pip" install -q --no-deps bayesnest==1.0.0
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import version
from types import ModuleType

import numpy as np
from scipy.special import ndtr

for name in ("corner", "matplotlib", "matplotlib.pyplot"):
    sys.modules[name] = ModuleType(name)
from bayesnest.sampler import NestedSampler

print("bayesnest", version("bayesnest"), "numpy", np.__version__, "scipy", version("scipy"))
STD = 0.1


def run(name, centre, runs=4):
    centre = np.array(centre)
    should = np.log(ndtr((1 - centre) / STD) - ndtr(-centre / STD)).sum()

    def log_likelihood(x):
        return -0.5 * float(((x - centre) ** 2).sum()) / STD**2 - 2 * np.log(STD * np.sqrt(2 * np.pi))

    found, outside = [], []
    for seed in range(runs):
        np.random.seed(seed)
        settings = dict(live_points=100, max_iterations=1500, tolerance=0.01, step_scale=0.5)
        sampler = NestedSampler(log_likelihood, lambda u: u, 2, sampler=name, **settings)
        sampler.run()
        x, weights = sampler.get_posterior_samples()
        found.append(sampler.get_log_evidence())
        outside.append((weights * ((x < 0) | (x > 1)).any(axis=1)).sum())
    print(
        f"{name}, around {centre}: log evidence {np.round(found, 1)} (should be {should:.1f}),"
        f" {np.mean(outside):.2f} of the posterior where the prior is 0"
    )
    return np.mean(found) - should, np.mean(outside)


inside = (0.5, 0.5)
assert abs(run("uniform", inside, 2)[0]) < 0.5
assert run("ellipsoid", inside)[0] > 0.8, "the ellipsoids have the live points now"
assert run("diffusive", inside)[0] > 0.4, "the draws are the prior's now"
for name in ("mcmc", "diffusive"):
    error, outside = run(name, (1.2, 0.5))
    assert error > 1.5 and outside > 0.8, "the prior is asked now"
print("the prior is left")
PY
"$dir/venv/bin/python" "$dir/run.py"
