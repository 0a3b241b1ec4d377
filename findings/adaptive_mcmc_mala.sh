#!/usr/bin/env bash
# adaptive-mcmc's ESJDMALA, which is to maximize the expected squared jump distance, ends at 0.6 of it; its third
# result is documented as the jumps and holds the step sizes; its acceptance rate of a second run counts the first one
# too.
#
# Every window the step size goes up where the mean jump was larger than in the window before, and down where it was
# not, whichever way the step size had gone. Where larger steps are better, one step down makes the jumps smaller, and
# so leads to the next one down: a random walk decides. run() returns samples, acceptance rate, step sizes and jumps;
# the last two are documented in the other order. The rate is all acceptances so far by the samples of this run.
#
# N(0, 1) in two dimensions, from a step size of 0.5, adapted to the end; fixed step sizes for comparison.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 tqdm==4.70.1
"$dir/venv/bin/pip" install -q --no-deps adaptive-mcmc==0.1.3
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import numpy as np
from adaptive_mcmc.mala import ESJDMALA

print("adaptive-mcmc", version("adaptive-mcmc"), "numpy", np.__version__)
COUNT = 10000


def make(step_size, adapt_steps, seed):
    return ESJDMALA(
        lambda x: -0.5 * x @ x, lambda x: -x, np.zeros(2), eps0=step_size, adapt_steps=adapt_steps, random_seed=seed
    )


best = 0.0
for step_size in (0.5, 1.0, 1.4, 1.8):
    jumps = make(step_size, 0, 0).run(4000, verbose=False)[3].mean()
    best = max(best, jumps)
    print(f"step size {step_size}: mean squared jump {jumps:.2f}")
found = []
for seed in range(5):
    _, _, sizes, jumps = make(0.5, COUNT, seed).run(COUNT, verbose=False)
    found.append(jumps[COUNT // 2 :].mean())
    print(f"adapted, seed {seed}: step size {sizes[COUNT // 2 :].mean():.2f}, mean squared jump {found[-1]:.2f}")
print(f"adapted: {np.mean(found):.2f} of {best:.2f}")
assert np.mean(found) < 0.65 * best, "it maximizes the jumps now"

sampler = make(0.5, 0, 0)
_, first, third, _ = sampler.run(2000, verbose=False)
_, second, _, _ = sampler.run(1000, verbose=False)
print(f"the third result is {third[0]} in all places: {bool(np.all(third == 0.5))}")
print(f"acceptance rate of a run {first:.2f}, of the next {second:.2f}")
assert np.all(third == 0.5), "the results are in the documented order now"
assert "Generated samples, acceptance rate, ESJD trajectory, and step size trajectory" in ESJDMALA.run.__doc__
assert second > 2, "the rate is that of the run now"
print("the jumps are not maximized")
PY
"$dir/venv/bin/python" "$dir/run.py"
