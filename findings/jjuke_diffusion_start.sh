#!/usr/bin/env bash
# jjuke-diffusion: KarrasSampler's "dpm" starts from N(0, 1) where sigma is 80, 0.004 for 0.300; DDIMSampler and
# DDPMSampler end in a TypeError.
#
# "heun" multiplies the start by sigma_max, "dpm" and "ancestral" do not. To the network such a start is an image
# without noise, and all that follows shrinks by the same factor; the noise that "ancestral" adds makes up for most of
# it.
#
# The two others hand `condition` to a function of their base class that calls it `c`, whether one is given or not.
#
# Data N(0.2, 0.3^2), an exact network, 50 steps.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 scipy==1.17.1 einops==0.8.2
# Without jjuke, of which the samplers use one line.
"$dir/venv/bin/pip" install -q --no-deps jjuke-diffusion==0.0.1.1
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import torch

for name in ("jjuke", "jjuke.utils"):
    sys.modules[name] = ModuleType(name)
sys.modules["jjuke.utils"].default = lambda value, make: make() if value is None else value
# The package without its networks.
for name in ("jjuke_diffusion", "jjuke_diffusion.diffusion"):
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__path__ = [str(distribution("jjuke-diffusion").locate_file(name.replace(".", "/")))]
from jjuke_diffusion.diffusion.common import get_betas
from jjuke_diffusion.diffusion.ddim import DDIMSampler
from jjuke_diffusion.diffusion.ddpm import DDPMSampler
from jjuke_diffusion.diffusion.karras import KarrasSampler

print("jjuke-diffusion", version("jjuke-diffusion"), "torch", torch.__version__)
torch.set_num_threads(1)
MEAN, STD = 0.2, 0.3
betas = get_betas("linear", 1000)
alphas = torch.from_numpy((1 - betas).cumprod()).float()


def network(x, t, condition=None):
    alpha = alphas[t].view(-1, 1)
    return (1 - alpha) ** 0.5 * (x - alpha**0.5 * MEAN) / (alpha * STD**2 + 1 - alpha)


found = {}
for name in ("heun", "dpm", "ancestral"):
    torch.manual_seed(0)
    sampler = KarrasSampler(betas, karras_num_timesteps=50, karras_sampler=name, clip_denoised=False)
    x = sampler(network, (4000, 1))
    found[name] = float(x.std())
    print(f"{name}: {float(x.mean()):.3f} +- {found[name]:.3f} (should be 0.200 +- 0.300)")
assert abs(found["heun"] - STD) < 0.02
assert found["dpm"] < 0.02, "it starts from sigma_max now"
for Class in (DDIMSampler, DDPMSampler):
    try:
        Class(betas, clip_denoised=False)(network, (10, 1))
        raise SystemExit(f"{Class.__name__} runs now")
    except TypeError as error:
        print(f"{Class.__name__}: TypeError:", error)
print("one sampler of five has the data's spread")
PY
"$dir/venv/bin/python" "$dir/run.py"
