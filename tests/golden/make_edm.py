"""Golden runs of EDM's own sampler (Karras et al. 2022, algorithm 2, with table 5's parameters), in NumPy and f64.

Made with numpy 2.4.6 and safetensors 0.8.0. No download. Run by hand from the repository root:

    python tests/golden/make_edm.py

tests/golden/edm.json: cases with steps, s_churn, s_tmin, s_tmax, s_noise. tests/golden/edm.safetensors: `sigmas` [steps + 1] and `x` [steps, 6], x of
two samples of three channels after each step, of the cases one after the other. x_T is 80 uniform(3, 1, 6, ROOT3) of pcg.py, the noise of step i
S_noise uniform(3, 2 + i, 6, ROOT3) (two steps of f32 are off by 2.0e-5 and three by 1.0e-5: so steep ones multiply the rounding of the output, see edm.rs);
the denoiser is that of make_samplers.py.
"""

import json
import math
import pathlib

import numpy as np
from safetensors.numpy import save_file

from make_rk45 import posterior
from pcg import uniform

ROOT3 = 3.0**0.5


def denoise(x, sigma):
    return np.concatenate([posterior(row, 1.0, sigma)[0] for row in x.reshape(2, 3)])


def run(steps, s_churn, s_tmin, s_tmax, s_noise, low=0.002, high=80.0, rho=7.0):
    ramp = np.arange(steps) / max(steps - 1, 1)
    t = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    t = np.append(t, 0.0)
    x = t[0] * uniform(3, 1, 6, ROOT3).astype(np.float64)
    xs = []
    for i in range(steps):
        gamma = min(s_churn / steps, math.sqrt(2) - 1) if s_tmin <= t[i] <= s_tmax else 0.0
        hat = t[i] + gamma * t[i]
        x = x + math.sqrt(hat**2 - t[i] ** 2) * s_noise * uniform(3, 2 + i, 6, ROOT3)
        d = (x - denoise(x, hat)) / hat
        after = x + (t[i + 1] - hat) * d
        if t[i + 1] != 0:
            e = (after - denoise(after, t[i + 1])) / t[i + 1]
            after = x + (t[i + 1] - hat) * (d / 2 + e / 2)
        x = after
        xs.append(x)
    return t, np.array(xs)


if __name__ == "__main__":
    cases = [
        (18, 0.0, 0.0, math.inf, 1.0), (18, 40.0, 0.05, 50.0, 1.003), (18, 80.0, 0.05, 1.0, 1.007), (40, 10.0, 0.0, math.inf, 1.0),
        (5, 100.0, 0.0, 1e9, 1.0), (4, 1.0, 0.0, math.inf, 1.0),
    ]
    runs = [run(*c) for c in cases]
    folder = pathlib.Path(__file__).parent
    arrays = {"sigmas": np.concatenate([r[0] for r in runs]), "x": np.concatenate([r[1].reshape(-1) for r in runs])}
    save_file(arrays, folder / "edm.safetensors")
    (folder / "edm.safetensors").chmod(0o644)
    names = ("steps", "s_churn", "s_tmin", "s_tmax", "s_noise")
    rows = [dict(zip(names, (min(v, 1e30) for v in c))) for c in cases]
    (folder / "edm.json").write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
    print(*rows, sep="\n")
