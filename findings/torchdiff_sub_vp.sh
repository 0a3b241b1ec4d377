#!/usr/bin/env bash
# torchdiff's "sub-vp" is no sub-VP SDE: x_0 is not scaled down, and the way back is not that of the way in.
#
# The sub-variance-preserving SDE (Song et al. 2021, equations 28 and 29), to which the module refers, has the drift
# -beta x / 2, g(t)^2 = beta (1 - alpha^4) and p(x_t | x_0) = N(alpha x_0, (1 - alpha^2)^2). ForwardSDE("sub-vp") draws
# from N(x_0, 1 - alpha^2), as its docs do say; ReverseSDE("sub-vp") has no drift and g^2 = beta. A process without
# drift and of variance 1 - alpha^2 has g^2 = alpha^2 beta, so that the two do not belong together, and at t = 1, where
# the chain starts from N(0, 1), x_0 is still there in full. With an exact network N(0, 1) comes out with a standard
# deviation of 0.84, and of two modes of weights 0.8 and 0.2 the rarer has 0.14, where "vp" is right in both.
#
# The steps are those of SampleSDE, without its tokenizer, which would be downloaded.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torchdiff==2.7.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 transformers==5.24.0
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from torchdiff.sde import ForwardSDE, ReverseSDE, SchedulerSDE

torch.set_num_threads(1)
print("torchdiff", version("torchdiff"), "torch", torch.__version__)


def chain(method, modes, steps, count=20000, end=1e-5):
    """SampleSDE.forward for one pixel, with the exact noise of a mixture of (weight, mean, standard deviation)."""
    forward, reverse = ForwardSDE(SchedulerSDE(), method), ReverseSDE(SchedulerSDE(), method)
    torch.manual_seed(0)
    x = torch.randn(count, 1, 1, 1)
    times = torch.linspace(1.0, end, steps + 1)
    for i in range(steps):
        t = torch.full((count,), float(times[i]))
        a, s = (v.view(-1, 1, 1, 1) for v in forward.get_forward_params(t))
        each = [(w, x - a * m, (a * d) ** 2 + s**2) for w, m, d in modes]
        share = torch.stack([torch.log(w / v.sqrt()) - r**2 / (2 * v) for w, r, v in each]).softmax(0)
        score = sum(p * -r / v for p, (_, r, v) in zip(share, each))
        x = reverse(x, -s * score, t, -(1.0 - end) / steps, last_step=i == steps - 1)
    return x


for steps in (1000, 4000):
    for method in ("vp", "sub-vp"):
        std = float(chain(method, [(1.0, 0.0, 1.0)], steps).std())
        rare = float((chain(method, [(0.8, -0.7, 0.1), (0.2, 0.7, 0.1)], steps) > 0).float().mean())
        print(f"{method}, {steps} steps: N(0, 1) has a deviation of {std:.3f}; the mode of weight 0.2 has {rare:.3f}")
        if method == "vp":
            assert abs(std - 1) < 0.03 and abs(rare - 0.2) < 0.02
        else:
            assert std < 0.9 and rare < 0.16, "sub-vp gives the law of the data now"
print("sub-vp is not the law of the data")
PY
"$dir/venv/bin/python" "$dir/run.py"
