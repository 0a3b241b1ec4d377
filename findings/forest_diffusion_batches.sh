#!/usr/bin/env bash
# ForestDiffusion with n_batch above 1 trains on the first of the batches only: of data in two clusters, one after the
# other, it generates one.
#
# n_batch is to give XGBoost the data piece by piece, to save memory. The sizes of the pieces, say 300 and 300, are
# handed to numpy.split, which takes the places to cut at. So the pieces are rows 0 to 300, none, and the rest; the
# first n_batch of them are used, and the rest is not among them. With n_batch = 1, the default, the cut is at the end.
# Nothing is said, and the fewer rows are also what makes it quicker.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 pandas==3.1.1 scikit-learn==1.9.1 xgboost-cpu==3.2.0 lightgbm==4.7.0 catboost==1.2.10
# Without its requirements: xgboost-cpu is xgboost without the parts for a GPU.
"$dir/venv/bin/pip" install -q --no-deps ForestDiffusion==1.0.6
cat > "$dir/run.py" <<'PY'
import warnings

warnings.filterwarnings("ignore")
from importlib.metadata import version

import numpy as np
from ForestDiffusion import ForestDiffusionModel

print("ForestDiffusion", version("ForestDiffusion"), "numpy", np.__version__, "xgboost", version("xgboost-cpu"))
print("numpy.split of 600 rows at [300, 300]:", [len(piece) for piece in np.split(np.zeros(600), [300, 300])])
rng = np.random.default_rng(0)
rows = np.concatenate((rng.normal(-1, 0.1, (300, 2)), rng.normal(1, 0.1, (300, 2))))
for kind in ("flow", "vp"):
    out = {}
    for batches in (1, 2, 3):
        model = ForestDiffusionModel(
            rows, n_t=10, duplicate_K=5, n_batch=batches, n_jobs=1, n_estimators=10, max_depth=4, diffusion_type=kind, seed=1
        )
        np.random.seed(0)
        out[batches] = float((model.generate(1000)[:, 0] > 0).mean())
        print(f"{kind}, n_batch {batches}: {100 * out[batches]:.0f} % of the samples are of the second cluster (should be 50 %)")
    assert 0.3 < out[1] < 0.7
    assert out[2] < 0.05 and out[3] < 0.05, "all batches are trained on now"
print("only the first batch has rows that count")
PY
OMP_NUM_THREADS=1 "$dir/venv/bin/python" "$dir/run.py"
