#!/usr/bin/env bash
# torchdiffeq's explicit_adams diverges on the mildest equations, and more steps make it worse: its default order is
# 12.
#
# Adams-Bashforth of order k is stable for a decay of rate 1 only with steps below a limit that falls fast with k: 0.3
# for order 4, about 0.001 for order 12. The default max_order is 12 (allowed: up to 12), whatever the step. So on the
# probability flow of Gaussian data, in ln(sigma) from 80 to 0.002, whose rate is at most 1, 160 steps are off by 1e7
# times the answer, where Euler's are off by a fifth; on y' = -y from 0 to 2 the error grows from 7e3 at 40 steps to
# 2e10 at 160. options={"max_order": 4} is right on both, and so are rk4 and implicit_adams, whose default is 12 too.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torchdiffeq==0.2.5 torch==2.15.0 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import math, warnings

warnings.filterwarnings("ignore")
from importlib.metadata import version

import torch
from torchdiffeq import odeint

print("torchdiffeq", version("torchdiffeq"), "torch", torch.__version__)
torch.set_default_dtype(torch.float64)
S = 0.5


def flow(s, x):
    """dx / d ln(sigma) of the probability flow of N(0, S^2)."""
    return x / (1 + S**2 * torch.exp(-2 * s))


problems = {
    "probability flow": (flow, math.log(80), math.log(0.002), math.sqrt((S**2 + 0.002**2) / (S**2 + 80**2))),
    "y' = -y": (lambda t, y: -y, 0.0, 2.0, math.exp(-2)),
}
methods = {
    "explicit_adams": ("explicit_adams", {}),
    "explicit_adams, max_order 4": ("explicit_adams", {"max_order": 4}),
    "implicit_adams": ("implicit_adams", {}),
    "euler": ("euler", {}),
    "rk4": ("rk4", {}),
}
off = {}
for problem, (f, start, end, want) in problems.items():
    for name, (method, options) in methods.items():
        for count in (40, 80, 160):
            # Times from 0 up, so that step_size has one sign for both.
            ahead = lambda t, y: f(start + t * (1 if end > start else -1), y) * (1 if end > start else -1)
            length = abs(end - start)
            options = dict(options, step_size=length / count)
            y = odeint(ahead, torch.ones(1), torch.tensor([0.0, length]), method=method, options=options)
            off[problem, name, count] = abs(float(y[-1]) / want - 1)
        row = " ".join(f"{off[problem, name, count]:.1e}" for count in (40, 80, 160))
        print(f"{problem}, {name}: relative error after 40, 80, 160 steps {row}")
for problem in problems:
    assert off[problem, "explicit_adams", 160] > 1e3, "explicit_adams is stable now"
    for name in ("explicit_adams, max_order 4", "implicit_adams", "rk4"):
        assert off[problem, name, 160] < 1e-3
assert off["y' = -y", "explicit_adams", 160] > 1e3 * off["y' = -y", "explicit_adams", 40]
print("explicit_adams is unstable by default")
PY
"$dir/venv/bin/python" "$dir/run.py"
