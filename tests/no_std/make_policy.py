"""A small ConditionalUnet1D for the boards: policy.safetensors, a packed file with weights in f16.

Made with torch 2.15.0, safetensors 0.8.0 and numpy 2.4.6: `python tests/no_std/make_policy.py`. The network is that of Diffusion Policy, as
tests/golden/references.py has it; its names, sorted, give each tensor its stream of tests/golden/pcg.py: matrices and filters are uniform in
[-a, a], a = sqrt(3 / fan_in), factors of norms 1 + uniform(0.3), the rest uniform(0.2).
"""

import json
import math
import pathlib
import sys

import numpy as np
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "golden"))

import pcg
import references

SEED = 23
CONFIG = {"input_dim": 2, "global_cond_dim": 4, "diffusion_step_embed_dim": 16, "down_dims": [8, 16], "kernel_size": 3, "n_groups": 4,
          "cond_predict_scale": True, "horizon": 8}
SCHEDULER = {"_class_name": "DDIMScheduler", "num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2"}


def main():
    weights = {}
    for stream, (name, tensor) in enumerate(sorted(references.policy(CONFIG).state_dict().items())):
        n = tensor.numel()
        if tensor.ndim > 1:
            values = pcg.uniform(SEED, stream, n, math.sqrt(3 / (n // tensor.shape[0])))
        elif name.endswith("block.1.weight"):
            values = np.float32(1) + pcg.uniform(SEED, stream, n, 0.3)
        else:
            values = pcg.uniform(SEED, stream, n, 0.2)
        weights[name] = np.asarray(values, dtype=np.float16).reshape(tensor.shape)
    metadata = {"undiffuse.format": "1", "undiffuse.model": json.dumps({"_class_name": "ConditionalUnet1D", **CONFIG}),
                "undiffuse.scheduler": json.dumps(SCHEDULER)}
    save_file(weights, HERE / "policy.safetensors", metadata)
    print(sum(w.size for w in weights.values()), "parameters")


if __name__ == "__main__":
    main()
