#!/usr/bin/env bash
# deepinv's PoissonLikelihood: its gradient is not that of its value, its proximal operator is negative, and its value
# depends on the batch.
#
# The value is sum x / gain - y log(x / gain). Its gradient has the factor 1 / gain; grad() multiplies by the gain, so
# it is off by gain^2 (1/25 of it for a gain of 0.2). The proximal operator of the distance, for gain 1 too, has a
# product where a sum belongs and the wrong root: it is negative, where the logarithm is not defined, and no minimum of
# anything. The value's logarithms are summed over the whole batch and added to each image's own rest, so an image's
# negative log-likelihood changes with its neighbours.
#
# This script holds grad() to automatic differentiation, the proximal operator to the minimum of the function that it
# is documented to minimise (closed form: x is the positive root of a quadratic), and the value of an image alone to
# its value in a batch.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q deepinv==0.5.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import warnings

warnings.filterwarnings("ignore")
import deepinv, torch

print("deepinv", deepinv.__version__, "torch", torch.__version__)
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
x, y = torch.rand(2, 1, 8, 8) + 0.5, torch.rand(2, 1, 8, 8) + 0.5
physics = deepinv.physics.Denoising(deepinv.physics.PoissonNoise(1.0))
for gain in (1.0, 0.5, 0.2):
    likelihood = deepinv.optim.data_fidelity.PoissonLikelihood(gain=gain, denormalize=False)
    at = x[:1].clone().requires_grad_()
    true = torch.autograd.grad(likelihood(at, y[:1], physics).sum(), at)[0]
    given = likelihood.grad(x[:1], y[:1], physics)
    ratio = float((given / true).mean())
    print(f"gain {gain}: grad() is {ratio:.4f} times the gradient of the value (gain^2 is {gain**2:.4f})")
    assert torch.allclose(given, gain**2 * true), "grad() is the gradient now"

likelihood = deepinv.optim.data_fidelity.PoissonLikelihood(gain=1.0, denormalize=False)
for gamma in (0.3, 1.0):
    given = likelihood.d.prox(x, y, gamma=gamma)
    # The minimum of gamma (u - y log u) + (u - x)^2 / 2.
    right = (x - gamma + ((x - gamma) ** 2 + 4 * gamma * y).sqrt()) / 2
    slope = gamma * (1 - y / right) + right - x
    print(
        f"prox, gain 1, gamma {gamma}: from {float(given.min()):.3f} to {float(given.max()):.3f};"
        f" the minimum lies between {float(right.min()):.3f} and {float(right.max()):.3f} (slope there {float(slope.abs().max()):.0e})"
    )
    assert bool((given < 0).all()) and float(slope.abs().max()) < 1e-12, "the proximal operator is positive now"

alone = float(likelihood(x[:1], y[:1], physics))
for factor in (1.0, 10.0):
    images, counts = torch.cat([x[:1], factor * x[1:]]), torch.cat([y[:1], factor * y[1:]])
    beside = float(likelihood(images, counts, physics)[0])
    print(f"value of the first image alone {alone:.3f}, beside one that is {factor} times as bright {beside:.3f}")
    assert factor == 1.0 or abs(beside - alone) > 100, "the value does not depend on the batch now"
print("PoissonLikelihood's value, gradient and proximal operator do not belong together")
PY
"$dir/venv/bin/python" "$dir/run.py"
