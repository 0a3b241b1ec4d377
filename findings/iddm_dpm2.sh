#!/usr/bin/env bash
# iddm's DPM2Diffusion and DPMPlusPlusDiffusion do not come nearer to the data with more steps: standard deviations of
# 0.15 and 0.27 for 0.20 with 500.
#
# DPM2 asks the network once more in the middle of a step, and takes the new noise for the end of the step only; x_0
# stays that of the old one. In sigma = sqrt(1 / alpha_bar - 1) the step is x - sigma_t eps + sigma_prev eps_mid where
# it should be x + (sigma_prev - sigma_t) eps_mid. The difference is of the size of the step, so its sum stays.
#
# DPM++ of order 2 asks at the end of the step and takes (3 eps - eps_end) / 2, the weights of Adams and Bashforth for
# noise of the step before; to average the two it would be (eps + eps_end) / 2. Here too x_0 is not that of the new
# noise, and there is none of the logarithmic SNR that DPM-Solver++ steps in.
#
# Exact networks for N(0.1, 0.2^2); DDIM, of first order, and PLMS for comparison.
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
from iddm.model.samples.dpm2 import DPM2Diffusion
from iddm.model.samples.dpmpp import DPMPlusPlusDiffusion
from iddm.model.samples.plms import PLMSDiffusion

torch.set_num_threads(1)
print("iddm", version("iddm"), "torch", torch.__version__)
MEAN, STD = 0.1, 0.2


class Exact(torch.nn.Module):
    """The expected noise in pictures of independent pixels of N(MEAN, STD^2)."""

    def __init__(self, diffusion):
        super().__init__()
        self.kept = diffusion.alpha_hat

    def forward(self, x, t):
        kept = self.kept[t].view(-1, 1, 1, 1)
        return (1 - kept).sqrt() * (x - kept.sqrt() * MEAN) / (kept * STD**2 + 1 - kept)


out = {}
for kind in (DDIMDiffusion, PLMSDiffusion, DPM2Diffusion, DPMPlusPlusDiffusion):
    out[kind] = []
    for steps in (20, 100, 500):
        torch.manual_seed(0)
        diffusion = kind(img_size=[96, 96], sample_steps=steps)
        x = diffusion.sample(Exact(diffusion), n=1).float() / 255 * 2 - 1
        out[kind].append(float(x.std()))
    values = ", ".join(f"{value:.3f}" for value in out[kind])
    print(f"{kind.__name__}, 20, 100, 500 steps: standard deviation {values} (should be {STD})")
for kind in (DDIMDiffusion, PLMSDiffusion):
    assert abs(out[kind][2] - STD) < 0.006
assert out[DPM2Diffusion][2] < 0.17, "DPM2 converges now"
assert out[DPMPlusPlusDiffusion][2] > 0.24 and out[DPMPlusPlusDiffusion][1] > 0.22, "DPM++ converges now"
print("more steps do not mend DPM2 and DPM++")
PY
# The bars of progress go to a file.
"$dir/venv/bin/python" "$dir/run.py" 2> "$dir/bars" || { cat "$dir/bars"; exit 1; }
