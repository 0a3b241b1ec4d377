"""Times a training step of PyTorch eager beside ours: the authors' MNIST network, forward, backward and Adam, taking turns.

Written for torch 2.15.0. Run from the repository's root:

    cargo bench --features training --bench train_step --no-run
    python benches/training.py [--batch N] [--threads N] [--rounds N]

PyTorch runs in this process, in its faster layout of two; our side is the bench's program as a child that makes one step for each line
it reads. The two never run at the same time. Both are f32 with as many threads, on random images, with one step t for each image. A figure is the best or the
median of all rounds, so that a busy machine moves both sides alike. Ours draws its noise from keyed streams; PyTorch from its generator.
"""

import argparse
import math
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

from common.child import Child, newest

T, SCALES, BUMPS = 1000, 3, 10


def bumps():
    """The temporal basis, [T, BUMPS]."""
    x, c = torch.linspace(-1, 1, T), torch.linspace(-1, 1, BUMPS)
    return torch.softmax(-((x[:, None] - c) ** 2) / (2 / 81), 1)


class Multiscale(nn.Module):
    """Multi-scale convolutions with untied biases, a dense path, the same small network at every pixel, bumps over time."""

    def __init__(self):
        super().__init__()
        channels = [1, 20, 20, 20, 20]
        pairs = list(zip(channels, channels[1:]))
        self.convs = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(i, o, 3, padding=1, bias=False) for _ in range(SCALES)) for i, o in pairs
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(o, 28 >> s, 28 >> s)) for _, o in pairs for s in range(SCALES)
        )
        sizes = [784, 500, 500, 500, 2 * 784]
        self.dense = nn.ModuleList(nn.Linear(i, o) for i, o in zip(sizes, sizes[1:]))
        self.upper = nn.ModuleList([nn.Conv2d(22, 20, 1), nn.Conv2d(20, 2 * BUMPS, 1)])
        self.register_buffer("basis", bumps())

    def forward(self, image, t):
        x = image
        for layer, convs in enumerate(self.convs):
            means = [x]
            for _ in range(1, SCALES):
                means.append(F.avg_pool2d(means[-1], 2))
            total = None
            for s in reversed(range(SCALES)):
                y = F.leaky_relu(convs[s](means[s]) + self.biases[layer * SCALES + s], 0.05)
                total = y if total is None else y + F.interpolate(total, scale_factor=2)
            x = total / SCALES
        h = image.flatten(1)
        for linear in self.dense:
            h = F.leaky_relu(linear(h), 0.05)
        h = h.view(-1, 2, 28, 28)
        x = torch.cat([x / math.sqrt(20), h / math.sqrt(2)], 1)
        x = F.leaky_relu(self.upper[0](x), 0.05)
        x = self.upper[1](x).unflatten(1, (2, BUMPS))
        return torch.einsum("nzjhw,nj->nzhw", x, self.basis[t])


class Torch:
    """The bound of the Gaussian chain and Adam, in one memory layout."""

    def __init__(self, batch, layout):
        torch.manual_seed(0)
        self.batch, self.layout = batch, layout
        self.model = Multiscale().to(memory_format=layout)
        self.adam = torch.optim.Adam(self.model.parameters(), 1e-3)
        beta = 1 / torch.linspace(T, 2, T)
        beta[0] = 2e-3
        abar = torch.cumprod(1 - beta, 0)
        before = torch.cat([torch.ones(1), abar[:-1]])
        v = 1 - abar
        self.of_x0, self.of_x = before.sqrt() * beta / v, (1 - beta).sqrt() * (1 - before) / v
        self.beta, self.abar, self.variance = beta, abar, (1 - before) * beta / v
        self.x0 = torch.randn(batch, 1, 28, 28).to(memory_format=layout)

    def call(self):
        """Milliseconds of one step."""
        start = time.perf_counter()
        t = torch.randint(1, T, (self.batch,))
        at = lambda table: table[t].view(-1, 1, 1, 1)
        abar, beta, variance = at(self.abar), at(self.beta), at(self.variance)
        x = abar.sqrt() * self.x0 + (1 - abar).sqrt() * torch.randn_like(self.x0)
        z = self.model(x, t)
        mean = x * (1 - beta).sqrt() + z[:, :1] * beta.sqrt()
        sigma = torch.sigmoid(z[:, 1:] / math.sqrt(T) + torch.logit(beta))
        d = mean - (at(self.of_x0) * self.x0 + at(self.of_x) * x)
        kl = 0.5 * ((variance + d * d) / sigma - 1 - torch.log(variance / sigma))
        loss = kl.sum() * (T - 1) / (self.batch * 784 * math.log(2))
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return (time.perf_counter() - start) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = newest("train_step", "cargo bench --features training --bench train_step --no-run")
    ours = Child(path, "batch", args.batch, "threads", args.threads)
    sides = [ours] + [Torch(args.batch, layout) for layout in (torch.contiguous_format, torch.channels_last)]
    times = [[] for _ in sides]
    for side in sides:
        side.call()
    for _ in range(args.rounds):
        for side, t in zip(sides, times):
            # Time for the other side's threads, which may spin a while, to fall asleep.
            time.sleep(0.05)
            t.append(side.call())
    ours.close()
    print(f"torch {torch.__version__}, batch {args.batch}, {args.threads} threads, {args.rounds} rounds; milliseconds a step")
    print(f"{'':8}{'ours':>10}{'torch':>10}{'channels_last':>15}{'torch / ours':>14}")
    for what, pick in (("best", min), ("median", statistics.median)):
        a, b, c = map(pick, times)
        print(f"{what:8}{a:10.1f}{b:10.1f}{c:15.1f}{min(b, c) / a:14.2f}")


if __name__ == "__main__":
    main()
