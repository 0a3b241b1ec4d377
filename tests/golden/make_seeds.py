"""What a user's Python program gets for a seed: the digits' model by diffusers' pipelines, on the CPU.

Made with diffusers 0.42.1, torch 2.15.0 (CPU with AVX2 and FMA), torchsde 0.2.6, numpy 2.4.6 and safetensors 0.8.0. No download. Run by hand from the
repository root:

    python tests/golden/make_seeds.py

It writes tests/golden/seeds.safetensors: for each case the images [N, 1, 28, 28] as u16, round(32767.5 (x + 1)) of x clipped to [-1, 1];
metadata "cases" has the cases as JSON: class, config (beside the model's own scheduler), steps, eta, seed, batch, and whether each
sample has a generator of its own (seed + i; none of DPMSolverSDEScheduler, whose Brownian motion has one seed). DDPM and DDIM run in DDPMPipeline and DDIMPipeline, the others in the same loop.
"""

import json
import pathlib

import diffusers
import numpy as np
import torch
from diffusers import DDIMPipeline, DDPMPipeline, UNet2DModel
from diffusers.utils.torch_utils import randn_tensor
from safetensors import safe_open
from safetensors.numpy import save_file

assert diffusers.__version__ == "0.42.1"
HERE = pathlib.Path(__file__).parent
BETAS = {"beta_schedule": "squaredcos_cap_v2"}
CASES = [
    {"class": "DDPMScheduler", "config": {}, "steps": 20},
    {"class": "DDIMScheduler", "config": {}, "steps": 10, "eta": 0.0},
    {"class": "DDIMScheduler", "config": {}, "steps": 10, "eta": 1.0},
    {"class": "EulerAncestralDiscreteScheduler", "config": {"timestep_spacing": "leading"}, "steps": 10},
    {"class": "DPMSolverMultistepScheduler", "config": {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}, "steps": 10},
    {"class": "DPMSolverSDEScheduler", "config": {"timestep_spacing": "leading"}, "steps": 10},
    {"class": "DPMSolverSDEScheduler", "config": {"timestep_spacing": "leading", "noise_sampler_seed": 7}, "steps": 10},
]


def images(unet, case, batch, generator):
    s = getattr(diffusers, case["class"])(**BETAS, **case["config"])
    if case["class"] == "DDPMScheduler":
        pipe = DDPMPipeline(unet, s)
    elif case["class"] == "DDIMScheduler":
        pipe = DDIMPipeline(unet, s)
    else:
        pipe = None
    if pipe is not None:
        pipe.set_progress_bar_config(disable=True)
        options = {"eta": case["eta"]} if "eta" in case else {}
        x = pipe(batch_size=batch, generator=generator, num_inference_steps=case["steps"], output_type="np", **options).images
        return 2 * x.transpose(0, 3, 1, 2) - 1
    s.set_timesteps(case["steps"])
    s.set_begin_index(0)  # The first two timesteps are equal.
    x = randn_tensor((batch, 1, 28, 28), generator=generator) * s.init_noise_sigma
    with torch.no_grad():
        for t in s.timesteps:
            out = unet(s.scale_model_input(x, t), t).sample
            # Its noise is that of a Brownian motion.
            options = {} if case["class"] == "DPMSolverSDEScheduler" else {"generator": generator}
            x = s.step(out, t, x, **options).prev_sample
    return x.clamp(-1, 1).numpy()


def main():
    with safe_open(HERE.parent.parent / "pretrained" / "digits.safetensors", "pt") as f:
        unet = UNet2DModel.from_config(json.loads(f.metadata()["undiffuse.model"]))
        unet.load_state_dict({k: f.get_tensor(k) for k in f.keys()})
    unet.eval()
    arrays, cases = {}, []
    for case in CASES:
        for seed, batch, each in [(0, 1, False), (0, 4, False), (3, 2, True)]:
            if each and case["class"] == "DPMSolverSDEScheduler":
                continue
            if each:
                generator = [torch.Generator().manual_seed(seed + i) for i in range(batch)]
            else:
                # As a user does: the global generator.
                torch.manual_seed(seed)
                generator = None
            x = images(unet, case, batch, generator)
            arrays[str(len(cases))] = np.round(32767.5 * (x.astype(np.float64) + 1)).astype(np.uint16)
            cases.append({**case, "seed": seed, "batch": batch, "each": each})
    path = HERE / "seeds.safetensors"
    save_file(arrays, path, metadata={"cases": json.dumps(cases)})
    path.chmod(0o644)
    print(len(cases), "cases,", path.stat().st_size, "bytes")


main()
