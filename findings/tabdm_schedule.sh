#!/usr/bin/env bash
# tabdm starts its samples from N(0, 1) where by default 0.62 of the data is still there: a category of 0.02 comes out
# as 0.12, and the mean of a skewed column as twice what it is.
#
# Its 96 timesteps have the betas 0.0001 to 0.02 that DDPM has for 1000. Their alpha_bar ends at 0.38, so that the
# noisiest rows that the network is trained on are sqrt(0.38) = 0.62 times the data, and those it is asked for at first
# are none of it. `timesteps=1000` ends at 0.00004.
#
# A column with a rare category and a lognormal one, 1000 rows, and the best network there is for them: the mean of the
# rows, each weighed by its likelihood.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 pandas==3.1.1
"$dir/venv/bin/pip" install -q --no-deps tabdm==0.1.0
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch
from tabdm import TabDM, TabDMConfig

print("tabdm", version("tabdm"), "torch", torch.__version__, "pandas", pd.__version__)
torch.set_num_threads(1)
rng = np.random.default_rng(0)
COUNT = 1000
data = pd.DataFrame({"kind": np.where(rng.random(COUNT) < 0.98, "often", "rare"), "x": rng.lognormal(0, 1, COUNT)})
rare, mean = (data.kind == "rare").mean(), data.x.mean()
assert TabDMConfig().timesteps == 96 and TabDMConfig().beta_end == 0.02
found = {}
for timesteps in (96, 1000):
    config = TabDMConfig(random_state=0, epochs=1, timesteps=timesteps)
    alphas = torch.cumprod(1 - torch.linspace(config.beta_start, config.beta_end, timesteps), 0)
    model = TabDM(config).fit(data, discrete_columns=["kind"])
    rows = torch.as_tensor(model.transformer_.transform(data), dtype=torch.float32)

    def network(x, t, condition):
        alpha = alphas[t[0]]
        return torch.softmax(-torch.cdist(x, alpha**0.5 * rows) ** 2 / (2 * (1 - alpha)), 1) @ rows

    model.model_ = network
    x = model.sample(4000, random_state=1)
    found[timesteps] = (x.kind == "rare").mean(), x.x.mean()
    print(
        f"{timesteps} timesteps, {float(alphas[-1]) ** 0.5:.2f} of the data left at the last: {found[timesteps][0]:.3f}"
        f" are rare (should be {rare:.3f}), mean {found[timesteps][1]:.2f} (should be {mean:.2f})"
    )
assert found[96][0] > 2 * rare and found[96][1] > 1.3 * mean, "the default schedule reaches its start now"
assert found[1000][0] < 1.6 * rare and abs(found[1000][1] / mean - 1) < 0.1
print("the start is not the end of the noise")
PY
"$dir/venv/bin/python" "$dir/run.py"
