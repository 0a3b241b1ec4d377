#!/usr/bin/env bash
# diffuse-jax's EDM has the noise of another process: never more than 0.999, and a diffusion of 1 for sqrt(2 t).
#
# EDM is x_t = x_0 + t eps, so that sigma(t) = t and, since g^2 is the derivative of sigma^2, g(t) = sqrt(2 t) (Karras
# et al. 2022, equations 1 and 4). noise_level cuts t to at most 0.999, whatever tf, where the timer made for EDM starts
# at 80; sde_coefficients says g = 1. The velocity of the probability-flow ODE, -g^2 score / 2, is 1 / (2 t) of what it
# should be: neither the ODE nor the SDE, started from the right distribution, leads back to the data.
#
# Exact scores of N(0.5, 0.3^2), started at t = 0.9, where no noise level is cut off, from N(0.5, 0.3^2 + 0.9^2). Flow,
# started from its own distribution there, is right.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 scipy==1.17.1 jaxtyping==0.3.11
# Without what its networks and its plots need.
"$dir/venv/bin/pip" install -q --no-deps diffuse-jax==0.1.0
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import jax
import jax.numpy as jnp
from diffuse.diffusion.sde import EDM, Flow
from diffuse.predictor import Predictor

print("diffuse-jax", version("diffuse-jax"), "jax", jax.__version__)
MEAN, STD, START, END, STEPS = 0.5, 0.3, 0.9, 1e-3, 400
edm = EDM(tf=80.0)
for t in (0.5, 2.0, 80.0):
    sigma, g = float(edm.noise_level(jnp.array(t))), float(edm.sde_coefficients(jnp.array(t))[1])
    print(f"EDM(tf=80), t = {t}: sigma {sigma:.3f} (should be {t}), g {g:.3f} (should be {(2 * t) ** 0.5:.3f})")
assert float(edm.noise_level(jnp.array(80.0))) < 1 and float(edm.sde_coefficients(jnp.array(80.0))[1]) == 1


def sample(model, sde):
    """The reverse ODE or SDE with the velocity, the score, f and g of the package."""

    def score(x, t):
        a = 1.0 if isinstance(model, EDM) else 1 - t
        return -(x - a * MEAN) / ((a * STD) ** 2 + t**2)

    predictor = Predictor(model, score, "score")
    a = float(model.signal_level(jnp.array(START)))
    key = jax.random.PRNGKey(0)
    x = a * MEAN + ((a * STD) ** 2 + START**2) ** 0.5 * jax.random.normal(key, (10000,))
    dt = (START - END) / STEPS
    for i in range(STEPS):
        t = jnp.array(START - i * dt)
        x = x - predictor.velocity(x, t) * dt
        if sde:
            g = model.sde_coefficients(t)[1]
            x = x + g**2 / 2 * predictor.score(x, t) * dt + g * dt**0.5 * jax.random.normal(jax.random.PRNGKey(i + 1), x.shape)
    return float(x.mean()), float(x.std())


for model in (Flow(), EDM()):
    for sde in (False, True):
        mean, std = sample(model, sde)
        print(
            f"{type(model).__name__}, {'SDE' if sde else 'ODE'}, {STEPS} steps: mean {mean:.3f}, standard deviation {std:.3f}"
            f" (should be {MEAN}, {STD})"
        )
        if isinstance(model, EDM):
            assert abs(std - STD) > 0.05, "the diffusion of EDM belongs to its noise now"
        else:
            assert abs(mean - MEAN) < 0.02 and abs(std - STD) < 0.02
print("EDM has the noise of another process")
PY
"$dir/venv/bin/python" "$dir/run.py"
