"""Turns a training checkpoint of another code base into a directory that undiffuse reads: config.json and the weights as safetensors.

    pip install torch safetensors
    python convert_checkpoint.py adm 64x64_diffusion.pt model --config '{"image_size": 64, "num_channels": 192, "num_res_blocks": 3, ...}'
    python convert_checkpoint.py lucidrains results/model-100.pt model --config '{"dim": 64, "dim_mults": [1, 2, 4, 8], "sample_size": 32}'
    python convert_checkpoint.py policy latest.ckpt model --config '{"input_dim": 2, "global_cond_dim": 132, "horizon": 16, ...}'
    python convert_checkpoint.py lerobot model.safetensors model --config '{"input_dim": 2, "global_cond_dim": 66, "horizon": 16, ...}'
    python convert_checkpoint.py annotated model.pt model --config '{"dim": 28, "channels": 1, "dim_mults": [1, 2, 4]}' --standardise by-deviation
    python convert_checkpoint.py ffdnet ffdnet_color.pth model --config '{"in_nc": 3, "out_nc": 3, "nc": 96, "nb": 12}'
    python convert_checkpoint.py drunet drunet_gray.pth model --config '{"in_channels": 1, "out_channels": 1}'
    python convert_checkpoint.py dncnn dncnn_25.pth model --config '{"naming": "kair", "nb": 17}'
    python convert_checkpoint.py karras karras.pt model --config '{"image_size": 64, "dim": 192, "channels": 3}'
    python convert_checkpoint.py monai ddpm.pt model --config '{"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": [128, 256, 256], ...}'
    python convert_checkpoint.py edm network-snapshot.pkl model --unpickle

Tested with torch 2.15.0 and safetensors 0.8.0. Which weights: the averaged (EMA) ones, where the file has both. The configuration is what the
network's constructor was given, under its names (see the README's table of families), as JSON or a file of it; no checkpoint but EDM's has it.

A file is opened with weights_only=True: PyTorch then builds tensors and plain containers and runs no code of the file. EDM's snapshots and
most .ckpt files of Diffusion Policy are pickles of objects, which only running their code opens: `--unpickle` does so, where the code is on
PYTHONPATH. Do that with files that you trust.
"""

import argparse
import json
import pathlib
import pickle
import sys

import torch
from safetensors.torch import load_file, save_file

CLASSES = {
    "adm": "GuidedDiffusionUNet",
    "edm": "EDMPrecond",
    "policy": "ConditionalUnet1D",
    "lerobot": "ConditionalUnet1D",
    "lucidrains": "denoising_diffusion_pytorch.Unet",
    "annotated": "AnnotatedUNet",
    "lucidrains-1d": "denoising_diffusion_pytorch.Unet1D",
    "ffdnet": "FFDNet",
    "drunet": "DRUNet",
    "dncnn": "DnCNN",
    "karras": "denoising_diffusion_pytorch.KarrasUnet",
    "monai": "DiffusionModelUNet",
}
# Where the network stands in a checkpoint, the averaged weights first: entries of the file, then what all its names begin with.
PLACES = {
    "adm": [((), "")],
    "ffdnet": [((), "")],
    "annotated": [((), ""), (("model",), "")],
    "monai": [(("ema",), ""), (("model",), ""), (("state_dict",), ""), (("unet_state_dict",), ""), (("diffusion",), ""), ((), "module."), ((), "")],
    "policy": [(("state_dicts", "ema_model"), "model."), (("state_dicts", "model"), "model."), ((), "")],
    "lerobot": [((), "diffusion.unet."), ((), "unet."), ((), "")],
    "lucidrains": [(("ema",), "ema_model.model."), (("model",), "model."), ((), "ema_model.model."), ((), "model."), ((), "")],
}
PLACES |= {"lucidrains-1d": PLACES["lucidrains"], "karras": PLACES["lucidrains"], "drunet": PLACES["ffdnet"], "dncnn": PLACES["ffdnet"]}
EDM_KEYS = ["img_resolution", "img_channels", "label_dim", "model_type", "augment_dim", "model_channels", "channel_mult", "channel_mult_emb",
            "num_blocks", "attn_resolutions", "embedding_type", "channel_mult_noise", "encoder_type", "decoder_type", "resample_filter"]


def load(path, unpickle):
    if path.suffix == ".safetensors":
        return load_file(path)
    if not unpickle:
        return torch.load(path, map_location="cpu", weights_only=True)
    if path.suffix == ".pkl":
        with open(path, "rb") as f:
            return pickle.load(f)
    import dill

    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=dill)


def find(family, checkpoint):
    """The network's tensors, and where they stood."""
    for keys, prefix in PLACES[family]:
        at = checkpoint
        for key in keys:
            at = at.get(key) if isinstance(at, dict) else None
        tensors = {k: v for k, v in (at or {}).items() if isinstance(v, torch.Tensor) and k.startswith(prefix)}
        if tensors and (prefix or len(tensors) == len(at)):
            return {k[len(prefix):]: v for k, v in tensors.items()}, "/".join(keys) + f" {prefix}*"
    sys.exit(f"no network of {family} found: the file has {', '.join(map(str, list(checkpoint)[:8]))}")


def edm(checkpoint):
    """The weights, the arguments of a snapshot's network and its preconditioning, by the class of the wrapper."""
    wrapper = checkpoint["ema"]
    at = lambda key, default: float(getattr(wrapper, key, default))
    preconditioning = {
        "EDMPrecond": {"type": "edm", "sigma_data": at("sigma_data", 0.5)},
        "VPPrecond": {"type": "vp", "beta_d": at("beta_d", 19.9), "beta_min": at("beta_min", 0.1), "M": at("M", 1000)},
        "VEPrecond": {"type": "ve"},
    }.get(type(wrapper).__name__)
    if preconditioning is None:
        sys.exit(f"the network stands behind {type(wrapper).__name__}, expected EDMPrecond, VPPrecond or VEPrecond")
    config = {k: v for k, v in {**wrapper.init_kwargs, "model_type": type(wrapper.model).__name__}.items() if k in EDM_KEYS}
    return wrapper.model.state_dict(), config, preconditioning


def standardise(weight, how):
    """What WeightStandardizedConv2d makes of its weight in every call: over the deviation, or, in copies with the division and the inverse root,
    times it."""
    flat = weight.double().flatten(1)
    mean, deviation = flat.mean(1), (flat.var(1, unbiased=False) + 1e-5).sqrt()
    factor = deviation if how == "times-deviation" else 1 / deviation
    shape = (-1,) + (1,) * (weight.ndim - 1)
    return ((weight.double() - mean.reshape(shape)) * factor.reshape(shape)).to(weight.dtype)


def monai(tensors, config):
    """Of MONAI Generative's network (num_channels in its arguments) under the names that MONAI has given since."""
    if "num_channels" in config:
        config = {**config, "channels": config["num_channels"]}
        del config["num_channels"]
    self_attention = {k[: -len(".proj_attn.weight")] for k in tensors if k.endswith(".proj_attn.weight")}
    out = {}
    for name, value in tensors.items():
        block, _, part = name.rpartition(".proj_attn.")
        if block in self_attention and part:
            name = f"{block}.attn.out_proj.{part}"
        for block in self_attention:
            for part in ("to_q", "to_k", "to_v"):
                if name.startswith(f"{block}.{part}."):
                    name = f"{block}.attn.{name[len(block) + 1:]}"
        if "transformer_blocks" in name:
            name = name.replace(".to_out.0.", ".out_proj.")
        if ".upsampler.conv." in name:
            name = name.replace(".upsampler.conv.", ".upsampler.postconv.")
        out[name] = value
    return out, config


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("family", choices=CLASSES)
    p.add_argument("checkpoint", type=pathlib.Path)
    p.add_argument("output", type=pathlib.Path, help="a directory that is not there yet")
    p.add_argument("--config", default="{}", help="the constructor's arguments: JSON, or a file of it")
    p.add_argument("--unpickle", action="store_true", help="run the code of the file and of its code base")
    p.add_argument("--standardise", choices=["by-deviation", "times-deviation"], help="of annotated: what its WeightStandardizedConv2d does")
    p.add_argument("--sigma-max", type=float, help="of ffdnet and drunet: the largest noise that it was trained for, of images in 0 to 1")
    a = p.parse_args()
    if a.sigma_max is not None and a.family not in ("ffdnet", "drunet"):
        p.error("--sigma-max is of ffdnet and drunet")
    if a.family == "annotated" and not a.standardise:
        p.error("--standardise says what the code's WeightStandardizedConv2d does: by-deviation (`* rsqrt`) or times-deviation (`/ rsqrt`)")
    text = a.config if a.config.lstrip().startswith("{") else pathlib.Path(a.config).read_text()
    config = json.loads(text)
    checkpoint = load(a.checkpoint, a.unpickle)
    if a.family == "edm":
        tensors, own, preconditioning = edm(checkpoint)
        config, place = {**own, **config}, "ema"
    else:
        tensors, place = find(a.family, checkpoint)
    if a.family == "monai":
        tensors, config = monai(tensors, config)
    config = {"_class_name": CLASSES[a.family], **config}
    if a.family == "lerobot":
        config["naming"] = "lerobot"
    a.output.mkdir(parents=True)
    (a.output / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if a.family == "edm":
        scheduler = {"_class_name": "EDMEulerScheduler", "sigma_data": 0.5, "sigma_min": 0.002, "sigma_max": 80.0}
        (a.output / "scheduler_config.json").write_text(json.dumps(scheduler, indent=2) + "\n")
        (a.output / "preconditioning.json").write_text(json.dumps(preconditioning, indent=2) + "\n")
    out = {k: v.detach().contiguous().clone() for k, v in tensors.items() if v.is_floating_point()}
    if a.family == "annotated":
        out = {k: standardise(v, a.standardise) if k.endswith(".proj.weight") else v for k, v in out.items()}
    if a.family in ("ffdnet", "drunet"):
        preconditioning = {"type": "denoiser", "black": 0.0, "white": 1.0, "sigma_max": a.sigma_max}
        (a.output / "preconditioning.json").write_text(json.dumps(preconditioning, indent=2) + "\n")
    save_file(out, a.output / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    print(f"{a.output}: {len(out)} tensors, {sum(v.numel() for v in out.values()):,} values, from {place}")


if __name__ == "__main__":
    main()
