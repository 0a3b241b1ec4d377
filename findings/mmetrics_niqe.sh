#!/usr/bin/env bash
# mmetrics' NIQE is the mean square of the pixels: 0, the best there is, for a black picture, and worse the brighter it
# is. Its SSIM has one window, the whole picture.
#
# niqe(), documented as the natural image quality evaluator, compares the picture with zeros. NIQE (Mittal et al. 2013)
# measures how far the statistics of its patches lie from those of natural pictures; noise is worse than the picture.
#
# ssim() takes the means and variances over all pixels, where SSIM (Wang et al. 2004) has them in windows of a few
# pixels and the mean over those: noise that drowns all detail hardly counts beside the picture's large shades.
# structural_similarity of scikit-image, which the library imports and does not call, has the windows.
#
# A smooth picture with fine detail.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0
# Without the networks of its FID.
"$dir/venv/bin/pip" install -q --no-deps mmetrics==1.0.0
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import version
from types import ModuleType

import numpy as np
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity  # noqa: F401

absent = ("pytorch_fid", "pytorch_fid.fid_score", "torch", "torchvision", "torchvision.models")
for name in absent:
    sys.modules[name] = ModuleType(name)
sys.modules["pytorch_fid"].fid_score = sys.modules["pytorch_fid.fid_score"]
sys.modules["torchvision"].transforms = None
sys.modules["torchvision.models"].inception_v3 = None
from metrics.image_quality import niqe, ssim

for name in absent:
    del sys.modules[name]

print("mmetrics", version("mmetrics"), "numpy", np.__version__, "scikit-image", version("scikit-image"))
assert "Natural Image Quality Evaluator" in niqe.__doc__, "it is not documented so now"
rng = np.random.default_rng(0)
y, x = np.mgrid[:128, :128] / 128
picture = 0.5 + 0.4 * np.sin(2 * np.pi * x) * np.cos(2 * np.pi * y) + 0.02 * np.sin(60 * x) * np.sin(50 * y)
noisy = picture + 0.05 * rng.standard_normal(picture.shape)
black = np.zeros_like(picture)
pictures = {"a picture": picture, "its half brightness": 0.5 * picture, "noise": rng.random(x.shape), "black": black}
for name, image in pictures.items():
    found = float(niqe(image))
    print(f"NIQE of {name}: {found:.3f}, its mean square {float((image**2).mean()):.3f}")
    assert abs(found - (image**2).mean()) < 1e-9, "it is more than the mean square now"
found, windows = float(ssim(picture, noisy)), float(structural_similarity(picture, noisy, data_range=1.0))
print(f"SSIM of the picture and itself with noise: {found:.2f} (in windows of 7 pixels {windows:.2f})")
assert found > 0.95 and windows < 0.6
print("black is the best picture")
PY
"$dir/venv/bin/python" "$dir/run.py"
