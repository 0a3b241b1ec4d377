#!/usr/bin/env bash
# diffusers' IPNDMScheduler does not use the network's first answer: whatever it is, the first step is the same, and
# what it should have brought of x_0 is missing from then on.
#
# The network predicts v = alpha eps - sigma x_0, and the first timestep is 1, where alpha is 0. There v is -x_0. step
# computes eps, which is the sample itself, and from it x_0 = (sample - sigma eps) / alpha, which is 0 / 0; a floor of
# 1e-8 under alpha makes 0 of it. The new sample is sigma_next eps, without alpha_next x_0. Where x_0 is taken from v,
# alpha sample - sigma v, the step is a rotation of (sample, v) and right at alpha = 0 as elsewhere.
#
# An exact network for x_0 from N(1, 0.5^2): the mean of the samples of a few steps, as it is and with the missing term
# put back after the first step.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q diffusers==0.42.1 torch==2.15.0 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import diffusers, torch
from diffusers import IPNDMScheduler

torch.set_num_threads(1)
print("diffusers", diffusers.__version__, "torch", torch.__version__)
MEAN, SPREAD = 1.0, 0.5


def network(x, a, s):
    """E[v | x] for x_0 from N(MEAN, SPREAD^2)."""
    variance = a**2 * SPREAD**2 + s**2
    x0 = MEAN + a * SPREAD**2 / variance * (x - a * MEAN)
    eps = s / variance * (x - a * MEAN)
    return a * eps - s * x0


def run(steps, repaired):
    scheduler = IPNDMScheduler()
    scheduler.set_timesteps(steps)
    # The quantiles of the prior in place of samples.
    x = torch.special.ndtri((torch.arange(2000) + 0.5) / 2000)
    for i, t in enumerate(scheduler.timesteps):
        v = network(x, scheduler.alphas[i], scheduler.betas[i])
        x = scheduler.step(v, t, x).prev_sample
        if repaired and i == 0:
            x = x - scheduler.alphas[1] * v
    return float(x.mean())


scheduler = IPNDMScheduler()
x = torch.randn(4, generator=torch.Generator().manual_seed(0))
for steps in (10, 50):
    first = []
    for v in (torch.zeros(4), torch.full((4,), 100.0), -x):
        scheduler.set_timesteps(steps)
        first.append(scheduler.step(v, scheduler.timesteps[0], x).prev_sample)
    a, s = float(scheduler.alphas[0]), float(scheduler.betas[0])
    moved = max(float((f - first[0]).abs().max()) for f in first)
    should = 100 * float(scheduler.alphas[1])
    print(f"{steps} steps: alpha {a:.1e}, sigma {s:.3f} at first; answers of 0, 100 and -x move the first step by {moved:.1e}", end=" ")
    print(f"(should be {should:.1f} for 100)")
    assert moved < 1e-4 * should, "the first answer is used now"
out = {}
for steps in (5, 10, 20, 50):
    out[steps] = run(steps, False), run(steps, True)
    print(f"{steps} steps: mean {out[steps][0]:.4f}, with the missing term {out[steps][1]:.4f} (should be {MEAN})")
assert all(abs(out[n][0] - MEAN) > 2 * abs(out[n][1] - MEAN) for n in (10, 20, 50)), "the first step loses nothing now"
print("the first step leaves out alpha x_0")
PY
"$dir/venv/bin/python" "$dir/run.py"
