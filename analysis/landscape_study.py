# SPDX-License-Identifier: GPL-3.0-or-later
"""What the loss around the weights says of quantized quality.

    ./run.sh sweep sweeps/landscape.yaml -o landscape.h5
    python analysis/landscape_study.py landscape.h5

Answers, each with a 95 % interval over models (Student's t), whichever way:

  flat        are larger models flatter: slopes by ln(parameters), a family
              an intercept
  step        are profiles along random directions steps: their width, whether
              they level off, and whether a sigmoid in ln(radius) is nearer to
              them than a power
  quadratic   does g'e + e'He / 2 hold, by bits and method
  prediction  do landscape features lower the error on held-out models over
              size, bits and the SQNR of rounding alone (paired, exact
              permutation of signs)
  layers      what ranks a model's layers by what rounding them costs

Reads any store of a sweep with `measure.landscape: {mode: full}`; what is not
finished is left out. The sample is models: of a store with several texts
--calibration and --evaluation say which. --json prints the same for programs.
"""
import argparse
import dataclasses
import itertools
import json
import pathlib
import re
import sys

import numpy as np
import pandas as pd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import ptqsweep  # noqa: E402

# Student's t, 97.5 %, of 1 to 30 degrees of freedom; more are the normal's.
T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
     2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
     2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042]
RISE = 0.5    # nat: where a basin ends
FLOOR = 1e-3  # nat: losses below are not told from noise
TENTH = 0.1


def quantile(df):
    """Student's t, two-sided 95 %."""
    if df < 1:
        return float("nan")
    return T[int(df) - 1] if df <= len(T) else 1.96


def mean(values, least=-np.inf, most=np.inf):
    """Mean over models with its interval, cut off where no value can be."""
    x = np.asarray([v for v in values if np.isfinite(v)], float)
    if len(x) == 0:
        return dict(estimate=float("nan"), low=float("nan"),
                    high=float("nan"), n=0)
    half = (quantile(len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
            if len(x) > 1 else float("nan"))
    return dict(estimate=float(x.mean()),
                low=float(np.maximum(x.mean() - half, least)),
                high=float(np.minimum(x.mean() + half, most)), n=len(x))


def share(flags):
    """Share of models for which it is true, with Wilson's interval: no mean
    of so few yes and no is normal."""
    x = np.asarray([v for v in flags if np.isfinite(v)], float)
    n, z = len(x), 1.96
    if n == 0:
        return mean([])
    p = x.mean()
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = (z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) /
            (1 + z * z / n))
    return dict(estimate=float(p), low=float(center - half),
                high=float(center + half), n=n)


def least_squares(x, y):
    """Coefficients, their errors, and degrees of freedom."""
    beta, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
    left = y - x @ beta
    df = len(y) - rank
    if df < 1:
        return beta, np.full(len(beta), np.nan), df
    cov = np.linalg.pinv(x.T @ x) * (left @ left / df)
    return beta, np.sqrt(np.diag(cov)), df


def by_size(models, values):
    """Slope of values by ln(parameters), a family an intercept."""
    t = models.assign(value=values).dropna(subset=["value"])
    t = t[np.isfinite(t.value)]
    families = pd.get_dummies(t.family, dtype=float).to_numpy()
    x = np.column_stack([np.log(t.params_nonembedding.astype(float)),
                         families])
    if len(t) < x.shape[1] + 1:
        return mean([])
    beta, se, df = least_squares(x, t.value.to_numpy(float))
    half = quantile(df) * se[0]
    return dict(estimate=float(beta[0]), low=float(beta[0] - half),
                high=float(beta[0] + half), n=len(t))


def basin(steps):
    """Radius where the loss has risen by RISE, between steps on ln(radius);
    where it is not finite any more, the last radius; infinite: never; NaN: at
    the smallest radius already."""
    r, y = steps.radius.to_numpy(), steps.dnll.to_numpy()
    for i in range(1, len(r)):
        if y[i] < RISE:
            continue
        if i == 1:
            return float("nan")
        if not np.isfinite(y[i]):
            return r[i - 1]
        share = (RISE - y[i - 1]) / (y[i] - y[i - 1])
        return float(np.exp((1 - share) * np.log(r[i - 1]) +
                            share * np.log(r[i])))
    return float("inf")


def profiles_of(store, kinds):
    """(direction's row, its finite steps) of finished directions."""
    for direction, steps in store.profiles.groupby("direction"):
        d = store.directions.loc[direction]
        if d.kind in kinds:
            yield d, steps.sort_values("step")


def per_model(models, rows):
    """Means of (model, value) by model, in the order of `models`."""
    t = pd.DataFrame(rows, columns=["model", "value"])
    t["value"] = t.value.astype(float)  # of no rows too
    t = t[np.isfinite(t.value)]
    return models.model.map(t.groupby("model").value.mean()).to_numpy(float)


def log(x):
    """Of a series; NaN where there is none."""
    return np.log(x.where(x > 0))


def flat(store, models):
    random = [(d.model, np.log(basin(s)))
              for d, s in profiles_of(store, ("gaussian", "uniform"))]
    rounding = [(d.model, np.log(basin(s)))
                for d, s in profiles_of(store, ("rtn",))]
    hessian = store.directions[(store.directions.kind == "hessian") &
                               (store.directions.state == "done")]
    hessian = hessian.set_index("model")
    # In units of the relative radius: e = r |W| u makes e'He = r^2 |W|^2 u'Hu.
    norm = store.direction_layers[store.direction_layers.kind ==
                                  "sensitivity"]
    norm = (norm.drop_duplicates(["model", "layer"])
            .assign(square=lambda t: t.weight_norm ** 2)
            .groupby("model").square.sum())
    top = models.model.map(log(hessian.eigen_max * norm))
    mean_curvature = models.model.map(log(
        hessian.trace / models.set_index("model").params_quantizable * norm))
    return {
        "ln basin (0.5 nat) along random directions":
            by_size(models, per_model(models, random)),
        "ln basin (0.5 nat) along RTN's displacements":
            by_size(models, per_model(models, rounding)),
        "ln(trace / weights * |W|^2)": by_size(models, mean_curvature),
        "ln(largest eigenvalue * |W|^2)": by_size(models, top),
    }


def sigmoid_fit(x, y):
    """height / (1 + exp(-(x - center) / width)) by a search over center and
    width, height by least squares; the residual too."""
    best = (np.inf, 0, 0, 0)
    for center in np.linspace(x.min(), x.max(), 60):
        for width in np.geomspace(0.03, 2.0, 60):
            s = 1 / (1 + np.exp(np.clip(-(x - center) / width, -50, 50)))
            height = (s @ y) / (s @ s)
            left = float(np.sum((y - height * s) ** 2))
            if left < best[0]:
                best = (left, height, center, width)
    return best


def power_fit(x, y):
    """Residual of c r^p by a search over p, c by least squares."""
    best = np.inf
    for p in np.linspace(0.0, 6.0, 601):
        s = np.exp(p * (x - x.max()))
        c = (s @ y) / (s @ s)
        best = min(best, float(np.sum((y - c * s) ** 2)))
    return best


def step(store, models):
    widths, levels, nearer, explained = [], [], [], []
    for d, s in profiles_of(store, ("gaussian", "uniform")):
        s = s[(s.radius > 0) & np.isfinite(s.dnll)]
        x, y = np.log(s.radius.to_numpy()), s.dnll.to_numpy()
        if len(x) < 8 or not y.max() > 0:
            continue  # too short, or without a rise
        left, _, _, width = sigmoid_fit(x, y)
        widths.append((d.model, width * np.log(81) / np.log(10)))
        top = y[x >= x.max() - np.log(3)]
        levels.append((d.model, top[-1] / top.max()))
        total = float(np.sum((y - y.mean()) ** 2))
        explained.append((d.model, 1 - left / total))
        nearer.append((d.model, float(left < power_fit(x, y))))
    return {
        "decades from 10 to 90 % of the height":
            mean(per_model(models, widths)),
        "loss at the largest radius over the largest in its last third":
            mean(per_model(models, levels)),
        "share of variance that the sigmoid explains":
            mean(per_model(models, explained)),
        "share of profiles nearer to a sigmoid than to a power":
            share(per_model(models, nearer)),
    }


def bits_of(dtype):
    """'4 bits' of int4 and mxint4; a mixture or ternary is itself."""
    named = re.match(r"[a-z]+(\d+)", dtype)
    return f"{named.group(1)} bits" if named else dtype


def by_bits(text):
    """Sorts the widest first, and what has no width behind them."""
    number = re.match(r"(\d+) bits", text)
    return -int(number.group(1)) if number else 0


def quadratic(store, models):
    d = store.directions
    d = d[(d.state == "done") & d.kind.isin(["rtn", "gptq"]) &
          d.dnll_quadratic.notna()].copy()  # of `full` alone
    d["bits"] = [bits_of(x) for x in d.dtype]
    within = np.maximum(TENTH * d.dnll_calib.abs(), 0.01)
    d["holds"] = (d.dnll_quadratic - d.dnll_calib).abs() <= within
    halved = d.get("gauss_newton", np.nan) / 2  # not in older stores
    d["with_g"] = (d.slope + halved - d.dnll_calib).abs() <= within
    d["ratio"] = np.where((d.dnll_quadratic > FLOOR) & (d.dnll_calib > FLOOR),
                          np.log(d.dnll_quadratic.where(d.dnll_quadratic > 0)
                                 / d.dnll_calib.where(d.dnll_calib > 0)),
                          np.nan)
    out = {}
    for (kind, bits), t in sorted(d.groupby(["kind", "bits"]),
                                  key=lambda g: (g[0][0] == "gptq",
                                                 by_bits(g[0][1]))):
        out[f"{kind}, {bits}"] = dict(
            holds=share(t.groupby("model").holds.mean()),
            with_g=share(t.groupby("model").with_g.mean()),
            ratio=mean(t.groupby("model").ratio.mean()),
            dnll=float(t.dnll_calib.median()),
            quadratic=float(t.dnll_quadratic.median()))
    radius = d[d.kind == "rtn"].groupby("model").quadratic_radius.median()
    out["radius"] = by_size(models, models.model.map(log(radius)))
    return out


def design(points, store, models):
    """Columns of the baseline, and of either kind of landscape features."""
    d = store.directions[store.directions.state == "done"]
    rtn = d[d.kind == "rtn"].set_index(["model", "dtype"])
    random = pd.DataFrame(
        [(x.model, np.log(basin(s)))
         for x, s in profiles_of(store, ("gaussian", "uniform"))],
        columns=["model", "ln_basin"])
    random = (random[np.isfinite(random.ln_basin)]
              .groupby("model").ln_basin.mean())
    along = {(x.model, x["dtype"]): np.log(basin(s) / x["size"])
             for x, s in profiles_of(store, ("rtn",))}
    t = points.copy()
    key = list(zip(t.model, t.dtype))
    t["bits"] = t.bits_per_weight
    t["log_params"] = np.log(t.model_params_nonembedding.astype(float))
    t["gptq"] = (t.method == "gptq").astype(float)
    rounded = store.points[(store.points.state == "done") &
                           (store.points.method == "rtn")]
    sqnr = rounded.set_index(
        ["model", "dtype", "group"]).sqnr_weight
    t["sqnr_rtn"] = [sqnr.get((m, x, g), np.nan)
                     for m, x, g in zip(t.model, t.dtype, t.group)]
    t["noise_over_basin"] = (-t.sqnr_rtn * np.log(10) / 20 -
                             t.model.map(random))
    q = np.array([rtn.dnll_quadratic.get(k, np.nan) for k in key])
    t["ln_quadratic"] = np.log(np.maximum(q, FLOOR))
    t["ln_inside"] = [along.get(k, np.nan) for k in key]
    # Where rounding never leaves the basin: as far as profiles go.
    far = t.ln_inside[np.isfinite(t.ln_inside)].max()
    t["ln_inside"] = t.ln_inside.replace(np.inf, far)
    return t


BASE = ["log_params", "bits", "sqnr_rtn", "gptq"]
MORE = {"basin of random directions": ["noise_over_basin"],
        "quadratic prediction": ["ln_quadratic"],
        "both, and the basin along RTN":
            ["noise_over_basin", "ln_quadratic", "ln_inside"]}


def held_out(t, columns):
    """Mean |ln error| of each model, predicted from all others."""
    x = np.column_stack([np.ones(len(t)), t[columns].to_numpy(float)])
    y = np.log(t.dnll.to_numpy())
    out = {}
    for model in t.model.unique():
        out_of = (t.model != model).to_numpy()
        beta, _, _ = least_squares(x[out_of], y[out_of])
        out[model] = float(np.abs(y[~out_of] - x[~out_of] @ beta).mean())
    return pd.Series(out)


def sign_flips(x):
    """Two-sided p of mean 0 by all signs."""
    x = np.asarray(x)
    if len(x) > 16:
        raise SystemExit("too many models for an exact permutation")
    signs = np.array(list(itertools.product([-1, 1], repeat=len(x))))
    means = np.abs(signs @ x) / len(x)
    return float(np.mean(means >= abs(x.mean()) - 1e-12))


def prediction(store, models):
    p = store.points
    p = p[(p.state == "done") & (p.nll < p.model_nll_unigram) &
          (p.dnll > np.maximum(2 * p.dnll_se, FLOOR))]
    t = design(p, store, models)
    t = t.dropna(subset=BASE + sum(MORE.values(), [])).reset_index(drop=True)
    if t.model.nunique() < 3:
        return {}
    base = held_out(t, BASE)
    out = {"points": len(t), "models": int(t.model.nunique()),
           "base": mean(base)}
    for name, columns in MORE.items():
        with_it = held_out(t, BASE + columns)
        gain = (base - with_it).to_numpy()
        out[name] = dict(error=mean(with_it), gain=mean(gain),
                         p=sign_flips(gain), better=int((gain > 0).sum()))
    return out


def layers(store, models):
    """Spearman's correlation of what a layer costs with cheaper numbers."""
    t = store.direction_layers
    own = t[t.kind == "sensitivity"]
    if len(own) == 0:
        return {}
    rtn = t[t.kind == "rtn"].set_index(["model", "dtype", "layer"])
    hessian = t[t.kind == "hessian"].set_index(["model", "layer"])
    own = own[["model", "dtype", "layer", "weights", "outputs", "weight_norm",
               "size", "alone", "restored"]].copy()
    at = pd.MultiIndex.from_frame(own[["model", "dtype", "layer"]])
    of = pd.MultiIndex.from_frame(own[["model", "layer"]])
    e = rtn.reindex(at).reset_index(drop=True)
    h = hessian.reindex(of).reset_index(drop=True)
    own = own.reset_index(drop=True)
    noise = (own["size"] * own.weight_norm) ** 2
    numbers = {
        "|E|^2 / |W|^2": own["size"] ** 2,
        "tr(E H E') / tr(W H W')": e.err_hessian,
        "tr(E H E')": e.output_noise,
        "|gradient|": h.gradient_norm,
        "trace": h.trace,
        "trace / n |E|^2": h.trace / own.weights * noise,
        "Fisher / n |E|^2": h.fisher / own.weights * noise,
        "Fisher diagonal": e.fisher_diagonal,
        "tr(B E H E')": e.kronecker,
        "tr(B) / outputs tr(E H E')": h.output_trace / own.outputs
        * e.output_noise,
        "g'e + e'He / 2": e.slope + e.curvature / 2,
        "g'e + e'Ge / 2": e.slope + e.gauss_newton / 2,
    }
    out = {}
    groups = own.groupby(["model", "dtype"]).indices
    for target in ("alone", "restored"):
        y = own[target].to_numpy()
        for name, x in numbers.items():
            rho = {}
            for (model, dtype), at in groups.items():
                a, b = x.to_numpy()[at], y[at]
                if len(at) < 5 or not np.isfinite(a).all():
                    continue
                if np.ptp(a) == 0 or np.ptp(b) == 0:
                    continue  # all alike: nothing to rank
                r = np.corrcoef(pd.Series(a).rank(), pd.Series(b).rank())
                rho.setdefault(model, []).append(r[0, 1])
            out[f"{name}, {target}"] = mean(
                [float(np.mean(v)) for v in rho.values()], -1.0, 1.0)
    d = store.directions
    whole = (d[(d.kind == "sensitivity") & (d.state == "done")]
             .groupby(["model", "dtype"]).dnll.first())
    alone = own.groupby(["model", "dtype"]).alone.sum()
    ratio = (alone / whole).where(whole > FLOOR)
    for dtype, r in ratio.groupby("dtype"):
        out[f"sum of alone over the whole, {dtype}"] = mean(r)
    return out


def keep(store, directions, subjects):
    """The store with these directions alone, and models of these rows."""
    def of(t):
        return (t[t.direction.isin(directions.index)]
                if "direction" in t else t)
    return dataclasses.replace(
        store, directions=directions, profiles=of(store.profiles),
        direction_layers=of(store.direction_layers), ritz=of(store.ritz),
        models=store.models.loc[subjects],
        points=store.points[store.points.subject.isin(subjects)])


def once(directions):
    """Finished directions, of what a joined store holds twice the one with
    derivatives."""
    d = directions[directions.state == "done"]
    derived = d.curvature.notna() | d.trace.notna()
    d = d.loc[derived.sort_values(ascending=False, kind="stable").index]
    return d.drop_duplicates(["subject", "kind", "scaling", "number", "dtype",
                              "group"]).sort_index()


def chosen(store, path, calibration, evaluation):
    """The store of one row a model."""
    if len(store.directions) == 0:
        raise SystemExit(f"{path}: no direction of a landscape")
    d = once(store.directions)
    models = store.models.loc[sorted(d.subject.unique())]
    for option, text in (("calibration", calibration),
                         ("evaluation", evaluation)):
        texts = sorted(models[option].unique())
        if text is not None and text not in texts and texts:
            raise SystemExit(f"{path}: no {option} text '{text}'; one of: " +
                             ", ".join(texts))
        if text is not None:
            models = models[models[option] == text]
    twice = models.model[models.model.duplicated()]
    if len(twice) > 0:
        of = models[models.model == twice.iloc[0]]
        several = [o for o in ("calibration", "evaluation")
                   if of[o].nunique() > 1]
        raise SystemExit(
            f"{path}: '{twice.iloc[0]}' is there {len(of)} times, and the "
            "sample is models; " +
            ("; ".join(f"choose one with --{o}: " +
                       ", ".join(f"'{t}'" for t in sorted(of[o].unique()))
                       for o in several) if several else
             "two checkpoints have its name: study their stores apart"))
    return keep(store, d[d.subject.isin(models.index)], models.index)


def study(path, calibration=None, evaluation=None):
    store = chosen(ptqsweep.read(path), path, calibration, evaluation)
    models = store.models.reset_index(drop=True)
    if len(models) == 0:
        raise SystemExit(f"{path}: no finished direction of a landscape")
    return dict(store=str(path), models=list(models.model),
                **{f.__name__: f(store, models)
                   for f in (flat, step, quadratic, prediction, layers)})


def shown(v):
    if not np.isfinite(v["estimate"]):
        return "not to be told (too few models, or none above noise)"
    return f"{v['estimate']:.3g} ({v['low']:.3g} to {v['high']:.3g})"


def print_text(s):
    print(f"{s['store']}: {len(s['models'])} models; 95 % intervals over "
          "models\n")
    print("Are larger models flatter? Slope by ln(parameters):")
    for name, v in s["flat"].items():
        print(f"  {name}: {shown(v)}")
    print("\nAre profiles along random directions steps?")
    for name, v in s["step"].items():
        print(f"  {name}: {shown(v)}")
    print("\nDoes g'e + e'He / 2 hold (within a tenth or 0.01 nat)? Median "
          "loss, median of\nthe prediction, share of models where it holds, "
          "mean ln(predicted / measured), share\nwhere it holds with e'Ge in "
          "e'He's place:")
    for name, v in s["quadratic"].items():
        if name == "radius":
            print(f"  ln of the radius it holds to, by ln(parameters): "
                  f"{shown(v)}")
        else:
            print(f"  {name}: {v['dnll']:.3g} {v['quadratic']:.3g}; "
                  f"{shown(v['holds'])}; {shown(v['ratio'])}; "
                  f"{shown(v['with_g'])}")
    p = s["prediction"]
    if p:
        print(f"\nMean |ln error| on held-out models ({p['points']} points of "
              f"{p['models']} models), and its fall:")
        print(f"  size, bits, SQNR of RTN, method: {shown(p['base'])}")
        for name in MORE:
            v = p[name]
            print(f"  and {name}: {v['error']['estimate']:.3g}, lower by "
                  f"{shown(v['gain'])}, p = {v['p']:.2g}, better on "
                  f"{v['better']} models")
    if s["layers"]:
        print("\nSpearman's correlation of a layer's cost with:")
        for name, v in s["layers"].items():
            print(f"  {name}: {shown(v)}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("store", type=pathlib.Path)
    for kind in ("calibration", "evaluation"):
        parser.add_argument(f"--{kind}", metavar="TEXT", help=(
            "of a store with several texts, as its table models spells it"))
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    if not args.store.exists():
        raise SystemExit(f"{args.store}: no such file; make it with "
                         "./run.sh sweep sweeps/landscape.yaml -o "
                         f"{args.store}")
    result = study(args.store, args.calibration, args.evaluation)
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        print_text(result)


if __name__ == "__main__":
    main()
