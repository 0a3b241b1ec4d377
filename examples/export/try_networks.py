"""Which networks of other packages export_graph.py takes: each is built small with random weights, exported, run by the program and compared.

Made with torch 2.15.0, torchvision 0.29.2, diffusers 0.42.1, monai 1.6.1, deepinv 0.5.0, azula 0.11.1, segmentation_models_pytorch 0.6.0,
timm 1.0.31, denoising-diffusion-pytorch 2.3.4, k-diffusion 0.1.1.post1, einops 0.8.2, safetensors 0.8.0. Run by hand:

    python examples/export/try_networks.py target/release/undiffuse [part of a name]

Nothing of these networks has a builder in undiffuse. Those without a level are denoisers of one noise; of the rest the timestep is what their
code takes. The table goes to standard output.
"""

import importlib
import importlib.util
import pathlib
import sys
import tempfile
import types
import warnings

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import export_graph

warnings.filterwarnings("ignore")


def image(c, h, w):
    return {"sample": ("sample", torch.randn(1, c, h, w))}


def timed(c, h, w, t=7.0):
    return {**image(c, h, w), "timestep": ("timestep", torch.tensor([t]))}


def alone(package, name):
    """A module of a package, without what the package itself imports."""
    if package not in sys.modules:
        stub = types.ModuleType(package)
        stub.__path__ = list(importlib.util.find_spec(package).submodule_search_locations)
        sys.modules[package] = stub
    return importlib.import_module(f"{package}.{name}")


class Called(torch.nn.Module):
    """A network called otherwise than with a sample and a timestep."""

    def __init__(self, net, call):
        super().__init__()
        self.net, self.call = net, call

    def forward(self, *args):
        return self.call(self.net, *args)


def monai(name, **kw):
    return lambda: getattr(importlib.import_module("monai.networks.nets"), name)(**kw)


def deepinv(name, **kw):
    return lambda: getattr(importlib.import_module("deepinv.models"), name)(**kw)


def smp(name, **kw):
    return lambda: getattr(importlib.import_module("segmentation_models_pytorch"), name)(
        encoder_name=kw.pop("encoder", "resnet18"), encoder_weights=None, in_channels=3, classes=3, **kw)


def diffusers(name, call=None, **kw):
    def build():
        net = getattr(importlib.import_module("diffusers"), name)(**kw)
        return net if call is None else Called(net, call)
    return build


def azula(module, name, call=None, **kw):
    def build():
        net = getattr(importlib.import_module(f"azula.nn.{module}"), name)(**kw)
        return net if call is None else Called(net, call)
    return build


def ddp(module, name, call=None, **kw):
    def build():
        net = getattr(alone("denoising_diffusion_pytorch", module), name)(**kw)
        return net if call is None else Called(net, call)
    return build


def k_diffusion(**kw):
    return lambda: importlib.import_module("k_diffusion.models.image_v1").ImageDenoiserModelV1(**kw)


TWO = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1}
NETWORKS = [
    ("MONAI", "UNet", monai("UNet", **TWO, channels=(8, 16, 32), strides=(2, 2), num_res_units=2), image(1, 16, 16)),
    ("MONAI", "UNet, batch norm", monai("UNet", **TWO, channels=(8, 16, 32), strides=(2, 2), num_res_units=1, norm="BATCH", act="RELU"), image(1, 16, 16)),
    ("MONAI", "BasicUNet", monai("BasicUNet", **TWO, features=(8, 8, 16, 16, 32, 8)), image(1, 32, 32)),
    ("MONAI", "BasicUNetPlusPlus", monai("BasicUNetPlusPlus", **TWO, features=(8, 8, 16, 16, 32, 8)), image(1, 32, 32)),
    ("MONAI", "AttentionUnet", monai("AttentionUnet", **TWO, channels=(8, 16, 32), strides=(2, 2)), image(1, 16, 16)),
    ("MONAI", "SegResNet", monai("SegResNet", **TWO, init_filters=8, blocks_down=(1, 2, 2), blocks_up=(1, 1)), image(1, 16, 16)),
    ("MONAI", "DynUNet", monai("DynUNet", **TWO, kernel_size=(3, 3, 3), strides=(1, 2, 2), upsample_kernel_size=(2, 2), filters=(8, 16, 32)), image(1, 16, 16)),
    ("MONAI", "AutoEncoder", monai("AutoEncoder", **TWO, channels=(8, 16), strides=(2, 2)), image(1, 16, 16)),
    ("MONAI", "VNet", monai("VNet", **TWO), image(1, 32, 32)),
    ("MONAI", "RegUNet", monai("RegUNet", **TWO, num_channel_initial=8, depth=2), image(1, 16, 16)),
    ("MONAI", "HighResNet", monai("HighResNet", **TWO), image(1, 16, 16)),
    ("deepinv", "UNet", deepinv("UNet", in_channels=1, out_channels=1, scales=3), image(1, 16, 16)),
    ("deepinv", "UNet, batch norm", deepinv("UNet", in_channels=1, out_channels=1, scales=2, batch_norm=True), image(1, 16, 16)),
    ("deepinv", "Restormer", deepinv("Restormer", in_channels=3, out_channels=3, dim=16, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1, heads=(1, 2, 4, 8),
      pretrained=None), image(3, 16, 16)),
    ("deepinv", "SwinIR", deepinv("SwinIR", img_size=16, in_chans=1, depths=(2, 2), embed_dim=24, num_heads=(2, 2), window_size=8, upsampler="", pretrained=None), image(1, 16, 16)),
    ("deepinv", "SCUNet", deepinv("SCUNet", in_nc=1, config=(1, 1, 1, 1, 1, 1, 1), dim=32, pretrained=None), image(1, 64, 64)),
    ("deepinv", "ConvDecoder-like AutoEncoder", deepinv("AutoEncoder", dim_input=64, dim_mid=32, dim_hid=8), {"sample": ("sample", torch.randn(1, 64))}),
    ("smp", "Unet", smp("Unet", decoder_channels=(16, 16, 16, 8, 8)), image(3, 64, 64)),
    ("smp", "Unet, scse attention", smp("Unet", decoder_channels=(16, 16, 16, 8, 8), decoder_attention_type="scse"), image(3, 64, 64)),
    ("smp", "UnetPlusPlus", smp("UnetPlusPlus", decoder_channels=(16, 16, 16, 8, 8)), image(3, 64, 64)),
    ("smp", "Linknet", smp("Linknet"), image(3, 64, 64)),
    ("smp", "FPN", smp("FPN"), image(3, 64, 64)),
    ("smp", "MAnet", smp("MAnet", decoder_channels=(16, 16, 16, 8, 8)), image(3, 64, 64)),
    ("smp", "DeepLabV3Plus", smp("DeepLabV3Plus"), image(3, 64, 64)),
    ("smp", "Unet of a MobileNet", smp("Unet", encoder="mobilenet_v2", decoder_channels=(16, 16, 16, 8, 8)), image(3, 64, 64)),
    ("azula", "UNet", azula("unet", "UNet", lambda net, x: net(x), in_channels=3, out_channels=3, hid_channels=(8, 16), hid_blocks=(1, 1)), image(3, 16, 16)),
    ("azula", "UNet, modulated", azula("unet", "UNet", lambda net, x, m: net(x, m), in_channels=3, out_channels=3, hid_channels=(8, 16), hid_blocks=(1, 1), mod_features=12,
      attention_heads={1: 2}), {**image(3, 16, 16), "level": ("vector", torch.randn(1, 12))}),
    ("azula", "ViT", azula("vit", "ViT", lambda net, x, m: net(x, m), in_channels=3, out_channels=3, mod_features=12, hid_channels=32, hid_blocks=2, attention_heads=4,
      spatial=2, patch_size=4), {**image(3, 16, 16), "level": ("vector", torch.randn(1, 12))}),
    ("denoising-diffusion-pytorch", "simple_diffusion.UViT", ddp("simple_diffusion", "UViT", dim=16, dim_mults=(1, 2), vit_depth=1, attn_heads=2, attn_dim_head=8,
      channels=3), timed(3, 16, 16, 0.3)),
    ("denoising-diffusion-pytorch", "classifier_free_guidance.Unet", ddp("classifier_free_guidance", "Unet", lambda net, x, t, c: net(x, t, c, cond_drop_prob=0.0),
      dim=16, num_classes=4, dim_mults=(1, 2)), {**timed(3, 16, 16), "class": ("class", torch.tensor([2]))}),
    ("k-diffusion", "ImageDenoiserModelV1", k_diffusion(c_in=3, feats_in=16, depths=[1, 1], channels=[16, 32], self_attn_depths=[False, True]), timed(3, 16, 16, 0.3)),
    ("diffusers", "UVit2D-like PixArtTransformer2DModel", diffusers("PixArtTransformer2DModel", lambda net, x, t, c: net(x, encoder_hidden_states=c, timestep=t).sample,
      num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, num_layers=1, cross_attention_dim=16, caption_channels=12, sample_size=8,
      norm_type="ada_norm_single", use_additional_conditions=False), {**timed(4, 8, 8), "text": ("tokens", torch.randn(1, 5, 12))}),
    ("diffusers", "AutoencoderTiny", diffusers("AutoencoderTiny", lambda net, x: net(x).sample, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
      num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)), image(3, 16, 16)),
    ("diffusers", "T2I-like UNet2DConditionModel with k blocks", diffusers("UNet2DConditionModel", lambda net, x, t, c: net(x, t, encoder_hidden_states=c).sample,
      block_out_channels=(16, 32), norm_num_groups=8, cross_attention_dim=12, attention_head_dim=8, layers_per_block=1, sample_size=8,
      down_block_types=("SimpleCrossAttnDownBlock2D", "ResnetDownsampleBlock2D"), up_block_types=("ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D"),
      mid_block_type="UNetMidBlock2DSimpleCrossAttn", resnet_time_scale_shift="scale_shift"), {**timed(4, 8, 8), "text": ("tokens", torch.randn(1, 5, 12))}),
    ("torchvision", "FCN-like DeepLab", lambda: importlib.import_module("torchvision.models.segmentation").lraspp_mobilenet_v3_large(num_classes=3, weights_backbone=None),
      image(3, 64, 64)),
]


def main():
    program, wanted = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    taken, bases = 0, set()
    print("| code base | network | parameters | error |\n|---|---|---|---|", flush=True)
    for base, name, build, inputs in NETWORKS:
        if wanted.lower() not in f"{base} {name}".lower():
            continue
        torch.manual_seed(0)
        try:
            model = build().eval()
        except Exception as e:
            print(f"| {base} | {name} | | not built: {type(e).__name__}: {str(e)[:150]} |", flush=True)
            continue
        for p in model.state_dict().values():
            # As trained: no zeros that would hide a branch, no statistics of a fresh norm.
            if p.is_floating_point() and p.numel() > 1 and (float(p.std()) == 0 or p.ndim == 1):
                p.copy_(1 + 0.2 * torch.randn_like(p) if float(p.mean()) > 0.5 else 0.2 * torch.randn_like(p))
        count = sum(p.numel() for p in model.parameters())
        with tempfile.TemporaryDirectory() as folder:
            try:
                error = export_graph.export(model, inputs, pathlib.Path(folder) / "model.safetensors", program=program)
            except Exception as e:
                said = " ".join(str(e).split())
                print(f"| {base} | {name} | {count} | refused: {type(e).__name__}: {said[:330]} |", flush=True)
                continue
        taken += 1
        bases.add(base)
        print(f"| {base} | {name} | {count} | {error:.1e} |", flush=True)
    print(f"\n{taken} networks of {len(bases)} code bases")


if __name__ == "__main__":
    main()
