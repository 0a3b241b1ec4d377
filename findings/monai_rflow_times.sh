#!/usr/bin/env bash
# MONAI's RFlowScheduler with use_discrete_timesteps=False integrates over more than the whole time: with 300 steps
# 1.10, with 700 1.25.
#
# The step to the next time is taken to be (t - int(next t)) / 1000, so each step is too long by the fraction of the
# next time. Without discrete timesteps the times have fractions (halves: they are rounded to float16, though the
# tensor is meant to be continuous), and the steps add up. With the exact velocity of one image, that image plus a
# tenth of (image - noise) comes out of 300 steps. This is the loop of the class's own example. The default (discrete)
# is right.
#
# The argument transform_scale, "scaling factor for timestep transformation", is stored and used nowhere: the times do
# not depend on it.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q monai==1.6.1 torch==2.15.0 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import warnings

warnings.filterwarnings("ignore")
import monai, torch
from monai.networks.schedulers import RFlowScheduler

print("monai", monai.__version__, "torch", torch.__version__)
torch.manual_seed(0)
image, noise = torch.ones(1, 1, 8, 8), torch.randn(1, 1, 8, 8)
for discrete in (True, False):
    for count in (30, 150, 300, 700):
        scheduler = RFlowScheduler(use_discrete_timesteps=discrete)
        scheduler.set_timesteps(count)
        times = scheduler.timesteps
        after = torch.cat((times[1:], torch.tensor([0], dtype=times.dtype)))
        x = noise
        for t, next_t in zip(times, after):
            x, _ = scheduler.step(image - noise, t, x, next_t)
        # x = noise + whole * (image - noise)
        whole = float(((x - noise) * (image - noise)).sum() / (image - noise).square().sum())
        print(f"use_discrete_timesteps={discrete}, {count} steps, times {times[:4].tolist()} {times.dtype}: whole time {whole:.4f}")
        if discrete:
            assert abs(whole - 1) < 1e-3
        else:
            assert whole > 1 + 0.3 * count / 1000, "the steps add up to 1 now"
rows = []
for scale in (1.0, 3.0):
    scheduler = RFlowScheduler(use_timestep_transform=True, transform_scale=scale)
    scheduler.set_timesteps(5, input_img_size_numel=64**3)
    rows.append(scheduler.timesteps.tolist())
    print(f"transform_scale={scale}: timesteps {rows[-1]}")
assert rows[0] == rows[1], "transform_scale does something now"
print("continuous times overshoot; transform_scale does nothing")
PY
"$dir/venv/bin/python" "$dir/run.py"
