#!/usr/bin/env bash
# bionemo-moco's MDLM: sampling by confidence leaves masks in the samples, and sampling by the margin of confidence
# begins with the tokens that are least certain.
#
# get_num_steps_confidence(x, k) says how many steps unmask all tokens where each unmasks k. It rounds up what has
# been rounded down already, ceil(n // k). So with 10 tokens and 3 a step there are 3 steps, and one mask is left over
# in every sample: a state that the model's data do not have.
#
# step_confidence_margin draws two tokens from the network's distribution and takes the difference of their
# probabilities, first minus second, for the margin (Kim et al. 2025). Where the less likely of them is drawn first,
# that is negative, its logarithm is not a number, and topk counts that as larger than all numbers. So the first place
# to be filled is one with an unlikely token, and only then those with a margin.
#
# A network that gives one token 0.8 and another 0.2, everywhere; the first place that is filled.
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
torch.manual_seed(0)
print("bionemo-moco", version("bionemo-moco"), "torch", torch.__version__)
mdlm = MDLM(UniformTimeDistribution(), DiscreteMaskedPrior(num_classes=3), LogLinearExpNoiseTransform())
MASK, COUNT = mdlm.mask_index, 500


def logits(length):
    return torch.tensor([0.8, 0.2, 1.0]).log().expand(COUNT, length, 3).clone()


left = {}
for length, each in ((10, 3), (32, 5), (32, 4)):
    x = torch.full((COUNT, length), MASK)
    steps = mdlm.get_num_steps_confidence(x, each)
    for i in range(steps):
        x = mdlm.step_confidence(logits(length), x, i, steps, num_tokens_unmask=each)
    left[length, each] = float((x == MASK).float().sum(1).mean())
    print(f"{length} tokens, {each} a step: {steps} steps; {left[length, each]:.0f} masks are left in each sample (should be 0)")
assert left == {(10, 3): 1, (32, 5): 2, (32, 4): 0}, "the steps unmask everything now"

share = {}
for step in (mdlm.step_confidence, mdlm.step_confidence_margin):
    x = torch.full((COUNT, 8), MASK)
    x = step(logits(8), x, 0, 8, randomness=0.0)
    filled = x[x != MASK]
    assert len(filled) == COUNT
    share[step.__name__] = float((filled == 0).float().mean())
    print(f"{step.__name__}: the first place that is filled has the likelier token in {100 * share[step.__name__]:.0f} % of the samples")
assert share["step_confidence"] > 0.95 and share["step_confidence_margin"] < 0.5, "the margin prefers likely tokens now"
print("masks are left over; unlikely tokens come first")
PY
"$dir/venv/bin/python" "$dir/run.py"
