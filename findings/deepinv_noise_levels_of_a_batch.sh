#!/usr/bin/env bash
# deepinv: a tensor of noise levels, one for each image of the batch, is one for each column of pixels in LaplaceNoise,
# RicianNoise, SaltPepperNoise, LogPoissonNoise and GammaNoise.
#
# GaussianNoise, UniformNoise, PoissonNoise and PoissonGaussianNoise give the tensor the shape (batch, 1, 1, 1). The
# other classes take tensors too, but multiply them as they are, so they line up with the last axis. With as many
# columns as images nothing fails: each image gets every level. (Other widths raise an error of shapes.)
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q deepinv==0.5.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import deepinv, torch
from deepinv import physics

print("deepinv", deepinv.__version__, "torch", torch.__version__)
torch.manual_seed(0)
x = torch.full((4, 1, 20000, 4), 5.0)
few, counts = torch.tensor([0.05, 0.1, 0.2, 0.4]), torch.tensor([1e3, 1e4, 1e5, 1e6])
cases = {
    "GaussianNoise": ("sigma", few, "images"),
    "UniformNoise": ("a", few, "images"),
    "PoissonNoise": ("gain", few, "images"),
    "LaplaceNoise": ("b", few, "columns"),
    "RicianNoise": ("sigma", few, "columns"),
    "SaltPepperNoise": ("p", few, "columns"),
    "LogPoissonNoise": ("N0", counts, "columns"),
    "GammaNoise": ("l", counts, "columns"),
}
for name, (argument, levels, expected) in cases.items():
    y = getattr(physics, name)(**{argument: levels})(x)
    spreads = {"images": y.std(dim=(1, 2, 3)), "columns": y.std(dim=(0, 1, 2))}
    ratios = {axis: float(s.max() / s.min()) for axis, s in spreads.items()}
    for axis, s in spreads.items():
        print(f"{name}({argument}=tensor of 4): standard deviation of the {axis}", " ".join(f"{v:.3f}" for v in s.tolist()))
    other = "columns" if expected == "images" else "images"
    assert ratios[expected] > 1.5 and ratios[other] < 1.1, f"{name} now applies its levels to the {other}"
print("the levels follow the batch in three of these classes and the columns of pixels in five")
PY
"$dir/venv/bin/python" "$dir/run.py"
