#!/usr/bin/env bash
# mcmc-samplers' HamiltonianMonteCarlo samples the cube of the density that it is given: a standard deviation of 0.58
# for 1.
#
# A path is accepted by the change of the whole energy. Here the new momentum's energy is added to that of the old
# position, and the old momentum's to that of the new one. Along a path that keeps the energy the changes of the two are
# opposite and cancel; swapped they add up, and the chain is that of the density to the power of 3. It rejects a third
# to a half of the paths where HMC hardly rejects any.
#
# N(0, 1), whose cube has the variance 1 / 3, by short steps; and MetropolisHastings of the library.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6
# Without matplotlib, which is for plots.
"$dir/venv/bin/pip" install -q --no-deps mcmc-samplers==0.0.3
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import version
from types import ModuleType

import torch

for name in ("matplotlib", "matplotlib.pyplot"):
    sys.modules[name] = ModuleType(name)
sys.modules["matplotlib.pyplot"].Figure = object
from mcmc_samplers import HamiltonianMonteCarlo, MetropolisHastings

print("mcmc-samplers", version("mcmc-samplers"), "torch", torch.__version__)
torch.set_num_threads(1)


def target(x):
    return -0.5 * (x**2).sum(-1)


def run(name, sampler, count):
    torch.manual_seed(0)
    x, _ = sampler(count)
    std = float(x.std())
    accepted = float(sampler.acceptance_ratio)
    print(f"{name}: standard deviation {std:.2f} (should be 1), {accepted:.2f} accepted")
    return std, accepted


plain = MetropolisHastings(target, torch.zeros(1), cov=4 * torch.eye(1))
assert abs(run("MetropolisHastings", plain, 5000)[0] - 1) < 0.1
for size in (1, 2):
    for step, steps in ((0.1, 15), (0.3, 5)):
        sampler = HamiltonianMonteCarlo(target, torch.zeros(size), step_size=step, num_steps=steps)
        std, accepted = run(f"HamiltonianMonteCarlo, {size} dimensions, {steps} steps of {step}", sampler, 3000)
        assert abs(std - 3**-0.5) < 0.05, "it has its target now"
        assert accepted < 0.8
print("the target is the cube of the one given")
PY
"$dir/venv/bin/python" "$dir/run.py"
