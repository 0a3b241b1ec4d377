#!/usr/bin/env bash
# gan-evaluator's FID does not see brightness and contrast: pictures and themselves with a tenth of the contrast have
# the distance 0, and a white pixel in one picture changes all of its batch.
#
# Each batch that is given to the evaluator is stretched to the range -1 to 1 by its own least and largest value before
# the network sees it. Whatever all pictures of a batch share is lost by that, for the real and for the generated ones
# alike; and what a picture's features are depends on those beside it.
#
# Pictures with a network in the place of Inception, whose features are the means of eight parts of the picture. With
# the Inception network, which is downloaded, the two sets reach it as the same pictures too.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 scipy==1.17.1 tqdm==4.70.1
# Without torchvision, of which it has the Inception network.
"$dir/venv/bin/pip" install -q --no-deps gan-evaluator==1.15
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import version
from types import ModuleType

import numpy as np
import torch


class Network(torch.nn.Module):
    def __init__(self, *args, **kwargs):
        super().__init__()
        self.fc = torch.nn.Linear(2048, 1000)

    def forward(self, x):
        means = torch.nn.functional.adaptive_avg_pool2d(x.mean(1, keepdim=True), (2, 4)).flatten(1)
        return self.fc(torch.nn.functional.pad(means, (0, 2040)))


for name in ("torchvision", "torchvision.models", "torchvision.models.inception"):
    sys.modules[name] = ModuleType(name)
sys.modules["torchvision.models.inception"].inception_v3 = Network
from gan_evaluator import GAN_Evaluator, frechet_distance

print("gan-evaluator", version("gan-evaluator"), "torch", torch.__version__)
torch.set_num_threads(1)
torch.manual_seed(0)
COUNT, BATCH = 200, 20
pictures = 0.3 + 0.4 * torch.rand(COUNT, 3, 1, 1) * torch.rand(COUNT, 3, 80, 80)


def distance(real, fake):
    evaluator = GAN_Evaluator(num_images_real=COUNT, num_images_fake=COUNT)
    for a, b in zip(real.split(BATCH), fake.split(BATCH)):
        evaluator.fill_real_img_batch(a)
        evaluator.fill_fake_img_batch(b, return_results=False)
    moments = []
    for features in (evaluator.activation_vec_real[:, :8], evaluator.activation_vec_fake[:, :8]):
        moments += [features.mean(axis=0), np.cov(features, rowvar=False)]
    return float(frechet_distance(*moments))


contrast, brightness = 0.45 + 0.1 * pictures, 0.1 * pictures
for name, changed in (("a tenth of the contrast", contrast), ("a tenth of the brightness", brightness)):
    found = distance(pictures, changed)
    print(f"the pictures and themselves with {name}: distance {found:.6f} (should not be 0)")
    assert abs(found) < 1e-3, "they are told apart now"
one = pictures.clone()
one[::BATCH, :, 0, 0] = 1.0
found = distance(pictures, one)
print(f"the pictures and themselves with a white pixel in one of each {BATCH}: distance {found:.3f} (should be near 0)")
assert found > 0.05
print("a batch is stretched by its own range")
PY
"$dir/venv/bin/python" "$dir/run.py"
