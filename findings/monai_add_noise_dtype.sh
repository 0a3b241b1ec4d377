#!/usr/bin/env bash
# MONAI: one call of a scheduler's add_noise with half-precision images leaves the scheduler in half precision; its
# next run ends in NaN.
#
# add_noise and get_velocity replace the scheduler's own alphas_cumprod by a copy in the dtype of the images. Nothing
# brings it back. In float16 and bfloat16 the first products (0.9999, 0.9998 ...) are 1, so 1 - alphas_cumprod is 0 and
# the last steps of DDPM and DDIM divide by it. A training loop that adds noise to half-precision batches and then
# draws samples in float32 with the same scheduler gets NaN everywhere, or, with timesteps that avoid the first ones,
# quietly coarser levels. In diffusers add_noise does not change the scheduler.
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
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

print("monai", monai.__version__, "torch", torch.__version__)
S = 0.5


def sample(scheduler, count):
    """From noise to N(0, S^2), with the exact network, in float32."""
    torch.manual_seed(0)
    scheduler.set_timesteps(count)
    bar = DDPMScheduler(clip_sample=False).alphas_cumprod
    x = torch.randn(1, 1, 64, 64)
    for t in scheduler.timesteps:
        eps = (1 - bar[t]).sqrt() * x / (bar[t] * S**2 + 1 - bar[t])
        x, _ = scheduler.step(eps, int(t), x)
    return x


for cls, count in ((DDPMScheduler, 1000), (DDIMScheduler, 1000), (DDIMScheduler, 100)):
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        scheduler = cls(clip_sample=False)
        images = torch.zeros(2, 1, 8, 8, dtype=dtype)
        scheduler.add_noise(images, torch.zeros_like(images), torch.tensor([10, 20]))
        x = sample(scheduler, count)
        left = scheduler.alphas_cumprod
        print(
            f"{cls.__name__}, {count} steps after add_noise in {dtype}: alphas_cumprod is {left.dtype},"
            f" begins with {left[0]:.5f}; standard deviation {float(x.std()):.3f} (should be {S})"
        )
        assert left.dtype == dtype, "add_noise leaves the scheduler as it is now"
        assert bool(x.isfinite().all()) == (dtype == torch.float32), "half precision does no harm now"
print("add_noise changes the scheduler's precision for good")
PY
"$dir/venv/bin/python" "$dir/run.py"
