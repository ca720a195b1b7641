# SPDX-License-Identifier: GPL-3.0-or-later
"""Every architecture's gradient, Hessian- and Gauss-Newton-vector products live:
random models of random sizes, PyTorch in float64 against our float64 and float32
builds.
The cases are those of tests/golden/architectures.

Prints a table as parity.py does. Exit status 1 when a row fails.
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/golden/gradients"))

import make_gradients as exact  # noqa: E402
from make_gradients import golden  # noqa: E402
from table import Table  # noqa: E402

LENGTHS = (37, 270)  # the second longer than a tile of keys
BOUNDS = {64: 1e-9, 32: 1e-4}


def draw(rng):
    """Sizes for double backward passes: smaller than the forward check's."""
    sizes = golden.draw(rng)
    return dict(sizes, vocab=int(rng.integers(50, 200)), blocks=2,
                inner=int(rng.integers(20, 90)))


def ours(build, bits, model, windows, directions):
    """NLL, slopes, gradient, products with Hessian and Gauss-Newton matrix."""
    program = f"{build}/tests/parity/parity_gradient" + (
        "64" if bits == 64 else "")
    k = len(directions)
    with tempfile.TemporaryDirectory() as scratch:
        np.save(f"{scratch}/ids.npy", np.stack(windows).astype(np.uint32))
        np.concatenate(directions).tofile(f"{scratch}/e")
        subprocess.run([program, str(model), f"{scratch}/ids.npy",
                        f"{scratch}/e", f"{scratch}/out"], check=True)
        out = np.fromfile(f"{scratch}/out")
    rest = out[1 + k:].reshape(1 + 2 * k, -1)
    return out[0], out[1:1 + k], rest[0], rest[1:1 + k], rest[1 + k:]


def off(mine, theirs, beside=0.0):
    """Relative to the norm, or to that of what stands beside it, if larger: of
    a model that is sure of every token p - p^2 is what rounding leaves."""
    return float(np.linalg.norm(mine - theirs) /
                 max(np.linalg.norm(theirs), np.linalg.norm(beside)))


def compare(table, build, case, seed):
    rng = np.random.default_rng([seed, sum(case.encode()), 2])
    sizes = draw(rng)
    net = golden.build(case, sizes, seed)
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        golden.save(net, model)
        names = exact.layers_of(build, model)
        worst = {}
        for length in LENGTHS:
            windows = [rng.integers(0, sizes["vocab"], length)
                       for _ in range(2)]
            wide = exact.widen(lambda: golden.build(case, sizes, seed),
                               windows[0])
            n = sum(p.numel() for p in exact.parameters(wide, names))
            directions = [rng.standard_normal(n) * 0.1 for _ in range(2)]
            with exact.float64():
                total, slopes, gradient, products, _ = exact.derivatives(
                    wide, windows, names, directions)
                halves = exact.gauss_newton(wide, windows, names, directions)
            for bits in BOUNDS:
                nll, sl, g, hv, gv = ours(build, bits, model, windows,
                                          directions)
                rows = {"NLL": abs(nll / total - 1), "gradient": off(g, gradient),
                        "slope": max(abs(a - b) / np.linalg.norm(e) /
                                     np.linalg.norm(gradient)
                                     for a, b, e in zip(sl, slopes, directions)),
                        "Hessian": max(map(off, hv, products)),
                        "Gauss-Newton": max(map(off, gv, halves, products))}
                for what, x in rows.items():
                    at = bits, what
                    worst[at] = max(worst.get(at, 0.0), x)
    for (bits, what), x in worst.items():
        table.row(f"{case} {what} float{bits}", x, 0.0, x, BOUNDS[bits])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", nargs="*", default=[],
                        help="cases that ran elsewhere")
    parser.add_argument("--list", action="store_true",
                        help="print the cases of this transformers and stop")
    parser.add_argument("case", nargs="*")
    args = parser.parse_args()
    cases = args.case or [c for c in golden.CASES
                          if golden.available(c) and c not in args.without]
    if args.list:
        print(*cases)
        return 0
    import transformers
    transformers.logging.set_verbosity_error()
    table = Table()
    for case in cases:
        compare(table, args.build, case, args.seed)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
