#!/usr/bin/env bash
# bionemo-moco's D3PM.loss with vb_scale > 0 draws the network towards hardly knowing x_0: the term is least where the
# true class of 20 has a probability of 0.13, and the exact network pays more.
#
# The term is the divergence of the network's q(x_{t-1} | x_t) from the true one (D3PM, Austin et al. 2021, equation 1).
# For the true one the library hands x_0, as zeros and a one, to a function that takes logits, and its softmax makes a
# distribution of them in which x_0 has e / (e + 19). So the term is 0 for a network whose logits are those zeros and
# that one, is positive for the network that knows x_0, and stays so for any number of classes above 1.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 jaxtyping==0.3.11 pot==0.9.7.post1 scikit-learn==1.9.1
# Without its requirements, which ask for a NumPy below 2.
"$dir/venv/bin/pip" install -q --no-deps bionemo-moco==0.0.2.2
cat > "$dir/run.py" <<'PY'
import math
from importlib.metadata import version

import torch
from bionemo.moco.distributions.prior import DiscreteUniformPrior
from bionemo.moco.distributions.time import UniformTimeDistribution
from bionemo.moco.interpolants import D3PM
from bionemo.moco.schedules.noise.discrete_noise_schedules import DiscreteCosineNoiseSchedule

torch.set_num_threads(1)
print("bionemo-moco", version("bionemo-moco"), "torch", torch.__version__)
STEPS, COUNT = 100, 4096
for classes in (2, 20):
    torch.manual_seed(0)
    d3pm = D3PM(
        UniformTimeDistribution(discrete_time=True, nsteps=STEPS),
        DiscreteUniformPrior(num_classes=classes),
        DiscreteCosineNoiseSchedule(nsteps=STEPS),
    )
    x = torch.randint(0, classes, (COUNT, 4))
    t = torch.randint(1, STEPS, (COUNT,))
    xt = d3pm.interpolate(x, t)
    truth = torch.nn.functional.one_hot(x, classes).float()
    term = {}
    for scale in (0.0, 0.5, 1.0, 2.0, 5.0, 100.0):
        both, cross = (float(d3pm.loss(scale * truth, x, xt, t, vb_scale=s).mean()) for s in (1.0, 0.0))
        term[scale] = both - cross
        known = 1 / (1 + (classes - 1) * math.exp(-scale))
        print(f"{classes} classes, a network that gives x_0 {known:.3f}: cross entropy {cross:.4f}, term of the bound {term[scale]:.6f}")
    assert min(term, key=term.get) == 1.0 and term[100.0] > 1e-3, "the bound is least for the right network now"
print("the term of the bound is least for a network that hardly knows x_0")
PY
"$dir/venv/bin/python" "$dir/run.py"
