#!/usr/bin/env bash
# ProbabilisticDiffusion's Diffusion.forward adds noise whose standard deviation is the variance: 0.010 for 0.100.
#
# forward(t) is "to move forward in the diffusion process to" t. It draws from torch.normal(mean, 1 - alpha_bar), whose
# second argument is the standard deviation; it should be the square root, as it is in train. So what it shows and
# returns has less noise than what the network is trained on. The last step of sample is not right either: at t = 0 it
# adds noise of sqrt(beta) to the result, where Ho et al. 2020 (algorithm 2) add none.
#
# Zeros as the data: the standard deviation is that of the noise.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 tqdm==4.70.1 matplotlib==3.11.2
# Without its requirements: it asks for a numpy below 2.
"$dir/venv/bin/pip" install -q --no-deps ProbabilisticDiffusion==2.1.0
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from ProbabilisticDiffusion import Diffusion

torch.set_num_threads(1)
torch.manual_seed(0)
print("ProbabilisticDiffusion", version("ProbabilisticDiffusion"), "torch", torch.__version__)


class Zeros(torch.nn.Module):
    """The noise in zeros, and what it was given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, t):
        return x / (1 - self.kept[t]).sqrt().view(-1, 1) + 0 * self.weight


network = Zeros()
optimizer = torch.optim.SGD(network.parameters(), 1e-6)
diffusion = Diffusion(torch.zeros(100000, 1), 100, 1e-2, 0.02, "linear", network, torch.nn.MSELoss(), optimizer)
network.kept = diffusion.alpha_bar
for t in (0, 10, 50, 99):
    variance = float(1 - diffusion.alpha_bar[t])
    found = float(diffusion.forward(t, plot=False).std())
    print(f"t = {t}: noise of {found:.4f} (should be {variance**0.5:.4f}; its square is {variance:.4f})")
    assert abs(found / variance - 1) < 0.02, "the noise has its standard deviation now"
left = float(diffusion.sample(100000, keep="last").std())
print(f"sample with an exact network for zeros: standard deviation {left:.4f} (should be 0; sqrt(beta) is 0.1000)")
assert abs(left - 0.1) < 0.002, "the last step adds no noise now"
print("forward takes the variance for the standard deviation")
PY
"$dir/venv/bin/python" "$dir/run.py"
