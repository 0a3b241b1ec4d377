#!/usr/bin/env bash
# tinyDA's PoissonPointProcess leaves the prior of the points' attributes out: standard deviation 0.36 for 0.20, and of
# radii from 1 to 2 there are 9 % outside. A state without points ends in an IndexError.
#
# A point of the process has a place and attributes, each with a distribution of its own. New points draw from it;
# logpdf has the probability of the number of points and minus infinity outside of the domain, and does not look at the
# attributes. The move "perturb" of PoissonPointProposal adds to one of them and is accepted as if the prior were flat:
# an attribute walks away until its point is destroyed, and to where its prior has no mass.
#
# Where points are few, a chain comes to a state of none, of probability 0.14 for a mean of 2. logpdf cannot take it.
#
# A likelihood that is 1 everywhere, so that the posterior is the prior; the default moves.
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
import random
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
UNIT = np.array([[0.0, 1.0], [0.0, 1.0]])


class Flat:
    def loglike(self, _):
        return 0.0


def run(points, attribute, count=6000):
    np.random.seed(0)
    random.seed(0)
    prior = tinyDA.PoissonPointProcess(points, UNIT, {"radius": attribute})
    posterior = tinyDA.Posterior(prior, Flat(), lambda x: np.array([float(len(x))]))
    start = [prior._create_point() for _ in range(points)]
    chain = Chain(posterior, tinyDA.PoissonPointProposal(), start)
    chain.sample(count, progressbar=False)
    states = [link.parameters for link in chain.chain[500:]]
    return np.mean([len(x) for x in states]), np.array([point["radius"] for x in states for point in x])


number, radius = run(20, scipy.stats.norm(3.0, 0.2))
print(f"radius N(3, 0.2^2): {number:.1f} points (should be 20), radius {radius.mean():.2f} +- {radius.std():.2f}")
assert abs(number - 20) < 3
assert radius.std() > 0.28, "the prior of an attribute is used now"
number, radius = run(20, scipy.stats.uniform(1.0, 1.0))
outside = np.mean((radius < 1) | (radius > 2))
print(f"radius from 1 to 2: {100 * outside:.0f} % of the points are outside, {radius.min():.2f} to {radius.max():.2f}")
assert outside > 0.05, "the support of an attribute is used now"
try:
    run(2, scipy.stats.norm(3.0, 0.2))
    raise SystemExit("a state without points is possible now")
except IndexError as error:
    print("a mean of 2 points: IndexError:", error)
print("attributes have no prior")
PY
"$dir/venv/bin/python" "$dir/run.py"
