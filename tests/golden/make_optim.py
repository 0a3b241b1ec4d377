"""PyTorch's optimisers on fixed gradients, for src/training/optim/tests.rs.

Made with torch 2.15.0, safetensors 0.8.0 and numpy 2.4.6; nothing is downloaded. Run by hand:

    python tests/golden/make_optim.py

16 parameters start at uniform(51, 0, 1). At step k = 0 .. 49 the gradient is uniform(52, k, 1) scaled by (1e-3, 1, 30) for
parameters 0-4, 5-10 and 11-15, plus the parameter itself, so that it depends on the path. The learning rate is 1e-2, and 3e-3
from step 25 on. For each optimiser, in float64, it writes the parameters after steps 1, 10 and 50 to optim.safetensors.
"""

import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file

import pcg

HERE = pathlib.Path(__file__).parent
SCALE = np.repeat([1e-3, 1.0, 30.0], [5, 6, 5])

MAKE = {
    "adam": lambda p: torch.optim.Adam([p]),
    "adam_coupled": lambda p: torch.optim.Adam([p], betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW([p]),
    "adamw_strong": lambda p: torch.optim.AdamW([p], betas=(0.5, 0.9), weight_decay=2.0),
    "rmsprop": lambda p: torch.optim.RMSprop([p], alpha=0.9, eps=1e-8),
}


def main():
    out = {}
    for name, make in MAKE.items():
        p = torch.nn.Parameter(torch.from_numpy(pcg.uniform(51, 0, 16, 1.0).astype(np.float64)))
        optimizer = make(p)
        for k in range(50):
            optimizer.param_groups[0]["lr"] = 1e-2 if k < 25 else 3e-3
            noise = torch.from_numpy(pcg.uniform(52, k, 16, 1.0).astype(np.float64) * SCALE)
            p.grad = noise + p.detach()
            optimizer.step()
            if k + 1 in (1, 10, 50):
                out[f"{name}.{k + 1}"] = p.detach().numpy().astype(np.float32)
    save_file(out, HERE / "optim.safetensors")


if __name__ == "__main__":
    main()
