#!/usr/bin/env bash
# d3pm's guidance_scale 0, documented as "unconditional", is full guidance by the class; 0.01 is nearly none.
#
# BlockSampler guides by u + s (c - u), c and u being the logits with the class and with the null class (Schiff et al.
# 2024). So s = 0 is unconditional, as the docs say, and s = 1 is the network as it was trained. But where s is not
# above 0 the network is asked once, with the class, which is s = 1. Between 0 and the smallest number above it the
# samples jump from the class's distribution to that of all classes.
#
# Two classes; one has token 0 with probability 0.9, the other with 0.1. Without a class it is 0.5. A network that knows
# these, temperature 1.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q d3pm==0.0.1 mlx==0.32.4 mlx-cpu==0.32.4
cat > "$dir/run.py" <<'PY'
from importlib.metadata import version
from types import SimpleNamespace

import mlx.core as mx
from d3pm import BlockSampler, DiffusionConfig, DiffusionProcess, SamplerConfig

print("d3pm", version("d3pm"), "mlx", version("mlx"))
LENGTH = 10000


class Network:
    config = SimpleNamespace(d_model=1, block_size=LENGTH)
    cond_vocab = 2  # the null class
    first = [0.9, 0.1, 0.5]  # the probability of token 0

    def decode(self, tokens, sc=None, cond=None, **rest):
        p = self.first[2 if cond is None else int(cond[0])]
        logits = mx.broadcast_to(mx.log(mx.array([p, 1 - p])), (*tokens.shape, 2))
        return SimpleNamespace(logits=logits), ()

    def encode_logits(self, logits):
        return mx.zeros((*logits.shape[:-1], 1))


def share(scale):
    # One step that accepts all tokens.
    config = SamplerConfig(
        num_steps=1, max_temperature=1.0, min_temperature=1.0, entropy_bound=1e9, guidance_scale=scale
    )
    sampler = BlockSampler(Network(), DiffusionProcess(DiffusionConfig(vocab_size=2)), config)
    tokens = sampler.generate(mx.random.key(0), cond=mx.array([0]))
    return float((tokens == 0).astype(mx.float32).mean())


found = {}
for scale in (0.0, 0.01, 0.5, 1.0, 2.0):
    odds = 9.0**scale
    found[scale] = share(scale)
    print(f"guidance_scale {scale}: token 0 in {found[scale]:.2f} of the places (should be {odds / (1 + odds):.2f})")
    if scale > 0:
        assert abs(found[scale] - odds / (1 + odds)) < 0.02
assert abs(found[0.0] - 0.9) < 0.02, "guidance_scale 0 is unconditional now"
print("0 is the same as 1")
PY
"$dir/venv/bin/python" "$dir/run.py"
