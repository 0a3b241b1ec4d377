#!/usr/bin/env bash
# mcmckit's effective sample size leaves out the first pair of autocorrelations: nearly all of the samples with a
# correlation of 0.5 from one to the next, where it is a third of them.
#
# Geyer's initial positive sequence (1992) sums the pairs rho(2k) + rho(2k + 1) from k = 0 on, and the time between
# independent samples is -1 + 2 times the sum. The library begins with k = 1: 1 + 2 rho(1) is missing, which is all
# there is for a chain that forgets quickly. Result.ess() and convergence_summary() report the same, and the standard
# errors by it are too small by up to the square root of 3.
#
# Autoregressive chains of first order, whose effective size is n (1 - phi) / (1 + phi).
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6
"$dir/venv/bin/pip" install -q --no-deps mcmckit==0.3.1
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import numpy as np
from mcmckit.core.diagnostics import convergence_summary, ess

print("mcmckit", version("mcmckit"), "numpy", np.__version__)
COUNT = 20000
rng = np.random.default_rng(0)


def chains(phi, number):
    """One chain in each column."""
    x = rng.standard_normal((COUNT, number))
    x[1:] *= np.sqrt(1 - phi**2)
    for i in range(1, COUNT):
        x[i] += phi * x[i - 1]
    return x


for phi in (0.0, 0.3, 0.5, 0.7, 0.9):
    x = chains(phi, 200)
    found, should = ess(x).mean(), COUNT * (1 - phi) / (1 + phi)
    measured = 1 / np.var(x.mean(axis=0))
    print(f"correlation {phi}: effective size {found:.0f} (should be {should:.0f}; by the means of 200 {measured:.0f})")
    assert abs(measured / should - 1) < 0.3
    if 0.3 <= phi <= 0.7:
        assert found > 1.5 * should, "the first pair counts now"
summary = convergence_summary([chains(0.5, 1), chains(0.5, 1)])
print("convergence_summary, correlation 0.5:", [round(float(e[0])) for e in summary["ess"]])
assert min(float(e[0]) for e in summary["ess"]) > 0.9 * COUNT
print("the first pair is left out")
PY
"$dir/venv/bin/python" "$dir/run.py"
