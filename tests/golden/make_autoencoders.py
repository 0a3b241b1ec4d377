"""Golden outputs and gradients of diffusers' autoencoders, for tests/references/autoencoders.rs.

Made with torch 2.15.0, diffusers 0.42.1, safetensors 0.8.0 and numpy 2.4.6. Run by hand: `python tests/golden/make_autoencoders.py`. It writes
autoencoders.json (the cases) and autoencoders.safetensors: for each case NAME the decoder's output "NAME", its gradient "NAME, gradient" by the
first of two latents, the encoder's "NAME, encoder" (the mean of an AutoencoderKL), its gradient "NAME, encoder gradient" by the image, and of an
AutoencoderKL "NAME, logvar".

Weights are drawn by make_unet.py's recipe. The latents of case number n are uniform(INPUT_SEED, 10 n, ..., a = sqrt(3)), the cotangent
10 n + 1 (a = 1), the images 10 n + 2 (a = 1), the cotangent of the encoder's output 10 n + 3 (a = 1). In float64, rounded once.
"""

import json
import math
import pathlib

import diffusers
import torch
from safetensors.numpy import save_file

import make_unet

HERE = pathlib.Path(__file__).parent
INPUT_SEED = 43


def kinds(*names):
    """Block types by stem, finest first."""
    return {"down_block_types": [f"{k}DownEncoderBlock2D" for k in names], "up_block_types": [f"{k}UpDecoderBlock2D" for k in reversed(names)]}


CASES = [
    {"name": "kl", "latent": [4, 3, 5], "config": {"_class_name": "AutoencoderKL", "block_out_channels": [8, 12, 16], "norm_num_groups": 4,
     "layers_per_block": 1, **kinds("", "", "")}},
    {"name": "kl, other keys", "latent": [2, 4, 4], "config": {"_class_name": "AutoencoderKL", "block_out_channels": [8, 8], "norm_num_groups": 2,
     "layers_per_block": 2, "latent_channels": 2, "in_channels": 1, "out_channels": 2, "act_fn": "mish", "use_quant_conv": False,
     "use_post_quant_conv": False, "mid_block_add_attention": False, **kinds("", "Attn"), "scaling_factor": 0.5, "shift_factor": 0.25}},
    {"name": "vq", "latent": [3, 4, 6], "config": {"_class_name": "VQModel", "block_out_channels": [8, 16], "norm_num_groups": 4,
     "num_vq_embeddings": 40, **kinds("", "")}},
    {"name": "vq, attention, other dimension", "latent": [5, 4, 4], "config": {"_class_name": "VQModel", "block_out_channels": [8, 8],
     "norm_num_groups": 4, "num_vq_embeddings": 9, "vq_embed_dim": 5, "latent_channels": 4, "layers_per_block": 2, **kinds("Attn", "")}},
    {"name": "tiny", "latent": [4, 3, 4], "config": {"_class_name": "AutoencoderTiny", "encoder_block_out_channels": [8, 8, 8],
     "decoder_block_out_channels": [12, 12, 12], "num_encoder_blocks": [1, 2, 1], "num_decoder_blocks": [2, 1, 1]}},
]


def main():
    arrays = {}
    for n, c in enumerate(CASES):
        config = dict(c["config"])
        model = getattr(diffusers, config.pop("_class_name"))(**config).double().eval()
        model.load_state_dict(make_unet.weights(model), strict=True)
        c["parameters"] = sum(v.numel() for v in model.state_dict().values())

        def draw(i, shape, a):
            return make_unet.draw(INPUT_SEED, 10 * n + i, shape, a)

        z = draw(0, (2, *c["latent"]), math.sqrt(3)).requires_grad_()
        y = model.decode(z).sample
        (dz,) = torch.autograd.grad(y, z, draw(1, tuple(y.shape), 1))
        c["image"] = list(y.shape[1:])
        x = draw(2, (1, model.config.in_channels, *y.shape[2:]), 1).requires_grad_()
        encoded = model.encode(x)
        found = {"": y, ", gradient": dz[:1]}
        if hasattr(encoded, "latent_dist"):
            moments = encoded.latent_dist.parameters.chunk(2, dim=1)
            found |= {", encoder": moments[0], ", logvar": moments[1]}
        else:
            found[", encoder"] = encoded.latents
        mean = found[", encoder"]
        (found[", encoder gradient"],) = torch.autograd.grad(mean, x, draw(3, tuple(mean.shape), 1))
        for suffix, value in found.items():
            assert torch.isfinite(value).all()
            arrays[c["name"] + suffix] = value.detach().float().contiguous().numpy()
        print(f"{c['name']}: {tuple(y.shape)}, std {y.std():.3f}, {c['parameters']} parameters")
    save_file(arrays, HERE / "autoencoders.safetensors")
    (HERE / "autoencoders.json").write_text(json.dumps({"cases": CASES}, indent=1) + "\n")


if __name__ == "__main__":
    main()
