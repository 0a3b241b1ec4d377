#!/usr/bin/env bash
# mcflow's Geweke diagnostic takes a chain's samples for independent ones: it calls two of three stationary chains with
# a correlation of 0.9 unconverged.
#
# It is documented as a z-score, of which |z| below 2 is consistent with a stationary chain. Geweke (1992) divides the
# difference of the two means by their standard errors, which he takes from the spectral density at 0. The library takes
# the variances of the samples over their numbers. Those are too small by the time between independent samples, 19 here,
# and the scores too large by its square root.
#
# Autoregressive chains of first order, drawn from their stationary distribution. Its effective_sample_size_correlated
# knows of the 19.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 scipy==1.17.1 tqdm==4.70.1
# Without matplotlib, which is for plots.
"$dir/venv/bin/pip" install -q --no-deps mcflow-py==0.1.2
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import version
from types import ModuleType

import numpy as np

for name in ("matplotlib", "matplotlib.pyplot"):
    sys.modules[name] = ModuleType(name)
sys.modules["matplotlib.pyplot"].Axes = object
from mcflow import effective_sample_size_correlated, geweke_diagnostic

print("mcflow-py", version("mcflow-py"), "numpy", np.__version__)
assert "z-score" in geweke_diagnostic.__doc__, "it is not documented so now"
COUNT, CHAINS = 5000, 400
for correlation in (0.0, 0.5, 0.9, 0.99):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((COUNT, CHAINS))
    x[1:] *= np.sqrt(1 - correlation**2)
    for i in range(1, COUNT):
        x[i] += correlation * x[i - 1]
    scores = np.array([geweke_diagnostic(chain) for chain in x.T])
    time = (1 + correlation) / (1 - correlation)
    measured = COUNT / np.mean([effective_sample_size_correlated(chain) for chain in x.T[:5]])
    wrong = float((np.abs(scores) > 2).mean())
    print(
        f"correlation {correlation}: scores of {scores.std():.1f} (should be 1; the root of {time:.0f}, by its own"
        f" effective sizes of {measured:.0f}), {wrong:.2f} of the chains above 2 (should be 0.05)"
    )
    assert abs(scores.std() / time**0.5 - 1) < 0.2, "the correlation counts now"
    if correlation == 0.9:
        assert wrong > 0.5
print("the samples are taken for independent ones")
PY
"$dir/venv/bin/python" "$dir/run.py"
