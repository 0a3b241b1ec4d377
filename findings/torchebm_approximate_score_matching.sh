#!/usr/bin/env bash
# torchebm's ScoreMatching with hessian_method="approx" learns densities whose variance is too large by the number of
# dimensions: 32 for 1 with 32 dimensions. hessian_method="exact" learns the right one.
#
# The approximation takes the trace of the Hessian from one random direction, v^T H v, whose mean is the trace, and then
# divides by the number of dimensions as well. The other half of the loss is a sum over the dimensions, as it should be.
# So the two halves balance at a precision of 1 / dimensions.
#
# This script fits the precision p of a Gaussian energy, p / 2 |x|^2, to samples from N(0, I): the loss is a parabola in
# p, and two gradients give its minimum, which should be 1.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torchebm==0.8.9 torch==2.15.0 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from torchebm.core import BaseModel
from torchebm.losses import ScoreMatching

print("torchebm", version("torchebm"), "torch", torch.__version__)


class Gaussian(BaseModel):
    def __init__(self, precision):
        super().__init__()
        self.precision = torch.nn.Parameter(torch.tensor(precision))

    def forward(self, x):
        return 0.5 * self.precision * x.square().sum(1)


def minimum(method, x):
    slopes = []
    for precision in (0.0, 1.0):
        model = Gaussian(precision)
        torch.manual_seed(1)
        ScoreMatching(model, hessian_method=method)(x).backward()
        slopes.append(float(model.precision.grad))
    return slopes[0] / (slopes[0] - slopes[1])


torch.manual_seed(0)
for dimensions in (1, 2, 8, 32):
    x = torch.randn(8192, dimensions)
    found = {method: minimum(method, x) for method in ("exact", "approx")}
    print(f"{dimensions} dimensions: the loss is least for the precision", end=" ")
    print(", ".join(f"{p:.4f} ({m}; a variance of {1 / p:.2f})" for m, p in found.items()), end="; should be 1\n")
    assert abs(found["exact"] - 1) < 0.05
    assert abs(found["approx"] * dimensions - 1) < 0.1, "the approximation has its minimum elsewhere now"
print("the approximate trace is divided by the dimensions")
PY
"$dir/venv/bin/python" "$dir/run.py"
