# SPDX-License-Identifier: GPL-3.0-or-later
"""The evaluation presets against the tools they are named after, on models of
sweeps/zoo and README.md as text: their windows and scored tokens, by their
own code where it can be had and else by its rule, over transformers' logits.
Prints a table as parity.py does; exit status 1 when a row fails.
"""
import argparse
import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from table import Table

TOP = Path(__file__).resolve().parents[2]
WINDOWS, LENGTH, STRIDE = 9, 128, 48
BOUND = 1e-5  # relative
SPEC = """\
name: presets
models: [{model}]
data:
  calibration: {{text: text.txt, windows: 2, length: {length}}}
  evaluation:
    - {{text: text.txt, windows: {windows}, length: {length}}}
    - {{text: text.txt, windows: {windows}, length: {length}, preset: llama.cpp}}
    - {{text: text.txt, windows: {windows}, length: {length},
       preset: "strided:{stride}"}}
{more}grid: {{dtype: [int8], method: [rtn], group: [row]}}
measure: {{spectra: "off"}}
"""


def nll_of(net, ids):
    """NLL of tokens 1.. of one window, float64."""
    with torch.no_grad():
        logits = net(torch.tensor(ids)[None]).logits[0, :-1].double()
    target = torch.tensor(ids[1:])
    return -torch.log_softmax(logits, -1).gather(-1, target[:, None])[:, 0]


def gptq(net, ids):
    """The evaluation loop of the GPTQ scripts (opt.py, llama.py)."""
    nlls = []
    for i in range(WINDOWS):
        window = ids[i * LENGTH:(i + 1) * LENGTH]
        nlls.append(nll_of(net, window).mean() * LENGTH)
    return float(sum(nlls) / (WINDOWS * LENGTH))


def llama_cpp(net, ids, bos):
    """llama-perplexity: n_ctx / 2 <= j < n_ctx - 1 predicts token j + 1."""
    total = []
    for i in range(WINDOWS):
        window = list(ids[i * LENGTH:(i + 1) * LENGTH])
        if bos is not None:
            window[0] = bos
        total.append(nll_of(net, window)[LENGTH // 2:])
    return float(torch.cat(total).mean())


def strided(net, ids):
    """The loop of transformers' page on perplexity of fixed-length models."""
    ids = ids[:(WINDOWS - 1) * STRIDE + LENGTH]
    total, previous_end = [], 0
    for begin in range(0, len(ids), STRIDE):
        end = min(begin + LENGTH, len(ids))
        scored = end - previous_end
        nll = nll_of(net, ids[begin:end])
        total.append(nll[-scored:])
        previous_end = end
        if end == len(ids):
            break
    return float(torch.cat(total).mean())


def lm_eval(net, ids):
    """lm-evaluation-harness' rolling windows over its own function."""
    from lm_eval.utils import (get_rolling_token_windows,
                               make_disjoint_window)
    longest = LENGTH - 1
    tokens = list(ids[1:1 + WINDOWS * longest])
    total = []
    for context, predicted in map(make_disjoint_window,
                                  get_rolling_token_windows(
                                      tokens, ids[0], longest, 1)):
        nll = nll_of(net, list(context) + list(predicted))
        total.append(nll[-len(predicted):])
    return float(torch.cat(total).mean())


def ours(build, scratch, model, more):
    """{preset: NLL} of the unquantized model in a sweep."""
    spec = f"{scratch}/s.yaml"
    Path(spec).write_text(SPEC.format(
        model=model, windows=WINDOWS, length=LENGTH, stride=STRIDE, more=more))
    subprocess.run([sys.executable, str(TOP / "sweeps/prepare.py"), "--quiet",
                    spec], check=True)
    subprocess.run([f"{build}/ptqsweep", "run", spec, "-o", f"{scratch}/s.h5",
                    "--quiet"], check=True, capture_output=True)
    subprocess.run([f"{build}/ptqsweep", "export", f"{scratch}/s.h5",
                    "--table", "models", "-o", f"{scratch}/m.csv"], check=True)
    with open(f"{scratch}/m.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {row["evaluation"].partition("/")[2] or "gptq": float(row["nll"])
            for row in rows}


def add_bos(model, target):
    """A copy of a model whose tokenizer begins texts with token 5."""
    import json
    import shutil
    shutil.copytree(model, target)
    path = target / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    token = {i: t for t, i in tokenizer["model"]["vocab"].items()}[5]
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                 {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [5],
                                   "tokens": [token]}}}
    path.write_text(json.dumps(tokenizer))


def compare(table, build, name, with_bos):
    import transformers
    from tokenizers import Tokenizer
    with tempfile.TemporaryDirectory() as scratch:
        model = TOP / "sweeps/zoo" / name
        if with_bos:
            add_bos(model, Path(scratch) / "model")
            model = Path(scratch) / "model"
        text = (TOP / "README.md").read_text(encoding="utf-8")
        (Path(scratch) / "text.txt").write_text(text, encoding="utf-8")
        more = ("    - {text: text.txt, windows: %d, length: %d, preset: "
                "lm-eval}\n" % (WINDOWS, LENGTH)) if with_bos else ""
        found = ours(build, scratch, model, more)
        net = transformers.AutoModelForCausalLM.from_pretrained(model).float()
        ids = Tokenizer.from_file(str(model / "tokenizer.json")).encode(text).ids
        want = {"gptq": gptq(net, ids),
                "llama.cpp": llama_cpp(net, ids, ids[0] if with_bos else None),
                f"strided:{STRIDE}": strided(net, ids)}
        if with_bos:
            want["lm-eval"] = lm_eval(net, ids)
    for preset, theirs in want.items():
        label = f"{name}{' with bos' if with_bos else ''}, {preset}"
        table.row(label, found[preset], theirs,
                  abs(found[preset] / theirs - 1), BOUND)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    args = parser.parse_args()
    import transformers
    transformers.logging.set_verbosity_error()
    table = Table()
    compare(table, args.build, "llama-300k", False)
    compare(table, args.build, "opt-300k", True)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
