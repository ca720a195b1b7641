# SPDX-License-Identifier: GPL-3.0-or-later
"""Every architecture live: random models of random sizes, made and run by
transformers, against our program: logits, NLL, and what each linear layer
takes. The cases are those of tests/golden/architectures.

Prints a table as parity.py does. Exit status 1 when a row fails.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/golden/architectures"))

import make_architectures as golden  # noqa: E402
from table import Table  # noqa: E402

LENGTHS = (37, 600)  # one shorter and one longer than a tile of keys
SITES = ("attn_in", "attn_out", "mlp_in", "mlp_out")


def layers_of(build, model):
    """Our layers: [{site, in, tensor of block 0}]."""
    done = subprocess.run([f"{build}/ptqsweep", "inspect", str(model), "--json"],
                          check=True, capture_output=True, text=True)
    info = json.loads(done.stdout)
    return info["layers"], info["n_blocks"]


def ours(build, model, ids, flags=()):
    """Logits, NLL sum, and {tensor: input} of one window; NaN where an expert
    does not get a token."""
    layers, n_blocks = layers_of(build, model)
    # An expert's sites follow those of the one before.
    widths, at_site = {}, {}
    for layer in layers:
        key = (layer.get("expert", 0), SITES.index(layer["site"]))
        if key[1] < 2:
            key = (-1, key[1])
        widths[key] = layer["in"]
        at_site.setdefault(key, []).append(layer["tensor"])
    with tempfile.TemporaryDirectory() as scratch:
        np.save(f"{scratch}/ids.npy", ids[None].astype(np.uint32))
        done = subprocess.run(
            [f"{build}/tests/parity/parity_logits", *flags, str(model),
             f"{scratch}/ids.npy", f"{scratch}/logits", f"{scratch}/inputs"],
            check=True, capture_output=True, text=True)
        logits = np.fromfile(f"{scratch}/logits", np.float32)
        raw = np.fromfile(f"{scratch}/inputs", np.float32)
    inputs, at = {}, 0
    for block in range(n_blocks):
        for key in sorted(widths):
            size = len(ids) * widths[key]
            x = raw[at:at + size].reshape(len(ids), widths[key])
            at += size
            for tensor in at_site[key]:
                inputs[tensor.replace(".0.", f".{block}.", 1)] = x
    assert at == len(raw)
    return logits.reshape(len(ids), -1), float(done.stdout), inputs


class Routing:
    """Which tokens each expert of transformers' mixtures gets."""

    def __init__(self, net, names):
        self.chosen, self.handles = {}, []
        self.used = getattr(net.config, "num_experts_per_tok", 0)
        modules = dict(net.named_modules())
        for name in {n.split(".experts.")[0] for n in names
                     if ".experts." in n}:
            self.handles.append(modules[name + ".gate"].register_forward_hook(
                self.route(name)))

    def route(self, mixture):
        import torch

        def hook(_module, _args, odds):
            odds = torch.softmax(odds.detach(), -1, dtype=torch.float)
            self.chosen[mixture] = torch.topk(odds, self.used, -1).indices
        return hook

    def rows(self, name):
        """Tokens of an expert's tensor, by rank, then token, as the mixtures
        do it; None of another tensor."""
        import torch
        if ".experts." not in name:
            return None
        mixture, expert = name.split(".experts.")
        mine = self.chosen[mixture] == int(expert.split(".")[0])
        return torch.where(mine.T)[1]


def theirs(net, ids, names):
    """The same of transformers; `names` are the tensors to watch."""
    import torch
    inputs, modules = {}, dict(net.named_modules())
    routing = Routing(net, names)
    handles = routing.handles

    def watch(name):
        def hook(_module, args):
            x = args[0].detach().numpy()
            inputs[name] = x = x.reshape(-1, x.shape[-1])
            rows = routing.rows(name)
            if rows is not None:
                inputs[name] = np.full((len(ids), x.shape[-1]), np.nan,
                                       np.float32)
                inputs[name][rows] = x
        return hook

    for name in names:
        module = modules[name.removesuffix(".weight")]
        handles.append(module.register_forward_pre_hook(watch(name)))
    logits = golden.logits(net, ids)
    for handle in handles:
        handle.remove()
    logp = torch.log_softmax(torch.from_numpy(logits[:-1]).double(), -1)
    target = torch.from_numpy(ids[1:].astype(np.int64))
    return logits, float(-logp.gather(-1, target[:, None]).sum()), inputs


def compare(table, build, case, seed):
    """The worst of all windows, one row a quantity."""
    rng = np.random.default_rng([seed, sum(case.encode())])
    sizes = golden.draw(rng)
    net = golden.build(case, sizes, seed)
    top = 0.0
    worst = {"logits": (-1.0,), "NLL (relative)": (-1.0,),
             "inputs (relative)": (-1.0,)}

    def note(what, off, our, their):
        worst[what] = max(worst[what], (float(off), float(our), float(their)))

    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        golden.save(net, model)
        for length in LENGTHS:
            ids = rng.integers(0, sizes["vocab"], length)
            logits, nll, inputs = ours(build, model, ids)
            their_logits, their_nll, their_inputs = theirs(net, ids, inputs)
            at = np.unravel_index(np.argmax(np.abs(logits - their_logits)),
                                  logits.shape)
            top = max(top, float(np.abs(their_logits).max()))
            note("logits", abs(logits[at] - their_logits[at]), logits[at],
                 their_logits[at])
            note("NLL (relative)", abs(nll / their_nll - 1), nll, their_nll)
            for name, x in inputs.items():
                y = their_inputs.get(name)
                if y is None:  # an expert without tokens is not called
                    assert np.isnan(x).all(), name
                    continue
                assert (np.isnan(x) == np.isnan(y)).all(), name
                if np.isnan(x).all():
                    continue
                y = np.where(np.isnan(y), 0.0, y)
                x = np.where(np.isnan(x), 0.0, x)
                at = np.unravel_index(np.argmax(np.abs(x - y)), x.shape)
                note("inputs (relative)", abs(x[at] - y[at]) / np.abs(y).max(),
                     x[at], y[at])
    # Random tied heads make logits of hundreds, whose last bit is 3e-5.
    bounds = {"logits": max(1e-4, 5e-6 * top), "NLL (relative)": 1e-5, "inputs (relative)": 1e-5}
    for what, (off, our, their) in worst.items():
        table.row(f"{case} {what}", our, their, off, bounds[what])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", nargs="*", default=[],
                        help="cases that ran elsewhere")
    parser.add_argument("--list", action="store_true",
                        help="print the cases of this transformers and stop")
    args = parser.parse_args()
    cases = [c for c in golden.CASES
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
