#!/usr/bin/env bash
# RIN-pytorch's min-SNR weights, on by default, weigh nothing: each image of a batch gets the mean of all weights.
#
# The weight of an image is that of its own time, min(SNR, 5) / (SNR + 1) for v (Hang et al. 2023). The losses are one
# for each image, of shape [batch], and the weights keep the axes of the images, [batch, 1, 1, 1]. Their product has the
# shape [batch, 1, 1, batch], each loss with each weight, and its mean is the mean of the losses times the mean of the
# weights. With one image a batch it is right. naturalspeech2-pytorch has the same lines.
#
# A network whose answer is a parameter for each image times the image: the gradients of the parameters are the weights.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q RIN-pytorch==0.8.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from rin_pytorch import RIN, GaussianDiffusion

torch.set_num_threads(1)
print("RIN-pytorch", version("RIN-pytorch"), "torch", torch.__version__)


class Watched(RIN):
    # The diffusion asks for a RIN by type.
    channels, image_size = 3, 8

    def __init__(self, batch):
        torch.nn.Module.__init__(self)
        self.scale = torch.nn.Parameter(torch.zeros(batch, 1, 1, 1))

    def forward(self, x, times, *_):
        self.times, self.square = times, x.square().mean((1, 2, 3))
        return self.scale * x


for batch in (1, 64):
    torch.manual_seed(0)
    network = Watched(batch)
    diffusion = GaussianDiffusion(network, objective="v", train_prob_self_cond=0.0)
    # Grey images are 0 for the network: it is given sigma eps, and v is alpha eps.
    loss = diffusion(torch.full((batch, 3, 8, 8), 0.5))
    loss.backward()
    gamma = diffusion.gamma_schedule(network.times)
    snr = gamma / (1 - gamma)
    right = snr.clamp(max=5) / (snr + 1)
    found = -network.scale.grad.flatten() * batch / (2 * network.square * snr.sqrt())
    should = float((network.square * snr * right).mean())
    print(f"{batch} images: weights from {float(found.min()):.3f} to {float(found.max()):.3f}", end=" ")
    print(f"(should be {float(right.min()):.3f} to {float(right.max()):.3f}); loss {loss.item():.4f} (should be {should:.4f})")
    if batch == 1:
        assert torch.allclose(found, right, rtol=1e-3)
    else:
        assert right.max() > 3 * right.min()
        assert torch.allclose(found, right.mean().expand(batch), rtol=1e-3), "each image has its weight now"
print("all images of a batch have the same weight")
PY
"$dir/venv/bin/python" "$dir/run.py"
