#!/usr/bin/env bash
# jaxfm's CFM draws its noise with the key of its times: for one column the noise is a function of the time, and the
# samples have another mean, 1.82 for 2.
#
# get_train_tuple takes z_t = (1 - t) z_0 + t z_1 + noise e, with e from N(0, 1) (Lipman et al. 2023; Tong et al. 2024).
# t and e come from the same PRNG key. For data of one column the same bits make both of a row, so that e is the
# quantile of N(0, 1) at t: far below zero in the beginning of the path, far above at its end. What should blur the path
# bends it. For more columns the bits fall on other rows.
#
# Data N(2, 0.5^2), the best network that is linear in z at each of 100 times, fitted to what get_train_tuple gives, and
# to the same with an e of its own key; samples by sample_ode.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q jaxfm==0.1.3 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 scipy==1.17.1 jaxtyping==0.3.11 \
  equinox==0.13.8 optax==0.2.8 matplotlib==3.11.2 tqdm==4.70.1
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import jax
import jax.numpy as jnp
from jaxfm.flows import CFM

print("jaxfm", version("jaxfm"), "jax", jax.__version__)
MEAN, STD, COUNT, TIMES = 2.0, 0.5, 400000, 100


def place(t):
    return jnp.clip((t * TIMES).astype(int), 0, TIMES - 1)


def fit(z, t, target):
    """The best linear network at each time."""
    columns = jnp.stack([jnp.ones(COUNT), z[:, 0]], axis=1)
    square = jax.ops.segment_sum(columns[:, :, None] * columns[:, None], place(t[:, 0]), TIMES)
    right = jax.ops.segment_sum(columns * target, place(t[:, 0]), TIMES)
    weights = jnp.linalg.solve(square, right[:, :, None])[:, :, 0]
    return lambda z, t: weights[place(t[0]), 0] + weights[place(t[0]), 1] * z


keys = jax.random.split(jax.random.PRNGKey(0), 5)
z0 = jax.random.normal(keys[0], (COUNT, 1))
z1 = MEAN + STD * jax.random.normal(keys[1], (COUNT, 1))
for noise in (0.1, 0.5):
    flow = CFM(num_steps=TIMES, noise=noise)
    z, t, target = flow.get_train_tuple(z0, z1, keys[2])
    path = (1 - t) * z0 + t * z1
    correlation = float(jnp.corrcoef((z - path)[:, 0], t[:, 0])[0, 1])
    means = []
    for name, state in (
        ("as it is", z),
        ("with a key of its own", path + noise * jax.random.normal(keys[3], (COUNT, 1))),
    ):
        flow.model = fit(state, t, target)
        x = flow.sample_ode(jax.random.normal(keys[4], (20000, 1)))[-1]
        means.append(float(x.mean()))
        std = float(x.std())
        print(f"noise {noise}, {name}: mean {means[-1]:.3f} (should be {MEAN}), standard deviation {std:.3f}")
    print(f"noise {noise}: correlation of noise and time {correlation:.3f} (should be 0)")
    assert correlation > 0.95, "the noise does not depend on the time now"
    assert abs(means[1] - MEAN) < 0.015
    assert means[0] < means[1] - 0.3 * noise
print("the noise is a function of the time")
PY
"$dir/venv/bin/python" "$dir/run.py"
