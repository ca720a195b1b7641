#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The quarot method against models that really are rotated.

    quarot_reference.py --build DIR [--model DIR ...] [--text FILE]

A checkpoint is loaded by transformers in float32, its norms' gains are folded
into the layers behind them, its residual stream is rotated by the same matrix
(build/tests/parity/rotation_matrix), embedding and head included, and the
rotated weights are rounded to nearest: int4, group 32. Its NLL over the
windows of a sweep stands beside the sweep's, which never rotated the model.
LayerNorm models (OPT) have their outputs' means baked out, and norms that take
off what is the mean in the rotated frame; norms' biases meet the quantized
weights. Both within 1e-4. QuaRot's own way with LayerNorm, RMS norms and
biases folded before weights are quantized, is printed beside it: the
difference is told in src/quant/README.md.

Needs torch, transformers and the packages of sweeps/requirements.txt (their
python in PTQ_PYTHON, for the tokens).
"""
import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

from table import Table

TOP = Path(__file__).resolve().parents[2]
WINDOWS, LENGTH, GROUP, BOUND = 8, 128, 32, 1e-4
SPEC = f"""\
name: rotated
models: [MODEL]
data:
  calibration: {{text: text.txt, windows: 4, length: {LENGTH}}}
  selection: {{text: text.txt, windows: 2, length: {LENGTH}}}
  evaluation: {{text: text.txt, windows: {WINDOWS}, length: {LENGTH}}}
grid:
  dtype: [int4]
  method: [rtn, quarot, {{name: quarot, hadamard_inputs: true}}]
  group: [{GROUP}]
measure: {{spectra: "off"}}
"""


def rotation(build, width, kind):
    """R, with which a row x of the stream becomes x R'."""
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run([f"{build}/tests/parity/rotation_matrix", str(width),
                        "0", kind, out.name], check=True)
        return torch.from_numpy(
            np.fromfile(out.name, np.float64).reshape(width, width))


def round_to_nearest(w):
    """int4, symmetric, as the GPTQ reference has it, in float32."""
    w = w.float()
    x = torch.nn.functional.pad(w, (0, -w.shape[1] % GROUP))
    x = x.reshape(w.shape[0], -1, GROUP)
    most = x.abs().amax(-1, keepdim=True)
    low = torch.where(x.amin(-1, keepdim=True) < 0, -most, 0 * most)
    scale = (most - low) / 15
    scale = torch.where(scale == 0, torch.full_like(scale, 2 / 15), scale)
    y = scale * ((x / scale).round().add(8).clamp(0, 15) - 8)
    return y.reshape(w.shape[0], -1)[:, :w.shape[1]]


class Norm(torch.nn.Module):
    """Of RMS, after the part along a unit vector is taken off if there is
    one."""

    def __init__(self, eps, along=None):
        super().__init__()
        self.eps = eps
        self.along = along

    def forward(self, x):
        if self.along is not None:
            x = x - (x @ self.along)[..., None] * self.along
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


def parts(model):
    """Blocks' norms and layers by side, whatever the architecture."""
    if hasattr(model, "model") and hasattr(model.model, "layers"):
        for b in model.model.layers:
            a, m = b.self_attn, b.mlp
            yield ((b, "input_layernorm"), (a.q_proj, a.k_proj, a.v_proj),
                   a.o_proj)
            yield ((b, "post_attention_layernorm"), (m.gate_proj, m.up_proj),
                   m.down_proj)
    else:
        for b in model.model.decoder.layers:
            a = b.self_attn
            yield ((b, "self_attn_layer_norm"), (a.q_proj, a.k_proj, a.v_proj),
                   a.out_proj)
            yield (b, "final_layer_norm"), (b.fc1,), b.fc2


def set_weight(layer, w):
    layer.weight = torch.nn.Parameter(w.float(), requires_grad=False)


def fold(owner, name, layers, r, quantize, literal):
    """A norm's gain and bias into the rotated layers behind it."""
    norm = getattr(owner, name)
    centred = hasattr(norm, "bias")
    gain = norm.weight.double()
    for layer in layers:
        w = layer.weight.double()
        set_weight(layer, quantize(w * gain @ r.T))
        if not centred:
            continue
        effective = w if literal else layer.weight.double() @ r / gain
        old = 0 if layer.bias is None else layer.bias.double()
        layer.bias = torch.nn.Parameter(
            (old + effective @ norm.bias.double()).float())
    along = None
    if centred and not literal:
        along = (r @ torch.ones(len(r), dtype=r.dtype) / len(r) ** 0.5).float()
    eps = norm.eps if centred else norm.variance_epsilon
    setattr(owner, name, Norm(eps, along))


def rotate(model, build, inner, quantize, literal=False):
    """The model in a rotated residual stream, its blocks' weights quantized."""
    llama = hasattr(model.model, "layers")
    top = model.model if llama else model.model.decoder
    r = rotation(build, model.config.hidden_size, "stream")
    head = torch.nn.Linear(*model.lm_head.weight.T.shape, bias=False)
    set_weight(head, model.lm_head.weight.detach().clone())
    model.lm_head = head
    tables = [top.embed_tokens] if llama else [top.embed_tokens,
                                               top.embed_positions]
    for table in tables:
        e = table.weight.double()
        set_weight(table, (e if llama else e - e.mean(1, keepdim=True)) @ r.T)
    for (owner, name), readers, writer in parts(model):
        fold(owner, name, readers, r, quantize, literal)
        w = writer.weight.double()
        if not llama:
            w = w - w.mean(0, keepdim=True)
            bias = writer.bias.double()
            writer.bias = torch.nn.Parameter(
                (r @ (bias - bias.mean())).float())
        w = r @ w
        if inner:
            t = rotation(build, w.shape[1], "inner")
            w = w @ t.T
            writer.register_forward_pre_hook(
                lambda _, x, t=t.T.float(): (x[0] @ t,))
        set_weight(writer, quantize(w))
    fold(top, "norm" if llama else "final_layer_norm", [head], r,
         lambda w: w, literal)


@torch.no_grad()
def nll(path, ids, change):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path, torch_dtype=torch.float32, attn_implementation="eager")
    change(model)
    logits = model(ids).logits[:, :-1].double()
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1)).item()


def plain(model):
    for _, readers, writer in parts(model):
        for layer in (*readers, writer):
            set_weight(layer, round_to_nearest(layer.weight))


def sweep(build, path, text):
    """NLL by method, and the evaluation's token windows."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        (scratch / "text.txt").write_bytes(Path(text).read_bytes())
        (scratch / "s.yaml").write_text(SPEC.replace("MODEL", str(path)))
        subprocess.run([os.environ.get("PTQ_PYTHON", sys.executable),
                        TOP / "sweeps" / "prepare.py", "--quiet",
                        scratch / "s.yaml"], check=True)
        program = f"{build}/ptqsweep"
        subprocess.run([program, "run", scratch / "s.yaml", "-o",
                        scratch / "s.h5", "--quiet"], check=True)
        subprocess.run([program, "export", scratch / "s.h5", "--table",
                        "points", "-o", scratch / "p.csv"], check=True)
        with open(scratch / "p.csv", newline="") as lines:
            rows = {(p["method"], p["options"]): float(p["nll"])
                    for p in csv.DictReader(lines)}
        ids = np.load(next((scratch / ".tokens").glob("*.ids.npy")))
    ids = ids[:WINDOWS * LENGTH].reshape(WINDOWS, LENGTH).astype(np.int64)
    return rows, torch.from_numpy(ids)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--model", action="append", type=Path)
    parser.add_argument("--text", default=TOP / "LICENSE")
    args = parser.parse_args()
    zoo = TOP / "sweeps" / "zoo"
    table = Table()
    for path in args.model or [zoo / "llama-85k", zoo / "llama-300k",
                               zoo / "opt-85k", zoo / "opt-300k"]:
        rows, ids = sweep(args.build, path.resolve(), args.text)

        def rotated(inner, quantize=round_to_nearest, literal=False):
            return nll(path, ids, lambda m: rotate(m, args.build, inner,
                                                   quantize, literal))
        as_it_is, turned = nll(path, ids, lambda m: None), rotated(True,
                                                                   lambda w: w)
        table.row(f"{path.name}, theirs rotated, not quantized", as_it_is,
                  turned, abs(as_it_is - turned), 1e-5)
        theirs = {"rtn": nll(path, ids, plain), "quarot": rotated(False),
                  "quarot hadamard_inputs=true": rotated(True)}
        for (method, options), ours in rows.items():
            name = f"{method} {options}".strip()
            table.row(f"{path.name}, {name}", ours, theirs[name],
                      abs(ours - theirs[name]), BOUND)
        if "opt" in path.name:
            print(f"  quarot, QuaRot's own way with LayerNorm: "
                  f"{rotated(False, literal=True):.7f}")
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
