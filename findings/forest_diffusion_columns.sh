#!/usr/bin/env bash
# ForestDiffusion with more than ten columns takes the categories of one column for those of another: it never
# generates category 0 in column 1 beside anything but 0 in column 11.
#
# A column of categories becomes one of zeros and ones for each category but the first, named by the number of the
# column, "1_2" and so on. On the way back those of column 1 are found as the names that have "1_" anywhere in them,
# which "11_2" has too. So the category is chosen among those of both columns, and where column 1 has its first one
# (all zeros) that of column 11 counts, beyond the end, and is clipped to the last. 2 and 12, 0 and 10 and so on are
# mixed up in the same way. The same table with ten columns is right.
#
# A table whose columns are independent; the way back is applied to the training rows themselves, and to new ones.
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
ROWS = 600
rng = np.random.default_rng(0)
out = {}
for other in (9, 11):
    table = rng.normal(size=(ROWS, other + 1))
    table[:, [1, other]] = rng.integers(0, 3, (ROWS, 2))
    model = ForestDiffusionModel(
        table, cat_indexes=[1, other], n_t=5, duplicate_K=2, n_batch=0, n_estimators=10, max_depth=3, n_jobs=1, seed=1
    )
    back = model.clip_extremes(model.clean_onehot_data(model.unscale(model.X1.copy())))
    wrong = float((back[:, 1] != table[:, 1]).mean())
    np.random.seed(0)
    new = model.generate(3000)
    share = [float((t[t[:, other] > 0][:, 1] == 0).mean()) for t in (table, new)]
    out[other] = wrong, share[1]
    print(
        f"{other + 1} columns, categories in 1 and {other}: {100 * wrong:.0f} % of the training rows come back with another"
        f" category in column 1; beside a category above 0 in column {other} it is 0 in {100 * share[0]:.0f} % of the training"
        f" rows and {100 * share[1]:.0f} % of the generated ones"
    )
assert out[9][0] == 0 and out[9][1] > 0.1
assert out[11][0] > 0.15 and out[11][1] == 0, "the columns are kept apart now"
print("column 1 is read from column 11 too")
PY
OMP_NUM_THREADS=1 "$dir/venv/bin/python" "$dir/run.py"
