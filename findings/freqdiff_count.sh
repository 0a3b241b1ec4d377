#!/usr/bin/env bash
# freqdiff's sampler makes whole batches only: 64 samples for 100, with batches of 64.
#
# DiffusionSampler.sample(num_samples) takes num_samples // sample_batch_size batches, at least one, and cuts the last
# to what is left; but after the division there is never a rest. Whoever compares a number of samples with as many data
# compares fewer, without a word.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 tqdm==4.70.1
# Without its requirements, which are for networks, data and training.
"$dir/venv/bin/pip" install -q --no-deps freqdiff==0.1.0
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import version
from types import ModuleType

import torch

# The sampler without the networks.
sys.modules["fdiff.models.score_models"] = ModuleType("fdiff.models.score_models")
sys.modules["fdiff.models.score_models"].ScoreModule = torch.nn.Module
from fdiff.sampling.sampler import DiffusionSampler
from fdiff.schedulers.sde import VPScheduler

print("freqdiff", version("freqdiff"), "torch", torch.__version__)
torch.set_num_threads(1)


class Score(torch.nn.Module):
    n_channels, max_len, device = 1, 4, "cpu"

    def __init__(self):
        super().__init__()
        self.noise_scheduler = VPScheduler()
        self.noise_scheduler.set_noise_scaling(self.max_len)

    def forward(self, batch):
        return -batch.X


for count, batch, should in ((100, 64, 64), (127, 64, 64), (1000, 300, 900), (128, 64, 128), (10, 64, 10)):
    samples = DiffusionSampler(Score(), sample_batch_size=batch).sample(count, num_diffusion_steps=20)
    print(f"sample({count}), batches of {batch}: {len(samples)} samples (should be {count})")
    assert len(samples) == should, "the rest is made now"
print("the rest is not made")
PY
"$dir/venv/bin/python" "$dir/run.py"
