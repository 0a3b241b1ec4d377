"""Trains a UNet as the reverse of a chain of 2015 on CIFAR-10, with PyTorch in bf16, and saves it as a pipeline directory
that undiffuse reads.

    pip install torch==2.15.0 diffusers==0.42.1 safetensors numpy      # and prepare_cifar10.py before
    python train_cifar10.py --chain cifar10.json --data cifar10_train.npy --out cifar10_unet --hold 6000 --cool 1800

The chain is the scheduler of a configuration of `undiffuse train`, the loss its bound: KL(q(x_(t-1) | x_t, x_0) || p) summed
over all steps but the first, with mean and variance of p read from two outputs as the authors' code does (readout "code").
The learning rate rises for 100 steps, stays, and falls linearly to nothing over the last --cool steps; steps are counted and
never the clock, so a slowed process trains the same.

What is fine in a picture has a thousandth of the variance of what is coarse, and most of the bound is in what is fine. So
the first layer begins as the principal components of patches of 3 x 3 pixels, each divided by its deviation; --drawn leaves
it as PyTorch draws it.
"""
import argparse
import json
import math
import pathlib
import time

import numpy as np
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file, save_file
from torch import nn

NETWORK = dict(
    sample_size=32, in_channels=3, out_channels=6, layers_per_block=1, norm_num_groups=8, add_attention=False,
    down_block_types=("DownBlock2D",) * 3, up_block_types=("UpBlock2D",) * 3,
)
# z_mu is sqrt(beta / (1 - abar)) of a number of the size of noise, which has this value at all steps of the chain.
SCALE_OF_MEAN = 0.1145


class InF32(nn.Module):
    """A convolution in f32 between layers in bf16: the noise of the first steps is not much above what bf16 rounds off."""

    def __init__(self, conv, out):
        super().__init__()
        self.conv, self.out = conv, out

    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return self.conv(x.float()).to(self.out)


def below(betas, first):
    """The betas of a chain from 1 - abar = first to where another one begins, in ratios as that one's next."""
    odds = lambda v: math.log(v / (1 - v))
    ratio = odds(1 - (1 - betas[0]) * (1 - betas[1])) - odds(betas[0])
    count = round((odds(betas[0]) - odds(first)) / ratio) + 1
    abar = 1 / (1 + np.exp(np.linspace(odds(first), odds(betas[0]), count)))
    return [first, *(1 - abar[1:] / abar[:-1]).tolist()]


class Bound:
    def __init__(self, betas):
        before = np.cumprod(np.concatenate([[1.0], 1 - betas]))[:-1]
        after = before * (1 - betas)
        v = 1 - after
        p, q, variance = np.sqrt(before) * betas / v, np.sqrt(1 - betas) * (1 - before) / v, (1 - before) * betas / v
        of_x = np.sqrt(1 - betas) - q
        rows = [np.sqrt(after), np.sqrt(v), p, of_x, np.maximum(variance, 1e-30), betas]
        self.rows = torch.tensor(np.stack(rows), dtype=torch.float32)
        self.steps = len(betas)
        entropy = lambda v: 0.5 * math.log(2 * math.pi * math.e * v)
        self.ends = entropy(betas[0]) - entropy(v[-1]) + entropy(1.0)

    def nats(self, net, x0, t):
        """-K of each sample per value, estimated from its step t."""
        alpha, sigma, p, of_x, variance, beta = (row[:, None, None, None] for row in self.rows[:, t])
        x = (alpha * x0 + sigma * torch.randn_like(x0)).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = net(x, t).sample.float()
        odds = beta / (1 - beta) * torch.exp(z[:, 3:] / math.sqrt(self.steps))
        spread = odds / (1 + odds)
        off = of_x * x - p * x0 + beta.sqrt() * SCALE_OF_MEAN * z[:, :3]
        ratio = variance / spread
        kl = 0.5 * (ratio - 1 - torch.log(ratio) + off * off / spread)
        return kl.mean((1, 2, 3)) * (self.steps - 1) + self.ends


def principal_filters(x, count):
    """The whitening filters of 3 x 3 patches, the finest first, with both signs if there is room; then sums of two."""
    patches = nn.functional.unfold(x, 3).transpose(1, 2).reshape(-1, 27)[::7].double()
    variances, vectors = torch.linalg.eigh(patches.T @ patches / len(patches) + 0.0025 * torch.eye(27))
    filters = (vectors / variances.sqrt()).T.float().reshape(27, 3, 3, 3)
    if count >= 54:
        filters = torch.stack([filters, -filters], 1).reshape(-1, 3, 3, 3)
    first = filters[:count]
    some = lambda: filters[torch.randint(0, len(filters), (count - len(first),))]
    return torch.cat([first, 0.7 * (some() + some())])


def save(out, network, names, weights, chain, mean, deviation):
    scheduler = dict(chain, sample_scale=127.5 / deviation, sample_shift=(127.5 - mean) / deviation)
    names = [n.replace(".conv.", ".") if n.startswith(("conv_in", "conv_out")) else n for n in names]
    tensors = {n: w.clone().contiguous() for n, w in zip(names, weights)}
    for end in ("weight", "bias"):
        tensors[f"conv_out.{end}"][:3] *= SCALE_OF_MEAN
    for folder in ("unet", "scheduler"):
        pathlib.Path(out, folder).mkdir(parents=True, exist_ok=True)
    parts = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}
    pathlib.Path(out, "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline", **parts}))
    pathlib.Path(out, "unet", "config.json").write_text(json.dumps({"_class_name": "UNet2DModel", **network}))
    pathlib.Path(out, "scheduler", "scheduler_config.json").write_text(json.dumps(scheduler))
    save_file(tensors, pathlib.Path(out, "unet", "diffusion_pytorch_model.safetensors"))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--chain", default="cifar10.json")
    p.add_argument("--below", type=float, help="the chain that ends where that one begins; its own first beta")
    p.add_argument("--data", default="cifar10_train.npy")
    p.add_argument("--out", default="cifar10_unet")
    p.add_argument("--init", help="the directory of a training before, whose network goes on")
    p.add_argument("--channels", type=int, nargs=3, default=[32, 64, 64])
    p.add_argument("--drawn", action="store_true")
    p.add_argument("--hold", type=int, default=6000)
    p.add_argument("--cool", type=int, default=1800)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--ema", type=float, default=0.999)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--every", type=int, default=25)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    draw = np.random.default_rng(1)
    chain = json.loads(pathlib.Path(a.chain).read_text())["scheduler"]
    if a.below:
        chain["trained_betas"] = below(chain["trained_betas"], a.below)
        chain["num_train_timesteps"] = len(chain["trained_betas"])
    bound = Bound(np.array(chain["trained_betas"], np.float64))
    data = torch.from_numpy(np.load(a.data))
    levels = np.bincount(data.numpy().reshape(-1), minlength=256) / data.numel()
    mean = float(levels @ np.arange(256))
    deviation = math.sqrt(levels @ (np.arange(256) - mean) ** 2)

    network = dict(NETWORK, block_out_channels=a.channels)
    net = UNet2DModel(**network)
    with torch.no_grad():
        if a.init:
            before = load_file(pathlib.Path(a.init, "unet", "diffusion_pytorch_model.safetensors"))
            for end in ("weight", "bias"):
                before[f"conv_out.{end}"][:3] /= SCALE_OF_MEAN
            net.load_state_dict(before)
        else:
            net.conv_out.weight.mul_(0.1)
            net.conv_out.bias.zero_()
            if not a.drawn:
                net.conv_in.bias.zero_()
                net.conv_in.weight.copy_(principal_filters((data[:2000].float() - mean) / deviation, a.channels[0]))
    net.conv_in, net.conv_out = InF32(net.conv_in, torch.bfloat16), InF32(net.conv_out, torch.float32)
    net = net.to(memory_format=torch.channels_last)
    names, weights = zip(*net.named_parameters())
    average = [w.detach().clone() for w in weights]
    adam = torch.optim.Adam(weights, lr=a.lr, betas=(0.9, 0.99))

    start, seen, last = time.process_time(), [], a.hold + a.cool
    for step in range(last):
        adam.param_groups[0]["lr"] = a.lr * min(1.0, (step + 1) / 100, (last - step) / max(1, a.cool))
        x0 = data[torch.from_numpy(draw.integers(0, len(data), a.batch))].float()
        x0 = torch.where(torch.rand(a.batch)[:, None, None, None] < 0.5, x0.flip(3), x0)
        x0 = (x0 + torch.rand_like(x0) - 0.5 - mean) / deviation
        # Steps t spread evenly over all but the first, one in each of the batch's parts.
        place = (torch.arange(a.batch) + torch.rand(a.batch)) / a.batch
        t = (1 + (place * (bound.steps - 1)).long()).clamp(max=bound.steps - 1)
        bits = bound.nats(net, x0, t).mean() / math.log(2)
        adam.zero_grad()
        bits.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        adam.step()
        keep = min(a.ema, (2 + step) / (11 + step))
        torch._foreach_mul_(average, keep)
        torch._foreach_add_(average, weights, alpha=1 - keep)
        seen.append(-bits.item())
        if (step + 1) % a.every == 0:
            seconds = time.process_time() - start
            pictures = (step + 1) * a.batch
            print(f"step {step + 1}, {pictures} pictures, {seconds:.0f} s: K {np.mean(seen):.4f} a value", flush=True)
            seen = []
        if (step + 1) % 250 == 0 or step + 1 == last:
            save(a.out, network, names, average, chain, mean, deviation)


if __name__ == "__main__":
    main()
