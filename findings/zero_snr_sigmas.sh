#!/usr/bin/env bash
# diffusers' rescale_betas_zero_snr makes the schedule with the default betas go up and then down: its noisiest level
# is not the last.
#
# The cumulative product at the last timestep is 0 after the rescaling; so that sigma stays finite, EulerDiscrete,
# EulerAncestralDiscrete, DPMSolverMultistep and UniPC put 2^-24 there (sigma 4096). But with the default betas (0.0001
# to 0.02, linear) the rescaled product of the timestep before is 4e-9 (sigma 15406): the last timestep is cleaner than
# the three before it. A run of few steps jumps over them. One of 500 steps visits one of them; EulerAncestral and sde-
# dpmsolver++ then take the root of a negative number and end in NaN, and Euler ends with nearly twice the data's
# standard deviation. Stable Diffusion's betas are not affected.
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
for name in ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"):
    bar = getattr(diffusers, name)(rescale_betas_zero_snr=True).alphas_cumprod.double()
    print(f"{name}: sigma at t = 995 .. 999:", " ".join(f"{v:.0f}" for v in ((1 - bar) / bar).sqrt()[-5:].tolist()))
    assert bar[-1] > bar[-2] and bar[-1] > bar[-4], "the last timestep is the noisiest now"
zero = dict(rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction")
runs = {
    "Euler": (diffusers.EulerDiscreteScheduler, {}),
    "EulerAncestral": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "sde-dpmsolver++": (diffusers.DPMSolverMultistepScheduler, dict(algorithm_type="sde-dpmsolver++")),
}
out = {}
for name, (cls, options) in runs.items():
    out[name] = [spread(cls, n, **zero, **options) for n in (100, 200, 500)]
    print(f"{name}: standard deviation after 100, 200, 500 steps {' '.join(f'{v:.3f}' for v in out[name])} (should be {S})")
    assert abs(out[name][1] - S) < 0.03
assert math.isnan(out["EulerAncestral"][2]) and math.isnan(out["sde-dpmsolver++"][2]), "500 steps end in numbers now"
assert abs(out["Euler"][2] - S) > 0.1, "500 steps of Euler are right now"
print("zero terminal SNR with the default betas: the last timestep is not the noisiest")
PY
"$dir/venv/bin/python" "$dir/run.py"
