#!/usr/bin/env bash
# denoising-diffusion-pytorch with immiscible=True trains the network towards the noise of other images.
#
# Immiscible diffusion reorders the noises of a batch so that each image gets a near one. q_sample reorders its noise
# and mixes it in, but the loss keeps the noises in their old order as the target. So a network that names the noise
# exactly has a loss of 2 (noise of another image: twice its variance) for objective "pred_noise", and the default
# "pred_v" is just as wrong. "pred_x0" is not affected.
#
# This script gives GaussianDiffusion the exact answer for the images of a batch and prints the loss, with and without
# the option.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q denoising-diffusion-pytorch==2.3.4 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 scipy==1.17.1 einops==0.8.2 ema-pytorch==0.8.3
cat > "$dir/run.py" <<'PY'
import denoising_diffusion_pytorch, torch
from denoising_diffusion_pytorch import GaussianDiffusion
from importlib.metadata import version

print("denoising-diffusion-pytorch", version("denoising-diffusion-pytorch"), "torch", torch.__version__)


class Net(torch.nn.Module):
    """What GaussianDiffusion asks of a network; answer(x, t) is put in below."""

    channels, out_dim, self_condition, random_or_learned_sinusoidal_cond = 1, 1, False, False

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, t, *_):
        return self.answer(x, t)


torch.manual_seed(0)
images = torch.rand(64, 1, 8, 8)
clean = 2 * images - 1
times = torch.full((64,), 500)
for objective in ("pred_noise", "pred_v", "pred_x0"):
    losses = {}
    for immiscible in (False, True):
        net = Net()
        diffusion = GaussianDiffusion(net, image_size=8, objective=objective, immiscible=immiscible)

        def answer(x, t):
            alpha, sigma = diffusion.sqrt_alphas_cumprod[500], diffusion.sqrt_one_minus_alphas_cumprod[500]
            noise = (x - alpha * clean) / sigma
            return {"pred_noise": noise, "pred_v": alpha * noise - sigma * clean, "pred_x0": clean}[objective]

        net.answer = answer
        losses[immiscible] = float(diffusion(images, times=times) / diffusion.loss_weight[500])
        print(f"{objective}, immiscible={immiscible}: loss of the exact answer {losses[immiscible]:.4f}")
    assert losses[False] < 1e-6
    assert (losses[True] > 0.5) == (objective != "pred_x0"), "the exact answer has no loss now"
print("immiscible=True: the target is the noise before it was reordered")
PY
"$dir/venv/bin/python" "$dir/run.py"
