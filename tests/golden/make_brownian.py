"""Golden runs of DPMSolverSDEScheduler with torchsde's Brownian tree, from a seed.

Made with diffusers 0.42.1, torch 2.15.0 (CPU with AVX2 and FMA), torchsde 0.2.6, numpy 2.4.6 and safetensors 0.8.0. No download. Run by hand from
the repository root:

    python tests/golden/make_brownian.py

A case is run as a user does: torch.manual_seed(seed), x_T = randn(shape) init_noise_sigma, then the loop over the timesteps; the Brownian motion has
noise_sampler_seed, or what torch.randint draws after x_T. Then again in f64, with the first run's sigmas and draws: its equations to 1e-15.

tests/golden/brownian.json: cases with config, seed, tree (noise_sampler_seed or null), each (a seed for each sample: seed + i and tree + i), shape,
steps, and `f32_differs`, how far the first run ends from the second (over max(1, |x|)).
tests/golden/brownian.safetensors, one after the other in the order of the cases:
  sigmas     [steps + 1]    of the first run, f32, the last one 0
  intervals  [draws, 2]     the sigmas between which the tree is asked, f32: from one to the middle, and from the same one to the next
  draws      [draws, n]     what it answers, over the root of the length, f32
  x_t        [n]            of the first run before init_noise_sigma, f32
  x          [calls, 2]     of the second run after each call, its first and last value
  end        [n]            of the second run

The denoiser gives eps of the prior of make_samplers.py, channel by channel.
"""

import json
import math
import pathlib

import diffusers
import numpy as np
import torch
from safetensors.numpy import save_file

import make_samplers as samplers

assert diffusers.__version__ == "0.42.1"
NAME = "DPMSolverSDEScheduler"
CLS, (F32, F64) = samplers.modules_of(NAME)
REAL = F32.BrownianTreeNoiseSampler
KARRAS, EXPONENTIAL, BETA = ({f"use_{k}_sigmas": True} for k in ("karras", "exponential", "beta"))
CASES = [
    ({}, 0, 0, False, (1, 3, 4, 4), 10),
    (KARRAS, 0, 0, False, (1, 3, 4, 4), 10),
    (KARRAS, 5, 7, False, (2, 3, 4, 4), 12),
    (EXPONENTIAL, 1, 2**40 + 3, False, (1, 3, 2, 2), 8),
    (BETA, 2, None, False, (1, 3, 4, 4), 8),
    ({}, 3, None, False, (2, 3, 3, 3), 6),
    (KARRAS, 4, None, False, (1, 3, 2, 2), 6),
    ({"timestep_spacing": "leading", "steps_offset": 1}, 6, 11, False, (4, 3, 1, 1), 6),
    (KARRAS, 8, 20, True, (3, 3, 3, 3), 6),
    ({"beta_start": 0.0001, "beta_end": 0.02, "timestep_spacing": "trailing"}, 9, 1, False, (1, 3, 4, 4), 10),
]


def eps_of(x, sigma):
    """eps of x = x_0 + sigma eps, channel by channel, in f64."""
    x = x.numpy().astype(np.float64)
    logs, qs = [], []
    for w, m, s in zip(samplers.WEIGHTS, samplers.MEANS, samplers.SPREADS):
        m, v = m.reshape(1, 3, 1, 1), s * s + sigma**2
        qs.append((x - m) / v)
        logs.append(math.log(w) - 0.5 * math.log(v) - (x - m) ** 2 / (2 * v))
    top = np.maximum(*logs)
    rs = [np.exp(a - top) for a in logs]
    return torch.from_numpy(sigma * sum(r * q for r, q in zip(rs, qs)) / (rs[0] + rs[1]))


class Recorded:
    """The real sampler of the tree, of which the questions and answers are kept."""

    def __init__(self, x, low, high, seed):
        self.real = REAL(x, low, high, seed)

    def __call__(self, a, b):
        z = self.real(a, b)
        kept["intervals"].append([a.item(), b.item()])
        kept["draws"].append(z.clone())
        return z


class Replayed:
    def __init__(self, *_):
        self.at = 0

    def __call__(self, *_):
        self.at += 1
        return kept["draws"][self.at - 1].to(torch.float64)


def run(cls, config, tree, steps, x, sigmas=None):
    s = cls(**config, noise_sampler_seed=tree)
    s.set_timesteps(steps)
    if sigmas is not None:
        s.sigmas = sigmas
    s.set_begin_index(0)
    if sigmas is None:
        x = x * s.init_noise_sigma
    xs, start = [], x
    for t in s.timesteps:
        i = s._begin_index if s.step_index is None else s.step_index
        sigma = float(s.sigmas[i]) if s.state_in_first_order else float(s.mid_point_sigma)
        x = s.step(eps_of(x, sigma).to(x.dtype), t, x).prev_sample
        xs.append(x)
    return s, start, xs


def flat(x):
    return x.numpy().reshape(-1)


cases, arrays = [], {k: [] for k in ("sigmas", "intervals", "draws", "x_t", "x", "end")}
for config, seed, tree, each, shape, steps in CASES:
    kept = {"intervals": [], "draws": []}
    F32.BrownianTreeNoiseSampler, F64.BrownianTreeNoiseSampler = Recorded, Replayed
    torch.set_default_dtype(torch.float32)
    if each:
        x_t = torch.cat([torch.randn((1, *shape[1:]), generator=torch.Generator().manual_seed(seed + i)) for i in range(shape[0])])
    else:
        torch.manual_seed(seed)
        x_t = torch.randn(shape)
    trees = [tree + i for i in range(shape[0])] if each else tree
    s, start, xs = run(CLS, config, trees, steps, x_t)
    torch.set_default_dtype(torch.float64)
    _, _, exact = run(F64.__dict__[NAME], config, trees, steps, start.to(torch.float64), s.sigmas.to(torch.float64))
    torch.set_default_dtype(torch.float32)
    differs = max(float(((a - b).abs() / b.abs().clamp(min=1)).max()) for a, b in zip(xs, exact))
    sigmas = torch.cat([s.sigmas[:1], s.sigmas[1:-1:2], s.sigmas[-1:]])
    assert len(sigmas) == steps + 1 and len(kept["draws"]) == 2 * (steps - 1)
    cases.append({"config": config, "seed": seed, "tree": tree, "each": each, "shape": shape, "steps": steps, "f32_differs": float(f"{differs:.1e}")})
    arrays["sigmas"].append(sigmas.numpy().astype(np.float32))
    arrays["intervals"].append(np.float32(kept["intervals"]).reshape(-1))
    arrays["draws"].append(np.concatenate([flat(z) for z in kept["draws"]]).astype(np.float32))
    arrays["x_t"].append(flat(x_t).astype(np.float32))
    arrays["x"].append(np.concatenate([flat(x)[[0, -1]] for x in exact]))
    arrays["end"].append(flat(exact[-1]))
folder = pathlib.Path(__file__).parent
save_file({k: np.concatenate(v) for k, v in arrays.items()}, folder / "brownian.safetensors")
(folder / "brownian.safetensors").chmod(0o644)
(folder / "brownian.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
print(*cases, sep="\n")
