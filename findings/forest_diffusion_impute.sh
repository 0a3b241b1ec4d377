#!/usr/bin/env bash
# ForestDiffusion's impute(X=...) overwrites the values that are there: all of them come back as the largest of their
# column.
#
# impute() without X fills the gaps of the training data. X is documented as "data with missing values", and predict()
# takes raw rows and scales them. impute() does not: raw rows stand where values from -1 to 1 are expected, and after
# the imputation the scaling is undone on all of them. 50 in a column from 0 to 100 becomes 2550 by that, and is then
# clipped to 100. The imputed values are taken from states that no tree has seen. Rows scaled by the model's own scaler
# beforehand come back as they were.
#
# Two columns from 0 to 100, the second 100 minus the first; a tenth of the second is missing.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 pandas==3.1.1 scikit-learn==1.9.1 xgboost-cpu==3.2.0 lightgbm==4.7.0 catboost==1.2.10
# Without its requirements, which ask for the xgboost that comes with CUDA.
"$dir/venv/bin/pip" install -q --no-deps ForestDiffusion==1.0.6
cat > "$dir/run.py" <<'PY'
import warnings

warnings.filterwarnings("ignore")
from importlib.metadata import version

import numpy as np
from ForestDiffusion import ForestDiffusionModel

print("ForestDiffusion", version("ForestDiffusion"), "numpy", np.__version__, "xgboost", version("xgboost-cpu"))
rng = np.random.default_rng(0)


def table(rows):
    first = rng.uniform(0, 100, rows)
    return np.stack((first, 100 - first), axis=1)


train, new = table(300), table(100)
model = ForestDiffusionModel(train, diffusion_type="vp", n_t=20, duplicate_K=10, n_batch=0, n_estimators=20, n_jobs=1, seed=1)
truth = new.copy()
new[:10, 1] = np.nan
seen = ~np.isnan(new)
out = {}
for name, rows in (("raw rows", new), ("rows scaled beforehand", model.scaler.transform(new))):
    np.random.seed(0)
    filled = model.impute(X=rows)
    changed = np.abs(filled - truth)[seen]
    largest = float(np.isclose(filled, model.X_max)[seen].mean())
    error = float(np.abs(filled - truth)[~seen].mean())
    out[name] = changed.max(), largest
    print(
        f"{name}: of {seen.sum()} values that are there {(changed > 1).sum()} are changed, by {changed.max():.1f} at most;"
        f" {100 * largest:.0f} % come back as the largest of their column; imputed values are off by {error:.0f}"
    )
assert out["rows scaled beforehand"][0] < 1
assert out["raw rows"][0] > 50 and out["raw rows"][1] > 0.9, "raw rows are scaled now"
print("impute() does not scale what it is given")
PY
OMP_NUM_THREADS=1 "$dir/venv/bin/python" "$dir/run.py"
