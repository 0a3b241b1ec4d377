#!/usr/bin/env bash
# mcmctoolbox's HamiltonianMonteCarlo does not sample its target: N(0, 1) has the standard deviation 0.07 with four
# steps of 0.8, and 0.6 with one step of any length.
#
# Leapfrog kicks the momentum by half a step, then by a whole one between any two steps of the position, and at the end
# by half a step; the momentum's sign may be turned then. Here the first of the whole kicks is a half, and the sign is
# turned before the last kick, which so takes back what the one before it did. Such a path is not its own reverse, and
# the acceptance, which relies on that, no longer keeps the target. Many steps that are short hide it.
#
# The last row of a chain is never written, it stays 0; so it does with tmala and famala.
#
# N(0, 1) from 0, with a plain Metropolis chain of the library beside it.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 scipy==1.17.1 tqdm==4.70.1
# Without its requirements, which are for plots and documentation.
"$dir/venv/bin/pip" install -q --no-deps mcmctoolbox==0.21.0
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import version
from types import ModuleType

import numpy as np

for name in ("matplotlib", "matplotlib.pyplot", "seaborn"):
    sys.modules[name] = ModuleType(name)
from mcmctoolbox.mcmc import MCMCFactory

print("mcmctoolbox", version("mcmctoolbox"), "numpy", np.__version__, "scipy", version("scipy"))


def run(name, mean=0.0, count=4000, **settings):
    np.random.seed(0)

    def log_density(x):
        return -0.5 * float((x - mean) @ (x - mean))

    chain = MCMCFactory.create(name, log_density, np.full(1, mean), lambda x: mean - x, nits=count, verbose=False)
    chain.sample(**settings)
    x = chain.store[count // 20 : -2]
    print(f"{name} {settings}: {x.mean():.2f} +- {x.std():.2f} (should be {mean} +- 1), {chain.acc:.2f} accepted")
    return chain, float(x.std())


assert abs(run("rwm", epsilon=2.0, count=20000)[1] - 1) < 0.1
for step in (0.14, 0.5):
    assert run("hmc", delta=step, L=1)[1] < 0.75, "one step is leapfrog's now"
assert run("hmc", delta=0.5, L=2)[1] < 0.93
assert run("hmc", delta=0.8, L=4)[1] < 0.3, "four steps are leapfrog's now"
chain, std = run("hmc", mean=100.0)
whole = chain.store.std()
print(f"the default settings around 100: {std:.2f}, and {whole:.2f} with the last row, which is {chain.store[-1, 0]}")
assert chain.store[-1, 0] == 0 and whole > 1.5, "the last row is written now"
print("the path is not leapfrog's")
PY
"$dir/venv/bin/python" "$dir/run.py"
