#!/usr/bin/env bash
# MONAI's PNDMScheduler takes too short steps by default, and no number of steps mends it.
#
# A step leads from t to t - num_train_timesteps // num_inference_steps. With the Runge-Kutta start, which is the
# default (skip_prk_steps=False), set_timesteps replaces num_inference_steps by the number of calls of the network,
# which is nine more: with 50 steps the timesteps lie 20 apart, and each step goes 1000 // 59 = 16 of them. The state
# is noisier than the timestep that it is shown with next, all the way. The number put back by hand gives the right
# law, and so does skip_prk_steps=True, where the two are equal.
#
# For data N(0, 0.5^2) and the exact network this script prints the standard deviation that comes out.
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
from monai.networks.schedulers import PNDMScheduler

print("monai", monai.__version__, "torch", torch.__version__)
S = 0.5


def sample(count, put_back=False, **options):
    torch.manual_seed(0)
    scheduler = PNDMScheduler(**options)
    scheduler.set_timesteps(count)
    if put_back:
        scheduler.num_inference_steps = count
    bar = scheduler.alphas_cumprod
    x = torch.randn(1, 1, 128, 128)
    for t in scheduler.timesteps:
        eps = (1 - bar[t]).sqrt() * x / (bar[t] * S**2 + 1 - bar[t])
        x, _ = scheduler.step(eps, int(t), x)
    return float(x.std())


scheduler = PNDMScheduler()
scheduler.set_timesteps(50)
at = scheduler.timesteps.tolist()
print(f"set_timesteps(50): num_inference_steps {scheduler.num_inference_steps}, timesteps {at[-4:]}, a step of {1000 // scheduler.num_inference_steps}")
assert scheduler.num_inference_steps == 59 and at[-2] - at[-1] == 20, "the number of steps is kept now"
for count in (20, 50, 100, 250):
    default, back, skipped = sample(count), sample(count, put_back=True), sample(count, skip_prk_steps=True)
    print(f"{count} steps: {default:.3f}; with the number put back {back:.3f}; with skip_prk_steps {skipped:.3f} (should be {S})")
    assert default - S > 0.025 and abs(back - S) < 0.01 and abs(skipped - S) < 0.01, "the steps are right now"
print("PNDM's default counts calls where steps are meant")
PY
"$dir/venv/bin/python" "$dir/run.py"
