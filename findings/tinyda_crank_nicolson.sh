#!/usr/bin/env bash
# tinyDA's CrankNicolson takes the prior's mean for 0: posterior mean 3.5 for 6.0. OperatorWeightedCrankNicolson does
# not keep a prior whose covariance is not of the shape of its operator: correlation 0.44 for 0.90.
#
# A preconditioned Crank-Nicolson proposal keeps the prior, so that the likelihood alone decides (Cotter et al. 2013).
# For N(m, C) it is m + sqrt(1 - b^2) (x - m) + b C^(1/2) z. Here m is left out, and the chain has the posterior of the
# prior N(0, C), from whichever start; the class only asks for a multivariate normal prior.
#
# In the operator-weighted one of Law 2014 the operator B weighs the whitened directions. Here sqrt(1 - B) and sqrt(B)
# are applied to x and to draws of N(0, C) as they are, which keeps the prior only where B and C commute.
#
# Two parameters, Gaussian prior and likelihood, hence known posteriors; GaussianRandomWalk gives them.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 scipy==1.17.1 tqdm==4.70.1
# Without its requirements, which are for plots and for chains in parallel.
"$dir/venv/bin/pip" install -q --no-deps tinyDA==0.9.21
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import version
from types import ModuleType

import numpy as np
import scipy.stats

for name in ("arviz", "xarray", "ray", "umbridge"):
    sys.modules[name] = ModuleType(name)
sys.modules["ray"].remote = lambda cls: cls
import tinyDA
from tinyDA.chain import Chain

print("tinyDA", version("tinyDA"), "numpy", np.__version__)
COUNT = 4000


def run(prior, observed, variance, proposal):
    likelihood = tinyDA.GaussianLogLike(np.array(observed), variance * np.eye(2))
    np.random.seed(0)
    chain = Chain(tinyDA.Posterior(prior, likelihood, lambda x: x), proposal, prior.mean)
    chain.sample(COUNT, progressbar=False)
    return np.array([link.parameters for link in chain.chain[400:]])


prior = scipy.stats.multivariate_normal([5.0, 5.0], np.eye(2))
found = {}
for proposal in (tinyDA.GaussianRandomWalk(np.eye(2)), tinyDA.CrankNicolson(scaling=0.7)):
    name = type(proposal).__name__
    x = run(prior, [7.0, 7.0], 1.0, proposal)
    found[name] = x.mean()
    print(f"prior N(5, 1), observed 7 +- 1, {name}: mean {x.mean():.2f} +- {x.std():.2f} (should be 6 +- 0.71)")
assert abs(found["GaussianRandomWalk"] - 6) < 0.25
assert abs(found["CrankNicolson"] - 3.5) < 0.25, "the prior's mean is used now"

prior = scipy.stats.multivariate_normal([0.0, 0.0], [[1.0, 0.9], [0.9, 1.0]])
for name, proposal, expected in (
    ("GaussianRandomWalk", tinyDA.GaussianRandomWalk(np.eye(2)), 0.9),
    ("operator 0.5, 0.5", tinyDA.OperatorWeightedCrankNicolson(B=0.5 * np.eye(2)), 0.9),
    ("operator 0.99, 0.2", tinyDA.OperatorWeightedCrankNicolson(B=np.diag([0.99, 0.2])), 0.44),
):
    found = np.corrcoef(run(prior, [0.0, 0.0], 1e4, proposal).T)[0, 1]
    print(f"prior of correlation 0.9, hardly any data, {name}: correlation {found:.2f} (should be 0.90)")
    assert abs(found - expected) < 0.15, "the operator keeps the prior now"
print("the prior of the chain is another")
PY
"$dir/venv/bin/python" "$dir/run.py"
