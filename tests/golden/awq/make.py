#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden results of AWQ on one block of two zoo models.

    python make.py --gptq DIR     (PyTorch, transformers, IST-DASLab/gptq)

The search for scales and clips of llm-awq's auto_scale.py and auto_clip.py
is written out here over transformers' modules in float32: the inspected
module runs on the unquantized model's inputs with the site's layers
quantized. The calibration text is the first three windows of
tests/golden/logits/MODEL.windows.npy: 768 tokens, of which llm-awq's clipping
takes each. Integers are quantized by the GPTQ reference's Quantizer, MXINT by
its formula. Writes MODEL.npy [case, weights]: what the layers of block 1 have
in effect, q k v o (gate) up down, one after the other; cases.txt (dtype,
group, options); versions.json.

A group that is clipped at both ends has a range symmetric around 0, so an
asymmetric integer's zero point lies exactly between two codes and the last bit
of float32 chooses. The weights of groups that end so, or whose best limit
depends on that bit, are written as NaN.
"""
import argparse
import json
import pathlib
import sys

import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "tests/parity"))
import gptq_reference as reference  # noqa: E402

BLOCK, WINDOWS, GRID = 1, 3, 20
CASES = [
    ("int4:asym", 16, {}),
    ("mxint4", 16, {}),
    ("int3:asym", "row", {"clip": False}),
    ("int4:asym", 16, {"clip": False, "objective": "site",
                       "scaling": "duo"}),
]
LAYERS = {
    "llama": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
              "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
              "mlp.down_proj"],
    "opt": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
            "self_attn.out_proj", "fc1", "fc2"],
}
# layers of a site, the module inspected (None: the layer), the layer before
# that takes the inverse (None: a norm)
SITES = {
    "llama": [(LAYERS["llama"][:3], "self_attn", None),
              (["self_attn.o_proj"], None, "self_attn.v_proj"),
              (["mlp.gate_proj", "mlp.up_proj"], "mlp", None),
              (["mlp.down_proj"], None, "mlp.up_proj")],
    "opt": [(LAYERS["opt"][:3], "self_attn", None),
            (["self_attn.out_proj"], None, "self_attn.v_proj"),
            (["fc1"], None, None), (["fc2"], None, "fc1")],
}


def quantizer(classes, dtype, group, nudge=1.0):
    """Of a matrix; integers' scales times `nudge`, which decides ties."""
    family, bits, sym = reference.parse_dtype(dtype)

    def integers(x):
        q = classes[1]()
        q.configure(bits, perchannel=True, sym=sym, mse=False)
        q.find_params(x, weight=True)
        if not sym and nudge != 1.0:
            q.scale *= nudge
            low = torch.minimum(x.amin(1), torch.zeros(1))
            q.zero = torch.round(-low[:, None] / q.scale)
        return q.quantize(x)

    def mxint(x):
        x = x.numpy()
        _, e = np.frexp(np.abs(x).max(axis=1, keepdims=True))
        big = np.ldexp(np.float32(6), e - 1).astype(np.float32)
        step = np.ldexp(1.0, e - 1 - (bits - 2))
        codes = np.rint(((x + big) - big).astype(np.float64) / step)
        top = 2 ** (bits - 1) - 1
        y = np.where(np.abs(x).max(axis=1, keepdims=True) > 0,
                     np.clip(codes, -top, top) * step, 0.0)
        return torch.from_numpy(y.astype(np.float32))

    def whole(w):
        width = w.shape[1] if group == "row" else group
        flat = w.reshape(-1, width)
        return (integers if family == "int" else mxint)(flat).reshape(w.shape)
    return whole


class Block:
    """A block's modules and what they are given, unquantized."""

    def __init__(self, net, family, ids):
        base = net.model if family == "llama" else net.model.decoder
        self.layer = base.layers[BLOCK]
        self.family, self.inputs, self.calls = family, {}, {}
        self.names = LAYERS[family]
        hooks = []
        for name in self.names:
            hooks.append(self.get(name).register_forward_pre_hook(
                lambda m, args, name=name: self.inputs.setdefault(
                    name, []).append(args[0].reshape(-1, args[0].shape[-1]))))
        for name in ("self_attn", "mlp"):
            if hasattr(self.layer, name):
                hooks.append(self.get(name).register_forward_pre_hook(
                    lambda m, args, kwargs, name=name: self.calls.setdefault(
                        name, []).append((args, kwargs)), with_kwargs=True))
        for window in ids:
            net(torch.from_numpy(window.astype(np.int64))[None],
                use_cache=False)
        for h in hooks:
            h.remove()
        self.inputs = {k: torch.cat(v) for k, v in self.inputs.items()}

    def get(self, name):
        return self.layer.get_submodule(name)

    def run(self, module, layers):
        """The inspected module's outputs."""
        if module is None:
            w = self.get(layers[0]).weight
            return [self.inputs[layers[0]] @ w.T]
        outs = []
        for args, kwargs in self.calls[module]:
            out = self.get(module)(*args, **kwargs)
            outs.append(out[0] if isinstance(out, tuple) else out)
        return outs


def candidates(block, layers, group, scaling):
    x = block.inputs[layers[0]].abs().mean(0)
    if scaling == "duo":
        w = torch.cat([block.get(n).weight for n in layers])
        width = w.shape[1] if group == "row" else group
        flat = w.abs().reshape(-1, width)
        flat = flat / (flat.amax(1, keepdim=True) + 1e-6)
        w_mean = flat.reshape(w.shape).mean(0)
    for k in range(GRID):
        if scaling != "duo":
            s = x.pow(k / GRID).clamp(min=1e-4)
        elif k == 0:
            s = torch.ones_like(x)
        else:
            r = (k - 1) / (GRID - 2)
            s = (x.pow(r) / (w_mean.pow(1 - r) + 1e-4)).clamp(min=1e-4)
        yield s / (s.max() * s.min()).sqrt()


def search(block, site, quantize, group, options):
    layers, module, _ = site
    by_site = options.get("objective") == "site"
    kept = {n: block.get(n).weight.data.clone() for n in layers}
    if not by_site:
        exact = block.run(module, layers)
    best, least, chosen = None, float("inf"), -1
    for k, s in enumerate(candidates(block, layers, group,
                                     options.get("scaling"))):
        for n in layers:
            block.get(n).weight.data = quantize(kept[n] * s) / s
        if by_site:
            loss = sum(float(((block.inputs[n] @ (
                kept[n] - block.get(n).weight).T) ** 2).double().sum())
                for n in layers)
        else:
            loss = sum(float(((a - b) ** 2).double().sum())
                       for a, b in zip(exact, block.run(module, layers)))
        if loss < least:
            best, least, chosen = s, loss, k
        for n in layers:
            block.get(n).weight.data = kept[n].clone()
    print("   ", layers[0], "candidate", chosen, file=sys.stderr)
    return best


def clip(w, x, quantize, group):
    """Weights [rows, cols] cut at the limit that errs least, a group each."""
    width = w.shape[1] if group == "row" else group
    x = x.reshape(x.shape[0], -1, width)
    grouped = w.reshape(w.shape[0], -1, width)
    most = grouped.abs().amax(-1, keepdim=True)
    best, least = most.clone(), torch.full_like(most, 1e9)
    exact = torch.einsum("tgi,rgi->rtg", x, grouped)
    for i in range(GRID // 2):
        limit = most * (1 - i / GRID)
        cut = torch.clamp(grouped, -limit, limit)
        got = torch.einsum("tgi,rgi->rtg", x, quantize(
            cut.reshape(w.shape)).reshape(grouped.shape))
        error = (got - exact).pow(2).mean(1)[..., None]
        better = error < least
        least[better], best[better] = error[better], limit[better]
    return torch.clamp(grouped, -best, best).reshape(w.shape)


def awq(block, classes, dtype, group, options):
    quantize = quantizer(classes, dtype, group)
    columns, rows = {}, {}
    for site in SITES[block.family]:
        layers, _, before = site
        s = torch.ones(block.inputs[layers[0]].shape[1])
        if before != "self_attn.v_proj" or (
                block.get(before).weight.shape
                == block.get(layers[0]).weight.shape):
            s = search(block, site, quantize, group, options)
            if before is not None:
                rows[before] = s
        columns.update({n: s for n in layers})
    out = []
    for n in block.names:
        split = None
        s = columns[n]
        by = rows.get(n, torch.ones(block.get(n).weight.shape[0]))[:, None]
        w = block.get(n).weight.data * s / by
        if options.get("clip", True) and not ("q_" in n or "k_" in n):
            x = block.inputs[n] / s
            ways = [clip(w, x, quantizer(classes, dtype, group, nudge), group)
                    for nudge in (1.0, 1.0 - 1e-6, 1.0 + 1e-6)]
            split = (ways[1] != ways[2]) | (ways[0] != ways[1])
            w = ways[0]
        y = quantize(w) / s * by
        if dtype.endswith("asym"):
            width = w.shape[1] if group == "row" else group
            g = w.reshape(-1, width)
            tied = g.amax(1) == -g.amin(1)
            if split is not None:
                tied |= split.reshape(-1, width).any(1)
            y.view(-1, width)[tied] = float("nan")
        out.append(y.flatten())
    out = torch.cat(out).numpy()
    print("    tied:", np.isnan(out).mean(), file=sys.stderr)
    return out


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gptq", required=True, type=pathlib.Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    classes = reference.load_reference(args.gptq)
    for family in ("llama", "opt"):
        name = f"{family}-25k"
        net = transformers.AutoModelForCausalLM.from_pretrained(
            ROOT / "sweeps/zoo" / name, torch_dtype=torch.float32,
            attn_implementation="eager").eval()
        ids = np.load(ROOT / f"tests/golden/logits/{name}.windows.npy")
        block = Block(net, family, ids[:WINDOWS])
        results = []
        for dtype, group, options in CASES:
            print(name, dtype, group, options, file=sys.stderr)
            results.append(awq(block, classes, dtype, group, options))
        np.save(HERE / f"{name}.npy", np.stack(results))
    text = [",".join(f"{k}={str(v).lower()}" for k, v in o.items()) or "-"
            for _, _, o in CASES]
    (HERE / "cases.txt").write_text("".join(
        f"{d} {g} {t}\n" for (d, g, _), t in zip(CASES, text)))
    (HERE / "versions.json").write_text(json.dumps({
        "torch": torch.__version__, "transformers": transformers.__version__,
        "numpy": np.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    main()
