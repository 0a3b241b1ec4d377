#!/usr/bin/env bash
# ema-pytorch's EMA.forward_eval, "invoking ema model with no grad + eval", runs the averaged network in training mode:
# dropout drops, and batch normalization takes the statistics of the batch and writes them into the average.
#
# It notes the mode, calls the network, and puts the mode back; the call of eval() between is missing. The averaged
# network is a copy of the trained one and so in training mode unless eval() was called on it.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q ema-pytorch==0.8.3 torch==2.15.0 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from ema_pytorch import EMA

print("ema-pytorch", version("ema-pytorch"), "torch", torch.__version__)
torch.manual_seed(0)
x = 3 * torch.randn(1000, 1) + 1
seen = {}
for name in ("as it comes", "after eval()"):
    ema = EMA(torch.nn.Sequential(torch.nn.BatchNorm1d(1), torch.nn.Dropout(0.5)))
    if name == "after eval()":
        ema.eval()
    before = float(ema.ema_model[0].running_mean)
    out = ema.forward_eval(x)
    after = float(ema.ema_model[0].running_mean)
    seen[name] = float((out == 0).float().mean()), after - before
    print(f"forward_eval {name}: {seen[name][0]:.3f} of the outputs are dropped", end=", ")
    print(f"the average's running mean goes from {before:.3f} to {after:.3f}")
assert 0.4 < seen["as it comes"][0] < 0.6 and seen["as it comes"][1] != 0, "forward_eval evaluates now"
assert seen["after eval()"] == (0.0, 0.0)
print("forward_eval does not call eval()")
PY
"$dir/venv/bin/python" "$dir/run.py"
