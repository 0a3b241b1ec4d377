#!/usr/bin/env bash
# diffusers' DPMSolverMultistepScheduler of solver_order 3 converges with order 2.
#
# The third-order update takes half of the second derivative's term: its D2 is h^2 f'' / 2, and it is multiplied by the
# weight that belongs to h^2 f''. So the error of a run falls by 4 where the steps are halved, as with solver_order 2,
# and not by 8. On a one-dimensional mixture whose denoiser is known exactly, in float64, this script measures the slope
# of ln(error) over ln(steps) for orders 1, 2 and 3, and of order 3 with D2 doubled, which has order 3.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q diffusers==0.42.1 torch==2.15.0 numpy==2.4.6 scipy==1.17.1
cat > "$dir/order.py" <<'PY'
import inspect, math, sys, textwrap
import diffusers, numpy as np, torch
from diffusers import DPMSolverMultistepScheduler as Scheduler

print("diffusers", diffusers.__version__, "torch", torch.__version__)
torch.set_default_dtype(torch.float64)


def denoise(x, alpha, sigma):
    """E[x_0 | x = alpha x_0 + sigma eps] of 0.3 N(-0.6, 0.25^2) + 0.7 N(0.5, 0.4^2)."""
    top, bottom = 0.0, 0.0
    for w, m, s in ((0.3, -0.6, 0.25), (0.7, 0.5, 0.4)):
        v = (alpha * s) ** 2 + sigma**2
        r = w / math.sqrt(v) * torch.exp(-((x - alpha * m) ** 2) / (2 * v))
        top, bottom = top + r * (m + alpha * s * s * (x - alpha * m) / v), bottom + r
    return top / bottom


def run(order, n, patched=False):
    s = Scheduler(solver_order=order, prediction_type="sample", lower_order_final=False)
    s.set_timesteps(10)
    # Two short steps first, so that the start by lower orders does not show; then evenly in ln(sigma), from 8 to 0.1.
    whole = math.log(8.0 / 0.1)
    short = (whole / n) ** 2 / 4
    at = [0.0, short] + [2 * short + (whole - 2 * short) * i / n for i in range(n + 1)]
    s.sigmas = torch.tensor([8.0 * math.exp(-a) for a in at])
    s.config.final_sigmas_type = "sigma_min"
    s.register_to_config(final_sigmas_type="sigma_min")
    s.timesteps = torch.arange(len(at) - 1, 0, -1)
    s.num_inference_steps = len(s.timesteps)
    if patched:
        source = textwrap.dedent(inspect.getsource(Scheduler.multistep_dpm_solver_third_order_update))
        assert source.count("D2 = (1.0 / (r0 + r1)) * (D1_0 - D1_1)") == 1
        scope = dict(vars(sys.modules[Scheduler.__module__]))
        exec(source.replace("D2 = (1.0", "D2 = 2.0 * (1.0"), scope)
        s.multistep_dpm_solver_third_order_update = scope["multistep_dpm_solver_third_order_update"].__get__(s)
    s.set_begin_index(0)
    # float32 is what step casts its sample to.
    float32, torch.float32 = torch.float32, torch.float64
    try:
        sigma = s.sigmas[0]
        x = torch.tensor([-7.0, -1.5, 2.0, 9.0]) / torch.sqrt(1 + sigma**2)
        for i, t in enumerate(s.timesteps):
            alpha = 1 / torch.sqrt(1 + s.sigmas[i] ** 2)
            x = s.step(denoise(x, alpha, s.sigmas[i] * alpha), t, x).prev_sample
    finally:
        torch.float32 = float32
    return x * torch.sqrt(1 + s.sigmas[-1] ** 2)


truth = run(3, 12000, patched=True)
counts = [48, 96, 192, 384]
slopes = {}
for name, order, patched in (("1", 1, False), ("2", 2, False), ("3", 3, False), ("3 with D2 doubled", 3, True)):
    errors = [float((run(order, n, patched) - truth).square().mean().sqrt()) for n in counts]
    slopes[name] = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    print(f"solver_order {name}: slope {slopes[name]:.2f}, errors {' '.join(f'{e:.1e}' for e in errors)}")
assert abs(slopes["2"] - 2) < 0.25, "solver_order 2 is of second order"
assert abs(slopes["3"] - 2) < 0.25, "solver_order 3 is of second order: it changed"
assert slopes["3 with D2 doubled"] > 2.75, "with D2 doubled it is of third order"
print("diffusers' solver_order 3 converges with order 2")
PY
"$dir/venv/bin/python" "$dir/order.py"
