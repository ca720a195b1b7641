#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden results of GPTQ on one small layer.

    python make.py --gptq DIR     (a checkout of IST-DASLab/gptq)

The reference's own classes quantize in float64 and in float32; MX formats,
which it does not have, come from the float64 model in gptq_reference.py, its
rounding checked against dmx-compressor by the goldens of the formats. Writes
w.npy [rows, cols], h.npy [cols, cols] (float32 numbers), float64.npy and
float32.npy [case, rows, cols] (dequantized weights) and cases.txt (dtype,
group, options, tr(E H E') in float64 and float32, a line a case) beside
itself. MX cases repeat the float64 model in float32.npy.
"""
import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "parity"))
import gptq_reference as reference  # noqa: E402

ROWS, COLS, TOKENS, SEED = 24, 192, 1024, 11
CASES = [
    ("int4", "32", {}),
    ("int4", "64", {}),
    ("int3", "128", {}),
    ("int4", "row", {}),
    ("int4", "tensor", {}),
    ("int3:asym", "64", {}),
    ("int2:asym", "row", {}),
    ("int4", "48", {"block": 64, "damp": 0.05}),
    ("int4", "32", {"act_order": True, "static_groups": True}),
    ("int4:asym", "64", {"act_order": True}),
    ("int3", "64", {"static_groups": True}),
    ("int4:asym", "32", {"group_params": "fresh"}),
    ("mxint3", "32", {}),
    ("mxint4", "128", {}),
    ("mxint4", "row", {}),
    ("mxint4", "32", {"act_order": True, "static_groups": True}),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gptq", required=True, type=pathlib.Path)
    args = parser.parse_args()
    classes = reference.load_reference(args.gptq)
    w, h = reference.correlated(ROWS, COLS, TOKENS, SEED, dead=1)
    h = h.astype(np.float32)
    np.save(HERE / "w.npy", w)
    np.save(HERE / "h.npy", h)
    h = h.astype(np.float64)
    lines, results = [], {"float64": [], "float32": []}
    for dtype, group, options in CASES:
        errors = []
        for precision, list_ in results.items():
            if dtype.startswith("mx"):
                y = reference.mx_model(w, h, dtype, group, options)
            else:
                y = reference.run_reference(classes, w, h, dtype, group,
                                            options, precision)
            list_.append(y.astype(np.float32))
            errors.append(reference.trace_error(w, y, h))
        text = ",".join(f"{k}={str(v).lower()}" for k, v in options.items())
        lines.append(f"{dtype} {group} {text or '-'} {errors[0]!r} "
                     f"{errors[1]!r}")
    for precision, list_ in results.items():
        np.save(HERE / f"{precision}.npy", np.stack(list_))
    (HERE / "cases.txt").write_text("\n".join(lines) + "\n")
    commit = subprocess.run(["git", "-C", args.gptq, "rev-parse", "HEAD"],
                            capture_output=True, text=True).stdout.strip()
    (HERE / "versions.json").write_text(json.dumps({
        "torch": torch.__version__, "numpy": np.__version__,
        "IST-DASLab/gptq": commit or "unknown",
    }, indent=1) + "\n")


if __name__ == "__main__":
    main()
