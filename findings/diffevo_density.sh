#!/usr/bin/env bash
# diffevo's density="kde" and kde_bandwidth change nothing: a crowd of 95 in 100 keeps its 95 % of the estimate.
#
# Diffusion evolution (Zhang et al. 2024) estimates the origin of x_t as the mean of the population x_i with
# the weights g(f(x_i)) / p(x_i) N(x_t; sqrt(alpha) x_i, 1 - alpha): each individual is divided by the density of the
# population where it stands, so that a crowd of equal fitness has no more weight than one alone. The library divides
# all of them by the density at x_t, one number, which the normalization takes out again. And DiffEvo, whose density is
# "kde" by default, does not hand its two options to the generator that it makes in each step.
#
# 95 individuals around -1, 5 around 1, all of the same fitness. The origin of a point in the middle is 0 with the
# weights of the formula, and -0.9 without.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 tqdm==4.70.1
"$dir/venv/bin/pip" install -q --no-deps diffevo==1.1.0
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from diffevo import BayesianGenerator, DiffEvo
from diffevo.kde import KDE

print("diffevo", version("diffevo"), "torch", torch.__version__)
torch.manual_seed(0)
alpha = torch.tensor(0.1)
crowd = torch.cat([torch.full((95, 1), -1.0), torch.full((5, 1), 1.0)]) + 0.01 * torch.randn(100, 1)
# The last individual stands in the middle; its fitness is 0, so that it does not count itself.
x = torch.cat([crowd, torch.zeros(1, 1)])
fitness = torch.cat([torch.ones(100), torch.zeros(1)])
found = {}
for density in ("uniform", "kde"):
    for h in (0.1, 1.0):
        generator = BayesianGenerator(x, fitness, (alpha, alpha), density=density, h=h)
        found[density, h] = float(generator.estimator(x)[-1, 0])
        print(f"density {density}, h {h}: the origin of the middle is {found[density, h]:.4f}")
weights = fitness / KDE(x) * torch.exp(-(alpha * x[:, 0] ** 2) / (2 * (1 - alpha)))
should = float((weights * x[:, 0]).sum() / weights.sum())
print(f"by the density of each individual it is {should:.4f}")
assert abs(should) < 0.1
assert max(found.values()) - min(found.values()) < 1e-3 and found["kde", 0.1] < -0.85, "the density has an effect now"

start = torch.randn(200, 2)
ends = []
for options in ({"density": "uniform"}, {"density": "kde"}, {"density": "kde", "kde_bandwidth": 1.0}):
    torch.manual_seed(1)
    ends.append(DiffEvo(num_step=10, **options).optimize(lambda x: torch.exp(-(x**2).sum(-1)), start))
    print(options, "differ from the first by", float((ends[-1] - ends[0]).abs().max()))
    assert torch.equal(ends[-1], ends[0]), "DiffEvo hands its options on now"
print("the density has no effect")
PY
TQDM_DISABLE=1 "$dir/venv/bin/python" "$dir/run.py"
