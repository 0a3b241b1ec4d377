#!/usr/bin/env bash
# rectified-flow-pytorch never asks its averaged network, and sample(steps=1) returns the noise.
#
# With use_consistency the class keeps an exponential average of the network, samples from it by use_ema=True, and
# trains towards its answers (consistency flow matching). The function that asks takes the network as an argument and
# then asks self.model. So use_ema changes nothing, and the consistency loss compares the network with itself: the part
# for the velocity is 0 for a network whose answer is the same at two close times, whatever the average says.
#
# steps is the number of points of the time grid, both ends included, and not of steps: one step makes none, and the
# noise is returned as an image without a call of the network. 16, the default, makes 15 steps of two calls each. One
# step is what rectified flows and consistency are for.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q rectified-flow-pytorch==0.14.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import warnings

warnings.filterwarnings("ignore")
from importlib.metadata import version

import torch
from rectified_flow_pytorch import RectifiedFlow

print("rectified-flow-pytorch", version("rectified-flow-pytorch"), "torch", torch.__version__)


class Net(torch.nn.Module):
    """A flow that is the same everywhere: one number."""

    def __init__(self):
        super().__init__()
        self.speed = torch.nn.Parameter(torch.tensor(0.25))
        self.calls = 0

    def forward(self, x, times=None):
        self.calls += 1
        return torch.zeros_like(x) + self.speed


net = Net()
flow = RectifiedFlow(net, use_consistency=True, data_shape=(1, 4, 4))
with torch.no_grad():
    flow.ema_model.ema_model.speed.fill_(100.0)
noise = torch.full((2, 1, 4, 4), 0.3)
out = {}
for use_ema in (False, True):
    out[use_ema] = float(flow.sample(batch_size=2, noise=noise, use_ema=use_ema).mean())
    print(f"a network of flow 0.25, its average of flow 100, use_ema={use_ema}: samples of mean {out[use_ema]:.3f}")
assert out[True] == out[False], "use_ema asks the average now"
_, parts = flow(torch.rand(2, 1, 4, 4), return_loss_breakdown=True)
print(f"the loss between the velocities of the two: {float(parts.velocity_match)} (should be {(100 - 0.25) ** 2})")
assert float(parts.velocity_match) == 0.0, "the loss compares with the average now"
for steps in (1, 2, 16):
    net.calls = 0
    image = float(flow.sample(batch_size=2, noise=noise, use_ema=False, steps=steps).mean())
    print(f"steps={steps}: {net.calls} calls, noise of 0.3 becomes {image:.4f} (should be {(0.3 + 0.25 + 1) / 2:.4f})")
    assert net.calls == 2 * (steps - 1), "steps counts steps now"
    assert abs(image - ((0.3 + 1) / 2 if steps == 1 else (0.55 + 1) / 2)) < 1e-5
print("the average is never asked, and one step is none")
PY
"$dir/venv/bin/python" "$dir/run.py"
