#!/usr/bin/env bash
# fusions' Diffusion starts its samples where its process does not end: data of mean 2 come out at 1.87.
#
# The variance-preserving process of Diffusion has beta from 0.001 to 3, fixed in the class, where Song et al. 2021
# (appendix C) have 0.1 to 20. At t = 1 it keeps exp(-0.75) = 0.47 of the data and has noise of 0.88; samples start from
# the prior, N(0, 1), as if nothing were left. With data of standard deviation 0.5 the mean is drawn towards that of the
# prior by 7 % of the distance, though the score is exact.
#
# Exact scores of N(2, 0.5^2) and N(5, 0.5^2), run back by reverse_process from N(0, 1) and from where the process ends.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 scipy==1.17.1
# Without its requirements, which its networks and its nested sampling need.
"$dir/venv/bin/pip" install -q --no-deps fusions==0.4.3
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import jax
import jax.numpy as jnp

# The package without the modules of its networks, of which reverse_process uses nothing.
package = ModuleType("fusions")
package.__path__ = [str(distribution("fusions").locate_file("fusions"))]
sys.modules["fusions"] = package
sys.modules["fusions.model"] = ModuleType("fusions.model")
sys.modules["fusions.model"].Model = object
from fusions.diffusion import Diffusion

print("fusions", version("fusions"), "jax", jax.__version__)
STD = 0.5
diffusion = Diffusion()
kept, noise = float(diffusion.mean_factor(1.0)), float(diffusion.var(1.0)) ** 0.5
print(f"beta from {diffusion.beta_min} to {diffusion.beta_max}: at t = 1 {kept:.3f} of the data and noise of {noise:.3f}")
assert kept > 0.4, "the process ends in the prior now"


def score(x, t):
    """Of two columns, of mean 2 and 5."""
    a = diffusion.mean_factor(t)
    return -(x - a * jnp.array([2.0, 5.0])) / ((a * STD) ** 2 + diffusion.var(t))


start = jax.random.normal(jax.random.PRNGKey(0), (10000, 2))
end = kept * jnp.array([2.0, 5.0]) + ((kept * STD) ** 2 + noise**2) ** 0.5 * start
for name, begin in (("the prior", start), ("the end of the process", end)):
    x = diffusion.reverse_process(begin, score, jax.random.PRNGKey(1))[0][:, -1]
    for i, should in enumerate((2.0, 5.0)):
        mean, std = float(x[:, i].mean()), float(x[:, i].std())
        print(f"from {name}: mean {mean:.3f} (should be {should}), standard deviation {std:.3f} (should be {STD})")
        if begin is start:
            assert 0.05 < 1 - mean / should < 0.08, "samples start where the process ends now"
        else:
            assert abs(mean / should - 1) < 0.01
print("the samples are drawn towards the prior")
PY
"$dir/venv/bin/python" "$dir/run.py"
