#!/usr/bin/env bash
# ito-vision's GOUB and UniDB have a sign wrong in their bridge: the ancestral sampler gives 0.30 for 0.10.
#
# Pinned to y at its end, the generalised Ornstein-Uhlenbeck process (Yue et al. 2024, proposition 3.1) keeps
# phi_st (1 - phi_t1^2) / (1 - phi_s1^2) of x_s at t. The package has 1 + phi_s1^2 for the second: from t to t, where x
# stays as it is, 0.74 of it is kept at t = 0.9. From s = 0 with the default betas phi is small and nothing shows, but
# the ancestral sampler steps between neighbouring times and pushes samples out near t = 1. DDBM_VP, which has the same
# drift, has the sign right.
#
# Exact predictions for data N(0.2, 0.1^2) with y = 0.8, whatever the data, in 200 steps by two samplers.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 tqdm==4.70.1
# Without its requirements: it asks for an older torch and numpy.
"$dir/venv/bin/pip" install -q --no-deps ito-vision==0.1.0
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from ito_vision.discretizations import LinearDiscretization
from ito_vision.methods import DDBM_VP, GOUB, UniDB
from ito_vision.samplers import AncestralSampler, EulerMaruyamaSampler
from ito_vision.schedulers import LinearScheduler

torch.set_num_threads(1)
print("ito-vision", version("ito-vision"), "torch", torch.__version__)
Y, MEAN, STD = 0.8, 0.2, 0.1
times = torch.tensor([0.3, 0.6, 0.9])


class Network(torch.nn.Module):
    """The mean of the data given x at t, by the marginal that training has."""

    def forward(self, x, t, y):
        kept, std = self.method.transition_lambda_x(t), self.method.transition_std(t)
        rest = x - self.method.transition_lambda_y(t) * y - kept * MEAN
        return MEAN + kept * STD**2 * rest / ((kept * STD) ** 2 + std**2)


for kind in (DDBM_VP, GOUB, UniDB):
    network = Network()
    network.method = method = kind(LinearScheduler(), clip=None)
    kept = method.transition_lambda_x(times, s=times)
    shown = [round(v, 3) for v in kept.tolist()]
    print(f"{kind.__name__}: of x kept from t to t at 0.3, 0.6, 0.9: {shown} (should be 1)")
    found = {}
    for sampler in (EulerMaruyamaSampler, AncestralSampler):
        torch.manual_seed(0)
        y = torch.full((20000, 1), Y)
        start = method.base_distribution(y)
        x = method.sample(LinearDiscretization(), sampler(N=200, quiet=True), network, start, y)[0]
        found[sampler] = float(x.std())
        print(
            f"{kind.__name__}, {sampler.__name__}: {float(x.mean()):.3f} +- {found[sampler]:.3f}"
            f" (should be {MEAN} +- {STD})"
        )
    assert abs(found[EulerMaruyamaSampler] - STD) < 0.01
    if kind is DDBM_VP:
        assert abs(float(kept[2]) - 1) < 1e-5 and abs(found[AncestralSampler] - STD) < 0.02
    else:
        assert float(kept[2]) < 0.8 and found[AncestralSampler] > 0.2, "the bridge is right now"
print("the bridges of GOUB and UniDB have a sign wrong")
PY
"$dir/venv/bin/python" "$dir/run.py"
