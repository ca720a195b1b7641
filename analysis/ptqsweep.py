# SPDX-License-Identifier: GPL-3.0-or-later
"""A ptqsweep store as tidy pandas data frames.

    import ptqsweep
    store = ptqsweep.read("quick.h5")
    done = store.points[store.points.state == "done"]
    print(done.pivot_table(index="dtype", columns="method", values="dnll"))

Needs h5py, numpy and pandas. Also reads a store that a run is writing: what is
not finished has its state and no numbers.
"""

from dataclasses import dataclass

import h5py
import numpy as np
import pandas as pd

STATES = ["pending", "started", "done", "failed"]
DONE = STATES.index("done")


@dataclass
class Store:
    """points   one row a grid point, with its state and attempts (attempts,
             deaths, seconds, rank, host, message); its model's row joined as
             model_*
    layers   one row a (point, linear layer) of finished points
    windows  one row a (point, window), the unquantized model's beside it
    answers  one row a (point, request), with the right choice and the
             unquantized model's; empty without requests
    spectra  one row an eigenvalue, with model, site, block and index (as in
             `ptqsweep export`; 0 the largest), also called rank
    models   one row a model, with its state
    directions  one row an item of a model's loss landscape, with its state
                and attempts
    profiles    one row a (direction, radius) of finished ones
    direction_layers, ritz  likewise by layer, and of the Hessian's density
    sensitivity  one row a layer rounded alone, what is cheaper to know of it
                beside it; all five empty without measure.landscape
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
    sensitivity: pd.DataFrame
    attributes: dict


def _frame(dataset):
    return _decode(pd.DataFrame(dataset[:]), dataset.dtype)


def _decode(frame, dtype):
    for name, kind in dtype.fields.items():
        if kind[0].kind == "S":
            frame[name] = frame[name].str.decode("utf-8")
    return frame


def _owners(file, name, states):
    """One row an owner, with its state. A state is written after all that it
    vouches for, so whoever reads `states` first reads whole rows; others may be
    half written, and hold no numbers."""
    frame = _frame(file[name])
    frame["state"] = [STATES[s] for s in states]
    numbers = frame.select_dtypes("float").columns
    frame.loc[frame.state != "done", numbers] = np.nan
    return frame


def _parts(file, name, first, states):
    """Rows of finished owners. Rows that wait are zero and say nothing of whose
    they are: their place does."""
    dataset = file[name]
    owner = np.repeat(np.arange(len(states)), np.diff(file[f"index/{first}"][:]))
    rows = dataset[:][np.asarray(states)[owner] == DONE]
    return _decode(pd.DataFrame(rows), dataset.dtype)


def _repeat(points, rows):
    """What rows of a point repeat of it, in front of them."""
    columns = ["key", "model", "family", "dtype", "method", "options", "group"]
    head = points[columns].iloc[rows["point"].to_numpy()]
    return pd.concat([head.reset_index(drop=True),
                      rows.reset_index(drop=True)], axis=1)


SPECTRA = ["model", "calibration", "subject", "site", "block", "index",
           "eigenvalue", "n_tokens", "rank"]


def _spectra(file, models):
    """Columns of the export, and `rank`: spectra.index is the frame's own."""
    parts = []
    states = file["spectra_state"][:] if "spectra_state" in file else []
    for i, state in enumerate(states):
        slot = file["index/spectra"][i]
        group, site = slot["group"].decode(), slot["site"].decode()
        if state != DONE:
            continue
        values = file["spectra"][group][site][:]
        blocks, d = values.shape
        subject = int(slot["subject"])
        index = np.tile(np.arange(d), blocks)
        parts.append(pd.DataFrame({
            "model": models.model[subject],
            "calibration": models.calibration[subject],
            "subject": subject, "site": site,
            "block": np.repeat(np.arange(blocks), d), "index": index,
            "eigenvalue": values.ravel(),
            "n_tokens": int(file["spectra_tokens"][i]), "rank": index},
            columns=SPECTRA))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(
        columns=SPECTRA)


def _beside(points, rows, baseline, key, columns):
    """Rows of finished points with `columns` of the unquantized model's."""
    rows = rows.copy()
    rows["subject"] = points.subject.iloc[rows.point.to_numpy()].to_numpy()
    rows = rows.merge(baseline[["subject", key, *columns]],
                      on=["subject", key], how="left",
                      suffixes=("", "_reference"))
    return _repeat(points, rows)


def _landscape(file):
    """Directions with their states, and the parts of finished ones."""
    if "landscape" not in file:  # stores of before schema 3
        return [pd.DataFrame(columns=["key", "model", "kind"])] * 4
    states = file["landscape/state"][:]
    directions = _owners(file, "landscape/directions", states).join(
        _frame(file["landscape/attempts"]))
    tables = [directions]
    for name, first in (("profiles", "first_profile"),
                        ("layers", "first_direction_layer"),
                        ("ritz", "first_ritz")):
        rows = _parts(file, f"landscape/{name}", first, states)
        columns = ["key", "model", "kind", "scaling", "number", "dtype",
                   "group"]
        head = directions[columns].iloc[rows["direction"].to_numpy()]
        tables.append(pd.concat([head.reset_index(drop=True),
                                 rows.reset_index(drop=True)], axis=1))
    return tables


SENSITIVITY = ["model", "calibration", "evaluation", "dtype", "group",
               "block", "layer", "weights", "alone", "alone_se", "restored",
               "restored_se", "interaction", "dnll", "size_square",
               "weight_noise", "error_select", "err_hessian", "output_noise",
               "gradient_norm", "trace", "trace_noise", "fisher",
               "fisher_noise", "fisher_diagonal", "kronecker",
               "kronecker_trace", "slope", "curvature", "quadratic",
               "gauss_newton", "err_top", "size_top"]


def _sensitivity(directions, layers, points, point_layers, models):
    """Layers rounded alone; E of the RTN direction and point of their dtype and
    group, H and the gradient of the direction of kind hessian. NaN: not
    measured."""
    if "direction" not in layers:
        return pd.DataFrame(columns=SENSITIVITY)
    columns = ["direction", "layer", "weights", "outputs", "weight_norm",
               "size", "alone", "alone_se", "restored", "restored_se",
               "gradient_norm", "trace", "fisher", "output_trace",
               "output_noise", "slope", "curvature", "fisher_diagonal",
               "kronecker", "gauss_newton", "err_top",
               "size_top"]  # older stores lack some of them
    layers = layers.reindex(columns=["kind", "dtype", "group", "number"]
                            + columns)
    layers["subject"] = directions.subject.iloc[layers.direction].to_numpy()

    def beside(kind, keys, taken):
        rows = layers[layers.kind == kind].drop_duplicates(keys)
        return s.merge(rows[keys + taken], on=keys, how="left")[taken]

    s = layers[layers.kind == "sensitivity"].reset_index(drop=True)
    same = ["subject", "dtype", "group", "layer"]
    s = s[same + ["number", "direction", "weights", "outputs", "weight_norm",
                  "size", "alone", "alone_se", "restored", "restored_se"]]
    e = beside("rtn", same, ["output_noise", "slope", "curvature",
                             "fisher_diagonal", "kronecker", "gauss_newton",
                             "err_top", "size_top"])
    h = beside("hessian", ["subject", "layer"],
               ["gradient_norm", "trace", "fisher", "output_trace"])
    rounded = point_layers[(point_layers.method == "rtn")
                           & (point_layers.options == "")]
    rounded = rounded.assign(
        subject=points.subject.iloc[rounded.point].to_numpy())
    p = s.merge(rounded.drop_duplicates(same)[same + ["sqnr_output",
                                                      "err_hessian"]],
                on=same, how="left")
    d = directions.iloc[s.direction].reset_index(drop=True)
    noise = s["size"] ** 2 * s.weight_norm ** 2
    outputs = s.outputs.where(s.outputs > 0)
    return s.assign(
        model=d.model,
        calibration=models.calibration.iloc[s.subject].to_numpy(),
        evaluation=models.evaluation.iloc[s.subject].to_numpy(),
        block=s.number, interaction=s.restored - s.alone,
        dnll=d.dnll, size_square=s["size"] ** 2, weight_noise=noise,
        error_select=10.0 ** (-p.sqnr_output / 10.0),
        err_hessian=p.err_hessian, output_noise=e.output_noise,
        gradient_norm=h.gradient_norm, trace=h.trace,
        trace_noise=h.trace / s.weights * noise,
        fisher=h.fisher,
        fisher_noise=h.fisher / s.weights * noise,
        fisher_diagonal=e.fisher_diagonal,
        kronecker=e.kronecker,
        kronecker_trace=h.output_trace / outputs * e.output_noise,
        slope=e.slope, curvature=e.curvature,
        quadratic=e.slope + e.curvature / 2.0,
        gauss_newton=e.gauss_newton,
        err_top=e.err_top, size_top=e.size_top)[SENSITIVITY]


def read(path):
    """Every table of the store at `path`; see Store."""
    with h5py.File(path, "r") as file:
        states, model_states = file["state"][:], file["models_state"][:]
        points = _owners(file, "points", states)
        points = points.join(_frame(file["attempts"]))
        points["subject"] = file["index/subject"][:]
        models = _owners(file, "models", model_states)
        layers = _parts(file, "layers", "first_layer", states)
        windows = _parts(file, "windows", "first_window", states)
        baseline = _parts(file, "baseline", "first_baseline", model_states)
        answers = base = None
        if "answers" in file:  # stores of schema 3 and later
            answers = _parts(file, "answers", "first_answer", states)
            base = _parts(file, "baseline_answers", "first_baseline_answer",
                          model_states)
        spectra = _spectra(file, models)
        landscape = _landscape(file)
        attributes = {k: v.decode("utf-8") if isinstance(v, bytes) else v
                      for k, v in file.attrs.items()}
    joined = models.add_prefix("model_").rename(
        columns={"model_model": "model_name"})
    points = points.join(joined, on="subject")
    layers = _repeat(points, layers)
    windows = _beside(points, windows, baseline, "window",
                      ["tokens", "bytes", "nll"])
    if answers is None:
        answers = pd.DataFrame(columns=["key", "model", "point", "request"])
    else:
        answers = _beside(points, answers, base, "request",
                          [c for c in base if c not in ("subject", "request")])
    sensitivity = _sensitivity(landscape[0], landscape[2], points, layers,
                               models)
    return Store(points, layers, windows, answers, spectra, models, *landscape,
                 sensitivity, attributes)
