"""UNet2DModels that see an image beside x, and classifier-free guidance, by diffusers and PyTorch's autograd, for tests/references/conditions.rs.

Made with torch 2.15.0, diffusers 0.42.1, safetensors 0.8.0 and numpy 2.4.6; nothing is downloaded. Run by hand:

    python tests/golden/make_conditions.py

Weights by make_unet.py's recipe, everything in float64. It writes conditions.json (the configurations) and conditions.safetensors:

  * NAME.predict: the model on `torch.cat([x, image], dim=1)` at four timesteps, an image of each sample's own;
    NAME.vjp: x's part of the gradient of the sum of v times it. x, image, v are uniform(41, 0 / 1 / 2, sqrt(3)).
  * NAME.guided.SCALE.RESCALE: u + SCALE (c - u) with c the model's with labels [1, 2, 0, 3] and u with label 4, rescaled as
    diffusers' `rescale_noise_cfg` does; .vjp the gradient, as above. Only for the class model.
  * chain: x_0 of DDIM in 10 steps of 2 samples, `clip_sample=False`, guided by 2, of the class model with a readout that is 0.05 of
    the recipe's, so that the chain is not chaotic: x_T = uniform(41, 3, sqrt(3)).
"""

import json
import math
import pathlib

import torch
from diffusers import DDIMScheduler
from safetensors.numpy import save_file

from make_unet import build, down_up, draw

HERE = pathlib.Path(__file__).parent
SEED = 41
T = [0, 1, 500, 999]
LABELS = [1, 2, 0, 3]
NONE = 4
SIZE = (8, 8)
BASE = {**down_up("", "Attn"), "block_out_channels": [8, 16], "norm_num_groups": 4, "sample_size": 8, "layers_per_block": 1,
        "attention_head_dim": 4}
CONFIGS = {
    "super_resolution": {**BASE, "in_channels": 6, "out_channels": 3},
    "class_and_image": {**BASE, "in_channels": 3, "out_channels": 1, "num_class_embeds": 5, "center_input_sample": True},
}
GUIDED = [(3.0, 0.0), (3.0, 0.7), (0.0, 0.0)]


def rescale(guided, conditional, by):
    dims = list(range(1, guided.ndim))
    std = lambda x: x.std(dim=dims, keepdim=True)
    return by * (guided * std(conditional) / std(guided)) + (1 - by) * guided


def guide(c, u, scale, by):
    guided = u + scale * (c - u)
    return rescale(guided, c, by) if by > 0 else guided


def main():
    out, t = {}, torch.tensor(T)
    for name, config in CONFIGS.items():
        model = build(config)
        n, m = config["out_channels"], config["in_channels"] - config["out_channels"]
        x, image, v = (draw(SEED, i, (len(T), c, *SIZE), math.sqrt(3)) for i, c in enumerate((n, m, n)))
        x.requires_grad_()
        classes = "num_class_embeds" in config

        def call(labels):
            labels = torch.tensor(labels) if classes else None
            return model(torch.cat([x, image], dim=1), t, class_labels=labels).sample

        def store(key, y):
            (gradient,) = torch.autograd.grad(y, x, v)
            out[f"{name}.{key}"] = y
            out[f"{name}.{key}.vjp"] = gradient

        store("predict", call(LABELS))
        if classes:
            for scale, by in GUIDED:
                store(f"guided.{scale:g}.{by:g}", guide(call(LABELS), call([NONE] * len(T)), scale, by))

    name = "class_and_image"
    model = build(CONFIGS[name])
    with torch.no_grad():
        model.conv_out.weight *= 0.05
        model.conv_out.bias *= 0.05
        ddim = DDIMScheduler(clip_sample=False)
        ddim.set_timesteps(10)
        x, image = draw(SEED, 3, (2, 1, *SIZE), math.sqrt(3)), draw(SEED, 1, (4, 2, *SIZE), math.sqrt(3))[:2]
        for step in ddim.timesteps:
            seen = torch.cat([x, image], dim=1)
            c, u = (model(seen, step, class_labels=torch.tensor(labels)).sample for labels in (LABELS[:2], [NONE] * 2))
            x = ddim.step(guide(c, u, 2.0, 0.0), step, x).prev_sample
        out["chain"] = x
    (HERE / "conditions.json").write_text(json.dumps({"t": T, "labels": LABELS, "none": NONE, "configs": CONFIGS}, indent=1) + "\n")
    save_file({k: y.detach().float().contiguous().numpy() for k, y in out.items()}, HERE / "conditions.safetensors")


if __name__ == "__main__":
    main()
