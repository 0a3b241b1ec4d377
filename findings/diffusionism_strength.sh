#!/usr/bin/env bash
# diffusionism's initial_state is noised to the last timestep, not to the one sampling starts from: 0.002 for 2.2.
#
# With a strength below 1 sampling should start from the initial state noised to the first of the timesteps left
# (SDEdit, Meng et al. 2022, algorithm 1). The package takes the last of them, sigma_min, and denoises from the first,
# so that the network is told of noise that is not there. With strength=1, the default, no step is taken at all and the
# initial state comes back as it was, where strengths just below 1 take nearly all steps.
#
# The noise seen by the network in its first call, with EDM's schedule of 40 steps from 80 down to 0.002.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 tqdm==4.70.1
# Without what its runner needs, and with the release of pyreflex that torchflint was made for.
"$dir/venv/bin/pip" install -q --no-deps diffusionism==0.0.1b9 torchflint==0.0.1b16.post1.dev3 pyreflex==0.0.1b13
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import torch

# The package without the modules of its runner.
package = ModuleType("diffusionism")
package.__path__ = [str(distribution("diffusionism").locate_file("diffusionism"))]
sys.modules["diffusionism"] = package
from diffusionism.diffusion.schedules.context import sequencings
from diffusionism.methods.elucidated_diffusion_models.samplers import EDMHeunSampler
from diffusionism.methods.elucidated_diffusion_models.schedules import EDMSchedule

torch.set_num_threads(1)
print("diffusionism", version("diffusionism"), "torch", torch.__version__)
DATA = 0.5


class Network(torch.nn.Module):
    """Keeps what it is asked in its first call."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.calls = 0

    def forward(self, x, c_noise):
        if not self.calls:
            self.sigma = float((4 * c_noise).exp())
            self.seen = float((x * (self.sigma**2 + DATA**2) ** 0.5).std())
        self.calls += 1
        return torch.zeros_like(x)


STEPS = 40
sigmas = sequencings.karras_sigma(STEPS, 0.002, 80.0)
state = torch.full((2000, 1), -1.0)
for strength in (0.25, 0.5, 0.75, 1.0):
    network = Network()
    sampler = EDMHeunSampler(network, sigmas, EDMSchedule(DATA), output_handlers=[])
    torch.manual_seed(0)
    with torch.no_grad():
        x = sampler(torch.randn(2000, 1), initial_state=state, strength=strength)
    if strength == 1:
        print(f"strength {strength}: {network.calls} calls, the state is changed by {float((x - state).abs().max())}")
        assert network.calls == 0 and torch.equal(x, state), "strength 1 samples now"
    else:
        print(
            f"strength {strength}: the network is told of noise of {network.sigma:.3f} and sees"
            f" {network.seen:.4f} (should be the same)",
            flush=True,
        )
        assert network.sigma > 0.05 and network.seen < 0.05 * network.sigma, "the noise is that of the start now"
print("the initial state gets the noise of the last timestep")
PY
"$dir/venv/bin/python" "$dir/run.py"
