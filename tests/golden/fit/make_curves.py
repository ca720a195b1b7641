# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden optima of the nonlinear laws: writes curves.csv (points) and
curves_expected.csv.

Each law is written out again here and minimized by scipy's least_squares
from many starts, over the same residuals: ln(dnll) less the law, one-sided
where a point is censored.

Usage: python make_curves.py      (numpy, scipy, pandas)
"""

import platform
from pathlib import Path

import numpy as np
import pandas as pd
import scipy
from scipy import optimize

HERE = Path(__file__).parent
NLL_UNIGRAM = 4.6


def points():
    rng = np.random.default_rng(11)
    rows = []
    for m in range(12):
        family = "ab"[m % 2]
        size = 3e4 * 2.1 ** m
        tokens = size * (20 if m % 3 else 90)
        calib = 8192 if m % 4 < 2 else 65536
        share = 0.55 + 0.03 * m + 0.05 * (m % 2)
        base = 1.5 + 40 * size ** -0.25
        for bits in (2, 3, 4, 6):
            for group in (32, 128):
                bpw = bits + 8 / group
                eff = size * (1 - np.exp(-bpw / 0.9))
                d = 40 * (eff ** -0.25 - size ** -0.25)
                d *= np.exp(rng.normal(0, 0.15)) * (tokens / size / 20) ** 0.2
                se = 0.0004 + 0.03 * d
                rows.append((f"{family}-{m}", family, bits, group, int(size),
                             tokens, calib, int(size / share), bpw, base,
                             base + d, d + rng.normal(0, se), se))
    d = pd.DataFrame(rows, columns=[
        "model", "family", "bits", "group", "params", "tokens", "calib",
        "params_all", "bpw", "nll_model", "nll", "dnll", "dnll_se"])
    d["nll"] = d.nll_model + d.dnll
    return d


def laws(d):
    n, t, p = np.log(d.params), np.log(d.tokens), d.bpw
    g, c = np.log(d.group), np.log(np.log2(d.calib))
    b, share = np.log(np.log2(d.bits)), d.params / d.params_all
    size = d.params.astype(float)
    # name: positive parameters, law of u (their logarithms)
    return {
        "kumar": ("C gpost", "C gD gN gpost",
                  lambda u: u[0] + u[1] * t - u[2] * n - p / np.exp(u[3])),
        "kumar-fixed-D": ("C gpost", "C gN gpost",
                          lambda u: u[0] - u[1] * n - p / np.exp(u[2])),
        "ouyang": ("k", "k b a g",
                   lambda u: u[0] + u[1] * t - u[2] * n - u[3] * np.log(p)),
        "ouyang-fixed-D": ("k", "k a g",
                           lambda u: u[0] - u[1] * n - u[2] * np.log(p)),
        "zhou": ("A", "A a b c d", lambda u: u[0] + u[1] * n + u[2] * b
                 + u[3] * c + u[4] * g),
        "zhou-fixed-C": ("A", "A a b d",
                         lambda u: u[0] + u[1] * n + u[2] * b + u[3] * g),
        "cao": ("k g", "k a c b g", lambda u: u[0] - u[1] * n + u[2] * share
                + u[3] * g - p / np.exp(u[4])),
        "power-irreducible": (
            "E A a g", "E A a g",
            lambda u: np.exp(u[0]) + np.exp(u[1])
            * (size * -np.expm1(-p / np.exp(u[3]))) ** -np.exp(u[2])),
        "exponential": ("A", "A b", lambda u: u[0] - u[1] * p),
    }


def optimum(d, name, positive, names, law, rng):
    right = (d.nll >= NLL_UNIGRAM).to_numpy()
    left = ~right & ((d.dnll <= 0) | (d.dnll < 2 * d.dnll_se)).to_numpy()
    if name == "power-irreducible":
        y = np.where(right, NLL_UNIGRAM, d.nll)
        left[:] = False
    else:
        y = np.log(np.where(right, NLL_UNIGRAM - d.nll_model,
                            np.where(left, 2 * d.dnll_se, d.dnll)))

    def residual(u):
        r = np.asarray(y - law(u))
        return np.where(left, np.minimum(r, 0), np.where(
            right, np.maximum(r, 0), r))

    best = None
    for _ in range(60):
        start = rng.uniform(-1, 2, len(names))
        if name == "power-irreducible":
            start = np.log([rng.uniform(.5, 3), rng.uniform(5, 200),
                            rng.uniform(.1, .6), rng.uniform(.3, 2)])
        with np.errstate(all="ignore"):
            try:
                r = optimize.least_squares(residual, start, method="lm",
                                           xtol=1e-15, ftol=1e-15, gtol=1e-15,
                                           max_nfev=20000)
            except ValueError:  # a start out of the range of numbers
                continue
        if best is None or r.cost < best.cost:
            best = r
    q = [np.exp(v) if n in positive else v for n, v in zip(names, best.x)]
    return q, 2 * best.cost, left.sum(), right.sum()


def main():
    d = points()
    d.to_csv(HERE / "curves.csv", index=False, float_format="%.17g")
    rng = np.random.default_rng(3)
    with open(HERE / "curves_expected.csv", "w") as f:
        f.write(f"# make_curves.py: Python {platform.python_version()}, numpy "
                f"{np.__version__}, scipy {scipy.__version__}\n")
        f.write("fit,name,what,value\n")
        for name, (positive, names, law) in laws(d).items():
            q, rss, left, right = optimum(d, name, positive.split(),
                                          names.split(), law, rng)
            for n, v in zip(names.split(), q):
                f.write(f"{name},{n},estimate,{v:.17g}\n")
            for what, v in (("rss", rss), ("n_left", left),
                            ("n_right", right)):
                f.write(f"{name},,{what},{v:.17g}\n")


main()
