#!/usr/bin/env bash
# consistency's `sample(steps=...)` asks the network up to twice as often as `steps` says: 150 times for 75. With two
# steps the first of three is thrown away, and from 76 on there is a ValueError.
#
# Consistency.sample, which `sample_steps` is handed to, takes every (150 // steps - 1)-th of the 150 times that the
# training ends with: the 1 less makes the stride smaller than it should be, half of it at 75 and nothing at 76. The times
# are then moved up by half of a stride, which for two steps is 80 for the first, the one at which the image was made: the
# noise covers it, and the estimate before is lost.
#
# Song et al. 2023 (algorithm 1): one evaluation at the largest time, and one after each of the noises in falling times.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6
# Without its requirements, which are for training, logging and for a metric.
"$dir/venv/bin/pip" install -q --no-deps consistency==0.3.2
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import version
from types import ModuleType, SimpleNamespace

import torch

NAMES = {
    "pytorch_lightning": {"LightningModule": torch.nn.Module},
    "pytorch_lightning.loggers": {},
    "pytorch_lightning.loggers.wandb": {"WandbLogger": object},
    "pytorch_lightning.utilities": {"rank_zero_only": lambda function: function},
    "torchmetrics": {"MeanMetric": torch.nn.Module},
    "torchvision": {},
    "torchvision.transforms": {},
    "torchvision.transforms.functional": {"to_pil_image": None},
    "torchvision.utils": {"make_grid": None, "save_image": None},
    "diffusers": {"DiffusionPipeline": object, "ImagePipelineOutput": object, "UNet2DModel": torch.nn.Module},
    "diffusers.models": {},
    "diffusers.models.unet_2d": {"UNet2DOutput": object},
    "diffusers.utils": {"randn_tensor": torch.randn},
}
for name, content in NAMES.items():
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(content)
from consistency import Consistency

print("consistency", version("consistency"), "torch", torch.__version__)


class Network(torch.nn.Module):
    sample_size, in_channels, asked = 2, 1, []

    def forward(self, x, times):
        Network.asked.append(float(times[0]))
        return SimpleNamespace(sample=torch.zeros_like(x))


model = Consistency(Network(), samples_path=sys.argv[1])
model.device = torch.device("cpu")
for steps, expected in ((1, 1), (2, 3), (5, 6), (10, 11), (50, 75), (75, 150)):
    Network.asked.clear()
    model.sample(num_samples=2, steps=steps)
    times = ", ".join(f"{time:.3g}" for time in Network.asked[:3])
    print(f"steps={steps}: the network is asked {len(Network.asked)} times, at {times} ...")
    assert len(Network.asked) == expected, "it has as many steps as asked for now"
    if steps == 2:
        assert abs(Network.asked[1] - 80) < 1e-3, "the second time is smaller now"
try:
    model.sample(num_samples=2, steps=76)
    raise SystemExit("76 steps are possible now")
except ValueError as error:
    print("steps=76: ValueError:", error)
print("there are more steps than asked for")
PY
"$dir/venv/bin/python" "$dir/run.py" "$dir/samples"
