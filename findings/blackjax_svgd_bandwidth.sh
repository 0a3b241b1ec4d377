#!/usr/bin/env bash
# blackjax's SVGD begins a second run with the kernel's bandwidth of the first one, and a state that was kept changes
# under the hands of whoever keeps it.
#
# init(particles) has a dictionary with the bandwidth 1 for its default argument, made once for each algorithm object. A
# step writes the new bandwidth, by the median heuristic, into the dictionary of the state it was given. So that is
# the default of the next init too: the same particles take another first step, depending on what ran before. Where
# init and step run inside jax.jit, what is written is a tracer, and the next run outside raises
# UnexpectedTracerError. A dictionary of one's own for each init is right.
#
# The same particles and N(0, 1), after runs on other particles.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q blackjax==1.7.1 jax==0.10.2 jaxlib==0.10.2 optax==0.2.8 numpy==2.4.6 scipy==1.17.1
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import blackjax, jax, jax.numpy as jnp, optax

print("blackjax", version("blackjax"), "jax", jax.__version__, "optax", optax.__version__)
particles = jnp.linspace(-1.0, 1.0, 5)[:, None]
algorithm = blackjax.svgd(jax.grad(lambda x: -0.5 * jnp.sum(x**2)), optax.sgd(0.5))


def first(state):
    return float(algorithm.step(state).particles[-1, 0])


def bandwidth(state):
    return float(state.kernel_parameters["length_scale"])


kept = algorithm.init(particles)
print(f"a new state: bandwidth {bandwidth(kept):.3f}")
assert bandwidth(kept) == 1.0
fresh = first(kept)
print(f"first step to {fresh:.3f}; the state before the step has bandwidth {bandwidth(kept):.3f} now")
assert bandwidth(kept) != 1.0, "a step leaves its state alone now"

algorithm.step(algorithm.init(100 * particles))
again = algorithm.init(particles)
print(f"after a step on other particles, a new state: bandwidth {bandwidth(again):.1f}; that of before: {bandwidth(kept):.1f}")
assert bandwidth(again) > 1000 and bandwidth(kept) > 1000, "runs are apart now"
after = first(again)
own = first(algorithm.init(particles, {"length_scale": 1.0}))
print(f"the same first step goes to {after:.3f} now, with a dictionary of its own to {own:.3f}")
assert abs(own - fresh) < 1e-6 and abs(after - fresh) > 0.05, "the first step does not depend on other runs now"

jax.jit(lambda p: algorithm.step(algorithm.init(p)).particles)(particles)
try:
    first(algorithm.init(particles))
    raised = None
except jax.errors.UnexpectedTracerError as error:
    raised = type(error).__name__
print(f"after the same inside jax.jit the next run raises {raised}")
assert raised, "a run inside jit leaves nothing behind now"
print("the default bandwidth is shared by all runs of an algorithm")
PY
JAX_PLATFORMS=cpu "$dir/venv/bin/python" "$dir/run.py"
