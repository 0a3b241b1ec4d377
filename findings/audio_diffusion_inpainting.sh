#!/usr/bin/env bash
# audio-diffusion-pytorch's VInpainter does the same whatever num_resamples is: only the time it takes grows.
#
# RePaint (Lugmayr et al. 2022) harmonizes the two parts by going back: after a step to less noise, fresh noise brings
# the whole to the level before, and the network is asked again. Here a resampling takes x_0 and the noise from the
# network's answer and puts them together at the level they were taken from, which for any network is the input itself,
# (alpha^2 + beta^2) x. So the unknown part stays where it was, while the known part gets other noise of the same
# level. The last of the resamplings makes the step. All others could be left out.
#
# Two values of correlation 0.95, the first given as 1, an exact network: the second has the mean 0.95. By RePaint
# with the same network, levels and numbers the mean comes near as there are more resamplings.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q audio-diffusion-pytorch==0.1.3 torch==2.15.0 numpy==2.4.6
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version
from math import pi

import torch
from audio_diffusion_pytorch import VInpainter

torch.set_num_threads(1)
print("audio-diffusion-pytorch", version("audio-diffusion-pytorch"), "torch", torch.__version__)
RHO, STEPS, COUNT = 0.95, 50, 20000
COVARIANCE = torch.tensor([[1.0, RHO], [RHO, 1.0]], dtype=torch.float64)


class Exact(torch.nn.Module):
    """E[v | x] for two values of N(0, COVARIANCE)."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x, sigma):
        self.calls += 1
        a, b = torch.cos(sigma[0] * pi / 2), torch.sin(sigma[0] * pi / 2)
        x0 = x @ (a * COVARIANCE @ torch.linalg.inv(a**2 * COVARIANCE + b**2 * torch.eye(2, dtype=x.dtype)))
        return (a * x - x0) / b


def repaint(net, source, mask, steps, resamples):
    """Algorithm 1 of RePaint, each step of which is the library's."""
    x = torch.randn_like(source)
    angles = torch.linspace(1, 0, steps + 1, dtype=source.dtype) * pi / 2
    for i in range(steps):
        a, b, c, d = torch.cos(angles[i]), torch.sin(angles[i]), torch.cos(angles[i + 1]), torch.sin(angles[i + 1])
        for r in range(resamples):
            v = net(x, angles[i : i + 1] * 2 / pi)
            x = c * (a * x - b * v) + d * (b * x + a * v)
            x = torch.where(mask, c * source + d * torch.randn_like(x), x)
            if r < resamples - 1:
                x = a / c * x + (b**2 - (a / c * d) ** 2).clamp(min=0).sqrt() * torch.randn_like(x)
    return x


net = Exact()
source = torch.ones(COUNT, 1, 2, dtype=torch.float64)
mask = torch.tensor([True, False]).expand(COUNT, 1, 2)
out, right = {}, {}
for resamples in (1, 5, 20):
    torch.manual_seed(0)
    net.calls = 0
    second = VInpainter(net)(source, mask, num_steps=STEPS, num_resamples=resamples)[:, 0, 1]
    out[resamples], calls = float(second.mean()), net.calls
    torch.manual_seed(0)
    right[resamples] = float(repaint(net, source, mask, STEPS, resamples)[:, 0, 1].mean())
    print(f"{resamples} resamplings, the network asked {calls} times: mean {out[resamples]:.3f}", end="; ")
    print(f"as published {right[resamples]:.3f} (should be {RHO})")
    assert calls == STEPS * resamples
assert max(out.values()) - min(out.values()) < 0.02, "the number of resamplings counts now"
assert right[20] - right[1] > 0.1

# One step of many resamplings: what the network is asked.
seen = []


class Watched(torch.nn.Module):
    def forward(self, x, sigma):
        seen.append(x.clone())
        return torch.randn_like(x)


VInpainter(Watched())(source, mask, num_steps=1, num_resamples=20)
known, unknown = (float((seen[-1] - seen[0])[..., index].abs().max()) for index in (0, 1))
print(f"20 resamplings of a network that answers noise: known part moved by {known:.1f}, unknown part by {unknown:.1e}")
assert known > 1 and unknown < 1e-6, "the unknown part moves now"
print("the resamplings leave the unknown part where it is")
PY
"$dir/venv/bin/python" "$dir/run.py"
