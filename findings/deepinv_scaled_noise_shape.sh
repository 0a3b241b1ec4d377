#!/usr/bin/env bash
# deepinv: Gaussian noise scaled by one factor for each image, as its documentation shows, returns arrays of seven
# axes, in which each image stands once for each factor.
#
# The example multiplies GaussianNoise by factors of shape (batch, 1, 1, 1) and calls the product on images. The
# product keeps sigma in that shape, and the call adds three more axes to it. So images (b, 1, H, W) come back as (b,
# 1, 1, b, 1, H, W): image j with the noise of factor i at [i, 0, 0, j]. The example's assertion looks at sigma only.
# sigma of shape (batch) given at once is right.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q deepinv==0.5.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import deepinv, torch
from deepinv.physics import GaussianNoise

print("deepinv", deepinv.__version__, "torch", torch.__version__)
doc = " ".join(GaussianNoise.__doc__.split())
print("documented:", doc[doc.index("We can also create a batch") : doc.index(">>> assert (t[0]")])
torch.manual_seed(0)
x = torch.zeros(2, 1, 100, 100)
x[1] = 5.0
factors = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
y = (factors * GaussianNoise(0.1))(x)
print("images", list(x.shape), "become", list(y.shape))
assert list(y.shape) == [2, 1, 1, 2, 1, 100, 100], "the shape is kept now"
for i in range(2):
    for j in range(2):
        part = y[i, 0, 0, j]
        print(f"at [{i}, 0, 0, {j}]: mean {float(part.mean()):.2f}, standard deviation {float(part.std()):.3f}")
        assert abs(float(part.std()) - 0.1 * (1, 3)[i]) < 0.01 and abs(float(part.mean()) - (0, 5)[j]) < 0.02
right = GaussianNoise(torch.tensor([0.1, 0.3]))(x)
assert right.shape == x.shape and abs(float(right[1].std()) - 0.3) < 0.01
print("sigma of shape (batch) keeps the shape of the images", list(right.shape))
PY
"$dir/venv/bin/python" "$dir/run.py"
