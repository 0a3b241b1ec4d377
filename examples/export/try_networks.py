"""Which networks of other packages export_graph takes: each is built small with random weights, exported, run by the program and compared.

Run by hand, and its table put into README.md:

    python examples/export/try_networks.py target/release/undiffuse [part of a name]

Nothing of these networks has a builder in undiffuse. Those without a level are denoisers of one noise; of the rest the timestep is what their
code takes. The reference runs in float64 where the network's code takes that. The table goes to standard output, with the versions of what is
installed, and for what is refused the message.
"""

import importlib
import importlib.util
from importlib.metadata import version
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


def of(module, name, call=None, **kw):
    """What makes a network of a module's class; `call` is how it is called otherwise than with a sample and a timestep."""
    def build():
        net = getattr(importlib.import_module(module), name)(**kw)
        return net if call is None else Called(net, call)
    return build


def of_part(package, module, name, call=None, **kw):
    """The same of a module of a package whose other imports are not wanted."""
    def build():
        net = getattr(alone(package, module), name)(**kw)
        return net if call is None else Called(net, call)
    return build


def smp(name, encoder="resnet18", **kw):
    return of("segmentation_models_pytorch", name, encoder_name=encoder, encoder_weights=None, in_channels=3, classes=3, **kw)


def k_diffusion(name, module, call=None, **kw):
    return of_part("k_diffusion", f"models.{module}", name, call, **kw)


def level(n):
    return {"level": ("vector", torch.randn(1, n))}


def text(n, channels):
    return {"text": ("tokens", torch.randn(1, n, channels))}


LABEL = {"class": ("class", torch.tensor([2]))}
MONAI, DEEPINV, DDP, DIFFUSERS = "monai.networks.nets", "deepinv.models", "denoising_diffusion_pytorch", "diffusers"
TWO = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1}
WIDTHS = {"decoder_channels": (16, 16, 16, 8, 8)}
NCSN = {"channels": 1, "nf": 16, "ch_mult": (1, 2), "num_res_blocks": 1}
first = lambda net, x, t: net(t, x)
NETWORKS = [
    ("monai", "UNet", of(MONAI, "UNet", **TWO, channels=(8, 16, 32), strides=(2, 2), num_res_units=2), image(1, 16, 16)),
    ("monai", "UNet, batch norm", of(MONAI, "UNet", **TWO, channels=(8, 16, 32), strides=(2, 2), num_res_units=1, norm="BATCH", act="RELU"), image(1, 16, 16)),
    ("monai", "UNet, 1-D", of(MONAI, "UNet", spatial_dims=1, in_channels=1, out_channels=1, channels=(8, 16), strides=(2,), num_res_units=1, norm="BATCH"),
     {"sample": ("sample", torch.randn(1, 1, 32))}),
    ("monai", "BasicUNet", of(MONAI, "BasicUNet", **TWO, features=(8, 8, 16, 16, 32, 8)), image(1, 32, 32)),
    ("monai", "BasicUNetPlusPlus", of(MONAI, "BasicUNetPlusPlus", **TWO, features=(8, 8, 16, 16, 32, 8)), image(1, 32, 32)),
    ("monai", "AttentionUnet", of(MONAI, "AttentionUnet", **TWO, channels=(8, 16, 32), strides=(2, 2)), image(1, 16, 16)),
    ("monai", "SegResNet", of(MONAI, "SegResNet", **TWO, init_filters=8, blocks_down=(1, 2, 2), blocks_up=(1, 1)), image(1, 16, 16)),
    ("monai", "DynUNet", of(MONAI, "DynUNet", **TWO, kernel_size=(3, 3, 3), strides=(1, 2, 2), upsample_kernel_size=(2, 2), filters=(8, 16, 32)), image(1, 16, 16)),
    ("monai", "AutoEncoder", of(MONAI, "AutoEncoder", **TWO, channels=(8, 16), strides=(2, 2)), image(1, 16, 16)),
    ("monai", "VNet", of(MONAI, "VNet", **TWO), image(1, 32, 32)),
    ("monai", "RegUNet", of(MONAI, "RegUNet", **TWO, num_channel_initial=8, depth=2), image(1, 16, 16)),
    ("monai", "HighResNet", of(MONAI, "HighResNet", **TWO), image(1, 16, 16)),
    ("monai", "UNETR", of(MONAI, "UNETR", in_channels=1, out_channels=1, img_size=32, feature_size=8, hidden_size=24, mlp_dim=48, num_heads=2, spatial_dims=2),
     image(1, 32, 32)),
    ("monai", "SPADEDiffusionModelUNet", of(MONAI, "SPADEDiffusionModelUNet", lambda net, x, t, seg: net(x, t, seg), **TWO, label_nc=3, num_res_blocks=1, channels=(8, 16),
     attention_levels=(False, True), norm_num_groups=4, num_head_channels=8), {**timed(1, 16, 16), "labels": ("image", torch.randn(1, 3, 16, 16))}),
    ("monai", "UNet, 3-D", of(MONAI, "UNet", spatial_dims=3, in_channels=1, out_channels=1, channels=(4, 8), strides=(2,)),
     {"sample": ("sample", torch.randn(1, 1, 8, 8, 8))}),
    ("deepinv", "UNet", of(DEEPINV, "UNet", in_channels=1, out_channels=1, scales=3), image(1, 16, 16)),
    ("deepinv", "UNet, batch norm", of(DEEPINV, "UNet", in_channels=1, out_channels=1, scales=2, batch_norm=True), image(1, 16, 16)),
    ("deepinv", "Restormer, norms with bias", of(DEEPINV, "Restormer", LayerNorm_type="WithBias", in_channels=3, out_channels=3, dim=16, num_blocks=(1, 1, 1, 1),
     num_refinement_blocks=1, heads=(1, 2, 4, 8), pretrained=None), image(3, 16, 16)),
    ("deepinv", "Restormer", of(DEEPINV, "Restormer", in_channels=3, out_channels=3, dim=16, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1, heads=(1, 2, 4, 8),
     pretrained=None), image(3, 16, 16)),
    ("deepinv", "SwinIR", of(DEEPINV, "SwinIR", img_size=16, in_chans=1, depths=(2, 2), embed_dim=24, num_heads=(2, 2), window_size=8, upsampler="", pretrained=None),
     image(1, 16, 16)),
    ("deepinv", "SCUNet", of(DEEPINV, "SCUNet", in_nc=1, config=(1, 1, 1, 1, 1, 1, 1), dim=64, pretrained=None), image(1, 64, 64)),
    ("deepinv", "AutoEncoder", of(DEEPINV, "AutoEncoder", dim_input=64, dim_mid=32, dim_hid=8), {"sample": ("sample", torch.randn(1, 64))}),
    ("segmentation_models_pytorch", "Unet", smp("Unet", **WIDTHS), image(3, 64, 64)),
    ("segmentation_models_pytorch", "Unet, scse attention", smp("Unet", decoder_channels=(32, 32, 32, 32, 16), decoder_attention_type="scse"), image(3, 64, 64)),
    ("segmentation_models_pytorch", "UnetPlusPlus", smp("UnetPlusPlus", **WIDTHS), image(3, 64, 64)),
    ("segmentation_models_pytorch", "Linknet", smp("Linknet"), image(3, 64, 64)),
    ("segmentation_models_pytorch", "FPN", smp("FPN"), image(3, 64, 64)),
    ("segmentation_models_pytorch", "MAnet", smp("MAnet", **WIDTHS), image(3, 64, 64)),
    ("segmentation_models_pytorch", "DeepLabV3Plus", smp("DeepLabV3Plus"), image(3, 64, 64)),
    ("segmentation_models_pytorch", "Unet of a MobileNet", smp("Unet", encoder="mobilenet_v2", **WIDTHS), image(3, 64, 64)),
    ("azula", "UNet", of("azula.nn.unet", "UNet", lambda net, x: net(x), in_channels=3, out_channels=3, hid_channels=(8, 16), hid_blocks=(1, 1)), image(3, 16, 16)),
    ("azula", "UNet, modulated", of("azula.nn.unet", "UNet", lambda net, x, m: net(x, m), in_channels=3, out_channels=3, hid_channels=(8, 16), hid_blocks=(1, 1),
     mod_features=12), {**image(3, 16, 16), **level(12)}),
    ("azula", "UNet, periodic", of("azula.nn.unet", "UNet", lambda net, x, m: net(x, m), in_channels=3, out_channels=3, hid_channels=(8, 16), hid_blocks=(1, 1),
     mod_features=12, periodic=True), {**image(3, 16, 16), **level(12)}),
    ("azula", "ViT", of("azula.nn.vit", "ViT", lambda net, x, m: net(x, m), in_channels=3, out_channels=3, mod_features=12, hid_channels=32, hid_blocks=2,
     attention_heads=4, spatial=2, patch_size=4), {**image(3, 16, 16), **level(12)}),
    ("denoising_diffusion_pytorch", "simple_diffusion.UViT", of_part(DDP, "simple_diffusion", "UViT", dim=16, dim_mults=(1, 2), vit_depth=1, attn_heads=2,
     attn_dim_head=8, channels=3), timed(3, 16, 16, 0.3)),
    ("denoising_diffusion_pytorch", "classifier_free_guidance.Unet", of_part(DDP, "classifier_free_guidance", "Unet",
     lambda net, x, t, c: net(x, t, c, cond_drop_prob=0.0), dim=16, num_classes=4, dim_mults=(1, 2)), {**timed(3, 16, 16), **LABEL}),
    ("k_diffusion", "ImageDenoiserModelV1", k_diffusion("ImageDenoiserModelV1", "image_v1", c_in=3, feats_in=16, depths=[1, 1], channels=[16, 32],
     self_attn_depths=[False, True]), timed(3, 16, 16, 0.3)),
    ("k_diffusion", "ImageTransformerDenoiserModelV1", k_diffusion("ImageTransformerDenoiserModelV1", "image_transformer_v1", n_layers=2, d_model=64, d_ff=96,
     in_features=3, out_features=3, patch_size=(4, 4)), timed(3, 16, 16, 0.3)),
    ("torchcfm", "UNetModelWrapper", of("torchcfm.models.unet.unet", "UNetModelWrapper", first, dim=(1, 28, 28), num_channels=32, num_res_blocks=1), timed(1, 28, 28, 0.3)),
    ("torchcfm", "UNetModelWrapper, classes", of("torchcfm.models.unet.unet", "UNetModelWrapper", lambda net, x, t, y: net(t, x, y), dim=(3, 16, 16), num_channels=32,
     num_res_blocks=1, channel_mult=(1, 2), attention_resolutions="8", num_heads=2, class_cond=True, num_classes=4, use_scale_shift_norm=True,
     resblock_updown=True), {**timed(3, 16, 16, 0.3), **LABEL}),
    ("torchcfm", "MLP", of("torchcfm.models", "MLP", dim=2, time_varying=False), {"sample": ("sample", torch.randn(1, 2))}),
    ("score_models", "NCSNpp", of("score_models", "NCSNpp", first, **NCSN), timed(1, 16, 16, 0.3)),
    ("score_models", "DDPM", of("score_models", "DDPM", first, **NCSN), timed(1, 16, 16, 0.3)),
    ("score_models", "MLP", of("score_models", "MLP", first, dimensions=2, units=32), {"sample": ("sample", torch.randn(1, 2)), "timestep": ("timestep", torch.tensor([0.3]))}),
    ("x_unet", "XUnet", of("x_unet", "XUnet", dim=16, dim_mults=(1, 2), num_blocks_per_stage=(1, 1), num_self_attn_per_stage=(0, 1), nested_unet_depths=(1, 0),
     nested_unet_dim=8, attn_heads=2, attn_dim_head=8, channels=3), image(3, 16, 16)),
    ("spandrel", "NAFNet", of("spandrel.architectures.NAFNet.__arch.NAFNet_arch", "NAFNet", img_channel=3, width=16, middle_blk_num=1, enc_blk_nums=[1, 1],
     dec_blk_nums=[1, 1]), image(3, 16, 16)),
    ("spandrel", "RCAN", of("spandrel.architectures.RCAN.__arch.rcan_arch", "RCAN", scale=2, n_resgroups=1, n_resblocks=1, n_feats=16, n_colors=3), image(3, 16, 16)),
    ("diffusers", "PixArtTransformer2DModel", of(DIFFUSERS, "PixArtTransformer2DModel", lambda net, x, t, c: net(x, encoder_hidden_states=c, timestep=t).sample,
     num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, num_layers=1, cross_attention_dim=16, caption_channels=12, sample_size=8,
     norm_type="ada_norm_single", use_additional_conditions=False), {**timed(4, 8, 8), **text(5, 12)}),
    ("diffusers", "UNet2DConditionModel of ResNet and SimpleCrossAttn blocks", of(DIFFUSERS, "UNet2DConditionModel",
     lambda net, x, t, c: net(x, t, encoder_hidden_states=c).sample, block_out_channels=(16, 32), norm_num_groups=8, cross_attention_dim=12, attention_head_dim=8,
     layers_per_block=1, sample_size=8, down_block_types=("SimpleCrossAttnDownBlock2D", "ResnetDownsampleBlock2D"),
     up_block_types=("ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D"), mid_block_type="UNetMidBlock2DSimpleCrossAttn", resnet_time_scale_shift="scale_shift"),
     {**timed(4, 8, 8), **text(5, 12)}),
    ("diffusers", "UNet2DConditionModel, SDXL's conditions", of(DIFFUSERS, "UNet2DConditionModel",
     lambda net, x, t, c, pooled, ids: net(x, t, encoder_hidden_states=c, added_cond_kwargs={"text_embeds": pooled, "time_ids": ids}).sample,
     block_out_channels=(16, 32), norm_num_groups=8, cross_attention_dim=12, attention_head_dim=(2, 4), layers_per_block=1, sample_size=8,
     down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True,
     addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=60, transformer_layers_per_block=(1, 2)),
     {**timed(4, 8, 8), **text(5, 12), "pooled": ("vector", torch.randn(1, 12)), "ids": ("vector", torch.randn(1, 6))}),
    ("diffusers", "SD3Transformer2DModel", of(DIFFUSERS, "SD3Transformer2DModel",
     lambda net, x, t, c, pooled: net(x, encoder_hidden_states=c, pooled_projections=pooled, timestep=t).sample, sample_size=8, in_channels=4, num_layers=2,
     attention_head_dim=8, num_attention_heads=2, joint_attention_dim=12, caption_projection_dim=16, pooled_projection_dim=12, out_channels=4, pos_embed_max_size=8),
     {**timed(4, 8, 8), **text(5, 12), "pooled": ("vector", torch.randn(1, 12))}),
    ("diffusers", "SanaTransformer2DModel", of(DIFFUSERS, "SanaTransformer2DModel", lambda net, x, t, c: net(x, encoder_hidden_states=c, timestep=t).sample,
     in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1, num_cross_attention_heads=2, cross_attention_head_dim=8,
     cross_attention_dim=16, caption_channels=12, sample_size=8, patch_size=1), {**timed(4, 8, 8), **text(5, 12)}),
    ("diffusers", "PriorTransformer", of(DIFFUSERS, "PriorTransformer", lambda net, x, t, p, c: net(x, t, p, c).predicted_image_embedding, num_attention_heads=2,
     attention_head_dim=8, num_layers=1, embedding_dim=12, num_embeddings=5, additional_embeddings=4),
     {"sample": ("sample", torch.randn(1, 12)), "timestep": ("timestep", torch.tensor([7.0])), "prompt": ("vector", torch.randn(1, 12)), **text(5, 12)}),
    ("diffusers", "AutoencoderTiny, whole", of(DIFFUSERS, "AutoencoderTiny", lambda net, x: net(x).sample, encoder_block_out_channels=(8, 8),
     decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)), image(3, 16, 16)),
    ("torchvision", "lraspp_mobilenet_v3_large", of("torchvision.models.segmentation", "lraspp_mobilenet_v3_large", lambda net, x: net(x)["out"], num_classes=3,
     weights=None, weights_backbone=None), image(3, 64, 64)),
    ("torchvision", "fcn_resnet50", of("torchvision.models.segmentation", "fcn_resnet50", lambda net, x: net(x)["out"], num_classes=3, weights=None,
     weights_backbone=None), image(3, 64, 64)),
    ("deepinv", "DiffUNet", of(DEEPINV, "DiffUNet", lambda net, x, t: net(x, t, type_t="timestep"), in_channels=1, out_channels=1, pretrained=None), timed(1, 32, 32)),
]
# What a code base is called where it is installed.
PACKAGES = {"segmentation_models_pytorch": "segmentation-models-pytorch", "denoising_diffusion_pytorch": "denoising-diffusion-pytorch", "k_diffusion": "k-diffusion",
            "score_models": "score-models", "x_unet": "x-unet"}


def main():
    program, wanted = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    taken, bases = 0, set()
    print("| package | network | parameters | relative L2 error, or why it is refused |\n|---|---|---|---|", flush=True)
    for base, name, build, inputs in NETWORKS:
        if wanted.lower() not in f"{base} {name}".lower():
            continue
        torch.manual_seed(0)
        base = f"{PACKAGES.get(base, base)} {version(PACKAGES.get(base, base)).split('+')[0]}"
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
                said = " ".join(str(e).split()).replace("|", "/")
                kind = "" if isinstance(e, export_graph.Unmapped) else f"{type(e).__name__}: "
                print(f"| {base} | {name} | {count:,} | refused: {kind}{said[:330]} |", flush=True)
                continue
        taken += 1
        bases.add(base)
        print(f"| {base} | {name} | {count:,} | {error:.1e} |", flush=True)
    print(f"\n{taken} networks of {len(bases)} code bases")


if __name__ == "__main__":
    main()
