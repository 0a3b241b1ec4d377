#!/usr/bin/env bash
# azula's DPSSampler guides each image of a batch less, the more images there are: by 1 / sqrt(batch).
#
# Diffusion posterior sampling follows the gradient of the norm of the residual, y - A(x_0). The norm is taken over the
# whole batch at once, so the gradient for one image is divided by the norm of all residuals instead of its own. A
# strength zeta that was tuned on one image is four times too weak for sixteen, and an image's samples depend on what
# else is sampled beside it. deepinv's DPS takes the norm of each image.
#
# The prior is N(0, 0.5^2), the network exact, y a noisy observation of 1 for all pixels. This script prints the
# distance that is left between samples and observation, for batches of 1 to 64.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q azula==0.11.1 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from azula.denoise import Denoiser, DiracPosterior
from azula.guidance import DPSSampler
from azula.noise import VPSchedule

print("azula", version("azula"), "torch", torch.__version__)
S = 0.5


class Exact(Denoiser):
    def __init__(self):
        super().__init__()
        self.schedule = VPSchedule()

    def forward(self, x_t, t, **_):
        alpha, sigma = self.schedule(t)
        return DiracPosterior(mean=alpha * S**2 * x_t / ((alpha * S) ** 2 + sigma**2))


means, first = {}, {}
for count in (1, 4, 16, 64):
    torch.manual_seed(0)
    y = torch.ones(count, 64)
    sampler = DPSSampler(Exact(), y=y, A=lambda x: x, zeta=0.2, steps=200, silent=True)
    noise = torch.randn(64, 64)[:count]
    x = sampler(noise)
    means[count] = float(x.mean())
    # One step on the same states: the push that the first image gets.
    t, s = torch.tensor(0.5), torch.tensor(0.49)
    pushes = []
    for zeta in (0.0, 0.2):
        one = DPSSampler(Exact(), y=y, A=lambda x: x, zeta=zeta, steps=200, silent=True)
        torch.manual_seed(1)
        pushes.append(one.step(noise, t, s))
    first[count] = float((pushes[1] - pushes[0])[0].norm())
    print(f"batch of {count}: mean of the samples {means[count]:.3f} (observed: 1), push of a step on the first image {first[count]:.4f}")
assert abs(first[1] / first[16] - 4) < 0.5 and abs(first[1] / first[64] - 8) < 1, "the push does not depend on the batch now"
assert means[1] - means[64] > 0.3, "the samples do not depend on the batch now"
print("the guidance of an image falls with the number of its neighbours")
PY
"$dir/venv/bin/python" "$dir/run.py"
