#!/usr/bin/env bash
# holmc's regression samplers draw from the posterior of a single row, whatever the number of rows: 10 times its
# standard deviation with 100 of them, and shrunk by the prior as if it counted 100 times.
#
# The samplers are documented as those of Bayesian linear regression, lamb being the prior's precision. The precision of
# the posterior is X^T X + lamb, for noise of variance 1. The library takes X^T X / n + lamb, and X^T y / n: the loss is
# a mean where it should be a sum. The classification samplers have the sum, and so has the posterior that
# Wasserstein2Distance compares the samples with. For the same posterior lamb is to be divided by n, and the samples'
# distances from their mean by sqrt(n).
#
# Two coefficients, 100 and 1,000 rows, by the samplers of third and fourth order.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 scipy==1.17.1 tqdm==4.70.1
# Without its requirements, which its data sets, plots and grid searches need.
"$dir/venv/bin/pip" install -q --no-deps holmc==0.1
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import numpy as np

# The package without what it imports for its grid searches.
package = ModuleType("holmc")
package.__path__ = [str(distribution("holmc").locate_file("holmc"))]
sys.modules["holmc"] = package
from holmc.samplers.o3sampler import HoLMCSamplerO3Regression
from holmc.samplers.o4sampler import HoLMCSamplerO4Regression
from holmc.utils.metric import Wasserstein2Distance
from holmc.utils.params import O3Params, O4Params

print("holmc", version("holmc"), "numpy", np.__version__)
LAMB = 0.1
rng = np.random.default_rng(0)
for rows in (100, 1000):
    X = rng.standard_normal((rows, 2))
    y = X @ [1.0, -1.0] + rng.standard_normal(rows)
    mean, covariance = Wasserstein2Distance(X=X, y=y, lamb2=1 / LAMB).posteriors()
    should = np.sqrt(np.diag(covariance))
    for name, sampler in (
        ("third order", HoLMCSamplerO3Regression(O3Params(gamma=2.0, eta=0.2, xi=4.0), 40000, 0, False)),
        ("fourth order", HoLMCSamplerO4Regression(O4Params(gamma=4.0, eta=0.2), 40000, 0, False)),
    ):
        samples = sampler.sample(X, y, lamb=LAMB)[2000:]
        found = samples.std(axis=0)
        print(
            f"{rows} rows, {name}: mean {samples.mean(axis=0).round(2)} (should be {mean.round(2)}),"
            f" standard deviation {found.round(3)} (should be {should.round(3)})"
        )
        assert np.all(abs(found / should / np.sqrt(rows) - 1) < 0.2), "the posterior narrows with the rows now"
print("the posterior does not narrow with the rows")
PY
"$dir/venv/bin/python" "$dir/run.py"
