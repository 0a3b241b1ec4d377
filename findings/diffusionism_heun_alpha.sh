#!/usr/bin/env bash
# diffusionism's Heun sampler of EDM with alpha other than 1 goes too short a way: with 0.5, the midpoint rule, half.
#
# Karras et al. 2022 (appendix, algorithm 3) weigh the two slopes by 1 - 1 / (2 alpha) and 1 / (2 alpha), together
# 1. The package has 3/2 - 1 / alpha and 1 / (2 alpha): with alpha = 1 that is the same, with 2/3 it adds up to 0.75,
# with 0.5 to 0.5, so that samples keep noise of the first steps, and more steps do not mend it.
#
# The exact denoiser of N(0.5, 0.3^2) as the network, in 20 and 80 steps from 80 down.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 tqdm==4.70.1
# Without what its runner needs, and with the release of pyreflex that torchflint was made for.
"$dir/venv/bin/pip" install -q --no-deps diffusionism==0.0.1b9 torchflint==0.0.1b16.post1.dev3 pyreflex==0.0.1b13
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import torch

# The package without the modules of its runner.
package = ModuleType("diffusionism")
package.__path__ = [str(distribution("diffusionism").locate_file("diffusionism"))]
sys.modules["diffusionism"] = package
from diffusionism.diffusion.schedules.context import sequencings
from diffusionism.methods.elucidated_diffusion_models.hyperparameters import ChurnStochasticHyperparameters
from diffusionism.methods.elucidated_diffusion_models.samplers import EDMHeunSampler
from diffusionism.methods.elucidated_diffusion_models.schedules import EDMSchedule

torch.set_num_threads(1)
print("diffusionism", version("diffusionism"), "torch", torch.__version__)
MEAN, STD, DATA = 0.5, 0.3, 0.5


def denoised(x, sigma):
    return (MEAN * sigma**2 + x * STD**2) / (sigma**2 + STD**2)


class Network(torch.nn.Module):
    """What stands inside EDM's preconditioning for that denoiser."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, c_noise):
        sigma = (4 * c_noise).exp().view(-1, 1)
        total = (sigma**2 + DATA**2).sqrt()
        return (denoised(x * total, sigma) - DATA**2 / total * x) * total / (sigma * DATA)


found = {}
for alpha in (1.0, 2 / 3, 0.5):
    for steps in (20, 80):
        sigmas = sequencings.karras_sigma(steps, 0.002, 80.0)
        schedule = EDMSchedule(DATA, hyperparameters=ChurnStochasticHyperparameters(alpha=alpha))
        torch.manual_seed(0)
        noise = torch.randn(2000, 1)
        with torch.no_grad():
            x = EDMHeunSampler(Network(), sigmas, schedule, output_handlers=[])(noise)
        levels = [*sigmas.tolist(), 0.0]
        right = noise * levels[0]
        for i in range(steps):
            h = levels[i + 1] - levels[i]
            slope = (right - denoised(right, levels[i])) / levels[i]
            if levels[i + 1] == 0:
                right = right + h * slope
                continue
            middle, sigma = right + alpha * h * slope, levels[i] + alpha * h
            second = (middle - denoised(middle, sigma)) / sigma
            right = right + h * ((1 - 1 / (2 * alpha)) * slope + 1 / (2 * alpha) * second)
        found[alpha, steps] = float(x.std())
        print(
            f"alpha {alpha:.2f}, {steps} steps: {float(x.mean()):.3f} +- {float(x.std()):.3f}, by algorithm 3"
            f" {float(right.mean()):.3f} +- {float(right.std()):.3f} (should be {MEAN} +- {STD})",
            flush=True,
        )
        assert abs(float(right.std()) - STD) < 0.03
        assert abs(float(x.std()) - STD) < 0.03 if alpha == 1 else float(x.std()) > 2 * STD, "all alphas are right now"
print("alpha other than 1 goes too short a way")
PY
"$dir/venv/bin/python" "$dir/run.py"
