#!/usr/bin/env bash
# desgld never draws the last row of a node's data, and does not scale the gradient of a batch: the posterior's mean is
# 0 for 0.98, and its width is that of as many rows as there are in a batch.
#
# Stochastic gradient Langevin dynamics (Welling and Teh 2011) multiplies the gradient of a batch of b of n rows by n /
# b, so that the batch size changes the noise of the chain and not what it samples. The library adds up the batch's
# gradients and leaves it there. It draws the rows by randint(0, n - 1), whose upper end is excluded, so that one row of
# each node has no influence: of two rows one.
#
# Bayesian linear regression of one coefficient on x = 1, ten rows of which the last alone is not 0, one node, 300
# chains.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 scipy==1.17.1
# Without its requirements, which its plots and examples need.
"$dir/venv/bin/pip" install -q --no-deps desgld==0.1.6
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import numpy as np
from desgld.desgld_alg import DeSGLD

print("desgld", version("desgld"), "numpy", np.__version__)
ROWS, LAM, CHAINS = 10, 10.0, 150


def run(y, batch):
    np.random.seed(0)
    step = 0.1 / (batch + 2 / LAM)
    x = np.ones((1, len(y), 1))
    history, _ = DeSGLD(
        1, CHAINS, 1.0, step, 40, 1, batch, LAM, x, y[None], np.ones((1, 1)), None, "linear"
    ).vanila_desgld()
    last = history[-1, 0, 0]
    return float(last.mean()), float(last.std())


y = np.zeros(ROWS)
y[-1] = ROWS
# The library's prior has the precision 2 / lam.
mean, std = y.sum() / (ROWS + 2 / LAM), (ROWS + 2 / LAM) ** -0.5
for name, data, should in (("last", y, mean), ("first", y[::-1].copy(), mean)):
    found = run(data, ROWS)[0]
    print(f"the {name} row is {ROWS}, the others 0: mean {found:.2f} (should be {should:.2f})")
    if name == "last":
        assert abs(found) < 0.1, "the last row is drawn now"
    else:
        assert found > 0.8
for batch in (1, 10):
    found, expected = run(np.zeros(ROWS), batch)[1], (batch + 2 / LAM) ** -0.5
    print(
        f"batches of {batch}: standard deviation {found:.2f} (should be {std:.2f};"
        f" with {batch} rows it is {expected:.2f})"
    )
    assert abs(found / expected - 1) < 0.2, "the gradient of a batch is scaled now"
print("the last row is never drawn, the batch is taken for the data")
PY
"$dir/venv/bin/python" "$dir/run.py"
