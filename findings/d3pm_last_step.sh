#!/usr/bin/env bash
# d3pm's samplers return the noise of their last step: with the default settings 0.63 of a sequence is random tokens.
#
# A step draws all tokens, accepts those whose entropies together are below entropy_bound (0.1), and puts uniformly
# random ones in the place of the others, for the next step to mend. The last step does so too, whatever noise is left
# by the process at that point, which is none. Where tokens are uncertain a step accepts one more of them than before,
# so the 64 steps of the default leave most of the 256 tokens of the default as noise. Nothing tells which.
#
# Independent tokens, of 256 only 0 and 1 ever appear, with probabilities 0.9 and 0.1. A network that knows this and
# infers the level of the noise from the other tokens that it sees.
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
from d3pm import BlockSampler, DiffusionConfig, DiffusionProcess, Sampler, SamplerConfig

print("d3pm", version("d3pm"), "mlx", version("mlx"))
VOCABULARY = 256
PRIOR = mx.array([0.9, 0.1] + [0.0] * (VOCABULARY - 2))


class Network:
    def __init__(self, length):
        self.config = SimpleNamespace(d_model=1, block_size=length)

    def __call__(self, tokens, sc):
        noise = mx.minimum((tokens > 1).mean() * VOCABULARY / (VOCABULARY - 2), 1.0)
        seen = mx.arange(VOCABULARY) == tokens[..., None]
        likelihood = noise / VOCABULARY + (1 - noise) * seen
        return SimpleNamespace(logits=mx.log(PRIOR * likelihood + 1e-30))

    def decode(self, tokens, sc=None, **rest):
        return self(tokens, sc), ()

    def encode_logits(self, logits):
        return mx.zeros((*logits.shape[:-1], 1))


process = DiffusionProcess(DiffusionConfig(vocab_size=VOCABULARY))
default = SamplerConfig()
print(f"by default {default.num_steps} steps, {default.seq_len} tokens, entropy_bound {default.entropy_bound}")
for name, Class in (("Sampler", Sampler), ("BlockSampler", BlockSampler)):
    for steps in (16, 64, 256):
        sampler = Class(Network(default.seq_len), process, SamplerConfig(num_steps=steps))
        tokens = sampler.generate(mx.random.key(0))
        share = float((tokens > 1).mean())
        print(f"{name}, {steps} steps: {share:.2f} of the tokens appear in no data")
        if steps < 256:
            assert share > 0.5, "the last step leaves no noise now"
        else:
            assert share == 0
print("the last step adds noise as all others do")
PY
"$dir/venv/bin/python" "$dir/run.py"
