#!/usr/bin/env bash
# diffusers' use_beta_sigmas lays the Beta distribution over sigma, not over time; with 50 steps some schedulers then
# raise an IndexError.
#
# The paper that the option refers to (Beta Sampling is All You Need) takes the quantiles of Beta(0.6, 0.6) as
# timesteps: dense at the start and at the end of the run. diffusers takes them as sigmas, between the smallest and the
# largest. Half of sigma's range is far above the data's scale, so of 20 steps with the default betas one lies below
# sigma 1, and the step before it goes from sigma 2.2 to 0.01. The same quantiles as timesteps (EulerDiscreteScheduler
# takes a list) are a little better than even timesteps, as the paper says; use_beta_sigmas is much worse than both.
#
# At the other end of the range the sigmas lie so close that they round to the same timestep. The schedulers which look
# their first step up by its timestep take the second of two equal ones, skip a step and, at the end of the run, index
# past their sigmas.
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
    s.set_timesteps(**count) if isinstance(count, dict) else s.set_timesteps(count)
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


import scipy.stats

print("diffusers", diffusers.__version__, "torch", torch.__version__)
Euler = diffusers.EulerDiscreteScheduler
for n in (10, 20, 50):
    s = Euler(use_beta_sigmas=True)
    s.set_timesteps(n)
    below = int((s.sigmas[:-1] < 1).sum())
    times = np.round(999 * scipy.stats.beta.ppf(1 - np.linspace(0, 1, n), 0.6, 0.6)).astype(int).tolist()
    sigmas, even, paper = spread(Euler, n, use_beta_sigmas=True), spread(Euler, n), spread(Euler, {"timesteps": times})
    print(f"{n} steps: use_beta_sigmas {sigmas:.3f} ({below} below sigma 1), even timesteps {even:.3f},", end=" ")
    print(f"Beta timesteps {paper:.3f} (should be {S})")
    assert abs(paper - S) < abs(even - S) < 0.5 * abs(sigmas - S), "use_beta_sigmas is no longer much worse than even timesteps"
stable = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", use_beta_sigmas=True)
raised = []
for name in ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler"):
    cls = getattr(diffusers, name)
    spread(cls, 20, **stable)
    s = cls(**stable)
    s.set_timesteps(50)
    try:
        spread(cls, 50, **stable)
    except IndexError as error:
        raised.append(name)
        print(f"{name}, Stable Diffusion's betas, 50 steps from timesteps {s.timesteps[:3].tolist()}: IndexError: {error}")
assert len(raised) == 3, "50 steps with use_beta_sigmas run now"
print("use_beta_sigmas spaces sigma, not time")
PY
"$dir/venv/bin/python" "$dir/run.py"
