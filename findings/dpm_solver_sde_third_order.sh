#!/usr/bin/env bash
# diffusers' sde-dpmsolver++ of solver_order 3 is less accurate than order 1, and with DPMSolverSinglestep does not
# converge at all.
#
# The term of the second derivative is weighted by (1 - e^-2h - 2h) / (2h)^2 - 1/2. The integral of 2 e^-2(h-u) u^2 /
# (2 h^2) over a step is that with + 1/2, which goes to 0 with h; the one that is there goes to -1. So each step adds a
# whole second difference of the denoiser, in which the noises of the last steps stand. The documentation offers orders
# 1, 2 and 3 for this algorithm, and 3 for unconditional sampling.
#
# For data N(0, 0.5^2), whose denoiser is known, this script computes the standard deviation that comes out (it should
# go to 0.5), for order 2, for order 3, and for order 3 with the sign changed.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q diffusers==0.42.1 torch==2.15.0 numpy==2.4.6 scipy==1.17.1
cat > "$dir/run.py" <<'PY'
import inspect, textwrap
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


def with_sign_changed(cls, method):
    source = textwrap.dedent(inspect.getsource(getattr(cls, method)))
    before = "(2.0 * h) ** 2 - 0.5)) * D2" if "multi" in method else "(-2.0 * h) ** 2 - 0.5)) * D2"
    assert source.count(before) == 1
    scope = {}
    exec(source.replace(before, before.replace("- 0.5", "+ 0.5")), vars(sys.modules[cls.__module__]), scope)
    return type(cls.__name__, (cls,), {method: scope[method], "__module__": cls.__module__})


print("diffusers", diffusers.__version__, "torch", torch.__version__)
counts = [25, 50, 100, 200, 500]
print("steps", counts)
many = {}
for cls, method in (
    (diffusers.DPMSolverMultistepScheduler, "multistep_dpm_solver_third_order_update"),
    (diffusers.DPMSolverSinglestepScheduler, "singlestep_dpm_solver_third_order_update"),
):
    for name, made, order in (("1", cls, 1), ("3", cls, 3), ("3, sign changed", with_sign_changed(cls, method), 3)):
        options = dict(algorithm_type="sde-dpmsolver++", solver_order=order, solver_type="heun")
        out = [spread(made, n, **options) for n in counts]
        many[cls.__name__, name] = abs(out[-1] - S)
        print(f"{cls.__name__} order {name}: standard deviation {' '.join(f'{v:.3f}' for v in out)} (should be {S})")
multi, single = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
assert many[multi, "3"] > 2 * many[multi, "1"], "order 3 is no longer less accurate than order 1"
assert many[single, "3"] > 2.5, "order 3 of the singlestep solver no longer blows up"
assert many[multi, "3, sign changed"] < 0.002 and many[single, "3, sign changed"] < 0.03
print("sde-dpmsolver++ of order 3 subtracts 1/2 where it has to be added")
PY
"$dir/venv/bin/python" "$dir/run.py"
