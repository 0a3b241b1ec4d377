#!/usr/bin/env bash
# flow_matching: with one time for each sample the path's conversions between predictions take the times for those of
# the columns.
#
# AffineProbPath.sample takes t of shape (batch) and expands it over each sample. Its conversions (velocity_to_target,
# target_to_velocity, epsilon_to_velocity and the other three) are documented with the same x_t and t, and multiply
# without expanding, so t lines up with the last axis. With as many samples as columns nothing fails: the clean sample
# derived from the exact velocity of a path sample is wrong by several times its size. Other widths raise an error of
# shapes.
#
# This script draws path samples and asks for the clean sample and the noise that they were made of.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q flow-matching==1.0.10 torch==2.15.0 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from flow_matching.path import AffineProbPath
from flow_matching.path.scheduler import CosineScheduler, PolynomialConvexScheduler, VPScheduler

print("flow-matching", version("flow-matching"), "torch", torch.__version__)
torch.manual_seed(0)
for scheduler in (CosineScheduler(), PolynomialConvexScheduler(2.0), VPScheduler()):
    path = AffineProbPath(scheduler=scheduler)
    x_0, x_1, t = torch.randn(8, 8), torch.randn(8, 8), torch.linspace(0.2, 0.8, 8)
    p = path.sample(t=t, x_0=x_0, x_1=x_1)
    wide = t[:, None].expand(8, 8)
    for name, given, want in (
        ("velocity_to_target", p.dx_t, x_1),
        ("velocity_to_epsilon", p.dx_t, x_0),
        ("epsilon_to_target", x_0, x_1),
        ("target_to_velocity", x_1, p.dx_t),
    ):
        convert = getattr(path, name)
        off = float((convert(given, p.x_t, t) - want).abs().max())
        right = float((convert(given, p.x_t, wide) - want).abs().max())
        print(f"{type(scheduler).__name__}.{name}: off by {off:.3f} with the t of path.sample, by {right:.1e} with t expanded")
        assert off > 0.3 and right < 1e-3, "the conversions expand t now"
x_0, x_1, t = torch.randn(8, 5), torch.randn(8, 5), torch.linspace(0.2, 0.8, 8)
p = path.sample(t=t, x_0=x_0, x_1=x_1)
try:
    path.velocity_to_target(p.dx_t, p.x_t, t)
    raise AssertionError("samples of another width than the batch are converted now")
except RuntimeError as error:
    print("8 samples of 5 columns: RuntimeError:", error)
print("path.sample expands t, the conversions do not")
PY
"$dir/venv/bin/python" "$dir/run.py"
