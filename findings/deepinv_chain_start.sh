#!/usr/bin/env bash
# deepinv: the mean and variance of a Markov chain (ULA, SKRock, sampling_builder) count its starting point, whatever
# the burn-in.
#
# The documentation says that the samples of the burn-in are discarded. But the running statistics are begun with the
# state before the first iteration, and it stays in them with the weight of one sample. With x_init, or A^T y, far from
# the posterior, that one value decides the variance: here the posterior N(0.74, 0.067) comes out with a variance of
# about 100 from a start at 100, after 100 samples kept. The same chain's own samples, kept by the function of the
# statistics, give what is right.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q deepinv==0.5.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import warnings

import deepinv, torch

warnings.filterwarnings("ignore")
S, LEVEL, SIGMA = 0.5, 0.3, 0.1


class Exact(deepinv.models.Denoiser):
    def forward(self, x, sigma, **_):
        return x * S**2 / (S**2 + sigma**2)


print("deepinv", deepinv.__version__, "torch", torch.__version__)
prior = S**2 + SIGMA**2
mean, variance = prior / (prior + LEVEL**2), prior * LEVEL**2 / (prior + LEVEL**2)
physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(LEVEL))
y = torch.ones(1, 1, 32, 32)
fidelity = deepinv.optim.data_fidelity.L2(sigma=LEVEL)
out = {}
for start in (1.0, 100.0):
    for burn_in in (0.5, 0.9):
        kept = []

        def keep(state):
            kept.append(state["x"].clone())
            return state["x"]

        chain = deepinv.sampling.ULA(
            deepinv.optim.ScorePrior(Exact()),
            fidelity,
            step_size=0.01,
            sigma=SIGMA,
            max_iter=1000,
            thinning=5,
            burnin_ratio=burn_in,
            clip=None,
        )
        m, v = chain(y, physics, seed=1, x_init=torch.full_like(y, start), g_statistics=keep)
        samples = torch.stack(kept[1:])
        out[start, burn_in] = float(v.mean())
        print(
            f"start {start}, burn-in {burn_in}: mean {float(m.mean()):.3f}, variance {out[start, burn_in]:.3f};"
            f" of the {len(samples)} samples after the burn-in {float(samples.mean()):.3f}, {float(samples.var(0).mean()):.3f};"
            f" posterior {mean:.3f}, {variance:.3f}"
        )
        assert abs(float(kept[0].mean()) - start) < 1e-6, "the start is no longer the first value counted"
        assert float(samples.var(0).mean()) < 0.1
assert out[100.0, 0.5] > 50 and out[100.0, 0.9] > 300, "the start no longer counts"
print("the state before the first iteration is counted as a sample")
PY
"$dir/venv/bin/python" "$dir/run.py"
