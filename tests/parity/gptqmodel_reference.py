#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPTAQ and GPTQ with act_group_aware against GPTQModel 7.7.0's own classes.

    gptqmodel_reference.py --tool build/tests/parity/quantize_layer

Wants `gptqmodel` importable (it runs on a CPU), and PyTorch. Prints a row a
configuration and exits with 1 when one misses a bound: 99.9 % of the codes
and tr(E H E') within 0.1 % in float64, 99.5 % and 0.3 % in float32. GPTQModel
works in float32; in float64 its GPTAQ is given float64 tensors. Rows that
meet a tie (gptq_reference.py) are avoided by asymmetric integers; symmetric
ones are compared by the trace alone.
"""
import argparse
import pathlib
import sys

import numpy as np
import torch
from gptqmodel.looper.named_module import NamedModule
from gptqmodel.looper.native_processor import NATIVE_INPUTS_STATE_KEY
from gptqmodel.quantization.config import GPTAQConfig, QuantizeConfig
from gptqmodel.quantization.gptaq import GPTAQ
from gptqmodel.quantization.gptq import GPTQ

import gptq_reference as reference

CASES = [("int4:asym", "32", {}), ("int3:asym", "64", {}),
         ("int4:asym", "row", {"alpha": 1.0}),
         ("int4:asym", "32", {"act_order": True, "static_groups": True}),
         ("int2:asym", "64", {"damp": 0.05}), ("int4", "64", {})]
AWARE = [("int4:asym", "32"), ("int3:asym", "64"), ("int2:asym", "128")]
BOUNDS = reference.BOUNDS


def inputs(cols, tokens, seed):
    """The unquantized model's inputs, and the same behind some errors."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((cols, cols)))[0]
    fp = rng.standard_normal((tokens, cols)) * (1 + np.arange(cols)) ** -0.5
    fp = fp @ basis * np.exp(0.5 * rng.standard_normal(cols))
    error = 0.2 * fp @ rng.standard_normal((cols, cols)) / np.sqrt(cols)
    return fp, 0.95 * fp + error


def theirs(w, h, cross, dtype, group, options, kind):
    _, bits, sym = reference.parse_dtype(dtype)
    layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
    layer.weight.data = torch.from_numpy(w.copy()).to(kind)
    named = NamedModule(layer, name="layer", full_name="layer", layer_index=0)
    named.state[NATIVE_INPUTS_STATE_KEY] = []
    config = QuantizeConfig(
        bits=bits, group_size=-1 if group == "row" else int(group), sym=sym,
        desc_act=options.get("act_order", False), act_group_aware=False,
        static_groups=options.get("static_groups", False), mse=0.0,
        damp_percent=options.get("damp", 0.01),
        gptaq=GPTAQConfig(alpha=options.get("alpha", 0.25)))
    job = GPTAQ(named, config)
    job.quantizer.configure(perchannel=True)
    job.H = torch.from_numpy(h.copy()).to(kind)
    job.dXXT = torch.from_numpy(cross.copy()).to(kind)
    job.nsamples = job._gptaq_batch_request_count = 1
    job.module_copy = layer.weight.data.clone()
    return job.quantize()[0].double().numpy()


def group_aware(w, h, dtype, group):
    """GPTQ as GPTQModel does it by default, in float32: it is given inputs
    whose second moment is h."""
    _, bits, sym = reference.parse_dtype(dtype)
    layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
    layer.weight.data = torch.from_numpy(w.copy())
    config = QuantizeConfig(bits=bits, group_size=int(group), sym=sym,
                            desc_act=False, act_group_aware=True,
                            static_groups=False, mse=0.0, damp_percent=0.01)
    job = GPTQ(NamedModule(layer, name="layer", full_name="layer",
                           layer_index=0), config)
    job.quantizer.configure(perchannel=True)
    x = np.linalg.cholesky(h).T * np.sqrt(len(h))
    job.add_batch(torch.from_numpy(x.astype(np.float32))[None], None)
    return job.quantize()[0].double().numpy()


def report(what, dtype, group, options, ours, there, scale, w, h, precision):
    """Prints a row; whether it is within the bounds."""
    least, most = BOUNDS[precision]
    codes = reference.same_codes(ours, there, scale, np.full(len(w), True))
    ratio = (reference.trace_error(w, ours, h)
             / reference.trace_error(w, there, h) - 1.0)
    good = abs(ratio) <= most and (codes >= least
                                   or not dtype.endswith("asym"))
    print(f"{what} {dtype:10} {group:>6} {str(options):48} {precision} "
          f"{100 * codes:8.3f}% {100 * ratio:+8.4f}%"
          f"{'' if good else '  MISSED'}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", required=True, type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--cols", type=int, default=384)
    args = parser.parse_args()
    w, _ = reference.correlated(args.rows, args.cols, 16, 7)
    fp, q = inputs(args.cols, 4 * args.cols, 5)
    h, cross = q.T @ q / len(q), (fp - q).T @ q / len(q)
    failed = 0
    for dtype, group, options in CASES:
        y, _, params = reference.run_tool(args.tool, w, h, dtype, group,
                                          options, "gptaq", cross)
        scale = reference.scale_of_weights(params, h, w.shape, group, options)
        for precision in BOUNDS:
            there = theirs(w, h, cross, dtype, group, options,
                           getattr(torch, precision))
            failed += not report("gptaq", dtype, group, options, y, there,
                                 scale, w, h, precision)
    w, h = reference.correlated(args.rows, args.cols, 4 * args.cols, 7)
    for dtype, group in AWARE:
        options = {"act_order": "group"}
        y, _, params = reference.run_tool(args.tool, w, h, dtype, group,
                                          options)
        scale = params[:, 0].reshape(len(w), -1)
        scale = scale[:, np.arange(w.shape[1]) // int(group)]
        failed += not report("gptq ", dtype, group, options, y,
                             group_aware(w, h, dtype, group), scale, w, h,
                             "float32")
    print(f"{failed} missed" if failed else "all within bounds")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
