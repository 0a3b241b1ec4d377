"""Scheduler configurations as 14 releases of diffusers save them, and what diffusers 0.42.1 takes them for.

Made with diffusers 0.42.1 and torch 2.15.0. The files are written by the releases themselves: of the old ones only the schedulers are
imported, from unpacked wheels. Run by hand from the repository root, with a folder where

    for v in 0.1.2 0.2.4 0.3.0 0.6.0 0.8.1 0.10.2 0.14.0 0.17.1 0.21.4 0.24.0 0.27.2 0.30.3 0.35.1; do
        pip download --no-deps --dest DIR diffusers==$v && python -m zipfile -e DIR/diffusers-$v-*.whl DIR/$v
    done

has been run:

    python tests/golden/make_scheduler_configs.py DIR

It writes tests/golden/scheduler_configs.json, a list with one line a file:
  file      the text of scheduler_config.json (with diffusers' -Infinity, where it writes that)
  from      how it came about
  class, version
  effective the keys of 0.42.1's class whose value differs from that class's default, when it loads the file
  unused    the keys that 0.42.1's class does not have: it warns and goes on
  error     what 0.42.1 raises, in place of the last two
  ignored   what the file means and 0.42.1 does not heed
"""

import importlib
import inspect
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import types
import warnings

OLD = "0.1.2 0.2.4 0.3.0 0.6.0 0.8.1 0.10.2 0.14.0 0.17.1 0.21.4 0.24.0 0.27.2 0.30.3 0.35.1".split()
NEW = "0.42.1"
LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}

# What well-known models say, by the release that saved them: (release, class, arguments, what). A class in place of arguments:
# from_config of that class's configuration, by way of its file.
MODELS = [
    ("0.1.2", "DDPMScheduler", {"variance_type": "fixed_large"}, "a pixel model of 2022"),
    ("0.1.2", "DDIMScheduler", {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear", "clip_sample": False},
     "a latent model of 2022"),
    ("0.2.4", "DDIMScheduler", {**LATENT, "clip_sample": False, "set_alpha_to_one": False, "tensor_format": "np"}, "its format of arrays"),
    ("0.3.0", "PNDMScheduler", {**LATENT, "skip_prk_steps": True, "tensor_format": "np"}, "its format of arrays"),
    ("0.3.0", "LMSDiscreteScheduler", LATENT, "text to image, 2022"),
    ("0.6.0", "PNDMScheduler", {**LATENT, "skip_prk_steps": True, "steps_offset": 1}, "text to image, version 1"),
    ("0.8.1", "DDPMScheduler", {"predict_epsilon": False}, "a model that predicts x_0"),
    ("0.8.1", "DPMSolverMultistepScheduler", {**LATENT, "predict_epsilon": False}, "a model that predicts x_0"),
    ("0.8.1", "EulerDiscreteScheduler", LATENT, "text to image"),
    ("0.10.2", "DDIMScheduler", {**LATENT, "prediction_type": "v_prediction", "clip_sample": False, "set_alpha_to_one": False,
                                 "steps_offset": 1}, "text to image, version 2"),
    ("0.14.0", "DDPMScheduler", {"beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range", "clip_sample": False},
     "learned variances"),
    ("0.17.1", "DDPMScheduler", {"beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range", "thresholding": True,
                                 "dynamic_thresholding_ratio": 0.95, "sample_max_value": 1.5}, "thresholding"),
    ("0.21.4", "EulerDiscreteScheduler", {**LATENT, "timestep_spacing": "leading", "steps_offset": 1}, "text to image, XL"),
    ("0.24.0", "LCMScheduler", {**LATENT, "original_inference_steps": 50}, "distilled"),
    ("0.24.0", "CMStochasticIterativeScheduler", {"num_train_timesteps": 40, "clip_denoised": True}, "consistency"),
    ("0.27.2", "EDMDPMSolverMultistepScheduler", {"sigma_data": 0.5, "solver_order": 2}, "EDM"),
    ("0.27.2", "EulerDiscreteScheduler", {**LATENT, "timestep_spacing": "trailing", "prediction_type": "v_prediction",
                                          "rescale_betas_zero_snr": True}, "zero terminal SNR"),
    ("0.27.2", "EulerDiscreteScheduler", {**LATENT, "use_karras_sigmas": True, "timestep_type": "continuous", "sigma_min": 0.002,
                                          "sigma_max": 700.0, "prediction_type": "v_prediction"}, "video"),
    ("0.30.3", "FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, "flow matching"),
    ("0.30.3", "CosineDPMSolverMultistepScheduler", {}, "sound"),
    ("0.35.1", "FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "use_dynamic_shifting": True}, "flow matching"),
    ("0.35.1", "UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}, "video"),
    ("0.35.1", "DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}, "flow"),
    (NEW, "DDIMScheduler", "DPMSolverMultistepScheduler", "keys of another class"),
    (NEW, "DDIMScheduler", "LCMScheduler", "keys of another class"),
    (NEW, "DDIMScheduler", "SASolverScheduler", "keys of another class"),
    (NEW, "DDPMScheduler", "TCDScheduler", "keys of another class"),
    (NEW, "EulerDiscreteScheduler", "DPMSolverSDEScheduler", "keys of another class"),
    (NEW, "EulerDiscreteScheduler", "ScoreSdeVeScheduler", "keys of another class"),
    (NEW, "HeunDiscreteScheduler", "DDPMScheduler", "keys of another class"),
    (NEW, "DPMSolverMultistepScheduler", "PNDMScheduler", "keys of another class"),
    (NEW, "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "keys of another class"),
    (NEW, "UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler", "keys of another class"),
    (NEW, "DEISMultistepScheduler", "DPMSolverMultistepScheduler", "keys of another class"),
    (NEW, "DDIMScheduler", "CMStochasticIterativeScheduler", "keys of another class"),
    (NEW, "DDIMScheduler", "RePaintScheduler", "keys of another class"),
    (NEW, "DPMSolverMultistepScheduler", {"use_karras_sigmas": True, "algorithm_type": "sde-dpmsolver++"}, "SDE"),
    (NEW, "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver"}, "refused"),
    (NEW, "DDPMScheduler", {"trained_betas": [0.1, 0.2, 0.3, 0.4], "num_train_timesteps": 4}, "given betas"),
]
# Needed by the class's constructor.
ARGUMENTS = {"VQDiffusionScheduler": {"num_vec_classes": 4}, "AmusedScheduler": {"mask_token_id": 4}}


def old_release(folder, version, wanted):
    """Runs in a process of its own: writes JSON of [class, arguments or name, text] to stdout."""
    warnings.simplefilter("ignore")
    root = pathlib.Path(folder) / version
    if version != NEW:
        sys.path.insert(0, str(root))
    if version != NEW and tuple(map(int, version.split("."))) < (0, 31):
        import huggingface_hub
        import huggingface_hub.constants

        for name in ("HfFolder", "cached_download", "Repository"):
            if not hasattr(huggingface_hub, name):
                setattr(huggingface_hub, name, type(name, (), {}))
        if not hasattr(huggingface_hub.constants, "hf_cache_home"):
            huggingface_hub.constants.hf_cache_home = ""
        for name, path in [("diffusers", root / "diffusers"), ("diffusers.schedulers", root / "diffusers" / "schedulers")]:
            package = types.ModuleType(name)
            package.__path__ = [str(path)]
            package.__version__ = version
            sys.modules[name] = package
    else:
        path = pathlib.Path(importlib.import_module("diffusers").__path__[0]) / "schedulers"
        assert importlib.import_module("diffusers").__version__ == version
    classes = {}
    for file in sorted(path.glob("**/scheduling_*.py")):
        if "flax" in file.name or "utils" in file.name:
            continue
        name = "diffusers.schedulers." + ".".join(file.relative_to(path).with_suffix("").parts)
        module = importlib.import_module(name)
        for key, c in list(vars(module).items()):
            if inspect.isclass(c) and key.endswith("Scheduler") and c.__module__ == name and hasattr(c, "config_name"):
                classes[key] = c

    def text(cls, arguments):
        if isinstance(arguments, str):
            with tempfile.TemporaryDirectory() as d:
                classes[arguments]().save_pretrained(d)
                scheduler = cls.from_config(cls.load_config(d))
        else:
            scheduler = cls(**arguments)
        with tempfile.TemporaryDirectory() as d:
            # save_config in the oldest releases.
            getattr(scheduler, "save_pretrained", scheduler.save_config)(d)
            return (pathlib.Path(d) / scheduler.config_name).read_text()

    rows = []
    for name, arguments in wanted if wanted else [(n, ARGUMENTS.get(n, {})) for n in sorted(classes)]:
        try:
            rows.append([name, arguments, text(classes[name], arguments)])
        except Exception as e:
            print(version, name, arguments, type(e).__name__, str(e)[:90], file=sys.stderr)
    sys.stdout.write("\n@@@" + json.dumps(rows))


def child(folder, version, wanted):
    run = subprocess.run([sys.executable, __file__, folder, version, json.dumps(wanted)], capture_output=True, text=True, check=True)
    sys.stderr.write("".join(l + "\n" for l in run.stderr.splitlines() if l.startswith(version)))
    return json.loads(run.stdout.rpartition("@@@")[2])


def main(folder):
    import diffusers
    from diffusers.utils import logging

    assert diffusers.__version__ == NEW
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    files = []
    seen = set()
    for version in [*OLD, NEW]:
        for name, _, text in child(folder, version, None):
            body = json.loads(text)
            body.pop("_diffusers_version")
            key = json.dumps(body, sort_keys=True)
            if key not in seen:
                files.append((version, name, text, "defaults"))
            seen.add(key)
        wanted = [(n, a) for v, n, a, _ in MODELS if v == version]
        whats = [w for v, _, _, w in MODELS if v == version]
        if wanted:
            got = child(folder, version, wanted)
            for (name, arguments), what in zip(wanted, whats):
                for row in got:
                    if row[0] == name and row[1] == arguments:
                        origin = f"{what}: {arguments}, then {name}.from_config" if isinstance(arguments, str) else what
                        files.append((version, name, row[2], origin))
    lines = []
    for version, name, text, origin in files:
        row = {"class": name, "version": version, "from": origin}
        cls = getattr(diffusers, name, None) or getattr(diffusers.schedulers.deprecated, name, None)
        if cls is None:
            for file in pathlib.Path(diffusers.__path__[0], "schedulers").glob("scheduling_*.py"):
                cls = cls or getattr(importlib.import_module(f"diffusers.schedulers.{file.stem}"), name, None)
        try:
            with tempfile.TemporaryDirectory() as d:
                (pathlib.Path(d) / "scheduler_config.json").write_text(text)
                s = cls.from_pretrained(d)
            parameters = inspect.signature(cls.__init__).parameters
            own = {k: p.default for k, p in parameters.items() if k not in ("self", "kwargs") and k not in s.ignore_for_config}
            plain = lambda v: str(v) if isinstance(v, float) and not math.isfinite(v) else v
            row["effective"] = {k: plain(s.config[k]) for k, d in own.items() if s.config[k] != d}
            row["unused"] = sorted(k for k in json.loads(text) if not k.startswith("_") and k not in [*own, *cls._deprecated_kwargs])
        except Exception as e:
            row["error"] = f"{type(e).__name__}: {str(e)[:90]}"
        if json.loads(text).get("predict_epsilon") is False:
            row["ignored"] = "predict_epsilon false means prediction_type sample"
        row["file"] = json.dumps(json.loads(text), separators=(",", ":"))
        lines.append(json.dumps(row, separators=(",", ":")))
    path = pathlib.Path(__file__).parent / "scheduler_configs.json"
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(len(lines), "files,", len({f[1] for f in files}), "classes,", path.stat().st_size, "bytes")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        old_release(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    else:
        main(sys.argv[1])
