"""Golden runs of the probability flow by SciPy's RK45, for the sampler rk45.

Made with scipy 1.17.1, numpy 2.4.6, diffusers 0.42.1 (the betas of the discrete schedule) and safetensors 0.8.0. No download. Run by hand from
the repository root:

    python tests/golden/make_rk45.py

It writes tests/golden/rk45.json, the cases (name, rtol, atol, how often the network is called for each sample), and tests/golden/rk45.safetensors,
of each case `times`, [6], at which x is seen, and `x`, [2, 6, 3], x there of two samples of three channels. As score_sde's get_ode_sampler does,
solve_ivp keeps x in f64, is given slopes in f32 (a
sample at a time) and asks a network that is given and gives f32; its rtol = atol = 1e-5 and eps = 1e-3 where no others are named. Where x is nearly
all noise the rounding of the network's output is most of a step's estimated error, so how many calls are made hangs on it.

The flows, with eps and x_0 those of the exact denoiser of make_samplers.py's prior:
  vp        score_sde's VPSDE(0.1, 20): dx/dt = -beta x / 2 + beta eps / (2 sigma), from 1 to 1e-3
  ve        score_sde's VESDE(0.01, 50): dx/dt = sigma ln(sigma_max / sigma_min) eps, from 1 to 1e-5
  discrete  DDPM's betas by the angle whose tangent is sigma: dx/dphi = cos phi eps - sin phi x_0, from the largest to the smallest
  edm       the same from sigma 80 to 0.002
  straight  dx/dt = eps - x_0, from 1 to 0
x_T is uniform(3, 1, 6, ROOT3) of pcg.py, of ve times 50, of edm times the sine of its first angle.
"""

import json
import math
import pathlib

import numpy as np
from diffusers import DDPMScheduler
from safetensors.numpy import save_file
from scipy.integrate import solve_ivp

from pcg import uniform

WEIGHTS, SPREADS = (0.3, 0.7), (0.25, 0.4)
MEANS = [-0.6 + 0.1 * np.arange(3.0), 0.5 - 0.1 * np.arange(3.0)]


def posterior(y, alpha, sigma):
    logs, qs = [], []
    for w, m, s in zip(WEIGHTS, MEANS, SPREADS):
        v = (alpha * s) ** 2 + sigma**2
        qs.append((y - alpha * m) / v)
        logs.append(math.log(w) - 0.5 * math.log(v) - (y - alpha * m) ** 2 / (2 * v))
    top = np.maximum(*logs)
    rs = [np.exp(a - top) for a in logs]
    total = rs[0] + rs[1]
    x0 = sum(r / total * (m + alpha * s * s * q) for r, m, s, q in zip(rs, MEANS, SPREADS, qs))
    return x0, sigma * sum(r / total * q for r, q in zip(rs, qs))


def move(x, level, slopes, kind):
    """dx/dt = alpha' x_0 + sigma' eps, of a network that is given f32 and gives f32; the sum is rounded to f32."""
    (alpha, sigma), (d_alpha, d_sigma) = level, slopes
    x = np.float32(x)
    if kind == "edm":
        ratio = sigma / alpha
        skip, factor = 0.25 / (ratio**2 + 0.25), 0.5 * ratio / math.sqrt(ratio**2 + 0.25)
        scale = 1 / (alpha * math.sqrt(ratio**2 + 0.25))
        y = np.float32(np.float32(scale) * x).astype(np.float64)
        x0 = posterior(y, scale * alpha, scale * sigma)[0]
        f = np.float32((x0 - skip * y / (scale * alpha)) / factor).astype(np.float64)
        x = x.astype(np.float64)
        x0 = skip * x / alpha + factor * f
        eps = (x - alpha * x0) / sigma
    else:
        x = x.astype(np.float64)
        x0, eps = posterior(x, alpha, sigma)
        if kind == "eps":
            eps = np.float32(eps).astype(np.float64)
        elif kind == "score":
            eps = -np.float32(-eps / sigma).astype(np.float64) * sigma
        else:
            v = np.float32(eps - x0).astype(np.float64)
            return np.float32(v).astype(np.float64)
        x0 = (x - sigma * eps) / alpha
    return np.float32(d_alpha * x0 + d_sigma * eps).astype(np.float64)


def vp(t, x):
    log = -0.25 * t**2 * 19.9 - 0.5 * t * 0.1
    alpha, sigma, half = math.exp(log), math.sqrt(-math.expm1(2 * log)), 0.5 * (0.1 + 19.9 * t)
    return move(x, (alpha, sigma), (-half * alpha, half * alpha**2 / sigma), "eps")


def ve(t, x):
    sigma = 0.01 * 5000.0**t
    return move(x, (1.0, sigma), (0.0, sigma * math.log(5000.0)), "score")


def by_angle(phi, x):
    return move(x, (math.cos(phi), math.sin(phi)), (-math.sin(phi), math.cos(phi)), "eps")


def edm(phi, x):
    return move(x, (math.cos(phi), math.sin(phi)), (-math.sin(phi), math.cos(phi)), "edm")


def straight(t, x):
    return move(x, (1.0 - t, t), (-1.0, 1.0), "flow")


abar = np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))
assert np.abs(abar - DDPMScheduler().alphas_cumprod.numpy()).max() < 1e-6
smallest, *_, largest = np.sqrt((1 - abar) / abar)
linear = lambda a, b: np.linspace(a, b, 6)
FLOWS = {
    "vp": (vp, linear(1.0, 1e-3), 1.0),
    "ve": (ve, linear(1.0, 1e-5), 50.0),
    "discrete": (by_angle, linear(math.atan(largest), math.atan(smallest)), 1.0),
    "edm": (edm, linear(math.atan(80.0), math.atan(0.002)), math.sin(math.atan(80.0))),
    "straight": (straight, linear(1.0, 0.0), 1.0),
}


if __name__ == "__main__":
    cases, arrays = [], {"times": [], "x": []}
    for name, (flow, times, scale) in FLOWS.items():
        for tolerance in (1e-5, 1e-3, 1e-6):
            start = (np.float32(uniform(3, 1, 6, 3.0**0.5)).astype(np.float64) * np.float32(scale)).astype(np.float32).astype(np.float64)
            runs = [solve_ivp(flow, (times[0], times[-1]), x, method="RK45", t_eval=times, rtol=tolerance, atol=tolerance)
                    for x in start.reshape(2, 3)]
            assert all(r.success for r in runs)
            alone = [solve_ivp(flow, (times[0], times[-1]), x, method="RK45", rtol=tolerance, atol=tolerance) for x in start.reshape(2, 3)]
            for r, a in zip(runs, alone):
                assert r.nfev == a.nfev and np.abs(r.y[:, -1] - a.y[:, -1]).max() < 1e-12
            cases.append({"flow": name, "tolerance": tolerance, "calls": [r.nfev for r in runs]})
            arrays["times"].append(times)
            arrays["x"].append(np.ascontiguousarray(np.stack([r.y.T for r in runs])))
    folder = pathlib.Path(__file__).parent
    save_file({k: np.ascontiguousarray(np.stack(v)) for k, v in arrays.items()}, folder / "rk45.safetensors")
    (folder / "rk45.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
    print(*cases, sep="\n")
