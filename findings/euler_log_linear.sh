#!/usr/bin/env bash
# diffusers' EulerDiscreteScheduler with interpolation_type "log_linear" shows the model states at noise levels of
# other timesteps.
#
# The option is documented as the interpolation of the sigmas between the training timesteps. In fact the sigmas become
# a geometric sequence from the largest to the smallest, of one more entry than there are timesteps, while the
# timesteps stay where timestep_spacing put them. So the two have nothing to do with each other: in the middle of 100
# steps the state has sigma 1.25 and the model is told t = 494.5, where it was trained at sigma 3.34 (default betas).
# No number of steps mends that; with "linear" the same model gives the right law.
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
Euler = diffusers.EulerDiscreteScheduler
s = Euler(interpolation_type="log_linear")
trained = ((1 - s.alphas_cumprod) / s.alphas_cumprod).sqrt().double().numpy()
s.set_timesteps(100)
for i in (0, 25, 50, 75, 99):
    t = float(s.timesteps[i])
    print(f"step {i}: sigma {float(s.sigmas[i]):.4f}, timestep {t:.1f}, trained there at {np.interp(t, np.arange(1000), trained):.4f}")
middle = float(s.sigmas[50]) / np.interp(float(s.timesteps[50]), np.arange(1000), trained)
assert middle < 0.5, "sigmas and timesteps of log_linear agree now"
for prediction in ("epsilon", "sample", "v_prediction"):
    for kind in ("linear", "log_linear"):
        row = [spread(Euler, n, interpolation_type=kind, prediction_type=prediction) for n in (100, 300, 1000)]
        print(f"{prediction}, {kind}: standard deviation after 100, 300, 1000 steps {' '.join(f'{v:.3f}' for v in row)} (should be {S})")
        assert (abs(row[-1] - S) < 0.005) == (kind == "linear"), "log_linear converges now"
print("log_linear does not interpolate: its sigmas do not belong to its timesteps")
PY
"$dir/venv/bin/python" "$dir/run.py"
