#!/usr/bin/env bash
# deepinv: seed=0 is no seed for DDRM and DiffPIR, while seed=1 is one, and ULA takes both.
#
# Both samplers ask "if seed", so the seed 0 is taken for None: two runs with seed=0 differ and nothing says so.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q deepinv==0.5.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import warnings

import deepinv, numpy as np, torch

warnings.filterwarnings("ignore")


class Exact(deepinv.models.Denoiser):
    def forward(self, x, sigma, **_):
        return x / (1 + sigma**2)


print("deepinv", deepinv.__version__, "torch", torch.__version__)
physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(0.1))
y = torch.full((1, 1, 8, 8), 0.5)
fidelity = deepinv.optim.data_fidelity.L2(sigma=0.1)
ddrm = deepinv.sampling.DDRM(Exact(), sigmas=np.linspace(1, 0, 20))
diffpir = deepinv.sampling.DiffPIR(Exact(), fidelity, max_iter=20)
ula = deepinv.sampling.ULA(deepinv.optim.ScorePrior(Exact()), fidelity, step_size=1e-3, max_iter=20)
same = {}
for name, run in (
    ("DDRM", lambda seed: ddrm(y.clone(), physics, seed=seed)),
    ("DiffPIR", lambda seed: diffpir(y.clone(), physics, seed=seed)),
    ("ULA", lambda seed: ula(y.clone(), physics, seed=seed)[0]),
):
    for seed in (0, 1):
        same[name, seed] = torch.equal(run(seed), run(seed))
        print(f"{name}, seed={seed}: two runs are {'equal' if same[name, seed] else 'different'}")
assert not same["DDRM", 0] and not same["DiffPIR", 0], "seed=0 is a seed now"
assert same["DDRM", 1] and same["DiffPIR", 1] and same["ULA", 0] and same["ULA", 1]
print("seed=0 leaves DDRM and DiffPIR unseeded")
PY
"$dir/venv/bin/python" "$dir/run.py"
