#!/usr/bin/env bash
# particlefilterbox's residual resampling prefers the first particles: a half of them that has 0.75 of the weight gets
# 0.50 of the copies when it comes last, and 1.00 when it comes first.
#
# Each particle gets as many whole copies as its weight makes up; the rest of the copies are to be drawn by what is left
# of the weights (Liu and Chen 1998). The library draws as many as there are particles for that, in the order of the
# particles, and keeps the first of them.
#
# 100 particles, half of them with 0.5 / 100 and half with 1.5 / 100, by the four methods of get_resampling_fn.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 scipy==1.17.1
# Without pandas, which is for reports.
"$dir/venv/bin/pip" install -q --no-deps particlefilterbox==0.1.0
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import numpy as np
from particlefilterbox.resampling import get_resampling_fn

print("particlefilterbox", version("particlefilterbox"), "numpy", np.__version__)
rng = np.random.default_rng(0)
heavy = np.arange(100) >= 50
for name in ("systematic", "stratified", "multinomial", "residual"):
    found = []
    for mask in (heavy, ~heavy):
        weights = np.where(mask, 1.5, 0.5) / 100
        found.append(np.mean([mask[get_resampling_fn(name)(weights, rng=rng)].mean() for _ in range(500)]))
    print(
        f"{name}: the half with 0.75 of the weight gets {found[0]:.2f} of the copies as the last half,"
        f" {found[1]:.2f} as the first (should be 0.75)"
    )
    if name == "residual":
        assert found[0] < 0.55 and found[1] > 0.95, "the order no longer matters"
    else:
        assert max(abs(f - 0.75) for f in found) < 0.02
print("the first particles are preferred")
PY
"$dir/venv/bin/python" "$dir/run.py"
