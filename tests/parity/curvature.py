# SPDX-License-Identifier: GPL-3.0-or-later
"""The Hessian and the Gauss-Newton matrix of a model of sweeps/zoo beside
curvlinops: eigenvalues, trace and spectral density, and by layer forms with the
latter and with Kronecker's factors, on what the golden logits were computed of.

Eigenvalues are compared as they are, estimates with their own errors. Prints a
table as parity.py does. Exit status 1 when a row fails.
"""
import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/golden/gradients"))

import make_gradients as exact  # noqa: E402
from table import Table  # noqa: E402

WINDOWS, LENGTH, PROBES, STEPS, KAPPA = 2, 48, 24, 60, 3.0


def ours(build, bits, model, windows, grid, sigma):
    program = f"{build}/tests/parity/parity_curvature" + (
        "64" if bits == 64 else "")
    with tempfile.TemporaryDirectory() as scratch:
        np.save(f"{scratch}/ids.npy", windows.astype(np.uint32))
        np.save(f"{scratch}/grid.npy", grid)
        done = subprocess.run(
            [program, str(model), f"{scratch}/ids.npy", str(PROBES),
             str(STEPS), f"{scratch}/grid.npy", repr(sigma)],
            check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def operator(kind, net, names, windows, **options):
    """curvlinops' operator of a kind of the mean NLL by the linear layers'
    weights; KFAC counts tokens by itself."""
    import curvlinops
    import torch
    params = exact.parameters(net, names)
    for module in net.modules():  # PyTorch's SiLU has no forward over reverse
        if isinstance(getattr(module, "act_fn", None), torch.nn.SiLU):
            module.act_fn = torch.nn.Identity()
            module.act_fn.forward = lambda x: x * torch.sigmoid(x)
    ids = torch.from_numpy(windows.astype(np.int64))

    class Scores(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            scores = self.net(x, use_cache=False).logits[:, :-1]
            return scores.reshape(-1, scores.shape[-1])

    if kind != "KFAC":
        options |= {"num_data": ids[:, 1:].numel(),
                    "batch_size_fn": lambda x: x.shape[0] * (x.shape[1] - 1)}
    return getattr(curvlinops, f"{kind}LinearOperator")(
        Scores(), torch.nn.CrossEntropyLoss(), params,
        [(ids, ids[:, 1:].reshape(-1))], check_deterministic=False,
        **options)


def estimate(draws):
    return float(np.mean(draws)), float(np.std(draws, ddof=1) /
                                        math.sqrt(len(draws)))


def signs(params):
    """+1, -1, +1 ... along each parameter, as the program has them."""
    import torch
    return [(1.0 - 2.0 * (torch.arange(p.numel()) % 2)).reshape(p.shape)
            .to(p.dtype) for p in params]


def by_layer(matrix, params):
    """Each layer's part of e' A e."""
    e = signs(params)
    return np.array([float((x * y).sum()) for x, y in zip(e, matrix @ e)])


def compare_ends(table, tag, mine, largest, smallest, near):
    for what, theirs in (("largest", largest), ("smallest", smallest)):
        if len(theirs) == 0:  # of a matrix whose other end is 0, many times
            continue
        off = np.abs(np.array(mine[what])[:len(theirs)] - theirs) / largest[0]
        at = int(np.argmax(off))
        table.row(f"{tag} {what} eigenvalues", mine[what][at], theirs[at],
                  float(off[at]), near)


def compare_forms(table, tag, mine, theirs, near):
    off = np.abs(np.array(mine) - theirs) / np.abs(theirs)
    at = int(np.argmax(off))
    table.row(f"{tag} of layers", mine[at], theirs[at], float(off[at]), near)


def compare_traces(table, tag, mine, draws):
    trace, se = estimate(draws)
    table.row(f"{tag} trace, in its errors", mine["trace"], trace,
              abs(mine["trace"] - trace) / math.hypot(se, mine["trace_se"]),
              4.0)


def compare(table, build, name):
    import curvlinops
    import torch
    from scipy.sparse.linalg import eigsh
    import transformers
    model = TOP / "sweeps/zoo" / name
    windows = np.load(TOP / f"tests/golden/logits/{name}.windows.npy")
    windows = windows[:WINDOWS, :LENGTH]
    net = exact.widen(
        lambda: transformers.AutoModelForCausalLM.from_pretrained(
            model, attn_implementation="eager",
            torch_dtype=torch.float32).eval(), windows[0])
    torch.manual_seed(1)
    names = exact.layers_of(build, model)
    with exact.float64():
        h = operator("Hessian", net, names, windows)
        gn = operator("GGN", net, names, windows)
        factors = operator("KFAC", net, names, windows,
                           fisher_type="empirical")
        as_scipy, gn_scipy = h.to_scipy(), gn.to_scipy()
        largest = np.sort(eigsh(as_scipy, 5, which="LA",
                                return_eigenvectors=False))[::-1]
        smallest = np.sort(eigsh(as_scipy, 3, which="SA",
                                 return_eigenvectors=False))
        gn_largest = np.sort(eigsh(gn_scipy, 5, which="LA",
                                   return_eigenvectors=False))[::-1]
        traces = [float(curvlinops.hutchinson_trace(h, 1))
                  for _ in range(PROBES)]
        gn_traces = [float(curvlinops.hutchinson_trace(gn, 1))
                     for _ in range(PROBES)]
        params = exact.parameters(net, names)
        gn_forms, factor_forms = (by_layer(m, params) for m in (gn, factors))
        ends = float(smallest[0]), float(largest[0])
        grid, density = curvlinops.lanczos_approximate_spectrum(
            h, STEPS, num_points=400, num_repeats=PROBES, kappa=KAPPA,
            boundaries=ends)
    grid, density = grid.numpy().astype(np.float64), density.numpy()
    sigma = ((ends[1] - ends[0]) * 1.1 / 2 * 2 / (STEPS - 1) /
             math.sqrt(8 * math.log(KAPPA)))
    width = float(grid[1] - grid[0])
    for bits, near in ((64, 1e-7), (32, 1e-4)):
        mine = ours(build, bits, model, windows, grid, sigma)
        tag = f"{name} float{bits}"
        compare_ends(table, tag, mine, largest, smallest, near)
        compare_traces(table, tag, mine, traces)
        apart = float(np.abs(np.array(mine["density"]) - density).sum() * width)
        table.row(f"{tag} density, integral of difference",
                  float(np.sum(mine["density"]) * width),
                  float(density.sum() * width), apart, 0.05)
        compare_ends(table, f"{tag} Gauss-Newton", mine["gauss_newton"],
                     gn_largest, [], near)
        compare_traces(table, f"{tag} Gauss-Newton", mine["gauss_newton"],
                       gn_traces)
        compare_forms(table, f"{tag} Gauss-Newton forms",
                      mine["gauss_newton_forms"], gn_forms, near)
        compare_forms(table, f"{tag} Kronecker forms",
                      mine["kronecker_forms"], factor_forms, near)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("model", nargs="*", default=["llama-25k", "opt-25k"])
    args = parser.parse_args()
    import transformers
    transformers.logging.set_verbosity_error()
    table = Table()
    for name in args.model:
        compare(table, args.build, name)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
