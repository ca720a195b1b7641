# SPDX-License-Identifier: GPL-3.0-or-later
"""A ptqsweep store as tidy pandas data frames.

    import ptqsweep
    store = ptqsweep.read("quick.h5")
    done = store.points[store.points.state == "done"]
    print(done.pivot_table(index="dtype", columns="method", values="dnll"))

Needs h5py, numpy and pandas. Also reads a store that a run is writing.
"""

from dataclasses import dataclass

import h5py
import numpy as np
import pandas as pd

STATES = ["pending", "started", "done", "failed"]


@dataclass
class Store:
    """points   one row a grid point, its model's row joined as model_*
    layers   one row a (point, linear layer) of finished points
    windows  one row a (point, window), the unquantized model's beside it
    answers  one row a (point, request), with the right choice and the
             unquantized model's; empty without requests
    spectra  one row an eigenvalue, with model, site, block and rank
    models   one row a model
    directions  one row an item of a model's loss landscape
    profiles    one row a (direction, radius) of finished ones
    direction_layers, ritz  likewise by layer, and of the Hessian's density;
                all four empty without measure.landscape
    attributes  of the file: uuid, created, spec_text, ...
    """

    points: pd.DataFrame
    layers: pd.DataFrame
    windows: pd.DataFrame
    answers: pd.DataFrame
    spectra: pd.DataFrame
    models: pd.DataFrame
    directions: pd.DataFrame
    profiles: pd.DataFrame
    direction_layers: pd.DataFrame
    ritz: pd.DataFrame
    attributes: dict


def _frame(dataset):
    frame = pd.DataFrame(dataset[:])
    for name, kind in dataset.dtype.fields.items():
        if kind[0].kind == "S":
            frame[name] = frame[name].str.decode("utf-8")
    return frame


def _repeat(points, rows):
    """What rows of a point repeat of it, in front of them."""
    columns = ["key", "model", "family", "dtype", "method", "options", "group"]
    head = points[columns].iloc[rows["point"].to_numpy()]
    return pd.concat([head.reset_index(drop=True),
                      rows.reset_index(drop=True)], axis=1)


def _spectra(file):
    parts = []
    if "spectra" not in file:
        return pd.DataFrame(columns=["model", "site", "block", "rank",
                                     "eigenvalue"])
    for group, sites in file["spectra"].items():
        for site, dataset in sites.items():
            if not isinstance(dataset, h5py.Dataset):
                continue
            values = dataset[:]
            if values.ndim != 2 or np.isnan(values).all():
                continue
            blocks, d = values.shape
            parts.append(pd.DataFrame({
                "model": group, "site": site,
                "block": np.repeat(np.arange(blocks), d),
                "rank": np.tile(np.arange(d), blocks),
                "eigenvalue": values.ravel()}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(
        columns=["model", "site", "block", "rank", "eigenvalue"])


def _beside(points, rows, baseline, key, columns):
    """Rows of finished points with `columns` of the unquantized model's."""
    done = points.index[points.state == "done"]
    rows = rows[rows.point.isin(done)].copy()
    rows["subject"] = points.subject.iloc[rows.point.to_numpy()].to_numpy()
    rows = rows.merge(baseline[["subject", key, *columns]],
                      on=["subject", key], how="left",
                      suffixes=("", "_reference"))
    return _repeat(points, rows)


def _landscape(file):
    """Directions with their states, and the parts of finished ones."""
    if "landscape" not in file:  # stores of before schema 3
        return [pd.DataFrame(columns=["key", "model", "kind"])] * 4
    directions = _frame(file["landscape/directions"])
    directions["state"] = [STATES[s] for s in file["landscape/state"][:]]
    done = directions.index[directions.state == "done"]
    tables = [directions]
    for name, index in (("profiles", "first_profile"),
                        ("layers", "first_direction_layer"),
                        ("ritz", "first_ritz")):
        rows = _frame(file[f"landscape/{name}"])
        # Rows that wait are zero and say nothing of whose they are.
        owner = np.repeat(directions.index, np.diff(file[f"index/{index}"][:]))
        rows = rows[np.isin(owner, done)]
        columns = ["key", "model", "kind", "scaling", "number", "dtype",
                   "group"]
        head = directions[columns].iloc[rows["direction"].to_numpy()]
        tables.append(pd.concat([head.reset_index(drop=True),
                                 rows.reset_index(drop=True)], axis=1))
    return tables


def read(path):
    """Every table of the store at `path`; see Store."""
    with h5py.File(path, "r") as file:
        points = _frame(file["points"])
        points["state"] = [STATES[s] for s in file["state"][:]]
        models = _frame(file["models"])
        points["subject"] = file["index/subject"][:]
        layers = _frame(file["layers"])
        windows = _frame(file["windows"])
        baseline = _frame(file["baseline"])
        answers = base = None
        if "answers" in file:  # stores of schema 3 and later
            answers = _frame(file["answers"])
            base = _frame(file["baseline_answers"])
        spectra = _spectra(file)
        landscape = _landscape(file)
        attributes = {k: v.decode("utf-8") if isinstance(v, bytes) else v
                      for k, v in file.attrs.items()}
    joined = models.add_prefix("model_").rename(
        columns={"model_model": "model_name"})
    points = points.join(joined, on="subject")
    done = points.index[points.state == "done"]
    layers = _repeat(points, layers[layers.point.isin(done)])
    windows = _beside(points, windows, baseline, "window",
                      ["tokens", "bytes", "nll"])
    if answers is None:
        answers = pd.DataFrame(columns=["key", "model", "point", "request"])
    else:
        answers = _beside(points, answers, base, "request",
                          [c for c in base if c not in ("subject", "request")])
    return Store(points, layers, windows, answers, spectra, models, *landscape,
                 attributes)
