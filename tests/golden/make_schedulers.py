"""Golden arrays for noise schedules, timesteps, single steps and whole chains of DDPM and DDIM.

Made with diffusers 0.42.1, torch 2.15.0 (CPU; its AVX2 kernels round torch.linspace with fused multiply-add), numpy 2.4.6 and
safetensors 0.8.0. No download. Run by hand from the repository root:

    python tests/golden/make_schedulers.py

It writes tests/golden/schedulers.safetensors; the cases stand as JSON in its metadata. Inputs are drawn from pcg.py and not
stored: tests/references/schedulers.rs draws the same.
"""

import itertools
import json
import math
import pathlib

import diffusers
import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.schedulers import scheduling_ddpm
from safetensors.numpy import save_file

from pcg import uniform

ROOT3 = 3.0**0.5
SHAPE = (2, 2, 3, 3)
CHAIN_SHAPE = (2, 1, 4, 4)
assert diffusers.__version__ == "0.42.1"


def given(seed, stream, shape, a):
    return torch.from_numpy(uniform(seed, stream, math.prod(shape), a).reshape(shape))


class Noise:
    """Stands in for diffusers' randn_tensor: gives what it was set to."""

    def __init__(self):
        self.value = None

    def __call__(self, shape, **_):
        assert tuple(shape) == tuple(self.value.shape)
        return self.value


noise = Noise()
scheduling_ddpm.randn_tensor = noise


# --- schedules ---------------------------------------------------------------------------------------------------------


def schedules(arrays, meta):
    cases = []

    def add(config, betas, alphas_cumprod):
        i = len(cases)
        cases.append(config)
        arrays[f"betas.{i}"] = betas.numpy()
        arrays[f"alphas_cumprod.{i}"] = alphas_cumprod.numpy()

    names = ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"]
    for name, rescale in itertools.product(names, [False, True]):
        config = {"beta_schedule": name, "rescale_betas_zero_snr": rescale}
        s = DDPMScheduler(**config)
        add(config, s.betas, s.alphas_cumprod)
    for config in [
        {"num_train_timesteps": 100, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
        {"num_train_timesteps": 37, "beta_start": 0.001, "beta_end": 0.2},
        {"num_train_timesteps": 1},
        {"num_train_timesteps": 20, "trained_betas": [round(0.01 + 0.03 * i, 6) for i in range(20)]},
    ]:
        s = DDPMScheduler(**config)
        add(config, s.betas, s.alphas_cumprod)
    betas = scheduling_ddpm.betas_for_alpha_bar(200, alpha_transform_type="exp")
    add({"num_train_timesteps": 200, "beta_schedule": "exp"}, betas, torch.cumprod(1 - betas, 0))
    meta["schedules"] = cases


# --- timesteps ---------------------------------------------------------------------------------------------------------


def timesteps(arrays, meta):
    cases, lists = [], []
    for spacing in ["linspace", "leading", "trailing"]:
        for n, offset in itertools.product([1, 2, 3, 7, 10, 15, 50, 64, 300, 667, 999, 1000], [0, 1]):
            if offset == 1 and (spacing != "leading" or n == 1000):
                continue
            s = DDPMScheduler(timestep_spacing=spacing, steps_offset=offset)
            s.set_timesteps(n)
            assert len(s.timesteps) == n
            cases.append({"timestep_spacing": spacing, "steps_offset": offset, "steps": n})
            lists.append(s.timesteps.numpy().astype(np.int32))
    arrays["timesteps"] = np.concatenate(lists)
    meta["timesteps"] = cases


# --- single steps ------------------------------------------------------------------------------------------------------


def single_steps(arrays, meta):
    cases, results = [], []
    clips = [
        {"clip_sample": False},
        {"clip_sample": True, "clip_sample_range": 0.8},
        {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 2.5},
    ]
    predictions = ["epsilon", "sample", "v_prediction"]

    def inputs(learned):
        channels = 2 * SHAPE[1] if learned else SHAPE[1]
        output = given(1, 1, (SHAPE[0], channels, *SHAPE[2:]), 1.5)
        if learned == "learned":
            output[:, SHAPE[1] :] = output[:, SHAPE[1] :] ** 2
        return given(1, 0, SHAPE, 1.8), output, given(1, 2, SHAPE, ROOT3)

    def add(cls, config, steps, indices, **step_options):
        for index in indices:
            s = cls(**config)
            s.set_timesteps(steps)
            variance = config.get("variance_type", "")
            x, output, z = inputs(variance if variance.startswith("learned") else None)
            if cls is DDPMScheduler:
                noise.value = z
                out = s.step(output, s.timesteps[index], x)
            else:
                out = s.step(output, int(s.timesteps[index]), x, variance_noise=z, **step_options)
            assert torch.isfinite(out.prev_sample).all(), (config, index)
            cases.append(
                {
                    "config": {"_class_name": cls.__name__, **config},
                    "steps": steps,
                    "index": index % steps,
                    **step_options,
                }
            )
            results.append(np.stack([out.prev_sample.numpy(), out.pred_original_sample.numpy()]))

    ends = [0, 4, -1]
    # fixed_large_log is left out: diffusers takes the square root of a negative number there.
    variances = ["fixed_small", "fixed_small_log", "fixed_large", "learned", "learned_range"]
    for variance, prediction, clip in itertools.product(variances, predictions, clips):
        add(DDPMScheduler, {"variance_type": variance, "prediction_type": prediction, **clip}, 10, ends)
    for prediction, clip, eta, use in itertools.product(predictions, clips, [0.0, 0.4, 1.0], [False, True]):
        config = {"prediction_type": prediction, **clip}
        add(DDIMScheduler, config, 10, ends, eta=eta, use_clipped_model_output=use)
    # What remains, one at a time: spacing, offset, the last alpha, schedules, zero terminal signal, every step of few.
    others = [
        {"timestep_spacing": "linspace"},
        {"timestep_spacing": "trailing"},
        {"steps_offset": 1},
        {"set_alpha_to_one": False},
        {"set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False, "beta_schedule": "scaled_linear",
         "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
        {"rescale_betas_zero_snr": True, "prediction_type": "epsilon", "timestep_spacing": "linspace"},
    ]
    for config in others:
        for steps in [7, 3]:
            add(DDIMScheduler, config, steps, range(steps), eta=0.7, use_clipped_model_output=False)
            if "set_alpha_to_one" not in config:
                add(DDPMScheduler, config, steps, range(steps))
    arrays["single_steps"] = np.stack(results)
    meta["single_steps"] = cases


# --- chains ------------------------------------------------------------------------------------------------------------


def gaussian_denoiser():
    """The exact denoiser of independent N(m, s^2) under the linear schedule, in f64, rounded once to f32."""
    n = math.prod(CHAIN_SHAPE[1:])
    m = uniform(2, 0, n, 0.6).astype(np.float64)
    s2 = (0.05 + 0.3 * (np.arange(n) % 5)) ** 2
    abar, table = 1.0, []
    for t in range(1000):
        abar *= 1.0 - (1e-4 + (0.02 - 1e-4) * t / 999.0)
        table.append(abar)

    def predict(x, t, prediction, learned):
        a, sigma = math.sqrt(table[t]), math.sqrt(1.0 - table[t])
        x = x.numpy().astype(np.float64).reshape(-1, n)
        h = (x - a * m) / (a * a * s2 + sigma * sigma)
        eps, x0 = sigma * h, m + a * s2 * h
        out = {"epsilon": eps, "sample": x0, "v_prediction": a * eps - sigma * x0}[prediction]
        out = out.astype(np.float32).reshape(CHAIN_SHAPE)
        if learned:
            out = np.concatenate([out, np.broadcast_to(m, x.shape).astype(np.float32).reshape(CHAIN_SHAPE)], axis=1)
        return torch.from_numpy(out)

    return predict


def chains(arrays, meta):
    cases = []
    predict = gaussian_denoiser()
    todo = [
        (DDPMScheduler, {}, 1000, {}),
        (DDPMScheduler, {"variance_type": "fixed_large", "clip_sample": False}, 1000, {}),
        (DDPMScheduler, {"variance_type": "learned_range", "prediction_type": "v_prediction"}, 250, {}),
        (DDPMScheduler, {"timestep_spacing": "trailing", "variance_type": "fixed_small_log"}, 50, {}),
        (DDIMScheduler, {}, 50, {"eta": 0.0}),
        (DDIMScheduler, {}, 50, {"eta": 1.0}),
        (DDIMScheduler, {"clip_sample": False, "timestep_spacing": "linspace"}, 50, {"eta": 0.0}),
        (DDIMScheduler, {"prediction_type": "sample", "thresholding": True, "sample_max_value": 1.4}, 50, {"eta": 0.5}),
        (DDIMScheduler, {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction",
                         "timestep_spacing": "trailing"}, 50, {"eta": 1.0}),
    ]
    for cls, config, steps, options in todo:
        s = cls(**config)
        s.set_timesteps(steps)
        x = given(2, 1, CHAIN_SHAPE, ROOT3)
        kept = []
        for i, t in enumerate(s.timesteps):
            z = given(2, 2 + i, CHAIN_SHAPE, ROOT3)
            learned = config.get("variance_type", "").startswith("learned")
            output = predict(x, int(t), config.get("prediction_type", "epsilon"), learned)
            if cls is DDPMScheduler:
                noise.value = z
                x = s.step(output, t, x).prev_sample
            else:
                x = s.step(output, int(t), x, variance_noise=z, **options).prev_sample
            if (i + 1) % (steps // 10) == 0:
                kept.append(x.numpy())
        assert len(kept) == 10
        arrays[f"chain.{len(cases)}"] = np.stack(kept)
        cases.append({"config": {"_class_name": cls.__name__, **config}, "steps": steps, **options})
    meta["chains"] = cases


def main():
    arrays, meta = {}, {}
    for part in (schedules, timesteps, single_steps, chains):
        part(arrays, meta)
    path = pathlib.Path(__file__).parent / "schedulers.safetensors"
    save_file(arrays, path, metadata={k: json.dumps(v, separators=(",", ":")) for k, v in meta.items()})
    print(path, path.stat().st_size, "bytes")


main()
