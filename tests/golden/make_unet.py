"""Golden outputs of diffusers' UNet2DModel, for tests/references/unet.rs and tests/references/chains.rs.

Made with torch 2.15.0, diffusers 0.42.1, safetensors 0.8.0 and numpy 2.4.6 (any close release should agree); nothing is downloaded.
Run by hand: `python tests/golden/make_unet.py`. It writes unet.json (the cases), unet.safetensors (their outputs),
chain_weights.safetensors (a tiny network, trained for the purpose) and chains.safetensors (final images of whole chains).

But for the chains, weights and inputs are not stored: both sides draw them by pcg.py's recipe.
  * The state dict's names, sorted, give each tensor its stream: seed WEIGHT_SEED, stream = position in that order.
  * Two or more dimensions: uniform in [-a, a] with a = sqrt(3 / fan_in), fan_in = product of all dimensions but the first.
  * One dimension: "time_proj.weight" has a = 16; a name that ends in "norm.weight", "norm1.weight", "norm2.weight" or
    "norm_out.weight" is 1 + uniform(0.3); any other (a bias) has a = 0.2.
  * The input of a case is uniform(INPUT_SEED, case index, ..., a = sqrt(3)) as [n, C, H, W], one image per entry of `t`.
  * `class_vectors` are uniform(INPUT_SEED, 1000 + case index, ..., a = 1) as [n, time embedding channels].
  * A chain's x_T is uniform(CHAIN_SEED, 0, ..., a = sqrt(3)), its noise at step i uniform(CHAIN_SEED, 1 + i, ..., sqrt(3)).

The reference is the diffusers model run in float64 (diffusers itself computes the positional embedding in float32);
outputs are rounded once to float32.
"""

import json
import math
import pathlib
import sys

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from diffusers.schedulers import scheduling_ddpm
from safetensors.numpy import load_file, save_file

import pcg

WEIGHT_SEED = 20
INPUT_SEED = 21
CHAIN_SEED = 22
HERE = pathlib.Path(__file__).parent
T = [0, 1, 500, 999]
SIGMA = [0.01, 0.5, 50.0, 378.0]


def down_up(*kinds):
    """Block types by stem, finest first: "" is DownBlock2D/UpBlock2D, "Attn", "Skip", "AttnSkip", "Resnet"."""
    def name(stem, way):
        return f"Resnet{way}sampleBlock2D" if stem == "Resnet" else f"{stem}{way}Block2D"

    return {
        "down_block_types": [name(k, "Down") for k in kinds],
        "up_block_types": [name(k, "Up") for k in reversed(kinds)],
    }


def case(name, size, config, t=T, **extra):
    return {"name": name, "size": size, "t": t, "config": config, **extra}


CASES = [
    case("plain", [12, 20], {**down_up("", "", ""), "block_out_channels": [8, 16, 16], "norm_num_groups": 4,
         "sample_size": [12, 20], "layers_per_block": 2, "dropout": 0.1}),
    case("attention_one_head", [8, 8], {**down_up("", "Attn"), "block_out_channels": [8, 12], "norm_num_groups": 4,
         "attention_head_dim": None, "downsample_padding": 0, "freq_shift": 1, "flip_sin_to_cos": False,
         "norm_eps": 1e-6, "layers_per_block": 1}),
    case("attention_resnet_resampling", [8, 12], {**down_up("Attn", "Attn"), "block_out_channels": [8, 16],
         "norm_num_groups": 2, "attention_head_dim": 4, "downsample_type": "resnet", "upsample_type": "resnet",
         "layers_per_block": 1, "act_fn": "mish"}),
    case("attention_narrow", [6, 6], {**down_up("Attn"), "block_out_channels": [24], "norm_num_groups": 3,
         "attention_head_dim": 16, "layers_per_block": 1, "attn_norm_num_groups": 6}),
    case("resnet_scale_shift", [8, 8], {**down_up("Resnet", "Attn"), "block_out_channels": [8, 16],
         "norm_num_groups": 4, "resnet_time_scale_shift": "scale_shift", "class_embed_type": "timestep",
         "act_fn": "gelu", "downsample_type": "resnet", "upsample_type": "resnet", "layers_per_block": 2},
         class_labels=[0, 3, 7, 250]),
    case("scale_shift_attention_norm", [4, 4], {**down_up("Resnet", "Resnet"), "block_out_channels": [8, 8],
         "norm_num_groups": 4, "resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 2,
         "mid_block_scale_factor": 1.25, "layers_per_block": 1, "num_class_embeds": 10},
         class_labels=[0, 9, 4, 4]),
    case("skip_fourier", [8, 8], {**down_up("Skip", "AttnSkip", "Skip"), "block_out_channels": [32, 32, 32],
         "norm_num_groups": None, "time_embedding_type": "fourier", "center_input_sample": True,
         "mid_block_scale_factor": math.sqrt(2), "attention_head_dim": None, "layers_per_block": 1,
         "norm_eps": 1e-6, "downsample_padding": 1}, t=SIGMA),
    case("skip_positional", [16, 8], {**down_up("Skip", "Skip"), "block_out_channels": [8, 16], "norm_num_groups": 4,
         "layers_per_block": 1, "add_attention": False, "act_fn": "relu"}),
    case("skip_last", [8, 8], {**down_up("", "Skip"), "block_out_channels": [8, 16], "norm_num_groups": 4,
         "layers_per_block": 1, "up_block_types": ["UpBlock2D", "SkipUpBlock2D"]}),
    case("attention_skip", [8, 8], {**down_up("AttnSkip", "AttnSkip"), "block_out_channels": [32, 32],
         "norm_num_groups": None, "attention_head_dim": 8, "layers_per_block": 1, "act_fn": "swish"}),
    case("fourier_plain", [4, 4], {**down_up("", ""), "block_out_channels": [8, 8], "norm_num_groups": 4,
         "time_embedding_type": "fourier", "attention_head_dim": 8, "layers_per_block": 1,
         "class_embed_type": "timestep"}, t=SIGMA, class_labels=[1.0, 2.0, 5.5, 0.25]),
    case("class_identity", [4, 4], {**down_up("", ""), "block_out_channels": [8, 8], "norm_num_groups": 4,
         "class_embed_type": "identity", "layers_per_block": 1, "act_fn": "mish", "time_embedding_dim": 20},
         class_vectors=True),
    case("learned_time", [4, 4], {**down_up("", ""), "block_out_channels": [8, 8], "norm_num_groups": 4,
         "time_embedding_type": "learned", "num_train_timesteps": 1000, "layers_per_block": 1, "act_fn": "GELU"}),
    case("no_middle", [6, 4], {"down_block_types": ["UNetResDownBlock2D", "UNetResAttnDownBlock2D"],
         "up_block_types": ["UNetResAttnUpBlock2D", "UNetResUpBlock2D"], "block_out_channels": [8, 8],
         "norm_num_groups": 8, "mid_block_type": None, "in_channels": 1, "out_channels": 2, "layers_per_block": 1}),
    case("odd_everything", [7, 5], {**down_up("Attn"), "block_out_channels": [9], "norm_num_groups": 3,
         "attention_head_dim": 3, "in_channels": 2, "out_channels": 2, "layers_per_block": 3, "sample_size": None}),
    case("butterflies", [8, 8], {**down_up("", "", "Attn", "Attn"), "block_out_channels": [16, 32, 32, 64],
         "norm_num_groups": 8, "sample_size": 8}),
    case("ddpm_cifar10_32", [32, 32], {
        "act_fn": "silu", "attention_head_dim": None, "block_out_channels": [128, 256, 256, 256],
        "center_input_sample": False,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "in_channels": 3, "layers_per_block": 2,
        "mid_block_scale_factor": 1, "norm_eps": 1e-06, "norm_num_groups": 32, "out_channels": 3, "sample_size": 32,
        "time_embedding_type": "positional",
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    }),
    case("k", [8, 12], {**down_up("K", "K"), "block_out_channels": [32, 32], "layers_per_block": 2, "act_fn": "gelu"}),
    case("k_widening", [4, 8], {**down_up("K", "K"), "block_out_channels": [32, 64], "layers_per_block": 1, "add_attention": False}),
    case("k_attention", [8, 4], {**down_up("K", "K"), "up_block_types": ["KUpBlock2D", "KCrossAttnUpBlock2D"], "block_out_channels": [32, 64],
         "layers_per_block": 2, "attention_head_dim": 16, "add_attention": False}),
    case("k_attention_above_others", [4, 4], {"down_block_types": ["AttnDownBlock2D"], "up_block_types": ["KCrossAttnUpBlock2D"],
         "block_out_channels": [32], "layers_per_block": 1, "norm_num_groups": 8, "attention_head_dim": None, "add_attention": False}),
    case("k_attention_widening", [4, 8], {**down_up("K", "K"), "up_block_types": ["KCrossAttnUpBlock2D"] * 2, "block_out_channels": [32, 64],
         "layers_per_block": 2, "attention_head_dim": 8, "add_attention": False}),
]

NORMS = ("norm.weight", "norm1.weight", "norm2.weight", "norm_out.weight")


def weights(model):
    """The recipe's weights, as a state dict of float64 tensors."""
    out = {}
    for stream, (name, old) in enumerate(sorted(model.state_dict().items())):
        count = old.numel()
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


def build(config):
    model = UNet2DModel(**config).double().eval()
    model.load_state_dict(weights(model), strict=True)
    # The positional embedding comes out in float32, and forward casts it back for the time but not for the class.
    model.time_proj.register_forward_hook(lambda _module, _inputs, output: output.double())
    return model


def draw(seed, stream, shape, a):
    return torch.from_numpy(pcg.uniform(seed, stream, math.prod(shape), a).astype(np.float64)).reshape(shape)


def forward(index, c):
    model = build(c["config"])
    n = len(c["t"])
    x = draw(INPUT_SEED, index, (n, model.config.in_channels, *c["size"]), math.sqrt(3))
    integer = model.config.time_embedding_type != "fourier"
    t = torch.tensor(c["t"], dtype=torch.long if integer else torch.float64)
    labels = None
    if "class_labels" in c:
        whole = all(isinstance(v, int) for v in c["class_labels"])
        labels = torch.tensor(c["class_labels"], dtype=torch.long if whole else torch.float64)
    if "class_vectors" in c:
        labels = draw(INPUT_SEED, 1000 + index, (n, model.time_embedding.linear_2.out_features), 1)
    y = model(x, t, class_labels=labels).sample
    return y, sum(p.numel() for p in model.parameters())


CHAIN_CONFIG = {**down_up("", "Attn"), "block_out_channels": [8, 16], "norm_num_groups": 4, "sample_size": 8,
                "layers_per_block": 1}
CHAIN_SHAPE = (2, 3, 8, 8)


def train():
    """A network that really denoises, in about a minute: with random weights a deterministic chain is chaotic, and two
    exact implementations part ways. Images are plane waves of one colour. The weights are kept as f16."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = UNet2DModel(**CHAIN_CONFIG)
    ddpm = DDPMScheduler(num_train_timesteps=1000)
    steps = 800
    adam = torch.optim.Adam(model.parameters(), lr=4e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 8), torch.linspace(0, 1, 8), indexing="ij")
    total = 0.0
    for step in range(steps):
        a, b, phase = (torch.randn(32, 1, 1) for _ in range(3))
        wave = torch.cos(2 * (a * rows + b * columns) + 3 * phase)
        x0 = wave[:, None] * (2 * torch.rand(32, 3, 1, 1) - 1)
        t = torch.randint(0, 1000, (32,))
        eps = torch.randn_like(x0)
        loss = torch.nn.functional.mse_loss(model(ddpm.add_noise(x0, eps, t), t).sample, eps)
        adam.zero_grad()
        loss.backward()
        adam.step()
        decay.step()
        total += loss.item()
        if step % 200 == 199:
            print(f"training: step {step + 1}, mean loss {total / 200:.3f}")
            total = 0.0
    weights = {k: v.detach().to(torch.float16).contiguous().numpy() for k, v in model.state_dict().items()}
    save_file(weights, HERE / "chain_weights.safetensors")


def chains():
    model = UNet2DModel(**CHAIN_CONFIG).double().eval()
    stored = load_file(HERE / "chain_weights.safetensors")
    model.load_state_dict({k: torch.from_numpy(v.astype(np.float64)) for k, v in stored.items()}, strict=True)
    x_t = draw(CHAIN_SEED, 0, CHAIN_SHAPE, math.sqrt(3))
    noise = lambda i: draw(CHAIN_SEED, 1 + i, CHAIN_SHAPE, math.sqrt(3))
    out = {}

    ddpm = DDPMScheduler(num_train_timesteps=1000)
    ddpm.set_timesteps(1000)
    step = 0
    scheduling_ddpm.randn_tensor = lambda *_, **__: noise(step)
    x = x_t
    for step, t in enumerate(ddpm.timesteps):
        x = ddpm.step(model(x, t).sample, t, x).prev_sample
    out["ddpm_1000"] = x

    for eta in (0, 1):
        ddim = DDIMScheduler(num_train_timesteps=1000)
        ddim.set_timesteps(50)
        x = x_t
        for step, t in enumerate(ddim.timesteps):
            given = noise(step) if eta else None
            x = ddim.step(model(x, t).sample, t, x, eta=float(eta), variance_noise=given).prev_sample
        out[f"ddim_50_eta_{eta}"] = x
    return out


@torch.no_grad()
def make_forwards():
    outputs = {}
    for index, c in enumerate(CASES):
        y, parameters = forward(index, c)
        assert torch.isfinite(y).all(), c["name"]
        c["parameters"] = parameters
        # Contiguous, because save_file writes an array's memory as it lies, whatever its strides.
        outputs[c["name"]] = y.float().contiguous().numpy()
        print(f"{c['name']}: {tuple(y.shape)}, std {y.std():.3f}, {parameters} parameters")
    save_file(outputs, HERE / "unet.safetensors")
    text = {"cases": CASES, "chain": {"shape": CHAIN_SHAPE, "config": CHAIN_CONFIG}}
    (HERE / "unet.json").write_text(json.dumps(text, indent=1) + "\n")


@torch.no_grad()
def make_chains():
    finals = chains()
    for name, x in finals.items():
        print(f"{name}: std {x.std():.3f}, extremes {x.min():.3f} {x.max():.3f}")
    save_file({k: v.float().contiguous().numpy() for k, v in finals.items()}, HERE / "chains.safetensors")


if __name__ == "__main__":
    # Parts can be named: `make_unet.py chains`.
    parts = sys.argv[1:] or ["forwards", "weights", "chains"]
    for part in parts:
        {"forwards": make_forwards, "weights": train, "chains": make_chains}[part]()
