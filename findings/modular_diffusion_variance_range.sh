#!/usr/bin/env bash
# modular-diffusion's Gaussian(variance="range") has beta for its upper end where it should have the square root.
#
# Improved DDPM (Nichol and Dhariwal 2021, equation 15) lets the network choose the logarithm of a step's variance
# between those of beta_t and of the posterior. The library works with standard deviations, and takes the right one of
# the posterior, but log(beta_t) for the other end. Late in the chain the two ends belong together to 1 %; here they lie
# a factor of 10 apart, the wrong way round: what should be the larger is the smaller. Where the network asks for
# beta_t, one of the two choices of DDPM, the samples come out with hardly any noise of the steps.
#
# An exact network for N(0, 1), for which the right variance of each step is beta_t, and the least, middle and greatest
# of the range.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 einops==0.6.1 tqdm==4.64.1
# Without its requirements: of typing-extensions it asks for a version older than what torch needs.
"$dir/venv/bin/pip" install -q --no-deps modular-diffusion==0.0.3
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from diffusion import Model
from diffusion.data import Identity
from diffusion.loss import Simple
from diffusion.net import Net
from diffusion.noise import Gaussian
from diffusion.schedule import Linear

torch.set_num_threads(1)
print("modular-diffusion", version("modular-diffusion"), "torch", torch.__version__)
STEPS = 1000
schedule = Linear(STEPS, 0.9999, 0.98)
alpha = schedule.compute()
delta = alpha.cumprod(0)
noise = Gaussian(parameter="epsilon", variance="range")
noise.schedule(alpha)
print("standard deviation of a step, where the network answers 0 or 1:")
for t in (1, 100, 500, 1000):
    z = torch.zeros(1, 1)
    low, high = (
        float(noise.approximate(z, torch.tensor([t]), torch.stack((z, torch.full_like(z, v)))).sigma) for v in (0.0, 1.0)
    )
    beta = float(1 - alpha[t])
    posterior = float(((1 - alpha[t]) * (1 - delta[t - 1]) / (1 - delta[t])).sqrt())
    print(f"t {t}: {low:.5f} to {high:.5f}; should be {posterior:.5f} to {beta**0.5:.5f}")
    assert abs(low - posterior) < 1e-5
    assert abs(high - beta) < 1e-5, "the upper end is another one now"


class Exact(Net):
    """The noise in x_t for x_0 from N(0, 1), and a place in the range."""

    def __init__(self, place):
        super().__init__()
        self.place, self.unused = place, torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, y, t):
        return torch.stack(((1 - delta[t]).sqrt()[:, None] * x, torch.full_like(x, self.place)))


out = {}
for variance, place in (("fixed", 0.0), ("range", 0.0), ("range", 0.5), ("range", 1.0)):
    model = Model(
        data=Identity(torch.zeros(1, 2000)),
        schedule=schedule,
        noise=Gaussian(parameter="epsilon", variance=variance),
        net=Exact(place),
        loss=Simple(parameter="epsilon"),
        compile=False,
    )
    torch.manual_seed(0)
    out[variance, place] = float(model.sample(progress=False)[-1].std())
    print(f"variance {variance!r}, place {place}: standard deviation of the samples {out[variance, place]:.3f} (should be 1)")
assert out["fixed", 0.0] > 0.95 and out["range", 0.0] > 0.95
assert out["range", 1.0] < 0.3, "the greatest variance keeps the law now"
print("the range ends at the square of what it should")
PY
"$dir/venv/bin/python" "$dir/run.py"
