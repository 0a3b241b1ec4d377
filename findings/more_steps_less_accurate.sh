#!/usr/bin/env bash
# diffusers' DEISMultistepScheduler of solver_order 3 becomes less accurate with more steps, and UniPC of order 5
# overflows.
#
# Both compute their coefficients from float32 sigmas. DEIS of order 3 integrates Lagrange's polynomials in sigma:
# differences of nearly equal numbers, divided by products of the small distances between the sigmas. From 300 steps on
# the rounding is larger than what the order gains; at 700 the samples are 16 per cent too wide. UniPC ("any positive
# integer") solves a system for its weights, which is singular to float32 where the steps are short: 900 steps of order
# 5 give infinity. With the sigmas in float64 and all else the same, both are right.
#
# For data N(0, 0.5^2), whose denoiser is known, this script computes the standard deviation that comes out.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q diffusers==0.42.1 torch==2.15.0 numpy==2.4.6 scipy==1.17.1
cat > "$dir/run.py" <<'PY'
import math, sys
import diffusers, numpy as np, torch

S = 0.5  # the data: N(0, S^2)


def spread(cls, count, noise_name="randn_tensor", dtype=torch.float32, **options):
    """The exact standard deviation of what a scheduler makes of N(0, S^2), by the exact denoiser.

    All is linear here, so a state is kept as its coefficients over the start and the noises drawn: no sampling error.
    """
    s = cls(**options)
    s.set_timesteps(count)
    s.sigmas = s.sigmas.to(dtype)
    width, drawn = 2 * len(s.timesteps) + 4, [0]

    def unit_noise(shape, generator=None, device=None, dtype=None, layout=None):
        drawn[0] += 1
        z = torch.zeros(width, dtype=dtype)
        z[drawn[0]] = 1
        return z.reshape(shape)

    module = sys.modules[cls.__module__]
    kept = getattr(module, noise_name, None)
    setattr(module, noise_name, unit_noise)
    # The model knows the schedule that it was trained with, between whole timesteps by ln(sigma).
    bar = s.alphas_cumprod.double().numpy()
    log_sigma = 0.5 * np.log((1 - bar) / bar)
    x = torch.zeros(1, 1, 1, width, dtype=torch.float64)
    x[..., 0] = float(s.init_noise_sigma)
    try:
        for t in s.timesteps:
            seen = s.scale_model_input(x, t)
            ratio = math.exp(np.interp(float(t), np.arange(len(bar)), log_sigma))
            alpha = 1 / math.sqrt(1 + ratio**2)
            sigma = ratio * alpha
            clean = alpha * S**2 * seen / ((alpha * S) ** 2 + sigma**2)
            eps = (seen - alpha * clean) / sigma
            told = {"epsilon": eps, "sample": clean, "v_prediction": alpha * eps - sigma * clean}[s.config.prediction_type]
            x = s.step(told, t, x).prev_sample.double()
    finally:
        setattr(module, noise_name, kept)
    return float(x.square().sum().sqrt())


print("diffusers", diffusers.__version__, "torch", torch.__version__)
counts = [50, 100, 200, 500, 700, 900]
print("steps", counts)
DEIS, UniPC = diffusers.DEISMultistepScheduler, diffusers.UniPCMultistepScheduler
out = {}
for name, cls, order in (("DEIS", DEIS, 2), ("DEIS", DEIS, 3), ("UniPC", UniPC, 2), ("UniPC", UniPC, 5)):
    for dtype in (torch.float32, torch.float64):
        row = [spread(cls, n, dtype=dtype, solver_order=order) for n in counts]
        out[name, order, dtype] = row
        print(f"{name} of order {order}, sigmas in {dtype}: standard deviation", " ".join(f"{v:.4g}" for v in row), f"(should be {S})")
for name, order in (("DEIS", 2), ("UniPC", 2)):
    assert all(abs(v - S) < 0.01 for v in out[name, order, torch.float32])
deis, unipc = out["DEIS", 3, torch.float32], out["UniPC", 5, torch.float32]
assert all(abs(v - S) < 0.003 for v in deis[:3]) and max(abs(v - S) for v in deis[3:]) > 0.04, "DEIS is accurate with many steps now"
assert not unipc[-1] < 1e3, "UniPC of order 5 is finite with many steps now"
assert all(abs(v - S) < 0.01 for v in out["DEIS", 3, torch.float64] + out["UniPC", 5, torch.float64])
print("float32 coefficients of high order break with many steps")
PY
"$dir/venv/bin/python" "$dir/run.py"
