#!/usr/bin/env bash
# geosss norms the von Mises-Fisher distribution on the circle whatever the sphere: in three dimensions a wide and a
# narrow one, mixed with equal weights, have 0.87 and 0.13.
#
# log_prob divides by 2 pi I_0(kappa), which is the integral over the circle; over the sphere of three dimensions that
# is 4 pi sinh(kappa) / kappa. It makes no difference to one distribution that is sampled, but MixtureModel relies on
# it. log_Z is another value, kappa times too large.
#
# BinghamFisher's gradient is Bingham's: it leaves out the linear term.
#
# Integrals over the sphere; the density depends on the height only.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 scipy==1.17.1
# Without arviz, which is for plots.
"$dir/venv/bin/pip" install -q --no-deps geosss==0.3.5
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import numpy as np
from geosss.distributions import BinghamFisher, MixtureModel, VonMisesFisher

print("geosss", version("geosss"), "numpy", np.__version__, "scipy", version("scipy"))
height = np.linspace(-1, 1, 400001)
points = np.stack([np.sqrt(1 - height**2), 0 * height, height], axis=1)


def integral(distribution, part=slice(None)):
    return 2 * np.pi * float(np.trapezoid(np.exp(distribution.log_prob(points))[part], height[part]))


for kappa in (1.0, 10.0, 100.0):
    distribution = VonMisesFisher([0, 0, kappa])
    found = integral(distribution)
    should = kappa + np.log(2 * np.pi * (1 - np.exp(-2 * kappa)) / kappa)
    # What it has is to be read without exp(kappa), which it takes out.
    print(
        f"kappa {kappa:g}: the density integrates to {found:.2f} (should be 1), log_Z without kappa"
        f" {distribution.log_Z:.2f} (should be {should - kappa:.2f})"
    )
    assert abs(found - 1) > 0.2, "it is normed on the sphere now"
    assert abs(distribution.log_Z - (should - kappa) - np.log(kappa)) < 1e-6
mixture = MixtureModel([VonMisesFisher([0, 0, 10.0]), VonMisesFisher([0, 0, -500.0])])
half = len(height) // 2
above, below = integral(mixture, slice(half, None)), integral(mixture, slice(None, half + 1))
weight = above / (above + below)
print(f"kappa 10 and 500, weights {mixture.weights}: {weight:.2f} and {1 - weight:.2f} of the mixture (should be 0.50)")
assert weight > 0.8
A, b, x = np.diag([1.0, 0.0, -1.0]), np.array([0.0, 3.0, 0.0]), np.array([0.6, 0.0, 0.8])
distribution = BinghamFisher(A, b)
steps = 1e-5 * np.eye(3)
measured = np.array([(distribution.log_prob(x + s) - distribution.log_prob(x - s)) / 2e-5 for s in steps])
print(f"BinghamFisher's gradient: {distribution.gradient(x)} (should be {measured.round(3)})")
assert np.allclose(measured - distribution.gradient(x), b, atol=1e-4), "the linear term is in the gradient now"
print("the norm is the circle's")
PY
"$dir/venv/bin/python" "$dir/run.py"
