#!/usr/bin/env bash
# weatherflow's Langevin dynamics has by default a hundredth of its target's spread, 0.01 for 1; its fast "Heun"
# integration is of first order.
#
# langevin_dynamics multiplies the noise by sigma, 0.01, but not the step along the score by its square, so that it
# samples at the temperature sigma^2 whatever the step size: the target is the density to the power of 10,000.
#
# WeatherFlowODE's fast_mode asks for the second velocity at the middle of the step and then takes the mean of the two,
# where Heun's method has the second at its end, or the midpoint method the second alone. Twice the steps halve the
# error.
#
# N(2, 1) from its own samples; and y' = y.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6
# Without its requirements, which are for data.
"$dir/venv/bin/pip" install -q --no-deps weatherflow==0.4.3
cat > "$dir/run.py" <<'PY'
import math
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import torch

# The package without its data sets.
for name in ("weatherflow", "weatherflow.models", "weatherflow.solvers", "weatherflow.physics"):
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__path__ = [str(distribution("weatherflow").locate_file(name.replace(".", "/")))]
from weatherflow.models.flow_matching import WeatherFlowODE
from weatherflow.solvers.langevin import langevin_dynamics

print("weatherflow", version("weatherflow"), "torch", torch.__version__)
torch.set_num_threads(1)
torch.manual_seed(0)


def score(x, t):
    return 2 - x


for settings in ({}, {"step_size": 0.1}, {"sigma": 0.5, "clip_grad": False}, {"sigma": 1.0, "clip_grad": False}):
    x = langevin_dynamics(score, 2 + torch.randn(4000, 1), n_steps=2000, **settings)
    sigma, std = settings.get("sigma", 0.01), float(x.std())
    print(f"langevin_dynamics, {settings}: {float(x.mean()):.2f} +- {std:.3f} (should be 2 +- 1)")
    assert abs(std / sigma - 1) < 0.1, "sigma is not the temperature's root now"


class Field(torch.nn.Module):
    def forward(self, x, t, static=None, forcing=None):
        return x


model, errors = WeatherFlowODE(Field(), fast_mode=True), []
for steps in (10, 20, 40):
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    found = float(model(torch.ones(1, 1, 1, 1, dtype=torch.float64), times)[-1])
    heun = (1 + 1 / steps + 0.5 / steps**2) ** steps
    errors.append(found - math.e)
    print(f"fast_mode, {steps} steps: e {errors[-1]:+.4f} (Heun's method has {heun - math.e:+.4f})")
assert 1.8 < errors[0] / errors[1] < 2.2 and 1.8 < errors[1] / errors[2] < 2.2, "it is of second order now"
print("the temperature is not 1, the order not 2")
PY
"$dir/venv/bin/python" "$dir/run.py"
