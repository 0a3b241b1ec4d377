#!/usr/bin/env bash
# denoising-diffusion-pytorch's RePaint resamples at timestep resample_jump (10 by default) wherever the chain stands.
#
# Algorithm 1 of RePaint goes back some steps from t and denoises them again. repaint.GaussianDiffusion sets t =
# resample_jump in its resampling loop and denoises resample_jump times with that t, its loop variable unused. So in
# the middle of the chain the network is told that an almost noisy state has the noise of step 10, 100 times for each
# resampling; and at the end the same is done to a nearly clean one. The known pixels are put in with the noise of step
# 10 too.
#
# The pixels of the prior are independent here, N(0, 0.2^2), and the network is exact, so filling in the other half
# must give the prior, resampled or not. This script prints what timesteps the network is asked about, and the standard
# deviation of the filled pixels.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q denoising-diffusion-pytorch==2.3.4 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 scipy==1.17.1 einops==0.8.2 ema-pytorch==0.8.3
cat > "$dir/run.py" <<'PY'
import collections, os

os.environ["TQDM_DISABLE"] = "1"
import torch
from denoising_diffusion_pytorch.repaint import GaussianDiffusion
from importlib.metadata import version

print("denoising-diffusion-pytorch", version("denoising-diffusion-pytorch"), "torch", torch.__version__)
S = 0.2


class Net(torch.nn.Module):
    """What GaussianDiffusion asks of a network; answer(x, t) is put in below."""

    channels, out_dim, self_condition, random_or_learned_sinusoidal_cond = 1, 1, False, False

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, t, *_):
        return self.answer(x, t)


torch.manual_seed(0)
net = Net()
diffusion = GaussianDiffusion(net, image_size=32, timesteps=200)
asked = []


def answer(x, t):
    i = int(t[0])
    asked.append((i, float(x[..., 16:].std())))
    alpha, sigma = diffusion.sqrt_alphas_cumprod[i], diffusion.sqrt_one_minus_alphas_cumprod[i]
    clean = alpha * S**2 * x / ((alpha * S) ** 2 + sigma**2)
    noise = (x - alpha * clean) / sigma
    return alpha * noise - sigma * clean


net.answer = answer
mask = torch.zeros(8, 1, 32, 32)
mask[..., :16] = 1
known = (1 + S * torch.randn(8, 1, 32, 32)) / 2
spread = {}
for resample in (False, True):
    asked.clear()
    x = 2 * diffusion.sample(gt=known, mask=mask, resample=resample) - 1
    spread[resample] = float(x[..., 16:].std())
    print(f"resample={resample}: {len(asked)} calls, filled pixels have standard deviation {spread[resample]:.3f} (should be {S})")
times = [i for i, _ in asked]
at = times.index(150)
print("the timesteps asked about from t = 150 on:", times[at : at + 5], "...", times[at + 99 : at + 103])
told = float((diffusion.alphas_cumprod[10] * S**2 + 1 - diffusion.alphas_cumprod[10]).sqrt())
print(f"the first of these states has standard deviation {asked[at + 1][1]:.2f}, one of step 10 has {told:.2f}")
assert times[at + 1 : at + 101] == [10] * 100, "the resampling is at the chain's own timestep now"
assert asked[at + 1][1] > 2 * told
assert abs(spread[False] - S) < 0.02 and spread[True] < spread[False] - 0.01, "resampling keeps the law now"
print("all resampling is at t = resample_jump")
PY
"$dir/venv/bin/python" "$dir/run.py"
