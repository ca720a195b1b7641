# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the golden tables of the regressions: points.csv and expected.csv.

The points are synthetic: a known law with noise by model and by point, losses
near and below zero, and collapsed points. The expected numbers come from

  statsmodels  OLS, and GLM (Gaussian family with power variance and log link)
               with scale X2, VIF
  scipy        the root of the quasi-score with measurement noise in the
               variance
  numpy        CR2 and Satterthwaite degrees of freedom, by the definition:
               n x n matrices and eigendecompositions
  scipy        the Tobit likelihood's maximum

Usage: python make_golden.py      (numpy, scipy, statsmodels, pandas)
CR2 of OLS is also checked against R: see make_golden.R.
"""

import platform
from pathlib import Path

import numpy as np
import pandas as pd
import scipy
import statsmodels
import statsmodels.api as sm
from scipy import optimize, stats
from statsmodels.stats.diagnostic import het_breuschpagan
from statsmodels.stats.outliers_influence import variance_inflation_factor
from statsmodels.stats.stattools import jarque_bera

HERE = Path(__file__).parent
NLL_UNIGRAM = 6.0


def points():
    rng = np.random.default_rng(7)
    rows = []
    sizes = {"a-1": 3e4, "a-2": 2e5, "a-3": 2e6, "b-1": 6e4, "b-2": 5e5,
             "b-3": 3e6}
    for model, size in sizes.items():
        effect = rng.normal(0, 0.2)
        base = 4.6 - 0.12 * np.log(size / 3e4)
        for bits in (2, 3, 4, 6):
            for method in ("rtn", "gptq"):
                for group in (32, 128):
                    bpw = bits + 8 / group
                    sqnr = (6.02 * bits - 4.5 + 1.8 * (method == "gptq")
                            - 0.5 * np.log2(group / 32) + rng.normal(0, 0.4))
                    eta = (4.6 - 0.18 * np.log(size) - 0.21 * sqnr
                           - 0.1 * bpw + effect + rng.normal(0, 0.25))
                    se = 0.006 + 0.03 * np.exp(eta) * rng.uniform(0.5, 1.5)
                    dnll = np.exp(eta) + rng.normal(0, se)
                    rows.append((model, model[0], f"mxint{bits}", method,
                                 group, int(size), bpw, sqnr, base,
                                 base + dnll, dnll, se, NLL_UNIGRAM))
    return pd.DataFrame(rows, columns=[
        "model", "family", "dtype", "method", "group", "params", "bits",
        "sqnr", "nll_model", "nll", "dnll", "dnll_se", "nll_unigram"])


def design(d):
    x = np.column_stack([np.ones(len(d)), np.log(d.params), d.bits,
                         np.log(d.group), d.sqnr, d.method == "rtn"])
    # rtn is the reference level
    x[:, 5] = 1 - x[:, 5]
    return x.astype(float)


NAMES = ["(intercept)", "log(params_nonembedding)", "bits_per_weight",
         "log(group)", "sqnr_output", "method[gptq]"]


def cr2(x, e, cluster):
    """Covariance and degrees of freedom by the definition, n x n."""
    n, k = x.shape
    bread = np.linalg.inv(x.T @ x)
    rest = np.eye(n) - x @ bread @ x.T
    meat = np.zeros((k, k))
    p = []
    for g in pd.unique(cluster):
        i = np.flatnonzero(cluster == g)
        value, vector = np.linalg.eigh(rest[np.ix_(i, i)])
        root = np.where(value > 1e-10, 1 / np.sqrt(np.maximum(value, 1e-300)),
                        0)
        a = vector @ np.diag(root) @ vector.T
        score = x[i].T @ a @ e[i]
        meat += np.outer(score, score)
        p.append(rest[:, i] @ a @ x[i] @ bread)  # [n, k]
    df = []
    for j in range(k):
        q = np.column_stack([m[:, j] for m in p])
        gram = q.T @ q
        df.append(np.trace(gram) ** 2 / np.sum(gram ** 2))
    return bread @ meat @ bread, np.array(df)


def put(out, fit, names, estimate, se, se_cluster, df, **scalars):
    for row in zip(names, estimate, se, se_cluster, df):
        for what, value in zip(("estimate", "std_error", "std_error_cluster",
                                "df"), row[1:]):
            out.append((fit, row[0], what, value))
    out.extend((fit, "", what, value) for what, value in scalars.items())


def ols(d, out):
    d = d[(d.nll < d.nll_unigram) & (d.dnll > 0) & (d.dnll >= 2 * d.dnll_se)]
    x, y = design(d), np.log(d.dnll)
    r = sm.OLS(y.to_numpy(), x).fit()
    v, df = cr2(x, r.resid, d.model.to_numpy())
    jb, jb_p = jarque_bera(r.resid)[:2]
    bp, bp_p = het_breuschpagan(r.resid, x)[:2]
    unit = x / np.linalg.norm(x, axis=0)
    put(out, "ols", NAMES, r.params, r.bse, np.sqrt(np.diag(v)), df, n=len(d),
        scale=np.sqrt(r.scale), r2=r.rsquared, jarque_bera=jb,
        jarque_bera_p=jb_p, breusch_pagan=bp, breusch_pagan_p=bp_p,
        condition=np.linalg.cond(unit),
        cook=np.max(r.get_influence().cooks_distance[0]))
    for j in range(1, x.shape[1]):
        out.append(("ols", NAMES[j], "vif", variance_inflation_factor(x, j)))
    d.assign(y=y).drop(columns=["nll", "nll_model", "nll_unigram"]).to_csv(
        HERE / "uncensored.csv", index=False, float_format="%.17g")


class Power(sm.families.Gaussian):
    """Any response, log link, variance mean^power."""

    def __init__(self, power):
        self.safe_links = [sm.families.links.Log]
        super().__init__(link=sm.families.links.Log())
        self.variance = sm.families.varfuncs.Power(power=power)


def quasi(d, out, power):
    d = d[d.nll < d.nll_unigram]
    x, y = design(d), d.dnll.to_numpy()
    # Newton's method to the end, started from statsmodels' IRLS
    start = np.linalg.lstsq(x, np.log(np.maximum(y, 0.01 * y.mean())),
                            rcond=None)[0]
    r = sm.GLM(y, x, family=Power(power)).fit(
        start_params=start, scale="X2", maxiter=500, tol=0,
        tol_criterion="params")
    mu = r.mu
    w = mu ** (2 - power)
    v, df = cr2(np.sqrt(w)[:, None] * x, np.sqrt(w) * (y - mu) / mu,
                d.model.to_numpy())
    put(out, f"quasi{power:g}", NAMES, r.params, r.bse, np.sqrt(np.diag(v)),
        df, n=len(d), scale=r.scale)


def noisy(d, out, power):
    """Variance phi mu^p + dnll_se^2: the score and Pearson's equation as one
    system for (b, log phi)."""
    d = d[d.nll < d.nll_unigram]
    x, y, se = design(d), d.dnll.to_numpy(), d.dnll_se.to_numpy()
    n, k = x.shape
    size = np.abs(x).max(axis=0)

    def system(q):
        mu = np.exp(x / size @ q[:-1])
        v = np.exp(q[-1]) * mu ** power + se ** 2
        return np.append((x / size).T @ (mu * (y - mu) / v),
                         np.sum((y - mu) ** 2 / v) - (n - k))

    start = np.linalg.lstsq(x, np.log(np.maximum(y, 0.01 * y.mean())),
                            rcond=None)[0] * size
    q = optimize.root(system, np.append(start, -3), tol=1e-13).x
    q = optimize.root(system, q, tol=1e-14).x
    assert np.abs(system(q)).max() < 1e-8
    b, phi = q[:-1] / size, np.exp(q[-1])
    mu = np.exp(x @ b)
    w = phi * mu ** 2 / (phi * mu ** power + se ** 2)
    se_b = np.sqrt(phi * np.diag(np.linalg.inv((x.T * w) @ x)))
    v, df = cr2(np.sqrt(w)[:, None] * x, np.sqrt(w) * (y - mu) / mu,
                d.model.to_numpy())
    put(out, f"noisy{power:g}", NAMES, b, se_b, np.sqrt(np.diag(v)), df, n=n,
        scale=phi)


def censored(d, out):
    x = design(d)
    right = (d.nll >= d.nll_unigram).to_numpy()
    left = ~right & ((d.dnll <= 0) | (d.dnll < 2 * d.dnll_se)).to_numpy()
    y = np.log(np.where(right, d.nll_unigram - d.nll_model,
                        np.where(left, 2 * d.dnll_se, d.dnll)))
    scale = np.abs(x).max(axis=0)
    xs = x / scale

    def loss(q):
        sigma = np.exp(q[-1])
        r = (y - xs @ q[:-1]) / sigma
        term = np.where(left, stats.norm.logcdf(r), np.where(
            right, stats.norm.logsf(r), stats.norm.logpdf(r) - q[-1]))
        return -term.sum()

    def gradient(q):
        sigma = np.exp(q[-1])
        r = (y - xs @ q[:-1]) / sigma
        low = np.exp(stats.norm.logpdf(r) - stats.norm.logcdf(r))
        high = np.exp(stats.norm.logpdf(r) - stats.norm.logsf(r))
        s = np.where(left, low, np.where(right, -high, -r))
        return -np.append(-xs.T @ s / sigma, (-s * r - ~(left | right)).sum())

    known = ~(left | right)
    start = np.append(np.linalg.lstsq(xs[known], y[known], rcond=None)[0], -1)
    best = optimize.minimize(loss, start, jac=gradient, method="BFGS",
                             options={"gtol": 1e-9, "maxiter": 5000})
    root = optimize.root(gradient, best.x, tol=1e-14)
    q = root.x
    h = np.empty((len(q), len(q)))
    for j in range(len(q)):
        step = 1e-4 * max(1, abs(q[j]))
        e = np.eye(len(q))[j] * step
        h[j] = (8 * (gradient(q + e) - gradient(q - e))
                - (gradient(q + 2 * e) - gradient(q - 2 * e))) / (12 * step)
    cov = np.linalg.inv((h + h.T) / 2)
    k = x.shape[1]
    se = np.sqrt(np.diag(cov))[:k] / scale

    # scores of each point, summed by model
    sigma = np.exp(q[-1])
    r = (y - xs @ q[:-1]) / sigma
    low = np.exp(stats.norm.logpdf(r) - stats.norm.logcdf(r))
    high = np.exp(stats.norm.logpdf(r) - stats.norm.logsf(r))
    s = np.where(left, low, np.where(right, -high, -r))
    score = np.column_stack([-xs * (s / sigma)[:, None], -s * r - known])
    groups = pd.unique(d.model)
    total = np.array([score[(d.model == g).to_numpy()].sum(0) for g in groups])
    g = len(groups)
    v = g / (g - 1) * cov @ total.T @ total @ cov
    put(out, "censored", NAMES, q[:k] / scale, se,
        np.sqrt(np.diag(v))[:k] / scale, np.full(k, g - 1.0), n=len(d),
        n_left=left.sum(), n_right=right.sum(), scale=sigma,
        log_likelihood=-loss(q))


def main():
    d = points()
    out = []
    ols(d, out)
    quasi(d, out, 1)
    quasi(d, out, 1.5)
    noisy(d, out, 1)
    noisy(d, out, 2)
    censored(d, out)
    d.to_csv(HERE / "points.csv", index=False, float_format="%.17g")
    with open(HERE / "expected.csv", "w") as f:
        f.write(f"# make_golden.py: Python {platform.python_version()}, "
                f"numpy {np.__version__}, scipy {scipy.__version__}, "
                f"statsmodels {statsmodels.__version__}\n")
        f.write("fit,name,what,value\n")
        for fit, name, what, value in out:
            f.write(f"{fit},{name},{what},{float(value):.17g}\n")


if __name__ == "__main__":
    main()
