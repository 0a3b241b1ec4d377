"""Turns an old pickled checkpoint (diffusion_pytorch_model.bin) into safetensors, which undiffuse reads.

    pip install torch safetensors
    python convert_bin.py model/unet/diffusion_pytorch_model.bin
    python convert_bin.py weights.ckpt --key state_dict --output weights.safetensors

The pickle is opened with weights_only=True: PyTorch then builds tensors and plain containers and runs no code of the file. Names,
shapes and dtypes are kept; tensors that share memory are written out one by one. The result stands beside the input unless
`--output` says otherwise, and replaces nothing unless `--force` is given.
"""

import argparse
import pathlib
import sys

import torch
from safetensors.torch import save_file


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("bin", type=pathlib.Path)
    p.add_argument("--output", type=pathlib.Path)
    p.add_argument("--key", help="the entry that holds the weights, where the file is a larger checkpoint")
    p.add_argument("--force", action="store_true", help="replace an existing output")
    a = p.parse_args()
    output = a.output or a.bin.with_suffix(".safetensors")
    if output.exists() and not a.force:
        return f"{output} exists: give --force to replace it"
    state = torch.load(a.bin, map_location="cpu", weights_only=True)
    if a.key is not None:
        if not isinstance(state, dict) or a.key not in state:
            return f"{a.bin} has no entry {a.key}: found {', '.join(map(str, list(state)[:10]))}"
        state = state[a.key]
    other = [str(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if other:
        return f"{a.bin} is no plain state dict: {', '.join(other[:10])} hold no tensor; choose the weights with --key"
    save_file({name: value.contiguous().clone() for name, value in state.items()}, output, metadata={"format": "pt"})
    print(f"{output}: {len(state)} tensors, {sum(v.numel() for v in state.values()):,} values")
    return 0


if __name__ == "__main__":
    sys.exit(main())
