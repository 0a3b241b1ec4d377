#!/usr/bin/env bash
# deepinv's DDRM changes the measurements that it is given: a second run on the same y answers another question.
#
# It divides U^T y by the singular values in place. Where U is the identity (a DecomposablePhysics without U,
# Inpainting, Denoising), U^T y is y itself, so the caller's tensor holds y / s afterwards. With singular values 0.5
# each call doubles y, and drawing three posterior samples in a loop gives one around the truth, one around twice it
# and one around four times it. Other samplers of the library leave y alone.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q deepinv==0.5.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import deepinv, numpy as np, torch

S = 10.0


class Exact(deepinv.models.Denoiser):
    """E[x_0 | x_0 + sigma n] for x_0 from N(0, S^2): a wide prior, so that the measurements decide."""

    def forward(self, x, sigma, **_):
        return x * S**2 / (S**2 + sigma**2)


print("deepinv", deepinv.__version__, "torch", torch.__version__)
physics = deepinv.physics.DecomposablePhysics(mask=torch.full((1, 1, 16, 16), 0.5), noise_model=deepinv.physics.GaussianNoise(0.01))
ddrm = deepinv.sampling.DDRM(Exact(), sigmas=np.linspace(1, 0, 50))
y = physics.A(torch.ones(1, 1, 16, 16))
means = []
for draw in range(3):
    print(f"before draw {draw + 1}: y is {float(y.mean()):.3f}")
    means.append(float(ddrm(y, physics, seed=1).mean()))
    print(f"draw {draw + 1}: mean {means[-1]:.3f} (the truth is 1)")
assert abs(means[0] - 1) < 0.1 and abs(means[1] - 2) < 0.1 and abs(means[2] - 4) < 0.2, "DDRM leaves y alone now"
y = physics.A(torch.ones(1, 1, 16, 16))
before = y.clone()
diffpir = deepinv.sampling.DiffPIR(Exact(), deepinv.optim.data_fidelity.L2(), max_iter=5)
diffpir(y, physics, seed=1)
assert torch.equal(y, before)
print("DiffPIR leaves y alone; DDRM divides it in place")
PY
"$dir/venv/bin/python" "$dir/run.py"
