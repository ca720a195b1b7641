# SPDX-License-Identifier: GPL-3.0-or-later
"""Held-out errors of scikit-learn's forest and boosting on curves.csv: writes
trees_expected.csv. Mean |ln(predicted/measured)| with each model left out.

Usage: python make_trees.py      (numpy, pandas, scikit-learn)
"""

import platform
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor

HERE = Path(__file__).parent
NLL_UNIGRAM = 4.6


def main():
    d = pd.read_csv(HERE / "curves.csv")
    right = d.nll >= NLL_UNIGRAM
    left = ~right & ((d.dnll <= 0) | (d.dnll < 2 * d.dnll_se))
    y = np.log(np.where(right, NLL_UNIGRAM - d.nll_model,
                        np.where(left, 2 * d.dnll_se, d.dnll)))
    x = np.column_stack([d.params, d.params_all, d.params / d.params_all,
                         d.bits, d.bpw, d.group])
    out = []
    for name, make in (
            ("forest-config", lambda s: RandomForestRegressor(
                500, max_features=1 / 3, min_samples_leaf=2, max_depth=8,
                random_state=s)),
            ("boosting", lambda s: GradientBoostingRegressor(
                n_estimators=100, max_depth=3, learning_rate=0.15,
                subsample=0.632, max_features=1 / 3, random_state=s))):
        errors = []
        for seed in range(5):
            e = np.zeros(len(d))
            for model in pd.unique(d.model):
                held = (d.model == model).to_numpy()
                fit = make(seed).fit(x[~held], y[~held])
                e[held] = np.abs(fit.predict(x[held]) - np.log(np.maximum(
                    d.dnll[held], 1e-12)))
            errors.append(e[~(left | right)].mean())
        out.append((name, np.mean(errors), np.std(errors)))
    with open(HERE / "trees_expected.csv", "w") as f:
        f.write(f"# make_trees.py: Python {platform.python_version()}, "
                f"scikit-learn {sklearn.__version__}; sd over five seeds\n")
        f.write("fit,error,sd\n")
        for name, error, sd in out:
            f.write(f"{name},{error:.6g},{sd:.3g}\n")


main()
