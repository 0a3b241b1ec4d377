#!/usr/bin/env bash
# SGMCMCJax's badodab samples at a temperature that grows with the number of parameters, standard deviation 3.2 for 1
# with ten of them; and baoab's tau, documented as the temperature, is its square root.
#
# The thermostat of BADODAB (Leimkuhler and Shang 2015) adapts the friction until the momenta's squared norm is the
# number of parameters. The library has the norm itself there, not its square. So the squared norm comes to be the
# square of their number, each parameter has their number for its temperature, and a posterior of a thousand parameters
# is 30 times as wide as it should be. baoab multiplies the noise of its momenta by tau, where Leimkuhler and Matthews
# (2013) have the square root of the temperature.
#
# N(0, 1) in each parameter, exact gradients. sgnht, the other thermostat, for comparison.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 scipy==1.17.1
# Without its requirements, which its samplers need for their progress bars.
"$dir/venv/bin/pip" install -q --no-deps SGMCMCJax==0.2.13
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import jax
import jax.numpy as jnp
from sgmcmcjax.diffusions import badodab, baoab, sgnht

print("SGMCMCJax", version("SGMCMCJax"), "jax", jax.__version__)
COUNT = 100000


def spread(diffusion, size):
    """The standard deviation of the samples."""
    init, update, parameters = diffusion
    first, second = update if isinstance(update, tuple) else (update, None)

    def body(carry, i):
        state, key = carry
        key, a, b = jax.random.split(key, 3)
        state = first(i, a, -parameters(state), state)
        if second:
            state = second(i, b, -parameters(state), state)
        return (state, key), parameters(state)

    _, x = jax.jit(lambda: jax.lax.scan(body, (init(jnp.zeros(size)), jax.random.PRNGKey(0)), jnp.arange(COUNT)))()
    return float(x[COUNT // 5 :].std())


for size in (2, 10, 100):
    other = spread(sgnht(0.01, a=0.1), size)
    found = spread(badodab(0.1, a=1.0), size)
    print(f"{size} parameters: sgnht {other:.2f}, badodab {found:.2f} (should be 1)")
    assert abs(other - 1) < 0.15
    if size > 2:
        assert abs(found / size**0.5 - 1) < 0.2, "the temperature does not grow with the parameters now"
for tau in (1.0, 4.0):
    found = spread(baoab(0.1, gamma=1.0, tau=tau), 10)
    print(f"baoab, tau {tau}: {found:.2f} (should be {tau**0.5})")
    assert abs(found / tau - 1) < 0.1, "tau is the temperature now"
print("the temperature is another")
PY
"$dir/venv/bin/python" "$dir/run.py"
