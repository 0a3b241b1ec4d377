#!/usr/bin/env bash
# torchmanager-diffusion's VPSDE hardly adds noise, and its VESDE adds too much by the factor sigma_max.
#
# VPSDE takes the first and the last beta of a discrete schedule of N steps, 0.0001 and 0.01 by default, for those of
# the continuous time from 0 to 1, where they would have to be N times as large. So at t = 1 data keep 99.7 % of their
# size, with noise of standard deviation 0.07, and the samples begin with N(0, 1), which the network has never seen. The
# same schedule's own product says 8 % and 0.997. SubVPSDE inherits it: 0.005.
#
# SDEModule.forward_diffusion draws its noise from the prior. For VESDE that is already sigma_max times N(0, 1), 50 by
# default, and is multiplied by sigma(t) once more: 0.5 for 0.01 at t = 0, 2500 for 50 at t = 1.
#
# Zeros as the data: the standard deviation of what the noise is.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 einops==0.8.2 torchmanager==1.5 tqdm==4.70.1
# Without lpips and torchvision, which a metric needs.
"$dir/venv/bin/pip" install -q --no-deps torchmanager-diffusion==1.2.2
cat > "$dir/run.py" <<'PY'
import sys, warnings
from importlib.metadata import distribution, version
from types import ModuleType

import torch

warnings.filterwarnings("ignore")
# The package without the modules of its metrics.
package = ModuleType("diffusion")
package.__path__ = [str(distribution("torchmanager-diffusion").locate_file("diffusion"))]
sys.modules["diffusion"] = package
from diffusion.nn.diffusion.sde import SDEModule
from diffusion.scheduling import BetaScheduler
from diffusion.sde import SubVPSDE, VESDE, VPSDE

torch.set_num_threads(1)
torch.manual_seed(0)
print("torchmanager-diffusion", version("torchmanager-diffusion"), "torch", torch.__version__)
STEPS = 1000
betas = BetaScheduler.LINEAR.calculate_space(STEPS)
last = float(betas.alphas_cumprod[-1])
print(f"the schedule's own end: data times {last**0.5:.3f}, noise of {(1 - last)**0.5:.3f}")


def at(sde, t):
    """What is left of ones, and the standard deviation of the noise."""
    module = SDEModule(torch.nn.Identity(), sde, STEPS, beta_space=betas if isinstance(sde, VPSDE) else None)
    time = torch.full((4000,), t)
    noisy = [module.forward_diffusion(torch.full((4000, 1, 1, 1), value), t=time)[0].x for value in (0.0, 1.0)]
    return float(sde.marginal_prob(torch.ones(1, 1, 1, 1), time[:1])[0]), float(noisy[0].std()), float(noisy[1].std())


out = {}
for kind in (VPSDE, SubVPSDE, VESDE):
    for t in (0.0, 1.0) if kind is VESDE else (0.5, 1.0):
        out[kind, t] = at(kind(STEPS), t)
        print(f"{kind.__name__} at t = {t}: data times {out[kind, t][0]:.3f}, noise of {out[kind, t][1]:.3g}")
assert out[VPSDE, 1.0][0] > 0.99 and out[VPSDE, 1.0][1] < 0.1, "the betas are those of continuous time now"
assert out[SubVPSDE, 1.0][1] < 0.01
assert out[VESDE, 0.0][1] > 0.4 and out[VESDE, 1.0][1] > 2000, "the noise is scaled once now"
print("the noise is not that of the schedule")
PY
"$dir/venv/bin/python" "$dir/run.py"
