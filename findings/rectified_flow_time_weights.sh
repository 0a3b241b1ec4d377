#!/usr/bin/env bash
# rectified-flow's get_loss, called as its README has it, ends in a ValueError for images, and for vectors it weighs no
# training time: each example's loss has the mean of the batch's weights, 0.50 for 0.06.
#
# Without times get_loss draws some, and gives them an axis for each of the data's: (batch, 1, 1) for the README's data of
# 32 x 32, which the next function refuses, since it takes two axes at most. Vectors have (batch, 1), and so have the
# weights, which can be of a class of one's own; the losses of the examples are (batch,), and the product of the two is
# a table of all weights with all losses. Times that the caller draws as (batch,) have neither.
#
# Two examples, one of weight 2 with the loss 0.0625 and one of weight 0 with the loss 0.9375.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 scipy==1.17.1 sympy==1.14.0
# Without its requirements, which are for plots and for networks.
"$dir/venv/bin/pip" install -q --no-deps rectified-flow==1.0.1
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import version
from types import ModuleType

import torch

for name in ("matplotlib", "matplotlib.pyplot", "matplotlib.widgets", "torchvision"):
    sys.modules[name] = ModuleType(name)
sys.modules["matplotlib.widgets"].Slider = object
from rectified_flow.flow_components.train_time_sampler import TrainTimeSampler
from rectified_flow.flow_components.train_time_weight import TrainTimeWeight
from rectified_flow.rectified_flow import RectifiedFlow

print("rectified-flow", version("rectified-flow"), "torch", torch.__version__)
try:
    flow = RectifiedFlow(data_shape=(32, 32), velocity_field=lambda x, t: x)
    flow.get_loss(x_0=None, x_1=torch.zeros(4, 32, 32))
    raise SystemExit("images can be trained on now")
except ValueError as error:
    print("data of 32 x 32: ValueError:", error)


class Times(TrainTimeSampler):
    def __call__(self, batch_size, device=None, dtype=None):
        return torch.tensor([0.25, 0.75])


class EarlyTimes(TrainTimeWeight):
    def __call__(self, t):
        return 2.0 * (t < 0.5)


def velocity(x, t):  # That of the interpolation is 1.
    return 1 - torch.where(t < 0.5, 0.0625**0.5, 0.9375**0.5).view(-1, 1).expand_as(x)


flow = RectifiedFlow((3,), velocity, train_time_distribution=Times(), train_time_weight=EarlyTimes())
x_0, x_1 = torch.zeros(2, 3), torch.ones(2, 3)
given = float(flow.get_loss(x_0, x_1, torch.tensor([0.25, 0.75])))
drawn = float(flow.get_loss(x_0, x_1))
print(f"vectors, times of the caller: loss {given:.4f}; the same times drawn by the flow: {drawn:.4f}")
print("both should be (2 * 0.0625 + 0 * 0.9375) / 2 = 0.0625")
assert abs(given - 0.0625) < 1e-4
assert abs(drawn - 0.5) < 1e-4, "the weights are those of the examples now"
print("the weights are their mean")
PY
"$dir/venv/bin/python" "$dir/run.py"
