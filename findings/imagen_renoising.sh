#!/usr/bin/env bash
# imagen-pytorch goes back to a noisier time with far too little noise: standard deviations are subtracted where
# variances have to be.
#
# q_sample_from_to takes x at one time to a later one. The noise that it adds has the standard deviation sigma_to -
# sigma alpha_to / alpha; the process adds noise of variance sigma_to^2 - (sigma alpha_to / alpha)^2. For small steps
# it falls with the step, where its square root is needed. Imagen's inpainting steps back by it
# (inpaint_resample_times, 5 by default), so each resampling leaves a state that is cleaner than its time, and the
# filled region fades.
#
# This script compares with q_sample, and runs a chain with an exact denoiser for N(0, 0.5^2), resampled 5 times at
# each step by the package's own functions; the law should not change by that. (The package asks a model hub for a text
# encoder's configuration when it is imported. That module is replaced here; nothing below needs it.)
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q imagen-pytorch==2.1.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 transformers==5.24.0
cat > "$dir/run.py" <<'PY'
import sys, types, warnings
from importlib.metadata import version

warnings.filterwarnings("ignore")
text = types.ModuleType("imagen_pytorch.t5")
text.t5_encode_text, text.get_encoded_dim, text.DEFAULT_T5_NAME = None, lambda name: 768, "none"
sys.modules["imagen_pytorch.t5"] = text
import torch
from imagen_pytorch.imagen_pytorch import GaussianDiffusionContinuousTimes

print("imagen-pytorch", version("imagen-pytorch"), "torch", torch.__version__)
S = 0.5
torch.manual_seed(0)
process = GaussianDiffusionContinuousTimes(noise_schedule="cosine", timesteps=100)
nothing = torch.zeros(1, 1, 256, 256)
for start, end in ((0.5, 0.51), (0.5, 0.6), (0.3, 0.9)):
    x, _, alpha, sigma = process.q_sample(nothing, start)
    direct, _, alpha_to, sigma_to = process.q_sample(nothing, end)
    added = float(process.q_sample_from_to(nothing, start, end).std())
    want = float((sigma_to**2 - (sigma * alpha_to / alpha) ** 2).sqrt())
    way = float(process.q_sample_from_to(x, start, end).std())
    print(
        f"noise from {start} to {end}: adds {added:.4f} (should be {want:.4f});"
        f" noise at {start} taken to {end} has {way:.4f}, noise at {end} {float(direct.std()):.4f}"
    )
    assert added < 0.95 * want and way < 0.98 * float(direct.std()), "the noise is enough now"


def chain(resamples):
    x = torch.randn(1, 1, 256, 256)
    for t, t_next in process.get_sampling_timesteps(1, device="cpu"):
        for left in reversed(range(resamples)):
            bar = process.log_snr(t).sigmoid()
            clean = bar.sqrt() * S**2 * x / (bar * S**2 + 1 - bar)
            mean, _, log_variance = process.q_posterior(x_start=clean, x_t=x, t=t, t_next=t_next)
            last = bool(t_next == 0)
            x = mean if last else mean + (0.5 * log_variance).exp() * torch.randn_like(x)
            if left > 0 and not last:
                x = process.q_sample_from_to(x, t_next, t)
    return float(x.std())


out = {n: chain(n) for n in (1, 5)}
for n, spread in out.items():
    print(f"resampled {n} times at each of 100 steps: standard deviation {spread:.3f} (should be {S})")
assert abs(out[1] - S) < 0.05 and out[5] < 0.4, "resampling keeps the law now"
print("q_sample_from_to adds too little noise")
PY
"$dir/venv/bin/python" "$dir/run.py"
