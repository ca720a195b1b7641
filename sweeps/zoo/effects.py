#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What training does to the loss that quantization adds, from the zoo's runs.

  effects.py STORE

Reads a store of ../study.yaml and compares checkpoints that differ in one
thing alone, at the same number format, method and group; both must have
0.01 < dnll < 1 and not be collapsed. Printed are, of ln(dnll),

  decay   the difference a decay makes, its tokens included: every pair, and
          the mean over runs
  tokens  the slope by ln(tokens) within a run, before and after decay
  seeds   the standard deviation between seeds, at equal size, tokens and
          state of the learning rate

with 95 % intervals that take runs, not points, for the sample. Needs the
packages of ../../analysis/requirements.txt.
"""
import math
import pathlib
import statistics
import sys

import numpy as np
import pandas as pd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]
                       / "analysis"))
import ptqsweep  # noqa: E402

LOW, HIGH = 0.01, 1.0
CONFIGURATION = ["dtype", "method", "options", "group"]
NAME = r"^(?P<size>.+)-s(?P<seed>\d+)-p(?P<passes>\d+)(?P<decayed>-decayed)?$"


def t_quantile(df):
    """97.5 % of Student's t by Fisher's expansion, to 1 % from df = 3 on."""
    z = statistics.NormalDist().inv_cdf(0.975)
    return (z + (z**3 + z) / (4 * df)
            + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3))


def chi2_quantile(p, df):
    """Chi-square, by bisection of the incomplete gamma function's series."""
    a, low, high = df / 2, 0.0, 20.0 * (df + 2)
    for _ in range(60):
        x = (low + high) / 4  # half of the middle
        share, term = 0.0, math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        for n in range(1, 1000):
            share, term = share + term, term * x / (a + n)
        low, high = (2 * x, high) if share < p else (low, 2 * x)
    return (low + high) / 2


def mean_interval(values):
    """(mean, low, high, n); no interval of fewer than four values."""
    v = np.asarray(values, float)
    if len(v) < 4:
        return v.mean() if len(v) else np.nan, np.nan, np.nan, len(v)
    half = t_quantile(len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v))
    return v.mean(), v.mean() - half, v.mean() + half, len(v)


def checkpoints(points):
    """The usable points of runs, with size, seed, passes, state and y."""
    parts = points["model"].str.extract(NAME)
    p = pd.concat([points, parts], axis=1)
    p = p[p["size"].notna() & (p["state"] == "done")
          & p["dnll"].between(LOW, HIGH, inclusive="neither")
          & (p["nll"] < p["model_nll_unigram"])].copy()
    p["passes"] = p["passes"].astype(int)
    p["after"] = p["decayed"].notna()
    p["run"] = p["size"] + "-s" + p["seed"]
    tokens = p["model_covariates"].str.extract(r"train_tokens=([^,]+)")[0]
    p["tokens"] = tokens.astype(float)
    p["y"] = np.log(p["dnll"])
    return p


def decay(p):
    """One row a pair: run, passes, points, mean difference of y."""
    keys = ["run", "passes", *CONFIGURATION]
    both = p[p["after"]].merge(p[~p["after"]], on=keys,
                               suffixes=("", "_before"))
    both["d"] = both["y"] - both["y_before"]
    rows = both.groupby(["run", "passes"])["d"].agg(["size", "mean"])
    return rows.rename(columns={"size": "points", "mean": "effect"})


def tokens(p):
    """One row a (run, state): slope of y by ln(tokens), with a level for each
    configuration that every budget has."""
    rows = {}
    for (run, after), part in p.groupby(["run", "after"]):
        n = part["tokens"].nunique()
        if n < 2:
            continue
        group = part.groupby(CONFIGURATION)
        part = part[group["tokens"].transform("nunique") == n]
        group = part.groupby(CONFIGURATION)
        x = np.log(part["tokens"])
        x = x - x.groupby([part[c] for c in CONFIGURATION]).transform("mean")
        y = part["y"] - group["y"].transform("mean")
        if len(part):
            rows[run, after] = (n, len(part), (x * y).sum() / (x * x).sum())
    return pd.DataFrame.from_dict(
        rows, orient="index", columns=["budgets", "points", "slope"])


def seeds(p):
    """One row a (size, passes, state): seeds, and the root mean square over
    configurations of the standard deviation between seeds."""
    rows = {}
    for cell, part in p.groupby(["size", "passes", "after"]):
        n = part["seed"].nunique()
        if n < 2:
            continue
        y = part.pivot_table(index=CONFIGURATION, columns="seed", values="y",
                             observed=True).dropna()
        rows[cell] = (n, len(y), np.sqrt(y.var(axis=1, ddof=1).mean()),
                      y.mean().std(ddof=1))
    return pd.DataFrame.from_dict(
        rows, orient="index", columns=["seeds", "points", "sd", "sd_of_mean"])


def pooled(sd, df):
    """(sd, low, high): root mean square of sd, and its interval."""
    rms = float(np.sqrt(np.mean(np.square(sd))))
    return (rms, rms * np.sqrt(df / chi2_quantile(0.975, df)),
            rms * np.sqrt(df / chi2_quantile(0.025, df)))


def interval(values):
    """Text: the mean and its interval, or that there is none."""
    mean, low, high, n = mean_interval(values)
    if n < 4:
        return f"{n} runs: {mean:.3f} (no interval of fewer than four)"
    return f"{n} runs: {mean:.3f} ({low:.3f} to {high:.3f})"


def report(points):
    """The text that is printed."""
    p = checkpoints(points)
    lines = ["decay: mean of ln(dnll after / dnll before)"]
    pairs = decay(p)
    for (run, passes), row in pairs.iterrows():
        lines.append(f"  {run:16} p{passes:02d} {row.effect:8.3f}  "
                     f"{int(row.points)} points")
    by_run = pairs["effect"].groupby("run").mean()
    lines.append(f"  {interval(by_run)}")
    lines.append("tokens: slope of ln(dnll) by ln(tokens)")
    slopes = tokens(p)
    for (run, after), row in slopes.iterrows():
        state = "decayed" if after else "constant"
        lines.append(f"  {run:16} {state:8} {row.slope:8.3f}  "
                     f"{int(row.budgets)} budgets, {int(row.points)} points")
    for after in (False, True):
        part = [row.slope for key, row in slopes.iterrows()
                if key[1] == after]
        state = "decayed" if after else "constant"
        lines.append(f"  {state}, {interval(part)}")
    lines.append("seeds: standard deviation of ln(dnll) between them")
    cells = seeds(p)
    for (size, passes, after), row in cells.iterrows():
        state = "decayed" if after else "constant"
        lines.append(f"  {size:16} p{passes:02d} {state:8} {row.sd:6.3f}, of "
                     f"the mean over configurations {row.sd_of_mean:.3f}  "
                     f"{int(row.seeds)} seeds, {int(row.points)} points")
    if len(cells):
        sizes = [cell[0] for cell in cells.index]
        most = cells["seeds"].groupby(sizes).max()
        df = int(most.sum() - len(most))
        sd, low, high = pooled(cells["sd"], df)
        lines.append(f"  all: {sd:.3f} ({low:.3f} to {high:.3f}), "
                     f"{df} degrees of freedom")
    return "\n".join(lines)


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) != 1 or argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if argv in (["-h"], ["--help"]) else 2
    try:
        points = ptqsweep.read(argv[0]).points
    except OSError as error:
        print(f"effects.py: '{argv[0]}': {error}", file=sys.stderr)
        return 1
    print(report(points))
    return 0


if __name__ == "__main__":
    sys.exit(main())
