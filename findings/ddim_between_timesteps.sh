#!/usr/bin/env bash
# diffusers' DDIMScheduler and PNDMScheduler step to another noise level than the one the model is asked about next.
#
# timestep_spacing "linspace" and "trailing" lay the timesteps evenly in real numbers and round them, but step() goes
# from t to t - num_train_timesteps // num_inference_steps, whatever the next timestep is. With 400 of 1000 steps the
# timesteps lie 2 or 3 apart and each step is made as if 2: half of the steps leave a state that is noisier than the
# timestep it is then shown with. DDPMScheduler and EulerDiscreteScheduler look the next timestep up. Only counts that
# divide 1000 are exact, and nothing says so.
#
# For data N(0, 0.5^2), whose denoiser is known, this script prints what standard deviation comes out.
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
counts = [100, 150, 200, 300, 400, 500, 600]
print("steps", counts)
out = {}
for spacing in ("linspace", "trailing"):
    for name, options in (
        ("DDIMScheduler", dict(clip_sample=False)),
        ("PNDMScheduler", dict(skip_prk_steps=True)),
        ("DDPMScheduler", dict(clip_sample=False)),
        ("EulerDiscreteScheduler", {}),
    ):
        row = [spread(getattr(diffusers, name), n, timestep_spacing=spacing, **options) for n in counts]
        out[spacing, name] = dict(zip(counts, row))
        print(f"{spacing} {name}: standard deviation {' '.join(f'{v:.3f}' for v in row)} (should be {S})")
for spacing in ("linspace", "trailing"):
    for name in ("DDIMScheduler", "PNDMScheduler"):
        row = out[spacing, name]
        assert abs(row[200] - S) < 0.01 and abs(row[500] - S) < 0.01, "where the count divides 1000 it is right"
        assert row[400] > 0.56 and row[600] > 0.64, f"{name} with {spacing} and 400 or 600 steps is now right"
    for name in ("DDPMScheduler", "EulerDiscreteScheduler"):
        assert abs(out[spacing, name][600] - S) < 0.01
s = diffusers.DDIMScheduler(timestep_spacing="trailing")
s.set_timesteps(400)
at = s.timesteps.tolist()
print("timesteps", at[:5], "but the steps from them end at", [t - 1000 // 400 for t in at[:4]])
assert at[1] != at[0] - 1000 // 400 or at[2] != at[1] - 1000 // 400
print("DDIM and PNDM step to t - 1000 // steps, not to the next timestep")
PY
"$dir/venv/bin/python" "$dir/run.py"
