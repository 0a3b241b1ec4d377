#!/usr/bin/env bash
# denoising-diffusion-pytorch's LearnedGaussianDiffusion (learned variance) takes an objective and always trains and
# samples noise.
#
# The class inherits the argument, whose default is "pred_v", and asserts that it is one of the three. Its loss
# compares the output with the noise whatever it says, and its ancestral sampler takes the output for noise. So a
# network that answers what the objective asks for has a loss of 0.25 or 1.3 and samples of the wrong law, and one that
# answers with the noise has none: a checkpoint of this class predicts noise, whatever its configuration says. With
# fewer sampling steps than training steps it raises a NameError.
#
# This script prints the loss of exact answers of each kind, and the standard deviation of samples of N(0, 0.2^2) from
# exact networks that do what the objective says.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q denoising-diffusion-pytorch==2.3.4 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 scipy==1.17.1 einops==0.8.2 ema-pytorch==0.8.3
cat > "$dir/run.py" <<'PY'
import os

os.environ["TQDM_DISABLE"] = "1"
import torch
from denoising_diffusion_pytorch import LearnedGaussianDiffusion
from importlib.metadata import version

print("denoising-diffusion-pytorch", version("denoising-diffusion-pytorch"), "torch", torch.__version__)
S, KINDS = 0.2, ("pred_noise", "pred_x0", "pred_v")


class Net(torch.nn.Module):
    """What GaussianDiffusion asks of a network; answer(x, t) is put in below. The second half says nothing of the variance."""

    channels, out_dim, self_condition, random_or_learned_sinusoidal_cond = 1, 2, False, False

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, t, *_):
        out = self.answer(x, t)
        return torch.cat([out, torch.zeros_like(out)], 1)


def exact(diffusion, kind, clean):
    def answer(x, t):
        i = int(t[0])
        alpha, sigma = diffusion.sqrt_alphas_cumprod[i], diffusion.sqrt_one_minus_alphas_cumprod[i]
        x_0 = clean(x, alpha, sigma)
        noise = (x - alpha * x_0) / sigma
        return {"pred_noise": noise, "pred_x0": x_0, "pred_v": alpha * noise - sigma * x_0}[kind]

    return answer


torch.manual_seed(0)
images = torch.rand(64, 1, 8, 8)
for objective in KINDS:
    net = Net()
    diffusion = LearnedGaussianDiffusion(net, image_size=8, timesteps=100, objective=objective)
    losses = {}
    for kind in KINDS:
        net.answer = exact(diffusion, kind, lambda x, alpha, sigma: 2 * images - 1)
        losses[kind] = float(diffusion(images, times=torch.full((64,), 50)))
    net.answer = exact(diffusion, objective, lambda x, a, s: a * S**2 * x / ((a * S) ** 2 + s**2))
    spread = float((2 * diffusion.sample(batch_size=256) - 1).std())
    print(f"objective {objective}: losses of exact answers", ", ".join(f"{k} {v:.4f}" for k, v in losses.items()), end="; ")
    print(f"samples have standard deviation {spread:.3f} (should be {S})")
    assert losses["pred_noise"] < 1e-5 < 0.1 < min(losses["pred_x0"], losses["pred_v"]), "the objective counts in training now"
    assert (abs(spread - S) < 0.015) == (objective == "pred_noise"), "the objective counts in sampling now"
print("LearnedGaussianDiffusion knows one objective")
PY
"$dir/venv/bin/python" "$dir/run.py"
