#!/usr/bin/env bash
# sbgm's SubVPSDE trains on twice the noise that its own process adds: samples of 0.83 or 0.60 for 0.30.
#
# The sub-VP SDE, g^2 = beta (1 - exp(-2 B)) with B the integral of beta, has the standard deviation 1 - exp(-B) (Song et
# al. 2021, equation 29), as its documentation says too. marginal_prob returns 1 - exp(-2 B): 0.197 at t = 0.1, where the
# process has 0.104. The network learns the score of data with that noise, and sampling runs the SDE with g.
#
# The variance of the process integrated from its own drift and diffusion, and scores that are exact for N(0.5, 0.3^2)
# perturbed by marginal_prob, run back in 2,000 steps. VPSDE is right.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 scipy==1.17.1 equinox==0.13.8 jaxtyping==0.3.11 \
  beartype==0.23.1
# Without its requirements, of which its SDEs need none but these: it asks for older ones and for Python 3.12.
"$dir/venv/bin/pip" install -q --no-deps --ignore-requires-python sbgm==0.0.38
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

# The package without the modules of its networks and its data sets.
for name in ("sbgm", "sbgm.sde"):
    package = ModuleType(name)
    package.__path__ = [str(distribution("sbgm").locate_file(name.replace(".", "/")))]
    sys.modules[name] = package
from sbgm.sde._subvp import SubVPSDE
from sbgm.sde._vp import VPSDE

print("sbgm", version("sbgm"), "jax", jax.__version__)
MEAN, STD, STEPS = 0.5, 0.3, 2000
dt = 1 / STEPS
times = (np.arange(STEPS) + 0.5) * dt
one = jnp.ones((1,))


def values(sde):
    """f, g, the factor of the data and the standard deviation at all times, as the package has them."""

    def at(t):
        drift, diffusion = sde.sde(one, t)
        mean, std = sde.marginal_prob(one, t)
        return drift[0], diffusion, mean[0], std

    return [np.asarray(v, dtype=np.float64) for v in jax.vmap(at)(jnp.asarray(times, dtype=jnp.float32))]


for kind in (VPSDE, SubVPSDE):
    f, g, kept, said = values(kind(lambda t: 0.1 * t + 9.95 * t**2))
    variance, off = 0.0, 0.0
    for i in range(STEPS):
        if i in (200, 400, 600):
            off = max(off, said[i] / variance**0.5)
            print(f"{kind.__name__}, t = {times[i]:.1f}: marginal_prob {said[i]:.3f}, the process {variance**0.5:.3f}")
        variance += (2 * f[i] * variance + g[i] ** 2) * dt
    for ode in (False, True):
        random = np.random.default_rng(0)
        x = random.standard_normal(20000)
        for i in reversed(range(STEPS)):
            score = -(x - kept[i] * MEAN) / ((kept[i] * STD) ** 2 + said[i] ** 2)
            x = x - (f[i] * x - g[i] ** 2 * score * (0.5 if ode else 1)) * dt
            if not ode:
                x = x + g[i] * dt**0.5 * random.standard_normal(x.shape)
        std = float(x.std())
        print(f"{kind.__name__}, {'ODE' if ode else 'SDE'}: standard deviation {std:.3f} (should be {STD})")
        assert std > 0.5 if kind is SubVPSDE else abs(std - STD) < 0.01, "samples have the right width now"
    assert off > 1.5 if kind is SubVPSDE else off < 1.02, "marginal_prob is that of the process now"
print("the noise of SubVPSDE is not that of its process")
PY
"$dir/venv/bin/python" "$dir/run.py"
