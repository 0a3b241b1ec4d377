#!/usr/bin/env bash
# The adjusted DDIM of hackable-diffusion goes to the wrong mean: 0.96 for 2 with any number of steps.
#
# It names algorithm 3 of "Multistep Consistency Models" (arXiv:2403.06807), in which, as in DDIM, the next state has the
# prediction of the data times the next time's alpha. AdjustedDDIMStep has the alpha of the time that it comes from. Each
# step lacks (next alpha - alpha) of the data; the sum of all steps does not shrink as they do.
#
# The exact prediction of x_0 for N(2, 0.5^2), by DDIMStep, by AdjustedDDIMStep and by algorithm 3 written out here.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 scipy==1.17.1
# Without its requirements, of which these samplers need checks of types and a dataclass only: it asks for Python 3.12.
"$dir/venv/bin/pip" install -q --no-deps --ignore-requires-python hackable-diffusion==1.0.1
cat > "$dir/run.py" <<'PY'
import dataclasses
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import jax
import jax.numpy as jnp


class Annotation:
    """Stands for every type of an array: annotations are not looked at here."""

    def __getitem__(self, _):
        return object


def module(name, **contents):
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(contents)
    return sys.modules[name]


def pytree(**options):
    return lambda cls: jax.tree_util.register_dataclass(dataclasses.dataclass(**options)(cls))


# What the package's requirements give these modules, and the package without its networks.
ktyping = module("kauldron.ktyping", typechecked=lambda f: f, check_type=lambda *_: None)
ktyping.__getattr__ = lambda _: Annotation()
module("kauldron", ktyping=ktyping)
module("flax", struct=module("flax.struct", dataclass=pytree))
module("immutabledict", immutabledict=dict)
for name in ("", ".lib", ".lib.sampling", ".lib.corruption"):
    path = ("hackable_diffusion" + name).replace(".", "/")
    module("hackable_diffusion" + name, __path__=[str(distribution("hackable-diffusion").locate_file(path))])
from hackable_diffusion.lib.corruption.gaussian import GaussianProcess
from hackable_diffusion.lib.corruption.schedules import CosineSchedule, RFSchedule
from hackable_diffusion.lib.sampling.gaussian_step_sampler import AdjustedDDIMStep, DDIMStep
from hackable_diffusion.lib.sampling.time_scheduling import UniformTimeSchedule

print("hackable-diffusion", version("hackable-diffusion"), "jax", jax.__version__)
MEAN, STD = 2.0, 0.5
start = jax.random.normal(jax.random.PRNGKey(0), (5000, 1))


def x0(x, alpha, sigma):
    return MEAN + alpha * STD**2 / ((alpha * STD) ** 2 + sigma**2) * (x - alpha * MEAN)


def by_package(step, schedule, infos, steps):
    at = lambda i: jax.tree.map(lambda leaf: leaf[i], infos)
    state = step.initialize(start, at(0))
    for i in range(1, steps + 1):
        time = state.step_info.time
        asked = {"x0": x0(state.xt, schedule.alpha(time), schedule.sigma(time))}
        state = (step.finalize if i == steps else step.update)(asked, state, at(i))
    return state.xt


def by_algorithm(schedule, infos, steps):
    x = start
    for i in range(steps):
        a, s = schedule.alpha(infos.time[i]), schedule.sigma(infos.time[i])
        b, r = schedule.alpha(infos.time[i + 1]), schedule.sigma(infos.time[i + 1])
        data = x0(x, a, s)
        noise = (x - a * data) / s
        more = (b - a * r / s) ** 2 * 0.1 / (2 + (a / s) ** 2) / (noise**2).mean()
        x = b * data + jnp.sqrt(r**2 + more) * noise
    return x


for schedule in (CosineSchedule(), RFSchedule()):
    process = GaussianProcess(schedule=schedule)
    for steps in (20, 100, 500):
        infos = UniformTimeSchedule().all_step_infos(jax.random.PRNGKey(1), steps + 1, start)
        ways = {
            "DDIMStep": by_package(DDIMStep(corruption_process=process, stoch_coeff=0.0), schedule, infos, steps),
            "AdjustedDDIMStep": by_package(AdjustedDDIMStep(corruption_process=process), schedule, infos, steps),
            "algorithm 3": by_algorithm(schedule, infos, steps),
        }
        said = ", ".join(f"{name} {float(x.mean()):.2f} +- {float(x.std()):.2f}" for name, x in ways.items())
        print(f"{type(schedule).__name__}, {steps} steps: {said} (should be {MEAN} +- {STD})", flush=True)
        for name, x in ways.items():
            assert x.mean() < 1.1 if name == "AdjustedDDIMStep" else abs(x.mean() - MEAN) < 0.05, f"{name} is other now"
print("AdjustedDDIMStep has the mean wrong whatever the steps")
PY
"$dir/venv/bin/python" "$dir/run.py"
