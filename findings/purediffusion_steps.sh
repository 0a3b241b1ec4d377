#!/usr/bin/env bash
# purediffusion's FastColdpipline asks the network 999 times whatever number of steps it is given; DDIMpipline ends in
# an AssertionError for 30 steps and in an IndexError for 1000.
#
# FastColdpipline makes the timesteps of its faster chain when it is built, but no method reads them: the one that it
# inherits goes through all.
#
# DDIMpipline takes every c-th timestep, c being 1000 over the number of steps rounded down, plus one. For 30 steps
# those are 31, which an assertion without a word refuses, as it does most numbers. With 1000 the last is 1000, and the
# schedule ends at 999.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6
"$dir/venv/bin/pip" install -q --no-deps purediffusion==0.1.1
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from purediffusion.cold import Coldpipline, FastColdpipline
from purediffusion.gaussian import DDIMpipline, DDPMpipline

print("purediffusion", version("purediffusion"), "torch", torch.__version__)
torch.set_num_threads(1)


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.calls = 0

    def forward(self, x, timesteps):
        self.calls += 1
        return 0 * x


for steps in (10, 50, 250):
    network = Network()
    FastColdpipline(Coldpipline(), ddim_num_steps=steps).cold_reverse(network, torch.ones(2, 3))
    print(f"FastColdpipline, {steps} steps: the network was asked {network.calls} times")
    assert network.calls == 999, "it has a faster chain now"
for steps, error in ((50, None), (30, AssertionError), (1000, IndexError)):
    network = Network()
    try:
        DDIMpipline(DDPMpipline(), ddim_num_steps=steps).ddim_reverse(network, 2, [3])
        print(f"DDIMpipline, {steps} steps: the network was asked {network.calls} times")
        if error is not None or network.calls != steps:
            raise SystemExit("other numbers of steps run now")
    except (AssertionError, IndexError) as raised:
        print(f"DDIMpipline, {steps} steps: {type(raised).__name__}:", raised)
        assert error is type(raised), "other numbers of steps run now"
print("the number of steps is not the caller's")
PY
"$dir/venv/bin/python" "$dir/run.py"
