#!/usr/bin/env bash
# denoising-diffusion-pytorch's classifier guidance does nothing once sampling_timesteps is less than timesteps.
#
# guided_diffusion.GaussianDiffusion.sample takes cond_fn and guidance_kwargs and hands them to either of its two
# samplers. ddim_sample, which is chosen for fewer sampling timesteps, has both as parameters and uses neither. There
# is no warning: the samples are unconditional, bit for bit. The ancestral sampler is guided.
#
# The prior is N(0, 0.3^2) with an exact network; the guidance is towards larger values. This script prints the mean
# with and without it.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q denoising-diffusion-pytorch==2.3.4 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 scipy==1.17.1 einops==0.8.2 ema-pytorch==0.8.3
cat > "$dir/run.py" <<'PY'
import contextlib, io, os

os.environ["TQDM_DISABLE"] = "1"
import torch
from denoising_diffusion_pytorch.guided_diffusion import GaussianDiffusion
from importlib.metadata import version

print("denoising-diffusion-pytorch", version("denoising-diffusion-pytorch"), "torch", torch.__version__)
S = 0.3


class Net(torch.nn.Module):
    """What GaussianDiffusion asks of a network; answer(x, t) is put in below."""

    channels, out_dim, self_condition, random_or_learned_sinusoidal_cond = 1, 1, False, False

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, t, *_):
        return self.answer(x, t)


def guide(x, t, scale):
    return torch.full_like(x, scale)  # grad log p(y | x), the same everywhere


calls = []
means = {}
for steps in (100, 50):
    net = Net()
    diffusion = GaussianDiffusion(net, image_size=16, timesteps=100, sampling_timesteps=steps, ddim_sampling_eta=1.0)

    def answer(x, t):
        i = int(t[0])
        alpha, sigma = diffusion.sqrt_alphas_cumprod[i], diffusion.sqrt_one_minus_alphas_cumprod[i]
        return sigma * x / ((alpha * S) ** 2 + sigma**2)

    net.answer = answer
    for scale in (0.0, 5.0):
        torch.manual_seed(0)
        # The ancestral sampler prints at every step.
        with contextlib.redirect_stdout(io.StringIO()):
            x = diffusion.sample(batch_size=8, cond_fn=guide, guidance_kwargs={"scale": scale})
        means[steps, scale] = float(2 * x.mean() - 1)
    print(f"{steps} of 100 steps: mean {means[steps, 0.0]:.4f} unguided, {means[steps, 5.0]:.4f} guided by a gradient of 5")
assert means[100, 5.0] - means[100, 0.0] > 0.1
assert means[50, 5.0] == means[50, 0.0], "DDIM is guided now"
print("cond_fn is ignored with fewer sampling steps")
PY
"$dir/venv/bin/python" "$dir/run.py"
