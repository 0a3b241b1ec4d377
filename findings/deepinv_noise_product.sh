#!/usr/bin/env bash
# deepinv: the product of two noise models, documented to add the noise of both, adds none, for GaussianNoise and
# nearly all others.
#
# NoiseModel.__mul__ composes the attribute noise_model of its two factors. The classes of the library override
# forward() and leave that attribute at its default, the identity. So GaussianNoise(0.5) * PoissonNoise(1.0) returns
# its input unchanged, without a word, and a solver tested on such measurements is tested on clean ones. Only plain
# NoiseModel(function) factors work.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q deepinv==0.5.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import deepinv, torch
from deepinv.physics import GaussianNoise, NoiseModel, PoissonNoise, UniformNoise

print("deepinv", deepinv.__version__, "torch", torch.__version__)
print(" ".join(NoiseModel.__mul__.__doc__.split())[:180])
torch.manual_seed(0)
x = torch.full((1, 1, 256, 256), 5.0)
for a, b in (
    (GaussianNoise(0.5), PoissonNoise(1.0)),
    (PoissonNoise(1.0), GaussianNoise(0.5)),
    (UniformNoise(0.5), GaussianNoise(0.5)),
    (GaussianNoise(3.0), GaussianNoise(4.0)),
):
    alone, both = [float(n(x).std()) for n in (a, b)], (a * b)(x)
    names = f"{type(a).__name__} * {type(b).__name__}"
    print(f"{names}: standard deviation {float(both.std()):.3f}, of each alone {alone[0]:.3f} and {alone[1]:.3f}")
    assert min(alone) > 0.2 and torch.equal(both, x), "a product adds noise now"
plain = NoiseModel(lambda v: v + 0.5 * torch.randn_like(v)) * NoiseModel(lambda v: v + 0.5 * torch.randn_like(v))
assert abs(float(plain(x).std()) - 0.5**0.5) < 0.02
physics = deepinv.physics.Denoising(GaussianNoise(0.5) * PoissonNoise(1.0))
assert torch.equal(physics(x), x)
print("measurements of Denoising with such a product are the image itself")
PY
"$dir/venv/bin/python" "$dir/run.py"
