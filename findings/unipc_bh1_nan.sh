#!/usr/bin/env bash
# diffusers' UniPCMultistepScheduler returns NaN for solver_type "bh1", for every order and count of steps.
#
# The documentation recommends bh1 for unconditional sampling with fewer than 10 steps. But the last sigma is 0 by
# default, so h of the last step is infinite; that step is of order 1, whose correction is 0, and bh1 multiplies it by
# B(h) = h. (bh2 has B(h) = e^-h - 1, which is finite.) predict_x0=False ends in NaN too, for both types. Nothing is
# refused or warned of, as DPMSolverMultistepScheduler does for its "dpmsolver" algorithm; the result of a whole run is
# NaN. final_sigmas_type="sigma_min" avoids it.
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


def spread(cls, count, noise_name="randn_tensor", **options):
    """The exact standard deviation of what a scheduler makes of N(0, S^2), by the exact denoiser.

    All is linear here, so a state is kept as its coefficients over the start and the noises drawn: no sampling error.
    """
    s = cls(**options)
    s.set_timesteps(count)
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
UniPC = diffusers.UniPCMultistepScheduler
for order in (1, 2, 3):
    for steps in (5, 8, 20, 50):
        out = {
            "bh1": spread(UniPC, steps, solver_order=order, solver_type="bh1"),
            "bh2": spread(UniPC, steps, solver_order=order, solver_type="bh2"),
            "bh2, predict_x0=False": spread(UniPC, steps, solver_order=order, predict_x0=False),
            "bh1, sigma_min": spread(UniPC, steps, solver_order=order, solver_type="bh1", final_sigmas_type="sigma_min"),
        }
        print(f"order {order}, {steps} steps: standard deviation", ", ".join(f"{k} {v:.3f}" for k, v in out.items()), f"(should be {S})")
        assert math.isnan(out["bh1"]), "bh1 no longer ends in NaN"
        assert math.isnan(out["bh2, predict_x0=False"]), "predict_x0=False no longer ends in NaN"
        assert math.isfinite(out["bh2"]) and math.isfinite(out["bh1, sigma_min"])
print("UniPC with bh1 always ends in NaN")
PY
"$dir/venv/bin/python" "$dir/run.py"
