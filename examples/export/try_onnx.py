"""Which ONNX files `undiffuse import` takes: networks are built small with random weights, written by both of PyTorch's exporters (the dynamo one
with its own operator set and with 23, which has group norm and attention; the TorchScript one with 17), imported, and the prediction is compared with onnxruntime's.

Made with torch 2.15.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0, diffusers 0.42.1, transformers 5.24.0, monai 1.6.1, einops 0.8.2,
denoising-diffusion-pytorch 2.3.4, safetensors 0.8.0, numpy 2.4.6. Run by hand:

    python examples/export/try_onnx.py target/release/undiffuse [part of a name]

The error is the relative L2 one of a run on random input, without sampling. The table goes to standard output.
"""

import contextlib
import importlib
import importlib.util
import io
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import types
import warnings

import numpy as np
import onnx
import onnxruntime
import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "golden"))
warnings.filterwarnings("ignore")


class Called(torch.nn.Module):
    """A network called otherwise than with its arguments one after the other."""

    def __init__(self, net, call):
        super().__init__()
        self.net, self.call = net, call

    def forward(self, *args):
        return self.call(self.net, *args)


def image(c, h, w, name="sample"):
    return {name: torch.randn(1, c, h, w)}


def diffusers(name, call, **kw):
    return lambda: Called(getattr(importlib.import_module("diffusers"), name)(**kw), call)


def reference(name, **kw):
    """A network of tests/golden/references.py in single precision, as a trained one is."""
    def build():
        module = importlib.import_module("references")

        def waves(t, dim, shift, cosines_first):
            half = dim // 2
            f = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / (half - shift))
            a = t.float()[:, None] * f[None]
            return torch.cat([a.cos(), a.sin()] if cosines_first else [a.sin(), a.cos()], 1)

        module.waves = waves
        return getattr(module, name)(kw)
    return build


def monai(**kw):
    return lambda: importlib.import_module("monai.networks.nets").DiffusionModelUNet(spatial_dims=2, **kw)


def ddp(module, name, **kw):
    def build():
        package = "denoising_diffusion_pytorch"
        if package not in sys.modules:
            stub = types.ModuleType(package)
            stub.__path__ = list(importlib.util.find_spec(package).submodule_search_locations)
            sys.modules[package] = stub
        return getattr(importlib.import_module(f"{package}.{module}"), name)(**kw)
    return build


class Mlp2015(torch.nn.Module):
    """A multilayer perceptron of points and a time that chooses nothing, as in Sohl-Dickstein et al. 2015's toy problems."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))

    def forward(self, x):
        return self.net(x)


T = torch.tensor([421])
BLOCKS = {"sample_size": 16, "layers_per_block": 1, "block_out_channels": (16, 32), "norm_num_groups": 8}
NETWORKS = [
    ("diffusers", "UNet2DModel", diffusers("UNet2DModel", lambda net, x, t: net(x, t).sample, in_channels=3, out_channels=3, attention_head_dim=8,
      down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"), **BLOCKS), {**image(3, 16, 16), "timestep": T}),
    ("diffusers", "UNet2DModel, scale_shift, classes", diffusers("UNet2DModel", lambda net, x, t, y: net(x, t, class_labels=y).sample, in_channels=1, out_channels=1,
      resnet_time_scale_shift="scale_shift", num_class_embeds=5, add_attention=False, down_block_types=("DownBlock2D", "DownBlock2D"),
      up_block_types=("UpBlock2D", "UpBlock2D"), **BLOCKS), {**image(1, 16, 16), "timestep": T, "class_labels": torch.tensor([3])}),
    ("diffusers", "UNet2DConditionModel", diffusers("UNet2DConditionModel", lambda net, x, t, c: net(x, t, encoder_hidden_states=c).sample, cross_attention_dim=12,
      attention_head_dim=8, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), **BLOCKS),
      {**image(4, 16, 16), "timestep": T, "encoder_hidden_states": torch.randn(1, 5, 12)}),
    ("diffusers", "DiTTransformer2DModel", diffusers("DiTTransformer2DModel", lambda net, x, t, y: net(x, timestep=t, class_labels=y).sample, num_attention_heads=2,
      attention_head_dim=16, in_channels=4, num_layers=2, sample_size=8, patch_size=2, num_embeds_ada_norm=10),
      {**image(4, 8, 8), "timestep": T, "class_labels": torch.tensor([3])}),
    ("diffusers", "UNet1DModel", diffusers("UNet1DModel", lambda net, x, t: net(x, t).sample, sample_size=32, in_channels=2, out_channels=2,
      use_timestep_embedding=True, time_embedding_type="positional", out_block_type="OutConv1DBlock", act_fn="mish", layers_per_block=1, norm_num_groups=4,
      down_block_types=("DownResnetBlock1D", "DownResnetBlock1D"), up_block_types=("UpResnetBlock1D",), mid_block_type="MidResTemporalBlock1D",
      block_out_channels=(16, 32)), {"sample": torch.randn(1, 2, 32), "timestep": T}),
    ("diffusers", "AutoencoderKL", diffusers("AutoencoderKL", lambda net, x: net.decode(net.encode(x).latent_dist.mode()).sample, block_out_channels=(16, 32), norm_num_groups=8,
      latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2), image(3, 16, 16)),
    ("diffusers", "AutoencoderTiny", diffusers("AutoencoderTiny", lambda net, x: net(x).sample, encoder_block_out_channels=(8, 8),
      decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)), image(3, 16, 16)),
    ("Diffusion Policy", "ConditionalUnet1D", reference("policy", input_dim=2, global_cond_dim=5, diffusion_step_embed_dim=16, down_dims=(16, 32), n_groups=4, horizon=8),
      {"sample": torch.randn(1, 2, 8), "timestep": T, "global_cond": torch.randn(1, 5)}),
    ("Diffusion Policy", "ConditionalUnet1D, scale", reference("policy", input_dim=2, global_cond_dim=5, diffusion_step_embed_dim=16, down_dims=(16, 32), n_groups=4,
      horizon=8, cond_predict_scale=True), {"sample": torch.randn(1, 2, 8), "timestep": T, "global_cond": torch.randn(1, 5)}),
    ("MONAI", "DiffusionModelUNet", monai(in_channels=1, out_channels=1, channels=(16, 32), attention_levels=(False, True), num_res_blocks=1,
      num_head_channels=8, norm_num_groups=8), {**image(1, 16, 16, "x"), "timesteps": T}),
    ("MONAI", "DiffusionModelUNet, cross attention", monai(in_channels=1, out_channels=1, channels=(16, 32), attention_levels=(False, True), num_res_blocks=1,
      num_head_channels=8, norm_num_groups=8, with_conditioning=True, cross_attention_dim=6), {**image(1, 16, 16, "x"), "timesteps": T, "context": torch.randn(1, 3, 6)}),
    ("guided-diffusion", "UNetModel", reference("adm", image_size=16, num_channels=32, num_res_blocks=1, channel_mult="1,2", attention_resolutions="8", num_heads=2,
      class_cond=True, num_classes=5, resblock_updown=True), {**image(3, 16, 16, "x"), "timesteps": T, "y": torch.tensor([3])}),
    ("EDM", "SongUNet", reference("edm", img_resolution=16, img_channels=3, model_channels=16, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(8,)),
      {**image(3, 16, 16, "x"), "noise_labels": torch.tensor([0.4])}),
    ("lucidrains", "Unet", ddp("denoising_diffusion_pytorch", "Unet", dim=16, dim_mults=(1, 2), flash_attn=False), {**image(3, 16, 16, "x"), "time": T}),
    ("lucidrains", "Unet1D", ddp("denoising_diffusion_pytorch_1d", "Unet1D", dim=16, dim_mults=(1, 2), channels=3), {"x": torch.randn(1, 3, 32), "time": T}),
    ("lucidrains", "KarrasUnet", ddp("karras_unet", "KarrasUnet", image_size=16, dim=16, dim_max=32, num_downsamples=1, attn_res=(8,), attn_dim_head=8, fourier_dim=8,
      num_blocks_per_stage=1, channels=3), {**image(3, 16, 16, "x"), "time": torch.tensor([0.4])}),
    ("2015", "multilayer perceptron", Mlp2015, {"x": torch.randn(1, 2)}),
]


def compared(program, model, inputs, more, folder):
    path = folder / "model.onnx"
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(model, tuple(inputs.values()), str(path), input_names=list(inputs), output_names=["out"], **more)
    opset = next(o.version for o in onnx.load(str(path), load_external_data=False).opset_import if o.domain == "")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {i.name: inputs[i.name].numpy() for i in session.get_inputs()}
    made = session.run(None, given)[0]
    call = [program, "import", str(path), str(folder / "model.safetensors"), "--json", "--tolerance", "1000"]
    for name, value in given.items():
        np.save(folder / f"{name}.npy", value)
        call += ["--check-input", f"{name}={folder / name}.npy"]
    np.save(folder / "out.npy", made)
    done = subprocess.run(call + ["--check-output", str(folder / "out.npy")], capture_output=True, text=True)
    if done.returncode:
        return opset, "refused: " + done.stderr.strip().split("model.onnx: ")[-1][:300]
    said = json.loads(done.stdout)
    return opset, f"{said['relative_error']:.1e}"


def main():
    program, wanted = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    torch.set_num_threads(1)
    print("| code base | network | exporter | operator set | error |\n|---|---|---|---|---|", flush=True)
    for base, name, build, inputs in NETWORKS:
        if wanted.lower() not in f"{base} {name}".lower():
            continue
        torch.manual_seed(0)
        try:
            model = build().eval()
        except ImportError as e:
            print(f"| {base} | {name} | | | not built: {e} |", flush=True)
            continue
        for p in model.parameters():
            # As trained: no zeros that would hide a branch, nothing that was left undrawn.
            if p.ndim > 1:
                p.data.copy_(torch.randn_like(p) / math.prod(p.shape[1:]) ** 0.5)
            elif p.numel() > 1:
                p.data.copy_(1 + 0.2 * torch.randn_like(p) if float(p.mean()) > 0.5 else 0.2 * torch.randn_like(p))
        for exporter, more in (("dynamo", {"dynamo": True, "verbose": False}), ("dynamo", {"dynamo": True, "verbose": False, "opset_version": 23}),
                               ("TorchScript", {"dynamo": False, "opset_version": 17})):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    opset, said = compared(program, model, inputs, more, pathlib.Path(folder))
                except Exception as e:
                    opset, said = "", f"not exported: {type(e).__name__}: {' '.join(str(e).split('[Caused by')[0].split())[:150]}"
            print(f"| {base} | {name} | {exporter} | {opset} | {said} |", flush=True)


if __name__ == "__main__":
    main()
