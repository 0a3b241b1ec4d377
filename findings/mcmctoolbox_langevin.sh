#!/usr/bin/env bash
# mcmctoolbox: the tamed and the Fisher-adaptive Langevin samplers do not sample their target. For N(0, 1) tmala with
# its default step wanders off to 60, and famala's standard deviation is 0.23.
#
# The tamed one (Brosse et al. 2019) adds the noise to a step against the gradient, downhill, though the gradient is
# documented as that of the logarithm of the density; its acceptance is that of steps along it. With the gradient's sign
# turned by the caller the two disagree the other way round: 0.60.
#
# The Fisher-adaptive one (Titsias 2023, proposition 1) moves with a preconditioner, which its acceptance leaves out:
# the correction has sigma^2 / 4 times the gradient where the paper has sigma^2 / 4 times the preconditioned one.
#
# N(0, 1) from 0, with a plain Metropolis chain and the plain Langevin sampler of the library beside them.
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
from mcmctoolbox.mcmc import MCMCFactory, MetropolisAdjustedLangevinAlgorithm

print("mcmctoolbox", version("mcmctoolbox"), "numpy", np.__version__, "scipy", version("scipy"))
assert "Gradient of the logarithm of the target" in MetropolisAdjustedLangevinAlgorithm.__init__.__doc__


def run(name, sign=1, count=20000, **settings):
    np.random.seed(0)
    chain = MCMCFactory.create(
        name, lambda x: -0.5 * np.sum(x**2), np.zeros(1), lambda x: -sign * x, nits=count, verbose=False
    )
    chain.sample(**settings)
    x = chain.store[count // 10 : -2]
    what = ", the gradient's sign turned" if sign < 0 else ""
    print(f"{name} {settings}{what}: {x.mean():.2f} +- {x.std():.2f} (should be 0 +- 1), {chain.acc:.2f} accepted")
    return float(x.mean()), float(x.std())


assert abs(run("rwm", epsilon=2.0)[1] - 1) < 0.1
assert abs(run("mala", epsilon=1.0, count=4000)[1] - 1) < 0.1
mean, std = run("tmala")
assert abs(mean) > 20, "the tamed sampler stays now"
for step in (0.3, 1.0):
    assert run("tmala", epsilon=step)[1] > 1.4, "the tamed sampler has its target now"
for step in (0.01, 0.3):
    assert run("tmala", -1, epsilon=step)[1] < 0.75
assert run("famala")[1] < 0.4, "the preconditioner is in the acceptance now"
print("neither samples its target")
PY
"$dir/venv/bin/python" "$dir/run.py"
