#!/usr/bin/env bash
# piq's FID of a set with itself is not 0, and its FID of two sets comes out too large, by half where they are close.
#
# It takes the square root of the product of covariances by Newton-Schulz iterations, 100 of them or until the
# residual, relative to the matrix's norm, is below about 1e-5. That norm is the largest variances'; the small ones, of
# which features of a network have most, are not yet right when it stops. Each missing bit of the root's trace counts
# twice in the distance. float64 does not help. The same distance by an eigendecomposition, computed here, is 0 for a
# set with itself.
#
# Features of 64 dimensions whose standard deviations fall from 1 to 0.01 or 0.001; real features fall as steeply.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q piq==0.8.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import numpy as np, piq, torch

print("piq", piq.__version__, "torch", torch.__version__)


def exact(x, y):
    x, y = x.double().numpy(), y.double().numpy()
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * cross)


torch.manual_seed(0)
for count, decades in ((500, 2), (2000, 2), (10000, 2), (2000, 3)):
    scale = torch.logspace(0, -decades, 64)
    x, y = scale * torch.randn(count, 64), scale * torch.randn(count, 64)
    own, both, double = (float(piq.FID()(*p)) for p in ((x, x), (x, y), (x.double(), y.double())))
    want = exact(x, y)
    print(
        f"{count} samples over {decades} decades: of a set with itself {own:.4f} (exact {abs(exact(x, x)):.4f}),"
        f" of two sets {both:.4f}, in float64 {double:.4f} (exact {want:.4f})"
    )
    assert own > 0.01 and abs(exact(x, x)) < 1e-6, "the distance of a set to itself is 0 now"
    assert both > want + 0.01 and double > want + 0.01, "the distance is right now"
print("piq's FID is too large where the covariance has small eigenvalues")
PY
"$dir/venv/bin/python" "$dir/run.py"
