#!/usr/bin/env bash
# MONAI's MMDMetric, documented as a measure of closeness of two distributions that is not negative, compares means
# only, and is negative about half of the time.
#
# It takes inner products of the flattened images as the kernel. The discrepancy of a linear kernel is the squared
# distance of the two means: noise of ten times the standard deviation, or two opposite images against grey, have the
# discrepancy 0. The estimator is unbiased, so around 0 it is negative as often as not. The documentation names no
# kernel; y_mapping has to supply one. A Gaussian kernel, computed here by the same estimator, tells the same samples
# apart.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q monai==1.6.1 torch==2.15.0 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import warnings

warnings.filterwarnings("ignore")
import monai, torch
from monai.metrics import MMDMetric

print("monai", monai.__version__, "torch", torch.__version__)
print(" ".join(MMDMetric.__doc__.split())[:207])
metric = MMDMetric()
torch.manual_seed(0)


def gaussian_mmd(a, b, width):
    a, b = a.flatten(1), b.flatten(1)
    k = lambda u, v: torch.exp(-torch.cdist(u, v).square() / (2 * width**2))
    n = len(a)
    own = sum((k(u, u).sum() - n) / (n * (n - 1)) for u in (a, b))
    return float(own - 2 * k(a, b).mean())


negative = 0
for spread in (1.0, 10.0):
    values = [float(metric(torch.randn(400, 1, 4, 4), spread * torch.randn(400, 1, 4, 4))) for _ in range(40)]
    negative += sum(v < 0 for v in values)
    mean, error = float(torch.tensor(values).mean()), float(torch.tensor(values).std()) / 40**0.5
    gaussian = gaussian_mmd(torch.randn(400, 1, 4, 4), spread * torch.randn(400, 1, 4, 4), 8.0)
    print(f"N(0, 1) against N(0, {spread:.0f}^2): {mean:.3f} +- {error:.3f}, {sum(v < 0 for v in values)} of 40 negative; ", end="")
    print(f"with a Gaussian kernel {gaussian:.3f}")
    assert abs(mean) < 4 * error, "MMDMetric sees the spread now"
    assert (gaussian > 0.1) == (spread == 10.0)
assert negative > 20, "MMDMetric is no longer negative"
black_and_white = torch.cat((torch.ones(200, 1, 4, 4), -torch.ones(200, 1, 4, 4)))
value = float(metric(black_and_white, torch.zeros(400, 1, 4, 4)))
print(f"white and black images against grey ones: {value:.3f}")
assert abs(value) < 0.1
print("MMDMetric is the squared distance of the means")
PY
"$dir/venv/bin/python" "$dir/run.py"
