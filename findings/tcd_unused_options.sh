#!/usr/bin/env bash
# diffusers' TCDScheduler takes and documents six options that change nothing: clip_sample, thresholding,
# set_alpha_to_one, steps_offset, timestep_spacing and timestep_scaling.
#
# They are those of LCMScheduler; step() uses none. A threshold function is there and never called. The last step goes
# to timestep 0 and not past it, so that the "previous alpha product fixed to 1" of set_alpha_to_one (its default) is
# never taken: samples end with the noise of timestep 0 in them, a standard deviation of 0.03 for the default betas,
# however often and however well the network is asked.
#
# set_timesteps(original_inference_steps=...) takes the steps of the distillation, by default those of the configuration
# (50). Whatever number is given, 50 as well, the timesteps are drawn from all 1000 and not from those.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q diffusers==0.42.1 torch==2.15.0 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
import diffusers, torch
from diffusers import LCMScheduler, TCDScheduler

print("diffusers", diffusers.__version__, "torch", torch.__version__)


def sample(cls, **options):
    """A network that says a tenth of what it sees, so that the clean image would be far outside [-1, 1]."""
    scheduler = cls(**options)
    scheduler.set_timesteps(4)
    noise = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(1, 1, 8, 8, generator=noise)
    for t in scheduler.timesteps:
        x = scheduler.step(0.1 * x, t, x, generator=noise).prev_sample
    return x


OPTIONS = {
    "clip_sample": True,
    "thresholding": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
    "timestep_scaling": 1.0,
    "rescale_betas_zero_snr": True,
}
unused = {}
for cls in (TCDScheduler, LCMScheduler):
    unused[cls] = [k for k, v in OPTIONS.items() if torch.equal(sample(cls), sample(cls, **{k: v}))]
    print(f"{cls.__name__}: of {list(OPTIONS)} without effect are {unused[cls]}")
print(f"with clip_sample: samples of TCD reach {float(sample(TCDScheduler, clip_sample=True).abs().max()):.0f}", end=", ")
print(f"of LCM {float(sample(LCMScheduler, clip_sample=True).abs().max()):.0f}")
assert unused[TCDScheduler] == list(OPTIONS)[:6], "an option does something now"
assert "clip_sample" not in unused[LCMScheduler]

for count in (4, 20):
    scheduler = TCDScheduler()
    scheduler.set_timesteps(count)
    noise = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 64, 64, generator=noise)
    for t in scheduler.timesteps:
        x = scheduler.step(x / (1 - scheduler.alphas_cumprod[t]).sqrt(), t, x, generator=noise).prev_sample
    print(f"an exact network for images of 0, {count} steps: samples have standard deviation {float(x.std()):.4f} (should be 0)")
    assert float(x.std()) > 0.025, "the last step ends in the clean image now"

rows = {}
for given in (None, 50, 20, 100):
    scheduler = TCDScheduler(original_inference_steps=50)
    scheduler.set_timesteps(4, original_inference_steps=given)
    rows[given] = scheduler.timesteps.tolist()
    print(f"original_inference_steps=50 in the configuration, set_timesteps(4, original_inference_steps={given}): {rows[given]}")
assert rows[50] == rows[20] == rows[100] != rows[None], "the number given counts now"
print("TCDScheduler has options that it does not read")
PY
"$dir/venv/bin/python" "$dir/run.py"
