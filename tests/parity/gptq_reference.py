#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPTQ against its reference implementation, layer by layer, with the same H.

    gptq_reference.py compare --gptq DIR --tool build/tests/quantize_layer
    gptq_reference.py bench   --gptq DIR [--n 4096] [--threads 2]

DIR is a checkout of IST-DASLab/gptq; its own classes run here, on the CPU, in
float64 and in float32. `compare` prints a row a configuration and exits with
1 when one misses a bound: 99.9 % of the codes and tr(E H E') within 0.1 %
against float64, 99.5 % and 0.3 % against float32.

Rows of weights that meet a tie are left out of the codes, not of the trace.
In a symmetric group the largest magnitude lies exactly between two codes; at
the first column of a block no feedback has moved it since the group was
fitted, and if it is negative the last bit of the arithmetic chooses. Behind
the first block that bit is noise of H^-1 and of the products: the reference
in float64 then differs from itself when the last bits of H change, and the
rest of the row differs with it (src/quant/README.md). The columns `all rows`
and `tied rows` say what leaving them out hides. Against float32 a tie in the
first block counts too.

MX formats, which the reference does not have, are compared with a float64
model in numpy (mx_model). `bench` prints the seconds the reference takes.
"""
import argparse
import contextlib
import io
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

# dtype, group, options of the method; sizes are compare's or a golden's
CASES = [
    ("int4", "32", {}),
    ("int4", "64", {}),
    ("int4", "128", {}),
    ("int4", "256", {}),
    ("int4", "row", {}),
    ("int4", "tensor", {}),
    ("int3", "32", {}),
    ("int3", "row", {}),
    ("int2", "64", {}),
    ("int8", "64", {}),
    ("int4:asym", "32", {}),
    ("int3:asym", "128", {}),
    ("int3:asym", "row", {}),
    ("int4", "48", {"block": 64}),
    ("int4", "64", {"damp": 0.1}),
    ("int4", "64", {"act_order": True, "static_groups": True}),
    ("int3:asym", "32", {"act_order": True, "static_groups": True}),
    ("int4", "64", {"act_order": True}),
    ("int3", "32", {"static_groups": True}),
    ("int4", "32", {"group_params": "fresh"}),
    ("mxint3", "128", {}),
    ("mxint3", "32", {}),
    ("mxint4", "16", {}),
    ("mxint4", "row", {}),
    ("mxint2", "32", {}),
    ("mxint4", "32", {"act_order": True, "static_groups": True}),
]
BOUNDS = {"float64": (0.999, 0.001), "float32": (0.995, 0.003)}


def load_reference(directory):
    """GPTQ and Quantizer of a checkout; nothing of it wants a GPU here."""
    sys.path.insert(0, str(directory))
    torch.cuda.synchronize = lambda *a: None
    with contextlib.redirect_stdout(io.StringIO()):
        import gptq
        import quant
    return gptq.GPTQ, quant.Quantizer


def parse_dtype(dtype):
    name, _, option = dtype.partition(":")
    family = name.rstrip("0123456789")
    return family, int(name[len(family):]), option != "asym"


def width_of(group, cols):
    return cols if group in ("row", "tensor") else int(group)


class Ties:
    """Rows that a tie splits: x / scale within 1e-9 of halfway between two
    codes, which the range does not clamp to one. Wraps the reference's
    quantize, called once a column."""

    def __init__(self, rows, block):
        self.block, self.column = block, 0
        self.first, self.later = np.zeros(rows, bool), np.zeros(rows, bool)

    def wrap(self, quantize):
        def watched(x, scale, zero, maxq):
            at = (x / scale + zero).numpy().ravel()
            tie = np.abs(at - np.floor(at) - 0.5) < 1e-9
            tie &= (at > 0) & (at < int(maxq))
            if self.column < self.block:
                self.first |= tie
            else:
                self.later |= tie
            self.column += 1
            return quantize(x, scale, zero, maxq)
        return watched


def block_of(group, options):
    if options.get("group_params") == "fresh":
        return int(group)
    return options.get("block", 128)


def run_reference(classes, w, h, dtype, group, options, precision, ties=None):
    """Quantized weights, as the reference computes them in `precision`; marks
    the rows of `ties`."""
    GPTQ, Quantizer = classes
    module = sys.modules[GPTQ.__module__]
    quantize = module.quantize
    if ties is not None:
        module.quantize = ties.wrap(quantize)
    family, bits, sym = parse_dtype(dtype)
    assert family == "int"
    to_float, default = torch.Tensor.float, torch.get_default_dtype()
    kind = getattr(torch, precision)
    torch.set_default_dtype(kind)
    torch.Tensor.float = lambda t: t.to(kind)
    try:
        layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        layer.weight.data = torch.from_numpy(w.copy()).to(kind)
        job = GPTQ(layer)
        job.H = torch.from_numpy(h.copy()).to(kind)  # changed in place
        job.quantizer = Quantizer()
        job.quantizer.configure(bits, perchannel=group != "tensor", sym=sym,
                                mse=False)
        whole = group in ("row", "tensor")
        with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            job.fasterquant(
                blocksize=block_of(group, options),
                percdamp=options.get("damp", 0.01),
                groupsize=-1 if whole else int(group),
                actorder=options.get("act_order", False),
                static_groups=options.get("static_groups", False))
        return layer.weight.data.double().numpy()
    finally:
        module.quantize = quantize
        torch.Tensor.float = to_float
        torch.set_default_dtype(default)


def mx_step(block, bits):
    most = np.abs(block).max(axis=1)
    _, e = np.frexp(most)  # most = m 2^e, 1/2 <= m < 1
    return np.where(most > 0, np.ldexp(1.0, e - 1 - (bits - 2)), 0.0)


def mx_round(w, step, bits):
    top = 2 ** (bits - 1) - 1
    safe = np.where(step > 0, step, 1.0)
    return step * np.clip(np.rint(w / safe), -top, top)


def mx_model(w, h, dtype, group, options):
    """GPTQ with MXINT in float64: column by column, the step of a block of the
    format fixed when the block of columns that holds its first one begins."""
    _, bits, _ = parse_dtype(dtype)
    rows, cols = w.shape
    w, h = w.astype(np.float64).copy(), h.copy()
    width, block = width_of(group, cols), options.get("block", 128)
    steps = np.zeros((rows, -(-cols // width)))
    static = options.get("static_groups", False) or group in ("row", "tensor")
    if group in ("row", "tensor"):
        whole = w if group == "row" else w.reshape(1, -1)
        steps[:, 0] = mx_step(whole, bits)
    dead = np.diag(h) == 0
    h[dead, dead] = 1.0
    w[:, dead] = 0.0
    if static and group not in ("row", "tensor"):
        for g in range(steps.shape[1]):
            steps[:, g] = mx_step(w[:, g * width:(g + 1) * width], bits)
    order = np.arange(cols)
    if options.get("act_order"):
        order = np.argsort(-np.diag(h), kind="stable")
    w, h = w[:, order], h[np.ix_(order, order)]
    h[np.diag_indices(cols)] += options.get("damp", 0.01) * np.diag(h).mean()
    u = np.linalg.cholesky(np.linalg.inv(h)).T
    y = np.zeros_like(w)
    for i1 in range(0, cols, block):
        i2 = min(i1 + block, cols)
        for c in range(-(-i1 // width) * width, i2, width):
            if not static:
                steps[:, c // width] = mx_step(w[:, c:c + width], bits)
        errors = np.zeros((rows, i2 - i1))
        for i in range(i1, i2):
            now = w[:, i] - errors[:, :i - i1] @ u[i1:i, i]
            g = (order[i] if static else i) // width
            y[:, i] = mx_round(now, steps[:, g], bits)
            errors[:, i - i1] = (now - y[:, i]) / u[i, i]
        w[:, i2:] -= errors @ u[i1:i2, i2:]
    out = np.empty_like(y)
    out[:, order] = y
    return out


def correlated(rows, cols, tokens, seed, dead=0):
    """Weights and the second moment of inputs with a decaying spectrum, a few
    strong features and unequal scales; `dead` inputs are always zero."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((cols, cols)))[0]
    spectrum = (1.0 + np.arange(cols)) ** -0.5
    x = (rng.standard_normal((tokens, cols)) * spectrum) @ basis
    x *= np.exp(0.5 * rng.standard_normal(cols))
    x[:, rng.choice(cols, 3, replace=False)] *= 8.0
    x[:, rng.choice(cols, dead, replace=False)] = 0.0
    x /= np.sqrt((x * x).mean())
    w = rng.standard_t(6, (rows, cols)) * 0.02
    return w.astype(np.float32), x.T @ x / tokens


def trace_error(w, y, h):
    e = w.astype(np.float64) - y
    return float(np.einsum("ij,jk,ik->", e, h, e, optimize=True))


def run_tool(tool, w, h, dtype, group, options, method="gptq", cross=None):
    """Quantized weights and codes of our program."""
    with tempfile.TemporaryDirectory() as d:
        d = pathlib.Path(d)
        w.tofile(d / "w")
        h.tofile(d / "h")
        words = [f"{k}={str(v).lower()}" for k, v in options.items()]
        if cross is not None:
            cross.tofile(d / "cross")
            words.append(f"@cross={d / 'cross'}")
        subprocess.run(
            [tool, method, dtype, group, *map(str, w.shape), d / "w", d / "h",
             d / "out", *words], check=True, stdout=subprocess.DEVNULL)
        y = np.fromfile(d / "out.y", np.float32).reshape(w.shape)
        q = np.fromfile(d / "out.q", np.int16).reshape(w.shape)
        params = np.fromfile(d / "out.params", np.float32).reshape(-1, 2)
    return y, q, params


def scale_of_weights(params, h, shape, group, options):
    """Our scale of each weight [rows, cols]; groups are runs of columns, in
    the order of quantization unless they are static."""
    rows, cols = shape
    scale = params[:, 0]
    if group == "tensor":
        return np.full(shape, scale[0])
    scale = scale.reshape(rows, -1)
    at = np.arange(cols)
    if options.get("act_order") and not options.get("static_groups"):
        diagonal = np.where(np.diag(h) == 0, 1.0, np.diag(h))
        at[np.argsort(-diagonal, kind="stable")] = np.arange(cols)
    return scale[:, at // width_of(group, cols)]


def same_codes(a, b, scale, rows):
    """Share of equal codes in the rows: values a code apart are a scale
    apart. 1 where there is no row."""
    same = np.abs(a - b)[rows] <= 0.5 * scale[rows]
    return float(same.mean()) if same.size else 1.0


def compare_case(classes, tool, w, h, dtype, group, options):
    """(precision, codes, codes of all rows, share of tied rows, tr(E H E')
    relative to theirs, good) against each rival."""
    y, _, params = run_tool(tool, w, h, dtype, group, options)
    scale = scale_of_weights(params, h, w.shape, group, options)
    ties = Ties(w.shape[0], block_of(group, options))
    rivals = {}
    if dtype.startswith("mx"):
        rivals["float64"] = mx_model(w, h, dtype, group, options)
    else:
        for precision in BOUNDS:
            rivals[precision] = run_reference(
                classes, w, h, dtype, group, options, precision,
                ties if precision == "float64" else None)
    for precision, theirs in rivals.items():
        tied = ties.later
        if precision == "float32":
            tied = ties.first | ties.later
        codes = same_codes(y, theirs, scale, ~tied)
        everywhere = same_codes(y, theirs, scale, np.full(len(w), True))
        ratio = trace_error(w, y, h) / trace_error(w, theirs, h) - 1.0
        least, most = BOUNDS[precision]
        yield (precision, codes, everywhere, float(tied.mean()), ratio,
               codes >= least and abs(ratio) <= most)


def compare(args):
    classes = load_reference(args.gptq)
    w, h = correlated(args.rows, args.cols, 4 * args.cols, 7, dead=2)
    failed = 0
    print(f"{'dtype':10} {'group':>6} {'options':36} {'against':8} "
          f"{'codes':>9} {'all rows':>9} {'tied rows':>9} {'tr(EHE)':>9}")
    for dtype, group, options in CASES:
        text = ",".join(f"{k}={v}" for k, v in options.items())
        for precision, codes, everywhere, tied, ratio, good in compare_case(
                classes, args.tool, w, h, dtype, group, options):
            failed += not good
            print(f"{dtype:10} {group:>6} {text:36} {precision:8} "
                  f"{100 * codes:8.3f}% {100 * everywhere:8.3f}% "
                  f"{100 * tied:8.2f}% {100 * ratio:+8.4f}%"
                  f"{'' if good else '  MISSED'}", flush=True)
    print(f"{failed} missed" if failed else "all within bounds")
    return 1 if failed else 0


def bench(args):
    torch.set_num_threads(args.threads)
    classes = load_reference(args.gptq)
    rng = np.random.default_rng(1)
    n = args.n
    w = rng.standard_normal((n, n)).astype(np.float32)
    x = rng.standard_normal((2 * n, n)).astype(np.float32)
    h = (x.T @ x / (2 * n)).astype(np.float64)
    for group in ("128", "64"):
        start = time.perf_counter()
        run_reference(classes, w, h, "int4", group, {}, "float32")
        print(f"reference, int4 group {group}, {n} x {n}, {args.threads} "
              f"threads: {time.perf_counter() - start:.2f} s")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in (("compare", compare), ("bench", bench)):
        sub = commands.add_parser(name)
        sub.set_defaults(run=function)
        sub.add_argument("--gptq", required=True, type=pathlib.Path)
        if name == "compare":
            sub.add_argument("--tool", required=True)
            sub.add_argument("--rows", type=int, default=576)
            sub.add_argument("--cols", type=int, default=576)
        else:
            sub.add_argument("--n", type=int, default=4096)
            sub.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
