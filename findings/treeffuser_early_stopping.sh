#!/usr/bin/env bash
# treeffuser's early stopping watches rows that are trained on: the split is made, and then all rows are trained on.
#
# early_stopping_rounds is to end the growing of trees when the validation set, eval_percent of the rows, gains no more.
# The training set is then built from all rows again, each repeated n_repeats times with other noise, so the rows of the
# validation set are among them, by default 30 times. What the trees remember of these rows is a gain there, and they
# go on where a held-out set says stop.
#
# Here y is noise that does not depend on x, so there is nothing to learn from x but the rows themselves. The rows that
# LightGBM is given, and the numbers of trees, as it is and with the same function trained on the other rows only.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q numpy==2.4.6 pandas==3.1.1 scikit-learn==1.9.1 lightgbm==4.7.0 jaxtyping==0.3.11 einops==0.8.2 tqdm==4.70.1
# Without its requirements, which ask for a NumPy below 2.
"$dir/venv/bin/pip" install -q --no-deps treeffuser==0.2.0
cat > "$dir/run.py" <<'PY'
import warnings

warnings.filterwarnings("ignore")
from importlib.metadata import version

import lightgbm, numpy as np
from treeffuser import Treeffuser

print("treeffuser", version("treeffuser"), "lightgbm", lightgbm.__version__, "numpy", np.__version__)
ROWS = 300
Regressor = lightgbm.LGBMRegressor
seen = {}


class Watched(Regressor):
    """Looks at the rows, known by their x, and keeps those of the validation set out of the training set if told to."""

    apart = False

    def fit(self, X, y, eval_set, **kwargs):
        inside = np.isin(X[:, 1], eval_set[0][:, 1])
        seen["rows"] = len(np.unique(eval_set[0][:, 1])), len(np.unique(X[inside, 1])), len(X)
        if self.apart:
            X, y = X[~inside], y[~inside]
        return super().fit(X, y, eval_set=eval_set, **kwargs)


rng = np.random.default_rng(0)
x, y = rng.uniform(size=(ROWS, 1)), rng.normal(size=(ROWS, 1))
lightgbm.LGBMRegressor = Watched
out = {}
for apart in (False, True):
    Watched.apart = apart
    model = Treeffuser(n_repeats=30, n_estimators=1000, early_stopping_rounds=50, seed=0, n_jobs=1)
    model.fit(x, y)
    validation, inside, rows = seen["rows"]
    trees = model.score_model.n_estimators_true[0]
    out[apart] = trees
    if not apart:
        print(f"{validation} of {ROWS} rows are for validation; {inside} of them are among the {rows} rows of the training set (should be 0)")
        assert inside == validation, "the rows of the validation set are held out now"
    print(f"trees {'with these rows left out of the training set' if apart else 'as it is'}: {trees}")
assert out[False] > 1.5 * out[True], "the trees stop where they should now"
print("the rows of the validation set are trained on")
PY
OMP_NUM_THREADS=1 "$dir/venv/bin/python" "$dir/run.py"
