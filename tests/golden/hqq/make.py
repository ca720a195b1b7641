#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden codes of HQQ on one small layer.

    python make.py        (needs hqq 0.2.8.post1, termcolor and torch)

The weights are those of tests/golden/gptq/w.npy times a power of two: at 1 no
error is large enough to shrink under the default norm, at 16 many are. hqq
runs on the CPU in float32, axis 1. Writes codes.npy [case, rows, cols] as
uint8, and cases.txt: bits, group, factor, options, mean |w - y|, a line a
case.
"""
import json
import pathlib
from importlib.metadata import version

import numpy as np
import torch
from hqq.core import optimize
from hqq.core.quantize import Quantizer

HERE = pathlib.Path(__file__).resolve().parent
V2 = {"lp_norm": 0.7, "beta": 1e1, "kappa": 1.01, "iters": 20, "tol": 0.0,
      "early_stop": True, "scale_gridsearch": False}
CASES = [
    (4, "32", 1, {}),
    (3, "64", 1, {}),
    (2, "32", 16, {}),
    (3, "row", 16, {}),
    (8, "64", 16, {}),
    (4, "tensor", 1, {}),
    (4, "64", 1, {"optimize": "false"}),
    (4, "32", 1, {"optimize": "false", "round_zero": "true"}),
    (3, "32", 16, {"round_zero": "true"}),
    (3, "32", 16, {"solver": "v2"}),
    (4, "64", 1, {"solver": "v2"}),
]


def quantize(w, bits, group, options):
    if options.get("solver") == "v2":
        Quantizer.optimize_weights = (
            lambda **k: optimize.optimize_weights_proximal_v2(
                **k, opt_params=V2))
    else:
        Quantizer.optimize_weights = optimize.optimize_weights_proximal
    q, meta = Quantizer.quantize(
        w, nbits=bits, axis=1, device="cpu", bitpack=False,
        channel_wise=group != "tensor",
        group_size=None if group in ("row", "tensor") else int(group),
        optimize=options.get("optimize") != "false",
        round_zero=options.get("round_zero") == "true")
    y = ((q - meta["zero"]) * meta["scale"]).reshape(w.shape)
    return q.reshape(w.shape), y


def main():
    w = torch.from_numpy(np.load(HERE.parent / "gptq" / "w.npy"))
    codes, lines = [], []
    for bits, group, factor, options in CASES:
        q, y = quantize(w * factor, bits, group, options)
        codes.append(q.numpy())
        text = ",".join(f"{k}={v}" for k, v in options.items()) or "-"
        error = (w.double() * factor - y.double()).abs().mean().item()
        lines.append(f"{bits} {group} {factor} {text} {error!r}")
    np.save(HERE / "codes.npy", np.stack(codes).astype(np.uint8))
    (HERE / "cases.txt").write_text("\n".join(lines) + "\n")
    (HERE / "versions.json").write_text(json.dumps({
        "hqq": version("hqq"), "torch": torch.__version__,
        "numpy": np.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    main()
