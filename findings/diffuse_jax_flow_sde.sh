#!/usr/bin/env bash
# diffuse-jax's Euler-Maruyama integrator has the drift of the variance-preserving SDE whatever the model.
#
# A forward process dx = f(t) x dt + g(t) dW is run back with the drift -f(t) x + g(t)^2 score (Song et al. 2021,
# equation 6). The integrator asks the model for f and g and uses g(t)^2 (x / 2 + score), which is the same where
# f = -g^2 / 2: for SDE. For Flow, x_t = (1 - t) x_0 + t eps, the model says f = -1 / (1 - t) and g^2 = 2 t / (1 - t),
# and the difference of x per unit of time is left out. More steps do not mend it.
#
# Exact scores of N(0.5, 0.3^2).
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
from diffuse.diffusion.sde import SDE, Flow, LinearSchedule
from diffuse.integrator import EulerMaruyamaIntegrator
from diffuse.predictor import Predictor
from diffuse.timer import VpTimer

print("diffuse-jax", version("diffuse-jax"), "jax", jax.__version__)
MEAN, STD = 0.5, 0.3


def sample(model, steps):
    def score(x, t):
        a, s = model.signal_level(t), model.noise_level(t)
        return -(x - a * MEAN) / ((a * STD) ** 2 + s**2)

    integrator = EulerMaruyamaIntegrator(model, VpTimer(steps, 1e-3, 0.999))
    predictor = Predictor(model, score, "score")
    state = integrator.init(jax.random.normal(jax.random.PRNGKey(0), (10000,)), jax.random.PRNGKey(1))
    for _ in range(steps):
        state = integrator(state, predictor)
    return float(state.position.mean()), float(state.position.std())


for model in (SDE(LinearSchedule(0.1, 20.0, 0.0, 1.0)), Flow()):
    for steps in (100, 400):
        mean, std = sample(model, steps)
        print(
            f"{type(model).__name__}, {steps} steps: mean {mean:.3f}, standard deviation {std:.3f}"
            f" (should be {MEAN}, {STD})"
        )
        if isinstance(model, Flow):
            assert mean < 0.45 and std < 0.27, "the drift is that of the model now"
        else:
            assert abs(mean - MEAN) < 0.03 and abs(std - STD) < 0.03
print("Euler-Maruyama has the drift of another model")
PY
"$dir/venv/bin/python" "$dir/run.py"
