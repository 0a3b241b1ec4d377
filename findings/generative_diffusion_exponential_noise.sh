#!/usr/bin/env bash
# generative-diffusion's ExponentialIntegratorSampler adds 0.9 of the noise of its steps; more steps do not mend it.
#
# The sampler is documented as the exponential integrator (Zhang and Chen 2023) of the reverse SDE, with its linear part
# solved. The noise of a step is 0.9 g(t) sqrt(dt): a factor that is in no docs and no paper, and that stays whatever
# the step. N(0, 1), which the variance-preserving process keeps, comes out with a standard deviation of 0.9.
# EulerMaruyamaSampler has no such factor; PredictorCorrectorSampler has it, and its corrector puts most of it right.
#
# Exact scores, 1,000 and 4,000 steps.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 tqdm==4.70.1 colorlog==6.12.0
# Without its requirements: it asks for a torch below 2.7.
"$dir/venv/bin/pip" install -q --no-deps generative-diffusion==0.1.3
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from generative_diffusion.samplers import EulerMaruyamaSampler, ExponentialIntegratorSampler
from generative_diffusion.schedulers import LinearScheduler
from generative_diffusion.sde import VPSDE

torch.set_num_threads(1)
print("generative-diffusion", version("generative-diffusion"), "torch", torch.__version__)
sde = VPSDE(LinearScheduler())
for mean, std in ((0.0, 1.0), (0.5, 0.3)):

    def score(x, t):
        a = sde.mu_t(torch.ones_like(x), t)
        return -(x - a * mean) / ((a * std) ** 2 + sde.sigma_t(t).view(-1, 1, 1, 1) ** 2)

    for sampler in (EulerMaruyamaSampler(), ExponentialIntegratorSampler()):
        for steps in (1000, 4000):
            torch.manual_seed(0)
            x = sampler.sample(torch.randn(5000, 1, 1, 1), sde, score, n_steps=steps, seed=1)[1][-1]
            got = float(x.std())
            name = f"{type(sampler).__name__}, {steps} steps"
            print(f"{name}: standard deviation {got:.3f}, should be {std}: {got / std:.2f} of it")
            if isinstance(sampler, EulerMaruyamaSampler):
                assert abs(got / std - 1) < 0.04
            else:
                assert 0.86 < got / std < 0.94, "the noise is whole now"
print("the exponential integrator's samples have nine tenths of the standard deviation")
PY
"$dir/venv/bin/python" "$dir/run.py"
