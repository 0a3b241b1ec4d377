#!/usr/bin/env bash
# langevin-sampling: MetropolisAdjustedLangevin never rejects, standard deviation 0.8 for 1; and LangevinDynamics from
# the mode is thrown millions away and stays there.
#
# A Metropolis step that rejects its proposal gives the old state once more. Here sample() goes on proposing until one
# is accepted, so a state that is seldom left counts once where it should count often. And after the first acceptance
# the old state and the proposal share their memory, so that a rejected proposal is not taken back: the next one begins
# from it.
#
# Both divide by the root of a running mean of the squared gradient plus Lambda, as pSGLD does (Li et al. 2016), where
# that is 1e-5. Here it is 1e-15, and the mean begins with 0. Where the first gradient is 0, as at the maximum that one
# would start from, the first noise has the standard deviation sqrt(2 lr / 1e-15); the large gradients out there then
# make all further steps tiny.
#
# N(0, 1) in one dimension, step sizes that stay constant.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6
"$dir/venv/bin/pip" install -q --no-deps langevin-sampling==1.4
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from langevin_sampling.samplers import LangevinDynamics, MetropolisAdjustedLangevin

print("langevin-sampling", version("langevin-sampling"), "torch", torch.__version__)
torch.manual_seed(0)
torch.set_num_threads(1)
COUNT = 2000


def energy(x):
    return 0.5 * (x**2).sum()


def run(Class, start, lr, count=COUNT):
    sampler = Class(torch.full((1,), start, requires_grad=True), energy, lr=lr, lr_final=0.999 * lr, max_itr=count)
    return torch.cat([sampler.sample()[0] for _ in range(count)]), sampler


for lr in (0.3, 0.6):
    x, sampler = run(MetropolisAdjustedLangevin, 1.0, lr)
    std = float(x[200:].std())
    repeated = int((x[1:] == x[:-1]).sum())
    print(f"MALA, lr {lr}: standard deviation {std:.2f} (should be 1), {repeated} of {COUNT} states repeated")
    assert repeated == 0, "it rejects now"
    assert std < 0.9
    assert sampler.x[0].data_ptr() == sampler.x[1].data_ptr(), "the states have memory of their own now"
for start in (0.5, 0.0):
    x, _ = run(LangevinDynamics, start, 0.01, 100)
    print(f"Langevin from {start}: {float(x[0]):.3g} after the first step, {float(x[-1]):.3g} after 100")
    far = abs(float(x[0])) > 1e5 and abs(float(x[-1])) > 1e5
    assert far == (start == 0.0), "the mode is a start as any other now"
print("no rejection; the mode is left for good")
PY
"$dir/venv/bin/python" "$dir/run.py"
