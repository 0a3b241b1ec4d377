#!/usr/bin/env bash
# fluidflow's sample_sde ends in NaN by its default settings, and `sample_eps`, which is there to prevent that, is ignored.
# For networks that predict noise or a score, and for VP's ODE, sampling without it ends in a TypeError.
#
# create_transport sets both epsilons to 0 for velocities, as "stable everywhere", whatever the caller gives. That is so
# for the ODE. The SDE has by default the diffusion "SBDM", which divides by the time, and starts at 0.
#
# For the others it fills train_eps in first and then asks, for sample_eps, whether train_eps was given: it stays None.
# sample_ode_likelihood ends in a TypeError for all, for want of an argument that only sample_ode has.
#
# Data N(0.5, 0.2^2), exact networks.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 scipy==1.17.1 torchdiffeq==0.2.5
# Without its other requirements, which are for networks and training.
"$dir/venv/bin/pip" install -q --no-deps fluidflow==1.0.0
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import torch

# The package without its networks.
sys.modules["fluidFlow"] = ModuleType("fluidFlow")
sys.modules["fluidFlow"].__path__ = [str(distribution("fluidflow").locate_file("fluidFlow"))]
from fluidFlow.flow_matching import Sampler, create_transport

print("fluidflow", version("fluidflow"), "torchdiffeq", version("torchdiffeq"), "torch", torch.__version__)
torch.set_num_threads(1)
torch.manual_seed(0)
MEAN, STD = 0.5, 0.2
assert "sample_eps: small epsilon" in create_transport.__doc__, "it is not documented so now"


def run(path, prediction, kind, **settings):
    transport = create_transport(path, prediction, **settings)

    def network(x, t):
        t = t.view(-1, 1, 1, 1)
        alpha, d_alpha = transport.path_sampler.compute_alpha_t(t)
        sigma, d_sigma = transport.path_sampler.compute_sigma_t(t)
        score = -(x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)
        data = MEAN - alpha * STD**2 * score
        return {"velocity": d_alpha * data - d_sigma * sigma * score, "noise": -sigma * score, "score": score}[prediction]

    sampler = Sampler(transport)
    sample = sampler.sample_sde() if kind == "sde" else sampler.sample_ode(sampling_method="euler")
    x = sample(torch.randn(400, 1, 1, 1), network)[-1]
    print(f"{path}, {prediction}, {kind}, {settings}: {float(x.mean()):.2f} +- {float(x.std()):.2f} (should be 0.5 +- 0.2)")
    return x


for path in ("Linear", "GVP"):
    assert abs(float(run(path, "velocity", "ode").mean()) - MEAN) < 0.1
    for settings in ({}, {"sample_eps": 0.001}):
        assert run(path, "velocity", "sde", **settings).isnan().all(), "sample_eps is used now"
    x = run(path, "noise", "sde", sample_eps=0.001)
    assert abs(float(x.mean()) - MEAN) < 0.1 and abs(float(x.std()) - STD) < 0.06
for path, prediction, kind in (("Linear", "noise", "sde"), ("GVP", "score", "ode"), ("VP", "velocity", "ode")):
    try:
        run(path, prediction, kind)
        raise SystemExit("sample_eps has a default now")
    except TypeError as error:
        print(f"{path}, {prediction}, {kind}: TypeError:", error)
try:
    Sampler(create_transport()).sample_ode_likelihood()
    raise SystemExit("there is a likelihood now")
except TypeError as error:
    print("likelihood: TypeError:", error)
print("the epsilon of the sampling is lost")
PY
"$dir/venv/bin/python" "$dir/run.py"
