#!/usr/bin/env bash
# k-diffusion's attention drops weights while it samples too: with dropout_rate 0.1 the same network, in evaluation
# mode, gives another answer each time.
#
# SelfAttention2d and CrossAttention2d hand dropout_rate to scaled_dot_product_attention as dropout_p, which drops
# whatever the module's mode is. They have a Dropout module as well, which knows the mode, and take the rate from it
# but never call it. So ImageDenoiserModelV1 with dropout and attention has noise in each prediction and, of the same
# seed, other samples after any change of the order of its random numbers. Its convolutions, with Dropout2d, are
# right.
#
# One layer of each in evaluation mode: two answers to the same input, and how far apart they are.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 scipy==1.17.1 einops==0.8.2 tqdm==4.70.1 pillow==13.0.0 safetensors==0.8.0 torchdiffeq==0.2.5 torchsde==0.2.6
# Without what it needs for training and for the evaluation of images.
"$dir/venv/bin/pip" install -q --no-deps dctorch==0.1.2 k-diffusion==0.1.1.post1
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import torch

# The package without the modules for evaluation, and without torchvision, which loads images.
package = ModuleType("k_diffusion")
package.__path__ = [str(distribution("k-diffusion").locate_file("k_diffusion"))]
sys.modules["k_diffusion"] = package
for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
    sys.modules[name] = ModuleType(name)
sys.modules["torchvision.transforms"].functional = sys.modules["torchvision.transforms.functional"]
from k_diffusion import layers
from k_diffusion.models.image_v1 import ResConvBlock

torch.set_num_threads(1)
torch.manual_seed(0)
print("k-diffusion", version("k-diffusion"), "torch", torch.__version__)
FEATURES, CHANNELS = 8, 32
norm = lambda channels: layers.AdaGN(FEATURES, channels, 1)
condition = {"cond": torch.randn(2, FEATURES), "cross": torch.randn(2, 5, 16), "cross_padding": torch.zeros(2, 5)}
x = torch.randn(2, CHANNELS, 8, 8)
out = {}
for rate in (0.0, 0.1):
    for layer in (
        ResConvBlock(FEATURES, CHANNELS, CHANNELS, CHANNELS, dropout_rate=rate),
        layers.SelfAttention2d(CHANNELS, 2, norm, rate),
        layers.CrossAttention2d(CHANNELS, 16, 2, norm, rate),
    ):
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        layer.eval()
        with torch.no_grad():
            first, second = (layer(x, condition) - x for _ in range(2))
        name = type(layer).__name__
        out[name, rate] = float((first - second).norm() / first.norm())
        print(f"{name}, dropout_rate {rate}, evaluation mode: two answers differ by {100 * out[name, rate]:.0f} %")
assert all(v == 0 for (name, rate), v in out.items() if rate == 0 or name == "ResConvBlock")
assert out["SelfAttention2d", 0.1] > 0.02 and out["CrossAttention2d", 0.1] > 0.02, "evaluation mode drops nothing now"
print("attention drops weights in evaluation mode")
PY
"$dir/venv/bin/python" "$dir/run.py"
