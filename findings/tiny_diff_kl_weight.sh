#!/usr/bin/env bash
# tiny-diff's VAELoss takes a weight for the KL divergence and uses 1 unless an epoch is given, and in epoch 0.
#
# kl_weight is the "constant weight, as opposed to using a policy". forward() asks for it only where the epoch, which is
# optional, is there and not 0. So VAELoss(kl_weight=1e-6), the size of weight that autoencoders of latent diffusion
# have, weighs the divergence a million times as much and lets the code collapse to N(0, 1). A policy that begins at
# 0.001 begins with one epoch at 1. Besides, VisualAttention(proy_bias=False) has its biases all the same.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 typing-extensions==4.16.0
# Without its requirement, a torch below 2.4.
"$dir/venv/bin/pip" install -q --no-deps tiny-diff==0.1.0
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from tiny_diff.losses import BetaPolicy, VAELoss
from tiny_diff.modules.attention import VisualAttention

torch.set_num_threads(1)
print("tiny-diff", version("tiny-diff"), "torch", torch.__version__)
image = torch.zeros(1, 3, 8, 8)
mean, log_sigma = torch.full((1, 4), 2.0), torch.zeros(1, 4)


def weight(loss, **kwargs):
    """What the KL divergence is multiplied by, of an image that is reproduced exactly."""
    parts = loss(image, image, mean, log_sigma, log_sigma.exp(), **kwargs)
    assert float(parts["recon_loss"]) == 0 and float(parts["kl_divergence"]) == 2
    return float(parts["loss"] / parts["kl_divergence"])


constant = VAELoss(kl_weight=1e-6)
without, zero, one = weight(constant), weight(constant, epoch=0), weight(constant, epoch=1)
print(f"kl_weight=1e-6: without an epoch {without:.0e}, in epoch 0 {zero:.0e}, in epoch 1 {one:.0e} (should be 1e-06)")
policy = VAELoss(kl_w_policy=BetaPolicy(1e-3, 1e-2))
weights = [weight(policy, epoch=epoch) for epoch in (0, 1, 2, 1000)]
print("a policy from 0.001 to 0.01, in epochs 0, 1, 2 and 1000:", *(f"{w:.4f}" for w in weights))
assert without == zero == 1, "the weight is used now"
assert abs(one - 1e-6) < 1e-9 and weights[0] == 1 and weights[1] < 0.002
biases = [name for name, _ in VisualAttention(8, head_dim=4, num_heads=2, proy_bias=False).proj.named_parameters() if "bias" in name]
print("proy_bias=False:", *biases)
assert len(biases) == 3, "the projections have no bias now"
print("the weight is 1 without an epoch")
PY
"$dir/venv/bin/python" "$dir/run.py"
