#!/usr/bin/env bash
# diffusionjax's Langevin steps do not sample: the corrector adds noise of standard deviation 2 dt instead of sqrt(2
# dt), and ULangevin drifts away from where the density is.
#
# A Langevin step is x + dt score + sqrt(2 dt) z. solvers.Annealed, the corrector of Song et al. 2021, multiplies z by
# 2 dt. With the usual signal-to-noise ratios dt is below 1/2, so there is too little noise: steps at one level, which
# should leave its law as it is, shrink it to less than half. sde.ULangevin has the drift -score(x) and diverges; with
# a score of the opposite sign the same solver keeps the law.
#
# Both are run on a Gaussian of known score, started from that Gaussian.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 scipy==1.17.1
# Without its own requirements, which are of no use here.
"$dir/venv/bin/pip" install -q --no-deps diffusionjax==0.1.8
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import jax, jax.numpy as jnp
from diffusionjax.sde import VP, ULangevin
from diffusionjax.solvers import Annealed, EulerMaruyama

print("diffusionjax", version("diffusionjax"), "jax", jax.__version__)
S, COUNT = 0.5, 2000
forward = VP()


def score(x, t):
    """Of the law at t of the forward process from N(0, S^2)."""
    m = forward.mean_coeff(t)
    return -x / (m**2 * S**2 + 1 - m**2).reshape(-1, 1)


t = jnp.full((COUNT,), 0.3)
m = float(forward.mean_coeff(0.3))
want = (m**2 * S**2 + 1 - m**2) ** 0.5
start = want * jax.random.normal(jax.random.PRNGKey(0), (COUNT, 16))


def published(snr):
    """The corrector of Song et al. 2021, algorithm 5."""

    def update(key, x):
        z, g = jax.random.normal(key, x.shape), score(x, t)
        norm = lambda v: jnp.linalg.norm(v, axis=-1).mean()
        dt = 2 * m**2 * (snr * norm(z) / norm(g)) ** 2
        return x + dt * g + jnp.sqrt(2 * dt) * z

    return jax.jit(update)


for snr in (0.05, 0.16):
    corrector = Annealed(forward.reverse(score), snr=snr)
    # update asks for a mapped axis named "batch".
    library = jax.jit(jax.vmap(lambda key, x: corrector.update(key, x, t)[0], axis_name="batch", in_axes=(None, 0)))
    step, ours, theirs = published(snr), start, start[None]
    for i in range(2000):
        key = jax.random.PRNGKey(i)
        ours, theirs = step(key, ours), library(key, theirs)
    out, right = float(theirs.std()), float(ours.std())
    print(f"corrector, snr {snr}: standard deviation after 2000 steps {out:.3f}, as published {right:.3f} (should be {want:.3f})")
    assert out < 0.5 * want and abs(right - want) < 0.05 * want, "the corrector keeps the law now"

for sign in (1, -1):
    sde = ULangevin(lambda x, _: -sign * x / S**2)
    sde.prior = None
    solver = EulerMaruyama(sde, ts=jnp.linspace(0, 2, 2001))
    update = jax.jit(lambda key, x: solver.update(key, x, t)[0])
    x = S * jax.random.normal(jax.random.PRNGKey(1), (COUNT, 16))
    for i in range(2000):
        x = update(jax.random.PRNGKey(i), x)
    name = "the score" if sign == 1 else "minus the score"
    print(f"ULangevin given {name}: standard deviation after time 2 {float(x.std()):.3g} (should be {S})")
    assert (float(x.std()) > 100) == (sign == 1) and (sign == 1 or abs(float(x.std()) - S) < 0.02), "ULangevin keeps the law now"
print("neither Langevin step has its law for a fixed point")
PY
"$dir/venv/bin/python" "$dir/run.py"
