#!/usr/bin/env bash
# holmc's Wasserstein2Distance of a distribution from itself is not 0: for exact draws of a posterior it is 1.3 times
# the posterior's own spread.
#
# The distance of two normal distributions with covariances P and S has the term tr(P + S - 2 (S^1/2 P S^1/2)^1/2). The
# library has S P S under the root. That has the unit of a covariance to the power of 1.5: where P = S = s^2 the term is
# 2 s^2 (1 - s), which is 0 for s = 1 only. Where s is below 0.5 a sampler that has converged is farther away by it than
# one that stays at the posterior's mean.
#
# A linear regression of 100 rows: draws from the exact posterior, and the posterior's mean over and over, with almost
# nothing added.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 scipy==1.17.1
# Without its requirements, which its data sets, plots and grid searches need.
"$dir/venv/bin/pip" install -q --no-deps holmc==0.1
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import numpy as np
import scipy
from scipy.linalg import sqrtm

# The package without what it imports for its grid searches.
package = ModuleType("holmc")
package.__path__ = [str(distribution("holmc").locate_file("holmc"))]
sys.modules["holmc"] = package
sys.modules["tqdm"] = ModuleType("tqdm")
from holmc.utils.metric import Wasserstein2Distance

print("holmc", version("holmc"), "numpy", np.__version__, "scipy", scipy.__version__)


def exact(mean, covariance, draws):
    root = sqrtm(covariance)
    other = np.cov(draws.T)
    gap = mean - draws.mean(axis=0)
    return np.sqrt(gap @ gap + np.trace(covariance + other - 2 * np.real(sqrtm(root @ other @ root))))


rng = np.random.default_rng(0)
for rows in (10, 100, 1000):
    X = rng.standard_normal((rows, 2))
    y = X @ [1.0, -1.0] + rng.standard_normal(rows)
    measure = Wasserstein2Distance(X=X, y=y)
    mean, covariance = measure.posteriors()
    spread = np.sqrt(np.trace(covariance))
    found = []
    for name, draws in (
        ("exact draws", rng.multivariate_normal(mean, covariance, size=1000)),
        ("a single point", mean + 1e-3 * spread * rng.standard_normal((1000, 2))),
    ):
        found.append(measure.w2distance(draws, log_scale=False)[-1])
        should = exact(mean, covariance, draws)
        print(f"{rows} rows, {name}: {found[-1]:.3f} (should be {should:.3f}); the posterior's spread is {spread:.3f}")
    assert found[0] > 0.8 * spread, "exact draws are near now"
    assert abs(found[1] / spread - 1) < 0.05
    if rows > 10:
        assert found[0] > found[1]
print("exact draws are no nearer than a single point")
PY
"$dir/venv/bin/python" "$dir/run.py"
