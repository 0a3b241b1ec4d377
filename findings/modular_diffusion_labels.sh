#!/usr/bin/env bash
# modular-diffusion with ClassifierFree guidance erases the data set's labels while it trains: after 20 epochs of
# dropout 0.1 some 14 % of them are left.
#
# Classifier-free guidance (Ho and Salimans 2022) leaves out the label of each sample with some probability, anew each
# time. The library writes the zeros, its label for none, into the batch's labels, and those are a view of the data
# set's own. Nothing puts the labels back, so what was dropped once is dropped for good, and an epoch's network sees
# 0.9 of the labels of the epoch before. Without shuffling they are the tensor that the caller gave. On a GPU a batch
# is a copy, if the data are in main memory; on the default device, the CPU, it is not.
#
# Besides, the number to drop is rounded down: with fewer than ten samples a batch a dropout of 0.1 drops none, and the
# network without label, which the samples are led away from, is never trained.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 einops==0.6.1 tqdm==4.64.1
# Without its requirements: of typing-extensions it asks for a version older than what torch needs.
"$dir/venv/bin/pip" install -q --no-deps modular-diffusion==0.0.3
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version

import torch
from diffusion import Model
from diffusion.data import Identity
from diffusion.guidance import ClassifierFree
from diffusion.loss import Simple
from diffusion.net import Net
from diffusion.noise import Gaussian
from diffusion.schedule import Cosine

torch.set_num_threads(1)
print("modular-diffusion", version("modular-diffusion"), "torch", torch.__version__)


class Watched(Net):
    """Counts the labels that it is given."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(()))
        self.none = self.asked = 0

    def forward(self, x, y, t):
        self.none, self.asked = self.none + int((y == 0).sum()), self.asked + len(y)
        return self.scale * x[None]


def train(epochs, batch, shuffle):
    torch.manual_seed(0)
    labels = torch.randint(1, 11, (5120,))
    before, net, seen = labels.clone(), Watched(), []
    model = Model(
        data=Identity(torch.randn(5120, 4), labels, batch=batch, shuffle=shuffle),
        schedule=Cosine(steps=100),
        noise=Gaussian(parameter="epsilon", variance="fixed"),
        net=net,
        guidance=ClassifierFree(dropout=0.1, strength=2),
        loss=Simple(parameter="epsilon"),
        compile=False,
    )
    for _ in model.train(epochs=epochs, progress=False):
        seen.append(net.none / net.asked)
        net.none = net.asked = 0
    return seen, float((model.data.y == 0).float().mean()), not torch.equal(labels, before)


for shuffle in (True, False):
    seen, erased, callers = train(20, 128, shuffle)
    print(f"shuffle {shuffle}: samples without label in epochs 1, 2, 5, 10 and 20:", end=" ")
    print(", ".join(f"{100 * seen[i - 1]:.0f} %" for i in (1, 2, 5, 10, 20)), end=" (should be 10 %); ")
    print(f"{100 * erased:.0f} % of the data set's labels are 0 afterwards, the caller's tensor was {'' if callers else 'not '}changed")
    assert abs(seen[0] - 0.1) < 0.02
    assert seen[-1] > 0.8 and erased > 0.8, "the labels are kept now"
    assert callers == (not shuffle)
seen, _, _ = train(3, 8, True)
print(f"batches of 8: no label for {100 * max(seen):.0f} %")
assert max(seen) == 0, "small batches are dropped from now"
print("a label dropped once is dropped for good")
PY
"$dir/venv/bin/python" "$dir/run.py"
