"""Golden grids of sigmas: Align Your Steps, ComfyUI's `simple`, k-diffusion's polyexponential.

Made with numpy 2.4.6 and diffusers 0.42.1 (its AysSchedules: the tables but for the last entry, which is 0 there). The formulas are those of
NVIDIA's how-to page and ComfyUI's node of that name (interpolation in ln sigma, the last entry replaced by 0), of ComfyUI's `simple`
(sigmas[-(1 + int(i * T / n))] for i < n, then 0) and of k-diffusion 0.1.1's get_sigmas_polyexponential. No download. Run by hand from the
repository root:

    python tests/golden/make_grids.py

It writes tests/golden/grids.json: rows of kind, steps, rho (of polyexponential), sigmas (f64, the last one 0). The model has the betas of Stable
Diffusion: scaled_linear, 0.00085 to 0.012, 1000 timesteps, in f64.
"""

import json
import pathlib

import diffusers
import numpy as np
from diffusers.schedulers import AysSchedules

assert diffusers.__version__ == "0.42.1"
LEVELS = {
    "ays-sd15": ("StableDiffusionSigmas", 0.029),
    "ays-sdxl": ("StableDiffusionXLSigmas", 0.029),
    "ays-svd": ("StableDiffusionVideoSigmas", 0.002),
}
betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
abar = np.cumprod(1 - betas)
trained = np.sqrt((1 - abar) / abar)


def ays(name, steps):
    key, smallest = LEVELS[name]
    table = AysSchedules[key][:-1] + [smallest]
    if steps + 1 != len(table):
        places = np.linspace(0, 1, len(table))
        table = np.exp(np.interp(np.linspace(0, 1, steps + 1), places, np.log(table[::-1])))[::-1].copy()
    table[-1] = 0
    return list(table)


def simple(steps):
    stride = len(trained) / steps
    return [trained[-(1 + int(i * stride))] for i in range(steps)] + [0.0]


def polyexponential(steps, rho):
    ramp = np.linspace(1, 0, steps) ** rho
    low, high = np.log(trained[0]), np.log(trained[-1])
    return list(np.exp(ramp * (high - low) + low)) + [0.0]


rows = []
for steps in (10, 5, 7, 25, 1):
    rows += [{"kind": name, "steps": steps, "sigmas": ays(name, steps)} for name in LEVELS]
    rows.append({"kind": "simple", "steps": steps, "sigmas": simple(steps)})
    for rho in (1.0, 2.0, 0.7):
        rows.append({"kind": "polyexponential", "rho": rho, "steps": steps, "sigmas": polyexponential(steps, rho)})
path = pathlib.Path(__file__).parent / "grids.json"
path.write_text("[\n" + ",\n".join(json.dumps(r, default=float) for r in rows) + "\n]\n")
print(len(rows), "grids,", path.stat().st_size, "bytes")
