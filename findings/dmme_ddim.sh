#!/usr/bin/env bash
# dmme's DDIM ends in a ValueError at its last step, and where torch does not check it, all samples are the mean.
#
# The step to alpha_bar_prev is sqrt(alpha_bar_prev) x_0 + sqrt(1 - alpha_bar_prev) eps (Song et al. 2021, equation 12).
# equations.ddim.reverse_process divides the estimate of sqrt(alpha_bar) x_0 by the wrong one of the two alpha_bars and
# returns the normal distribution around the first term, of which DDIM takes the mean: the second term is left out. The
# first step takes away all the noise, and from then on the network is told of noise that is not there. The distribution
# has the standard deviation 0 at the last step, which torch refuses unless its checks are off.
#
# An exact network for N(0.2, 0.3^2), and dmme's DDPM for comparison.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 einops==0.8.2 tqdm==4.70.1
# Without what its training and its data sets need.
"$dir/venv/bin/pip" install -q --no-deps dmme==0.5.2
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import torch

# The package without the modules of its training and its data sets.
for name in ("dmme", "dmme.common"):
    package = ModuleType(name)
    package.__path__ = [str(distribution("dmme").locate_file(name.replace(".", "/")))]
    sys.modules[name] = package
from dmme.common import noise

for name in ("gaussian", "gaussian_like", "uniform_int", "pad"):
    setattr(sys.modules["dmme"], name, getattr(noise, name))
from dmme.diffusion_models import DDIM, DDPM

torch.set_num_threads(1)
print("dmme", version("dmme"), "torch", torch.__version__)
MEAN, STD = 0.2, 0.3


class Exact(torch.nn.Module):
    """The expected noise in pictures of independent pixels of N(MEAN, STD^2)."""

    def forward(self, x, t):
        return (1 - self.kept[t]).sqrt() * (x - self.kept[t].sqrt() * MEAN) / (self.kept[t] * STD**2 + 1 - self.kept[t])


def sample(kind, *options):
    torch.manual_seed(0)
    diffusion = kind(Exact(), 1000, *options)
    diffusion.model.kept = diffusion.alpha_bar
    with torch.no_grad():
        x = diffusion.generate((1, 1, 128, 128))
    return float(x.mean()), float(x.std())


mean, std = sample(DDPM)
print(f"DDPM: mean {mean:.3f}, standard deviation {std:.3f} (should be {MEAN}, {STD})")
assert abs(mean - MEAN) < 0.01 and abs(std - STD) < 0.01
try:
    sample(DDIM, 50, "linear")
except ValueError as error:
    print("DDIM:", type(error).__name__, str(error).split(" (")[0])
else:
    raise AssertionError("DDIM takes its last step now")
torch.distributions.Distribution.set_default_validate_args(False)
for steps in (50, 1000):
    mean, std = sample(DDIM, steps, "linear")
    print(f"DDIM without torch's checks, {steps} steps: mean {mean:.3f}, standard deviation {std:.3f}")
    assert std < 0.05, "the samples differ now"
print("all samples of DDIM are the mean")
PY
# The bars of progress go to a file.
"$dir/venv/bin/python" "$dir/run.py" 2> "$dir/bars" || { cat "$dir/bars"; exit 1; }
