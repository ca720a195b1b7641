# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden numbers of the weighted, robust and ridge regressions on the
uncensored points of points.csv: writes estimators.csv.

  weighted  statsmodels WLS, tau^2 by scipy's root of Paule and Mandel's
            equation
  robust    GSL's documented bisquare, iterated in numpy: residuals over
            sigma sqrt(1 - h), sigma from the median absolute deviation of all
            but the k - 1 smallest residuals
  ridge     statsmodels' closed form (fit_regularized, L1_wt=0) on
            standardized columns, lambda at scipy's minimum of GCV

CR2 is make_golden.py's, by the definition.

Usage: python make_estimators.py      (after make_golden.py)
"""

import platform

import numpy as np
import pandas as pd
import scipy
import statsmodels
import statsmodels.api as sm
from scipy import optimize

from make_golden import HERE, NAMES, cr2, design, put


def weighted(d, x, y, out):
    s2 = (d.dnll_se / d.dnll).to_numpy() ** 2
    n, k = x.shape

    def fit(tau2):
        return sm.WLS(y, x, weights=1 / (s2 + tau2)).fit()

    tau2 = optimize.brentq(
        lambda t: np.sum(fit(t).wresid ** 2) - (n - k), 0, 10, xtol=1e-16,
        rtol=1e-15)
    r = fit(tau2)
    v, df = cr2(r.model.wexog, r.wresid, d.model.to_numpy())
    put(out, "weighted", NAMES, r.params, r.bse, np.sqrt(np.diag(v)), df, n=n,
        scale=np.sqrt(r.scale), tau2=tau2, log_likelihood=r.llf, aic=r.aic,
        bic=r.bic)


def robust(d, x, y, out):
    n, k = x.shape
    b = np.linalg.lstsq(x, y, rcond=None)[0]
    q = np.linalg.qr(x)[0]
    h = np.sum(q * q, axis=1)
    factor = 1 / np.sqrt(1 - np.minimum(h, 0.9999))
    sigma_y = np.std(y, ddof=1)

    def mad(r):
        return np.median(np.sort(np.abs(r))[k - 1:]) / 0.6745

    for _ in range(1000):
        r = (y - x @ b) * factor
        u = r / (4.685 * max(mad(r), 1e-6 * sigma_y))
        w = np.where(np.abs(u) < 1, (1 - u ** 2) ** 2, 0)
        root = np.sqrt(w)
        new = np.linalg.lstsq(x * root[:, None], y * root, rcond=None)[0]
        moved = np.abs(new - b).max()
        b = new
        if moved < 1e-15:
            break
    e = y - x @ b
    # CR2 with the weights at the fixed point
    bread_root = np.sqrt(w)
    v, df = cr2(x * bread_root[:, None], e * bread_root, d.model.to_numpy())
    for row in zip(NAMES, b, np.sqrt(np.diag(v)), df):
        for what, value in zip(("estimate", "std_error_cluster", "df"),
                               row[1:]):
            out.append(("robust", row[0], what, value))
    out.append(("robust", "", "n", n))
    out.append(("robust", "", "n_rejected", np.sum(w == 0)))


def ridge(d, x, y, out):
    n = len(y)
    c = x[:, 1:]
    mean, sd = c.mean(axis=0), c.std(axis=0)
    z = (c - mean) / sd
    yc = y - y.mean()
    u, s, _ = np.linalg.svd(z, full_matrices=False)
    uy = u.T @ yc

    def gcv(log_lambda):
        f = s ** 2 / (s ** 2 + np.exp(log_lambda))
        rss = yc @ yc - uy @ uy + np.sum(((1 - f) * uy) ** 2)
        return np.log(rss) - 2 * np.log(n - f.sum())

    def slope(t, e=1e-4):
        return (8 * (gcv(t + e) - gcv(t - e))
                - (gcv(t + 2 * e) - gcv(t - 2 * e))) / (12 * e)

    grid = np.linspace(-20, 10, 3001)
    best = grid[np.argmin([gcv(t) for t in grid])]
    lam = np.exp(optimize.brentq(slope, best - 0.02, best + 0.02, xtol=1e-14))
    r = sm.OLS(yc, z).fit_regularized(alpha=lam / n, L1_wt=0.0)
    bz = r.params
    b = np.append(y.mean() - mean @ (bz / sd), bz / sd)
    f = s ** 2 / (s ** 2 + lam)
    e = yc - z @ bz
    s2 = e @ e / (n - 1 - f.sum())
    outer = np.linalg.inv(z.T @ z + lam * np.eye(z.shape[1]))
    # both covariances of (mean of y, standardized slopes), then of b
    t = np.zeros((len(b), len(b)))
    t[0, 0] = 1
    t[0, 1:] = -mean / sd
    t[1:, 1:] = np.diag(1 / sd)
    one = np.column_stack([np.ones(n) / n, z @ outer])
    classical = s2 * t @ (one.T @ one) @ t.T
    groups = pd.unique(d.model)
    score = np.array([one[(d.model == g).to_numpy()].T
                      @ e[(d.model == g).to_numpy()] for g in groups])
    g = len(groups)
    clustered = g / (g - 1) * t @ (score.T @ score) @ t.T
    for row in zip(NAMES, b, np.sqrt(np.diag(classical)),
                   np.sqrt(np.diag(clustered))):
        for what, value in zip(("estimate", "std_error", "std_error_cluster"),
                               row[1:]):
            out.append(("ridge", row[0], what, value))
    out.append(("ridge", "", "n", n))
    out.append(("ridge", "", "edf", f.sum()))
    out.append(("ridge", "", "scale", np.sqrt(s2)))


def likelihood(x, y, out):
    r = sm.OLS(y, x).fit()
    for what, value in (("log_likelihood", r.llf), ("aic", r.aic),
                        ("bic", r.bic), ("r2_adjusted", r.rsquared_adj)):
        out.append(("ols", "", what, value))


def main():
    d = pd.read_csv(HERE / "points.csv")
    d = d[(d.nll < d.nll_unigram) & (d.dnll > 0) & (d.dnll >= 2 * d.dnll_se)]
    x, y = design(d), np.log(d.dnll.to_numpy())
    out = []
    likelihood(x, y, out)
    weighted(d, x, y, out)
    robust(d, x, y, out)
    ridge(d, x, y, out)
    with open(HERE / "estimators.csv", "w") as f:
        f.write(f"# make_estimators.py: Python {platform.python_version()}, "
                f"numpy {np.__version__}, scipy {scipy.__version__}, "
                f"statsmodels {statsmodels.__version__}\n")
        f.write("fit,name,what,value\n")
        for fit, name, what, value in out:
            f.write(f"{fit},{name},{what},{float(value):.17g}\n")


main()
