#!/usr/bin/env bash
# deepinv's DDRM draws noise of half the variance that it should: unmeasured pixels come out with a standard deviation
# of 0.35 where the prior has 0.5.
#
# Each draw is divided by sqrt(2) (fit for one part of a complex number, but the states are real). The paper's update
# adds noise of the full standard deviation, and so the state has the level that the denoiser is told. Here the state
# is cleaner than that, at every step.
#
# An inpainting problem with an exact denoiser, for the prior N(0, 0.5^2): pixels without a measurement are independent
# of y. With eta 0 their law should be the prior's. With eta 0.85, the default, the paper's own update makes 0.44 of it
# (it puts the denoiser's mean in the place of x_0); here it is 0.31. This script prints both, and both once more with
# the division removed.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q deepinv==0.5.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import inspect, textwrap
import deepinv, numpy as np, torch

S = 0.5


class Exact(deepinv.models.Denoiser):
    """E[x_0 | x_0 + sigma n] for x_0 from N(0, S^2)."""

    def forward(self, x, sigma, **_):
        return x * S**2 / (S**2 + sigma**2)


print("deepinv", deepinv.__version__, "torch", torch.__version__, "numpy", np.__version__)
DDRM = deepinv.sampling.DDRM
source = textwrap.dedent(inspect.getsource(DDRM.forward))
assert source.count(" / np.sqrt(2.0)") == 2
scope = {}
exec(source.replace(" / np.sqrt(2.0)", ""), vars(inspect.getmodule(DDRM)), scope)
Whole = type("Whole", (DDRM,), {"forward": scope["forward"]})

mask = torch.zeros(1, 1, 64, 64)
mask[..., :8] = 1
physics = deepinv.physics.Inpainting(mask=mask, img_size=(1, 64, 64), noise_model=deepinv.physics.GaussianNoise(0.1))
torch.manual_seed(0)
y = physics(S * torch.randn(1, 1, 64, 64))
out = {}
for eta in (0.0, 0.85):
    for name, cls in (("as it is", DDRM), ("without the division", Whole)):
        for steps in (100, 400):
            sigmas = np.append(np.geomspace(20, 1e-3, steps), 0)
            x = cls(Exact(), sigmas=sigmas, eta=eta)(y.clone(), physics, seed=1)
            out[eta, name, steps] = float(x[..., 8:].std())
            print(f"eta {eta}, {steps} steps, {name}: standard deviation of unmeasured pixels {out[eta, name, steps]:.3f}")
for eta, want in ((0.0, S), (0.85, 0.44)):
    assert abs(out[eta, "without the division", 400] - want) < 0.02
    assert abs(out[eta, "as it is", 400] - want / 2**0.5) < 0.02, "the spread is no longer too small by sqrt(2)"
print("DDRM of deepinv halves the variance of its noise")
PY
"$dir/venv/bin/python" "$dir/run.py"
