#!/usr/bin/env bash
# bionemo-moco's MDLM.step with a temperature other than 1 changes when tokens are unmasked, not only which: with 0.5
# most of a sequence appears in the last step, and tokens that belong together do not come out together.
#
# A step unmasks a token with probability (alpha_s - alpha_t) / (1 - alpha_t), and the network says which it becomes
# (MDLM, Sahoo et al. 2024, equation 7). A temperature sharpens what the network says. The library divides the
# logarithms by it and does not normalize them again. Below 1 the probabilities then sum to less than 1, the share of
# the mask grows by comparison, and the tokens wait; above 1 they come too early. The steps that should have been taken
# one after the other are one.
#
# Sequences of two equal tokens, all 20 of them as likely: a network that knows this says 1/20 for each while both are
# masked, whatever the temperature, and repeats the one that it sees. So no temperature should change anything.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 jaxtyping==0.3.11 pot==0.9.7.post1 scikit-learn==1.9.1
# Without its requirements, which ask for a NumPy below 2.
"$dir/venv/bin/pip" install -q --no-deps bionemo-moco==0.0.2.2
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from bionemo.moco.distributions.prior import DiscreteMaskedPrior
from bionemo.moco.distributions.time import UniformTimeDistribution
from bionemo.moco.interpolants import MDLM
from bionemo.moco.schedules.noise.continuous_noise_transforms import LogLinearExpNoiseTransform

torch.set_num_threads(1)
print("bionemo-moco", version("bionemo-moco"), "torch", torch.__version__)
TOKENS, STEPS, COUNT = 20, 100, 2000
prior = DiscreteMaskedPrior(num_classes=TOKENS + 1)
mdlm = MDLM(UniformTimeDistribution(), prior, LogLinearExpNoiseTransform())
MASK = mdlm.mask_index


def network(x):
    """Logits of both tokens: the other one where it is known, else all alike."""
    other = x.flip(1)
    logits = torch.zeros(COUNT, 2, TOKENS + 1)
    known = other != MASK
    logits[known] = 100 * torch.nn.functional.one_hot(other[known], TOKENS + 1).float()
    return logits


out = {}
for temperature in (1.0, 0.5, 2.0):
    torch.manual_seed(0)
    x = torch.full((COUNT, 2), MASK)
    dt = torch.full((COUNT,), 1 / STEPS)
    for i in range(STEPS, 0, -1):
        x = mdlm.step(network(x), torch.full((COUNT,), i / STEPS), x, dt, temperature=temperature)
        if i == STEPS // 2 + 1:
            half = float((x == MASK).float().mean())
        if i == 2:
            last = float((x == MASK).float().mean())
    assert not (x == MASK).any()
    out[temperature] = half, float((x[:, 0] == x[:, 1]).float().mean())
    print(
        f"temperature {temperature}: still masked after half of the steps {100 * half:.0f} % (should be 50 %), before the last"
        f" {100 * last:.0f} % (should be 1 %); pairs of equal tokens {100 * out[temperature][1]:.0f} % (should be 99 %)"
    )
assert abs(out[1.0][0] - 0.5) < 0.05 and out[1.0][1] > 0.97
assert out[0.5][0] > 0.8 and out[2.0][0] < 0.4 and out[0.5][1] < 0.8, "the temperature leaves the times alone now"
print("the temperature says when tokens are unmasked")
PY
"$dir/venv/bin/python" "$dir/run.py"
