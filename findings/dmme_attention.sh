#!/usr/bin/env bash
# dmme's IDDPM network mixes the images of a batch: what it says of one depends on the others.
#
# MultiHeadAttention lays the heads out as "(b head)", image by image, and takes them back as "(head b)", head by head.
# With more than one image, channels of one come to another: of two images with four heads, the first gets the heads 0
# and 2 of both, the second the heads 1 and 3 of both. In training it is so too for every batch size but 1, and a batch
# of another size, or one image alone, is answered otherwise than the network has learned.
#
# A small network with random weights, in evaluation mode: four images together and one by one, and with one replaced.
# The single-headed network of dmme's DDPM for comparison.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 einops==0.8.2
# Without what its training and its data sets need.
"$dir/venv/bin/pip" install -q --no-deps dmme==0.5.2
cat > "$dir/run.py" <<'PY'
import sys
from importlib.metadata import distribution, version
from types import ModuleType

import torch

# The package without the modules of its training and its data sets.
package = ModuleType("dmme")
package.__path__ = [str(distribution("dmme").locate_file("dmme"))]
sys.modules["dmme"] = package
from dmme.models import ddpm, iddpm

torch.set_num_threads(1)
print("dmme", version("dmme"), "torch", torch.__version__)
out = {}
for kind in (ddpm, iddpm):
    torch.manual_seed(0)
    network = kind.UNet(pos_dim=32, emb_dim=64, channels_per_depth=(32, 64, 64, 64)).eval()
    images, times = torch.randn(4, 3, 16, 16), torch.full((4,), 500)
    other = images.clone()
    other[1] = torch.randn(3, 16, 16)
    with torch.no_grad():
        together = network(images, times)
        alone = torch.cat([network(images[i : i + 1], times[:1]) for i in range(4)])
        replaced = network(other, times)
    size = float(alone.std())
    out[kind] = float((together - alone).abs().max()) / size, float((together - replaced).abs()[[0, 2, 3]].max()) / size
    print(
        f"{kind.__name__}.UNet: together and one by one differ by up to {out[kind][0]:.1g} standard deviations;"
        f" where image 1 is replaced the others change by up to {out[kind][1]:.1g} (both should be 0 but for rounding)"
    )
assert max(out[ddpm]) < 1e-4
assert out[iddpm][0] > 0.1 and out[iddpm][1] > 0.01, "the images of a batch are apart now"
print("the attention of IDDPM mixes the images of a batch")
PY
"$dir/venv/bin/python" "$dir/run.py"
