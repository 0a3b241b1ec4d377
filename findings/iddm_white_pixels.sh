#!/usr/bin/env bash
# iddm's fast samplers, DDIM, PLMS and DPM2, turn a fifth of the white pixels black.
#
# The samplers step down to timestep 0, where alpha_bar is 0.9999, and stop there: what is left is sqrt(0.9999) x_0 +
# 0.01 noise. BaseDiffusion.post_process makes bytes of that by (x + 1) / 2 * 255 without a bound, and a pixel of 256 is
# one of 0. Where the picture is white that is so for noise above 0.78, 21 % of the pixels. Only DDPM clamps before.
#
# An exact network of white pictures.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 tqdm==4.70.1 coloredlogs==15.0.1
# Without what its web pages and its training need.
"$dir/venv/bin/pip" install -q --no-deps iddm==1.3.1
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import torch

# The package without the modules of its web pages and its training.
for name in ("iddm", "iddm.config", "iddm.utils", "iddm.model", "iddm.model.samples"):
    package = ModuleType(name)
    package.__path__ = [str(distribution("iddm").locate_file(name.replace(".", "/")))]
    sys.modules[name] = package
from iddm.model.samples.ddim import DDIMDiffusion
from iddm.model.samples.ddpm import DDPMDiffusion
from iddm.model.samples.dpm2 import DPM2Diffusion
from iddm.model.samples.plms import PLMSDiffusion

torch.set_num_threads(1)
print("iddm", version("iddm"), "torch", torch.__version__)


class White(torch.nn.Module):
    """The noise in pictures whose every pixel is 1."""

    def __init__(self, diffusion):
        super().__init__()
        self.kept = diffusion.alpha_hat

    def forward(self, x, t):
        kept = self.kept[t].view(-1, 1, 1, 1)
        return (x - kept.sqrt()) / (1 - kept).sqrt()


for kind in (DDPMDiffusion, DDIMDiffusion, PLMSDiffusion, DPM2Diffusion):
    torch.manual_seed(0)
    diffusion = kind(img_size=[64, 64])
    pixels = diffusion.sample(White(diffusion), n=2)
    black = float((pixels < 8).float().mean())
    between = int(((pixels >= 8) & (pixels < 248)).sum())
    print(f"{kind.__name__}: {100 * black:.1f} % of the pixels are below 8, {between} from 8 to 247, the others above")
    assert between == 0
    if kind is DDPMDiffusion:
        assert black == 0
    else:
        assert 0.15 < black < 0.27, "white stays white now"
print("a fifth of the white pixels is black")
PY
# The bars of progress go to a file.
"$dir/venv/bin/python" "$dir/run.py" 2> "$dir/bars" || { cat "$dir/bars"; exit 1; }
