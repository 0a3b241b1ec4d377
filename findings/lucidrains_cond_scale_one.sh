#!/usr/bin/env bash
# denoising-diffusion-pytorch's classifier-free guidance with cond_scale=1 and a batch of two steers both images by the
# first one.
#
# Unet.forward_with_cond_scale returns a pair (guided, unconditional), except for cond_scale 1, where it returns the
# prediction alone. GaussianDiffusion.model_predictions unpacks a pair anyway. A batch of two unpacks without
# complaint: the prediction for the first image is taken for both (broadcast over the batch) and that for the second is
# thrown away. Any other batch raises a ValueError. cond_scale=1 is plain conditional sampling, so it is what one
# compares guidance with.
#
# This script samples the classes (0, 1) and (0, 2) from the same seed, with a network of random weights: with
# cond_scale=1 the class of the second image makes no difference to it, with 1.0001 it does.
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
from denoising_diffusion_pytorch.classifier_free_guidance import GaussianDiffusion, Unet
from importlib.metadata import version

print("denoising-diffusion-pytorch", version("denoising-diffusion-pytorch"), "torch", torch.__version__)
torch.manual_seed(0)
net = Unet(dim=16, dim_mults=(1, 2), num_classes=3, channels=1).eval()
diffusion = GaussianDiffusion(net, image_size=8, timesteps=20, objective="pred_v").eval()


def sample(classes, scale):
    torch.manual_seed(1)
    return diffusion.sample(classes=torch.tensor(classes), cond_scale=scale, rescaled_phi=0.0)


apart = {}
for scale in (1.0, 1.0001, 3.0):
    a, b = sample([0, 1], scale), sample([0, 2], scale)
    apart[scale] = float((a[1] - b[1]).abs().max())
    print(f"cond_scale {scale}: the second image as class 1 and as class 2 differ by up to {apart[scale]:.6f}")
assert apart[1.0] == 0.0, "the second image has its own class with cond_scale=1 now"
assert apart[1.0001] > 1e-4 and apart[3.0] > 1e-4
x = torch.randn(2, 1, 8, 8)
t, classes = torch.tensor([10, 10]), torch.tensor([0, 1])
with torch.no_grad():
    prediction = diffusion.model_predictions(x, t, classes, cond_scale=1.0, rescaled_phi=0.0)
    alpha, sigma = diffusion.sqrt_alphas_cumprod[10], diffusion.sqrt_one_minus_alphas_cumprod[10]
    own = alpha * x - sigma * net(x, t, classes, cond_drop_prob=0.0)
    first = alpha * x - sigma * net(x, t, classes, cond_drop_prob=0.0)[:1]
print(f"x_0 differs from the network's own answer by up to {float((prediction.pred_x_start - own).abs().max()):.3f},", end=" ")
print(f"from the answer for the first image by {float((prediction.pred_x_start - first).abs().max()):.1e}")
assert (prediction.pred_x_start - first).abs().max() < 1e-4 < (prediction.pred_x_start - own).abs().max()
try:
    sample([0, 1, 2], 1.0)
    raise AssertionError("a batch of three with cond_scale=1 runs now")
except ValueError as error:
    print("a batch of three: ValueError:", error)
print("cond_scale=1 unpacks the batch")
PY
"$dir/venv/bin/python" "$dir/run.py"
