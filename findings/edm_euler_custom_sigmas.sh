#!/usr/bin/env bash
# diffusers' EDMEulerScheduler.set_timesteps(sigmas=[80, 10, 1, 0.1]) makes sigmas of -2.6e14, -5.4e7, 0.002 and 45.
#
# The argument is documented as "custom sigmas to use for the denoising process". The values are used as positions in
# [0, 1] along the schedule of Karras et al., which is a formula of rho 7, instead. The timesteps become NaN, and
# nothing is raised. With sigma_schedule "exponential" only their number counts. EulerDiscreteScheduler and
# FlowMatchEulerDiscreteScheduler take the same argument as the sigmas that it says.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q diffusers==0.42.1 torch==2.15.0 numpy==2.4.6 scipy==1.17.1
cat > "$dir/run.py" <<'PY'
import diffusers, torch
from diffusers import EDMEulerScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

print("diffusers", diffusers.__version__, "torch", torch.__version__)
wanted = [80.0, 10.0, 1.0, 0.1]
doc = EDMEulerScheduler.set_timesteps.__doc__
print("documented:", " ".join(doc[doc.index("sigmas (") :].split())[:136])
karras = EDMEulerScheduler()
karras.set_timesteps(sigmas=torch.tensor(wanted))
print("EDMEuler, karras:", karras.sigmas.tolist(), "timesteps", karras.timesteps.tolist())
assert float(karras.sigmas[0]) < -1e14 and bool(karras.timesteps[0].isnan()), "the sigmas are those given now"
exponential = EDMEulerScheduler(sigma_schedule="exponential")
exponential.set_timesteps(sigmas=torch.tensor(wanted))
counted = EDMEulerScheduler(sigma_schedule="exponential")
counted.set_timesteps(len(wanted))
print("EDMEuler, exponential:", exponential.sigmas.tolist())
assert torch.equal(exponential.sigmas, counted.sigmas) and abs(float(exponential.sigmas[1]) - 10) > 1
for cls in (EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler):
    other = cls()
    other.set_timesteps(sigmas=wanted)
    print(f"{cls.__name__}:", other.sigmas.tolist())
    assert torch.allclose(other.sigmas[:4], torch.tensor(wanted))
print("EDMEuler takes custom sigmas for positions in its schedule")
PY
"$dir/venv/bin/python" "$dir/run.py"
